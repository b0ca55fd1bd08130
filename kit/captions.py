"""What stands below a figure, in one place for the report and the gallery: the question, how to read it, and n from the numbers drawn."""

from collections.abc import Callable

import pandas as pd

DRAWN = pd.DataFrame  # the CSV beside the figure


def _count(n: float, what: str) -> str:
    return f"{int(n):,} {what}" + ("" if n == 1 else "s")


def _rows(what: str) -> Callable[[DRAWN], str]:
    return lambda df: _count(len(df), what)


def _graded(df: DRAWN) -> str:
    return f"{_count(len(df), 'problem')}, {df.p.notna().sum():,} of them graded"


def _chains(df: DRAWN) -> str:
    return f"{_count(df.chain_id.nunique(), 'chain')}, {_graded(df)}"


def _sets(df: DRAWN) -> str:
    """Problems per evaluation set."""
    whole = df[df.group == "all"] if "all" in set(df.group) else df
    return ", ".join(
        f"{name} {int(n)}" for name, n in whole.groupby("set", sort=False).n_problems.max().items()
    )


def _trainings(df: DRAWN) -> str:
    runs = df[["arm", "seed"]].drop_duplicates()
    return f"{_count(len(runs), 'training')}, {_count(df.arm.nunique(), 'arm')}, {_count(runs.seed.nunique(), 'seed')}"


def _arms(df: DRAWN) -> str:
    return f"{_count(df[df.arm == df.arm.iloc[0]].problems.sum(), 'problem')}, {_count(df.seeds.max(), 'seed')}"


def _claims(df: DRAWN) -> str:
    return f"{_count(df.claim.nunique(), 'claim')}, {df[df.value.notna()].claim.nunique()} of them tested; seeds and n of each stand at the right"


# name of a figure -> (question, how to read it, its n); in the order in which they are shown
CAPTIONS: dict[str, tuple[str, str, Callable[[DRAWN], str]]] = {
    "01_seeds": (
        "Where do the seeds come from?",
        "Left: snippets per package. Right: their length, and which are held out.",
        _rows("seed snippet"),
    ),
    "02_teacher": (
        "Can this teacher write problems?",
        "Shares with 95% intervals, per environment; grey, where drawn: an earlier run.",
        lambda df: _count(
            df[(df.environment == "all") & (df.measure == "valid")].of.sum(), "problem"
        ),
    ),
    "02_pass_rates": (
        "How hard are the problems of each turn?",
        "A histogram of pass rates per turn; the filters drop what lies in the grey zones.",
        _graded,
    ),
    "02_slopes": (
        "Does the teacher steer the difficulty?",
        "A line joins a problem and its revision: red should fall, blue should rise. Bold: the mean.",
        _chains,
    ),
    "02_lineage": (
        "What does a chain look like?",
        "The pass rate over the turns of the longest chains; a cross is a turn that failed.",
        _chains,
    ),
    "03_funnel": (
        "What becomes of the problems?",
        "Shares lost to each filter, and kept, per method.",
        lambda df: _count(df["count"].sum(), "problem"),
    ),
    "03_ratio": (
        "Do several turns yield more than several single draws?",
        "Kept shares at equal budget and their ratio, with 95% intervals over seeds.",
        lambda df: _count(df[df.environment == "all"].seeds.sum(), "seed snippet"),
    ),
    "03_sensitivity": (
        "How much hangs on the thresholds?",
        "What is dropped and kept when one choice of the filters changes; the chosen one is marked.",
        lambda df: (
            f"{_count(len(df), 'setting')}, {_count(df[df.chosen].kept.max(), 'problem')} kept with the chosen ones"
        ),
    ),
    "03_lineage": (
        "Which turns of a chain survive the filters?",
        "Up to six chains; a cross is a turn that the filters dropped.",
        _chains,
    ),
    "04_bins_before": (
        "How hard is what was written?",
        "Problems per bin and environment, before the filters.",
        _graded,
    ),
    "04_bins": (
        "How hard is what is left?",
        "The same after the filters: what a curriculum draws from.",
        _graded,
    ),
    "04_stones": (
        "Do stepping stones have the difficulty asked for?",
        "Pass rates of hard problems and of their medium and easy variants.",
        lambda df: f"{_count(df.chain_id.nunique(), 'chain')} tried, {_count(len(df), 'problem')}",
    ),
    "04_schedules": (
        "Which orders are there?",
        "Weight of each bin over the training steps, drawn before anything is trained.",
        lambda df: _count(df.schedule.nunique(), "schedule") + ", no data",
    ),
    "04_plan": (
        "Does the plan follow its schedule?",
        "Areas: weights wanted. Marks: shares drawn.",
        lambda df: _count(df[df.kind == "bin"].n.sum(), "prompt"),
    ),
    "05_health": (
        "Is the training healthy?",
        "Reward should rise while entropy does not collapse; a dead group (all rewards equal) teaches nothing.",
        _rows("step"),
    ),
    "06_pass_at_k": (
        "Does the policy solve more?",
        "Solved shares with 95% intervals, per set; diamonds: greedy answers.",
        _sets,
    ),
    "06_paired": (
        "Which problems changed?",
        "Each problem before and after training, sorted by change; each is its own control.",
        _rows("problem"),
    ),
    "06_groups": (
        "Where does it solve more?",
        "pass@1 per environment or level, with 95% intervals.",
        _sets,
    ),
    "06_curve": (
        "When does it solve more?",
        "pass@1 over checkpoints, per set.",
        lambda df: _count(df.step.nunique(), "checkpoint"),
    ),
    "07_entropy": (
        "Do the arms keep exploring?",
        "Entropy of the policy. Thin: one seed, bold: the median, band: min to max.",
        _trainings,
    ),
    "07_frac_reward_zero_std": (
        "How many groups teach nothing?",
        "Share of groups whose rewards are all equal, per arm.",
        _trainings,
    ),
    "07_arms": (
        "What does each arm solve after training?",
        "pass@1 per bin or set, the mean over seeds; n stands in each cell.",
        _arms,
    ),
    "07_sharpening": (
        "Learning, or only surer?",
        "Right: more by sampled answers, up: more by greedy ones. Right only: surer.",
        _trainings,
    ),
    "07_board": (
        "Which claims of the paper hold here?",
        "Effects with 95% intervals; the verdict beside them.",
        _claims,
    ),
}


def order(name: str) -> tuple:
    """Sorts names of figures: by notebook, then as in CAPTIONS, unknown ones last."""
    known = list(CAPTIONS)
    return name[:2], known.index(name) if name in known else len(known), name


def caption(name: str, df: DRAWN, seed: int | None) -> tuple[str, str, str]:
    """Question, how to read, and n with the seed of the run (figures of 07 name their own). Unknown figures and odd frames get what is known."""
    question, read, n = CAPTIONS.get(name, (name, "", _rows("row")))
    try:
        counted = n(df)
    except (
        AttributeError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
    ):  # another version of the kit drew other columns
        counted = _count(len(df), "row")
    return (
        question,
        read,
        f"n: {counted}" + ("" if name.startswith("07") or seed is None else f"; seed {seed}"),
    )
