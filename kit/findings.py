"""What the paper claims, which arms of a study test it, and a verdict by rules.

The rules were written before any data was looked at. An arm is a line of `arms.yaml`; `plans` turns
arms and problems into training plans, `runner.study` trains and evaluates them with notebooks 05
and 06, `collect` reads their run folders, CLAIMS say what is compared, `board` gives the verdicts.

The data are scores: one row per arm, seed of training, and problem, as `evaluation.evaluate` gives
them after training (columns arm, seed, set, problem_id, n, solved, greedy). Two arms answer the
same problems, so they are compared problem by problem. The bootstrap draws both problems and seeds
anew, because a claim is about other problems and other seeds than these.
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

# The fewest for which a claim counts as tested (our choice). With 3 seeds per arm the intervals are
# wide, with 30 problems too.
SEEDS = 3
PROBLEMS = 30
SEEDS_FOR_SPREAD = 8
# Scores that differ by less than this are "about the same" (our choice).
ALIKE = 0.1
BOARD = [
    *("claim", "statement", "comparison", "mode", "value", "low", "high", "null"),
    *("seeds", "problems", "part", "verdict"),
]
VERDICTS = ("supported", "contradicted", "undecided", "not tested at this scale")


class ArmError(ValueError):
    """An arm cannot be trained; the message says which one and what is missing."""


class Arm(Strict):
    """One line of arms.yaml; that file explains the keys. None: the profile's."""

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
    """The arms of a file.

    Args:
        path: of a YAML file; by default the kit's own.
    Returns:
        The arms by name, in the order of the file.
    Raises:
        ArmError: the file is not a list of arms.
    Source: paper, data mixtures and curricula (the arms); their sizes are our choice.
    """
    try:
        lines = yaml.safe_load(path.read_text(encoding="utf-8")).items()
        return {name: Arm.model_validate(line or {}) for name, line in lines}
    except (OSError, yaml.YAMLError, AttributeError, ValidationError) as error:
        raise ArmError(f"{path} is not a list of arms: {error}") from None


def _drawing(arm: Arm, profile: Profile) -> dict:
    """The arguments of an arm that curricula.drawable and curricula.plan have in common."""
    return {
        **arm.curriculum(profile).model_dump(),
        "steps": profile.grpo.steps,
        "bins": profile.difficulty.bins,
        "substitute": arm.substitute,
    }


def _by_source(problems: list[Problem]) -> list[list[Problem]]:
    """The synthetic and the real ones."""
    return [[p for p in problems if curricula.source(p) == name] for name in ("synthetic", "real")]


def _some(problems: list[Problem], count: float) -> list[Problem]:
    """`count` of them at random, always the same ones; a smaller count gives a part of a larger."""
    ordered = sorted(problems, key=lambda problem: problem.id)
    return random.Random("arms").sample(ordered, len(ordered))[: max(1, round(count))]


def pools(
    known: dict[str, Arm], problems: Iterable[Problem], profile: Profile
) -> dict[str, list[Problem]]:
    """The problems that each arm may draw from.

    They are kept, of the train split, and in a bin that the arm's schedule asks for. Arms with the
    same `match` get equally many of each source, the fewest that one of them has.
    """
    by_id = {problem.id: problem for problem in problems if problem.kept}
    kept = [problem for problem in by_id.values() if problem.split == "train"]
    synthetic = [problem for problem in kept if curricula.source(problem) == "synthetic"]

    # Stepping stones, and as many problems of equal pass rates without kinship (paper).
    chains = set(difficulty.stones(kept).chain_id)
    stones = [p for p in kept if p.method == "stones" and p.chain_id in chains]
    sets = {"all": kept, "chains": stones, "disjoint": difficulty.disjoint(stones, synthetic)}
    found = {
        name: curricula.drawable(sets[arm.set], **_drawing(arm, profile))
        for name, arm in known.items()
    }

    # An arm without problems does not starve those that it is compared with.
    for label in {arm.match for arm in known.values() if arm.match}:
        alike = [name for name, arm in known.items() if arm.match == label and found[name]]
        parts = {name: _by_source(found[name]) for name in alike}
        sizes = [len(part) for of_arm in parts.values() for part in of_arm if part]
        for name in alike:
            count = min(sizes) * known[name].share
            found[name] = [p for part in parts[name] for p in _some(part, count)]
    return found


