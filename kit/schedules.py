"""A curriculum is data: sampling weights of the bins by step (notebook 04)."""

import json
import math
from typing import Annotated

import pandas as pd
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from kit.core.bins import BIN_ORDER

HORIZON = 40_000
# Weights by name: of bins, environments or sources.
Mixture = dict[str, float]
# First step, end and weights of the bins.
Phase = tuple[float, float, Mixture]
# Start, a share of the horizon, and weights of the bins.
_PARTS = TypeAdapter(list[tuple[float, Mixture]])
# A name, or phases, which are kept as JSON.
ScheduleText = Annotated[
    str, BeforeValidator(lambda given: json.dumps(given) if isinstance(given, list) else given)
]


class CurriculumError(ValueError):
    """No plan can be made; the message says what is missing."""


def _weights(easy, medium, hard):
    """The weights of the three bins that most schedules know."""
    return {"easy": easy, "medium": medium, "hard": hard}


# The paper's table: (from step, weights), piecewise constant, at a horizon of 40,000 steps.
SCHEDULES: dict[str, list[tuple[int, Mixture]]] = {
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
    # Our choice: a third hard problems both times; below them nothing but easy ones, or all kinds.
    "gap": [(0, {"easy": 2 / 3, "easy-medium": 0, "medium": 0, "hard": 1 / 3})],
    "smooth": [(0, {"easy": 2 / 9, "easy-medium": 2 / 9, "medium": 2 / 9, "hard": 1 / 3})],
}

# The paper's schedules; three others are its trainings on one difficulty alone.
PAPER_SCHEDULES = "uniform soft sharp classic hard-first medium-first".split()


def _of_horizon(parts):
    """Phases that start at shares of the horizon, as SCHEDULES has them; else CurriculumError."""
    starts = [start for start, _ in parts]
    if not starts or starts[0] or starts != sorted({*starts}) or starts[-1] >= 1:
        raise CurriculumError(
            f"the phases start at {', '.join(f'{x:g}' for x in starts) or 'no'} of the horizon: "
            "the first must start at 0, each later than the one before, all below 1"
        )
    schedule = []
    for number, (start, given) in enumerate(parts, 1):
        total = sum(given.values())
        if (
            {*given} - {*BIN_ORDER}
            or not all(0 <= w < math.inf for w in given.values())
            or not total
        ):
            raise CurriculumError(
                f"phase {number} has the weights {given}: none may be below zero, at least one "
                f"must be above, and the bins are {', '.join(BIN_ORDER)}"
            )
        shares = {name: weight / total for name, weight in given.items()}
        schedule.append((round(start * HORIZON), shares))
    return schedule


def _found(name):
    """The schedule of a name, or the one whose phases the text itself states."""
    if name in SCHEDULES:
        return SCHEDULES[name]
    if not name.startswith("["):
        raise CurriculumError(f"no schedule called {name!r}: there are {', '.join(SCHEDULES)}")
    try:
        return _of_horizon(_PARTS.validate_json(name))
    except ValidationError:
        raise CurriculumError(
            f"{name} is no schedule: each phase is [START, {{BIN: WEIGHT, ...}}]"
        ) from None


def phases(name: str, horizon: int) -> list[Phase]:
    """(first step, end, weights) of each phase, break points scaled to `horizon` steps.

    The name may be the phases themselves, as JSON: `[[0, {"easy": 1}], [0.5, {"hard": 1}]]`.
    Raises CurriculumError for an unknown schedule.
    """
    found = _found(name)
    steps, by_phase = zip(*found, strict=True)
    starts = [step * horizon / HORIZON for step in steps]
    return list(zip(starts, [*starts[1:], float(horizon)], by_phase, strict=True))


def weights(name: str, step: int, horizon: int) -> Mixture:
    """The sampling weight of each bin at a step.

    Args:
        name: of the schedule, a key of SCHEDULES.
        step: counted from 0; from `horizon` on, the last phase holds.
        horizon: steps of the whole training.
    Returns:
        Weights by bin; their sum is 1.
    Raises:
        CurriculumError: the schedule is unknown.
    Source: paper, curricula.
    """
    return dict([by_bin for start, _, by_bin in phases(name, horizon) if start <= step][-1])


def schedule_table(name: str, horizon: int) -> pd.DataFrame:
    """A schedule to draw.

    Args:
        name: of the schedule, a key of SCHEDULES.
        horizon: steps of the whole training.
    Returns:
        Columns `step`, `bin`, `weight` (0 to 1): a row per bin at the first step of each phase,
        and at the horizon.
    Raises:
        CurriculumError: the schedule is unknown.
    Source: paper, curricula.
    """
    found = phases(name, horizon)
    # The last weights once more, so that a line drawn through the points ends at the horizon.
    points = [*found, (float(horizon), math.inf, found[-1][2])]
    return pd.DataFrame(
        [(step, b, float(weight)) for step, _, by_bin in points for b, weight in by_bin.items()],
        columns=["step", "bin", "weight"],
    )
