"""What the paper claims, which arms of a study test it, and a verdict by rules that were written before any data was looked at.

An arm is a line of `arms.yaml`; `plans` turns arms and problems into training plans, `runner.study` trains and evaluates them with notebooks
05 and 06, `collect` reads their run folders, CLAIMS say what is compared, `board` gives the verdicts.

The data are scores: one row per arm, seed of training, and problem, as `evaluation.evaluate` gives them after training (columns arm, seed, set,
problem_id, n, solved, greedy). Two arms answer the same problems, so they are compared problem by problem; problems and seeds are both drawn
anew in the bootstrap, because a claim is about other problems and other seeds than these.
"""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import Field, ValidationError
from scipy import stats

from kit import curricula, difficulty, records
from kit.evaluation import interval, pass_at_k
from kit.profile import Curriculum, EnvironmentName, Profile, Strict
from kit.records import Problem
from kit.run import LABEL, RECORDED, ROOT, Run, read_manifest

# The fewest for which a claim counts as tested (our choice). Of 3 seeds an arm the intervals are wide, of 30 problems too.
SEEDS, PROBLEMS, SEEDS_FOR_SPREAD = 3, 30, 8
ALIKE = 0.1  # scores that differ by less than this are "about the same" (our choice)
BOARD = [
    "claim",
    "statement",
    "comparison",
    "mode",
    "value",
    "low",
    "high",
    "null",
    "seeds",
    "problems",
    "part",
    "verdict",
]
VERDICTS = ("supported", "contradicted", "undecided", "not tested at this scale")


# ------------------------------------------------------------------ arms


class ArmError(ValueError):
    """An arm cannot be trained; the message says which one and what it lacks."""


class Arm(Strict):
    """One line of arms.yaml, see there. None: the profile's."""

    schedule: str | None = None
    environments: dict[EnvironmentName, float] | None = None
    sources: dict[Literal["synthetic", "real"], float] | None = None
    set: Literal["all", "chains", "disjoint"] = "all"
    match: str = ""
    share: float = Field(1.0, gt=0, le=1)
    substitute: bool = False

    def curriculum(self, profile: Profile) -> Curriculum:
        """The profile's curriculum with what this arm says otherwise."""
        own = self.model_dump(include={"schedule", "environments", "sources"}, exclude_none=True)
        return profile.curriculum.model_copy(update=own)


def arms(path: Path = Path(__file__).parent / "arms.yaml") -> dict[str, Arm]:
    """The arms of a file by name. Raises ArmError."""
    try:
        return {
            name: Arm.model_validate(line or {})
            for name, line in yaml.safe_load(path.read_text(encoding="utf-8")).items()
        }
    except (OSError, yaml.YAMLError, AttributeError, ValidationError) as e:
        raise ArmError(f"{path} is not a list of arms: {e}") from None


def pools(
    known: dict[str, Arm], problems: Iterable[Problem], profile: Profile
) -> dict[str, list[Problem]]:
    """The problems that each arm may draw from: kept, of the train split, in a bin that its schedule asks for, as many as its match has."""
    kept = [p for p in {p.id: p for p in problems if p.kept}.values() if p.split == "train"]
    chains = difficulty.stones(kept)
    members = [p for p in kept if p.method == "stones" and p.chain_id in {*chains.chain_id}]
    sets = {
        "all": kept,
        "chains": members,
        "disjoint": difficulty.disjoint(
            members, [p for p in kept if curricula.source(p) == "synthetic"]
        ),
    }
    found = {}
    for name, arm in known.items():
        c = arm.curriculum(profile)
        found[name] = curricula.drawable(
            sets[arm.set],
            c.schedule,
            profile.grpo.steps,
            c.environments,
            profile.difficulty.bins,
            c.sources,
            arm.substitute,
        )
    for label in {arm.match for arm in known.values()} - {""}:
        alike = [name for name, arm in known.items() if arm.match == label and found[name]]
        parts = {
            (name, source): [p for p in found[name] if curricula.source(p) == source]
            for name in alike
            for source in ("synthetic", "real")
        }
        fewest = min((len(part) for part in parts.values() if part), default=0)
        for name in alike:
            found[name] = [
                p
                for source in ("synthetic", "real")
                for p in _some(parts[name, source], fewest * known[name].share)
            ]
    return found


