"""The arms of a study: what each may draw from, their plans, and what their trainings left."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pandas as pd
import yaml
from pydantic import Field, ValidationError

from kit import curriculum, difficulty
from kit.core import records
from kit.core.bins import bin_of
from kit.core.config import CurriculumConfig, EnvironmentName, Profile, StrictModel
from kit.core.manifest import RECORDED, ROOT, read_manifest
from kit.core.run import LABEL, Run
from kit.core.types import Problem
from kit.schedules import CurriculumError


class ArmError(ValueError):
    """An arm cannot be trained; the message says which one and what is missing."""


class Arm(StrictModel):
    """One line of arms.yaml; that file explains the keys. None: the profile's."""

    schedule: str | None = None
    environments: dict[EnvironmentName, float] | None = None
    sources: dict[Literal["synthetic", "real"], float] | None = None
    set: Literal["all", "chains", "disjoint"] = "all"
    match: str = ""
    share: float = Field(1.0, gt=0, le=1)
    substitute: bool = False

    def curriculum(self, profile: Profile) -> CurriculumConfig:
        """The profile's curriculum with what this arm says otherwise."""
        own = self.model_dump(include={"schedule", "environments", "sources"}, exclude_none=True)
        return profile.curriculum.model_copy(update=own)


def load_arms(path: Path = Path(__file__).parent / "arms.yaml") -> dict[str, Arm]:
    """The arms of a file.

    Args:
        path: of a YAML file; by default the kit's own.
    Returns:
        The arms by name, in the order of the file.
    Raises:
        ArmError: the file is not a list of arms.
    Source: paper, data mixtures and curricula (the arms); their sizes are our choice.
    """
    try:
        lines = yaml.safe_load(path.read_text(encoding="utf-8")).items()
        return {name: Arm.model_validate(line or {}) for name, line in lines}
    except (OSError, yaml.YAMLError, AttributeError, ValidationError) as error:
        raise ArmError(f"{path} is not a list of arms: {error}") from None


def _drawing(arm, profile):
    """The arguments of an arm that curriculum.drawable and curriculum.plan have in common."""
    return {
        **arm.curriculum(profile).model_dump(),
        "steps": profile.grpo.steps,
        "bins": profile.difficulty.bins,
        "substitute": arm.substitute,
    }


def _by_source(problems):
    """The synthetic and the real ones."""
    return [[p for p in problems if curriculum.source(p) == name] for name in ("synthetic", "real")]


def _some(problems, count):
    """`count` of them at random, always the same ones; a smaller count gives a part of a larger."""
    ordered = sorted(problems, key=lambda problem: problem.id)
    return random.Random("arms").sample(ordered, len(ordered))[: max(1, round(count))]


def arm_pools(
    known: dict[str, Arm], problems: Iterable[Problem], profile: Profile
) -> dict[str, list[Problem]]:
    """The problems that each arm may draw from.

    They are kept, of the train split, and in a bin that the arm's schedule asks for. Arms with the
    same `match` get equally many of each source, the fewest that one of them has.
    """
    by_id = {problem.id: problem for problem in problems if problem.kept}
    kept = [problem for problem in by_id.values() if problem.split == "train"]
    synthetic = [problem for problem in kept if curriculum.source(problem) == "synthetic"]

    # Stepping stones, and as many problems of equal pass rates without kinship (paper).
    chains = set(difficulty.stepping_stones(kept).chain_id)
    stones = [p for p in kept if p.method == "stones" and p.chain_id in chains]
    sets = {"all": kept, "chains": stones, "disjoint": difficulty.disjoint(stones, synthetic)}
    found = {
        name: curriculum.drawable(sets[arm.set], **_drawing(arm, profile))
        for name, arm in known.items()
    }

    # An arm without problems does not starve those that it is compared with.
    for label in {arm.match for arm in known.values() if arm.match}:
        alike = [name for name, arm in known.items() if arm.match == label and found[name]]
        parts = {name: _by_source(found[name]) for name in alike}
        sizes = [len(part) for of_arm in parts.values() for part in of_arm if part]
        for name in alike:
            count = min(sizes) * known[name].share
            found[name] = [p for part in parts[name] for p in _some(part, count)]
    return found


