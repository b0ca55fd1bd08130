"""The one estimator of notebook 07: weighted sums of arms over problems x seeds, and their errors.

Seeds and problems are both draws from more of their kind, so an arm's score table has two random
effects and what is left over: y[s, p] = mean + seed[s] + problem[p] + rest[s, p]. The noise of
sampling answers is in the rest. `contrast` says how far a weighted sum of arms is from 0,
`variance_ratio` whether the seeds of one arm differ more than those of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from kit.core.stats import pass_at_k
from kit.evaluation import snippets
from kit.power import Components, detectable

# The name of the policy before training; it has no seeds of its own.
UNTRAINED = "untrained"
# Arms are paired by seed from so many shared seeds on (our choice): with fewer, the degrees of
# freedom that pairing costs outweigh the variance that it saves.
PAIRS = 5
# A seed that lost a larger share of its arm's problems is left out, not the problems (our choice).
LOST = 0.5
# Draws of the pivotal quantities of `variance_ratio` (our choice).
DRAWS = 20_000
# The column of right samples, by mode.
RIGHT = {"sampled": "solved", "lenient": "lenient"}


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
        known): 0 to 1, NaN for lost answers. `attrs` holds the arm and, for pass@1, the samples.
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
        right = rows[RIGHT[mode]]
        value = [pass_at_k(int(n), int(solved), k) for n, solved in zip(rows.n, right)]
    long = rows.assign(value=value, snippet=snippets(rows))
    table = long.pivot(index="seed", columns=["problem_id", "snippet"], values="value")
    table.attrs["arm"] = arm
    if mode != "greedy" and k == 1 and len(rows):
        table.attrs["samples"] = int(rows.n.median())
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
    standard_error: float = np.nan
    df: float = np.nan
    # One-sided p values: of the claim that the truth is above, and that it is below no effect.
    supports: float = np.nan
    opposes: float = np.nan
    # Of the trained arm that has fewest.
    seeds: int = 0
    problems: int = 0
    # Different snippets.
    clusters: int = 0
    # By seed; by problem it always is.
    paired: bool = False
    # Problems and seeds that are not in it, and why; and why there is no test, if there is none.
    left_out: str = ""
    untested: str = ""
    components: Components = Components()

    def with_error(self, error: float, df: float) -> "Estimate":
        """The same with interval and p values of Student's t; untested if nothing varies."""
        if error < 1e-10 or df <= 0:
            return replace(self, untested="nothing differs between problems or seeds")
        wide = error * stats.t.ppf(0.975, df)
        return replace(
            self,
            low=self.value - wide,
            high=self.value + wide,
            standard_error=error,
            df=df,
            supports=stats.t.sf(self.value / error, df),
            opposes=stats.t.cdf(self.value / error, df),
        )

    def smallest(self) -> float:
        """The smallest true effect that 80% of such studies find, see `power.detectable`."""
        return detectable(self.standard_error, self.df)

    def repeat(self, seeds: int, problems: int, samples: int) -> tuple[float, float]:
        """Where 95% of the estimates of repeats lie: with other seeds, other problems of the kind.

        Both estimates are uncertain, so this is wider than the interval.
        """
        error = self.standard_error**2 + self.components.variance(seeds, problems, samples)
        wide = np.sqrt(error) * stats.t.ppf(0.975, self.df)
        return self.value - wide, self.value + wide


def _some_ids(ids):
    """Some of the ids as text."""
    names = [str(i[0] if isinstance(i, tuple) else i) for i in ids]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _complete(tables):
    """The tables without lost seeds, on the problems that every seed of all has; what went."""
    names = [table.attrs.get("arm", f"arm {place}") for place, table in enumerate(tables, 1)]
    gone = []
    kept = []
    answered = []
    for name, table in zip(names, tables):
        missing = np.isnan(table.to_numpy())
        lost = missing.mean(axis=1) > LOST
        if lost.any():
            gone.append(f"seeds of {name} with few of the answers: {_some_ids(table.index[lost])}")
        kept.append(table[~lost])
        answered.append(table.columns[~missing[~lost].any(axis=0)])
    every = kept[0].columns
    common = answered[0]
    for table, columns in zip(kept[1:], answered[1:]):
        every = every.union(table.columns)
        common = common.intersection(columns)
    for name, columns in zip(names, answered):
        if len(columns) < len(every):
            some = _some_ids(every.difference(columns))
            gone.append(f"problems that not every seed of {name} has: {some}")
    return [table[common] for table in kept], "; ".join(gone)


def _is_untrained(table):
    """Whether it is the policy before training, which has no seeds."""
    return len(table) == 1 and table.index[0] == UNTRAINED


def _blocks(weights, tables):
    """Independent blocks, seeds x problems, that add up to the contrast; paired; what went."""
    weighted = list(zip(weights, tables))
    trained = [(w, table) for w, table in weighted if not _is_untrained(table)]
    indices = [table.index for _, table in trained]
    shared = indices[0]
    for index in indices[1:]:
        shared = shared.intersection(index)
    if len(trained) < 2 or len(shared) < PAIRS:
        return [w * table.to_numpy() for w, table in weighted], False, ""
    # The contrast of each seed by itself is one block.
    of_seed = np.sum([w * table.loc[shared].to_numpy() for w, table in trained], axis=0)
    fixed = [w * table.to_numpy() for w, table in weighted if _is_untrained(table)]
    alone = sorted({seed for index in indices for seed in index} - {*shared})
    gone = f"seeds that not every arm has: {_some_ids(alone)}" if alone else ""
    return [of_seed, *fixed], True, gone


