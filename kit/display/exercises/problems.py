"""The judges of notebooks 00 to 03."""

import io
import math
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.stats import beta, binom

from kit.core import profile
from kit.display.exercises.judge import (
    call_learner,
    cases_of,
    complaint_about,
    follows,
    has_begun,
    judge_cases,
    numbers_of,
)

# Pass rates of the problems that wait for a training step, and rollouts in a group.
WAITING = (0.0, 0.05, 0.3, 0.6, 0.95, 1.0)
GROUP = 8


def picks(chosen: list[float] | None) -> None:
    """Notebook 00: judge which problems a learner spends three groups of GROUP rollouts on.

    Args:
        chosen: three different pass rates of WAITING.
    Source: paper (a group whose rewards are all equal teaches nothing); our choice (the numbers).
    """
    rates = numbers_of("picks", chosen, "[0.0, 0.05, 0.3]")
    if not rates:
        return
    live = sum(1 - _dead_group(p) for p in rates)
    told = f"on average {live:.1f} of 3 groups hold right and wrong answers"
    rules = {
        f"choose three different ones of {', '.join(map(str, WAITING))}": (
            len({*rates} & {*WAITING}) == 3
        ),
        f"{told}, at least 2.2 are wanted: a group that is all right or all wrong costs as much, "
        "and changes nothing": live >= 2.2,
    }
    follows("picks", rules, f"{told}. ✓")


def _dead_group(p: float) -> float:
    """The probability that all GROUP answers to a problem of pass rate p are right, or wrong."""
    return p**GROUP + (1 - p) ** GROUP


def advantages(learner: Callable) -> None:
    """Notebook 00: judge `learner(rewards) -> list[float]`, the advantages of one group.

    Args:
        learner: takes a list of rewards (0 or 1); gives each reward minus the mean of the group.
    Source: paper (advantage).
    """
    from kit import grpo

    mean = "It is the reward minus the mean of the group, as the paper has it: no division by the "
    mean += "deviation"
    alike = "All alike: nothing was better than its siblings"
    lessons = {
        "[1, 0, 0, 1]": mean,
        "[1, 0, 0, 0]": mean,
        "[1, 1, 1, 1]": alike,
        "[0, 0, 0]": alike,
        "[1, 0]": mean,
    }
    judge_cases("advantages", learner, cases_of(grpo.advantages, lessons))


# Windows of code that hold nothing to make a problem of, and why.
DULL = {
    "import os\nimport sys\nfrom itertools import chain\n\nVERSION = '1.2'": (
        "imports and a constant hold no logic"
    ),
    "COLOURS = {\n    'red': (255, 0, 0),\n    'lime': (0, 255, 0),\n}\n"
    "DEFAULT = COLOURS['red']": "a table holds no logic",
    '"""Notes for authors.\n\nif in doubt, leave it out\nfor a list see below\n'
    'while you wait, return to page = 1\n"""': "words are not code, even `if`, `for` and `while`",
    "class Point:\n    def __init__(self, x, y):\n        self.x, self.y = x, y\n\n"
    "    def pair(self):\n        return self.x, self.y\n\n"
    "    def moved(self, by):\n        return Point(self.x + by, self.y + by)": (
        "functions that only store and hand out do not branch and do not loop"
    ),
}


def _answers(name, learner, arguments):
    """The learner's answers; if a call raised or all gave nothing, prints that and gives none."""
    answers = [call_learner(learner, argument) for argument in arguments]
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    if errors:
        print(f"{name}: {complaint_about(errors[0], None)}")
    return answers if not errors and has_begun(name, answers) else []


def logic(learner: Callable, windows: list[str]) -> None:
    """Notebook 01: judge `learner(lines) -> bool`, is this code worth showing?

    Args:
        learner: takes the lines of a window that a teacher may get. It must refuse all of DULL.
        windows: code that branches or loops; the learner must keep three quarters of it.
    Source: our choice.
    """

    def keeps(window):
        answer = learner(window.splitlines())
        return None if answer is None or answer is ... else bool(answer)

    # As long as a window of the kit: the length of a text is no logic.
    long = ["\n\n".join([text] * 6) for text in DULL]
    answers = _answers("logic", keeps, [*long, *windows])
    if not answers:
        return

    # Every dull window must go, but a rule that refuses everything is none.
    rules = {
        f"your rule keeps this window, six times over, but {reason}:\n\n{window}": not kept
        for (window, reason), kept in zip(DULL.items(), answers)
    }
    refused = [window for window, kept in zip(windows, answers[len(DULL) :]) if not kept]
    count = len(windows) - len(refused)
    wanted = math.ceil(0.75 * len(windows))
    rules[
        f"your rule keeps {count} of {len(windows)} windows that branch or loop, at least {wanted} "
        f"are wanted. It refuses this one:\n\n{''.join(refused[:1])}"
    ] = count >= wanted
    dull = f"{len(DULL)} of {len(DULL)} dull windows"
    follows("logic", rules, f"refuses {dull}, keeps {count} of {len(windows)} others. ✓")