def arm_plans(
    known: dict[str, Arm],
    problems: Iterable[Problem],
    profile: Profile,
    seeds: Iterable[int],
    names: Iterable[str] = (),
) -> dict[tuple[str, int], pd.DataFrame]:
    """The plan of each (arm, seed of training), before anything is trained.

    All arms get one, or those in `names`. Raises ArmError.
    """
    names = list(names) or list(known)
    unknown = sorted({*names} - {*known})
    if unknown:
        raise ArmError(f"no arm is called {', '.join(unknown)}; there are {', '.join(known)}")
    found = arm_pools(known, problems, profile)
    empty = [name for name in names if not found[name]]
    if empty:
        raise ArmError(
            f"no problem for {', '.join(empty)}: make more problems (seeds, stones, "
            "seeds.problems), or leave the arm out (--arms)"
        )
    made = {}
    for seed in seeds:
        for name in names:
            given = _drawing(known[name], profile)
            prompts = profile.grpo.prompts_per_step
            try:
                made[name, seed] = curriculum.plan(
                    found[name], prompts_per_step=prompts, seed=seed, **given
                )
            except CurriculumError as error:
                raise ArmError(f"arm {name}: {error}") from None
    return made


# The columns of the tables of a study: at least these.
EMPTY = {
    "scores": "arm seed checkpoint set problem_id group bin n solved greedy".split(),
    "curves": "arm seed step reward entropy frac_reward_zero_std".split(),
    "drawn": "arm seed bin prompts problems".split(),
}


def _run_tables(folder):
    """The tables of one finished run, without its arm and seed."""
    # Synthetic problems get the bin of their pass rate; those of other sets have none.
    bins = read_manifest(folder)["profile"]["difficulty"]["bins"]
    bins_by_id = {
        f"synthetic/{problem.id}": bin_of(problem.p, bins)
        for problem in records.load_problems(folder / "filtered.parquet")
        if problem.n
    }
    scores = records.read_parquet(folder / "evaluation.parquet").drop(columns="samples")
    plan = records.read_parquet(folder / "plan.parquet").groupby("bin", as_index=False)
    return {
        "scores": scores.assign(bin=scores.problem_id.map(bins_by_id)),
        "curves": records.read_parquet(folder / "train.parquet"),
        "drawn": plan.agg(prompts=("problem_id", "size"), problems=("problem_id", "nunique")),
    }


def collect_study(folder: Path) -> dict[str, pd.DataFrame]:
    """The finished runs of a study folder.

    Returns the tables `scores` (a row per arm, seed, checkpoint, problem, with its bin if it is
    synthetic), `curves` (per arm, seed, step) and `drawn` (per arm, seed, bin: how many prompts of
    how many problems its plan has), with the columns of EMPTY and others.
    """
    # Easy before medium before hard, in tables and figures too.
    place = {name: k for k, name in enumerate(load_arms())}
    notes = sorted(
        Path(folder).glob("*/*/arm.json"),
        key=lambda note: (place.get(note.parts[-3], len(place)), note),
    )
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in EMPTY}
    for note in notes:
        needed = ("evaluation", "train", "plan")
        if all((note.parent / f"{table}.parquet").exists() for table in needed):
            facts = json.loads(note.read_text())
            for name, table in _run_tables(note.parent).items():
                parts[name].append(table.assign(arm=facts["arm"], seed=facts["seed"]))
    return {
        name: pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=EMPTY[name])
        for name, tables in parts.items()
    }


def read_study(run: Run, folder: str | Path = "") -> tuple[dict[str, pd.DataFrame], str]:
    """The tables of a study, and what a figure's title says of them.

    Where the folder has no finished run these are the recorded ones; the run then notes that.

    Args:
        run: of stage 07.
        folder: of the study; empty: `runs/study-<profile>`.
    Returns:
        `scores`, `curves` and `drawn` as `collect_study` gives them, without rows if nothing is
        recorded either; and a label, empty for own data.
    Source: our choice.
    """
    folder = Path(folder or ROOT / "runs" / f"study-{run.profile.name}")
    found = collect_study(folder)
    if len(found["scores"]):
        return found, ""
    shipped = {name: RECORDED / "study" / f"{name}.parquet" for name in EMPTY}
    if not all(path.exists() for path in shipped.values()):
        return found, ""
    print(
        f"recorded data: {folder.name}/ has no finished run, so the study comes from data/recorded"
    )
    run.recorded.add("study")
    return {name: records.read_parquet(path) for name, path in shipped.items()}, LABEL
