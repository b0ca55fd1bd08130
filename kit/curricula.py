"""A curriculum is data: a table of sampling weights by step, and the plan it turns into.

The plan is the ordered prompts of a training. Paper: the six schedules, for a horizon of 40,000
steps, and the trainings on one difficulty alone. Our choice: what happens where problems are
missing.
"""

import math
from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd

from kit.difficulty import ORDER, bin_of
from kit.records import Problem

HORIZON = 40_000


# Weights by name: of bins, environments or sources.
_Mixture = dict[str, float]
# First step, end and weights of the bins.
_Phase = tuple[float, float, _Mixture]
# Ids by bin and environment.
_Pools = dict[str, dict[str, list[str]]]


class CurriculumError(ValueError):
    """No plan can be made; the message says what is missing."""


def _weights(easy: float, medium: float, hard: float) -> _Mixture:
    """The weights of the three bins that most schedules know."""
    return {"easy": easy, "medium": medium, "hard": hard}


# The paper's table: (from step, weights), piecewise constant, at a horizon of 40,000 steps.
SCHEDULES: dict[str, list[tuple[int, _Mixture]]] = {
    "uniform": [(0, _weights(1 / 3, 1 / 3, 1 / 3))],
    "soft": [
        (0, _weights(0.80, 0.15, 0.05)),
        (7_500, _weights(0.15, 0.80, 0.05)),
        (17_500, _weights(0.15, 0.40, 0.45)),
        (30_000, _weights(0.05, 0.15, 0.80)),
    ],
    "sharp": [
        (0, _weights(0.90, 0.05, 0.05)),
        (7_500, _weights(0.05, 0.90, 0.05)),
        (17_500, _weights(0.05, 0.05, 0.90)),
    ],
    "classic": [
        (0, _weights(1, 0, 0)),
        (10_000, _weights(0.75, 0.25, 0)),
        (15_000, _weights(0, 1, 0)),
        (25_000, _weights(0, 0.75, 0.25)),
        (30_000, _weights(0, 0, 1)),
    ],
    "hard-first": [
        (0, _weights(0, 0, 1)),
        (10_000, _weights(0, 0.25, 0.75)),
        (15_000, _weights(0, 1, 0)),
        (25_000, _weights(0.25, 0.75, 0)),
        (30_000, _weights(1, 0, 0)),
    ],
    "medium-first": [
        (0, {"easy-medium": 0, "medium": 1, "hard": 0}),
        (17_500, {"easy-medium": 0.25, "medium": 0.75, "hard": 0}),
        (20_000, {"easy-medium": 1, "medium": 0, "hard": 0}),
    ],
    "easy": [(0, _weights(1, 0, 0))],
    "medium": [(0, _weights(0, 1, 0))],
    "hard": [(0, _weights(0, 0, 1))],
}
# The paper's schedules; the other three are its trainings on one difficulty alone.
SIX = ("uniform", "soft", "sharp", "classic", "hard-first", "medium-first")
OURS = frozenset(SCHEDULES)


def define(name: str, parts: list[tuple[float, _Mixture]]) -> None:
    """Add a schedule of your own to SCHEDULES, or change it.

    This changes the global table: from the call on, everything in this process knows the schedule
    by its name (notebook 04 calls its own one "mine").

    Args:
        name: any but those of the kit's own schedules.
        parts: of each phase its start, as a share of the horizon (the first 0, all below 1), and
            the weights of the bins; weights are divided by their sum.
    Raises:
        CurriculumError: the name is taken, or a start or a weight is unusable.
    Source: our choice.
    """
    starts = [start for start, _ in parts]
    if name in OURS:
        raise CurriculumError(f"the schedule {name} is the kit's own: choose another name")
    if not starts or starts[0] or starts != sorted({*starts}) or starts[-1] >= 1:
        raise CurriculumError(
            f"the phases start at {', '.join(f'{x:g}' for x in starts) or 'no'} of the horizon: "
            "the first must start at 0, each later than the one before, all below 1"
        )
    schedule = []
    for number, (start, given) in enumerate(parts, 1):
        total = sum(given.values())
        if {*given} - {*ORDER} or not all(0 <= w < math.inf for w in given.values()) or not total:
            raise CurriculumError(
                f"phase {number} has the weights {given}: none may be below zero, at least one "
                f"must be above, and the bins are {', '.join(ORDER)}"
            )
        shares = {name: weight / total for name, weight in given.items()}
        schedule.append((round(start * HORIZON), shares))
    SCHEDULES[name] = schedule


