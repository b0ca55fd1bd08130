"""A run is a folder: records, figures, logs and a manifest. Stages meet only here."""

import contextlib
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kit.core import profile as profiles
from kit.core import records
from kit.core.config import Profile
from kit.core.manifest import (
    RECORDED,
    ROOT,
    RunError,
    changed_keys,
    note_stage,
    now,
    read_manifest,
    rests_on_recorded,
    versions_here,
    write_manifest,
)
from kit.core.types import Problem
from kit.sandbox.pool import Sandbox

# What a figure's title says about recorded data.
LABEL = " (recorded data)"
# And about data of the profile mini: they say nothing about the paper at its scale.
MINIATURE = " (in miniature)"

# Keys of a profile that describe a run and change nothing in it.
ABOUT = {"about", "minutes", "needs"}


@dataclass(eq=False, repr=False)
class Run:
    """One stage of one run; `kit.start` opens it.

    Inputs that the folder does not have are taken from `data/recorded`, and a line says so.

    Args:
        stage: name of the notebook, for example `02_rounds`.
        profile: every number of the run, with the overrides of this stage.
        folder: the run folder.
    """

    stage: str
    profile: Profile
    folder: Path
    # Names of the files that came from `data/recorded`.
    recorded: set[str] = field(default_factory=set)
    # The sandboxes of this stage: their counts go into the manifest.
    boxes: list[Sandbox] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def seed(self) -> int:
        """The seed of everything that is drawn; a training may have its own (`train_seed`).

        Source: our choice.
        """
        return self.profile.seed

    @property
    def train_seed(self) -> int:
        """The seed of the training alone: a study repeats it with several.

        Source: our choice.
        """
        own = self.profile.grpo.seed
        return self.seed if own is None else own

    @property
    def label(self) -> str:
        """What a figure's title says about its data.

        Returns:
            Empty if all data are this run's own, from its first stage to this one; else LABEL.
            MINIATURE stands before it if the teacher is a script.
        Source: our choice.
        """
        recorded = self.recorded or rests_on_recorded(read_manifest(self.folder), self.stage)
        return self.scale + (LABEL if recorded else "")

    @property
    def scale(self) -> str:
        """MINIATURE for a profile with a scripted teacher, else empty.

        Source: our choice.
        """
        return scale_of(self.profile.model_dump())

    @property
    def on_cpu(self) -> bool:
        """Whether there is no GPU, as torch sees it.

        Source: our choice.
        """
        import torch

        return not torch.cuda.is_available()

    def path(self, name: str) -> Path:
        """A place in the run folder.

        Args:
            name: of a file or folder, relative to the run folder.
        Returns:
            Its path, whether something is there or not.
        Source: our choice.
        """
        return self.folder / name

    def find(self, name: str) -> Path:
        """This run's file, else the recorded one; a run in miniature has its own.

        Args:
            name: of a file, relative to the run folder.
        Returns:
            Its path.
        Raises:
            RunError: there is neither.
        Source: our choice.
        """
        own = self.path(name)
        if own.exists():
            return own
        shipped = recorded_run(self.scale) / name
        if not shipped.exists():
            raise RunError(
                f"{own} is not there and data/recorded has none: "
                f"run the notebook that writes {name} first"
            )
        if name not in self.recorded:
            place = shipped.parent.relative_to(RECORDED.parent)
            print(
                f"recorded data: {name} comes from data/{place}, "
                f"because {self.folder.name}/ has none yet"
            )
        self.recorded.add(name)
        return shipped

    def box(self, **limits) -> Sandbox:
        """A sandbox with the profile's limits; its counts go into the manifest.

        Args:
            limits: arguments of Sandbox (`hash_seed`, so that two boxes can differ), and limits
                that differ from the profile's.
        Returns:
            The sandbox; use it in a `with` block.
        Source: our choice.
        """
        box = Sandbox(**self.profile.sandbox.model_dump() | limits)
        self.boxes.append(box)
        return box

    def problems(self, name: str) -> list[Problem]:
        """The problems that an earlier stage wrote; else the recorded ones.

        Args:
            name: of the table, without `.parquet`.
        Returns:
            The problems in the order of the table.
        Raises:
            RunError: neither this run nor data/recorded has the table.
            RecordError: the file does not hold problems.
        Source: our choice.
        """
        return records.load_problems(self.find(f"{name}.parquet"))

    def table(self, name: str) -> pd.DataFrame:
        """A table that an earlier stage wrote; else the recorded one.

        Args:
            name: of the table, without `.parquet`.
        Returns:
            The table as its stage saved it.
        Raises:
            RunError: neither this run nor data/recorded has it.
        Source: our choice.
        """
        return records.read_parquet(self.find(f"{name}.parquet"))

    def save_problems(self, problems, name: str) -> None:
        """Write `name`.parquet for the stages to come.

        Args:
            problems: any number of them.
            name: of the table, without `.parquet`.
        Raises:
            RecordError: the disk is full.
        Source: our choice.
        """
        records.save_problems(problems, self.path(f"{name}.parquet"))

    def save_table(self, frame: pd.DataFrame, name: str) -> None:
        """Write `name`.parquet for the stages to come.

        Args:
            frame: any table; its index is not kept.
            name: of the table, without `.parquet`.
        Raises:
            RecordError: the disk is full.
        Source: our choice.
        """
        records.write_parquet(frame, self.path(f"{name}.parquet"))

    def figure(self, drawn, name: str, data: pd.DataFrame) -> None:
        """Save a figure as PNG and SVG, beside the CSV of the numbers in it.

        Args:
            drawn: a figure, or something that has one, such as an axis.
            name: of the three files in `figures/`, without the ending.
            data: the numbers that are drawn.
        Raises:
            RecordError: the disk is full.
        Source: our choice.
        """
        folder = self.path("figures")
        figure = getattr(drawn, "figure", drawn)
        # Without a date the same numbers give the same file.
        options = {"dpi": 150, "bbox_inches": "tight", "metadata": {"Date": None}}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for kind in ("png", "svg"):
                figure.savefig(folder / f"{name}.{kind}", **options)
            data.to_csv(folder / f"{name}.csv", index=False)
        except OSError as error:
            raise records.disk_error(error, folder / name) from error

    def done(self, **counts) -> None:
        """Close the stage: its counts go into the manifest and onto one printed line.

        Args:
            counts: what the stage made, name -> number.
        Raises:
            RecordError: the disk is full.
        Source: our choice.
        """
        seconds = time.monotonic() - self.began
        programs: Counter[str] = sum((box.counts for box in self.boxes), Counter())
        note_stage(
            self.folder,
            self.stage,
            finished=now(),
            seconds=round(seconds, 1),
            counts=counts,
            recorded=sorted(self.recorded),
            programs=programs,
            sandbox=sorted({box.mode for box in self.boxes}),
        )
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        print(f"{self.stage} done in {seconds:.0f} s: {told}")


