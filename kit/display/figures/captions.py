"""What stands below a figure, for the report and the gallery: the question, how to read it, and n.

n comes from the numbers that are drawn.
"""

import pandas as pd


def _counts(**numbers):
    """Numbers with their nouns, in the plural where that is due; `_` in a noun is a space."""
    parts = [f"{int(n):,} {what}{'' if n == 1 else 's'}" for what, n in numbers.items()]
    return ", ".join(parts).replace("_", " ")


def _rows(what):
    """For figures of which each row is one thing."""
    return lambda df: _counts(**{what: len(df)})


def _graded(df):
    return f"{_counts(problem=len(df))}, {df.p.count():,} of them graded"


def _chains(df):
    return f"{_counts(chain=df.chain_id.nunique())}, {_graded(df)}"


def _settings(df):
    kept = df[df.chosen].kept.max()
    return f"{_counts(setting=len(df), problem=kept)} kept with the chosen ones"


def _sets(df):
    """Problems per evaluation set: those of the group `all` where there is one."""
    sizes = df.groupby("set", sort=False).n_problems.max()
    return ", ".join(f"{name} {int(n)}" for name, n in sizes.items())


def _trainings(df):
    return _counts(
        training=df.groupby(["arm", "seed"]).ngroups, arm=df.arm.nunique(), seed=df.seed.nunique()
    )


def _arms(df):
    first = df[df.arm == df.arm.iloc[0]]
    return _counts(problem=first.problems.sum(), seed=df.seeds.max())


def _claims(df):
    # A claim of which one comparison is not tested is not.
    claims = df.drop_duplicates("claim")
    tested = f"{(~claims.verdict.str.startswith('not tested')).sum()} of them tested"
    claims = _counts(claim=df.claim.nunique())
    return f"{claims}, {tested}; seeds and n of each stand at the right"


# Name of a figure -> (question, how to read it, its n); in the order in which they are shown.
CAPTIONS: dict[str, tuple] = {
    "01_seeds": (
        "Where do the seeds come from?",
        "Left: snippets per package. Right: their length, and which are held out.",
        _rows("seed_snippet"),
    ),
    "02_teacher": (
        "Can this teacher write problems?",
        "Shares with 95% intervals, per environment; grey, where drawn: an earlier run.",
        lambda df: _counts(
            problem=df.query("environment == 'all' and measure == 'valid'").of.sum()
        ),
    ),
    "02_pass_rates": (
        "How hard are the problems of each turn?",
        "A histogram of pass rates per turn; the filters drop what lies in the grey zones.",
        _graded,
    ),
    "02_slopes": (
        "Does the teacher steer the difficulty?",
        "A line joins a problem and its revision: red should fall, blue should rise. "
        "Bold: the mean.",
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
        lambda df: _counts(problem=df["count"].sum()),
    ),
    "03_ratio": (
        "Do several turns yield more than several single draws?",
        "Kept shares at equal budget and their ratio, with 95% intervals over seeds.",
        lambda df: _counts(seed_snippet=df.query("environment == 'all'").seeds.sum()),
    ),
    "03_sensitivity": (
        "How much hangs on the thresholds?",
        "What is dropped and kept when one choice of the filters changes; the chosen one is "
        "marked.",
        _settings,
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
        lambda df: f"{_counts(chain=df.chain_id.nunique())} tried, {_counts(problem=len(df))}",
    ),
    "04_schedules": (
        "Which orders are there?",
        "Weight of each bin over the training steps, drawn before anything is trained.",
        lambda df: f"{_counts(schedule=df.schedule.nunique())}, no data",
    ),
    "04_plan": (
        "Does the plan follow its schedule?",
        "Areas: weights wanted. Marks: shares drawn.",
        lambda df: _counts(prompt=df.query("kind == 'bin'").n.sum()),
    ),
    "05_health": (
        "Is the training healthy?",
        "Reward should rise while entropy does not collapse; a dead group (all rewards equal) "
        "teaches nothing.",
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
    "06_form": (
        "More form, or more skill?",
        "The gain per set, split into more answers of the asked form and more right ones of these.",
        _rows("set"),
    ),
    "06_groups": (
        "Where does it solve more?",
        "pass@1 per environment or level, with 95% intervals.",
        _sets,
    ),
    "06_curve": (
        "When does it solve more?",
        "pass@1 over checkpoints, per set.",
        lambda df: _counts(checkpoint=df.step.nunique()),
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
    "07_form": (
        "Form or skill, arm by arm?",
        "The change on held-out synthetic problems: more answers that can be read, more right ones "
        "of these; means over seeds.",
        _rows("arm"),
    ),
    "07_board": (
        "Which claims of the paper hold here?",
        "Effects with 95% intervals; the verdict beside them.",
        _claims,
    ),
}


def order(name: str) -> tuple[str, int, str]:
    """Sorts names of figures: by notebook, then as in CAPTIONS, unknown ones last."""
    return name[:2], [*CAPTIONS, name].index(name), name


def caption(name: str, df: pd.DataFrame, seed: int | None) -> tuple[str, str, str]:
    """The question, how to read the figure, and n with the seed of the run; `df`: its CSV.

    Figures of notebook 07 name their own seeds. Unknown figures and odd frames get what is known.
    """
    rows = _rows("row")
    question, read, count = CAPTIONS.get(name, (name, "", rows))
    try:
        n = count(df)
    except (AttributeError, LookupError, NameError, TypeError, ValueError):
        # Another version of the kit drew other columns.
        n = rows(df)
    if seed is not None and not name.startswith("07"):
        n += f"; seed {seed}"
    return question, read, f"n: {n}"
