"""A curriculum is data: a table of sampling weights by step, and the plan it turns into.

The plan is the ordered prompts of a training. Paper: the six schedules, for a horizon of 40,000
steps, and the trainings on one difficulty alone. Our choice: what happens where problems are
missing.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import count

import numpy as np
import pandas as pd

from kit import schedules
from kit.core.bins import BIN_ORDER, bin_of
from kit.core.types import Problem, digest
from kit.schedules import CurriculumError, Mixture, phases


def _bin_pools(problems, schedule, bins):
    """Bin -> environment -> ids that a schedule can draw from.

    Most schedules know three bins. Broad ones are four: easy-medium problems count as easy there
    (our choice: a small run cannot spare them). Only medium-first asks for easy-medium, and takes
    easy ones only instead of missing ones.
    """
    named = {name for *_, by_bin in phases(schedule, schedules.HORIZON) for name in by_bin}
    found: dict[str, dict] = {}
    for problem in problems:
        name = bin_of(problem.p, bins)
        if name == "easy-medium" and name not in named:
            name = "easy"
        if name:
            # The same problem given twice is not drawn twice as often.
            found.setdefault(name, {}).setdefault(problem.environment, {})[problem.id] = None
    return found


def source(problem: Problem) -> str:
    """Real data (a function as it is) or synthetic, written by a teacher.

    Args:
        problem: of any method.
    Returns:
        "real" or "synthetic".
    Source: paper (real and synthetic data).
    """
    return "real" if problem.method == "real" else "synthetic"


def _wanted(parts):
    """The bins that some phase gives a weight."""
    return {name for _, _, by_bin in parts for name, weight in by_bin.items() if weight}


def _stock(problems, schedule, bins, environments, sources):
    """Source -> bin -> environment -> ids, without empty bins and environments."""
    usable = [x for x in problems if environments.get(x.environment, 0) > 0]
    return {
        name: _bin_pools([x for x in usable if source(x) == name], schedule, bins)
        for name, weight in sources.items()
        if weight
    }


def _checked_stock(problems, schedule, steps, environments, bins, sources, substitute):
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
    stock = _stock(problems, schedule, bins, environments, sources)
    if not stock:
        raise CurriculumError(f"no source has a weight above zero: {sources}")
    # Each source must have problems, and without substitutes some in each bin that is asked for.
    for name, pool in stock.items():
        if not pool:
            raise CurriculumError(
                f"none of {len(problems)} problems is {name}, in a bin and in an environment of "
                f"the mixture ({environments or 'empty'}): make more problems (seeds, turns), "
                "or use the broad bins"
            )
        missing = sorted(_wanted(parts) - {*pool}, key=BIN_ORDER.index)
        if missing and not substitute:
            raise CurriculumError(
                f"the schedule {schedule} asks for {' and '.join(missing)} problems, and of the "
                f"{name} ones none is: make more problems, or allow the nearest bin (substitute)"
            )
    return stock


def _draw(weighted, rng):
    """A key, drawn by its weight."""
    p = np.array(list(weighted.values()), float)
    return str(rng.choice(list(weighted), p=p / p.sum()))


def _deck(ids, seed):
    """Each id once in random order, then all in a new order, without end.

    The order of two ids depends on the seed alone, so trainings of one seed agree on it.
    """
    for turn in count():
        yield from sorted(ids, key=lambda i: digest(seed, turn, i))


def _left(stock, origin, used, repeats):
    """The environments of each bin of `stock` that still have a problem to draw, by bin."""
    return {
        name: left
        for name, pool in stock.items()
        if (left := [e for e, ids in pool.items() if used[origin, name, e] < repeats * len(ids)])
    }


PLAN = "step slot schedule source wanted bin environment problem_id".split()


def plan(
    problems: list[Problem],
    schedule: str,
    steps: int,
    prompts_per_step: int,
    environments: Mixture,
    bins: str,
    seed: int,
    sources: Mixture,
    substitute: bool = True,
    repeats: int | None = None,
) -> pd.DataFrame:
    """The ordered prompts of a training; the same arguments give the same plan.

    Each prompt draws a source, a bin by the weights at its step, an environment, and a problem of
    that pool: each problem once in random order, then all in a new order. An empty environment's
    weight goes to the others in the same bin, an empty bin's to the nearest bin with problems;
    pools that were drawn `repeats` times over count as empty.

    Args:
        problems: kept ones of the train split.
        schedule: as `schedules.phases` knows it, scaled to `steps`.
        steps: of the training.
        prompts_per_step: prompts that each step draws.
        environments, sources: weights of the mixture.
        bins: a key of bins.BINS.
        seed: of all draws.
        substitute: False: an empty bin that the schedule asks for is an error.
        repeats: a problem is drawn at most so often; None: no limit.
    Returns:
        steps * prompts_per_step rows, columns PLAN: `step` and `slot` from 0, the bin that it
        `wanted`, and the `source`, `bin`, `environment` and `problem_id` drawn.
    Raises:
        CurriculumError: no plan can be made; the message says what is missing or unusable.
    Source: paper (schedules, mixtures); what happens where problems are missing is our choice.
    """
    stock = _checked_stock(problems, schedule, steps, environments, bins, sources, substitute)
    rng = np.random.default_rng(seed)
    decks: dict[tuple[str, str, str], Iterator[str]] = {}
    used: Counter[tuple] = Counter()
    short, rows = [], []
    for step in range(steps):
        by_bin = schedules.weights(schedule, step, steps)
        for slot in range(prompts_per_step):
            origin = _draw({name: sources[name] for name in stock}, rng)
            wanted = _draw(by_bin, rng)
            left = _left(stock[origin], origin, used, repeats or math.inf)
            # A bin without problems is replaced by its nearest neighbour (our choice).
            found = nearest(wanted, left if substitute and left else stock[origin])
            # Past the limit it goes on, to count what is missing.
            short += [(origin, found)] * (found not in left)
            pool = stock[origin][found]
            names = left.get(found, pool)
            key = (origin, found, _draw({name: environments[name] for name in names}, rng))
            used[key] += 1
            problem = next(decks.setdefault(key, _deck(pool[key[2]], seed)))
            rows.append((step, slot, schedule, origin, wanted, *key[1:], problem))
    _check_repeats(short, repeats)
    return pd.DataFrame(rows, columns=PLAN)


def _check_repeats(short, repeats):
    """CurriculumError if prompts were left without a problem; `short`: source and bin of each."""
    told = [
        f"{math.ceil(prompts / repeats)} more {origin} {name} ones ({prompts} prompts)"
        for (origin, name), prompts in Counter(short).items()
    ]
    if told:
        raise CurriculumError(
            f"too few problems to draw none of them more than {repeats} times: make "
            f"{' and '.join(told)}, or raise curriculum.repeats"
        )


def drawable(
    problems: list[Problem],
    schedule: str,
    steps: int,
    environments: Mixture,
    bins: str,
    sources: Mixture,
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
    if wanted in present:
        return wanted
    ladder = [name for name in BIN_ORDER if name in present or name == wanted]
    place = ladder.index(wanted)
    return ladder[place - 1] if place else ladder[1]


def _phases_of(plan):
    """The phases of the schedule that a plan follows."""
    return phases(plan["schedule"].iloc[0], int(plan["step"].max()) + 1)


def realised(
    plan: pd.DataFrame, environments: Mixture | None = None, sources: Mixture | None = None
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
            for name in [b for b in BIN_ORDER if b in names] + sorted(names - {*BIN_ORDER}):
                n = drawn.get(name, 0)
                rows.append(
                    (start, end, kind, name, weighted.get(name, 0) / total, n / len(part), n)
                )
    columns = "from_step to_step kind name wanted realised n".split()
    return pd.DataFrame(rows, columns=columns)


def switches(plan: pd.DataFrame) -> list[float]:
    """The steps at which the weights change.

    Args:
        plan: of `plan`, whole and not empty.
    Returns:
        The first step of each phase but the first; a break point may lie between two steps.
    Source: our choice.
    """
    return [start for start, _, _ in _phases_of(plan)[1:]]
