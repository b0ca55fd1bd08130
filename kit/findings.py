"""What the paper claims, which arms of a study test it, and a verdict by rules.

The rules were written before any data was looked at. An arm is a line of `arms.yaml`; `arm_plans`
turns arms and problems into training plans, `run_study` trains and evaluates them with notebooks 05
and 06, `collect_study` reads their run folders, CLAIMS say what is compared, `board` gives the
verdicts.

The data are scores: one row per arm, seed of training, and problem, as `evaluation.evaluate` gives
them after training (columns arm, seed, set, problem_id, n, solved, greedy). Two arms answer the
same problems, so they are compared problem by problem. The bootstrap draws both problems and seeds
anew, because a claim is about other problems and other seeds than these.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from kit.core.stats import mean_interval
from kit.effects import Effect, arm_difference, matrix, spread, trained

# Scores that differ by less than this are "about the same" (our choice).
ALIKE = 0.1
BOARD = ("claim statement comparison mode value low high null seeds problems part verdict").split()
VERDICTS = ("supported", "contradicted", "undecided", "not tested at this scale")


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
    """Arm a against arm b on a set.

    Is a better, are they alike, do a's seeds differ more (spread), is a better in training
    (trained)?
    """

    a: str
    b: str
    set: str = "synthetic"
    kind: Literal["better", "alike", "spread", "trained"] = "better"
    k: int = 1
    # Of the synthetic problems only these.
    bins: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The comparison in words, for board and figure."""
        where = f"{self.set} {'+'.join(self.bins)}".strip()
        if self.kind == "spread":
            return f"variance between seeds on {where}: {self.a} / {self.b}"
        score = "solve rate in training" if self.kind == "trained" else f"pass@{self.k}"
        within = f" (alike: within ±{ALIKE})" if self.kind == "alike" else ""
        return f"{score} on {where}: {self.a} − {self.b}{within}"

    def effect(self, study: dict[str, pd.DataFrame], mode: str = "sampled") -> Effect:
        """Its effect in the tables of `collect_study`; an empty one where an arm is missing.

        `mode`: sampled or greedy.
        """
        scores = study["scores"]
        if scores.empty:
            return Effect(null=1.0 if self.kind == "spread" else 0.0)
        if self.kind == "trained":
            return trained(study["curves"], self.a, self.b, self.bins)
        scores = scores[scores.checkpoint == "after"]
        if self.bins:
            scores = scores[scores.bin.isin(self.bins)]
        a, b = (matrix(scores, arm, self.set, mode, self.k) for arm in (self.a, self.b))
        if self.kind == "spread":
            return spread(a, b)
        return replace(arm_difference(a, b), alike=ALIKE if self.kind == "alike" else 0.0)


@dataclass(frozen=True)
class Claim:
    """A finding of the paper and the comparisons that must all support it."""

    id: str
    statement: str
    comparisons: tuple[Comparison, ...]
    # Figures of the paper.
    source: str

    def verdict(self, effects: Iterable[Effect]) -> str:
        """Not tested if one part is not; contradicted if one part is; supported if all are."""
        given = [effect.verdict for effect in effects]
        for word in ("not tested at this scale", "contradicted", "undecided"):
            if word in given:
                return word
        return "supported"


TOUGH = ("medium", "hard")

CLAIMS = (
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
    ),
    Claim(
        "F7",
        "medium first generalises better to medium and hard problems than easy first",
        (Comparison("medium-first", "classic", bins=TOUGH),),
        "fig. 12",
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
        (Comparison("four", "one", "maths"), Comparison("four", "one", k=4)),
        "figs. 14, 15, 23",
    ),
    Claim(
        "F10",
        "stepping stones raise the training solve rate of medium and hard problems",
        (Comparison("chains", "disjoint", kind="trained", bins=TOUGH),),
        "figs. 9, 10, 20-22",
    ),
)


def _board_row(about, effect, verdict):
    """A row of the board; `about` is claim, statement, comparison and mode."""
    numbers = (effect.value, effect.low, effect.high, effect.null, effect.seeds, effect.problems)
    return (*about, *numbers, effect.verdict, verdict)


def board(study: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The verdicts on the claims that need a training: F3 to F10.

    Args:
        study: the tables of `collect_study`.
    Returns:
        One row per claim, comparison and mode (sampled | greedy), BOARD: columns `claim` (F3 ...),
        `statement`, `comparison`, `mode`; `value`, `low`, `high`, `null`, `seeds`, `problems` as in
        Effect; `part`: verdict of the comparison; `verdict`: of the claim, by its sampled
        comparisons.
    Source: paper, the findings (claims and arms); the rules are our choice.
    """
    rows = []
    for claim in CLAIMS:
        effects = [comparison.effect(study) for comparison in claim.comparisons]
        verdict = claim.verdict(effects)
        for comparison, effect in zip(claim.comparisons, effects, strict=True):
            about = (claim.id, claim.statement, comparison.text)
            rows.append(_board_row((*about, "sampled"), effect, verdict))
            # One greedy answer has a pass@1 and nothing else.
            if comparison.kind in ("better", "alike") and comparison.k == 1:
                greedy = comparison.effect(study, "greedy")
                rows.append(_board_row((*about, "greedy"), greedy, verdict))
    return pd.DataFrame(rows, columns=BOARD)


def multi_turn_yield(yields: pd.DataFrame) -> Effect:
    """F1: the share of problems kept by multi-turn over that of single-turn, at equal budget.

    Args:
        yields: yields.yield_table.
    Returns:
        The ratio; 4 is no effect, because the paper's claim is a ratio above 4. It is tested with
        30 seeds, and 10 problems kept by each of the two.
    Source: paper, sec. 4.2 (the ratio); the limits are our choice.
    """
    both = yields.set_index("environment").reindex(["all"]).iloc[0]
    seeds, *kept = both[["seeds", "multi_kept", "single_kept"]].fillna(0).astype(int)
    return Effect(both.ratio, both.low, both.high, seeds, min(kept), 4.0, 30, 10)


def difficulty_steering(steps: pd.DataFrame) -> Effect:
    """F2: the mean fall of the pass rate from a turn to its harder version.

    Args:
        steps: teacher.turn_changes.
    Returns:
        The fall (-1 to 1); `problems` counts the turns that asked for a harder version. It is
        tested with 10 of these.
    Source: paper, figs. 1 and 2 (a harder turn lowers the pass rate); the limit is our choice.
    """
    harder = steps[steps.asked == "harder"]
    fall = mean_interval(-harder.change, bounds=(-1, 1))
    return Effect(*fall, harder.chain_id.nunique(), len(harder), 0.0, 0, 10)


def of_rounds(yields: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """The verdicts on the claims that need no training: F1 and F2.

    Args:
        yields: yields.yield_table.
        steps: teacher.turn_changes.
    Returns:
        Two rows with the columns of `board`.
    Source: paper, sec. 4.2 and figs. 1, 2 (the claims); the rules are our choice.
    """
    said = "multi-turn keeps more than four times the share of single-turn"
    first = ("F1", said, "kept share at equal budget: multi / single", "sampled")
    compared = "fall of the pass rate from a turn to its harder version"
    second = ("F2", "a harder turn lowers the pass rate", compared, "sampled")
    found = ((first, multi_turn_yield(yields)), (second, difficulty_steering(steps)))
    rows = [_board_row(about, effect, effect.verdict) for about, effect in found]
    return pd.DataFrame(rows, columns=BOARD)
