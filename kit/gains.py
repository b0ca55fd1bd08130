"""What a training changed: two checkpoints side by side, problem by problem (notebook 06).

Problems that grew from one snippet are no independent draws, so intervals and p values are by
snippet. A gain is split into form (more answers that can be read at all) and skill (more of those
are right).
"""

import numpy as np
import pandas as pd
from scipy.stats import permutation_test

from kit.core.stats import mean_interval
from kit.evaluation import MEAN, by_group, snippets

# Sign patterns that are looked at; all of them where there are no more.
FLIPS = 9999


def paired_scores(before: pd.DataFrame, after: pd.DataFrame, mode: str = "sampled") -> pd.DataFrame:
    """The score of each problem before and after, for problems graded both times.

    Args:
        before: rows of `evaluate` of one checkpoint.
        after: of another one.
        mode: sampled (share of samples solved) or greedy (0 or 1).
    Returns:
        One row per problem: columns `set`, `problem_id`, `group`, `before`, `after` (0 to 1),
        `seed_id` (its snippet; without one its own id).
    Source: our choice.
    """
    key = "set problem_id group seed_id".split()
    rates = []
    for name, frame in (("before", before), ("after", after)):
        # Without a graded sample there is no rate: 0 / 0 is NaN.
        rate = frame["greedy"] if mode == "greedy" else frame["solved"] / frame["n"]
        rates.append(frame.assign(seed_id=snippets(frame), **{name: rate})[[*key, name]])
    return pd.merge(*rates, on=key, validate="1:1").dropna().reset_index(drop=True)


def paired_difference(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """after - before, paired by problem, with intervals and p values by snippet.

    The interval is a bootstrap that draws whole snippets. The p value is of a randomisation test
    with the same clusters: were the training without effect, the summed change of each snippet
    could as well have the other sign. It looks at all patterns of signs, or at FLIPS of them.

    Args:
        before: rows of `evaluate` of one checkpoint.
        after: of another one.
    Returns:
        One row per set, group and mode: columns `set`, `group` (`all`: the whole set), `mode`
        (sampled | greedy), `n` (problems), `snippets`, `up`, `down` (how many problems got better
        and worse), `value` (mean difference, -1 to 1), `low`, `high`, and `p`: two-sided, 1 if
        nothing changed; not corrected for several rows (`core.stats.holm`).
    Source: Fisher 1935 (the randomisation of signs); our choice.
    """
    rows = []
    for mode in ("sampled", "greedy"):
        for key, part in by_group(paired_scores(before, after, mode), ["set"]):
            change = part["after"] - part["before"]
            sums = change.groupby(part["seed_id"], sort=False).sum()
            # With one snippet alone both signs are equally far from 0.
            p = 1.0
            if change.any() and len(sums) > 1:
                p = permutation_test(
                    (sums,), np.sum, permutation_type="samples", n_resamples=FLIPS, rng=0
                ).pvalue
            counts = (len(part), len(sums), (change > 0).sum(), (change < 0).sum())
            mean = mean_interval(change, bounds=(-1, 1), clusters=part["seed_id"])
            rows.append((*key, mode, *counts, *mean, p))
    columns = ["set", "group", "mode", "n", "snippets", "up", "down", *MEAN, "p"]
    return pd.DataFrame(rows, columns=columns)


def form_and_skill(frame: pd.DataFrame) -> pd.DataFrame:
    """A gain, split into form and skill.

    Let s be the share of samples solved, f the share that is well-formed, both means over problems,
    and k = s / f, the solve rate among well-formed answers. Then s = f k, and exactly

        s1 - s0 = (f1 - f0) (k0 + k1) / 2 + (k1 - k0) (f0 + f1) / 2
                  by_form                   by_skill

    A checkpoint without any well-formed answer shows no skill: the other's k stands for its own, so
    the change counts as form.

    Args:
        frame: rows of `evaluate` with a column `checkpoint`: `before` and `after` are compared, on
            problems with graded samples at both.
    Returns:
        One row per set: `set`, `n` (problems); `solved`, `well_formed`, `skill`, `malformed` and
        `cut_off` (of all completions, the greedy ones too), each with `_before` and `_after`, 0 to
        1; `change`, `by_form`, `by_skill`, -1 to 1.
    Source: Kitagawa 1955 (the difference of two rates); our choice of the two factors.
    """
    frame = frame[frame["checkpoint"].isin(["before", "after"]) & (frame["n"] > 0)]
    frame = frame[frame.duplicated("problem_id", keep=False)]
    if frame.empty:
        return pd.DataFrame(columns=["set", "n"])
    rates = pd.DataFrame(
        {
            "solved": frame["solved"] / frame["n"],
            "malformed": frame["malformed"] / frame["n"],
            "cut_off": frame["cut_off"] / (frame["n"] + frame["errors"] + frame["greedy"].notna()),
        }
    )
    means = rates.groupby([frame["set"], frame["checkpoint"]], sort=False).mean()
    means["well_formed"] = 1 - means["malformed"]
    means["skill"] = means["solved"] / means["well_formed"]
    before, after = (means.xs(name, level="checkpoint") for name in ("before", "after"))
    # A checkpoint without a well-formed answer shows no skill: the other's stands for its own.
    before, after = before.fillna(after).fillna(0), after.fillna(before).fillna(0)

    # The two terms of the sum.
    change = after - before
    middle = (before + after) / 2
    found = before.add_suffix("_before").join(after.add_suffix("_after")).sort_index(axis=1)
    found["change"] = change["solved"]
    found["by_form"] = change["well_formed"] * middle["skill"]
    found["by_skill"] = change["skill"] * middle["well_formed"]
    found.insert(0, "n", frame.groupby("set")["problem_id"].nunique())
    return found.reset_index()
