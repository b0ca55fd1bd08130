"""The statistics that several stages use, and their numbers in words.

Pass@k, two intervals, Holm's correction.
"""

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest


@cache
def wilson_interval(solved: int, n: int) -> tuple[float, float]:
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
    if not n:
        return math.nan, math.nan
    low, high = binomtest(solved, n).proportion_ci(method="wilson")
    return float(low), float(high)


@cache
def pass_at_k(n: int, c: int, k: int) -> float:
    """pass@k: the chance that k of n samples, c of them right, hold a right one.

    1 - C(n - c, k) / C(n, k): unbiased for the chance that one of k new samples is right.

    Args:
        n: graded samples.
        c: right ones among them.
        k: samples to draw without replacement.
    Returns:
        The chance, 0 to 1; NaN if fewer than k samples were graded.
    Raises:
        ValueError: impossible counts.
    Source: Chen et al. 2021; the paper reports pass@1, pass@5 and pass@10.
    """
    if not 0 <= c <= n or k < 1:
        raise ValueError(
            f"pass@{k} of {c} right among {n} samples: 0 <= c <= n and k >= 1 are needed"
        )
    return float("nan") if n < k else float(1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)))


def mean_interval(
    values, resamples: int = 2000, seed: int = 0, bounds=(0, 1), clusters=None
) -> tuple[float, float, float]:
    """A mean with its 95% interval: percentile bootstrap over the values, one for each problem.

    With clusters whole ones are drawn: values of one cluster are no independent draws. Equal values
    have no spread to resample. Then the interval goes as far from them as the mean can be if other
    values are so rare that n of them (n clusters) fail to show one in 2.5% of cases
    (Clopper-Pearson for none of n). NaN are left out.

    Args:
        values: N numbers.
        resamples, seed: of the bootstrap.
        bounds: the lowest and highest value that there can be.
        clusters: N names; None: each value is its own.
    Returns:
        Mean, low, high; three NaN for no values.
    Source: our choice; Cameron, Gelbach and Miller 2008 (draws of whole clusters).
    """
    frame = pd.DataFrame({"value": np.asarray(values, dtype=float)})
    frame["cluster"] = range(len(frame)) if clusters is None else np.asarray(clusters)
    parts = frame.dropna(subset="value").groupby("cluster", sort=False).value
    sums, sizes = parts.sum().to_numpy(), parts.size().to_numpy()
    n = len(sums)
    if not n:
        return np.nan, np.nan, np.nan
    means = sums / sizes
    if (means == means[0]).all():
        mean = means[0]
        low, high = mean + (1 - 0.025 ** (1 / n)) * (np.array(bounds) - mean)
    else:
        mean = sums.sum() / sizes.sum()
        drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
        low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
    return float(mean), float(low), float(high)


def holm(p_values: Iterable[float]) -> np.ndarray:
    """p values corrected for their number: the chance of any false verdict stays below the level.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none is below one before it.

    Args:
        p_values: two-sided, one per comparison; NaN was not tested and does not count.
    Returns:
        As many, at most 1, in the same order.
    Source: Holm 1979.
    """
    p = np.array(list(p_values), dtype=float)
    order = np.argsort(p)[: np.isfinite(p).sum()]
    steps = p[order] * np.arange(len(order), 0, -1)
    p[order] = np.minimum(1, np.maximum.accumulate(steps))
    return p


# ------------------------------------------------------------------ in words


def moved(value: float, low: float, high: float) -> str:
    """A change with its 95% interval in words: only an interval without 0 has a direction."""
    if low > 0 or high < 0:
        least, most = sorted(map(abs, (low, high)))
        way = "rose" if low > 0 else "fell"
        return f"{way} by {abs(value):.2f}, 95% [{least:.2f}, {most:.2f}]"
    return f"moved by {value:+.2f}, 95% [{low:+.2f}, {high:+.2f}], which may be chance"


def value_in_interval(row: Any, form: str = ".2f") -> str:
    """A row's value with its 95% interval, each in that format; a dash for no value."""
    if pd.isna(row.value):
        return "–"
    return f"{row.value:{form}} [{row.low:{form}}, {row.high:{form}}]"
