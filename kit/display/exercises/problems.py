"""The judges of notebooks 00 to 03."""

import io
import math
from collections.abc import Callable
from unittest.mock import patch

import pandas as pd

from kit.core import profile
from kit.display.exercises.judge import (
    call_learner,
    cases_of,
    complaint_about,
    follows,
    has_begun,
    judge_cases,
)


def pass_rate(learner: Callable) -> None:
    """Notebook 00: judge `learner(outcomes) -> float | None`, the pass rate of a problem.

    Args:
        learner: takes a list of "passed", "failed" and "error"; gives the share that passed among
            what was graded, None where nothing was.
    Source: paper (the share of attempts that passed); our choice (errors are left out).
    """

    def reference(outcomes):
        graded = [outcome for outcome in outcomes if outcome != "error"]
        return graded.count("passed") / len(graded) if graded else None

    lost = "An error is ours, not the student's: it is left out of both counts"
    lessons = {
        "['passed', 'failed', 'failed', 'passed']": "",
        "['failed', 'failed']": "Nothing passed: the rate is 0, which is a rate",
        "['passed', 'error', 'failed', 'error']": lost,
        "['passed', 'error']": lost,
        "['error', 'error']": "No attempt was graded, so there is no rate: None, not 0, or a "
        "broken sandbox makes a hard problem",
    }
    judge_cases("pass_rate", learner, cases_of(reference, lessons))


def advantages(learner: Callable) -> None:
    """Notebook 00: judge `learner(rewards) -> list[float]`, the advantages of one group.

    Args:
        learner: takes a list of rewards (0 or 1); gives each reward less the mean of the group.
    Source: paper (advantage).
    """
    from kit import grpo

    mean = "It is the reward less the mean of the group, as the paper has it: no division by the "
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


def logic(learner: Callable, windows: list[str], least: float = 0.75) -> None:
    """Notebook 01: judge `learner(lines) -> bool`, is this code worth showing?

    Args:
        learner: takes the lines of a window that a teacher may get. It must refuse all of DULL.
        windows: code that branches or loops.
        least: share of `windows` (0 to 1) that the learner must keep.
    Source: our choice.
    """

    def keeps(window):
        answer = learner(window.splitlines())
        return None if answer is None or answer is ... else bool(answer)

    answers = _answers("logic", keeps, [*DULL, *windows])
    if not answers:
        return

    # Every dull window must go, but a rule that refuses everything is none.
    rules = {
        f"your rule keeps this window, but {reason}:\n\n{window}": not kept
        for (window, reason), kept in zip(DULL.items(), answers)
    }
    refused = [window for window, kept in zip(windows, answers[len(DULL) :]) if not kept]
    count = len(windows) - len(refused)
    wanted = math.ceil(least * len(windows))
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
    del origins[3::7]
    answers = _answers("sides", learner, [origins, origins, origins[::-1]])
    if not answers:
        return
    once, again, turned = answers
    plain = hash
    with patch("builtins.hash", lambda value: plain(("another Python", value))):
        restarted = call_learner(learner, origins)
    listed = isinstance(once, list) and len(once) == len(origins)
    if not listed or not {*once} <= {"train", "held_out"}:
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
        f"{held} of {len(files)} files are held out, about a quarter is wanted": 2 <= held <= 6,
        "two calls with the same seeds give different sides. Draw with `random.Random(0)`, or "
        "nobody can repeat the run": once == again,
        "`hash` gives a text another number whenever Python starts, so the next session has other "
        "sides. Sort the files and draw with `random.Random(0)`": once == restarted,
        "the same seeds in another order get other sides. Sort the files before you draw": (
            turned == once[::-1]
        ),
    }
    follows("sides", rules, f"{held} of {len(files)} files held out, none on both sides. ✓")


