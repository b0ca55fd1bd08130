"""What the paper claims, which arms of a study test it, and a verdict by rules that were written before any data was looked at.

The data of a study are scores: one row per arm, seed of training, and problem, as `evaluation.evaluate` gives them after training
(columns arm, seed, set, problem_id, n, solved, greedy). Two arms answer the same problems, so they are compared problem by problem; problems
and seeds are both drawn anew in the bootstrap, because a claim is about other problems and other seeds than these.
"""
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from kit.evaluation import pass_at_k

# The fewest for which a claim counts as tested (our choice). Of 3 seeds an arm the intervals are wide, of 30 problems too.
SEEDS, PROBLEMS, SEEDS_FOR_SPREAD = 3, 30, 8
VERDICTS = ("supported", "contradicted", "undecided", "not tested at this scale")


@dataclass(frozen=True)
class Effect:
    """A difference or a ratio with its 95% interval; `null` is its value if there is no effect."""
    value: float
    low: float
    high: float
    seeds: int                                       # of the arm that has fewer
    problems: int
    null: float = 0.0
    enough_seeds: int = SEEDS

    @property
    def verdict(self) -> str:
        """The rule: tested with at least SEEDS seeds an arm and PROBLEMS problems; then the interval must exclude `null`."""
        if self.seeds < self.enough_seeds or self.problems < PROBLEMS:
            return "not tested at this scale"
        return "supported" if self.low > self.null else "contradicted" if self.high < self.null else "undecided"


def matrix(scores: pd.DataFrame, arm: str, name: str, mode: str = "sampled", k: int = 1) -> pd.DataFrame:
    """Scores of one arm on one set: a row per seed, a column per problem; pass@k, or 0 and 1 for greedy. Lost ones are NaN."""
    mine = scores[(scores.arm == arm) & (scores["set"] == name)]
    value = mine.greedy if mode == "greedy" else [pass_at_k(int(x.n), int(x.solved), k) for x in mine.itertuples()]
    return mine.assign(value=value).pivot(index="seed", columns="problem_id", values="value")


def difference(a: pd.DataFrame, b: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> Effect:
    """Mean of a minus mean of b over the problems that every seed of both has (two results of `matrix`).

    The bootstrap draws problems, the same for both arms, and the seeds of each arm. A few seeds drawn from a few are too alike: the
    interval is widened by S / (S - 1) and Student's t, S the fewer seeds (our choice; tests/test_findings.py measures its errors)."""
    both = pd.concat([a, b], keys=["a", "b"]).dropna(axis=1)
    one, two = (both.loc[key].to_numpy() if key in both.index.get_level_values(0) else np.empty((0, 0)) for key in "ab")
    fewest, problems = min(len(one), len(two)), both.shape[1]
    if not (fewest and problems):
        return Effect(np.nan, np.nan, np.nan, fewest, problems)
    value, rng = one.mean() - two.mean(), np.random.default_rng(seed)
    drawn = rng.multinomial(problems, np.full(problems, 1 / problems), resamples) / problems
    means = [((rng.multinomial(len(x), np.full(len(x), 1 / len(x)), resamples) / len(x)) @ x * drawn).sum(axis=1) for x in (one, two)]
    wide = np.sqrt(fewest / (fewest - 1)) * stats.t.ppf(0.975, len(one) + len(two) - 2) / 1.96 if fewest > 1 else np.inf
    low, high = np.quantile(means[0] - means[1] - value, [0.025, 0.975]) if fewest > 1 else (-1, 1)
    return Effect(value, value + wide * low, value + wide * high, fewest, problems)


def spread(a: pd.DataFrame, b: pd.DataFrame) -> Effect:
    """Variance between the seeds of a over that of b, of their mean scores; the interval takes these for normal (F distribution)."""
    one, two = (x.dropna(axis=1).mean(axis=1).to_numpy() for x in (a, b))
    fewest, problems = min(len(one), len(two)), min(a.dropna(axis=1).shape[1], b.dropna(axis=1).shape[1])
    if fewest < 2 or not two.var(ddof=1):
        return Effect(np.nan, np.nan, np.nan, fewest, problems, 1.0, SEEDS_FOR_SPREAD)
    ratio = one.var(ddof=1) / two.var(ddof=1)
    low, high = (ratio / stats.f.ppf(q, len(one) - 1, len(two) - 1) for q in (0.975, 0.025))
    return Effect(ratio, low, high, fewest, problems, 1.0, SEEDS_FOR_SPREAD)
