"""The one estimator of notebook 07: weighted sums of arms over problems x seeds, and their errors.

Seeds and problems are both draws from more of their kind, so an arm's score table has two random
effects and what is left over: y[s, p] = mean + seed[s] + problem[p] + rest[s, p]. The noise of
sampling answers is in the rest. `contrast` says how far a weighted sum of arms is from 0,
`variance_ratio` whether the seeds of one arm differ more than those of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import pandas as pd
from scipy import stats

from kit.core.stats import pass_at_k
from kit.evaluation import snippets
from kit.power import Components

# The name of the policy before training; it has no seeds of its own.
UNTRAINED = "untrained"
# Arms are paired by seed from so many shared seeds on (our choice): with fewer, the degrees of
# freedom that pairing costs outweigh the variance that it saves.
PAIRS = 5
# A seed that lost a larger share of its arm's problems is left out, not the problems (our choice).
LOST = 0.5
# Draws of the pivotal quantities of `variance_ratio` (our choice).
DRAWS = 20_000


def score_table(
    scores: pd.DataFrame, arm: str, set_name: str, mode: str = "sampled", k: int = 1
) -> pd.DataFrame:
    """The scores of one arm on one set, seeds x problems, for `contrast`.

    Args:
        scores: of a study, see `arms.collect_study`; `seed_id`, where there is such a column, is
            the snippet that a problem comes from.
        arm: its name; "untrained" is the checkpoint `before` as a single row, of each problem the
            evaluation with most graded samples. Of other arms the checkpoint `after` is taken.
        set_name: such as synthetic.
        mode: sampled, greedy, or lenient (right answers of any form, from the column `lenient`).
        k: of pass@k; not used by greedy.
    Returns:
        S rows (index `seed`) x P columns (`problem_id`, `snippet`: the problem itself where none is
        known): 0 to 1, NaN for lost answers. `attrs` holds the arm.
    Raises:
        ValueError: an arm and seed answered a problem twice.
        KeyError: the scores have no column of that mode.
    Source: Chen et al. 2021 (pass@k); the table is our choice.
    """
    before = scores.checkpoint == "before"
    mine = before if arm == UNTRAINED else ~before & (scores.arm == arm)
    rows = scores[mine & (scores["set"] == set_name)]
    if arm == UNTRAINED:
        rows = rows.sort_values("n", ascending=False, kind="stable").assign(seed=UNTRAINED)
        rows = rows.drop_duplicates("problem_id")
    if mode == "greedy":
        value = rows.greedy
    else:
        right = rows["solved" if mode == "sampled" else mode]
        value = [pass_at_k(int(n), int(solved), k) for n, solved in zip(rows.n, right)]
    long = rows.assign(value=value, snippet=snippets(rows))
    table = long.pivot(index="seed", columns=["problem_id", "snippet"], values="value")
    table.attrs["arm"] = arm
    return table


@dataclass(frozen=True)
class Estimate:
    """A contrast or a ratio of variances; a comment above a field explains it.

    Source: our choice.
    """

    value: float = np.nan
    # The 95% interval.
    low: float = np.nan
    high: float = np.nan
    # One-sided p values: of the claim that the truth is above, and that it is below no effect.
    supports: float = np.nan
    opposes: float = np.nan
    # Of the trained arm that has fewest.
    seeds: int = 0
    problems: int = 0
    standard_error: float = np.nan
    df: float = np.nan
    # Problems and seeds that are not in it, and why; and why there is no test, if there is none.
    left_out: str = ""
    untested: str = ""
    components: Components = Components()

    def with_error(self, error: float, df: float) -> "Estimate":
        """The same with interval and p values of Student's t; untested if nothing varies."""
        if not (error > 1e-10 and df > 0):
            return replace(self, untested="nothing differs between problems or seeds")
        truth = (df, self.value, error)
        low, high = stats.t.interval(0.95, *truth)
        sides = {"supports": stats.t.cdf(0, *truth), "opposes": stats.t.sf(0, *truth)}
        return replace(self, low=low, high=high, standard_error=error, df=df, **sides)

    def repeat(self, seeds: int, problems: int) -> tuple[float, float]:
        """Where 95% of the estimates of repeats lie: with other seeds, other problems of the kind.

        Both estimates are uncertain, so this is wider than the interval.
        """
        error = self.standard_error**2 + self.components.variance(seeds, problems)
        return stats.t.interval(0.95, self.df, self.value, np.sqrt(error))


