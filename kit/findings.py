"""What the paper claims, which arms of a study test it, and a verdict by rules.

The rules were written before any data was looked at. An arm is a line of `arms.yaml`; `arm_plans`
turns arms into plans, `run_study` trains and evaluates them, `collect_study` reads their folders,
CLAIMS say what is compared, `board` gives the verdicts by the rules in `effects` and `contrasts`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from kit.contrasts import UNTRAINED, score_table
from kit.core.stats import holm
from kit.core.types import Problem
from kit.effects import Effect, alike, better, ratio_effect, spread, steering, trained
from kit.teacher import turn_changes

# A row of the board; `board` explains them.
BOARD = (
    "claim statement comparison mode value low high null margin seeds problems smallest p adjusted "
    "part verdict why left_out elsewhere"
).split()
UNTESTED = "not tested at this scale"
VERDICTS = ("supported", "contradicted", "undecided", UNTESTED)


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
    rows = pd.concat([rows[before].drop_duplicates("problem_id"), rows[~before]])
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
    key = ["arm", "seed", "set", "problem_id"]
    rates = scores.assign(sampled=scores.solved / scores.n).set_index(key)
    before = rates.loc[rates.checkpoint == "before", ["sampled", "greedy"]]
    after = rates.loc[rates.checkpoint == "after", ["sampled", "greedy"]]
    moved = (after.reindex(before.index) - before).dropna()
    groups = moved.groupby(["arm", "seed", "set"], sort=False)
    return groups.agg(
        sampled=("sampled", "mean"), greedy=("greedy", "mean"), problems=("sampled", "size")
    ).reset_index()


@dataclass(frozen=True)
class Comparison:
    """Arm a against arm b on a set, or what the teacher did.

    Of arms: is a better, are they alike, do a's seeds differ more (spread), is a better in training
    (trained)? Of the teacher: is the ratio of the shares that multi-turn and single-turn keep above
    `over` (kept), does the pass rate follow the wish a (steered)?
    """

    a: str = ""
    b: str = ""
    set: str = "synthetic"
    kind: Literal["better", "alike", "spread", "trained", "kept", "steered"] = "better"
    k: int = 1
    # Of the synthetic problems only these.
    bins: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    over: float = 0.0

    @property
    def text(self) -> str:
        """The comparison in words, for board and figure."""
        where = " ".join(filter(None, (self.set, "+".join(self.bins), "+".join(self.groups))))
        pair = f"{self.a} − {self.b}"
        return {
            "better": f"pass@{self.k} on {where}: {pair}",
            "alike": f"pass@{self.k} on {where}: {pair} (alike)",
            "spread": f"variance between seeds on {where}: {self.a} / {self.b}",
            "trained": f"solve rate in training on {where}: {pair}",
            "kept": f"share kept at equal budget, multi / single: above {self.over:g}",
            "steered": f"move of the pass rate, asked {self.a} − independent draws",
        }[self.kind]

    def modes(self, scores: pd.DataFrame) -> list[str]:
        """How the answers are scored: `sampled` has the vote, the others are shown beside it."""
        found = ["sampled"]
        if self.kind in ("better", "alike") and self.k == 1 and len(scores):
            # One greedy answer has a pass@1 and nothing else.
            found.append("greedy")
            if self.set == "maths" and "lenient" in scores and scores.lenient.notna().any():
                found.append("lenient")
        return found

    def within(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows (columns `bin`, `group`) of the bins and groups that it is about."""
        for column, wanted in (("bin", self.bins), ("group", self.groups)):
            rows = rows[rows[column].isin(wanted)] if wanted else rows
        return rows

    def effect(self, tables: dict[str, pd.DataFrame], mode: str = "sampled") -> Effect:
        """Its effect in the tables that `board` gets; untested, with the reason, without data."""
        if self.kind == "kept":
            return multi_turn_yield(tables["yields"], self.over)
        if self.kind == "steered":
            return difficulty_steering(tables["turns"], tables["draws"], self.a)
        scores = tables["scores"]
        missing = [arm for arm in (self.a, self.b) if arm not in set(scores.arm)]
        if missing:
            why = f"no training of {', '.join(missing)}"
            return Effect(null=float(self.kind == "spread"), untested=why)
        if self.kind == "trained":
            return trained(tables["curves"], self.a, self.b, self.bins)
        rows, names = self.within(scores), (self.a, self.b, UNTRAINED)
        a, b, before = (score_table(rows, arm, self.set, mode, self.k) for arm in names)
        if self.kind == "spread":
            return spread(a, b)
        return alike(a, b, before) if self.kind == "alike" else better(a, b)


@dataclass(frozen=True)
class Claim:
    """A finding of the paper, or a control, and the comparisons that must all support it."""

    id: str
    statement: str
    comparisons: tuple[Comparison, ...]
    # Figures of the paper.
    source: str
    # What others report, with the source. Ours: which report is about the same question.
    elsewhere: str = ""

    def verdict(self, parts: Iterable[str]) -> str:
        """Not tested if one part is not; contradicted if one part is; supported if all are."""
        given = list(parts)
        for word in (UNTESTED, "contradicted", "undecided"):
            if word in given:
                return word
        return "supported"


TOUGH = ("medium", "hard")

