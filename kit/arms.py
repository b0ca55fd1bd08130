"""The arms of a study: what each may draw from, their plans, and what their trainings left."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Literal

import pandas as pd
import yaml
from pydantic import Field, NonNegativeFloat

from kit import curriculum, difficulty
from kit.core import records
from kit.core.bins import bin_of
from kit.core.config import CurriculumConfig, EnvironmentName, Profile, StrictModel
from kit.core.manifest import RECORDED, read_manifest
from kit.core.run import scale_of
from kit.core.types import Problem, digest
from kit.schedules import HORIZON, CurriculumError, ScheduleText, phases


class ArmError(ValueError):
    """An arm cannot be trained; the message says which one and what is missing."""


# The largest part of what all its partners have that a training takes: its seed draws which, so
# that seeds replicate the pool (our choice).
DRAWN = 0.75


class Arm(StrictModel):
    """One line of arms.yaml; that file explains the keys. None: the profile's."""

    schedule: ScheduleText | None = None
    environments: dict[EnvironmentName, NonNegativeFloat] | None = None
    sources: dict[Literal["synthetic", "real"], NonNegativeFloat] | None = None
    bins: Literal["narrow", "broad", "silent"] | None = None
    reward: Literal["verified", "random"] | None = None
    advantage: Literal["group", "rejection"] | None = None
    set: Literal["all", "chains", "disjoint"] = "all"
    match: str = ""
    by: list[Literal["bin", "environment", "hard"]] = ["bin", "environment"]
    share: float = Field(1.0, gt=0, le=1)
    substitute: bool = False
    rerun: str = ""

    def curriculum(self, profile: Profile) -> CurriculumConfig:
        """The profile's curriculum with what this arm says otherwise."""
        own = self.model_dump(include={"schedule", "environments", "sources"}, exclude_none=True)
        return profile.curriculum.model_copy(update=own)

    def training(self) -> dict[str, str]:
        """What this arm says otherwise than the profile's section `grpo`."""
        return self.model_dump(include={"reward", "advantage"}, exclude_none=True)


def load_arms(path: Path = Path(__file__).parent / "arms.yaml") -> dict[str, Arm]:
    """The arms of a file.

    Args:
        path: of a YAML file; by default the kit's own.
    Returns:
        The arms by name, in the order of the file.
    Raises:
        ArmError: the file is not a list of arms.
    Source: paper, data mixtures and curricula (the arms); their sizes and the controls are our
        choice.
    """
    try:
        lines = yaml.safe_load(path.read_text(encoding="utf-8")).items()
        known = {name: Arm.model_validate(line or {}) for name, line in lines}
        # A rerun is the arm that it names, once more.
        return {
            name: known[arm.rerun].model_copy(update={"rerun": arm.rerun}) if arm.rerun else arm
            for name, arm in known.items()
        }
    except KeyError as error:
        raise ArmError(f"{path} has no arm {error} to run again") from None
    # A ValueError: a validation's, or that of a file that is not UTF-8.
    except (OSError, yaml.YAMLError, AttributeError, ValueError) as error:
        raise ArmError(f"{path} is not a list of arms: {error}") from None


def own_arms(path: Path, known: dict[str, Arm]) -> dict[str, Arm]:
    """The arms of a file of one's own, which change nothing for those that are `known`.

    Raises ArmError: it is no list of arms, or an arm has a name, a match or a schedule that will
    not do.
    """
    own = load_arms(path)
    taken = {arm.match for arm in known.values()} - {""}
    for name, arm in own.items():
        where = f"{path}, arm {name}"
        # The name becomes that of a folder.
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
            raise ArmError(f"{where}: a name has letters, digits, - and _, and a letter among them")
        if name in known:
            raise ArmError(f"{where}: the kit has an arm of this name: choose another one")
        if arm.match in taken:
            raise ArmError(f"{where}: the match {arm.match} is the kit's: choose another name")
        try:
            phases(arm.schedule or "uniform", HORIZON)
        except CurriculumError as error:
            raise ArmError(f"{where}: {error}") from None
    return own


def _drawing(arm, profile):
    """The arguments of an arm that curriculum.drawable and curriculum.plan have in common."""
    return {
        **arm.curriculum(profile).model_dump(exclude={"repeats"}),
        "steps": profile.grpo.steps,
        "bins": arm.bins or profile.difficulty.bins,
        "substitute": arm.substitute,
    }


