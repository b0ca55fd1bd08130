"""What is compared on the claim board, and the verdict on it (notebook 07).

All differences and ratios come from `contrasts`. A claim is judged by p values, so that the board
can correct them for the number of its comparisons (`core.stats.holm`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from kit.contrasts import PAIRS, Estimate, contrast, variance_ratio
from kit.power import detectable, smallest_ratio

# The fewest for which a claim counts as tested (our choice): of an arm's seeds and of problems.
SEEDS = 3
PROBLEMS = 30
SEEDS_FOR_SPREAD = 8
# Of snippets with a turn, for `steering` (our choice).
SNIPPETS = 5
# Draws of its bootstrap (our choice).
RESAMPLES = 2000
# Two-sided level of a verdict, after Holm (our choice, as is usual).
ALPHA = 0.05
# Arms are alike if they differ by less than this share of what one of them gained (our choice).
MARGIN = 1 / 3


@dataclass(frozen=True)
class Effect:
    """A comparison of the board: an effect, its 95% interval, and how sure it is.

    Args:
        value: the effect; NaN if there is none.
        low, high: of the 95% interval, before any correction.
        supports: one-sided p value for the claim.
        opposes: one-sided p value against it.
        seeds: of the arm that has fewer.
        problems: that are compared; of `steering` turns, of `trained` 0, because it has none.
        null: the value if there is no effect.
        smallest: the smallest effect that 80% of such studies find.
        untested: why there is no test; empty if there is one.
        left_out: which problems and seeds are not in it, and why.
        margin: of `alike`: how far apart two arms may be, in points of the score.
    Source: our choice.
    """

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    supports: float = np.nan
    opposes: float = np.nan
    seeds: int = 0
    problems: int = 0
    null: float = 0.0
    smallest: float = np.nan
    untested: str = ""
    left_out: str = ""
    margin: float = 0.0

    def __str__(self):
        if self.untested:
            return f"{self.verdict()}: {self.untested}"
        interval = f"95% interval [{self.low:.2f}, {self.high:.2f}]"
        p = f"= {self.p:.2g}" if self.p >= 0.001 else "< 0.001"
        return f"{self.value:.2f}, {interval}, p {p}: {self.verdict()}"

    @property
    def p(self) -> float:
        """Two-sided p value; NaN for what is not tested, as `core.stats.holm` wants it."""
        smaller = np.nan if self.untested else min(self.supports, self.opposes)
        return float(np.minimum(1, 2 * smaller))

    def verdict(self, p: float | None = None) -> str:
        """What the data say of the claim: one of claims.VERDICTS.

        Args:
            p: the two-sided p value after Holm; without it, its own.
        Returns:
            Not tested, if `untested` says why or there is no p value. Supported or contradicted if
            p is at most ALPHA, by the side with the smaller p value. Else undecided.
        Source: our choice.
        """
        p = self.p if p is None else p
        if self.untested or np.isnan(p):
            return "not tested at this scale"
        if p > ALPHA:
            return "undecided"
        return "supported" if self.supports < self.opposes else "contradicted"


def _scarce(found, seeds, problems):
    """Why an estimate is not tested: its own reason, or too few seeds or problems."""
    if found.untested:
        return found.untested
    if found.seeds < seeds:
        return f"{found.seeds} seeds, {seeds} are needed"
    if found.problems < problems:
        return f"{found.problems} problems in common, {problems} are needed"
    return ""


def _effect_of(found: Estimate, seeds=SEEDS, problems=PROBLEMS, **more):
    """The effect that an estimate is; `more` replaces fields."""
    names = ("value", "low", "high", "supports", "opposes", "seeds", "problems", "left_out")
    fields = {name: getattr(found, name) for name in names}
    untested = _scarce(found, seeds, problems)
    return Effect(**{**fields, "smallest": found.smallest(), "untested": untested, **more})


def better(a: pd.DataFrame, b: pd.DataFrame, *than: pd.DataFrame) -> Effect:
    """Arm a beats arm b: mean of a - mean of b; with two more arms, by more than c beats d.

    Args:
        a: S_a seeds x problems, of `contrasts.score_table`.
        b: of the other arm, S_b seeds.
        than: of c and of d.
    Returns:
        The difference (-1 to 1), or (a - b) - (c - d), from -2 to 2. It is tested with SEEDS
        seeds and PROBLEMS problems.
    Source: our choice; `contrasts.contrast` has the formulas.
    """
    return _effect_of(contrast([*zip((1, -1, -1, 1), (a, b, *than))]))


def alike(a: pd.DataFrame, b: pd.DataFrame, untrained: pd.DataFrame) -> Effect:
    """Arm a does about as well as arm b, measured by what b gained over the untrained policy u.

    Two one-sided tests, each a weighted sum of the three arms, so that the margin's own error
    counts too:

        a - b + MARGIN (b - u) > 0        a does not fall short
        a - b - MARGIN (b - u) < 0        a is not ahead

    Supported if both hold (the larger p value), contradicted if one is reversed (the smaller p
    value of the reverses). Positive control: b must beat u, else there is no gain to measure by and
    nothing is tested; two policies that learned nothing are not alike in this sense.

    Args:
        a: S_a seeds x problems, of `contrasts.score_table`.
        b: of the reference arm, S_b seeds.
        untrained: 1 x problems.
    Returns:
        a - b (-1 to 1) with its interval, for which 0 is no difference; `margin` is MARGIN times
        the gain of b.
    Source: Schuirmann 1987 (two one-sided tests); the margin is our choice.
    """
    # A weight of 0 keeps all four sums on the same problems and seeds.
    difference = contrast([(1, a), (-1, b), (0, untrained)])
    gain = contrast([(0, a), (1, b), (-1, untrained)])
    short = contrast([(1, a), (MARGIN - 1, b), (-MARGIN, untrained)])
    ahead = contrast([(1, a), (-MARGIN - 1, b), (MARGIN, untrained)])
    untested = _scarce(gain, SEEDS, PROBLEMS) or short.untested or ahead.untested
    if not untested and gain.supports > ALPHA / 2:
        untested = (
            f"the arm to compare with does not beat the untrained policy: gain {gain.value:+.2f}, "
            f"95% interval [{gain.low:+.2f}, {gain.high:+.2f}]"
        )
    return _effect_of(
        difference,
        supports=max(short.supports, ahead.opposes),
        opposes=min(short.opposes, ahead.supports),
        untested=untested,
        margin=MARGIN * gain.value,
    )


def spread(a: pd.DataFrame, b: pd.DataFrame) -> Effect:
    """The seeds of a differ more than those of b: the ratio of their variances beyond the noise.

    Args:
        a: S_a seeds x problems, of `contrasts.score_table`.
        b: of the other arm, S_b seeds.
    Returns:
        The ratio (0 to inf), 1 for no effect. It is tested with SEEDS_FOR_SPREAD seeds and
        PROBLEMS problems.
    Source: paper, fig. 13 (hard first varies more); `contrasts.variance_ratio` has the formulas.
    """
    found = variance_ratio(a, b)
    smallest = smallest_ratio(found.seeds)
    return _effect_of(found, seeds=SEEDS_FOR_SPREAD, null=1.0, smallest=smallest)


def late_rates(curves: pd.DataFrame, bins: Iterable[str]) -> pd.Series:
    """Solve rate of each training in the second half of its steps, on the problems of some bins.

    The rate of a step is the mean over the bins that it logged, that of a training over its steps.

    Args:
        curves: one row per arm, seed and step: columns `arm`, `seed`, `step`, `solved/<bin>`.
        bins: which problems.
    Returns:
        The rates (0 to 1) by `arm` and `seed`.
    Source: our choice.
    """
    last = curves.groupby(["arm", "seed"]).step.transform("max")
    rates = curves.reindex(columns=[f"solved/{name}" for name in bins]).mean(axis=1)
    late = curves.assign(solved=rates)[curves.step > last / 2].dropna(subset="solved")
    return late.groupby(["arm", "seed"]).solved.mean()


def trained(curves: pd.DataFrame, a: str, b: str, bins: Iterable[str]) -> Effect:
    """Solve rate in the second half of training on the problems of some bins: a minus b.

    Arms train on different problems, so only seeds are drawn from more: Student's t over the seeds'
    differences where at least PAIRS seeds are shared, else Welch's over the seeds of each arm.

    Args:
        curves: as `late_rates` takes them.
        a: one arm.
        b: the other arm.
        bins: which problems.
    Returns:
        The difference (-1 to 1). It is tested with SEEDS seeds.
    Source: paper, figs. 9, 10 and 20-22 (training solve rates); the measure is our choice.
    """
    late = late_rates(curves, bins)
    one, two = (late[late.index.get_level_values("arm") == arm].droplevel("arm") for arm in (a, b))
    shared = one.index.intersection(two.index)
    paired = len(shared) >= PAIRS
    left_out = ""
    if paired:
        alone = one.index.symmetric_difference(two.index)
        left_out = f"seeds that not both arms have: {list(alone)}" if len(alone) else ""
        one, two = one[shared], two[shared]
    seeds = min(len(one), len(two))
    found = Estimate(one.mean() - two.mean(), seeds=seeds, paired=paired, left_out=left_out)
    if seeds < 2:
        return _effect_of(replace(found, untested="fewer than two seeds an arm"))
    if paired:
        error = (one - two).std() / np.sqrt(seeds)
        df = seeds - 1
    else:
        parts = np.array([arm.var() / len(arm) for arm in (one, two)])
        error = np.sqrt(parts.sum())
        df = error**4 / (parts**2 / [len(one) - 1, len(two) - 1]).sum() if error else 0
    return _effect_of(found.with_error(error, df), problems=0)


def steering(asked: pd.DataFrame, control: pd.DataFrame, wish: str = "harder") -> Effect:
    """The teacher follows a wish: pass rates move that way more than in independent draws.

    A turn asked for harder follows one with a high pass rate, so it falls by chance too; the
    control is what falls by chance alone. The effect is the difference of the mean changes, in the
    wish's direction. Turns of a snippet are alike, so the bootstrap draws the N snippets anew, each
    with all its turns of both kinds. The deviation of the resamples times sqrt(N / (N - 1)) is the
    standard error. Student's t has one degree less than the snippets of the kind that has fewer.

    Args:
        asked: one row per turn with that wish: columns `seed_id` (its snippet), `change` (pass rate
            after minus before, -1 to 1).
        control: one row per independent draw, the same columns.
        wish: harder (pass rates should fall) or easier (rise).
    Returns:
        How much more the rates moved (-2 to 2); `seeds` counts snippets, `problems` turns, of the
        kind that has fewer. It is tested with SNIPPETS snippets of each kind.
    Source: paper, figs. 1 and 2 (the claim); the control and the test are our choice.
    """
    kinds = [part.dropna(subset="change").groupby("seed_id").change for part in (asked, control)]
    turns = min(int(kind.count().sum()) for kind in kinds)
    snippets = min(map(len, kinds))
    found = Estimate(seeds=snippets, problems=turns)
    if not snippets:
        return _effect_of(replace(found, untested="no turn to compare"))
    sign = -1 if wish == "harder" else 1
    # Snippets x (sum and number of the asked, sum and number of the control).
    parts = [kind.agg(["sum", "count"]) for kind in kinds]
    totals = pd.concat(parts, axis=1).fillna(0).to_numpy()
    count = len(totals)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES) @ totals
    drawn = drawn[(drawn[:, [1, 3]] > 0).all(axis=1)]
    value, *moved = (
        sign * (row[0] / row[1] - row[2] / row[3]) for row in [totals.sum(axis=0), *drawn]
    )
    error = np.std(moved) * np.sqrt(count / max(1, count - 1))
    found = replace(found, value=value).with_error(error, snippets - 1)
    return _effect_of(found, seeds=SNIPPETS, problems=0)


def ratio_effect(
    value: float, low: float, high: float, null: float, seeds: int, problems: int
) -> Effect:
    """A ratio that has its interval already, such as that of `yields.yield_table`, against `null`.

    The logarithm is taken for normal on either side of the ratio, with the width that the interval
    has there: a p value is below 0.025 just where the interval ends on that side of `null`.

    Args:
        value: the ratio, 0 to inf.
        low: of its 95% interval.
        high: of its 95% interval.
        null: what the claim says that the ratio is above.
        seeds: for the board.
        problems: for the board.
    Returns:
        The effect; not tested without an interval.
    Source: our choice.
    """
    if not np.isfinite(value) or np.isnan(low):
        untested = "no ratio with an interval"
        return Effect(
            value, low, high, seeds=seeds, problems=problems, null=null, untested=untested
        )
    tiny = 1e-9
    with np.errstate(divide="ignore"):
        middle, under, over = np.log(np.maximum([value, low, high], tiny))
        distance = middle - np.log(null)
        down, up = np.maximum([middle - under, over - middle], tiny) / stats.norm.ppf(0.975)
    return Effect(
        value,
        low,
        high,
        stats.norm.sf(distance / down),
        stats.norm.cdf(distance / up),
        seeds,
        problems,
        null,
        null * np.exp(detectable(down, 1e6)),
    )
