"""Judges for the exercises: each takes the learner's function and says what it does wrong, never more than one thing at a time.

An exercise that is not begun (the function returns None or `...`) prints a line and passes, so headless runs go through. No judge raises.
The cases are chosen so that the usual mistakes fail, each with the sentence that puts it right.
"""

import copy
import math
from collections.abc import Callable

import pandas as pd
from pydantic import ValidationError

Case = tuple[tuple, object, str]  # arguments, the right answer, what to say if another comes


def _judge(name: str, learner: Callable, cases: list[Case]) -> bool:
    """Whether the learner's function is right on all cases; prints one line."""
    got = []
    for args, *_ in cases:
        try:
            got.append(learner(*copy.deepcopy(args)))
        except Exception as e:
            got.append(e)
    if any(g is ... for g in got) or all(g is None for g in got):
        print(f"{name}: not begun yet. Replace the `...` and run the cell again.")
        return False
    for (args, right, lesson), answer in zip(cases, got, strict=True):
        frame = next((a for a in args if isinstance(a, pd.DataFrame)), None)
        call = name if frame is not None else f"{name}({', '.join(map(repr, args))})"
        if isinstance(answer, Exception):
            said = f"your function raised {type(answer).__name__}: {answer}"
        elif answer is None and right is not None:
            said = "your function gives nothing: every way through it needs a `return`"
        elif not _same(answer, right):
            said = f"expected {_short(right)}, your function gives {_short(answer)}"
        else:
            continue
        print(f"{call}: {said}" + (f". {lesson}" if lesson else ""))
        if frame is not None:
            print(frame.to_string(index=False))
        return False
    print(f"{name}: right on {len(cases)} cases. ✓")
    return True


def _same(a, b) -> bool:
    """Equal, numbers to within 1e-9; an array or a series counts as the list of its values."""
    a = a.tolist() if hasattr(a, "tolist") else a
    if isinstance(b, dict):
        return isinstance(a, dict) and all(_same(a.get(k, 0), b.get(k, 0)) for k in {*a, *b})
    if isinstance(b, (list, tuple)):
        return isinstance(a, (list, tuple)) and len(a) == len(b) and all(map(_same, a, b))
    if isinstance(b, (int, float)):
        return isinstance(a, (int, float)) and math.isclose(a, b, abs_tol=1e-9)
    return type(a) is type(b) and a == b


