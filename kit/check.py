"""Judges of the exercises: each takes the learner's function and says what it does wrong.

A judge says one thing at a time: the first case that fails, with the sentence that puts it right.
The cases are chosen so that the usual mistakes fail. An exercise that is not begun (it returns None
or `...`) prints a line and passes, so that a headless run goes through. No judge raises.
"""

import ast
import copy
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

# The arguments, one after the other; the right answer; what to say if another one comes.
Case = tuple[Any, ...]


def _judge(name: str, learner: Callable, cases: list[Case]) -> None:
    """Print the first case on which the learner's function is wrong, or that it is right."""
    # All cases are tried first: a function that gives nothing anywhere is one not begun.
    answers = [_call(learner, *arguments) for *arguments, _, _ in cases]
    if not _has_begun(name, answers):
        return

    for (*arguments, right, lesson), answer in zip(cases, answers):
        complaint = _complaint(answer, right)
        if complaint:
            # A frame is too long for the line of the call: it is printed below it.
            frames = [argument for argument in arguments if isinstance(argument, pd.DataFrame)]
            call = name if frames else f"{name}({', '.join(map(repr, arguments))})"
            print(f"{call}: {'. '.join(filter(None, (complaint, lesson)))}")
            for frame in frames:
                print(frame.to_string(index=False))
            return
    print(f"{name}: right on {len(cases)} cases. ✓")


def _cases(reference: Callable, lessons: dict[str, str]) -> list[Case]:
    """Cases of the arguments as they stand in a call, with lessons; the reference gives answers."""
    calls = [(ast.literal_eval(f"({text},)"), lesson) for text, lesson in lessons.items()]
    return [(*arguments, reference(*arguments), lesson) for arguments, lesson in calls]


def _call(learner: Callable, *arguments) -> Any:
    """The learner's answer to copies of the arguments, or the exception that came instead."""
    try:
        return learner(*copy.deepcopy(arguments))
    except Exception as error:
        return error


def _has_begun(name: str, answers: list) -> bool:
    """Whether a learner has written anything; prints a line if not."""
    begun = all(a is not ... for a in answers) and any(a is not None for a in answers)
    if not begun:
        print(f"{name}: not begun yet. Replace the `...` and run the cell again.")
    return begun


def _complaint(answer, right) -> str:
    """What is wrong with an answer; empty if it is right."""
    if isinstance(answer, Exception):
        return f"your function raised {type(answer).__name__}: {answer}"
    if answer is None and right is not None:
        return "your function gives nothing: every way through it needs a `return`"
    if _same(answer, right):
        return ""
    wanted, given = (f"{x:.4g}" if isinstance(x, float) else repr(x) for x in (right, answer))
    return f"expected {wanted}, your function gives {given}"


def _same(answer, right) -> bool:
    """Equal, numbers to within 1e-9; an array or a series counts as the list of its values."""
    if hasattr(answer, "tolist"):
        answer = answer.tolist()
    match answer, right:
        case dict(), dict():
            # A bin that is not named has the weight 0.
            return all(_same(answer.get(k, 0), right.get(k, 0)) for k in {*answer, *right})
        case list() | tuple(), list() | tuple():
            return len(answer) == len(right) and all(map(_same, answer, right))
        case int() | float(), int() | float():
            return math.isclose(answer, right, abs_tol=1e-9)
    return type(answer) is type(right) and answer == right


def _follows(name: str, rules: dict[str, Any], praise: str) -> bool:
    """Whether all rules hold; prints the first (a key) that does not, else the praise."""
    broken = next((rule for rule, holds in rules.items() if not holds), "")
    print(f"{name}: {broken or praise}")
    return not broken


def pass_rate(learner: Callable) -> None:
    """Notebook 00: judge `learner(outcomes) -> float | None`, the pass rate of a problem.

    Args:
        learner: takes a list of "passed", "failed" and "error"; gives the share that passed among
            what was graded, None where nothing was.
    Source: paper (the share of attempts that passed); our choice (errors are left out).
    """

    def reference(outcomes: list[str]) -> float | None:
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
    _judge("pass_rate", learner, _cases(reference, lessons))


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
    _judge("advantages", learner, _cases(grpo.advantages, lessons))