def _family(arm, kept, bins, seed):
    """What a training may draw from, before its schedule and its mixtures say what they ask for.

    Stepping stones, or as many problems of equal pass rates without kinship (paper).
    """
    if arm.set == "all":
        return kept
    chains = difficulty.stepping_stones(kept, bins)
    chains.sort(key=lambda name: digest("pool", seed, name))
    drawn = {*chains[: max(1, int(DRAWN * len(chains)))]}
    stones = [problem for problem in kept if problem.chain_id in drawn]
    if arm.set == "chains":
        return stones
    others = [x for x in kept if curriculum.source(x) == "synthetic" and bin_of(x.p, bins)]
    apart = difficulty.disjoint(stones, others, seed)
    # Without a partner for each stone there is no such set.
    return apart if len(apart) == len(stones) else []


def _cells(problems, by, bins):
    """Source -> cell -> problems; a cell is what the keys `by` say of a problem."""
    found: dict[str, dict] = {}
    for problem in problems:
        name = bin_of(problem.p, bins)
        facts = {"bin": name, "environment": problem.environment, "hard": name == "hard"}
        part = found.setdefault(curriculum.source(problem), defaultdict(list))
        part[tuple(facts[key] for key in by)].append(problem)
    return found


def _some(problems, size, seed):
    """`size` of them, the environments in turn; a smaller size gives a part of a larger one."""
    # By the seed alone: two problems stand alike in the order of every arm.
    ordered = sorted(problems, key=lambda problem: digest("pool", seed, problem.id))
    place: defaultdict[str, Iterator[int]] = defaultdict(count)
    return sorted(ordered, key=lambda problem: next(place[problem.environment]))[:size]


def arm_pools(
    known: dict[str, Arm], problems: Iterable[Problem], profile: Profile, seed: int
) -> dict[str, list[Problem]]:
    """The problems that a training of each arm may draw from.

    They are kept, of the train split, and in a bin that the arm's schedule asks for; arms with the
    bins `silent` also draw those that were dropped because no attempt solved them. Arms of one
    `match` get equally many of each source in each cell of `by`. Of what the poorest partner has
    in a cell, a training takes DRAWN, and at least one; without a `match` an arm is its own
    partner. A pool of stepping stones is DRAWN of the chains.

    Args:
        known: all arms of the file, whatever is trained: an arm's partners do not depend on that.
        problems: of any kind and split.
        profile: of the study.
        seed: of the training; one seed gives one order of the problems, for all arms.
    Returns:
        The problems of each arm, by its name; none where there is no such training.
    Raises:
        CurriculumError: a schedule is unknown.
    Source: paper (chains, disjoint sets, sizes that match); pools by seed are our choice.
    """
    # Of several records of one problem a kept one counts.
    by_id = {x.id: x for x in sorted(problems, key=lambda x: x.kept) if x.split == "train"}
    kept = [problem for problem in by_id.values() if problem.kept]
    silent = [x for x in by_id.values() if x.dropped_by == "unsolved" and x.p == 0]
    pools: dict[str, list[Problem]] = {}
    cells: dict[str, dict] = {}
    for name, arm in known.items():
        drawing = _drawing(arm, profile)
        bins = drawing["bins"]
        usable = kept + silent if bins == "silent" else kept
        stock = curriculum.drawable(_family(arm, usable, bins, seed), **drawing)
        cells[name] = _cells(stock, arm.by, bins)
        pools[name] = stock if arm.set != "all" else []

    for name, arm in known.items():
        # An arm without problems does not starve those that it is compared with.
        partners = [other for other in known if arm.match and known[other].match == arm.match]
        parts = [part for other in partners or [name] for part in cells[other].values()]
        for part in cells[name].values() if arm.set == "all" else ():
            for cell, found in part.items():
                least = min(len(other.get(cell, ())) for other in parts)
                size = max(1, round(arm.share * max(1, int(DRAWN * least)))) if least else 0
                pools[name] += _some(found, size, seed)
    return pools


def arm_plans(
    known: dict[str, Arm],
    problems: list[Problem],
    profile: Profile,
    seeds: Iterable[int],
    names: Iterable[str] = (),
) -> dict[tuple[str, int], pd.DataFrame]:
    """The plan of each (arm, seed of training), before anything is trained.

    All arms get one, or those in `names`. Trainings of one seed have the same order of prompts as
    far as their arms allow. Raises ArmError.
    """
    names = list(names) or list(known)
    unknown = sorted({*names} - {*known})
    if unknown:
        raise ArmError(f"no arm is called {', '.join(unknown)}; there are {', '.join(known)}")
    made = {}
    for seed in seeds:
        found = arm_pools(known, problems, profile, seed)
        empty = [name for name in names if not found[name]]
        if empty:
            raise ArmError(
                f"no problem for {', '.join(empty)} of a kind that all arms of its match have: "
                "make more problems (seeds, stones, seeds.problems), or leave the arm out (--arms)"
            )
        for name in names:
            try:
                made[name, seed] = curriculum.plan(
                    found[name],
                    prompts_per_step=profile.grpo.prompts_per_step,
                    seed=seed,
                    repeats=profile.curriculum.repeats,
                    **_drawing(known[name], profile),
                )
            except CurriculumError as error:
                raise ArmError(f"arm {name}, seed {seed}: {error}") from None
    return made