def phases(name: str, horizon: int) -> list[_Phase]:
    """(first step, end, weights) of each phase, break points scaled to `horizon` steps.

    Raises CurriculumError for an unknown schedule and for a horizon below 1.
    """
    if name not in SCHEDULES:
        raise CurriculumError(f"no schedule called {name!r}: there are {', '.join(SCHEDULES)}")
    if horizon < 1:
        raise CurriculumError(f"a horizon of {horizon} steps: at least 1 is needed")
    steps, by_phase = zip(*SCHEDULES[name], strict=True)
    starts = [step * horizon / HORIZON for step in steps]
    return list(zip(starts, [*starts[1:], float(horizon)], by_phase, strict=True))


def weights(name: str, step: int, horizon: int) -> _Mixture:
    """The sampling weight of each bin at a step.

    Args:
        name: of the schedule, a key of SCHEDULES.
        step: counted from 0; from `horizon` on, the last phase holds.
        horizon: steps of the whole training.
    Returns:
        Weights by bin; their sum is 1.
    Raises:
        CurriculumError: the schedule is unknown, or the horizon is below 1.
    Source: paper, curricula.
    """
    return dict([by_bin for start, _, by_bin in phases(name, horizon) if start <= step][-1])


def table(name: str, horizon: int) -> pd.DataFrame:
    """A schedule to draw.

    Args:
        name: of the schedule, a key of SCHEDULES.
        horizon: steps of the whole training.
    Returns:
        Columns `step`, `bin`, `weight` (0 to 1): a row per bin at the first step of each phase,
        and at the horizon.
    Raises:
        CurriculumError: the schedule is unknown, or the horizon is below 1.
    Source: paper, curricula.
    """
    found = phases(name, horizon)
    # The last weights once more, so that a line drawn through the points ends at the horizon.
    points = [*found, (float(horizon), math.inf, found[-1][2])]
    return pd.DataFrame(
        [(step, b, float(weight)) for step, _, by_bin in points for b, weight in by_bin.items()],
        columns=["step", "bin", "weight"],
    )


def pools(problems: list[Problem], schedule: str, bins: str) -> _Pools:
    """The ids a schedule can draw from, by its bin and environment.

    Most schedules know three bins. Broad ones are four: easy-medium problems count as easy there
    (our choice: a small run cannot spare them). Only medium-first asks for easy-medium, and takes
    easy ones only instead of missing ones.
    """
    named = SCHEDULES[schedule][0][1]
    found: _Pools = {}
    for problem in problems:
        name = bin_of(problem.p, bins)
        if name == "easy-medium" and name not in named:
            name = "easy"
        if name:
            ids = found.setdefault(name, {}).setdefault(problem.environment, [])
            # The same problem given twice is not drawn twice as often.
            if problem.id not in ids:
                ids.append(problem.id)
    return found


def source(problem: Problem) -> str:
    """Real data (a function as it is) or synthetic, written by a teacher."""
    return "real" if problem.method == "real" else "synthetic"


def _wanted(parts: list[_Phase]) -> set[str]:
    """The bins that some phase gives a weight."""
    return {name for _, _, by_bin in parts for name, weight in by_bin.items() if weight}


def _stock(
    problems: list[Problem], schedule: str, bins: str, environments: _Mixture, sources: _Mixture
) -> dict[str, _Pools]:
    """Source -> bin -> environment -> ids, without empty bins and environments."""
    usable = [x for x in problems if environments.get(x.environment, 0) > 0]
    return {
        name: pools([x for x in usable if source(x) == name], schedule, bins)
        for name, weight in sources.items()
        if weight
    }


