"""`python -m kit regrade RUN`: the stored answers of a run, graded anew without a model.

For the day on which a grader changed: which verdicts of the training's answers (rollouts.parquet)
and of the evaluation's (evaluation.parquet) would be others today? An answer on which our own
infrastructure fails now keeps the verdict that it has.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from kit import environments
from kit.benchmarks.humaneval import humaneval_items
from kit.benchmarks.livecodebench import CONTEST_WINDOWS, LIMITS
from kit.benchmarks.procedural import procedural_items
from kit.benchmarks.published import published_items
from kit.core import records
from kit.core.config import Profile
from kit.core.manifest import RunError
from kit.core.run import recorded_run, scale_of
from kit.core.types import Item, Verdict
from kit.dataset import profile_of_run
from kit.evaluation import GRADERS
from kit.held_out import problem_item, string_items
from kit.sandbox import Sandbox

# The set that stands for the answers of the training.
TRAINING = "rollouts"
# Sets of the run's own problems.
OWN = (TRAINING, "training", "synthetic", "unsolved", "real")


def _stored(folder):
    """One row per stored answer: what it is of, the text, and its verdict so far."""
    parts = []
    # Of both tables: `at` is the step or the checkpoint.
    if (path := folder / "rollouts.parquet").exists():
        table = records.read_parquet(path)
        table = table.assign(set=TRAINING, group=table.environment, mode="sampled", at=table.step)
        parts.append(table.assign(problem_id=f"{TRAINING}/" + table.problem_id))
    if (path := folder / "evaluation.parquet").exists():
        table = records.read_parquet(path)
        table = table["set group problem_id checkpoint samples".split()]
        table = table.explode("samples", ignore_index=True).dropna(subset="samples")
        samples = pd.DataFrame(list(table.samples), index=table.index)
        parts.append(table.join(samples).rename(columns={"checkpoint": "at"}))
    if not parts:
        raise RunError(
            f"{folder} has neither rollouts.parquet nor evaluation.parquet: run notebook 05 or 06"
        )
    columns = "set group problem_id at mode answer outcome reason".split()
    return pd.concat([part[columns] for part in parts], ignore_index=True)


def _items(folder: Path, wanted: set[str], sets: set[str], profile: Profile) -> Iterable[Item]:
    """The items of the stored answers, as notebook 06 makes them."""
    own = folder / "filtered.parquet"
    if not own.exists():
        own = recorded_run(scale_of(profile.model_dump())) / own.name
    problems = records.load_problems(own)
    envs = environments.make(profile.rounds)
    for problem in problems:
        for name in OWN:
            if f"{name}/{problem.id}" in wanted:
                yield problem_item(name, problem, envs)
    if "humaneval" in sets:
        yield from humaneval_items(seed=profile.seed)
    numbers = profile.evaluation
    yield from procedural_items(numbers.maths, profile.seed, numbers.sums)
    yield from string_items(numbers.strings, envs, profile.seed)
    if sets - {*OWN, "humaneval", "maths", "strings"}:
        yield from published_items(numbers, profile.seed)[0]


def _verdicts(answers, items, profile) -> list[Verdict]:
    """For each answer its verdict of today."""
    found: dict[int, Verdict] = {}

    def grade(box, group):
        problem_id, texts = group
        verdicts = items[problem_id].grade(list(texts), box)
        found.update(zip(texts.index, verdicts, strict=True))

    contests = answers.set.isin(CONTEST_WINDOWS)
    for rows, limits in ((answers[~contests], {}), (answers[contests], LIMITS)):
        if len(rows):
            with (
                Sandbox(**(profile.sandbox.model_dump() | limits)) as box,
                ThreadPoolExecutor(GRADERS) as pool,
            ):
                list(pool.map(partial(grade, box), rows.groupby("problem_id").answer))
    return [found[row] for row in answers.index]


def regrade_run(folder: str | Path) -> pd.DataFrame:
    """Grade the stored answers of a run anew, with the graders of today.

    Args:
        folder: of the run; problems that are not in it are taken from the recorded ones.
    Returns:
        One row per answer: `set` (TRAINING for rollouts), `group`, `problem_id`, `at` (step or
        checkpoint), `mode`, `answer`, `outcome` and `reason` as stored, `new_outcome` and
        `new_reason` as of today, and `state`: same, now right, now wrong, other reason, lost
        (graded before; our infrastructure failed now, so nothing is known anew), or absent (its
        problem is not there today).
    Raises:
        RunError: there is nothing to grade.
        ExportError: this kit cannot read the run's profile.
        RecordError: a table is damaged.
    Source: our choice.
    """
    records.quiet()
    folder = Path(folder)
    profile = profile_of_run(folder)
    answers = _stored(folder)
    wanted = set(answers.problem_id)
    items = {item.id: item for item in _items(folder, wanted, set(answers.set), profile)}

    # What cannot be graded keeps its verdict.
    there = answers.problem_id.isin(items)
    verdicts = _verdicts(answers[there], items, profile)
    graded = pd.DataFrame(
        [(verdict.outcome, str(verdict.reason)) for verdict in verdicts],
        index=answers.index[there],
        columns=["new_outcome", "new_reason"],
    )
    answers = answers.join(graded)
    error = answers.new_outcome == "error"
    moved = answers.new_outcome != answers.outcome
    states = {
        "absent": ~there,
        # Where it is an error both times, only the message may differ.
        "lost": error & moved,
        "same": error | ~moved & (answers.new_reason == answers.reason),
        "now right": moved & (answers.new_outcome == "passed"),
        "now wrong": moved,
    }
    answers["state"] = np.select(list(states.values()), list(states), "other reason")
    return answers
