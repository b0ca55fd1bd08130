"""A curriculum is data: a table of sampling weights by step, and the plan, the ordered prompts that it turns into.

Paper: the six schedules, for a horizon of 40,000 steps, and the trainings on one difficulty alone. Our choice: what happens
where problems are missing.
"""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from kit.difficulty import ORDER, Bin, bin_of
from kit.records import Problem

HORIZON = 40_000


class CurriculumError(ValueError):
    """No plan can be made; the message says what is missing."""


def _weights(easy: float, medium: float, hard: float) -> dict[str, float]:
    return {"easy": easy, "medium": medium, "hard": hard}


# (from step, weights), piecewise constant, at a horizon of 40,000 steps
SCHEDULES: dict[str, list[tuple[int, dict[str, float]]]] = {
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
SIX = ("uniform", "soft", "sharp", "classic", "hard-first", "medium-first")  # the paper's
OURS = frozenset(SCHEDULES)


def define(name: str, parts: list[tuple[float, dict[str, float]]]) -> None:
    """A schedule of one's own, known by `name` to everything in this process: (start as a share of the horizon, weights of the bins) of each
    phase. Weights are divided by their sum. Raises CurriculumError."""
    starts = [start for start, _ in parts]
    if name in OURS:
        raise CurriculumError(f"the schedule {name} is the kit's own: choose another name")
    if not starts or starts[0] != 0 or starts != sorted({*starts}) or starts[-1] >= 1:
        raise CurriculumError(
            f"the phases start at {', '.join(f'{x:g}' for x in starts) or 'no'} of the horizon: "
            "the first must start at 0, each later than the one before, all below 1"
        )
    for k, (_, w) in enumerate(parts, 1):
        if {*w} - {*ORDER} or not all(0 <= x < math.inf for x in w.values()) or not sum(w.values()):
            raise CurriculumError(
                f"phase {k} has the weights {w}: at least one above zero is needed, none below, for bins among {', '.join(ORDER)}"
            )
    SCHEDULES[name] = [
        (round(start * HORIZON), {b: x / sum(w.values()) for b, x in w.items()})
        for start, w in parts
    ]


def phases(name: str, horizon: int) -> list[tuple[float, float, dict[str, float]]]:
    """(first step, end, weights) of each phase, break points scaled to `horizon` steps. Raises CurriculumError."""
    if name not in SCHEDULES:
        raise CurriculumError(f"no schedule called {name!r}: there are {', '.join(SCHEDULES)}")
    if horizon < 1:
        raise CurriculumError(f"a horizon of {horizon} steps: at least 1 is needed")
    starts = [start * horizon / HORIZON for start, _ in SCHEDULES[name]]
    return list(
        zip(starts, [*starts[1:], float(horizon)], (w for _, w in SCHEDULES[name]), strict=True)
    )


def weights(name: str, step: int, horizon: int) -> dict[str, float]:
    """Weight of each bin at a step (counted from 0); from `horizon` on, the last phase's. Raises CurriculumError."""
    return dict([w for start, _, w in phases(name, horizon) if start <= step][-1])


def table(name: str, horizon: int) -> pd.DataFrame:
    """To draw: step, bin, weight at the first step of each phase and at the horizon. Raises CurriculumError."""
    found = phases(name, horizon)
    points = [(start, w) for start, _, w in found] + [(float(horizon), found[-1][2])]
    return pd.DataFrame(
        [(step, b, float(x)) for step, w in points for b, x in w.items()],
        columns=["step", "bin", "weight"],
    )


def pools(
    problems: list[Problem], schedule: str, bins: str | tuple[Bin, ...]
) -> dict[str, dict[str, list[str]]]:
    """The ids a schedule can draw from, by its bin and environment.

    Most schedules know three bins. Broad ones are four: easy-medium problems count as easy there (our choice: a small
    run cannot spare them), except in medium-first, which asks for easy-medium and takes easy ones only in its place."""
    named = SCHEDULES[schedule][0][1]
    found: dict[str, dict[str, list[str]]] = {}
    for x in problems:
        name = bin_of(x.p, bins)
        if name == "easy-medium" and name not in named:
            name = "easy"
        if name and x.id not in (ids := found.setdefault(name, {}).setdefault(x.environment, [])):
            ids.append(x.id)
    return found


def source(problem: Problem) -> str:
    """Real data (a function as it is) or synthetic, written by a teacher."""
    return "real" if problem.method == "real" else "synthetic"


PLAN = ["step", "slot", "schedule", "source", "wanted", "bin", "environment", "problem_id"]


def plan(
    problems: list[Problem],
    schedule: str,
    steps: int,
    prompts_per_step: int,
    environments: dict[str, float],
    bins: str | tuple[Bin, ...],
    seed: int,
    sources: dict[str, float] | None = None,
    substitute: bool = True,
) -> pd.DataFrame:
    """The ordered prompts of a run, steps * prompts_per_step rows: step and slot from 0, schedule, source, the bin it
    `wanted`, then the bin, environment and problem_id that were drawn. The same arguments give the same plan.

    A source is drawn by the weights of `sources` (default: synthetic alone), a bin by the schedule's at that step, an environment by the
    mixture's, then a problem of that pool: each once in random order, then all in a new order. Where problems are missing (our choice):
    an empty environment's weight goes to the others in the same bin; an empty bin's to the nearest with problems, of two equally near the
    easier, or with `substitute` False it is an error. Raises CurriculumError: unknown schedule, too few steps for it, no problems to draw
    from, held-out ones among them, unusable mixture."""
    parts = phases(schedule, steps)
    if steps < (least := len(parts)):
        raise CurriculumError(
            f"a horizon of {steps} steps: the schedule {schedule} has {least} phases, so it needs {least} steps or more"
        )
    sources = sources or {"synthetic": 1.0}
    if held := sum(x.split == "held_out" for x in problems):
        raise CurriculumError(
            f"{held} of the problems are held out for evaluation: give those of the train split only"
        )
    for mixture in (environments, sources):
        if any(w < 0 or not math.isfinite(w) for w in mixture.values()):
            raise CurriculumError(f"the mixture's weights must be zero or more: {mixture}")
    stock = _stock(problems, schedule, bins, environments, sources)
    if empty := [s for s, by in stock.items() if not by]:
        raise CurriculumError(
            f"none of {len(problems)} problems is {empty[0]}, in a bin and in an environment of the mixture "
            f"({environments or 'empty'}): make more problems (seeds, turns), or use the broad bins"
        )
    for s, by in stock.items() if not substitute else ():
        if missing := sorted(_wanted(parts) - {*by}, key=ORDER.index):
            raise CurriculumError(
                f"the schedule {schedule} asks for {' and '.join(missing)} problems, and of the {s} ones none is: "
                "make more problems, or allow the nearest bin (substitute)"
            )
    rng = np.random.default_rng(seed)
    decks = {
        (s, b, e): _deck(ids, rng)
        for s, by_bin in stock.items()
        for b, by in by_bin.items()
        for e, ids in by.items()
    }
    rows = []
    for step in range(steps):
        wanted_weights = weights(schedule, step, steps)
        for slot in range(prompts_per_step):
            of = _draw({s: sources[s] for s in stock}, rng)
            wanted = _draw(wanted_weights, rng)
            name = nearest(wanted, stock[of])
            environment = _draw({e: environments[e] for e in stock[of][name]}, rng)
            rows.append(
                (
                    step,
                    slot,
                    schedule,
                    of,
                    wanted,
                    name,
                    environment,
                    next(decks[of, name, environment]),
                )
            )
    return pd.DataFrame(rows, columns=PLAN)


def drawable(
    problems: list[Problem],
    schedule: str,
    steps: int,
    environments: dict[str, float],
    bins: str | tuple[Bin, ...],
    sources: dict[str, float],
    substitute: bool,
) -> list[Problem]:
    """Those that `plan` may draw with these arguments, in their order. Raises CurriculumError for an unknown schedule."""
    wanted, ids = _wanted(phases(schedule, steps)), set()
    for by in _stock(problems, schedule, bins, environments, sources).values():
        names = {nearest(b, by) for b in wanted} if substitute and by else wanted & {*by}
        ids.update(i for name in names for mine in by[name].values() for i in mine)
    return [p for p in problems if p.id in ids]


def _wanted(parts: list[tuple[float, float, dict[str, float]]]) -> set[str]:
    return {b for _, _, w in parts for b, x in w.items() if x}


def _stock(
    problems: list[Problem],
    schedule: str,
    bins,
    environments: dict[str, float],
    sources: dict[str, float],
) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Source -> bin -> environment -> ids, without empty bins and environments."""
    found = {}
    for s in (s for s, weight in sources.items() if weight):
        by_bin = pools([x for x in problems if source(x) == s], schedule, bins)
        by_bin = {
            b: {e: ids for e, ids in by.items() if environments.get(e, 0) > 0}
            for b, by in by_bin.items()
        }
        found[s] = {b: by for b, by in by_bin.items() if by}
    return found


def _draw(weighted: dict[str, float], rng: np.random.Generator) -> str:
    p = np.array(list(weighted.values()), float)
    return list(weighted)[rng.choice(len(p), p=p / p.sum())]


def _deck(ids: list[str], rng: np.random.Generator) -> Iterator[str]:
    while True:
        yield from rng.permutation(ids).tolist()


def nearest(wanted: str, present) -> str:
    """`wanted` if it is present, else its neighbour among those present, the easier of two."""
    ladder = [b for b in ORDER if b in present or b == wanted]
    return min(
        present, key=lambda b: (abs(ladder.index(b) - ladder.index(wanted)), ladder.index(b))
    )


def realised(
    plan: pd.DataFrame,
    environments: dict[str, float] | None = None,
    sources: dict[str, float] | None = None,
) -> pd.DataFrame:
    """What a plan draws beside what was wanted, per phase that has prompts: from_step, to_step (excluded), kind (bin,
    and, given the mixtures, environment and source), name, wanted (weight), realised (share of prompts), n (prompts)."""
    rows, horizon = [], 0 if plan.empty else int(plan["step"].max()) + 1
    for start, end, wanted in phases(plan["schedule"].iloc[0], horizon) if horizon else ():
        part = plan[(plan["step"] >= start) & (plan["step"] < end)]
        for kind, weighted in (
            ("bin", wanted),
            ("environment", environments or {}),
            ("source", sources or {}),
        ):
            drawn, total = part[kind].value_counts(), sum(weighted.values())
            for name in sorted(
                {*weighted, *drawn.index} if len(part) and weighted else (), key=_place
            ):
                n = drawn.get(name, 0)
                rows.append(
                    (start, end, kind, name, weighted.get(name, 0) / total, n / len(part), n)
                )
    return pd.DataFrame(
        rows, columns=["from_step", "to_step", "kind", "name", "wanted", "realised", "n"]
    )


def switches(plan: pd.DataFrame) -> list[float]:
    """The steps at which the schedule of a plan changes its weights."""
    return [
        start for start, _, _ in phases(plan["schedule"].iloc[0], int(plan["step"].max()) + 1)[1:]
    ]


def _place(name: str) -> tuple:
    return (ORDER.index(name), "") if name in ORDER else (len(ORDER), name)