# Windows of code that hold nothing to make a problem of, and why.
DULL = (
    "import os\nimport sys\nfrom itertools import chain\n\nVERSION = '1.2'",
    "COLOURS = {\n    'red': (255, 0, 0),\n    'lime': (0, 255, 0),\n}\nDEFAULT = COLOURS['red']",
    '"""Notes for authors.\n\nif in doubt, leave it out\nfor a list see below\n'
    'while you wait, return to page = 1\n"""',
    "class Point:\n    def __init__(self, x, y):\n        self.x, self.y = x, y\n\n"
    "    def pair(self):\n        return self.x, self.y\n\n"
    "    def moved(self, by):\n        return Point(self.x + by, self.y + by)",
)
DULL_BECAUSE = (
    "imports and a constant hold no logic",
    "a table holds no logic",
    "words are not code, even `if`, `for` and `while`",
    "functions that only store and hand out do not branch and do not loop",
)


def _answers(name: str, learner: Callable, arguments: list) -> list:
    """The learner's answers; if a call raised or all gave nothing, prints that and gives none."""
    answers = [_call(learner, argument) for argument in arguments]
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    if errors:
        print(f"{name}: {_complaint(errors[0], None)}")
    return answers if not errors and _has_begun(name, answers) else []


def logic(learner: Callable, windows: list[str], least: float = 0.75) -> None:
    """Notebook 01: judge `learner(lines) -> bool`, is this code worth showing?

    Args:
        learner: takes the lines of a window that a teacher may get. It must refuse all of DULL.
        windows: code that branches or loops.
        least: share of `windows` (0 to 1) that the learner must keep.
    Source: our choice.
    """

    def keeps(window: str) -> bool | None:
        answer = learner(window.splitlines())
        return None if answer is None or answer is ... else bool(answer)

    answers = _answers("logic", keeps, [*DULL, *windows])
    if not answers:
        return

    # Every dull window must go, but a rule that refuses everything is none.
    rules = {
        f"your rule keeps this window, but {reason}:\n\n{window}": not kept
        for window, reason, kept in zip(DULL, DULL_BECAUSE, answers)
    }
    refused = [window for window, kept in zip(windows, answers[len(DULL) :]) if not kept]
    count = len(windows) - len(refused)
    wanted = math.ceil(least * len(windows))
    rules[
        f"your rule keeps {count} of {len(windows)} windows that branch or loop, at least {wanted} "
        f"are wanted. It refuses this one:\n\n{''.join(refused[:1])}"
    ] = count >= wanted
    dull = f"{len(DULL)} of {len(DULL)} dull windows"
    _follows("logic", rules, f"refuses {dull}, keeps {count} of {len(windows)} others. ✓")


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
        "the same seeds in another order get other sides. Sort the files before you draw": (
            turned == once[::-1]
        ),
    }
    _follows("sides", rules, f"{held} of {len(files)} files held out, none on both sides. ✓")


def adapt(learner: Callable) -> None:
    """Notebook 02: judge `learner(p) -> str`, what the teacher is asked for after a problem.

    Args:
        learner: takes a pass rate (0 to 1); gives "harder", "easier" or "vary".
    Source: paper (harder above 0.65, easier at 0); our choice (in between).
    """
    from kit import profile, rounds

    rule = profile.load("cpu").rounds
    lessons = {
        "1.0": "",
        "0.66": "Above 0.65 the next version shall be harder",
        "0.65": 'The paper says "more than 0.65": 0.65 itself is not',
        "0.3": "Some attempts were right: no need for an easier one",
        "0.125": "One attempt of eight was right: only 0 asks for an easier one",
        "0.0": "No attempt was right: easier",
    }
    _judge("adapt", learner, _cases(lambda p: rounds.adapt(p, rule), lessons))


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
    }
    columns = ["chain_id", "turn", "asked", "p"]
    frames = [
        pd.read_csv(io.StringIO(turns), sep=" ", lineterminator=";", names=columns)
        for turns in lessons
    ]
    rights = [0.5, 0.375, 0.5, 0.375, 0.25]
    _judge("mean_fall", learner, [*zip(frames, rights, lessons.values())])


