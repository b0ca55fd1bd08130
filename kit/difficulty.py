"""Difficulty is the student's pass rate p = solved / attempts, cut into the paper's bins.

The paper gives the edges; which side an edge belongs to is our choice. With few attempts p takes few values, so a bin
may be reached by few of them or by none (`reachable` says which):

| attempts | bins   | hard  | medium | easy-medium | easy  |  solved, of all attempts
|----------|--------|-------|--------|-------------|-------|
| 8        | narrow | 1     | 4      |             | 7     |  2, 3, 5, 6 are in no bin
| 8        | broad  | 1-2   | 3-4    | 5-6         | 7     |
| 32       | narrow | 2-5   | 14-18  |             | 26-29 |
| 32       | broad  | 4-8   | 9-19   | 20-27       | 28-31 |  1-3 are in no bin
"""

import random
from dataclasses import dataclass
from math import sqrt

import pandas as pd

from kit.records import Problem


@dataclass(frozen=True)
class Bin:
    """Pass rates from `low` (included) to `high` (included only if `closed`)."""

    name: str
    low: float
    high: float
    closed: bool


# Narrow bins have gaps between them, so both edges belong to the bin. Broad bins touch: an edge belongs to the easier
# bin, and 0.97 to the last, as the filter keeps it.
NARROW = (
    Bin("hard", 0.05, 0.16, True),
    Bin("medium", 0.41, 0.59, True),
    Bin("easy", 0.81, 0.91, True),
)
BROAD = (
    Bin("hard", 0.10, 0.26, False),
    Bin("medium", 0.26, 0.61, False),
    Bin("easy-medium", 0.61, 0.85, False),
    Bin("easy", 0.85, 0.97, True),
)
BINS = {"narrow": NARROW, "broad": BROAD}
ORDER = ("easy", "easy-medium", "medium", "hard")
LEVELS = ("hard", "medium", "easy")  # of stepping stones, top-down


def _bins(bins: str | tuple[Bin, ...]) -> tuple[Bin, ...]:
    if isinstance(bins, str) and bins not in BINS:
        raise ValueError(f"no bins called {bins!r}: there are {', '.join(BINS)}")
    return BINS[bins] if isinstance(bins, str) else bins


def bin_of(p: float | None, bins: str | tuple[Bin, ...]) -> str | None:
    """The bin of a pass rate; None for no pass rate and for one in no bin. `bins` is a key of BINS or bins of your own.

    p is rounded to 6 places first, so that one read back from a float32 column lands where it did before. Raises
    ValueError."""
    if pd.isna(p):
        return None
    p = round(float(p), 6)
    return next(
        (b.name for b in _bins(bins) if b.low <= p < b.high or (b.closed and p == b.high)), None
    )


def reachable(attempts: int, bins: str | tuple[Bin, ...]) -> dict[str, list[int]]:
    """For each bin, easiest first, the numbers of solved attempts that fall into it; empty where M is too small for
    the bin."""
    found = {b.name: [] for b in reversed(_bins(bins))}
    for solved in range(attempts + 1):
        if name := bin_of(solved / attempts, bins):
            found[name].append(solved)
    return found


def assign(problems: list[Problem], bins: str | tuple[Bin, ...]) -> pd.DataFrame:
    """One row per problem: id, environment, method, split, chain_id, turn, n, solved, p, low, high (Wilson, 95%) and
    bin.

    Ungraded problems have NaN for p and its interval; `bin` is None in no bin."""
    rows = [
        (
            x.id,
            x.environment,
            x.method,
            x.split,
            x.chain_id,
            x.turn,
            x.n,
            x.solved,
            x.p,
            *interval(x.solved, x.n),
        )
        for x in problems
    ]
    columns = [
        "id",
        "environment",
        "method",
        "split",
        "chain_id",
        "turn",
        "n",
        "solved",
        "p",
        "low",
        "high",
    ]
    out = pd.DataFrame(rows, columns=columns).astype({"p": float, "low": float, "high": float})
    return out.assign(bin=pd.Series([bin_of(x.p, bins) for x in problems], dtype=object))


def interval(solved: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval, 95% by default, of a pass rate; (nan, nan) for n = 0. Raises ValueError unless 0 <= solved <=
    n."""
    if not 0 <= solved <= n:
        raise ValueError(f"{solved} solved of {n} attempts")
    if not n:
        return float("nan"), float("nan")
    p, centre = solved / n, (solved + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * sqrt(n * p * (1 - p) + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def stones(problems: list[Problem], bins: str | tuple[Bin, ...] = "narrow") -> pd.DataFrame:
    """The stepping stones, top-down: one row per seed whose hard, medium and easy problem were all kept by the filters.

    Columns: chain_id, environment, split, and for each of hard, medium, easy its id (`hard`) and pass rate (`hard_p`); `ordered`:
    p rises from hard to easy; `in_bins`: each lies in the bin of its name. The paper keeps what is in the narrow bins (1,012 chains);
    with few attempts hardly any is, so `ordered` is the weaker form that a small run can reach (our choice)."""
    kept = {(x.chain_id, x.asked): x for x in problems if x.method == "stones" and x.kept}
    rows = []
    for chain in sorted({chain for chain, _ in kept}):
        trio = {asked: kept.get((chain, asked)) for asked in LEVELS}
        if None not in trio.values():
            ps = [trio[asked].p for asked in LEVELS]
            rows.append(
                (
                    chain,
                    trio["hard"].environment,
                    trio["hard"].split,
                    *(trio[a].id for a in LEVELS),
                    *ps,
                    ps == sorted(set(ps)),
                    all(bin_of(x.p, bins) == asked for asked, x in trio.items()),
                )
            )
    return pd.DataFrame(
        rows,
        columns=[
            "chain_id",
            "environment",
            "split",
            *LEVELS,
            *(f"{a}_p" for a in LEVELS),
            "ordered",
            "in_bins",
        ],
    )


def disjoint(chosen: list[Problem], problems: list[Problem], seed: int = 0) -> list[Problem]:
    """The comparison set of `chosen` (the problems of some chains): as many kept problems of equal pass rate, without kinship.

    No member shares a seed with a member of `chosen` or with another member of the set (paper: same counts, matched histograms, no kinship).
    The nearest pass rate is taken, then the same environment (our choice); shorter than `chosen` if
    the problems run out, so compare the lengths."""
    used, out = {x.seed_id for x in chosen}, []
    pool = [x for x in problems if x.kept and x.method != "stones"]
    random.Random(f"disjoint {seed}").shuffle(pool)
    for x in sorted(chosen, key=lambda x: (x.p, x.id)):
        free = [y for y in pool if y.seed_id not in used]
        if free:
            out.append(min(free, key=lambda y: (abs(y.p - x.p), y.environment != x.environment)))
            used.add(out[-1].seed_id)
    return out
