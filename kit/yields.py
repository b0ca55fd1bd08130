"""How many problems survive the filters, and what a method makes of a budget (notebook 03)."""

from collections import Counter

import numpy as np
import pandas as pd

from kit.core.config import FiltersConfig
from kit.core.types import Problem
from kit.filters import INFRASTRUCTURE, REASONS, Behaviour, apply


def sensitivity_table(
    problems: list[Problem],
    filters: FiltersConfig,
    evaluation: dict[str, list[str]],
    behaviour: Behaviour,
) -> pd.DataFrame:
    """How much our choices decide: one choice at a time is changed, the others stay as they are.

    Args:
        problems: before the filters, at least one of multi- or single-turn generation.
        filters: the profile's section.
        evaluation: the texts of each evaluation set, by its name.
        behaviour: of these problems.
    Returns:
        One row per setting: columns `choice`, `setting`, `chosen` (it is the profile's),
        `duplicate`, `contaminated`, `kept` (problems) and `ratio` (F1's kept share, multi /
        single).
    Source: our choice.
    """
    grid: dict[str, set] = {
        "similarity": {0.7, 0.85, 0.95, filters.similarity},
        "contamination_ngram": {10, 20, 30, filters.contamination_ngram},
        "behaviour": {"off", "on"},
    }
    rows = []
    for choice, setting in [(name, x) for name, values in grid.items() for x in sorted(values)]:
        # A copy with this one choice changed; `behaviour` is no field of the profile.
        changed = filters
        if choice != "behaviour":
            changed = filters.model_copy(update={choice: setting})
        chosen = setting in (getattr(filters, choice, None), "on")
        acts = Behaviour() if setting == "off" else behaviour
        found = apply(problems, changed, evaluation, acts)
        counts = Counter(problem.dropped_by or "kept" for problem in found)
        # Without problems of either method there is no row.
        ratio = next(iter(yield_table(found, resamples=1).ratio[::-1]), np.nan)
        outcome = [counts[name] for name in ("duplicate", "contaminated", "kept")]
        rows.append((choice, str(setting), chosen, *outcome, ratio))
    columns = "choice setting chosen duplicate contaminated kept ratio".split()
    return pd.DataFrame(rows, columns=columns)


def funnel_table(problems: list[Problem]) -> pd.DataFrame:
    """What became of the problems.

    Args:
        problems: filtered problems (`kept` is set).
    Returns:
        One row per method, environment and reason, in the order of REASONS: columns `method`,
        `environment`, `dropped_by` ('kept' for kept), `count`, and `share` (0 to 1) of what that
        method produced in that environment; NaN for INFRASTRUCTURE, which are not part of it.
    Source: our choice.
    """
    keys = ["method", "environment", "dropped_by"]
    rows = [(x.method, x.environment, x.dropped_by or "kept") for x in problems]
    table = pd.DataFrame(rows, columns=keys).astype({"dropped_by": pd.CategoricalDtype(REASONS)})
    out = table.groupby(keys, observed=True).size().reset_index(name="count")
    # Problems lost by our own errors count for and against nobody.
    produced = out["count"].where(~out["dropped_by"].isin(INFRASTRUCTURE))
    out["share"] = produced / produced.groupby([out["method"], out["environment"]]).transform("sum")
    return out.astype({"dropped_by": str, "share": float})


# Two currencies: tokens of the teacher, attempts of the student.
_CURRENCIES = ["tokens", "attempts"]
_COMPARED = ["multi", "single"]


def equal_budget(problems: list[Problem]) -> pd.DataFrame:
    """The bill of multi- and single-turn generation within one budget, a row per problem.

    The budget is counted in teacher tokens and student attempts. Per environment it is the smaller
    of what either method has cost in all, each currency by itself. Each method takes its problems
    in order, first all first turns, then all second ones, until the next would pass one of the two
    limits (our choice). Problems lost by our errors cost nothing here. Where only one method was
    run, nothing is cut.
    """
    columns = "environment seed_id method turn kept".split()
    rows = [
        (*(getattr(x, name) for name in columns), 1, x.teacher_tokens, x.n + x.errors)
        for x in problems
        if x.method in _COMPARED and x.dropped_by not in INFRASTRUCTURE
    ]
    bill = pd.DataFrame(rows, columns=[*columns, "produced", *_CURRENCIES])
    bill = bill.astype(dict.fromkeys(_CURRENCIES, int)).sort_values(["turn", "seed_id"])
    # The budget of each environment: the smaller of the two methods' totals.
    groups = bill.groupby(["environment", "method"])[_CURRENCIES]
    limits = groups.sum().groupby("environment").min()
    # What a method has spent when it has made this problem too.
    inside = groups.cumsum() <= limits.reindex(bill.environment).to_numpy()
    return bill[inside.all(axis=1)]


YIELDS = (
    "environment seeds multi_produced multi_kept multi_share single_produced single_kept "
    "single_share ratio low high multi_tokens single_tokens multi_attempts single_attempts "
    "per_token"
).split()


def yield_table(problems: list[Problem], resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """What each method makes of the same budget (`equal_budget`): finding F1.

    The interval is a percentile bootstrap over seeds, each drawn with the problems of both
    methods. A resample without a ratio (0 / 0) counts as the worst case on either side, so few
    data give a wide interval, up to inf.

    Args:
        problems: filtered problems (`kept` is set).
        resamples: of the bootstrap.
        seed: of its draws.
    Returns:
        One row per environment and for `all`, columns YIELDS: `seeds`; of each method the problems
        it `produced` and `kept`, its `share` (kept / produced, 0 to 1) and what it cost;
        `ratio`: multi's share / single's, with `low` and `high` (95%); `per_token`: the ratio of
        kept problems per teacher token. No interval (NaN) where the ratio is inf (single kept
        nothing) or NaN (neither did, or one was not run), or with under two seeds.
    Source: paper, sec. 4.2 (the ratio is more than 4); budget and bootstrap are our choice.
    """
    rows = equal_budget(problems)
    groups = [*rows.groupby("environment"), ("all", rows)] if len(rows) else []
    return pd.DataFrame(
        [_yield(name, part, resamples, np.random.default_rng(seed)) for name, part in groups],
        columns=YIELDS,
    )


def _yield(name, rows, resamples, rng):
    """One row of `yield_table`."""
    # Of each seed: problems produced and kept, tokens and attempts, each of multi and of single.
    values = ["produced", "kept", *_CURRENCIES]
    by_seed = rows.pivot_table(values, "seed_id", "method", "sum")
    columns = pd.MultiIndex.from_product([values, _COMPARED])
    counts = by_seed.reindex(columns=columns).fillna(0).to_numpy(int)
    seeds = len(counts)
    # All seeds, then the bootstrap: as many seeds again, drawn with replacement.
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    sums = np.vstack([np.ones(seeds, int), drawn]) @ counts
    produced, kept, paid, attempts = sums[0].reshape(4, 2)
    low = high = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = sums[:, 2:4] / sums[:, :2]
        ratios = pd.Series(shares[:, 0] / shares[:, 1])
        if np.isfinite(ratios[0]) and seeds > 1:
            low = ratios[1:].fillna(0).quantile(0.025, "lower")
            high = ratios[1:].fillna(np.inf).quantile(0.975, "lower")
        multi, single = zip(produced, kept, shares[0])
        per_token = np.divide(*kept / paid)
    return (name, seeds, *multi, *single, ratios[0], low, high, *paid, *attempts, per_token)
