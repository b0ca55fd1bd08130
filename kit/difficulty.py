"""Difficulty is the student's pass rate p = solved / attempts, cut into the paper's bins.

The paper gives the edges; which side an edge belongs to is our choice. With few attempts p takes
few values, so a bin may be reached by few of them or by none (`reachable` says which):

| attempts | bins   | hard  | medium | easy-medium | easy  |  solved, of all attempts
|----------|--------|-------|--------|-------------|-------|
| 8        | narrow | 1     | 4      |             | 7     |  2, 3, 5, 6 are in no bin
| 8        | broad  | 1-2   | 3-4    | 5-6         | 7     |
| 32       | narrow | 2-5   | 14-18  |             | 26-29 |
| 32       | broad  | 4-8   | 9-19   | 20-27       | 28-31 |  1-3 are in no bin
"""

import math
import random
from dataclasses import dataclass
from functools import cache

import pandas as pd
from scipy.stats import binomtest

from kit.records import Problem


@dataclass(frozen=True)
class Bin:
    """Pass rates from `low` (included) to `high` (included only if `closed`)."""

    name: str
    low: float
    high: float
    closed: bool


# Narrow bins have gaps between them, so both edges belong to the bin.
NARROW = (
    Bin("hard", 0.05, 0.16, True),
    Bin("medium", 0.41, 0.59, True),
    Bin("easy", 0.81, 0.91, True),
)
# Broad bins touch: an edge belongs to the easier bin, and 0.97 to the last, as the filter keeps it.
BROAD = (
    Bin("hard", 0.10, 0.26, False),
    Bin("medium", 0.26, 0.61, False),
    Bin("easy-medium", 0.61, 0.85, False),
    Bin("easy", 0.85, 0.97, True),
)
BINS = {"narrow": NARROW, "broad": BROAD}
ORDER = ("easy", "easy-medium", "medium", "hard")
# Of stepping stones, in the order in which they are made (top-down).
LEVELS = ("hard", "medium", "easy")


def _bins(bins: str) -> tuple[Bin, ...]:
    """The bins of that name, the hardest first."""
    if bins not in BINS:
        raise ValueError(f"no bins called {bins!r}: there are {', '.join(BINS)}")
    return BINS[bins]


def bin_of(p: float | None, bins: str) -> str | None:
    """The bin of a pass rate.

    p is rounded to 6 places first, so that one read back from a float32 column lands where it did
    before.

    Args:
        p: pass rate, 0 to 1; None or NaN: there is none.
        bins: a key of BINS.
    Returns:
        The bin's name; None for no pass rate and for one that is in no bin.
    Raises:
        ValueError: BINS has no such key.
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
    found: dict[str, list[int]] = {part.name: [] for part in reversed(_bins(bins))}
    for solved in range(attempts + 1):
        if name := bin_of(solved / attempts, bins):
            found[name].append(solved)
    return found


def assign(problems: list[Problem], bins: str) -> pd.DataFrame:
    """Each problem's pass rate with its uncertainty, and its bin.

    Args:
        problems: graded or not, filtered or not.
        bins: a key of BINS.
    Returns:
        One row per problem: columns `id`, `environment`, `method`, `split`, `chain_id`, `turn`,
        `n` (graded attempts), `solved`, `p` (0 to 1), `low`, `high` (Wilson, 95%) and `bin`.
        Ungraded problems have NaN for p and its interval; `bin` is None in no bin.
    Raises:
        ValueError: BINS has no such key.
    Source: paper, filters and bins (the edges); the interval is our choice.
    """
    columns = ["id", "environment", "method", "split", "chain_id", "turn", "n", "solved", "p"]
    rows = [
        (*(getattr(problem, name) for name in columns), *interval(problem.solved, problem.n))
        for problem in problems
    ]
    table = pd.DataFrame(rows, columns=[*columns, "low", "high"])
    # Of type object, so that None stays None; an empty table has the types of a full one.
    names = pd.Series([bin_of(problem.p, bins) for problem in problems], dtype=object)
    return table.astype({"p": float, "low": float, "high": float}).assign(bin=names)


@cache
def interval(solved: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a pass rate.

    Args:
        solved: solved attempts.
        n: graded attempts.
    Returns:
        Lowest and highest pass rate, 0 to 1; (nan, nan) for n = 0.
    Raises:
        ValueError: `solved` is below 0 or above n.
    Source: our choice.
    """
    if not 0 <= solved <= n:
        raise ValueError(f"{solved} solved of {n} attempts")
    if not n:
        return math.nan, math.nan
    low, high = binomtest(solved, n).proportion_ci(method="wilson")
    return float(low), float(high)