def _some(problems: list[Problem], count: float) -> list[Problem]:
    """`count` of them at random, always the same ones; a smaller count gives a part of a larger one."""
    return random.Random("arms").sample(sorted(problems, key=lambda p: p.id), len(problems))[
        : max(1, round(count))
    ]


def plans(
    known: dict[str, Arm],
    problems: Iterable[Problem],
    profile: Profile,
    seeds: Iterable[int],
    names: Iterable[str] = (),
) -> dict[tuple[str, int], pd.DataFrame]:
    """(arm, seed of training) -> plan, for all arms or those in `names`, all of them before anything is trained. Raises ArmError."""
    names = list(names) or list(known)
    if unknown := sorted({*names} - {*known}):
        raise ArmError(f"no arm is called {', '.join(unknown)}; there are {', '.join(known)}")
    found, out = pools(known, problems, profile), {}
    if empty := [name for name in names if not found[name]]:
        raise ArmError(
            f"no problem for {', '.join(empty)}: make more problems (seeds, stones, seeds.problems), or leave the arm out (--arms)"
        )
    for seed in seeds:
        for name in names:
            arm, c = known[name], known[name].curriculum(profile)
            try:
                out[name, seed] = curricula.plan(
                    found[name],
                    c.schedule,
                    profile.grpo.steps,
                    profile.grpo.prompts_per_step,
                    c.environments,
                    profile.difficulty.bins,
                    seed,
                    c.sources,
                    arm.substitute,
                )
            except curricula.CurriculumError as e:
                raise ArmError(f"arm {name}: {e}") from None
    return out


# ------------------------------------------------------------------ what a study leaves


def collect(folder: Path) -> dict[str, pd.DataFrame]:
    """The finished runs of a study folder: `scores` (a row per arm, seed, checkpoint, problem, with its bin if it is synthetic), `curves`
    (per arm, seed, step) and `drawn` (per arm, seed: how many problems its plan draws from, per bin)."""
    parts: dict[str, list[pd.DataFrame]] = {"scores": [], "curves": [], "drawn": []}
    place = {
        name: k for k, name in enumerate(arms())
    }  # easy before medium before hard, in tables and figures too
    for note in sorted(
        Path(folder).glob("*/*/arm.json"),
        key=lambda note: (place.get(note.parts[-3], len(place)), note),
    ):
        facts, run = json.loads(note.read_text()), note.parent
        if not all(
            (run / f"{table}.parquet").exists() for table in ("evaluation", "train", "plan")
        ):
            continue
        plan = pd.read_parquet(run / "plan.parquet")
        drawn = plan.groupby("bin", as_index=False).agg(
            prompts=("problem_id", "size"), problems=("problem_id", "nunique")
        )
        bins = read_manifest(run)["profile"]["difficulty"]["bins"]
        bin_of = {
            f"synthetic/{p.id}": difficulty.bin_of(p.p, bins)
            for p in records.load(run / "filtered.parquet")
            if p.n
        }
        scores = pd.read_parquet(run / "evaluation.parquet").drop(columns="samples")
        for name, table in (
            ("scores", scores.assign(bin=scores.problem_id.map(bin_of))),
            ("curves", pd.read_parquet(run / "train.parquet")),
            ("drawn", drawn),
        ):
            parts[name].append(table.assign(arm=facts["arm"], seed=facts["seed"]))
    return {
        name: pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=EMPTY[name])
        for name, tables in parts.items()
    }


EMPTY = {
    "scores": [
        "arm",
        "seed",
        "checkpoint",
        "set",
        "problem_id",
        "group",
        "bin",
        "n",
        "solved",
        "greedy",
    ],
    "curves": ["arm", "seed", "step", "reward", "entropy", "frac_reward_zero_std"],
    "drawn": ["arm", "seed", "bin", "prompts", "problems"],
}