def dropped(learner: Callable) -> None:
    """Notebook 03: judge `learner(p) -> str`, the filter on pass rates.

    Args:
        learner: takes a pass rate (0 to 1); gives "unsolved", "too easy" or, for a problem that is
            kept, "".
    Source: paper (the limits 0.01 and 0.97).
    """
    from kit import filters, profile
    from kit.records import Problem

    limits = profile.load("cpu").filters

    def reference(p: float) -> str:
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
    _judge("dropped", learner, _cases(reference, lessons))


def similarity(learner: Callable) -> None:
    """Notebook 03: judge `learner(one, two) -> float`, how alike two programs are.

    Args:
        learner: takes two lists of tokens; gives the Jaccard index (0 to 1) of their sets of runs
            of five tokens.
    Source: our choice.
    """

    def reference(one: str, two: str) -> float:
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
    cases = [([*one], [*two], *rest) for one, two, *rest in _cases(reference, lessons)]
    _judge("similarity", learner, cases)


def bin_of(learner: Callable) -> None:
    """Notebook 04: judge `learner(p) -> str`, the broad bin of a pass rate.

    Args:
        learner: takes a pass rate (0 to 1); gives "easy", "easy-medium", "medium" or "hard", and
            "none" outside all of them.
    Source: paper (the broad bins); our choice (an edge belongs to the easier bin).
    """
    from kit import difficulty

    edge = "An edge belongs to the easier bin"
    outside = "Outside the bins there is none"
    lessons = {
        "0.9": "",
        "0.7": "",
        "0.5": "",
        "0.2": "",
        "0.05": outside,
        "1.0": outside,
        "0.85": edge,
        "0.61": edge,
        "0.26": edge,
        "0.10": "The lowest edge still counts as hard",
        "0.97": "0.97 itself is still easy",
        "0.0": outside,
    }
    _judge("bin_of", learner, _cases(lambda p: difficulty.bin_of(p, "broad") or "none", lessons))


def weights_at(learner: Callable) -> None:
    """Notebook 04: judge `learner(schedule, step, horizon) -> dict`, the weights at a step.

    Args:
        learner: takes a schedule, a list of (from step, weights) for 40,000 steps that is to be
            scaled to `horizon` steps; gives the weight of each bin. A phase holds from its first
            step on, without transition.
    Source: paper (the schedules and that they are piecewise constant).
    """
    from kit import curricula

    lessons = {
        "'sharp', 0, 40_000": "Step 0 belongs to the first phase",
        "'sharp', 20_000, 40_000": "The last phase that has begun holds",
        "'soft', 8_000, 40_000": "Weights jump from phase to phase, nothing is blended",
        "'sharp', 10, 40": "Break points are for 40,000 steps: at a horizon of 40 they come a "
        "thousand times earlier",
        "'classic', 10, 40": "A phase holds from its first step on, that step included",
        "'classic', 39, 40": "",
    }
    # The learner gets the phases, not the name.
    cases = _cases(curricula.weights, lessons)
    _judge("weights_at", learner, [(curricula.SCHEDULES[name], *rest) for name, *rest in cases])


def clipped(learner: Callable) -> None:
    """Notebook 05: judge `learner(ratio, advantage, low, high) -> float`, a token's term.

    Args:
        learner: takes the ratio of new to old probability, the advantage and the two clip widths;
            gives the term that GRPO makes as large as it can.
    Source: our choice (the paper does not state its clip).
    """

    def reference(ratio: float, advantage: float, low: float, high: float) -> float:
        limited = min(max(ratio, 1 - low), 1 + high)
        return min(ratio * advantage, limited * advantage)

    worse = (
        "Of the two products the smaller counts: a step that made things worse is never hidden by "
        "the clip"
    )
    lessons = {
        "1.0, 0.5, 0.2, 0.25": "",
        "1.1, -0.5, 0.2, 0.25": "Inside the limits it is ratio times advantage",
        "1.22, 1.0, 0.2, 0.25": "The upper limit is 1 + high, not 1 + low",
        "1.5, 1.0, 0.2, 0.25": "A good token's gain ends at 1 + high: no reason to push it further",
        "0.5, -1.0, 0.2, 0.25": "A bad token's gain ends at 1 − low",
        "1.5, -1.0, 0.2, 0.25": worse,
        "0.5, 1.0, 0.2, 0.25": worse,
    }
    _judge("clipped", learner, _cases(reference, lessons))