def _checked_stock(
    problems: list[Problem],
    schedule: str,
    steps: int,
    environments: _Mixture,
    bins: str,
    sources: _Mixture,
    substitute: bool,
) -> dict[str, _Pools]:
    """The stock of a plan; CurriculumError where no plan can be made."""
    parts = phases(schedule, steps)
    if steps < len(parts):
        raise CurriculumError(
            f"a horizon of {steps} steps: the schedule {schedule} has {len(parts)} phases, "
            f"so it needs {len(parts)} steps or more"
        )
    # Held-out problems are for evaluation: never train on them.
    if held := sum(problem.split == "held_out" for problem in problems):
        raise CurriculumError(
            f"{held} of the problems are held out for evaluation: "
            "give those of the train split only"
        )
    for mixture in (environments, sources):
        if not all(0 <= weight < math.inf for weight in mixture.values()):
            raise CurriculumError(f"the mixture's weights must be zero or more: {mixture}")
    stock = _stock(problems, schedule, bins, environments, sources)
    # Each source must have problems, and without substitutes some in each bin that is asked for.
    for name, pool in stock.items():
        if not pool:
            raise CurriculumError(
                f"none of {len(problems)} problems is {name}, in a bin and in an environment of "
                f"the mixture ({environments or 'empty'}): make more problems (seeds, turns), "
                "or use the broad bins"
            )
        missing = sorted(_wanted(parts) - {*pool}, key=ORDER.index)
        if missing and not substitute:
            raise CurriculumError(
                f"the schedule {schedule} asks for {' and '.join(missing)} problems, and of the "
                f"{name} ones none is: make more problems, or allow the nearest bin (substitute)"
            )
    return stock


def _draw(weighted: _Mixture, rng: np.random.Generator) -> str:
    """A key, drawn by its weight."""
    p = np.array(list(weighted.values()), float)
    return str(rng.choice(list(weighted), p=p / p.sum()))


def _deck(ids: list[str], rng: np.random.Generator) -> Iterator[str]:
    """Each id once in random order, then all in a new order, without end."""
    while True:
        yield from rng.permutation(ids).tolist()


PLAN = ["step", "slot", "schedule", "source", "wanted", "bin", "environment", "problem_id"]


def plan(
    problems: list[Problem],
    schedule: str,
    steps: int,
    prompts_per_step: int,
    environments: _Mixture,
    bins: str,
    seed: int,
    sources: _Mixture | None = None,
    substitute: bool = True,
) -> pd.DataFrame:
    """The ordered prompts of a training; the same arguments give the same plan.

    Each prompt draws a source, a bin by the weights at its step, an environment, and a problem of
    that pool: each problem once in random order, then all in a new order. An empty environment's
    weight goes to the others in the same bin, an empty bin's to the nearest bin with problems.

    Args:
        problems: kept ones of the train split.
        schedule: a key of SCHEDULES, scaled to `steps`.
        steps: of the training.
        prompts_per_step: prompts that each step draws.
        environments: weights of the mixture, by environment.
        bins: a key of difficulty.BINS.
        seed: of all draws.
        sources: weights of `synthetic` and `real` problems; None: synthetic ones alone.
        substitute: False: an empty bin that the schedule asks for is an error.
    Returns:
        steps * prompts_per_step rows with the columns PLAN: `step` and `slot` from 0, `schedule`,
        `source`, the bin that it `wanted`, and the `bin`, `environment` and `problem_id` drawn.
    Raises:
        CurriculumError: no plan can be made; the message says what is missing or unusable.
    Source: paper (schedules, mixtures); what happens where problems are missing is our choice.
    """
    sources = sources or {"synthetic": 1.0}
    stock = _checked_stock(problems, schedule, steps, environments, bins, sources, substitute)
    rng = np.random.default_rng(seed)
    decks: dict[tuple[str, str, str], Iterator[str]] = {}
    rows = []
    for step in range(steps):
        by_bin = weights(schedule, step, steps)
        for slot in range(prompts_per_step):
            origin = _draw({name: sources[name] for name in stock}, rng)
            wanted = _draw(by_bin, rng)
            # A bin without problems is replaced by its nearest neighbour (our choice).
            found = nearest(wanted, stock[origin])
            pool = stock[origin][found]
            environment = _draw({name: environments[name] for name in pool}, rng)
            deck = decks.setdefault((origin, found, environment), _deck(pool[environment], rng))
            rows.append((step, slot, schedule, origin, wanted, found, environment, next(deck)))
    return pd.DataFrame(rows, columns=PLAN)


