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
# Of snippets with a turn, for F2 (our choice).
SNIPPETS = 5
# Draws of its bootstrap (our choice).
RESAMPLES = 2000
# Two-sided level of a verdict, after Holm (our choice, as is usual).
ALPHA = 0.05
# Arms are alike if they differ by less than this share of what one of them gained (our choice).
MARGIN = 1 / 3


@dataclass(frozen=True)
class Effect(Estimate):
    """A comparison of the board: an effect, its 95% interval, and how sure it is.

    Args:
        value: the effect; NaN if there is none.
        low, high: of the 95% interval, before any correction.
        supports: one-sided p value for the claim.
        opposes: one-sided p value against it.
        seeds: of the arm that has fewer.
        problems: that are compared; of F2 turns, of `trained` 0, because it has none.
        null: the value if there is no effect.
        smallest: the smallest effect that 80% of such studies find.
        untested: why there is no test; empty if there is one.
        left_out: which problems and seeds are not in it, and why.
    Source: our choice.
    """

    null: float = 0.0
    smallest: float = np.nan

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
    smallest = detectable(found.standard_error, found.df)
    judged = {"smallest": smallest, "untested": _scarce(found, seeds, problems)}
    return Effect(**vars(found) | judged | more)


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
        a - b (-1 to 1) with its interval, for which 0 is no difference.
    Source: Schuirmann 1987 (two one-sided tests); the margin is our choice.
    """
    # A weight of 0 keeps all four sums on the same problems and seeds.
    difference, gain, short, ahead = (
        contrast([*zip(weights, (a, b, untrained))])
        for weights in ((1, -1, 0), (0, 1, -1), (1, MARGIN - 1, -MARGIN), (1, -MARGIN - 1, MARGIN))
    )
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
    found = Estimate(one.mean() - two.mean(), seeds=seeds, left_out=left_out)
    if seeds > 1:
        test = stats.ttest_rel(one, two) if paired else stats.ttest_ind(one, two, equal_var=False)
        low, high = test.confidence_interval()
        found = found.with_error((high - low) / 2 / stats.t.ppf(0.975, test.df), test.df)
    return _effect_of(found, problems=0)


def difficulty_steering(turns: pd.DataFrame, draws: pd.DataFrame, wish: str) -> Effect:
    """F2: how much more the pass rate moves where the teacher was asked for `wish`.

    A turn asked for harder follows one with a high pass rate, so it falls by chance too. So the
    control are independent draws that followed one of their snippet with a pass rate within the
    range from which the wish was made. The effect is the difference of the mean changes, in the
    wish's direction. Turns of a snippet are alike, so the bootstrap draws the N snippets anew, each
    with all its turns of both kinds. The deviation of the resamples times sqrt(N / (N - 1)) is the
    standard error. Student's t has one degree less than the snippets of the kind that has fewer.

    Args:
        turns: teacher.turn_changes.
        draws: the same of the method `single`.
        wish: harder (pass rates should fall) or easier (rise).
    Returns:
        How much more the rates moved (-2 to 2); `seeds` counts snippets, `problems` turns, of the
        kind that has fewer. It is tested with SNIPPETS snippets of each kind.
    Source: paper, figs. 1 and 2 (the claim); the control and the test are our choice.
    """
    asked = turns[turns.asked == wish]
    control = draws[draws.before.between(asked.before.min(), asked.before.max())]
    # Snippets x (sum and number of the asked, sum and number of the control).
    parts = [part.groupby("seed_id").change.agg(["sum", "count"]) for part in (asked, control)]
    turns = min(int(part["count"].sum()) for part in parts)
    found = Estimate(seeds=min(map(len, parts)), problems=turns)
    if not found.seeds:
        return _effect_of(replace(found, untested="no turn to compare"))
    totals = pd.concat(parts, axis=1).fillna(0).to_numpy()
    count = len(totals)
    # All snippets, then the bootstrap: as many again, drawn with replacement.
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    sums = np.vstack([np.ones(count), drawn]) @ totals
    sums = sums[(sums[:, [1, 3]] > 0).all(axis=1)]
    moved = sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]
    moved *= -1 if wish == "harder" else 1
    error = moved[1:].std() * np.sqrt(count / max(1, count - 1))
    found = replace(found, value=moved[0]).with_error(error, found.seeds - 1)
    return _effect_of(found, seeds=SNIPPETS, problems=0)


def multi_turn_yield(yields: pd.DataFrame, over: float) -> Effect:
    """F1: the share of problems kept by multi-turn over that of single-turn, at equal budget.

    The logarithm is taken for normal on either side of the ratio, with the width that the interval
    has there: a p value is below 0.025 just where the interval ends on that side of `over`.

    Args:
        yields: yields.yield_table.
        over: what the ratio must be above; the paper says 4.
    Returns:
        The ratio against `over`; not tested without an interval.
    Source: paper, sec. 4.2 (the ratio); the test is our choice.
    """
    both = yields.set_index("environment").reindex(["all"]).iloc[0]
    seeds, *kept = both[["seeds", "multi_kept", "single_kept"]].fillna(0).astype(int)
    found = Effect(both.ratio, both.low, both.high, seeds=seeds, problems=min(kept), null=over)
    if not np.isfinite(found.value) or np.isnan(found.low):
        return replace(found, untested="no ratio with an interval")
    tiny = 1e-9
    middle, low, high = np.log(np.maximum([found.value, found.low, found.high], tiny))
    distance = middle - np.log(over)
    down, up = np.maximum([middle - low, high - middle], tiny) / stats.norm.ppf(0.975)
    return replace(
        found,
        supports=stats.norm.sf(distance / down),
        opposes=stats.norm.cdf(distance / up),
        smallest=over * np.exp(detectable(down, 1e6)),
    )