def sides(learner: Callable) -> None:
    """Notebook 01: judge `learner(origins) -> list[str]`, the split of seeds into two sides.

    Args:
        learner: takes a list of `file:first-last`; gives "train" or "held_out" for each. Windows
            of one file are on one side, about a quarter of the files is held out, and the same
            seeds get the same sides in whatever order they come.
    Source: our choice.
    """
    # One to three windows of each of 16 files.
    origins = [f"{name}.py:{at}-{at + 30}" for at in (1, 40, 90) for name in "abcdefghijklmnop"]
    del origins[6::7]
    answers = _answers("sides", learner, [origins, origins, origins[::-1]])
    if not answers:
        return
    once, again, turned = answers
    plain = hash
    with patch("builtins.hash", lambda value: plain(("another Python", value))):
        restarted = call_learner(learner, origins)
    listed = isinstance(once, list) and len(once) == len(origins)
    if not listed or not {*map(str, once)} <= {"train", "held_out"}:
        wanted = "a list of 'train' and 'held_out' is wanted, one for each of the"
        print(f"sides: {wanted} {len(origins)} origins")
        return

    names = [origin.partition(":")[0] for origin in origins]
    files = pd.Series(once).groupby(names, sort=False).agg(set)
    both = [name for name, found in files.items() if len(found) == 2]
    held = sum("held_out" in found for found in files)
    rules = {
        f"{' and '.join(both[:1])} is on both sides. Two windows of one file may overlap or call "
        "each other: training on the one would be practice for the other": not both,
        f"{held} of {len(files)} files are held out, about a quarter is wanted": 2 <= held <= 7,
        "two calls with the same seeds give different sides. Draw with `random.Random(0)`, or "
        "nobody can repeat the run": once == again,
        "`hash` gives a text another number whenever Python starts, so the next session has other "
        "sides. Sort the files and draw with `random.Random(0)`": once == restarted,
        "the same seeds in another order get other sides. Sort the files before you draw": (
            turned == once[::-1]
        ),
    }
    told = f"{held} of {len(files)} files held out, none on both sides. ✓"
    follows("sides", rules, f"{told} (If you drew from a set, sort it: its order changes.)")


def enough_attempts(chosen: int | None) -> None:
    """Notebook 02: judge a number of attempts M, by the loop's mistakes at this M.

    Args:
        chosen: M.
    Source: paper (the rule of adaptation, 32 attempts); our choice (one mistake in ten).
    """
    found = numbers_of("enough_attempts", chosen, "24")
    if not found:
        return
    tried = round(found[0])
    rule = profile.load_profile("cpu").rounds
    harder = binom.sf(rule.harder_above * tried, tried, 0.5)
    easier = binom.pmf(0, tried, 0.1)
    told = f"with {tried} attempts {harder:.0%} of the problems of true p = 0.5 count as too easy, "
    told += f"{easier:.0%} of those of 0.1 as never solved"
    rules = {
        "at least one attempt": tried > 0,
        f"{told}: at most 10% of each are wanted": max(harder, easier) <= 0.1,
        f"{told}, but 25 attempts are all that you can pay": tried <= 25,
    }
    follows("enough_attempts", rules, f"{told}. ✓")


def mean_fall(learner: Callable) -> None:
    """Notebook 02: judge `learner(turns) -> float`, the mean fall of the pass rate.

    Args:
        learner: takes a frame with the columns `chain_id`, `turn`, `asked` and `p` (pass rate; NaN
            where a draft was invalid, and such a turn is in no pair); gives the mean of p before
            less p after over the turns asked "harder".
    Source: paper (a harder turn lowers the pass rate); our choice (the mean).
    """
    lessons = {
        "a 1 new 0.75;a 2 harder 0.25": "The fall of a turn is the pass rate of the turn before "
        "minus its own",
        "a 1 new 1.0;a 2 harder 0.5;b 1 new 0.0;b 2 easier 0.25;c 1 new 0.75;c 2 harder 1.0": (
            "Only turns asked harder count, those that rose too"
        ),
        "a 1 new 1;a 2 harder 0.25;a 3 vary 0.5;a 4 harder 0.5;a 5 harder 0.5": "Each turn is "
        "compared with the one just before it",
        "a 1 new 1.0;b 1 new 0.75;b 2 harder 0.5;a 2 harder 0.5": "Rows come in any order: the "
        "turn before is the one of the same chain",
        "a 1 new 1.0;a 2 harder nan;b 1 new 0.75;b 2 harder 0.5": "An invalid draft has no pass "
        "rate. Taken for 0 it would count as a great fall",
        "a 1 new 1.0;a 2 vary nan;a 3 harder 0.25;b 1 new 0.75;b 2 harder 0.5": "The turn just "
        "before turn 3 is turn 2, which has no pass rate: dropped first, it would pair 3 with 1",
    }
    columns = ["chain_id", "turn", "asked", "p"]
    frames = [
        pd.read_csv(io.StringIO(turns), sep=" ", lineterminator=";", names=columns)
        for turns in lessons
    ]
    rights = [0.5, 0.125, 0.25, 0.375, 0.25, 0.25]
    judge_cases("mean_fall", learner, [*zip(frames, rights, lessons.values())])


