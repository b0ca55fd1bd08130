"""The claims: what the paper says, what we ask beyond it, and which arms of a study decide it.

The rules were fixed before the study in miniature was trained, those of E1 to E3, C1 and C2 before
any of their arms was. The study of language models had been seen when they were last changed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from kit.contrasts import UNTRAINED, score_table
from kit.effects import (
    Effect,
    alike,
    better,
    difficulty_steering,
    multi_turn_yield,
    spread,
    trained,
)

UNTESTED = "not tested at this scale"
# Of the parts of a claim the first of these decides.
VERDICTS = (UNTESTED, "contradicted", "undecided", "supported")


@dataclass(frozen=True)
class Comparison:
    """Arm a against arm b on a set, or what the teacher did.

    Of arms: is a better (with `than`: by more than the first of those is better than the second),
    are they alike, do a's seeds differ more (spread), is a better in training (trained)? Of the
    teacher: is the ratio of the shares that multi-turn and single-turn keep above `over` (kept),
    does the pass rate follow the wish a (steered)?
    """

    a: str = ""
    b: str = ""
    set: str = "synthetic"
    kind: Literal["better", "alike", "spread", "trained", "kept", "steered"] = "better"
    than: tuple[str, ...] = ()
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
        if self.than:
            pair = f"({pair}) − ({' − '.join(self.than)})"
        return {
            "better": f"pass@{self.k} on {where}: {pair}",
            "alike": f"pass@{self.k} on {where}: {pair} (alike)",
            "spread": f"variance between seeds on {where}: {self.a} / {self.b}",
            "trained": f"solve rate in training on {where}: {pair}",
            "kept": f"share kept at equal budget, multi / single: above {self.over:g}",
            "steered": f"move of the pass rate, asked {self.a} − independent draws",
        }[self.kind]

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that it needs; none if it is about the teacher."""
        return (self.a, self.b, *self.than) if self.b else ()

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
        if not self.arms and tables["yields"].empty and tables["turns"].empty:
            why = "no problems of a language model: a script does what it is built to do"
            return Effect(null=self.over, untested=why)
        if self.kind == "kept":
            return multi_turn_yield(tables["yields"], self.over)
        if self.kind == "steered":
            return difficulty_steering(tables["turns"], tables["draws"], self.a)
        scores = tables["scores"]
        trained_arms = set(scores.arm.unique())
        missing = [arm for arm in self.arms if arm not in trained_arms]
        if missing:
            why = f"no training of {', '.join(missing)}"
            return Effect(null=float(self.kind == "spread"), untested=why)
        if self.kind == "trained":
            return trained(tables["curves"], self.a, self.b, self.bins)
        rows, names = self.within(scores), (*self.arms, UNTRAINED)
        *arms, before = (score_table(rows, arm, self.set, mode, self.k) for arm in names)
        if self.kind == "spread":
            return spread(*arms)
        if self.kind == "alike":
            return alike(arms[0], arms[1], before)
        return better(*arms)


@dataclass(frozen=True)
class Claim:
    """A finding of the paper, a control, or a question beyond it; all comparisons must support it.

    E1 to E3 are explanations and questions beyond the paper. The arms of E1 train on the same hard
    problems; of E2b, which asks for a difference of differences, only the hard ones differ.
    """

    id: str
    statement: str
    comparisons: tuple[Comparison, ...]
    # What others report, with the source. Ours: which report is about the same question.
    elsewhere: str = ""
    # What of it is a model in the miniature.
    modelled: str = ""

    def verdict(self, parts: Iterable[str]) -> str:
        """Not tested if one part is not; contradicted if one part is; supported if all are."""
        return min(parts, key=VERDICTS.index)


TOUGH = ("medium", "hard")
SCRIPTED = "built into the teacher"
REAL = "real: drawn without feedback, most easy, a few very hard"
TIERS = (
    "hard: solved in none of 32 attempts (silent) or in 4 to 8 (rare); easy to hard also draws "
    "fewer of them"
)
GAPS = (
    "as reported: gaps in difficulty give plateaus, a smooth range hands on from easier to harder "
    "problems (theory and small transformers, arXiv 2602.14872)"
)