def scale_of(profile: dict) -> str:
    """MINIATURE for the values of a profile whose teacher is a script, else empty."""
    return MINIATURE if profile["teacher"]["model"] == "script" else ""


def recorded_run(scale: str) -> Path:
    """Where the run of a scale is recorded: MINIATURE, or empty for language models."""
    return RECORDED / ("run-mini" if scale else "")


def headless() -> bool:
    """Whether papermill executes this notebook (the runner says so)."""
    return os.environ.get("KIT_HEADLESS") == "1"


def registered_endpoints(model: str, purpose: str = "answer") -> list[str]:
    """Addresses of a model's replicas, as kit/launch/slurm/serve.sbatch notes them.

    Each replica has a file in the folder $KIT_ENDPOINTS: `MODEL PURPOSE URL`. No variable, no
    addresses. They go before the profile's `endpoints`: a scheduler chooses these hosts, so they
    are no part of what a run is.
    """
    folder = os.environ.get("KIT_ENDPOINTS")
    files = sorted(Path(folder).glob("*.endpoint")) if folder else []
    addresses = []
    for file in files:
        note = file.read_text(encoding="utf-8").split()
        if len(note) != 3:
            print(f"{file} does not hold MODEL PURPOSE URL: left out")
        elif note[:2] == [model, purpose]:
            addresses.append(note[2])
    return addresses


def open_run(
    stage: str,
    profile: str,
    run_dir: str,
    seed: int | None = None,
    replay: bool = False,
    **overrides,
) -> Run:
    """Open a run folder for a stage: `kit.start` explains it, and sets the figures' style too."""
    records.quiet()
    overrides = {
        key.replace("__", "."): value for key, value in overrides.items() if value is not None
    }
    if replay:
        overrides |= {"teacher.engine": "replay", "student.engine": "replay"}
    base = profiles.load_profile(profile, {"seed": seed})
    loaded = profiles.load_profile(profile, {"seed": seed, **overrides})
    folder = Path(run_dir or ROOT / "runs" / base.name)
    # A folder holds one run: the same profile in all stages, the same overrides in each.
    manifest = read_manifest(folder)
    if changed := changed_keys(_before(manifest, base), _numbers(base)):
        raise RunError(
            f"{folder} was made with other values ({changed}): "
            "choose another RUN_DIR, or delete that folder"
        )
    known = manifest["stages"].get(stage, {}).get("overrides", overrides)
    if known != overrides:
        raise RunError(
            f"{folder} already holds {stage} with {known or 'the profile as it is'}, "
            f"now asked with {overrides}: choose another RUN_DIR, or delete that folder"
        )
    # One of several training processes writes nothing: the notebook has done it.
    if "RANK" not in os.environ:
        manifest |= {"profile": _numbers(base), "versions": versions_here()}
        manifest["stages"].setdefault(stage, {"overrides": overrides, "started": now()})
        write_manifest(folder, manifest)
    return Run(stage, loaded, folder, {"completions.parquet"} if replay else set())


def _numbers(profile):
    """What of a profile changes a run."""
    return profile.model_dump(mode="json", exclude=ABOUT)


def _before(manifest, base):
    """The numbers that a folder was made with; those of `base` if it is new."""
    noted = manifest["profile"] or {}
    # A field that this version of the kit added, and the manifest does not have, has its default.
    with contextlib.suppress(ValueError):
        return _numbers(Profile.model_validate(base.model_dump() | noted))
    return noted