# The columns of the tables of a study: at least these.
EMPTY = {
    "scores": "arm seed checkpoint set problem_id group bin n solved greedy".split(),
    "curves": "arm seed step reward entropy frac_reward_zero_std".split(),
    "drawn": "arm seed bin prompts problems".split(),
}


# What a finished run has.
NEEDED = "filtered.parquet plan.parquet train.parquet evaluation.parquet manifest.json".split()


def arm_facts(run: Path) -> dict:
    """What the note `arm.json` of a study's run folder says: its arm, its seed, how it was made."""
    return json.loads((run / "arm.json").read_text())


def finished_runs(folder: Path) -> list[Path]:
    """The finished runs of a study folder; it says which are left out, and why."""
    runs = sorted(note.parent for note in folder.glob("*/*/arm.json"))
    missing = {run: [file for file in NEEDED if not (run / file).exists()] for run in runs}
    # A run that failed in notebook 06 may have its table already.
    for run in runs:
        stages = {} if missing[run] else read_manifest(run)["stages"]
        if not missing[run] and "finished" not in stages.get("06_evaluation", {}):
            missing[run] = ["end of notebook 06"]
    left_out = [
        f"{run.parent.name}/{run.name} (no {', '.join(files)})"
        for run, files in missing.items()
        if files
    ]
    if left_out:
        print(f"not finished, so left out: {len(left_out)} of {len(runs)} runs:", *left_out)
    return [run for run in runs if not missing[run]]


def _run_tables(folder):
    """The tables of one finished run."""
    # Synthetic problems get the bin of their pass rate; those of other sets have none.
    bins = read_manifest(folder)["profile"]["difficulty"]["bins"]
    bins_by_id = {
        f"synthetic/{row.id}": bin_of(row.p, bins)
        for row in records.read_parquet(folder / "filtered.parquet", ["id", "p"]).itertuples()
    }
    scores = records.read_parquet(folder / "evaluation.parquet").drop(columns="samples")
    # Those in between are for the curve of notebook 06.
    scores = scores[scores.checkpoint.isin(["before", "after"])]
    plan = records.read_parquet(folder / "plan.parquet").groupby("bin", as_index=False)
    tables = {
        "scores": scores.assign(bin=scores.problem_id.map(bins_by_id)),
        "curves": records.read_parquet(folder / "train.parquet"),
        "drawn": plan.agg(prompts=("problem_id", "size"), problems=("problem_id", "nunique")),
    }
    # `from` is who brought it, in the pooled study of a class.
    facts = arm_facts(folder)
    told = {key: facts[key] for key in ("arm", "seed", "from") if key in facts}
    return {name: table.assign(**told) for name, table in tables.items()}


def _in_order(table):
    """The arms in the order of arms.yaml: easy before medium before hard, in figures too."""
    place = dict(zip(load_arms(), count()))
    return table.sort_values(
        "arm", key=lambda arms: arms.map(place), kind="stable", ignore_index=True
    )


def collect_study(folder: Path) -> dict[str, pd.DataFrame]:
    """The finished runs of a study folder. Runs that are not finished are left out: it says which.

    Returns the tables `scores` (a row per arm, seed, checkpoint, problem, if it is synthetic with
    its `bin` and its snippet `seed_id`, with whatever else the evaluation counted), `curves` (per
    arm, seed, step) and `drawn` (per arm, seed, bin: how many prompts of how many problems its
    plan has), with the columns of EMPTY and others.
    """
    runs = [_run_tables(run) for run in finished_runs(folder)]
    return {
        name: _in_order(pd.concat([run[name] for run in runs]))
        if runs
        else pd.DataFrame(columns=EMPTY[name])
        for name in EMPTY
    }


def study_scale(folder: Path) -> str:
    """MINIATURE for a study folder with a run whose teacher is a script, else empty."""
    profiles = (read_manifest(made.parent)["profile"] for made in folder.glob("*/*/manifest.json"))
    return next((scale_of(profile) for profile in profiles if profile), "")


def recorded_folder(scale: str) -> Path:
    """Where the study of a scale is recorded: MINIATURE, or empty for language models."""
    return RECORDED / ("study-mini" if scale else "study")


def recorded_study(folder: Path) -> dict[str, pd.DataFrame] | None:
    """The tables of EMPTY that `python -m kit record` wrote; None if they are not all there.

    `folder`: where they lie, see `recorded_folder`. The arms come in the order of arms.yaml.
    """
    paths = {name: folder / f"{name}.parquet" for name in EMPTY}
    if not all(path.exists() for path in paths.values()):
        return None
    return {name: _in_order(records.read_parquet(path)) for name, path in paths.items()}