def plans(
    known: dict[str, Arm],
    problems: Iterable[Problem],
    profile: Profile,
    seeds: Iterable[int],
    names: Iterable[str] = (),
) -> dict[tuple[str, int], pd.DataFrame]:
    """The plan of each (arm, seed of training), before anything is trained.

    All arms get one, or those in `names`. Raises ArmError.
    """
    names = list(names) or list(known)
    unknown = sorted({*names} - {*known})
    if unknown:
        raise ArmError(f"no arm is called {', '.join(unknown)}; there are {', '.join(known)}")
    found = pools(known, problems, profile)
    empty = [name for name in names if not found[name]]
    if empty:
        raise ArmError(
            f"no problem for {', '.join(empty)}: make more problems (seeds, stones, "
            "seeds.problems), or leave the arm out (--arms)"
        )
    made = {}
    for seed in seeds:
        for name in names:
            given = _drawing(known[name], profile)
            prompts = profile.grpo.prompts_per_step
            try:
                made[name, seed] = curricula.plan(
                    found[name], prompts_per_step=prompts, seed=seed, **given
                )
            except curricula.CurriculumError as error:
                raise ArmError(f"arm {name}: {error}") from None
    return made


# The columns of the tables of a study: at least these.
EMPTY = {
    "scores": [
        *("arm", "seed", "checkpoint", "set", "problem_id", "group", "bin"),
        *("n", "solved", "greedy"),
    ],
    "curves": ["arm", "seed", "step", "reward", "entropy", "frac_reward_zero_std"],
    "drawn": ["arm", "seed", "bin", "prompts", "problems"],
}


def _run_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of one finished run, without its arm and seed."""
    # Synthetic problems get the bin of their pass rate; those of other sets have none.
    bins = read_manifest(folder)["profile"]["difficulty"]["bins"]
    bin_of = {
        f"synthetic/{problem.id}": difficulty.bin_of(problem.p, bins)
        for problem in records.load(folder / "filtered.parquet")
        if problem.n
    }
    scores = pd.read_parquet(folder / "evaluation.parquet").drop(columns="samples")
    plan = pd.read_parquet(folder / "plan.parquet").groupby("bin", as_index=False)
    return {
        "scores": scores.assign(bin=scores.problem_id.map(bin_of)),
        "curves": pd.read_parquet(folder / "train.parquet"),
        "drawn": plan.agg(prompts=("problem_id", "size"), problems=("problem_id", "nunique")),
    }


def collect(folder: Path) -> dict[str, pd.DataFrame]:
    """The finished runs of a study folder.

    Returns the tables `scores` (a row per arm, seed, checkpoint, problem, with its bin if it is
    synthetic), `curves` (per arm, seed, step) and `drawn` (per arm, seed, bin: how many prompts of
    how many problems its plan has), with the columns of EMPTY and others.
    """
    # Easy before medium before hard, in tables and figures too.
    place = {name: k for k, name in enumerate(arms())}
    notes = sorted(
        Path(folder).glob("*/*/arm.json"),
        key=lambda note: (place.get(note.parts[-3], len(place)), note),
    )
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in EMPTY}
    for note in notes:
        needed = ("evaluation", "train", "plan")
        if all((note.parent / f"{table}.parquet").exists() for table in needed):
            facts = json.loads(note.read_text())
            for name, table in _run_tables(note.parent).items():
                parts[name].append(table.assign(arm=facts["arm"], seed=facts["seed"]))
    return {
        name: pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=EMPTY[name])
        for name, tables in parts.items()
    }


def read(run: Run, folder: str | Path = "") -> tuple[dict[str, pd.DataFrame], str]:
    """The tables of a study, and what a figure's title says of them.

    Where the folder has no finished run these are the recorded ones; the run then notes that.

    Args:
        run: of stage 07.
        folder: of the study; empty: `runs/study-<profile>`.
    Returns:
        `scores`, `curves` and `drawn` as `collect` gives them, without rows if nothing is recorded
        either; and a label, empty for own data.
    Source: our choice.
    """
    folder = Path(folder or ROOT / "runs" / f"study-{run.profile.name}")
    found = collect(folder)
    if len(found["scores"]):
        return found, ""
    shipped = {name: RECORDED / "study" / f"{name}.parquet" for name in EMPTY}
    if not all(path.exists() for path in shipped.values()):
        return found, ""
    print(
        f"recorded data: {folder.name}/ has no finished run, so the study comes from data/recorded"
    )
    run.recorded.add("study")
    return {name: pd.read_parquet(path) for name, path in shipped.items()}, LABEL


def by_difficulty(scores: pd.DataFrame) -> pd.DataFrame:
    """pass@1 of each arm per set, the synthetic problems per bin.

    Args:
        scores: of a study, see `collect`.
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