def _some_ids(ids):
    """Some of the ids as text."""
    names = [str(i[0] if isinstance(i, tuple) else i) for i in ids]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _complete(tables):
    """The tables without lost seeds, on the problems that every seed of all has; what went."""
    names = [table.attrs.get("arm", f"arm {place}") for place, table in enumerate(tables, 1)]
    lost = [table.isna().mean(axis=1) > LOST for table in tables]
    kept = [table[~seeds] for table, seeds in zip(tables, lost)]
    answered = [table.dropna(axis=1).columns for table in kept]
    every = reduce(pd.Index.union, (table.columns for table in kept))
    common = reduce(pd.Index.intersection, answered)
    gone = [
        f"seeds of {name} with few of the answers: {_some_ids(seeds.index[seeds])}"
        for name, seeds in zip(names, lost)
        if seeds.any()
    ]
    gone += [
        f"problems that not every seed of {name} has: {_some_ids(every.difference(columns))}"
        for name, columns in zip(names, answered)
        if len(columns) < len(every)
    ]
    return [table[common] for table in kept], "; ".join(gone)


def _is_untrained(table):
    """Whether it is the policy before training, which has no seeds."""
    return list(table.index) == [UNTRAINED]


def _blocks(tables):
    """Independent blocks, seeds x problems, that add up to the contrast; what went."""
    fixed = [table for table in tables if _is_untrained(table)]
    # The contrast of each seed by itself is one block; a seed that not every arm has gets NaN.
    of_seed = sum(table for table in tables if not _is_untrained(table))
    shared = of_seed.dropna()
    if len(shared) < PAIRS:
        return tables, ""
    alone = of_seed.index.difference(shared.index)
    gone = f"seeds that not every arm has: {_some_ids(alone)}" if len(alone) else ""
    return [shared, *fixed], gone


def _seed_and_rest(table, member, clusters):
    """V_seed and V_rest of one block of S >= 2 seeds x P problems: see `contrast`."""
    block = table.to_numpy()
    seeds, problems = block.shape
    means = block.mean(axis=1)
    rest = block - means[:, None] - block.mean(axis=0) + means.mean()
    squares = ((rest @ member) ** 2).sum() * clusters / (clusters - 1)
    return means.var(ddof=1) / seeds, squares / (problems**2 * seeds * (seeds - 1))


def _groups_of(columns):
    """The snippets of the problems as problems x clusters, 0 and 1; G of `contrast`."""
    member = pd.get_dummies(columns.get_level_values(-1), dtype=float).to_numpy()
    return member, 1 / (member.mean(axis=0) ** 2).sum()


def contrast(terms: Sequence[tuple[float, pd.DataFrame]]) -> Estimate:
    """A weighted sum of arms' mean scores, with its error over other problems and other seeds.

    The tables are cut to the P problems that every seed of all arms has. Arms that share at least
    PAIRS seeds are paired: the sum is formed seed by seed, which gives one block of S x P values.
    Else each arm times its weight is a block b of its own, S_b x P. With d[p] the sum over blocks
    of their means over seeds, m_b[s] the means of a block over problems, e_b[s, p] what a block has
    beyond the means of its row and column, and sums over the clusters c (snippets) of problems,

        V_problem = G / (G - 1) / P^2 x sum_c (sum_{p in c} d[p] - mean d)^2
        V_seed    = sum_b variance of m_b / S_b
        V_rest    = sum_b G / (G - 1) / (P^2 S_b (S_b - 1)) x sum_{s, c} (sum_{p in c} e_b[s, p])^2
        V         = V_problem + max(0, V_seed - V_rest)

    V_problem and V_seed both hold the rest, so it is taken out once. G = 1 / sum_c f_c^2, with f_c
    a cluster's share of the problems: the clusters of equal size that weigh the same. V_problem has
    G - 1 degrees of freedom, V_seed S_b - 1 and V_rest (S_b - 1) (G - 1) for each block. Those of V
    are Satterthwaite's, V^2 over the sum of V_x^2 / df_x; where the seeds add nothing, G - 1.
    Interval and p values are Student's t. The untrained policy is a block of one row, without seeds
    that could differ.

    Args:
        terms: (weight, table of `score_table`), such as [(1, a), (-1, b)].
    Returns:
        The estimate. Nothing is tested, and `untested` says why, without answers or a common
        problem, with a single seed or snippet, and where nothing differs.
    Source: Searle, Casella and McCulloch 1992 (random effects); Satterthwaite 1946; Cameron and
        Miller 2015 (clusters).
    """
    if any(table.empty for _, table in terms):
        return Estimate(untested="an arm has no answers")
    tables, gone = _complete([weight * table for weight, table in terms])
    if not all(table.size for table in tables):
        why = "the arms have no answered problem in common"
        return Estimate(left_out=gone, untested=why)
    blocks, alone = _blocks(tables)
    by_problem = sum(block.mean() for block in blocks)
    seeded = [block for block in blocks if not _is_untrained(block)]
    found = Estimate(
        by_problem.mean(),
        seeds=min(map(len, seeded)),
        problems=len(by_problem),
        left_out="; ".join(filter(None, (gone, alone))),
    )
    if found.seeds < 2:
        return replace(found, untested="an arm has a single seed")
    return _with_errors(found, by_problem, seeded)