def schedule(phases: list | None) -> pd.DataFrame | None:
    """Notebook 05: judge a schedule of the learner's own.

    The brief: begin with nothing hard, never draw more than half of the prompts from the easy
    ones, spend at least a third of all prompts on medium ones, and let at least half of the last
    phase be hard.

    Args:
        phases: a list of (from step of 100, {"easy", "medium", "hard": weight}).
    Returns:
        A frame for `plots.curriculum` (columns `step`, `bin`, `weight`); None, after a line is
        printed that says why, if the schedule does not fit the brief.
    Source: our choice.
    """
    if not _has_begun("schedule", [phases or None]):
        return None
    assert phases  # begun
    bins = ["easy", "medium", "hard"]
    try:
        starts = [float(start) for start, _ in phases]
        weights = np.array([[float(given.get(name, 0)) for name in bins] for _, given in phases])
    except (TypeError, ValueError, AttributeError):
        print("schedule: a list of (step, {'easy': ..., 'medium': ..., 'hard': ...}) is wanted")
        return None

    # A phase lasts until the next one starts.
    lengths = np.diff([*starts, 100.0])
    easy, medium, hard = weights.T
    prompts = sum(lengths * medium)
    rules = {
        "the first phase begins at step 0": starts[0] == 0,
        "phases come in order, all before step 100": min(lengths) > 0,
        "the weights of a phase add up to 1": all(abs(weights.sum(axis=1) - 1) < 1e-6),
        "no weight is below 0": weights.min() >= 0,
        "nothing hard in the first phase: an untrained policy solves none of it, and such groups "
        "are dead": hard[0] == 0,
        "never more than half easy: what is always solved teaches as little as what never is": (
            max(easy) <= 0.5
        ),
        f"medium gets {prompts:.0f} of 100 prompts, at least 33 are wanted": prompts >= 33,
        "at least half of the last phase is hard": hard[-1] >= 0.5,
    }
    if not _follows("schedule", rules, "fits the brief. ✓"):
        return None

    # The last phase is drawn until the end.
    steps = pd.Index([*starts, 100.0], name="step")
    table = pd.DataFrame([*weights, weights[-1]], steps, pd.Index(bins, name="bin"))
    return table.stack().rename("weight").reset_index()


def pass_at_k(learner: Callable) -> None:
    """Notebook 06: judge `learner(n, c, k) -> float`, pass@k.

    Args:
        learner: takes the number of samples, how many of them are right, and k; gives the
            probability that k of the n samples hold a right one.
    Source: paper (pass@k is what it reports); the unbiased estimator of Chen et al. 2021.
    """
    from kit import evaluation

    lessons = {
        "10, 3, 1": "With one sample it is the share of right ones",
        "10, 3, 5": "The k samples are different ones of the n: 1 − (1 − c/n)^k would draw the "
        "same sample twice",
        "10, 0, 5": "None is right, so none is found",
        "10, 8, 5": "Only two are wrong, so five cannot miss all the right ones",
        "4, 4, 4": "",
    }
    _judge("pass_at_k", learner, _cases(evaluation.pass_at_k, lessons))


def paired_error(learner: Callable) -> None:
    """Notebook 06: judge `learner(before, after) -> (float, float)`, a paired comparison.

    Args:
        learner: takes two lists of scores of the same problems in the same order; gives the mean
            of after less before, and its standard error: the deviation of the differences over √n.
    Source: our choice.
    """
    from statistics import mean, stdev

    def reference(before: list[float], after: list[float]) -> tuple[float, float]:
        differences = np.subtract(after, before).tolist()
        return mean(differences), stdev(differences) / math.sqrt(len(differences))

    lessons = {
        "[0.0, 0.5, 1.0], [0.25, 0.75, 1.25]": "Every problem moved by the same, so nothing is "
        "uncertain: it is the differences that vary, not the problems",
        "[0.1, 0.5, 0.9, 0.3], [0.2, 0.7, 0.9, 0.4]": "The deviation of the differences, with "
        "n − 1 below it, over the root of n",
        "[0.5, 0.5], [0.0, 0.5]": "After less before: a loss is negative",
    }
    _judge("paired_error", learner, _cases(reference, lessons))