def changes(scores: pd.DataFrame) -> pd.DataFrame:
    """after - before: the mean over the problems that were graded both times.

    Args:
        scores: of a study, see `collect`.
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
class Effect:
    """A difference or a ratio with its 95% interval; a comment above a field explains it.

    Source: our choice (the rule of the verdict and its limits).
    """

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    # Of the arm that has fewer.
    seeds: int = 0
    problems: int = 0
    # The value if there is no effect.
    null: float = 0.0
    enough_seeds: int = SEEDS
    enough_problems: int = PROBLEMS
    # Above 0 the claim is that there is no effect, to within this much.
    alike: float = 0.0

    def __str__(self):
        return (
            f"{self.value:.2f}, 95% interval [{self.low:.2f}, {self.high:.2f}], "
            f"{self.seeds} seeds, n = {self.problems}: {self.verdict}"
        )

    @property
    def verdict(self) -> str:
        """What the data say of the claim: one of VERDICTS.

        Not tested: fewer seeds per arm or fewer problems than `enough_seeds` and `enough_problems`,
        or no value. A claim of an effect: supported if the whole interval is above `null`,
        contradicted if all of it is below. A claim that two arms are alike: supported if the whole
        interval is less than `alike` away from `null`, contradicted if all of it is further away on
        one side. Everything else is undecided.

        Source: our choice.
        """
        few = self.seeds < self.enough_seeds or self.problems < self.enough_problems
        if few or np.isnan(self.value):
            return "not tested at this scale"
        over = self.null + self.alike
        under = self.null - self.alike
        if self.alike:
            supported = self.low > under and self.high < over
            contradicted = self.low > over or self.high < under
        else:
            supported = self.low > self.null
            contradicted = self.high < self.null
        if supported:
            return "supported"
        return "contradicted" if contradicted else "undecided"


def matrix(
    scores: pd.DataFrame, arm: str, name: str, mode: str = "sampled", k: int = 1
) -> pd.DataFrame:
    """The scores of one arm on one set, for `difference` and `spread`.

    `name` is the set. Returns a frame of seeds (index `seed`) x problems (columns, ids): pass@k of
    the samples, or 0 and 1 for the mode greedy. Lost answers are NaN.
    """
    rows = scores[(scores.arm == arm) & (scores["set"] == name)]
    if mode == "greedy":
        value = rows.greedy
    else:
        value = [pass_at_k(int(row.n), int(row.solved), k) for row in rows.itertuples()]
    return rows.assign(value=value).pivot(index="seed", columns="problem_id", values="value")


def difference(a: pd.DataFrame, b: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> Effect:
    """Mean of a minus mean of b, over the problems that every seed of both arms has.

    The interval comes from a bootstrap. A resample draws the P problems anew, the same for both
    arms, and of each arm its seeds; its error is its own difference of means less the observed one.
    The 2.5% and 97.5% quantiles of these errors, times w, are added to the observed difference. A
    few seeds drawn from a few are too alike, therefore w = sqrt(S / (S - 1)) x t / 1.96: S is the
    number of seeds of the arm that has fewer, t the 97.5% quantile of Student's t with
    S_a + S_b - 2 degrees of freedom. tests/test_findings.py measures how often it errs.

    Args:
        a: seeds x problems, scores from 0 to 1, as `matrix` gives them: S_a rows.
        b: of the other arm, S_b rows.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    Returns:
        Difference and interval (-1 to 1; -inf and inf for a single seed), S, and P. Without a
        common problem or without a seed the value is NaN.
    Source: our choice.
    """
    both = pd.concat([a, b], keys=["a", "b"]).dropna(axis=1)
    named = both.index.get_level_values(0)
    one, two = (both.loc[key].to_numpy() if key in named else np.empty((0, 0)) for key in "ab")
    fewest = min(len(one), len(two))
    problems = both.shape[1]
    if not (fewest and problems):
        return Effect(seeds=fewest, problems=problems)
    value = one.mean() - two.mean()
    if fewest < 2:
        return Effect(value, -np.inf, np.inf, fewest, problems)

    # Resamples x problems: the share of each problem in a resample.
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(problems, np.full(problems, 1 / problems), resamples) / problems
    means = []
    for arm in (one, two):
        # Resamples x seeds: the share of each seed.
        seeds = rng.multinomial(len(arm), np.full(len(arm), 1 / len(arm)), resamples) / len(arm)
        means.append((seeds @ arm * drawn).sum(axis=1))
    low, high = np.quantile(means[0] - means[1] - value, [0.025, 0.975])
    student = stats.t.ppf(0.975, len(one) + len(two) - 2)
    wide = np.sqrt(fewest / (fewest - 1)) * student / 1.96
    return Effect(value, value + wide * low, value + wide * high, fewest, problems)


def spread(a: pd.DataFrame, b: pd.DataFrame) -> Effect:
    """The variance between the seeds of a over that between the seeds of b.

    The variance is that of the seeds' mean scores, over the problems that all seeds of the arm have
    (divided by S - 1). The interval takes these means for normal: the ratio over the 97.5% and the
    2.5% quantile of F with S_a - 1 and S_b - 1 degrees of freedom.

    Args:
        a: seeds x problems, scores from 0 to 1, as `matrix` gives them: S_a rows.
        b: of the other arm, S_b rows.
    Returns:
        Ratio and interval, 1 for no effect; the seeds and the problems of the arm that has fewer.
        NaN for fewer than two seeds and for seeds of b that are all alike.
    Source: paper, fig. 13 (hard first varies more); the measure is our choice.
    """
    whole = [scores.dropna(axis=1) for scores in (a, b)]
    one, two = (scores.mean(axis=1).to_numpy() for scores in whole)
    fewest = min(len(one), len(two))
    problems = min(scores.shape[1] for scores in whole)
    if fewest < 2 or not two.var(ddof=1):
        return Effect(seeds=fewest, problems=problems, null=1.0, enough_seeds=SEEDS_FOR_SPREAD)
    ratio = one.var(ddof=1) / two.var(ddof=1)
    low, high = (ratio / stats.f.ppf(q, len(one) - 1, len(two) - 1) for q in (0.975, 0.025))
    return Effect(ratio, low, high, fewest, problems, 1.0, SEEDS_FOR_SPREAD)


def trained(curves: pd.DataFrame, a: str, b: str, bins: Iterable[str]) -> Effect:
    """Solve rate in the second half of training on the problems of some bins: a minus b.

    The rate of a step is the mean over the bins that it logged, that of a seed the mean over its
    steps, that of an arm the mean over its seeds. The interval is Welch's t over the seeds: arms
    that train on other problems have nothing to pair.

    Args:
        curves: one row per arm, seed and step: columns `arm`, `seed`, `step`, `solved/<bin>`.
        a: one arm.
        b: the other arm.
        bins: which problems.
    Returns:
        Difference and interval (-1 to 1); the seeds and, as `problems`, the logged steps of the arm
        that has fewer. NaN for fewer than two seeds.
    Source: paper, figs. 9, 10 and 20-22 (training solve rates); the measure is our choice.
    """
    last = curves.groupby(["arm", "seed"]).step.transform("max")
    rates = curves.reindex(columns=[f"solved/{name}" for name in bins]).mean(axis=1)
    late = curves.assign(solved=rates)[curves.step > last / 2].dropna(subset="solved")
    arms_late = [late[late.arm == arm] for arm in (a, b)]
    one, two = (rows.groupby("seed").solved.mean() for rows in arms_late)
    fewest = min(len(one), len(two))
    steps = min(map(len, arms_late))
    if fewest < 2:
        return Effect(seeds=fewest, problems=steps)
    low, high = stats.ttest_ind(one, two, equal_var=False).confidence_interval()
    return Effect(one.mean() - two.mean(), low, high, fewest, steps)


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
        """Its effect in the tables of `collect`; an empty one where an arm is missing.

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
        return replace(difference(a, b), alike=ALIKE if self.kind == "alike" else 0.0)


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


