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

import random
from collections import Counter

import pandas as pd

from kit.core.bins import STEPPING_STONE_LEVELS, bin_of
from kit.core.records import problems_frame
from kit.core.stats import wilson_interval
from kit.core.types import Problem


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
    columns = "id environment method split chain_id turn n solved p".split()
    ends = [wilson_interval(problem.solved, problem.n) for problem in problems]
    interval = pd.DataFrame(ends, columns=["low", "high"], dtype=float)
    # Of type object, so that None stays None.
    names = pd.Series([bin_of(problem.p, bins) for problem in problems], dtype=object)
    return problems_frame(problems)[columns].join(interval).assign(bin=names)


def _rate(problem):
    """The pass rate of a problem that the filters kept: it is graded."""
    return problem.solved / problem.n


def stepping_stones(problems: list[Problem], bins: str = "narrow") -> list[str]:
    """The chains: a hard problem, its medium and its easy variant, each in the bin of its name.

    So the pass rates rise in the order in which the three were asked for. The filters kept all
    three; with few attempts hardly any trio lies in the narrow bins.

    Args:
        problems: filtered problems (`kept` is set).
        bins: a key of BINS.
    Returns:
        The chains' ids (`chain_id`), sorted.
    Raises:
        ValueError: BINS has no such key.
    Source: paper, filters and bins (chains; 1,012 of them in the narrow bins).
    """
    stones = (x for x in problems if x.method == "stones" and x.kept)
    right = {(x.chain_id, x.asked) for x in stones if bin_of(x.p, bins) == x.asked}
    levels = Counter(chain for chain, _ in right)
    # A chain of which one problem is missing is no chain: it is left out (paper).
    return sorted(chain for chain in levels if levels[chain] == len(STEPPING_STONE_LEVELS))


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
