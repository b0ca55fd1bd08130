"""Differences of arms with their intervals, and the verdict on each (notebook 07)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from kit.core.stats import pass_at_k

# The fewest for which a claim counts as tested (our choice). With 3 seeds per arm the intervals are
# wide, with 30 problems too.
SEEDS = 3
PROBLEMS = 30
SEEDS_FOR_SPREAD = 8


@dataclass(frozen=True)
class Effect:
    """A difference or a ratio with its 95% interval; a comment above a field explains it.

    Source: our choice (the rule of the verdict and its limits).
    """

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    # Of the arm that has fewer.
    seeds: int = 0
    problems: int = 0
    # The value if there is no effect.
    null: float = 0.0
    enough_seeds: int = SEEDS
    enough_problems: int = PROBLEMS
    # Above 0 the claim is that there is no effect, to within this much.
    alike: float = 0.0

    def __str__(self):
        return (
            f"{self.value:.2f}, 95% interval [{self.low:.2f}, {self.high:.2f}], "
            f"{self.seeds} seeds, n = {self.problems}: {self.verdict}"
        )

    @property
    def verdict(self) -> str:
        """What the data say of the claim: one of VERDICTS.

        Not tested: fewer seeds per arm or fewer problems than `enough_seeds` and `enough_problems`,
        or no value. A claim of an effect: supported if the whole interval is above `null`,
        contradicted if all of it is below. A claim that two arms are alike: supported if the whole
        interval is less than `alike` away from `null`, contradicted if all of it is further away on
        one side. Everything else is undecided.

        Source: our choice.
        """
        few = self.seeds < self.enough_seeds or self.problems < self.enough_problems
        if few or np.isnan(self.value):
            return "not tested at this scale"
        over = self.null + self.alike
        under = self.null - self.alike
        if self.alike:
            supported = self.low > under and self.high < over
            contradicted = self.low > over or self.high < under
        else:
            supported = self.low > self.null
            contradicted = self.high < self.null
        if supported:
            return "supported"
        return "contradicted" if contradicted else "undecided"


def matrix(
    scores: pd.DataFrame, arm: str, name: str, mode: str = "sampled", k: int = 1
) -> pd.DataFrame:
    """The scores of one arm on one set, for `difference` and `spread`.

    `name` is the set. Returns a frame of seeds (index `seed`) x problems (columns, ids): pass@k of
    the samples, or 0 and 1 for the mode greedy. Lost answers are NaN.
    """
    rows = scores[(scores.arm == arm) & (scores["set"] == name)]
    if mode == "greedy":
        value = rows.greedy
    else:
        value = [pass_at_k(int(row.n), int(row.solved), k) for row in rows.itertuples()]
    return rows.assign(value=value).pivot(index="seed", columns="problem_id", values="value")


def arm_difference(
    a: pd.DataFrame, b: pd.DataFrame, resamples: int = 2000, seed: int = 0
) -> Effect:
    """Mean of a minus mean of b, over the problems that every seed of both arms has.

    The interval comes from a bootstrap. A resample draws the P problems anew, the same for both
    arms, and of each arm its seeds; its error is its own difference of means less the observed one.
    The 2.5% and 97.5% quantiles of these errors, times w, are added to the observed difference. A
    few seeds drawn from a few are too alike, therefore w = sqrt(S / (S - 1)) x t / 1.96: S is the
    number of seeds of the arm that has fewer, t the 97.5% quantile of Student's t with
    S_a + S_b - 2 degrees of freedom. tests/test_findings.py measures how often it errs.

    Args:
        a: seeds x problems, scores from 0 to 1, as `matrix` gives them: S_a rows.
        b: of the other arm, S_b rows.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    Returns:
        Difference and interval (-1 to 1; -inf and inf for a single seed), S, and P. Without a
        common problem or without a seed the value is NaN.
    Source: our choice.
    """
    both = pd.concat([a, b], keys=["a", "b"]).dropna(axis=1)
    named = both.index.get_level_values(0)
    one, two = (both.loc[key].to_numpy() if key in named else np.empty((0, 0)) for key in "ab")
    fewest = min(len(one), len(two))
    problems = both.shape[1]
    if not (fewest and problems):
        return Effect(seeds=fewest, problems=problems)
    value = one.mean() - two.mean()
    if fewest < 2:
        return Effect(value, -np.inf, np.inf, fewest, problems)

    # Resamples x problems: the share of each problem in a resample.
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(problems, np.full(problems, 1 / problems), resamples) / problems
    means = []
    for arm in (one, two):
        # Resamples x seeds: the share of each seed.
        seeds = rng.multinomial(len(arm), np.full(len(arm), 1 / len(arm)), resamples) / len(arm)
        means.append((seeds @ arm * drawn).sum(axis=1))
    low, high = np.quantile(means[0] - means[1] - value, [0.025, 0.975])
    student = stats.t.ppf(0.975, len(one) + len(two) - 2)
    wide = np.sqrt(fewest / (fewest - 1)) * student / 1.96
    return Effect(value, value + wide * low, value + wide * high, fewest, problems)


def spread(a: pd.DataFrame, b: pd.DataFrame) -> Effect:
    """The variance between the seeds of a over that between the seeds of b.

    The variance is that of the seeds' mean scores, over the problems that all seeds of the arm have
    (divided by S - 1). The interval takes these means for normal: the ratio over the 97.5% and the
    2.5% quantile of F with S_a - 1 and S_b - 1 degrees of freedom.

    Args:
        a: seeds x problems, scores from 0 to 1, as `matrix` gives them: S_a rows.
        b: of the other arm, S_b rows.
    Returns:
        Ratio and interval, 1 for no effect; the seeds and the problems of the arm that has fewer.
        NaN for fewer than two seeds and for seeds of b that are all alike.
    Source: paper, fig. 13 (hard first varies more); the measure is our choice.
    """
    whole = [scores.dropna(axis=1) for scores in (a, b)]
    one, two = (scores.mean(axis=1).to_numpy() for scores in whole)
    fewest = min(len(one), len(two))
    problems = min(scores.shape[1] for scores in whole)
    if fewest < 2 or not two.var(ddof=1):
        return Effect(seeds=fewest, problems=problems, null=1.0, enough_seeds=SEEDS_FOR_SPREAD)
    ratio = one.var(ddof=1) / two.var(ddof=1)
    low, high = (ratio / stats.f.ppf(q, len(one) - 1, len(two) - 1) for q in (0.975, 0.025))
    return Effect(ratio, low, high, fewest, problems, 1.0, SEEDS_FOR_SPREAD)


def trained(curves: pd.DataFrame, a: str, b: str, bins: Iterable[str]) -> Effect:
    """Solve rate in the second half of training on the problems of some bins: a minus b.

    The rate of a step is the mean over the bins that it logged, that of a seed the mean over its
    steps, that of an arm the mean over its seeds. The interval is Welch's t over the seeds: arms
    that train on other problems have nothing to pair.

    Args:
        curves: one row per arm, seed and step: columns `arm`, `seed`, `step`, `solved/<bin>`.
        a: one arm.
        b: the other arm.
        bins: which problems.
    Returns:
        Difference and interval (-1 to 1); the seeds and, as `problems`, the logged steps of the arm
        that has fewer. NaN for fewer than two seeds.
    Source: paper, figs. 9, 10 and 20-22 (training solve rates); the measure is our choice.
    """
    last = curves.groupby(["arm", "seed"]).step.transform("max")
    rates = curves.reindex(columns=[f"solved/{name}" for name in bins]).mean(axis=1)
    late = curves.assign(solved=rates)[curves.step > last / 2].dropna(subset="solved")
    arms_late = [late[late.arm == arm] for arm in (a, b)]
    one, two = (rows.groupby("seed").solved.mean() for rows in arms_late)
    fewest = min(len(one), len(two))
    steps = min(map(len, arms_late))
    if fewest < 2:
        return Effect(seeds=fewest, problems=steps)
    low, high = stats.ttest_ind(one, two, equal_var=False).confidence_interval()
    return Effect(one.mean() - two.mean(), low, high, fewest, steps)