def _rate(problem: Problem) -> float:
    """The pass rate of a graded problem."""
    assert problem.p is not None, "the filters keep graded problems only"
    return problem.p


def stones(problems: list[Problem], bins: str = "narrow") -> pd.DataFrame:
    """The stepping stones of which the filters kept all three: hard, medium and easy.

    The paper keeps what is in the narrow bins (1,012 chains). With few attempts hardly any chain
    is, so `ordered` is the weaker form that a small run can reach.

    Args:
        problems: filtered problems (`kept` is set).
        bins: a key of BINS.
    Returns:
        One row per seed: columns `chain_id`, `environment`, `split`; for each of hard, medium and
        easy its id (`hard`) and pass rate (`hard_p`, 0 to 1); `ordered`: p rises from hard to
        easy; `in_bins`: each lies in the bin of its name.
    Raises:
        ValueError: BINS has no such key.
    Source: paper, filters and bins (chains); `ordered` is our choice.
    """
    kept = {(x.chain_id, x.asked): x for x in problems if x.method == "stones" and x.kept}
    rows = []
    # A chain of which one problem is missing is no chain: it is left out (paper).
    for chain_id in sorted({chain_id for chain_id, _ in kept}):
        trio = [kept[chain_id, level] for level in LEVELS if (chain_id, level) in kept]
        if len(trio) < len(LEVELS):
            continue
        # Do the pass rates rise from hard to easy, and does each lie where it was asked to lie?
        rates = [_rate(stone) for stone in trio]
        ordered = rates == sorted(set(rates))
        in_bins = all(bin_of(stone.p, bins) == stone.asked for stone in trio)
        ids = [stone.id for stone in trio]
        rows.append((chain_id, trio[0].environment, trio[0].split, *ids, *rates, ordered, in_bins))
    columns = [*LEVELS, *(f"{level}_p" for level in LEVELS), "ordered", "in_bins"]
    return pd.DataFrame(rows, columns=["chain_id", "environment", "split", *columns])


def disjoint(chosen: list[Problem], problems: list[Problem], seed: int = 0) -> list[Problem]:
    """The comparison set of some chains: kept problems of equal pass rates, without kinship.

    No member shares a seed with a member of `chosen` or with another member of the set. Members
    are found one by one: the nearest pass rate, of equally near ones the same environment.

    Args:
        chosen: the problems of some chains.
        problems: filtered problems (`kept` is set) to choose from.
        seed: of the order in which equally good ones are preferred.
    Returns:
        As many problems as `chosen` has, or fewer if the problems run out: compare the lengths.
    Source: paper (same counts, matched pass-rate histograms, no kinship); the way to match them
        is our choice.
    """
    # Problems of one seed are relatives: a seed that is used once is used up.
    used = {problem.seed_id for problem in chosen}
    pool = [problem for problem in problems if problem.kept and problem.method != "stones"]
    random.Random(f"disjoint {seed}").shuffle(pool)
    found: list[Problem] = []
    # Each problem gets a partner of nearly the same pass rate, the hardest problem first.
    for stone in sorted(chosen, key=lambda x: (_rate(x), x.id)):
        free = [problem for problem in pool if problem.seed_id not in used]
        if free:
            nearest = min(
                free,
                key=lambda x: (abs(_rate(x) - _rate(stone)), x.environment != stone.environment),
            )
            found.append(nearest)
            used.add(nearest.seed_id)
    return found