def verdict(learner: Callable) -> None:
    """Notebook 07: judge `learner(low, high, seeds, problems) -> str`, a verdict.

    Args:
        learner: of the claim that arm a beats arm b, takes the ends of the interval of the
            difference and the numbers of seeds and problems; gives "supported", "contradicted",
            "undecided" or "not tested at this scale".
    Source: our choice.
    """
    from kit import findings

    def reference(low: float, high: float, seeds: int, problems: int) -> str:
        return findings.Effect((low + high) / 2, low, high, seeds, problems).verdict

    few = "Too few seeds or problems: not tested, whatever the interval looks like"
    whole = "The whole interval decides, not its middle"
    lessons = {
        "0.05, 0.30, 3, 40": "",
        "-0.02, 0.30, 3, 40": whole,
        "-0.30, -0.05, 3, 40": "The interval is on the other side: the claim is contradicted",
        "0.05, 0.30, 2, 40": few,
        "-0.30, -0.05, 3, 29": few,
        "0.05, 0.30, 8, 30": "30 problems are enough",
        "-0.30, 0.02, 3, 40": whole,
    }
    _judge("verdict", learner, _cases(reference, lessons))


def _curves(**arms: str) -> pd.DataFrame:
    """The values of `dead` by arm, apart by spaces, as rows: arm, step, dead."""
    return pd.DataFrame(
        [(arm, *row) for arm, line in arms.items() for row in enumerate(map(float, line.split()))],
        columns=["arm", "step", "dead"],
    )


def collapses_first(learner: Callable) -> None:
    """Notebook 07: judge `learner(curves) -> str`, which arm of a study collapses first.

    Args:
        learner: takes a frame with the columns `arm`, `step` and `dead` (share of groups without a
            signal, 0 to 1); gives the arm that collapses first: from some step on its `dead` never
            falls below 0.9 again.
    Source: our choice.
    """
    cases = [
        (
            _curves(late="0.2 0.3 0.4 0.5 0.9 1", early="0.2 0.5 0.9 0.95 0.9 1"),
            "early",
            "One arm dies in the middle, the other at the end",
        ),
        (
            _curves(dying="0.1 0.2 0.3 0.9 0.95 0.95", shaken="0.2 0.95 0.3 0.2 0.3 0.4"),
            "dying",
            "One arm touches 0.9 and comes back: that is bad luck with the draw, no collapse",
        ),
        (
            _curves(high="0.8 0.8 0.8 0.8 0.8 0.95", sudden="0 0 0 0.9 0.9 0.9"),
            "sudden",
            "The arm with the highest mean collapses later than the other",
        ),
    ]
    _judge("collapses_first", learner, cases)


def arm(line: dict | None, against: str = "uniform") -> None:
    """Notebook 07: judge an arm of the learner's own: can it be read, and does it change one thing?

    Args:
        line: a line of arms.yaml as a dictionary.
        against: the arm of arms.yaml that it must differ from in one thing.
    Source: our choice.
    """
    from kit import curricula, findings, profile

    if not _has_begun("arm", [line or None]):
        return
    try:
        arm = findings.Arm.model_validate(line)
    except ValidationError as error:
        wrong = error.errors()[0]
        print(
            f"arm: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}; an arm has "
            f"{', '.join(findings.Arm.model_fields)}"
        )
        return

    # What an arm does not say is the profile's.
    study = profile.load("study")

    def values(one: findings.Arm) -> dict[str, Any]:
        return one.curriculum(study).model_dump() | {"set": one.set, "share": one.share}

    known = {name: values(other) for name, other in findings.arms().items()}
    own = values(arm)
    changed = [key for key in own if own[key] != known[against][key]]
    twins = [name for name in known if known[name] == own]
    rules = {
        f"no schedule is called {arm.schedule!r}; there are {', '.join(curricula.SCHEDULES)}": (
            (arm.schedule or "uniform") in curricula.SCHEDULES
        ),
        f"it is the arm {against} once more: change one thing": changed,
        f"it differs from {against} in {' and '.join(changed)}: whatever comes out, nobody can say "
        "which of them did it": len(changed) < 2,
        f"kit/arms.yaml has this one already: {', '.join(twins[:1])}": not twins,
    }
    praise = (
        f"one change against {against}, {', '.join(changed)}. ✓ Write it into kit/arms.yaml as "
        "NAME and try `python -m kit study --profile study --arms uniform,NAME --dry`"
    )
    _follows("arm", rules, praise)