def read(run: Run, folder: str = "") -> tuple[dict[str, pd.DataFrame], str]:
    """The tables of `collect`, by default of `runs/study-<profile>`, and what a figure's title says of them. Where the folder has no finished
    run the recorded ones, which the run then tells of itself."""
    folder = Path(folder or ROOT / "runs" / f"study-{run.profile.name}")
    if len((found := collect(folder))["scores"]):
        return found, ""
    shipped = {name: RECORDED / "study" / f"{name}.parquet" for name in EMPTY}
    if all(path.exists() for path in shipped.values()):
        print(
            f"recorded data: {folder.name}/ has no finished run, so the study comes from data/recorded"
        )
        run.recorded.add("study")
        return {name: pd.read_parquet(path) for name, path in shipped.items()}, LABEL
    return {name: pd.DataFrame(columns=columns) for name, columns in EMPTY.items()}, ""


def by_difficulty(scores: pd.DataFrame) -> pd.DataFrame:
    """pass@1 of each arm per set, the synthetic problems per bin: arm, of, value (mean over seeds and problems), problems, seeds. The first
    arm is the policy before training."""
    of = scores["set"].where(scores["set"] != "synthetic", scores["bin"])
    before = scores.checkpoint == "before"
    rows = scores.assign(
        of=of,
        value=scores.solved / scores.n.where(scores.n > 0),
        arm=scores.arm.where(~before, "before training"),
    )
    rows = pd.concat([rows[before].drop_duplicates("problem_id"), rows[~before]]).dropna(
        subset=["of", "value"]
    )
    return (
        rows.groupby(["arm", "of"], sort=False)
        .agg(value=("value", "mean"), problems=("problem_id", "nunique"), seeds=("seed", "nunique"))
        .reset_index()
    )


def changes(scores: pd.DataFrame) -> pd.DataFrame:
    """after - before, mean over the problems graded both times: arm, seed, set, sampled, greedy, problems."""
    key = ["arm", "seed", "set", "problem_id"]
    rows = scores.assign(sampled=scores.solved / scores.n.where(scores.n > 0))[
        [*key, "checkpoint", "sampled", "greedy"]
    ]
    both = (
        rows[rows.checkpoint == "before"]
        .merge(rows[rows.checkpoint == "after"], on=key, suffixes=("_before", "_after"))
        .dropna()
    )
    both = both.assign(
        **{mode: both[f"{mode}_after"] - both[f"{mode}_before"] for mode in ("sampled", "greedy")}
    )
    return (
        both.groupby(["arm", "seed", "set"], sort=False)
        .agg(
            sampled=("sampled", "mean"), greedy=("greedy", "mean"), problems=("problem_id", "size")
        )
        .reset_index()
    )


# ------------------------------------------------------------------ effects


@dataclass(frozen=True)
class Effect:
    """A difference or a ratio with its 95% interval; `null` is its value if there is no effect. `alike`: the claim is that there is none,
    to within this much."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    seeds: int = 0  # of the arm that has fewer
    problems: int = 0
    null: float = 0.0
    enough_seeds: int = SEEDS
    enough_problems: int = PROBLEMS
    alike: float = 0.0

    def __str__(self):
        return f"{self.value:.2f}, 95% interval [{self.low:.2f}, {self.high:.2f}], {self.seeds} seeds, n = {self.problems}: {self.verdict}"

    @property
    def verdict(self) -> str:
        """The rule: tested with enough seeds an arm and enough problems; then the interval must exclude `null`, or, where the claim is that
        two arms are alike, lie within `alike` of it."""
        if (
            self.seeds < self.enough_seeds
            or self.problems < self.enough_problems
            or np.isnan(self.value)
        ):
            return "not tested at this scale"
        if self.alike:
            apart = self.low > self.null + self.alike or self.high < self.null - self.alike
            near = self.low > self.null - self.alike and self.high < self.null + self.alike
            return "supported" if near else "contradicted" if apart else "undecided"
        return (
            "supported"
            if self.low > self.null
            else "contradicted"
            if self.high < self.null
            else "undecided"
        )


def matrix(
    scores: pd.DataFrame, arm: str, name: str, mode: str = "sampled", k: int = 1
) -> pd.DataFrame:
    """Scores of one arm on one set: a row per seed, a column per problem; pass@k, or 0 and 1 for greedy. Lost ones are NaN."""
    mine = scores[(scores.arm == arm) & (scores["set"] == name)]
    value = (
        mine.greedy
        if mode == "greedy"
        else [pass_at_k(int(x.n), int(x.solved), k) for x in mine.itertuples()]
    )
    return mine.assign(value=value).pivot(index="seed", columns="problem_id", values="value")


def difference(a: pd.DataFrame, b: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> Effect:
    """Mean of a minus mean of b over the problems that every seed of both has (two results of `matrix`).

    The bootstrap draws problems, the same for both arms, and the seeds of each arm. A few seeds drawn from a few are too alike: the
    interval is widened by S / (S - 1) and Student's t, S the fewer seeds (our choice; tests/test_findings.py measures its errors)."""
    both = pd.concat([a, b], keys=["a", "b"]).dropna(axis=1)
    one, two = (
        both.loc[key].to_numpy() if key in both.index.get_level_values(0) else np.empty((0, 0))
        for key in "ab"
    )
    fewest, problems = min(len(one), len(two)), both.shape[1]
    if not (fewest and problems):
        return Effect(seeds=fewest, problems=problems)
    value, rng = one.mean() - two.mean(), np.random.default_rng(seed)
    drawn = rng.multinomial(problems, np.full(problems, 1 / problems), resamples) / problems
    means = [
        (
            (rng.multinomial(len(x), np.full(len(x), 1 / len(x)), resamples) / len(x)) @ x * drawn
        ).sum(axis=1)
        for x in (one, two)
    ]
    wide = (
        np.sqrt(fewest / (fewest - 1)) * stats.t.ppf(0.975, len(one) + len(two) - 2) / 1.96
        if fewest > 1
        else np.inf
    )
    low, high = np.quantile(means[0] - means[1] - value, [0.025, 0.975]) if fewest > 1 else (-1, 1)
    return Effect(value, value + wide * low, value + wide * high, fewest, problems)