CLAIMS = (
    Claim(
        "F1a",
        "multi-turn keeps a larger share of its problems than single-turn",
        (Comparison(kind="kept", over=1.0),),
        # sec. 4.2
        modelled=SCRIPTED,
    ),
    Claim(
        "F1b",
        "multi-turn keeps more than four times the share of single-turn",
        (Comparison(kind="kept", over=4.0),),
        # sec. 4.2
        modelled=SCRIPTED,
    ),
    Claim(
        "F2",
        "the pass rate follows what the teacher is asked for",
        (Comparison("harder", kind="steered"), Comparison("easier", kind="steered")),
        # figs. 1, 2
        modelled=SCRIPTED,
    ),
    Claim(
        "F3",
        "more real data hardly helps",
        (Comparison("real", "real-few", "real", "alike"),),
        # fig. 3
        "as reported: 100 human problems beside synthetic ones add 0.4 points (7B, school maths, "
        "arXiv 2505.17063)",
        REAL,
    ),
    Claim(
        "F4",
        "real and synthetic data beat real data alone",
        (Comparison("both", "real", "real"),),
        # figs. 4-6, 19
        modelled=REAL,
    ),
    Claim(
        "F5",
        "synthetic data alone match real data",
        (Comparison("synthetic", "real", "real", "alike"),),
        # figs. 7, 16-18
        "as reported: synthetic problems alone nearly match all human ones (7B, maths and others, "
        "arXiv 2505.17063)",
        REAL,
    ),
    Claim(
        "F6",
        "medium problems alone are best on medium and hard ones",
        (Comparison("medium", "easy", bins=TOUGH), Comparison("medium", "hard", bins=TOUGH)),
        # fig. 11
        "as reported: the hardest tenth trains best (4 to 14B, arXiv 2508.14094); lower difficulty "
        "alone matches all data with 45% of the steps (up to 3B, arXiv 2604.06298)",
    ),
    Claim(
        "F7",
        "medium first generalises better to medium and hard problems than easy first",
        (Comparison("medium-first", "classic", bins=TOUGH),),
        # fig. 12
        "as reported: no order is best everywhere (maths, offline, 4 to 8B, arXiv 2510.19099); "
        "growing length helps where the whole length gives no signal (arXiv 2510.07312)",
    ),
    Claim(
        "F8",
        "hard first varies much more between seeds than medium first",
        (Comparison("hard-first", "medium-first", kind="spread"),),
        # fig. 13
    ),
    Claim(
        "F9",
        "four environments beat one out of domain and at larger k",
        # One arm was trained on induction alone: only there can both answer.
        (Comparison("four", "one", "maths"), Comparison("four", "one", k=4, groups=("induction",))),
        # figs. 14, 15, 23
        "as reported: more kinds of environments add to the gain (7B, reasoning, arXiv 2602.20117)",
        "out of domain: sums of digits",
    ),
    Claim(
        "F10",
        "stepping stones raise the training solve rate of medium and hard problems",
        (Comparison("chains", "disjoint", kind="trained", bins=TOUGH),),
        # figs. 9, 10, 20-22
        GAPS,
    ),
    Claim(
        "C1",
        "control (ours): the sandbox's verdict teaches more than a random reward",
        (Comparison("uniform", "random-reward"),),
        # our choice
    ),
    Claim(
        "C2",
        "control (ours): the group teaches more than right answers alone (rejection)",
        (Comparison("uniform", "rejection"),),
        # our choice
    ),
    Claim(
        "E1",
        "beyond the paper: below equal hard problems a smooth range teaches these more than a gap",
        (
            Comparison("smooth", "gap", kind="trained", bins=("hard",)),
            Comparison("smooth", "gap", bins=("hard",)),
        ),
        # our choice
        GAPS,
        "a third of each set is hard; the smooth rest also has more groups with a signal",
    ),
    Claim(
        "E2a",
        "beyond the paper: with hard problems never solved, easy to hard beats a uniform mix",
        (Comparison("silent-classic", "silent-uniform", bins=TOUGH),),
        # our choice
        modelled=TIERS,
    ),
    Claim(
        "E2b",
        "beyond the paper: easy to hard helps more with hard problems never solved than sometimes",
        (
            Comparison(
                "silent-classic",
                "silent-uniform",
                bins=TOUGH,
                than=("rare-classic", "rare-uniform"),
            ),
        ),
        # our choice
        modelled=TIERS,
    ),
    Claim(
        "E3",
        "beyond the paper: four environments beat one on another type of argument",
        (Comparison("four", "one", "strings"),),
        # our choice
        modelled="strings of digits, asked as deduction, which only one of the two arms trains",
    ),
)
