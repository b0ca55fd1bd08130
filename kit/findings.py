"""What a study found: by difficulty, by arm, and a verdict on each claim by rules.

An arm is a line of `arms.yaml`; `arm_plans`
turns arms into plans, `run_study` trains and evaluates them, `collect_study` reads their folders,
CLAIMS say what is compared, `board` gives the verdicts by the rules in `effects` and `contrasts`.
"""

from collections.abc import Iterable

import pandas as pd

from kit.claims import CLAIMS, Claim
from kit.core.stats import holm
from kit.core.types import Problem
from kit.teacher import turn_changes

# A row of the board; `board` explains them.
BOARD = (
    "claim statement comparison mode value low high null seeds problems smallest p adjusted "
    "part verdict why left_out elsewhere modelled"
).split()


def by_difficulty(scores: pd.DataFrame) -> pd.DataFrame:
    """pass@1 of each arm per set, the synthetic problems per bin.

    Args:
        scores: of a study, see `collect_study`.
    Returns:
        One row per arm and set or bin: columns `arm` (the first one, `before training`, is the
        policy before training), `of` (the set or bin), `value` (mean over seeds and problems, 0 to
        1), `problems`, `seeds`.
    Source: paper, fig. 11 (splits by difficulty); the table is our choice.
    """
    before = scores.checkpoint == "before"
    rows = scores.assign(
        of=scores["set"].where(scores["set"] != "synthetic", scores["bin"]),
        value=scores.solved / scores.n,
        arm=scores.arm.where(~before, "before training"),
    )
    # All arms start from the same policy: one answer to each problem is enough.
    asked = rows[before].sort_values("n", ascending=False, kind="stable")
    rows = pd.concat([asked.drop_duplicates("problem_id"), rows[~before]])
    groups = rows.dropna(subset=["of", "value"]).groupby(["arm", "of"], sort=False)
    return groups.agg(
        value=("value", "mean"), problems=("problem_id", "nunique"), seeds=("seed", "nunique")
    ).reset_index()


def changes_by_arm(scores: pd.DataFrame) -> pd.DataFrame:
    """after - before: the mean over the problems that were graded both times.

    Args:
        scores: of a study, see `collect_study`.
    Returns:
        One row per arm, seed and set: columns `arm`, `seed`, `set`, `sampled` and `greedy` (mean
        change of the share solved, -1 to 1), `problems`.
    Source: our choice.
    """
    key = "arm seed set problem_id".split()
    rates = scores.assign(sampled=scores.solved / scores.n).set_index(key)
    before, after = (
        rates.loc[rates.checkpoint == name, ["sampled", "greedy"]] for name in ("before", "after")
    )
    moved = (after.reindex(before.index) - before).dropna()
    groups = moved.groupby(key[:3], sort=False)
    return groups.mean().assign(problems=groups.size()).reset_index()


def round_tables(yields: pd.DataFrame, problems: Iterable[Problem]) -> dict[str, pd.DataFrame]:
    """The tables of the rounds that F1 and F2 are judged by.

    Args:
        yields: yields.yield_table.
        problems: filtered ones of all methods; those of a script and their yields do not count: it
            obeys by construction.
    Returns:
        `yields`; `turns` and `draws`: teacher.turn_changes of chains and of independent draws.
    Source: our choice.
    """
    problems = list(problems)
    if any(problem.teacher == "script" for problem in problems):
        yields = yields.iloc[:0]
        problems = []
    draws = turn_changes(problems, "single")
    return {"yields": yields, "turns": turn_changes(problems), "draws": draws}


def board(tables: dict[str, pd.DataFrame], claims: tuple[Claim, ...] = CLAIMS) -> pd.DataFrame:
    """The verdicts on all claims.

    Holm's correction is over all sampled comparisons that are tested. Other modes have no vote.

    Args:
        tables: those of `arms.collect_study`, and of `round_tables`; claims: which are judged.
    Returns:
        One row per claim, comparison and mode (sampled | greedy | lenient), BOARD: columns `claim`
        (F1a ...), `statement`, `comparison`, `mode`; `value`, `low`, `high` (95%, not corrected),
        `null`, `seeds`, `problems`, `smallest`, `left_out` as in Effect; `p` two-sided,
        `adjusted` after Holm; `part`: verdict of the comparison, "no vote" for other modes; `why`:
        why there is no test; `verdict`: of the claim; `elsewhere`: what others report; `modelled`:
        what of it is a model in the miniature.
    Source: paper, the findings (claims and arms); the rules are our choice.
    """
    voting = [
        (claim, comparison, comparison.effect(tables))
        for claim in claims
        for comparison in claim.comparisons
    ]
    adjusted = holm([effect.p for *_, effect in voting])
    parts: dict[str, list[str]] = {}
    rows = []
    for (claim, comparison, effect), p in zip(voting, adjusted, strict=True):
        parts.setdefault(claim.id, []).append(effect.verdict(p))
        for mode in comparison.modes(tables["scores"]):
            vote = mode == "sampled"
            shown = effect if vote else comparison.effect(tables, mode)
            rows.append(
                {
                    **vars(claim),
                    **vars(shown),
                    "claim": claim.id,
                    "comparison": comparison.text,
                    "mode": mode,
                    "p": shown.p,
                    "adjusted": p if vote else float("nan"),
                    "part": shown.verdict(p) if vote else "no vote",
                    "why": shown.untested,
                }
            )
    verdicts = {claim.id: claim.verdict(parts[claim.id]) for claim in claims}
    return pd.DataFrame(rows).assign(verdict=lambda row: row.claim.map(verdicts))[BOARD]