def spread(a: pd.DataFrame, b: pd.DataFrame) -> Effect:
    """Variance between the seeds of a over that of b, of their mean scores; the interval takes these for normal (F distribution)."""
    one, two = (x.dropna(axis=1).mean(axis=1).to_numpy() for x in (a, b))
    fewest, problems = (
        min(len(one), len(two)),
        min(a.dropna(axis=1).shape[1], b.dropna(axis=1).shape[1]),
    )
    if fewest < 2 or not two.var(ddof=1):
        return Effect(seeds=fewest, problems=problems, null=1.0, enough_seeds=SEEDS_FOR_SPREAD)
    ratio = one.var(ddof=1) / two.var(ddof=1)
    low, high = (ratio / stats.f.ppf(q, len(one) - 1, len(two) - 1) for q in (0.975, 0.025))
    return Effect(ratio, low, high, fewest, problems, 1.0, SEEDS_FOR_SPREAD)


def trained(curves: pd.DataFrame, a: str, b: str, bins: Iterable[str]) -> Effect:
    """Solve rate of the problems of some bins in the second half of training, mean of a minus mean of b; Welch's interval over seeds.

    Arms that train on other problems have nothing to pair; `problems` counts steps."""
    late = curves[curves.step > curves.groupby(["arm", "seed"]).step.transform("max") / 2]
    solved = late.assign(
        solved=late.reindex(columns=[f"solved/{b}" for b in bins]).mean(axis=1)
    ).dropna(subset="solved")
    one, two = (solved[solved.arm == arm].groupby("seed").solved.mean() for arm in (a, b))
    fewest, steps = min(len(one), len(two)), min((solved.arm == arm).sum() for arm in (a, b))
    if fewest < 2:
        return Effect(seeds=fewest, problems=int(steps))
    low, high = stats.ttest_ind(one, two, equal_var=False).confidence_interval()
    return Effect(one.mean() - two.mean(), low, high, fewest, int(steps))


# ------------------------------------------------------------------ claims


