"""The bins of difficulty: narrow ones and broad ones (paper)."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Bin:
    """Pass rates from `low` (included) to `high` (included only if `closed`)."""

    name: str
    low: float
    high: float
    closed: bool = True


# Narrow bins have gaps between them, so both edges belong to the bin.
NARROW = (Bin("hard", 0.05, 0.16), Bin("medium", 0.41, 0.59), Bin("easy", 0.81, 0.91))

# Broad bins touch: an edge belongs to the easier bin, and 0.97 to the last, as the filter keeps it.
BROAD = (
    Bin("hard", 0.10, 0.26, False),
    Bin("medium", 0.26, 0.61, False),
    Bin("easy-medium", 0.61, 0.85, False),
    Bin("easy", 0.85, 0.97),
)

BINS = {"narrow": NARROW, "broad": BROAD}

# Of arms that ask for it (our choice): the broad ones, with what no attempt solved as the hard bin.
SILENT = (Bin("hard", 0, 0), *BROAD[1:])

BIN_ORDER = ("easy", "easy-medium", "medium", "hard")

# Of stepping stones, in the order in which they are made (top-down).
STEPPING_STONE_LEVELS = ("hard", "medium", "easy")


def _bins(bins):
    """The bins of that name, the hardest first."""
    known = BINS | {"silent": SILENT}
    if bins not in known:
        raise ValueError(f"no bins called {bins!r}: there are {', '.join(known)}")
    return known[bins]


def bin_of(p: float | None, bins: str) -> str | None:
    """The bin of a pass rate.

    p is rounded to 6 places first, so that one read back from a float32 column lands where it did
    before.

    Args:
        p: pass rate, 0 to 1; None or NaN: there is none.
        bins: a key of BINS, or `silent`.
    Returns:
        The bin's name; None for no pass rate and for one that is in no bin.
    Raises:
        ValueError: there are no such bins.
    Source: paper, filters and bins (the edges); the side that an edge belongs to is our choice.
    """
    if p is None or math.isnan(p):
        return None
    p = round(float(p), 6)
    for part in _bins(bins):
        if part.low <= p < part.high or (part.closed and p == part.high):
            return part.name
    return None


def reachable(attempts: int, bins: str) -> dict[str, list[int]]:
    """The numbers of solved attempts that fall into each bin.

    Args:
        attempts: M, attempts per problem.
        bins: a key of BINS.
    Returns:
        Counts (0 to M) by bin, the easiest bin first; none where M is too small for the bin.
    Raises:
        ValueError: BINS has no such key.
    Source: our choice.
    """
    names = [bin_of(solved / attempts, bins) for solved in range(attempts + 1)]
    return {
        part.name: [solved for solved, name in enumerate(names) if name == part.name]
        for part in reversed(_bins(bins))
    }
