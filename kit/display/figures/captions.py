"""What stands around a figure in the report and the gallery: the question, and how to read it.

What was found, and n, stand in its title.
"""

from pathlib import Path

# Name of a figure -> (question, how to read it); in the order in which they are shown.
CAPTIONS = {
    "01_seeds": (
        "Where do the seeds come from?",
        "Left: snippets per package. Right: their length, and which are held out.",
    ),
    "02_teacher": (
        "Can this teacher write problems?",
        "Shares with 95% intervals, per environment; grey, where drawn: an earlier run.",
    ),
    "02_pass_rates": (
        "How hard are the problems of each turn?",
        "A histogram of pass rates per turn; the filters drop what lies in the grey zones.",
    ),
    "02_slopes": (
        "Does the teacher steer the difficulty?",
        "A line joins a problem and its revision: red should fall, blue should rise. "
        "Bold: the mean.",
    ),
    "02_lineage": (
        "What does a chain look like?",
        "The pass rate over the turns of the longest chains; a cross is a turn that failed.",
    ),
    "03_funnel": (
        "What becomes of the problems?",
        "Shares lost to each filter, and kept, per method.",
    ),
    "03_ratio": (
        "Do several turns yield more than several single draws?",
        "Kept shares at equal budget and their ratio, with 95% intervals over seeds.",
    ),
    "03_sensitivity": (
        "How much hangs on the thresholds?",
        "What is dropped and kept when one choice of the filters changes; the chosen one is "
        "marked.",
    ),
    "04_bins_before": (
        "How hard is what was written?",
        "Problems per bin and environment, before the filters.",
    ),
    "04_bins": (
        "How hard is what is left?",
        "The same after the filters: what a curriculum draws from.",
    ),
    "04_stones": (
        "Do stepping stones have the difficulty asked for?",
        "Pass rates of hard problems and of their medium and easy variants.",
    ),
    "04_schedules": (
        "Which orders are there?",
        "Weight of each bin over the training steps, drawn before anything is trained.",
    ),
    "04_plan": (
        "Does the plan follow its schedule?",
        "Areas: weights wanted. Marks: shares drawn.",
    ),
    "05_scratch": (
        "Does GRPO by hand teach the small policy?",
        "Held-out problems before and after the steps by hand, each beside itself.",
    ),
    "05_health": (
        "Is the training healthy?",
        "Reward should rise while entropy does not collapse; a dead group (all rewards equal) "
        "teaches nothing.",
    ),
    "06_pass_at_k": (
        "Does the policy solve more?",
        "Solved shares with 95% intervals, per set; diamonds: greedy answers.",
    ),
    "06_paired": (
        "Which problems changed?",
        "Each problem before and after training, sorted by change; each is its own control.",
    ),
    "06_form": (
        "More form, or more skill?",
        "The gain per set, split into more answers of the asked form and more right ones of these.",
    ),
    "06_groups": (
        "Where does it solve more?",
        "pass@1 per environment or level, with 95% intervals.",
    ),
    "06_curve": ("When does it solve more?", "Change of pass@1 over checkpoints, per set."),
    "07_entropy": (
        "Do the arms keep exploring?",
        "Entropy of the policy. Thin: one seed, bold: the median, band: min to max.",
    ),
    "07_frac_reward_zero_std": (
        "How many groups teach nothing?",
        "Share of groups whose rewards are all equal, per arm.",
    ),
    "07_arms": (
        "What does each arm solve after training?",
        "pass@1 per bin or set, the mean over seeds; n: the number of problems.",
    ),
    "07_sharpening": (
        "Learning, or only surer?",
        "Right: more by sampled answers, up: more by greedy ones. Right only: surer.",
    ),
    "07_form": (
        "Form or skill, arm by arm?",
        "The change on held-out synthetic problems: more answers that can be read, more right ones "
        "of these; means over seeds.",
    ),
    "07_board": (
        "Which claims of the paper hold here?",
        "Effects with 95% intervals; the verdict beside them.",
    ),
    "08_steering": (
        "How hard is what is trained on, as the policy sees it?",
        "Above: mean pass rate, best near one half. Below: share of groups without a signal.",
    ),
    "08_board": (
        "Does a teacher inside the training loop help?",
        "The closed loop against each control, with 95% intervals; the verdict beside them.",
    ),
}


def order(file: Path) -> tuple[str, int, str]:
    """Sorts files of figures: by notebook, then as in CAPTIONS, unknown ones last."""
    name = file.stem
    return name[:2], [*CAPTIONS, name].index(name), name


def caption(name: str) -> tuple[str, str]:
    """The question and how to read the figure; an unknown figure asks its name."""
    return CAPTIONS.get(name, (name, ""))