@dataclass(frozen=True)
class Comparison:
    """Arm a against arm b on a set: is a better, are they alike, do a's seeds differ more (spread), is a better in training (trained)?"""

    a: str
    b: str
    set: str = "synthetic"
    kind: Literal["better", "alike", "spread", "trained"] = "better"
    k: int = 1
    bins: tuple[str, ...] = ()  # of the synthetic problems: only these

    @property
    def text(self) -> str:
        """The comparison in words, for board and figure."""
        where = f"{self.set}{' ' + '+'.join(self.bins) if self.bins else ''}"
        if self.kind == "spread":
            return f"variance between seeds on {where}: {self.a} / {self.b}"
        score = "solve rate in training" if self.kind == "trained" else f"pass@{self.k}"
        return f"{score} on {where}: {self.a} − {self.b}" + (
            f" (alike: within ±{ALIKE})" if self.kind == "alike" else ""
        )

    def effect(self, study: dict[str, pd.DataFrame], mode: str = "sampled") -> Effect:
        """Its effect in the tables of `collect`; an empty one where an arm is missing. `mode`: sampled or greedy."""
        scores, curves = study["scores"], study["curves"]
        if scores.empty:
            return Effect(null=1.0 if self.kind == "spread" else 0.0)
        if self.kind == "trained":
            return trained(curves, self.a, self.b, self.bins)
        if self.bins:
            scores = scores[scores.bin.isin(self.bins)]
        a, b = (
            matrix(scores[scores.checkpoint == "after"], arm, self.set, mode, self.k)
            for arm in (self.a, self.b)
        )
        if self.kind == "spread":
            return spread(a, b)
        return replace(difference(a, b), alike=ALIKE if self.kind == "alike" else 0.0)


@dataclass(frozen=True)
class Claim:
    """A finding of the paper and the comparisons that must all support it."""

    id: str
    statement: str
    comparisons: tuple[Comparison, ...]
    source: str  # figures of the paper

    def verdict(self, effects: Iterable[Effect]) -> str:
        """Not tested if one part is not; contradicted if one part is; supported if all are."""
        given = [e.verdict for e in effects]
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


def board(study: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per claim, comparison and mode (sampled | greedy): claim, statement, comparison, mode, value, low, high, null, seeds, problems,
    part (verdict of the comparison), verdict (of the claim, by its sampled comparisons)."""
    rows = []
    for claim in CLAIMS:
        effects = [c.effect(study) for c in claim.comparisons]
        verdict = claim.verdict(effects)
        for comparison, effect in zip(claim.comparisons, effects, strict=True):
            modes = {"sampled": effect}
            if comparison.kind in ("better", "alike") and comparison.k == 1:
                modes["greedy"] = comparison.effect(study, "greedy")
            rows += [
                (
                    claim.id,
                    claim.statement,
                    comparison.text,
                    mode,
                    e.value,
                    e.low,
                    e.high,
                    e.null,
                    e.seeds,
                    e.problems,
                    e.verdict,
                    verdict,
                )
                for mode, e in modes.items()
            ]
    return pd.DataFrame(rows, columns=BOARD)


def f1(yields: pd.DataFrame) -> Effect:
    """Kept share of multi-turn over single-turn at equal budget, tested with 30 seeds and 10 problems kept by each: the paper's claim is a
    ratio above 4. yields: filters.yields."""
    both = yields.set_index("environment").reindex(["all"]).iloc[0]
    seeds, *kept = both[["seeds", "multi_kept", "single_kept"]].fillna(0).astype(int)
    return Effect(
        both.ratio,
        both.low,
        both.high,
        seeds,
        min(kept),
        null=4.0,
        enough_seeds=30,
        enough_problems=10,
    )


def f2(steps: pd.DataFrame) -> Effect:
    """Mean fall of the pass rate from a turn to its harder version, tested with 10 such turns. steps: rounds.steps."""
    harder = steps[steps.asked == "harder"]
    return Effect(
        *interval(-harder.change, bounds=(-1, 1)),
        harder.chain_id.nunique(),
        len(harder),
        enough_seeds=0,
        enough_problems=10,
    )


def of_rounds(yields: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """F1 and F2, which need no training, in the form of `board`."""
    rows = [
        (
            "F1",
            "multi-turn keeps more than four times the share of single-turn",
            "kept share at equal budget: multi / single",
            f1(yields),
        ),
        (
            "F2",
            "a harder turn lowers the pass rate",
            "fall of the pass rate from a turn to its harder version",
            f2(steps),
        ),
    ]
    return pd.DataFrame(
        [
            (
                i,
                s,
                c,
                "sampled",
                e.value,
                e.low,
                e.high,
                e.null,
                e.seeds,
                e.problems,
                e.verdict,
                e.verdict,
            )
            for i, s, c, e in rows
        ],
        columns=BOARD,
    )