CLAIMS = (
    Claim(
        "F1a",
        "multi-turn keeps a larger share of its problems than single-turn",
        (Comparison(kind="kept", over=1.0),),
        "sec. 4.2",
    ),
    Claim(
        "F1b",
        "multi-turn keeps more than four times the share of single-turn",
        (Comparison(kind="kept", over=4.0),),
        "sec. 4.2",
    ),
    Claim(
        "F2",
        "the pass rate follows what the teacher is asked for",
        (Comparison("harder", kind="steered"), Comparison("easier", kind="steered")),
        "figs. 1, 2",
    ),
    Claim(
        "F3",
        "more real data hardly helps",
        (Comparison("real", "real-few", "real", "alike"),),
        "fig. 3",
    ),
    Claim(
        "F4",
        "real and synthetic data beat real data alone",
        (Comparison("both", "real", "real"),),
        "figs. 4-6, 19",
    ),
    Claim(
        "F5",
        "synthetic data alone match real data",
        (Comparison("synthetic", "real", "real", "alike"),),
        "figs. 7, 16-18",
    ),
    Claim(
        "F6",
        "medium problems alone are best on medium and hard ones",
        (Comparison("medium", "easy", bins=TOUGH), Comparison("medium", "hard", bins=TOUGH)),
        "fig. 11",
        "as reported: the hardest tenth trains best (4 to 14B, arXiv 2508.14094); lower difficulty "
        "alone matches all data with 45% of the steps (up to 3B, arXiv 2604.06298)",
    ),
    Claim(
        "F7",
        "medium first generalises better to medium and hard problems than easy first",
        (Comparison("medium-first", "classic", bins=TOUGH),),
        "fig. 12",
        "as reported: no order is best everywhere (maths, offline, 4 to 8B, arXiv 2510.19099); "
        "growing length helps where the whole length gives no signal (arXiv 2510.07312)",
    ),
    Claim(
        "F8",
        "hard first varies much more between seeds than medium first",
        (Comparison("hard-first", "medium-first", kind="spread"),),
        "fig. 13",
    ),
    Claim(
        "F9",
        "four environments beat one out of domain and at larger k",
        # One arm was trained on induction alone: only there can both answer.
        (Comparison("four", "one", "maths"), Comparison("four", "one", k=4, groups=("induction",))),
        "figs. 14, 15, 23",
    ),
    Claim(
        "F10",
        "stepping stones raise the training solve rate of medium and hard problems",
        (Comparison("chains", "disjoint", kind="trained", bins=TOUGH),),
        "figs. 9, 10, 20-22",
        "as reported: gaps in difficulty give plateaus, a smooth range hands on from easier to "
        "harder problems (theory and small transformers, arXiv 2602.14872)",
    ),
    Claim(
        "C1",
        "control (ours): the sandbox's verdict teaches more than a coin",
        (Comparison("uniform", "random-reward"),),
        "our choice",
    ),
    Claim(
        "C2",
        "control (ours): the group teaches more than right answers alone (rejection)",
        (Comparison("uniform", "rejection"),),
        "our choice",
    ),
)


def round_tables(yields: pd.DataFrame, problems: Iterable[Problem]) -> dict[str, pd.DataFrame]:
    """The tables of the rounds that F1 and F2 are judged by.

    Args:
        yields: yields.yield_table.
        problems: filtered ones of all methods; a script's do not count, it obeys by construction.
    Returns:
        `yields`; `turns` and `draws`: teacher.turn_changes of chains and of independent draws.
    Source: our choice.
    """
    problems = [problem for problem in problems if problem.teacher != "script"]
    yields = yields if any(problem.teacher for problem in problems) else yields.iloc[:0]
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
        `null`, `margin`, `seeds`, `problems`, `smallest`, `left_out` as in Effect; `p` two-sided,
        `adjusted` after Holm; `part`: verdict of the comparison, "no vote" for other modes; `why`:
        what a test lacks; `verdict`: of the claim; `elsewhere`: what others report.
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
                    "claim": claim.id,
                    "statement": claim.statement,
                    "comparison": comparison.text,
                    "mode": mode,
                    **vars(shown),
                    "p": shown.p,
                    "adjusted": p if vote else float("nan"),
                    "part": shown.verdict(p) if vote else "no vote",
                    "why": shown.untested,
                    "elsewhere": claim.elsewhere,
                }
            )
    verdicts = {claim.id: claim.verdict(parts[claim.id]) for claim in claims}
    return pd.DataFrame(rows).assign(verdict=lambda row: row.claim.map(verdicts))[BOARD]


def multi_turn_yield(yields: pd.DataFrame, over: float = 4.0) -> Effect:
    """F1: the share of problems kept by multi-turn over that of single-turn, at equal budget.

    Args:
        yields: yields.yield_table.
        over: what the ratio must be above; the paper says 4.
    Returns:
        The ratio against `over`.
    Source: paper, sec. 4.2 (the ratio).
    """
    both = yields.set_index("environment").reindex(["all"]).iloc[0]
    seeds, *kept = both[["seeds", "multi_kept", "single_kept"]].fillna(0).astype(int)
    return ratio_effect(both.ratio, both.low, both.high, over, seeds, min(kept))


def difficulty_steering(turns: pd.DataFrame, draws: pd.DataFrame, wish: str) -> Effect:
    """F2: how much more the pass rate moves where the teacher was asked for `wish`.

    A turn asked harder starts high, and what starts high falls on a second draw by itself. So the
    control are independent draws that followed one of their snippet with a pass rate within the
    range from which the wish was made.

    Args:
        turns: teacher.turn_changes.
        draws: the same of the method `single`.
        wish: harder or easier.
    Returns:
        The move beyond the control's (-2 to 2), see `effects.steering`.
    Source: paper, figs. 1 and 2 (the claim); the control is our choice.
    """
    asked = turns[turns.asked == wish]
    like = draws.before.between(asked.before.min(), asked.before.max())
    return steering(asked, draws[like], wish)