def _board_row(about: tuple[str, ...], effect: Effect, verdict: str) -> tuple:
    """A row of the board; `about` is claim, statement, comparison and mode."""
    numbers = (effect.value, effect.low, effect.high, effect.null, effect.seeds, effect.problems)
    return (*about, *numbers, effect.verdict, verdict)


def board(study: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The verdicts on the claims that need a training: F3 to F10.

    Args:
        study: the tables of `collect`.
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


def f1(yields: pd.DataFrame) -> Effect:
    """F1: the share of problems kept by multi-turn over that of single-turn, at equal budget.

    Args:
        yields: filters.yields.
    Returns:
        The ratio; 4 is no effect, because the paper's claim is a ratio above 4. It is tested with
        30 seeds, and 10 problems kept by each of the two.
    Source: paper, sec. 4.2 (the ratio); the limits are our choice.
    """
    both = yields.set_index("environment").reindex(["all"]).iloc[0]
    seeds, *kept = both[["seeds", "multi_kept", "single_kept"]].fillna(0).astype(int)
    return Effect(both.ratio, both.low, both.high, seeds, min(kept), 4.0, 30, 10)


def f2(steps: pd.DataFrame) -> Effect:
    """F2: the mean fall of the pass rate from a turn to its harder version.

    Args:
        steps: rounds.steps.
    Returns:
        The fall (-1 to 1); `problems` counts the turns that asked for a harder version. It is
        tested with 10 of these.
    Source: paper, figs. 1 and 2 (a harder turn lowers the pass rate); the limit is our choice.
    """
    harder = steps[steps.asked == "harder"]
    fall = interval(-harder.change, bounds=(-1, 1))
    return Effect(*fall, harder.chain_id.nunique(), len(harder), 0.0, 0, 10)


def of_rounds(yields: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """The verdicts on the claims that need no training: F1 and F2.

    Args:
        yields: filters.yields.
        steps: rounds.steps.
    Returns:
        Two rows with the columns of `board`.
    Source: paper, sec. 4.2 and figs. 1, 2 (the claims); the rules are our choice.
    """
    said = "multi-turn keeps more than four times the share of single-turn"
    first = ("F1", said, "kept share at equal budget: multi / single", "sampled")
    compared = "fall of the pass rate from a turn to its harder version"
    second = ("F2", "a harder turn lowers the pass rate", compared, "sampled")
    found = ((first, f1(yields)), (second, f2(steps)))
    rows = [_board_row(about, effect, effect.verdict) for about, effect in found]
    return pd.DataFrame(rows, columns=BOARD)