def limits(chosen: tuple[float, float] | None) -> None:
    """Notebook 03: judge the lowest and the highest pass rate that are kept.

    Of 1,000 problems most are never or always solved, as most sets are (a beta distribution).

    Args:
        chosen: the two limits, 0 to 1.
    Source: our choice (the paper's limits are 0.01 and 0.97).
    """
    ends = numbers_of("limits", chosen, "(0.01, 0.97)")
    if not ends:
        return
    rates = beta.ppf((np.arange(1000) + 0.5) / 1000, 0.3, 0.3)
    kept = rates[(rates >= ends[0]) & (rates <= ends[1])]
    dead = np.mean(_dead_group(kept)) if len(kept) else 0
    told = f"{len(kept)} of 1,000 problems stay, and {dead:.0%} of their groups are dead"
    rules = {
        f"{told}. At most 25% dead ones are wanted: be stricter": dead <= 0.25,
        f"{told}. At least 350 problems are wanted, or the policy learns them by heart": (
            len(kept) >= 350
        ),
    }
    follows("limits", rules, f"{told}. ✓")


def similarity(learner: Callable) -> None:
    """Notebook 03: judge `learner(one, two) -> float`, how alike two programs are.

    Args:
        learner: takes two lists of tokens; gives the Jaccard index (0 to 1) of their sets of runs
            of five tokens.
    Source: our choice.
    """

    def reference(one, two):
        a, b = ({(*tokens[k : k + 5],) for k in range(len(tokens) - 4)} for tokens in (one, two))
        return len(a & b) / len(a | b)

    # A letter is a token, or a word.
    lessons = {
        "'abcdefgh', 'abcdefgh'": "Twins have the index 1",
        "'abcdefgh', 'stuvwxyz'": "They share nothing",
        "'abcde', 'abcde'": "Five tokens are one run: it begins at 0 and there is no other",
        "'abcdefgh', 'hgfedcba'": "The same tokens in another order are another program: compare "
        "runs of five, not single tokens",
        "'abcdefg', 'bcdefgh'": "Shared runs over all runs of both, each counted once: a "
        "program that shares much with the other is no twin of it",
        "'abcdeabcdeabcde', 'abcdeabcd'": "A run that comes twice counts once: take sets",
        "['if', 'x', ':', 'y', 'z'], ['i', 'fx', ':', 'y', 'z']": "A run is of tokens: where one "
        "ends makes a difference",
    }
    cases = [([*one], [*two], *rest) for one, two, *rest in cases_of(reference, lessons)]
    judge_cases("similarity", learner, cases)


def summary(learner: Callable) -> None:
    """Notebook 08: judge `learner(attempts, shown) -> tuple`, what the teacher is told of them.

    Args:
        learner: takes attempts as (answer, outcome), outcome passed, failed or error, and how many
            wrong answers are shown; gives the pass rate and a list of wrong answers.
    Source: paper, sec. 4 (the summary); which answers are shown is our choice.
    """

    def reference(attempts, shown):
        failed = [answer for answer, outcome in attempts if outcome == "failed"]
        passed = sum(outcome == "passed" for _, outcome in attempts)
        return passed / (passed + len(failed)), [*dict.fromkeys(failed)][:shown]

    twice = "[('7', 'failed'), ('7', 'failed'), ('9', 'failed'), ('8', 'passed')], 2"
    lost = "[('8', 'passed'), ('', 'error'), ('7', 'failed'), ('', 'error')], 2"
    lessons = {
        "[('8', 'passed'), ('7', 'failed')], 2": "A right answer is not in this list: it "
        "counts in the pass rate",
        twice: "The same wrong answer twice is shown once: the other place is for another mistake",
        lost: "An error is ours: it counts neither as solved nor as an attempt, and is not shown",
        "[('3', 'failed'), ('2', 'failed'), ('2', 'failed')], 1": "The first ones, in their order",
    }
    judge_cases("summary", learner, cases_of(reference, lessons))