def _seed_and_rest(block, member, clusters):
    """V_seed and V_rest of one block of S >= 2 seeds x P problems: see `contrast`."""
    seeds, problems = block.shape
    means = block.mean(axis=1)
    rest = block - means[:, None] - block.mean(axis=0) + means.mean()
    squares = ((rest @ member) ** 2).sum() * clusters / (clusters - 1)
    return means.var(ddof=1) / seeds, squares / (problems**2 * seeds * (seeds - 1))


def _groups_of(columns):
    """The snippets of the problems as problems x clusters, 0 and 1; G of `contrast`."""
    place, _ = pd.factorize(columns.get_level_values(-1))
    member = np.eye(place.max() + 1)[place]
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
    weights = [weight for weight, _ in terms]
    if any(table.empty for _, table in terms):
        return Estimate(untested="an arm has no answers")
    tables, gone = _complete([table for _, table in terms])
    seeds = min((len(table) for table in tables if not _is_untrained(table)), default=0)
    problems = tables[0].shape[1]
    clusters = tables[0].columns.get_level_values(-1).nunique()
    found = Estimate(seeds=seeds, problems=problems, clusters=clusters, left_out=gone)
    if not min(map(len, tables)) or not problems:
        return replace(found, untested="the arms have no answered problem in common")
    found = replace(found, value=sum(w * t.to_numpy().mean() for w, t in zip(weights, tables)))
    if seeds < 2:
        return replace(found, untested="an arm has a single seed")
    if clusters < 2:
        return replace(found, untested="all problems come from one snippet")
    return _with_errors(found, terms, tables)


def _with_errors(found, terms, tables):
    """The estimate with its error, interval and p values: the formulas of `contrast`."""
    blocks, paired, alone = _blocks([weight for weight, _ in terms], tables)
    member, clusters = _groups_of(tables[0].columns)
    by_problem = np.sum([block.mean(axis=0) for block in blocks], axis=0)
    value = by_problem.mean()
    sums = (by_problem - value) @ member
    v_problem = clusters / (clusters - 1) * (sums**2).sum() / len(by_problem) ** 2
    seeded = [block for block in blocks if len(block) > 1]
    both = np.array([_seed_and_rest(block, member, clusters) for block in seeded])
    v_seed, v_rest = both.sum(axis=0)
    by_seeds = max(0.0, v_seed - v_rest)
    variance = v_problem + by_seeds
    found = replace(found, value=value, paired=paired, seeds=min(map(len, seeded)))
    found = replace(
        found,
        left_out="; ".join(filter(None, (found.left_out, alone))),
        components=_components(terms, found, v_problem, by_seeds, v_rest),
    )
    # Satterthwaite: a row per block, V_seed and V_rest.
    df = clusters - 1
    if by_seeds:
        free = np.array([[len(block) - 1] for block in seeded]) * [1, clusters - 1]
        df = variance**2 / (v_problem**2 / (clusters - 1) + (both**2 / free).sum())
    return found.with_error(np.sqrt(variance), df)


def _components(terms, found, v_problem, by_seeds, v_rest):
    """The variances of the mean as those of one seed and one problem; the noise of samples apart.

    The noise is known for pass@1: n samples with the share v right have v (1 - v) / (n - 1).
    """
    trained = [(weight, table) for weight, table in terms if not _is_untrained(table)]
    samples = min(table.attrs.get("samples", 1) for _, table in trained)
    rest = v_rest * found.seeds * found.problems
    noise = 0.0
    if samples > 1:
        scatter = [w**2 * np.nanmean(table * (1 - table)) for w, table in trained]
        noise = sum(scatter) * samples / (samples - 1)
        rest = max(0.0, rest - noise / samples)
    problem = max(0.0, v_problem - v_rest) * found.problems
    return Components(problem, by_seeds * found.seeds, rest, noise)


def variance_ratio(a: pd.DataFrame, b: pd.DataFrame, seed: int = 0) -> Estimate:
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
        seed: of the draws.
    Returns:
        The ratio (0 to inf; median of the draws), its interval and p values (1: no effect); the
        seeds of the arm that has fewer.
    Source: Weerahandi 1993 (generalized intervals); paper, fig. 13 (the comparison).
    """
    if a.empty or b.empty:
        return Estimate(untested="an arm has no answers")
    tables, gone = _complete([a, b])
    columns = tables[0].columns
    count = columns.get_level_values(-1).nunique()
    seeds = min(map(len, tables))
    found = Estimate(seeds=seeds, problems=len(columns), clusters=count, left_out=gone)
    if seeds < 2 or count < 2:
        return replace(found, untested="fewer than two seeds or snippets have answers in both arms")
    member, clusters = _groups_of(columns)
    rng = np.random.default_rng(seed)
    own = []
    for table in tables:
        block = table.to_numpy()
        free = len(block) - 1
        v, r = len(block) * np.array(_seed_and_rest(block, member, clusters))
        by_seed = v * free / rng.chisquare(free, DRAWS)
        by_rest = r * free * (clusters - 1) / rng.chisquare(free * (clusters - 1), DRAWS)
        own.append(np.maximum(0, by_seed - by_rest))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = own[0] / own[1]
    known = ~np.isnan(ratio)
    if not known.any():
        return replace(found, untested="no arm's seeds differ by more than the rest")
    return replace(
        found,
        value=np.quantile(ratio[known], 0.5, method="lower"),
        low=np.quantile(np.where(known, ratio, 0), 0.025, method="lower"),
        high=np.quantile(np.where(known, ratio, np.inf), 0.975, method="higher"),
        supports=1 - (ratio > 1).sum() / (DRAWS + 1),
        opposes=1 - (ratio < 1).sum() / (DRAWS + 1),
    )
