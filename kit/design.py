"""What a study can find, comparison by comparison, before it is run: `kit study --dry`."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pandas as pd

from kit import environments
from kit.claims import CLAIMS
from kit.contrasts import contrast, score_table
from kit.core.bins import bin_of
from kit.core.config import Profile
from kit.core.types import Problem
from kit.effects import ALPHA, MARGIN, PROBLEMS, SEEDS, SEEDS_FOR_SPREAD, late_rates
from kit.held_out import held_out_items
from kit.power import Components, detectable, smallest_effect, smallest_ratio


def _asked(problems, profile):
    """The problems of notebook 06, as far as comparisons need them: set, group, bin."""
    numbers = profile.evaluation
    envs = environments.make(profile.rounds)
    rows: list[tuple] = [("maths", "", None)] * numbers.maths
    rows += [("strings", "", None)] * numbers.strings
    for name in ("synthetic", "real"):
        for item in held_out_items(name, problems, envs, getattr(numbers, name), profile.seed):
            problem = Problem.model_validate(item.data["problem"])
            rows.append((name, item.group, bin_of(problem.p, profile.difficulty.bins)))
    return pd.DataFrame(rows, columns=["set", "group", "bin"])


def _missing(comparison, count, seeds, arms):
    """Why a comparison cannot be tested, with the value to raise; empty if it can."""
    missing = [arm for arm in comparison.arms if arm not in arms]
    if missing:
        return f"no training of {', '.join(missing)}: --arms"
    needed = SEEDS_FOR_SPREAD if comparison.kind == "spread" else SEEDS
    if seeds < needed:
        return f"{seeds} seeds, {needed} are needed: --seeds"
    if comparison.kind != "trained" and count < PROBLEMS:
        key = f"evaluation.{comparison.set}"
        return f"{count} problems, {PROBLEMS} are needed: raise {key}, or make more held-out ones"
    return ""


def measured_components(scores: pd.DataFrame, set_name: str, k: int) -> Components:
    """The variances of a difference of two arms, the mean over neighbouring arms of a study.

    Args:
        scores: of a study, see `arms.collect_study`.
        set_name: such as synthetic.
        k: of pass@k.
    Returns:
        The components; NaN where no two arms have two seeds and answers on this set.
    Source: our choice.
    """
    arms = scores[scores.checkpoint == "after"].arm.unique()
    tables = [score_table(scores, arm, set_name, k=k) for arm in arms]
    found = [contrast([(1, a), (-1, b)]).components for a, b in pairwise(tables)]
    return Components(*pd.DataFrame(found).mean())


def _smallest(comparison, seeds, count, recorded, components, alpha):
    """The smallest effect that the comparison finds, in its own units."""
    if comparison.kind == "spread":
        return smallest_ratio(seeds, alpha)
    if comparison.kind == "trained":
        late = late_rates(recorded["curves"], comparison.bins)
        between = late.groupby("arm").var().mean() if len(late) else np.nan
        return detectable(np.sqrt(2 * between / seeds), 2 * (seeds - 1), alpha)
    found = smallest_effect(components[comparison.set, comparison.k], seeds, count, alpha)
    # A difference of differences has twice the variance.
    found *= np.sqrt(2) if comparison.than else 1
    return found / MARGIN if comparison.kind == "alike" else found


def study_power(
    profile: Profile,
    problems: list[Problem],
    arms: Iterable[str],
    seeds: int,
    recorded: dict[str, pd.DataFrame],
) -> pd.DataFrame:
    """What each comparison of arms can find with these arms, seeds and problems.

    Args:
        profile: of the study.
        problems: filtered ones of both splits.
        arms: names of those that are trained.
        seeds: trainings of each arm.
        recorded: tables of an earlier study, whose variances are taken for those of this one.
    Returns:
        One row per comparison of arms: columns `claim`, `comparison`, `seeds`, `problems`;
        `smallest`: the effect that 80% of such studies find after the correction for all that can
        be tested (points of the score as a share; a ratio for F8; for "alike" the gain of the other
        arm over the untrained policy), if no seed is shared; `value`: what was found earlier,
        `low`, `high`: where 95% of repeats of this size lie (NaN where it was not run or is no
        difference of scores); `missing`: what to raise where nothing can be tested.
    Source: our choice.
    """
    arms = set(arms)
    asked = _asked(problems, profile)
    rows = []
    for claim in CLAIMS:
        for comparison in claim.comparisons:
            if comparison.arms:
                # How many problems it is about.
                count = len(comparison.within(asked[asked["set"] == comparison.set]))
                rows.append((claim.id, comparison, count, _missing(comparison, count, seeds, arms)))
    tested = sum(not missing for *_, missing in rows)
    # Comparisons of one set have the same variances.
    kinds = {(c.set, c.k) for _, c, _, missing in rows if not missing}
    components = {kind: measured_components(recorded["scores"], *kind) for kind in kinds}
    found = []
    for claim_id, comparison, count, missing in rows:
        row = [claim_id, comparison.text, seeds, count, missing, *[np.nan] * 4]
        if not missing:
            row[5] = _smallest(comparison, seeds, count, recorded, components, ALPHA / tested)
            before = comparison.effect(recorded)
            row[6:] = before.value, *before.repeat(seeds, count)
        found.append(row)
    columns = "claim comparison seeds problems missing smallest value low high".split()
    return pd.DataFrame(found, columns=columns)