def _with_errors(found, by_problem, seeded):
    """The estimate with its error, interval and p values: the formulas of `contrast`."""
    member, clusters = _groups_of(by_problem.index)
    if clusters == 1:
        return replace(found, untested="all problems come from one snippet")
    sums = (by_problem - found.value) @ member
    v_problem = clusters / (clusters - 1) * (sums**2).sum() / len(by_problem) ** 2
    both = np.array([_seed_and_rest(block, member, clusters) for block in seeded])
    v_seed, v_rest = both.sum(axis=0)
    by_seeds = max(0.0, v_seed - v_rest)
    variance = v_problem + by_seeds
    components = Components(
        max(0.0, v_problem - v_rest) * found.problems,
        by_seeds * found.seeds,
        v_rest * found.seeds * found.problems,
    )
    # Satterthwaite: a row per block, V_seed and V_rest.
    df = clusters - 1
    if by_seeds:
        free = np.array([[len(block) - 1] for block in seeded]) * [1, clusters - 1]
        df = variance**2 / (v_problem**2 / (clusters - 1) + (both**2 / free).sum())
    return replace(found, components=components).with_error(np.sqrt(variance), df)


def variance_ratio(a: pd.DataFrame, b: pd.DataFrame) -> Estimate:
    """The variance between the seeds of a over that between the seeds of b, beyond the rest.

    For each arm, on the P problems that every seed of both has, v is the variance of the S seeds'
    means (divided by S - 1) and r = S V_rest the part of it that is the rest (see `contrast`). The
    pivotal quantity of the variance that is the seeds' own is

        R = max(0, v (S - 1) / U - r (S - 1) (G - 1) / W)

    with U and W drawn from chi-squared with S - 1 and (S - 1) (G - 1) degrees of freedom. Quantiles
    of the draws of R_a / R_b are the interval, shares of them the p values. A draw in which neither
    arm's seeds differ speaks against either side. Seeds that the arms share are not paired: that is
    safe, since what they have in common makes the two variances more alike.

    Args:
        a: S_a seeds x problems, of `score_table`.
        b: of the other arm.
    Returns:
        The ratio (0 to inf; median of the draws), its interval and p values (1: no effect); the
        seeds of the arm that has fewer.
    Source: Weerahandi 1993 (generalized intervals); paper, fig. 13 (the comparison).
    """
    if a.empty or b.empty:
        return Estimate(untested="an arm has no answers")
    tables, gone = _complete([a, b])
    columns = tables[0].columns
    seeds = min(map(len, tables))
    found = Estimate(seeds=seeds, problems=len(columns), left_out=gone)
    if seeds < 2 or columns.get_level_values(-1).nunique() < 2:
        return replace(found, untested="fewer than two seeds or snippets have answers in both arms")
    member, clusters = _groups_of(columns)
    rng = np.random.default_rng(0)
    own = []
    for table in tables:
        free = len(table) - 1
        v, r = len(table) * np.array(_seed_and_rest(table, member, clusters))
        by_seed = v * free / rng.chisquare(free, DRAWS)
        by_rest = r * free * (clusters - 1) / rng.chisquare(free * (clusters - 1), DRAWS)
        own.append(pd.Series(by_seed - by_rest).clip(lower=0))
    ratio = own[0] / own[1]
    if ratio.isna().all():
        return replace(found, untested="no arm's seeds differ by more than the rest")
    return replace(
        found,
        value=ratio.quantile(0.5, "lower"),
        low=ratio.fillna(0).quantile(0.025, "lower"),
        high=ratio.fillna(np.inf).quantile(0.975, "higher"),
        supports=1 - (ratio > 1).sum() / (DRAWS + 1),
        opposes=1 - (ratio < 1).sum() / (DRAWS + 1),
    )
