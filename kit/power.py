"""What a study can find before it is run: smallest effects of `contrasts` with 80% power."""

from typing import NamedTuple

import numpy as np
from scipy import special, stats

# The share of the studies that find the smallest effect (our choice, as is usual).
POWER = 0.8


class Components(NamedTuple):
    """The variances of a contrast of arms with one seed each, on one problem.

    With S seeds an arm and P problems the contrast has the variance
    problem / P + seed / S + rest / (S P).

    Args:
        problem: how much the true contrast differs between problems (score squared, as all).
        seed: how much it differs between seeds.
        rest: between seeds within a problem, beyond the two; with the noise of sampled answers.
    Source: Searle, Casella and McCulloch 1992, Variance Components.
    """

    problem: float = np.nan
    seed: float = np.nan
    rest: float = np.nan

    def variance(self, seeds: int, problems: int) -> float:
        """The sum above, with so many seeds an arm and problems."""
        return self.problem / problems + self.seed / seeds + self.rest / (seeds * problems)


def detectable(error: float, df: float, alpha: float = 0.05) -> float:
    """The true effect that a two-sided t test finds with the power POWER.

    The statistic of an effect of x standard errors has noncentral t with noncentrality x.

    Args:
        error: standard error of the effect.
        df: degrees of freedom.
        alpha: level of the test.
    Returns:
        The effect, in the units of the error.
    Source: the power of 80% is our choice.
    """
    return error * float(special.nctdtrinc(df, 1 - POWER, stats.t.ppf(1 - alpha / 2, df)))


def smallest_effect(components: Components, seeds: int, problems: int, alpha: float) -> float:
    """The smallest true difference of two arms that 80% of the studies of a size find.

    V_problem, V_seed, V_rest and their degrees of freedom are as in `contrasts.contrast`, with the
    values that the components lead to.

    Args:
        components: of the contrast; the test is one of arms that share no seed.
        seeds: S, of each of two arms.
        problems: P.
        alpha: two-sided level of the test; the board's divided by its comparisons is safe.
    Returns:
        The effect (score, 0 to 1).
    Source: Satterthwaite 1946; the power of 80% is our choice.
    """
    v_rest = components.rest / (seeds * problems)
    v_problem = components.problem / problems + v_rest
    v_seed = components.seed / seeds + v_rest
    variance = v_problem + v_seed - v_rest
    df = float(problems - 1)
    if components.seed:
        squares = v_problem**2 + (v_seed**2 * df + v_rest**2) / (2 * (seeds - 1))
        df *= variance**2 / squares
    return detectable(np.sqrt(variance), df, alpha)


def smallest_ratio(seeds: int, alpha: float = 0.05) -> float:
    """The smallest ratio of variances that 80% of the studies find, if seeds are all that varies.

    Args:
        seeds: S, of each of two arms.
        alpha: two-sided level of the test.
    Returns:
        The ratio, above 1, by F with S - 1 and S - 1 degrees of freedom; NaN for one seed.
    Source: our choice.
    """
    quantile, power = stats.f.ppf([1 - alpha / 2, 1 - POWER], seeds - 1, seeds - 1)
    return float(quantile / power)