def drawable(
    problems: list[Problem],
    schedule: str,
    steps: int,
    environments: _Mixture,
    bins: str,
    sources: _Mixture,
    substitute: bool,
) -> list[Problem]:
    """The problems that `plan` may draw with these arguments, in their order.

    Raises CurriculumError for an unknown schedule.
    """
    wanted = _wanted(phases(schedule, steps))
    ids: set[str] = set()
    for pool in _stock(problems, schedule, bins, environments, sources).values():
        # The bins that are drawn from: those asked for, or their nearest neighbours.
        names = wanted & {*pool}
        if substitute and pool:
            names = {nearest(name, pool) for name in wanted}
        for name in names:
            ids.update(*pool[name].values())
    return [problem for problem in problems if problem.id in ids]


def nearest(wanted: str, present: Collection[str]) -> str:
    """`wanted` if it is present, else its neighbour among those present, the easier of two."""
    ladder = [name for name in ORDER if name in present or name == wanted]
    return min(
        present,
        key=lambda name: (abs(ladder.index(name) - ladder.index(wanted)), ladder.index(name)),
    )


def _phases_of(plan: pd.DataFrame) -> list[_Phase]:
    """The phases of the schedule that a plan follows; none for an empty plan."""
    if plan.empty:
        return []
    return phases(plan["schedule"].iloc[0], int(plan["step"].max()) + 1)


def realised(
    plan: pd.DataFrame, environments: _Mixture | None = None, sources: _Mixture | None = None
) -> pd.DataFrame:
    """What a plan draws beside what was wanted, per phase that has prompts.

    Args:
        plan: of `plan`, whole.
        environments: weights of the mixture; None: environments are not compared.
        sources: weights of the sources; None: sources are not compared.
    Returns:
        Columns `from_step`, `to_step` (excluded), `kind` (bin, environment or source), `name`,
        `wanted` (weight, 0 to 1), `realised` (share of the phase's prompts), `n` (prompts).
    Source: our choice.
    """
    rows = []
    for start, end, by_bin in _phases_of(plan):
        part = plan[(plan["step"] >= start) & (plan["step"] < end)]
        mixtures = {"bin": by_bin, "environment": environments or {}, "source": sources or {}}
        for kind, weighted in mixtures.items():
            if part.empty or not weighted:
                continue
            drawn = part[kind].value_counts()
            total = sum(weighted.values())
            # Bins from easy to hard, then other names by the alphabet.
            names = {*weighted, *drawn.index}
            for name in [b for b in ORDER if b in names] + sorted(names - {*ORDER}):
                n = drawn.get(name, 0)
                rows.append(
                    (start, end, kind, name, weighted.get(name, 0) / total, n / len(part), n)
                )
    return pd.DataFrame(
        rows, columns=["from_step", "to_step", "kind", "name", "wanted", "realised", "n"]
    )


def switches(plan: pd.DataFrame) -> list[float]:
    """The steps at which the weights change.

    Args:
        plan: of `plan`, whole and not empty.
    Returns:
        The first step of each phase but the first; a break point may lie between two steps.
    Source: our choice.
    """
    return [start for start, _, _ in _phases_of(plan)[1:]]