def _short(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


# ------------------------------------------------------------------ 00: from text to reward


def pass_rate(learner: Callable) -> None:
    """`learner(outcomes) -> float | None`: of a list of passed, failed and error; None where nothing was graded."""
    lost = "An error is ours, not the student's: it is left out of both counts"
    _judge(
        "pass_rate",
        learner,
        [
            ((["passed", "failed", "failed", "passed"],), 0.5, ""),
            ((["failed", "failed"],), 0.0, "Nothing passed: the rate is 0, which is a rate"),
            ((["passed", "error", "failed", "error"],), 0.5, lost),
            ((["passed", "error"],), 1.0, lost),
            (
                (["error", "error"],),
                None,
                "No attempt was graded, so there is no rate: None, not 0, or a broken sandbox makes a hard problem",
            ),
        ],
    )


def advantages(learner: Callable) -> None:
    """`learner(rewards) -> list[float]`: reward less the group's mean."""
    from kit.grpo import advantages as ours

    mean = "It is the reward less the mean of the group, as the paper has it: no division by the deviation"
    _judge(
        "advantages",
        learner,
        [
            ((x,), ours(x), lesson)
            for x, lesson in (
                ([1, 0, 0, 1], mean),
                ([1, 0, 0, 0], mean),
                ([1, 1, 1, 1], "All alike: nothing was better than its siblings"),
                ([0, 0, 0], "All alike: nothing was better than its siblings"),
                ([1, 0], mean),
            )
        ],
    )


# ------------------------------------------------------------------ 01: seeds

DULL = (
    "import os\nimport sys\nfrom itertools import chain\n\nVERSION = '1.2'",
    "COLOURS = {\n    'red': (255, 0, 0),\n    'lime': (0, 255, 0),\n}\nDEFAULT = COLOURS['red']",
    '"""Notes for authors.\n\nif in doubt, leave it out\nfor a list see below\nwhile you wait, return to page = 1\n"""',
    "class Point:\n    def __init__(self, x, y):\n        self.x, self.y = x, y\n\n    def pair(self):\n        return self.x, self.y\n\n"
    "    def moved(self, by):\n        return Point(self.x + by, self.y + by)",
)
DULL_BECAUSE = (
    "imports and a constant hold no logic",
    "a table holds no logic",
    "words are not code, even `if`, `for` and `while`",
    "functions that only store and hand out do not branch and do not loop",
)


def logic(learner: Callable, windows: list[str], least: float = 0.75) -> None:
    """`learner(lines) -> bool`: whether a window is worth showing to a teacher. It must refuse DULL and keep most of `windows`."""
    try:
        answers = [learner(w.splitlines()) for w in (*DULL, *windows)]
        kept = [None if a is None or a is ... else bool(a) for a in answers]
    except Exception as e:
        return print(f"logic: your function raised {type(e).__name__}: {e}")
    if all(k is None for k in kept):
        return print("logic: not begun yet. Replace the `...` and run the cell again.")
    for window, keeps, why in zip(DULL, kept, DULL_BECAUSE):
        if keeps:
            return print(f"logic: your rule keeps this window, but {why}:\n\n{window}")
    lively = [bool(k) for k in kept[len(DULL) :]]
    if sum(lively) < least * len(windows):
        lost = next(w for w, keeps in zip(windows, lively) if not keeps)
        return print(
            f"logic: your rule keeps {sum(lively)} of {len(windows)} windows that branch or loop, at least "
            f"{math.ceil(least * len(windows))} are wanted. It refuses this one:\n\n{lost}"
        )
    print(
        f"logic: refuses {len(DULL)} of {len(DULL)} dull windows, keeps {sum(lively)} of {len(windows)} others. ✓"
    )


def sides(learner: Callable) -> None:
    """`learner(origins) -> list[str]`: "train" or "held_out" for each `file:first-last`. Windows of one file on one side, about a quarter of
    the files held out, and the same sides for the same seeds in whatever order they come."""
    origins = [
        f"{name}.py:{first}-{first + 30}" for first in (1, 40, 90) for name in "abcdefghijklmnop"
    ]
    origins = [
        o for k, o in enumerate(origins) if k % 7 != 3
    ]  # one to three windows of each of 16 files
    try:
        once, again = learner(list(origins)), learner(list(origins))
        turned = learner(origins[::-1])
    except Exception as e:
        return print(f"sides: your function raised {type(e).__name__}: {e}")
    if once is None or once is ...:
        return print("sides: not begun yet. Replace the `...` and run the cell again.")
    if (
        not isinstance(once, list)
        or len(once) != len(origins)
        or not {*once} <= {"train", "held_out"}
    ):
        return print(
            f"sides: a list of 'train' and 'held_out' is wanted, one for each of the {len(origins)} origins"
        )
    of: dict[str, set] = {}
    for origin, side in zip(origins, once):
        of.setdefault(origin.partition(":")[0], set()).add(side)
    if both := [name for name, found in of.items() if len(found) == 2]:
        return print(
            f"sides: {both[0]} is on both sides. Two windows of one file may overlap or call each other: training on the one would be "
            "practice for the other"
        )
    held = sum("held_out" in found for found in of.values())
    if not 2 <= held <= 6:
        return print(f"sides: {held} of {len(of)} files are held out, about a quarter is wanted")
    if once != again:
        return print(
            "sides: two calls with the same seeds give different sides. Draw with `random.Random(0)`, or nobody can repeat the run"
        )
    if turned != once[::-1]:
        return print(
            "sides: the same seeds in another order get other sides. Sort the files before you draw"
        )
    print(f"sides: {held} of {len(of)} files held out, none on both sides. ✓")


# ------------------------------------------------------------------ 02: rounds


def adapt(learner: Callable) -> None:
    """`learner(p) -> "harder" | "easier" | "vary"` by the paper's rule and our choice in between."""
    from kit import profile
    from kit.rounds import adapt as ours

    rule = profile.load("cpu").rounds
    _judge(
        "adapt",
        learner,
        [
            ((p,), ours(p, rule), lesson)
            for p, lesson in (
                (1.0, ""),
                (0.66, "Above 0.65 the next version shall be harder"),
                (0.65, 'The paper says "more than 0.65": 0.65 itself is not'),
                (0.3, "Some attempts were right: no need for an easier one"),
                (0.125, "One attempt of eight was right: only 0 asks for an easier one"),
                (0.0, "No attempt was right: easier"),
            )
        ],
    )


def mean_fall(learner: Callable) -> None:
    """`learner(turns) -> float`: of a frame (chain_id, turn, asked, p), the mean of p before less p after over the turns asked "harder";
    p is NaN where a draft was invalid, and such a turn is in no pair."""

    def turns(*rows):
        return pd.DataFrame(rows, columns=["chain_id", "turn", "asked", "p"])

    nan = float("nan")
    _judge(
        "mean_fall",
        learner,
        [
            (
                (turns(("a", 1, "new", 0.75), ("a", 2, "harder", 0.25)),),
                0.5,
                "The fall of a turn is the pass rate of the turn before less its own",
            ),
            (
                (
                    turns(
                        ("a", 1, "new", 1.0),
                        ("a", 2, "harder", 0.5),
                        ("b", 1, "new", 0.0),
                        ("b", 2, "easier", 0.25),
                        ("c", 1, "new", 0.75),
                        ("c", 2, "harder", 0.5),
                    ),
                ),
                0.375,
                "Only turns asked harder count",
            ),
            (
                (turns(("a", 1, "new", 0.75), ("a", 2, "harder", 0.25), ("a", 3, "vary", 0.5)),),
                0.5,
                "Each turn is compared with the one just before it",
            ),
            (
                (
                    turns(
                        ("a", 1, "new", 1.0),
                        ("b", 1, "new", 0.75),
                        ("b", 2, "harder", 0.5),
                        ("a", 2, "harder", 0.5),
                    ),
                ),
                0.375,
                "Rows come in any order: the turn before is the one of the same chain",
            ),
            (
                (
                    turns(
                        ("a", 1, "new", 1.0),
                        ("a", 2, "harder", nan),
                        ("b", 1, "new", 0.75),
                        ("b", 2, "harder", 0.5),
                    ),
                ),
                0.25,
                "An invalid draft has no pass rate. Taken for 0 it would count as a great fall",
            ),
        ],
    )


# ------------------------------------------------------------------ 03: filters


def dropped(learner: Callable) -> None:
    """`learner(p) -> "unsolved" | "too easy" | ""` by the limits of the paper, 0.01 and 0.97."""
    from kit import filters, profile
    from kit.records import Problem

    numbers = profile.load("cpu").filters

    def ours(solved):
        return filters.apply(
            [Problem(environment="deduction", n=1000, solved=solved)], numbers, {}
        )[0].dropped_by

    _judge(
        "dropped",
        learner,
        [
            ((k / 1000,), ours(k), lesson)
            for k, lesson in (
                (0, ""),
                (1000, ""),
                (500, "Solved sometimes: this is what training needs, it is kept"),
                (10, "The edge 0.01 itself is kept"),
                (970, "The edge 0.97 itself is kept"),
                (969, "31 of 32 attempts: solved nearly always is still sometimes"),
                (5, "Below 0.01 counts as unsolved, not only 0"),
                (985, "Above 0.97 is too easy, not only 1"),
            )
        ],
    )


def similarity(learner: Callable) -> None:
    """`learner(one, two) -> float`: Jaccard index of the sets of runs of five tokens."""

    def ours(one, two):
        a, b = ({" ".join(x[k : k + 5]) for k in range(len(x) - 4)} for x in (one, two))
        return len(a & b) / len(a | b)

    abc, loop = list("abcdefgh"), list("abcde" * 3)
    cases = [
        (abc, abc, "Twins have the index 1"),
        (abc, list("stuvwxyz"), "They share nothing"),
        (
            list("abcde"),
            list("abcde"),
            "Five tokens are one run: it begins at 0 and there is no other",
        ),
        (
            abc,
            list("hgfedcba"),
            "The same tokens in another order are another program: compare runs of five, not single tokens",
        ),
        (
            abc,
            list("abcdefghijkl"),
            "Shared runs over all runs of both, each counted once: a program that holds the other is no twin of it",
        ),
        (loop, list("abcdeabcd"), "A run that comes twice counts once: take sets"),
    ]
    _judge(
        "similarity", learner, [((one, two), ours(one, two), lesson) for one, two, lesson in cases]
    )


# ------------------------------------------------------------------ 04: difficulty and curriculum


def bin_of(learner: Callable) -> None:
    """`learner(p) -> str`: the broad bin of a pass rate, "none" outside all of them."""
    from kit.difficulty import bin_of as ours

    edge, outside = "An edge belongs to the easier bin", "Outside the bins there is none"
    _judge(
        "bin_of",
        learner,
        [
            ((p,), ours(p, "broad") or "none", lesson)
            for p, lesson in (
                (0.9, ""),
                (0.7, ""),
                (0.5, ""),
                (0.2, ""),
                (0.05, outside),
                (1.0, outside),
                (0.85, edge),
                (0.61, edge),
                (0.26, edge),
                (0.10, "The lowest edge still counts as hard"),
                (0.97, "0.97 itself is still easy"),
                (0.0, outside),
            )
        ],
    )


def weights_at(learner: Callable) -> None:
    """`learner(schedule, step, horizon) -> dict`: the weights at a step; `schedule` is a list of (from step, weights) for 40,000 steps,
    to be scaled to `horizon`. A phase holds from its first step on, without transition."""
    from kit.curricula import SCHEDULES, weights

    _judge(
        "weights_at",
        learner,
        [
            ((SCHEDULES[name], step, horizon), weights(name, step, horizon), lesson)
            for name, step, horizon, lesson in (
                ("sharp", 0, 40_000, "Step 0 belongs to the first phase"),
                ("sharp", 20_000, 40_000, "The last phase that has begun holds"),
                ("soft", 8_000, 40_000, "Weights jump from phase to phase, nothing is blended"),
                (
                    "sharp",
                    10,
                    40,
                    "Break points are for 40,000 steps: at a horizon of 40 they come a thousand times earlier",
                ),
                ("classic", 10, 40, "A phase holds from its first step on, that step included"),
                ("classic", 39, 40, ""),
            )
        ],
    )


# ------------------------------------------------------------------ 05: GRPO


def clipped(learner: Callable) -> None:
    """`learner(ratio, advantage, low, high) -> float`: the term that GRPO makes as large as it can, for one token."""
    up, down = (
        "A good token's gain ends at 1 + high: no reason to push it further",
        "A bad token's gain ends at 1 − low",
    )
    worse = "Of the two products the smaller counts: a step that made things worse is never hidden by the clip"
    _judge(
        "clipped",
        learner,
        [
            ((ratio, a, 0.2, 0.25), min(ratio * a, min(max(ratio, 0.8), 1.25) * a), lesson)
            for ratio, a, lesson in (
                (1.0, 0.5, ""),
                (1.1, -0.5, "Inside the limits it is ratio times advantage"),
                (1.22, 1.0, "The upper limit is 1 + high, not 1 + low"),
                (1.5, 1.0, up),
                (0.5, -1.0, down),
                (1.5, -1.0, worse),
                (0.5, 1.0, worse),
            )
        ],
    )


def schedule(phases: list | None):
    """[(from step of 100, {easy, medium, hard: weight})] -> a frame for `plots.curriculum`, or None and what is wrong with it.

    The brief: begin with nothing hard, never draw more than half of the prompts from the easy ones, spend at least a third of all prompts
    on medium ones, and let at least half of the last phase be hard."""
    if not phases or phases is ...:
        return print("schedule: not begun yet. Replace the `...` and run the cell again.")
    try:
        starts = [float(start) for start, _ in phases]
        weights = [{b: float(w.get(b, 0)) for b in ("easy", "medium", "hard")} for _, w in phases]
    except (TypeError, ValueError, AttributeError):
        return print(
            "schedule: a list of (step, {'easy': ..., 'medium': ..., 'hard': ...}) is wanted"
        )
    lengths = [b - a for a, b in zip(starts, [*starts[1:], 100.0], strict=True)]
    medium = sum(n * w["medium"] for n, w in zip(lengths, weights))
    rules = {
        "the first phase begins at step 0": starts[0] == 0,
        "phases come in order, all before step 100": min(lengths) > 0,
        "the weights of a phase add up to 1": all(abs(sum(w.values()) - 1) < 1e-6 for w in weights),
        "no weight is below 0": min(min(w.values()) for w in weights) >= 0,
        "nothing hard in the first phase: an untrained policy solves none of it, and such groups are dead": not weights[
            0
        ]["hard"],
        "never more than half easy: what is always solved teaches as little as what never is": max(
            w["easy"] for w in weights
        )
        <= 0.5,
        f"medium gets {medium:.0f} of 100 prompts, at least 33 are wanted": medium >= 33,
        "at least half of the last phase is hard": weights[-1]["hard"] >= 0.5,
    }
    wrong = next((rule for rule, kept in rules.items() if not kept), "")
    if wrong:
        return print(f"schedule: {wrong}")
    print("schedule: fits the brief. ✓")
    points = [*zip(starts, weights, strict=True), (100.0, weights[-1])]
    return pd.DataFrame(
        [(step, b, x) for step, w in points for b, x in w.items()],
        columns=["step", "bin", "weight"],
    )


# ------------------------------------------------------------------ 06: evaluation


def pass_at_k(learner: Callable) -> None:
    """`learner(n, c, k) -> float`: probability that k of n samples, c of them right, hold a right one."""
    from kit.evaluation import pass_at_k as ours

    _judge(
        "pass_at_k",
        learner,
        [
            ((n, c, k), ours(n, c, k), lesson)
            for n, c, k, lesson in (
                (10, 3, 1, "With one sample it is the share of right ones"),
                (
                    10,
                    3,
                    5,
                    "The k samples are different ones of the n: 1 − (1 − c/n)^k would draw the same sample twice",
                ),
                (10, 0, 5, "None is right, so none is found"),
                (10, 8, 5, "Only two are wrong, so five cannot miss all the right ones"),
                (4, 4, 4, ""),
            )
        ],
    )


def paired_error(learner: Callable) -> None:
    """`learner(before, after) -> (mean difference, standard error)` over the same problems: deviation of the differences over √n."""
    from statistics import mean, stdev

    def ours(before, after):
        moved = [b - a for a, b in zip(before, after, strict=True)]
        return mean(moved), stdev(moved) / math.sqrt(len(moved))

    _judge(
        "paired_error",
        learner,
        [
            ((before, after), ours(before, after), lesson)
            for before, after, lesson in (
                (
                    [0.0, 0.5, 1.0],
                    [0.25, 0.75, 1.25],
                    "Every problem moved by the same, so nothing is uncertain: it is the differences that vary, not the "
                    "problems",
                ),
                (
                    [0.1, 0.5, 0.9, 0.3],
                    [0.2, 0.7, 0.9, 0.4],
                    "The deviation of the differences, with n − 1 below it, over the root of n",
                ),
                ([0.5, 0.5], [0.0, 0.5], "After less before: a loss is negative"),
            )
        ],
    )


# ------------------------------------------------------------------ 07: findings


def verdict(learner: Callable) -> None:
    """`learner(low, high, seeds, problems) -> str`: the rule of notebook 07 for "arm a beats arm b"."""
    from kit.findings import Effect

    few, zero = (
        "Too few seeds or problems: not tested, whatever the interval looks like",
        "The whole interval decides, not its middle",
    )
    _judge(
        "verdict",
        learner,
        [
            ((low, high, s, n), Effect((low + high) / 2, low, high, s, n).verdict, lesson)
            for low, high, s, n, lesson in (
                (0.05, 0.30, 3, 40, ""),
                (-0.02, 0.30, 3, 40, zero),
                (
                    -0.30,
                    -0.05,
                    3,
                    40,
                    "The interval is on the other side: the claim is contradicted",
                ),
                (0.05, 0.30, 2, 40, few),
                (-0.30, -0.05, 3, 29, few),
                (0.05, 0.30, 8, 30, "30 problems are enough"),
                (-0.30, 0.02, 3, 40, zero),
            )
        ],
    )


def collapses_first(learner: Callable) -> None:
    """`learner(curves) -> str`: of a frame (arm, step, dead: share of groups without a signal), the arm that collapses first: from some step
    on `dead` never falls below 0.9 again."""

    def curves(**arms):
        return pd.DataFrame(
            [(arm, step, x) for arm, line in arms.items() for step, x in enumerate(line)],
            columns=["arm", "step", "dead"],
        )

    _judge(
        "collapses_first",
        learner,
        [
            (
                (curves(late=[0.2, 0.3, 0.4, 0.5, 0.9, 1], early=[0.2, 0.5, 0.9, 0.95, 0.9, 1]),),
                "early",
                "One arm dies in the middle, the other at the end",
            ),
            (
                (
                    curves(
                        dying=[0.1, 0.2, 0.3, 0.9, 0.95, 0.95],
                        shaken=[0.2, 0.95, 0.3, 0.2, 0.3, 0.4],
                    ),
                ),
                "dying",
                "One arm touches 0.9 and comes back: that is bad luck with the draw, no collapse",
            ),
            (
                (curves(high=[0.8, 0.8, 0.8, 0.8, 0.8, 0.95], sudden=[0, 0, 0, 0.9, 0.9, 0.9]),),
                "sudden",
                "The arm with the highest mean collapses later than the other",
            ),
        ],
    )


def arm(line: dict | None, against: str = "uniform") -> None:
    """A line of arms.yaml as a dictionary: can it be read, and does it differ from the arm `against` in one thing?"""
    from kit import curricula, findings, profile

    if not line or line is ...:
        return print("arm: not begun yet. Replace the `...` and run the cell again.")
    try:
        mine = findings.Arm.model_validate(line)
    except ValidationError as e:
        wrong = e.errors()[0]
        return print(
            f"arm: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}; an arm has {', '.join(findings.Arm.model_fields)}"
        )
    if mine.schedule and mine.schedule not in curricula.SCHEDULES:
        return print(
            f"arm: no schedule is called {mine.schedule!r}; there are {', '.join(curricula.SCHEDULES)}"
        )
    known, numbers = findings.arms(), profile.load("study")

    def facts(one):  # what an arm does not say is the profile's
        return one.curriculum(numbers).model_dump() | {"set": one.set, "share": one.share}

    changed = [key for key, value in facts(mine).items() if value != facts(known[against])[key]]
    if not changed:
        return print(f"arm: it is the arm {against} once more: change one thing")
    if len(changed) > 1:
        return print(
            f"arm: it differs from {against} in {' and '.join(changed)}: whatever comes out, nobody can say which of them did it"
        )
    if twin := next((name for name, other in known.items() if facts(other) == facts(mine)), ""):
        return print(f"arm: kit/arms.yaml has this one already: {twin}")
    print(
        f"arm: one change against {against}, {changed[0]}. ✓ Write it into kit/arms.yaml as NAME and try "
        "`python -m kit study --profile study --arms uniform,NAME --dry`"
    )
