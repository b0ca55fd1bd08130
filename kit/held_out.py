"""A run's own problems as items of the evaluation: held-out ones, and those trained on."""

import random
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from kit.benchmarks.procedural import MATHS_LEVELS, in_turn
from kit.core.types import Item, Problem
from kit.environments.base import Environment
from kit.mini.language import draw_string_problem


def _drawn(name, problems, seed):
    """Each problem once, in an order that depends on the name and the seed alone."""
    known = {problem.id: problem for problem in problems}
    return [known[i] for i in random.Random(f"{name} {seed}").sample(sorted(known), len(known))]


def problem_item(name: str, problem: Problem, environments: dict[str, Environment]) -> Item:
    """A problem of the kit as an item of a set.

    Args:
        name: of the set.
        problem: a verified one.
        environments: by name; they ask and grade.
    Returns:
        The item; its id is the set's name with the problem's id.
    Source: our choice.
    """
    environment = environments[problem.environment]
    text = f"{problem.message}\n{problem.program}\n{problem.pre_test}\n{problem.test}"
    return Item(
        f"{name}/{problem.id}",
        name,
        problem.environment,
        environment.solve_prompt(problem),
        partial(environment.grade, problem),
        {"problem": problem.model_dump(), "text": text},
        problem.seed_id,
    )


# Which problems are in each set of held-out seeds.
_WANTED = {
    "synthetic": lambda x: x.kept and x.method != "real",
    "unsolved": lambda x: x.dropped_by == "unsolved",
    # Solvable by the student or not.
    "real": lambda x: (
        (x.method, x.status) == ("real", "valid")
        and x.dropped_by not in ("duplicate", "contaminated")
    ),
}


def held_out_items(
    name: str,
    problems: Iterable[Problem],
    environments: dict[str, Environment],
    n: int,
    seed: int = 0,
) -> list[Item]:
    """Problems of held-out seeds, as the items of a set.

    What is like a problem that can be trained on, whatever its seed, is left out: the same program
    or the same behaviour ('' tells nothing).

    Args:
        name: synthetic (kept ones, in equal numbers per environment as far as there are any),
            unsolved (valid ones that the student never solved), or real (real functions as
            induction problems, solvable by the student or not).
        problems: filtered problems of both splits.
        environments: by name; they ask and grade.
        n: at most so many.
        seed: of the draw.
    Returns:
        The items, those of `synthetic` with the environments in turn.
    Source: our choice.
    """
    problems = list(problems)
    # Some arms draw what the student never solved.
    shown = [x for x in problems if x.split == "train" and (x.kept or x.dropped_by == "unsolved")]
    known = {text for x in shown for text in (x.program, x.behaviour) if text}
    fresh = [
        x
        for x in problems
        if x.split == "held_out" and _WANTED[name](x) and not known & {x.program, x.behaviour}
    ]
    drawn = _drawn(name, fresh, seed)
    if name == "synthetic":
        drawn = in_turn([[x for x in drawn if x.environment == kind] for kind in environments])
    return [problem_item(name, problem, environments) for problem in drawn[:n]]


def string_items(n: int, environments: dict[str, Environment], seed: int = 0) -> list[Item]:
    """Deduction problems about strings of digits, with 1, 2 and 3 steps (easy to hard) in turn.

    Args:
        n: so many different ones.
        environments: by name; deduction asks and grades.
        seed: of the draw.
    Returns:
        The items of the set `strings`; none is a problem of the training, which knows lists only.
    Source: our choice.
    """
    rng = random.Random(f"strings {seed}")
    found: dict[str, Item] = {}
    while len(found) < n:
        depth = len(found) % 3
        item = problem_item("strings", draw_string_problem(rng, depth + 1), environments)
        found.setdefault(item.id, replace(item, group=MATHS_LEVELS[depth]))
    return [*found.values()]


def training_items(
    problems: Iterable[Problem],
    drawn: Iterable[str],
    environments: dict[str, Environment],
    n: int,
    seed: int = 0,
) -> list[Item]:
    """Problems that the training drew: whether it took hold, not whether that carries over.

    Args:
        problems: those of the run.
        drawn: ids of the plan's prompts; a recorded plan may name some that the run has not.
        environments: by name; they ask and grade.
        n: at most so many.
        seed: of the draw.
    Returns:
        The items.
    Source: our choice.
    """
    ids = {*drawn}
    found = [problem for problem in problems if problem.id in ids]
    shown = _drawn("training", found, seed)[:n]
    return [problem_item("training", problem, environments) for problem in shown]
