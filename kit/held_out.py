"""A run's own problems as items of the evaluation: held-out ones, and those trained on."""

import random
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import chain, islice, zip_longest

from kit.benchmarks.procedural import MATHS_LEVELS
from kit.core.types import Item, Problem
from kit.environments.base import Environment
from kit.mini.language import draw_string_problem


def _drawn(name, problems, seed):
    """Each problem once, in an order that depends on the name and the seed alone."""
    known = {problem.id: problem for problem in problems}
    return [known[i] for i in random.Random(f"{name} {seed}").sample(sorted(known), len(known))]


def _some_items(name, problems, environments, n, seed):
    """At most n of the problems, drawn, as items of a set."""
    return [problem_item(name, p, environments) for p in _drawn(name, problems, seed)[:n]]


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


def _unseen(problems, wanted):
    """Those wanted that are like no problem that can be trained on, whatever its seed.

    Like: the same program, or the same behaviour ('' tells nothing).
    """
    problems = list(problems)
    # Some arms draw what the student never solved.
    shown = [x for x in problems if x.split == "train" and (x.kept or x.dropped_by == "unsolved")]
    known = {text for x in shown for text in (x.program, x.behaviour) if text}
    return [x for x in problems if wanted(x) and not known & {x.program, x.behaviour}]


def synthetic_items(
    problems: Iterable[Problem], environments: dict[str, Environment], n: int, seed: int = 0
) -> list[Item]:
    """Kept problems of held-out seeds, in equal numbers per environment as far as there are any.

    What is like a training problem is left out, here and in the other two sets (`_unseen`).

    Args:
        problems: filtered problems of both splits.
        environments: by name; they ask and grade.
        n: at most so many.
        seed: of the draw.
    Returns:
        The items, the environments in turn.
    Source: our choice.
    """
    fresh = _unseen(problems, lambda x: x.kept and x.split == "held_out" and x.method != "real")
    # Draw, then take the environments in turn.
    drawn = _drawn("synthetic", fresh, seed)
    queues = [
        [problem for problem in drawn if problem.environment == name] for name in environments
    ]
    in_turn = filter(None, chain.from_iterable(zip_longest(*queues)))
    return [problem_item("synthetic", problem, environments) for problem in islice(in_turn, n)]


def real_items(
    problems: Iterable[Problem], environments: dict[str, Environment], n: int, seed: int = 0
) -> list[Item]:
    """Real functions of the held-out split as induction problems, solvable by the student or not.

    Args:
        problems: filtered problems of both splits.
        environments: by name; they ask and grade.
        n: at most so many.
        seed: of the draw.
    Returns:
        The items.
    Source: our choice.
    """
    found = _unseen(
        problems,
        lambda x: (
            (x.method, x.split, x.status) == ("real", "held_out", "valid")
            and x.dropped_by not in ("duplicate", "contaminated")
        ),
    )
    return _some_items("real", found, environments, n, seed)


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


def unsolved_items(
    problems: Iterable[Problem], environments: dict[str, Environment], n: int, seed: int = 0
) -> list[Item]:
    """The tier that the student never solved: valid problems of held-out seeds with p = 0.

    Args:
        problems: filtered problems of both splits.
        environments: by name; they ask and grade.
        n: at most so many.
        seed: of the draw.
    Returns:
        The items.
    Source: our choice.
    """
    found = _unseen(problems, lambda x: (x.split, x.dropped_by) == ("held_out", "unsolved"))
    return _some_items("unsolved", found, environments, n, seed)


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
    return _some_items("training", found, environments, n, seed)