def adapt(learner: Callable) -> None:
    """Notebook 02: judge `learner(p) -> str`, what the teacher is asked for after a problem.

    Args:
        learner: takes a pass rate (0 to 1); gives "harder", "easier" or "vary".
    Source: paper (harder above 0.65, easier at 0); our choice (in between).
    """
    from kit import synthesis

    rule = profile.load_profile("cpu").rounds
    lessons = {
        "1.0": "",
        "0.66": "Above 0.65 the next version shall be harder",
        "0.65": 'The paper says "more than 0.65": 0.65 itself is not',
        "0.3": "Some attempts were right: no need for an easier one",
        "0.125": "One attempt of eight was right: only 0 asks for an easier one",
        "0.0": "No attempt was right: easier",
    }
    judge_cases("adapt", learner, cases_of(lambda p: synthesis.adapt(p, rule), lessons))


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
        "less its own",
        "a 1 new 1.0;a 2 harder 0.5;b 1 new 0.0;b 2 easier 0.25;c 1 new 0.75;c 2 harder 0.5": (
            "Only turns asked harder count"
        ),
        "a 1 new 0.75;a 2 harder 0.25;a 3 vary 0.5": "Each turn is compared with the one just "
        "before it",
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
    rights = [0.5, 0.375, 0.5, 0.375, 0.25, 0.25]
    judge_cases("mean_fall", learner, [*zip(frames, rights, lessons.values())])


def dropped(learner: Callable) -> None:
    """Notebook 03: judge `learner(p) -> str`, the filter on pass rates.

    Args:
        learner: takes a pass rate (0 to 1); gives "unsolved", "too easy" or, for a problem that is
            kept, "".
    Source: paper (the limits 0.01 and 0.97).
    """
    from kit import filters
    from kit.core.types import Problem

    limits = profile.load_profile("cpu").filters

    def reference(p):
        problem = Problem(environment="deduction", n=1000, solved=round(1000 * p))
        return filters.apply([problem], limits, {})[0].dropped_by

    lessons = {
        "0.0": "",
        "1.0": "",
        "0.5": "Solved sometimes: this is what training needs, it is kept",
        "0.01": "The edge 0.01 itself is kept",
        "0.97": "The edge 0.97 itself is kept",
        "0.969": "31 of 32 attempts: solved nearly always is still sometimes",
        "0.005": "Below 0.01 counts as unsolved, not only 0",
        "0.985": "Above 0.97 is too easy, not only 1",
    }
    judge_cases("dropped", learner, cases_of(reference, lessons))


def similarity(learner: Callable) -> None:
    """Notebook 03: judge `learner(one, two) -> float`, how alike two programs are.

    Args:
        learner: takes two lists of tokens; gives the Jaccard index (0 to 1) of their sets of runs
            of five tokens.
    Source: our choice.
    """

    def reference(one, two):
        a, b = ({tokens[k : k + 5] for k in range(len(tokens) - 4)} for tokens in (one, two))
        return len(a & b) / len(a | b)

    # A letter is a token.
    lessons = {
        "'abcdefgh', 'abcdefgh'": "Twins have the index 1",
        "'abcdefgh', 'stuvwxyz'": "They share nothing",
        "'abcde', 'abcde'": "Five tokens are one run: it begins at 0 and there is no other",
        "'abcdefgh', 'hgfedcba'": "The same tokens in another order are another program: compare "
        "runs of five, not single tokens",
        "'abcdefgh', 'abcdefghijkl'": "Shared runs over all runs of both, each counted once: a "
        "program that holds the other is no twin of it",
        "'abcdeabcdeabcde', 'abcdeabcd'": "A run that comes twice counts once: take sets",
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
        "[('8', 'passed'), ('7', 'failed')], 2": "A right answer tells the teacher nothing new",
        twice: "The same wrong answer twice is shown once: the other place is for another mistake",
        lost: "An error is ours: it counts neither as solved nor as an attempt, and is not shown",
        "[('3', 'failed'), ('2', 'failed'), ('1', 'failed')], 2": "The first ones, in their order",
    }
    judge_cases("summary", learner, cases_of(reference, lessons))
