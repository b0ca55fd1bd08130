"""The judges of the exercises.

A right answer passes, at least three plausible mistakes each are caught with the sentence that
helps, an empty stub passes quietly, and nothing that a learner returns makes a judge raise.
"""

import inspect
import math
import random
from statistics import pstdev, stdev

import numpy as np
import pandas as pd
import pytest

from kit import seeds
from kit.display import exercises
from kit.display.exercises import problems, training
from kit.schedules import SCHEDULES

WINDOWS = [s.text for s in seeds.wild_seeds(20, (25, 50), seed=1)]


def logic(lines):
    words = ("if ", "elif ", "for ", "while ", "match ")
    return any(line.strip().startswith(words) and line.strip().endswith(":") for line in lines)


def sides(origins):
    files = sorted({o.partition(":")[0] for o in origins})
    held = random.Random(0).sample(files, len(files) // 4)
    return ["held_out" if o.partition(":")[0] in held else "train" for o in origins]


def sides_as_they_come(origins):
    files = list(dict.fromkeys(o.partition(":")[0] for o in origins))
    return ["held_out" if o.partition(":")[0] in files[:4] else "train" for o in origins]


def sides_by_luck(origins):
    files = sorted({o.partition(":")[0] for o in origins})
    held = random.sample(files, len(files) // 4)
    return ["held_out" if o.partition(":")[0] in held else "train" for o in origins]


def sides_by_hash(origins):
    held = sorted({o.partition(":")[0] for o in origins}, key=hash)[:4]
    return ["held_out" if o.partition(":")[0] in held else "train" for o in origins]


def mean_fall(turns, asked="asked", of="chain_id", fill=None):
    turns = turns.sort_values([of, "turn"])
    turns = turns.assign(p=turns.p if fill is None else turns.p.fillna(fill))
    fall = turns.groupby(of).p.shift() - turns.p
    return fall[turns[asked] == "harder"].mean()


def mean_fall_of_the_next(turns):
    turns = turns.sort_values(["chain_id", "turn"])
    return (turns.p - turns.groupby("chain_id").p.shift(-1))[turns.asked == "harder"].mean()


def first_less_last(turns):
    harder = (
        turns[turns.chain_id.isin(turns[turns.asked == "harder"].chain_id)]
        .sort_values("turn")
        .groupby("chain_id")
        .p
    )
    return (harder.first() - harder.last()).mean()


def similarity(one, two, k=5, more=0, sets=set):
    a, b = (sets(" ".join(x[i : i + k]) for i in range(len(x) - k + 1 - more)) for x in (one, two))
    if sets is list:
        return sum(x in b for x in a) / len(set(a) | set(b))
    return len(a & b) / len(a | b)


def contained(one, two):
    a, b = ({" ".join(x[i : i + 5]) for i in range(len(x) - 4)} for x in (one, two))
    return len(a & b) / len(a)


def weights_at(schedule, step, horizon):
    return [w for start, w in schedule if start * horizon / 40_000 <= step][-1]


def blended(schedule, step, horizon):
    at = step * 40_000 / horizon
    starts, bins = [s for s, _ in schedule], schedule[0][1]
    return {b: float(np.interp(at, starts, [w[b] for _, w in schedule])) for b in bins}


def clipped(ratio, advantage, low, high):
    return min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)


def paired_error(before, after, deviation=stdev):
    moved = [b - a for a, b in zip(before, after)]
    return sum(moved) / len(moved), deviation(moved) / math.sqrt(len(moved))


def unpaired(before, after):
    n = len(before)
    return (sum(after) - sum(before)) / n, math.sqrt((stdev(before) ** 2 + stdev(after) ** 2) / n)


def verdict(low, high, seeds, problems):
    if seeds < 3 or problems < 30:
        return "not tested at this scale"
    return "supported" if low > 0 else "contradicted" if high < 0 else "undecided"


def collapses_first(curves):
    alive = (
        curves[curves.dead < 0.9]
        .groupby("arm")
        .step.max()
        .reindex(curves.arm.unique(), fill_value=-1)
    )
    return alive[alive < curves.step.max()].idxmin()


def summary(attempts, shown):
    failed = [answer for answer, outcome in attempts if outcome == "failed"]
    passed = sum(outcome == "passed" for _, outcome in attempts)
    return passed / (passed + len(failed)), list(dict.fromkeys(failed))[:shown]


def different(attempts, *outcomes):
    return list(dict.fromkeys(answer for answer, outcome in attempts if outcome in outcomes))


def mean(xs):
    return sum(xs) / len(xs)


EXERCISES = {
    exercises.advantages: (
        lambda r: [x - mean(r) for x in r],
        [
            (
                lambda r: [(x - mean(r)) / (pstdev(r) + 1e-6) for x in r],
                "no division by the deviation",
            ),
            (lambda r: r, "minus the mean"),
            (lambda r: [mean(r) - x for x in r], "minus the mean"),
            (lambda r: mean(r), "gives 0.5"),
            (lambda r: [x - 0.5 for x in r], "[1, 0, 0, 0]"),
        ],
    ),
    exercises.mean_fall: (
        mean_fall,
        [
            (lambda t: -mean_fall(t), "turn before minus its own"),
            (mean_fall_of_the_next, "turn before minus its own"),
            (first_less_last, "just before it"),
            (lambda t: mean_fall(t, fill=0), "Taken for 0"),
            (lambda t: mean_fall(t.dropna(subset="p")), "pair 3 with 1"),
            (lambda t: (-t.p.diff())[t.asked == "harder"].mean(), "of the same chain"),
            (
                lambda t: (t.sort_values("turn").groupby("chain_id").p.shift() - t.p).mean(),
                "Only turns asked harder",
            ),
        ],
    ),
    exercises.similarity: (
        similarity,
        [
            (contained, "is no twin"),
            (lambda a, b: similarity(a, b, more=1), "ZeroDivisionError"),
            (lambda a, b: similarity(a, b, k=1), "another order"),
            (lambda a, b: similarity(a, b, sets=list), "take sets"),
            (lambda a, b: float(a == b), "is no twin"),
        ],
    ),
    exercises.weights_at: (
        weights_at,
        [
            (blended, "nothing is blended"),
            (lambda s, step, h: weights_at(s, step, 40_000), "a thousand times earlier"),
            (
                lambda s, step, h: [w for start, w in s if start * h / 40_000 < step or not start][
                    -1
                ],
                "that step included",
            ),
            (
                lambda s, step, h: next(w for start, w in s if start * h / 40_000 >= step),
                "last phase that has begun",
            ),
            (lambda s, step, h: s[0][1], "last phase that has begun"),
        ],
    ),
    exercises.clipped: (
        clipped,
        [
            (lambda r, a, low, high: min(max(r, 1 - low), 1 + high) * a, "smaller counts"),
            (lambda r, a, low, high: r * a, "gain ends at 1 + high"),
            (lambda r, a, low, high: clipped(r, a, low, low), "not 1 + low"),
            (
                lambda r, a, low, high: max(r * a, min(max(r, 1 - low), 1 + high) * a),
                "gain ends at 1 + high",
            ),
        ],
    ),
    exercises.paired_error: (
        paired_error,
        [
            (unpaired, "it is the differences that vary"),
            (lambda a, b: paired_error(a, b, pstdev), "n − 1"),
            (lambda a, b: (paired_error(a, b)[0], stdev(y - x for x, y in zip(a, b))), "root of n"),
            (lambda a, b: paired_error(b, a), "expected"),
            (
                lambda a, b: (abs(paired_error(a, b)[0]), paired_error(a, b)[1]),
                "a loss is negative",
            ),
        ],
    ),
    exercises.verdict: (
        verdict,
        [
            (lambda low, high, s, n: verdict(low + high, high, s, n), "not its middle"),
            (
                lambda low, high, s, n: (
                    "supported"
                    if low > 0
                    else "contradicted"
                    if high < 0
                    else verdict(low, high, s, n)
                ),
                "Too few",
            ),
            (
                lambda low, high, s, n: (
                    "undecided" if s < 3 or n < 30 else verdict(low, high, s, n)
                ),
                "Too few",
            ),
            (lambda low, high, s, n: verdict(low, high, s, n - 1), "30 problems are enough"),
            (lambda low, high, s, n: verdict(low, max(0, high), s, n), "on the other side"),
        ],
    ),
    exercises.collapses_first: (
        collapses_first,
        [
            (lambda c: c.groupby("arm").dead.mean().idxmax(), "highest mean collapses later"),
            (
                lambda c: c[c.dead >= 0.9].groupby("arm").step.min().idxmin(),
                "touches 0.9 and comes back",
            ),
            (lambda c: c.groupby("arm").dead.last().idxmax(), "expected"),
            (lambda c: c.arm.iloc[-1], "expected"),
        ],
    ),
    exercises.summary: (
        summary,
        [
            (
                lambda a, s: (summary(a, s)[0], different(a, "passed", "failed")[:s]),
                "not in this list",
            ),
            (lambda a, s: (summary(a, s)[0], [x for x, o in a if o == "failed"][:s]), "once"),
            (lambda a, s: (summary(a, s)[0], different(a, "failed")[-s:]), "The first ones"),
            (
                lambda a, s: (
                    sum(o == "passed" for _, o in a) / len(a),
                    different(a, "failed")[:s],
                ),
                "An error is ours",
            ),
        ],
    ),
    exercises.sides: (
        sides,
        [
            (
                lambda o: ["held_out" if k % 4 == 0 else "train" for k in range(len(o))],
                "is on both sides",
            ),
            (lambda o: ["train"] * len(o), "about a quarter"),
            (sides_as_they_come, "in another order"),
            (sides_by_luck, "two calls"),
            (sides_by_hash, "whenever Python starts"),
            (lambda o: sorted({x.partition(":")[0] for x in o}), "a list of"),
        ],
    ),
    (lambda learner: exercises.logic(learner, WINDOWS)): (
        logic,
        [
            (lambda lines: any("for " in x or "if " in x for x in lines), "words are not code"),
            (lambda lines: len(lines) > 20, "hold no logic"),
            (lambda lines: any(x.strip().endswith(":") for x in lines), "do not branch"),
            (lambda lines: True, "imports and a constant"),
            (
                lambda lines: any(x.startswith(("for ", "if ")) and x.endswith(":") for x in lines),
                "It refuses this one",
            ),
            (lambda lines: False, "keeps 0 of 20"),
        ],
    ),
}
CASES = [
    (judge, mistake, said)
    for judge, (_, mistakes) in EXERCISES.items()
    for mistake, said in mistakes
]


def spoken(judge, learner, capsys):
    judge(learner)
    return capsys.readouterr().out


@pytest.mark.parametrize("judge", EXERCISES)
def test_a_right_answer_passes_and_stubs_are_quiet(judge, capsys):
    right, mistakes = EXERCISES[judge]
    assert len(mistakes) >= 3
    assert "✓" in spoken(judge, right, capsys)
    for stub in (lambda *a: ..., lambda *a: None):
        assert spoken(judge, stub, capsys).endswith(
            "not begun yet, or nothing is returned. Replace the `...` and run the cell again.\n"
        )


@pytest.mark.parametrize(("judge", "mistake", "said"), CASES)
def test_a_plausible_mistake_is_caught_with_the_sentence_that_helps(judge, mistake, said, capsys):
    found = spoken(judge, mistake, capsys)
    assert said in found and "✓" not in found


ANSWERS = [
    "text",
    1,
    -1.5,
    float("nan"),
    [],
    [None],
    {},
    {"easy": "much"},
    (1,),
    object(),
    pd.DataFrame(),
    np.zeros(3),
]


@pytest.mark.parametrize("judge", EXERCISES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_no_answer_makes_a_judge_raise(judge, answer, capsys):
    judge(lambda *a: answer)
    judge(lambda: answer)  # too few arguments
    assert capsys.readouterr().out


def test_every_judge_is_tested():
    public = {
        f
        for module in (problems, training)
        for name, f in inspect.getmembers(module, inspect.isfunction)
        if not name.startswith("_") and f.__module__ == module.__name__
    }
    # The first stands in a lambda, the others below.
    assert public - {*EXERCISES} == {*DECISIONS, exercises.logic, exercises.schedule, exercises.arm}


# Judge of a decision -> (choices that meet the brief, choice that does not -> what is said).
DECISIONS = {
    exercises.picks: (
        ([0.05, 0.3, 0.6], (0.6, 0.95, 0.3)),
        [
            ([0, 0.3, 0.6], "1.9 of 3 groups"),
            ([0.3, 0.6, 1.0], "changes nothing"),
            ([0.3, 0.3, 0.6], "three different ones"),
            ([0.3, 0.5, 0.6], "three different ones"),
            ([0.3, 0.6], "looks like [0.0, 0.05, 0.3]"),
        ],
    ),
    exercises.enough_attempts: (
        (22, 24, 25),
        [
            (8, "43% of those of 0.1"),
            (20, "at most 10%"),
            (33, "all that you can pay"),
            (0, "at least one"),
            (-3, "at least one"),
            ([8, 16], "looks like 24"),
        ],
    ),
    exercises.limits: (
        ((0.05, 0.95), (0.1, 0.9), [0.04, 0.95]),
        [
            ((0.01, 0.97), "32% of their groups are dead"),
            ((0, 1), "be stricter"),
            ((0.3, 0.7), "learns them by heart"),
            ((0.9, 0.1), "0 of 1,000"),
            ((0.05,), "looks like (0.01, 0.97)"),
        ],
    ),
    exercises.hard_set: (
        ((20, 0.25), (9, 0.15), [30, 0.3]),
        [
            ((32, 0.26), "95 problems are called hard"),
            ((8, 0.26), "15.1% of them"),
            ((8, 0.2), "or the arm trains on what it is compared with"),
            ((20, 0.05), "0 problems"),
            ((0, 0.26), "0 problems"),
            ((20, 25), "above 0.4"),
            (20, "looks like (8, 0.26)"),
        ],
    ),
    exercises.segments: (
        (4, 5, 7),
        [
            (1, "ask the policy again sooner"),
            (3, "dead groups: 12%"),
            (8, "minutes: 130"),
            (300, "the training waits"),
            (0, "segments: 1, dead"),
            ((1, 2), "looks like 3"),
        ],
    ),
    exercises.budget: (
        ((150, 4), (120, 5), (100, 6)),
        [
            ((20, 30), "A gain of 0.085"),
            ((150, 1), "true gain of 0.133"),
            ((600, 1), "150 held-out problems"),
            ((150, 5), "750 answers"),
            ((0, 5), "at least one problem"),
            (150, "looks like (30, 20)"),
        ],
    ),
}


@pytest.mark.parametrize("judge", DECISIONS)
def test_a_decision_is_told_what_follows_from_it(judge, capsys):
    good, bad = DECISIONS[judge]
    for choice in good:
        assert "✓" in spoken(judge, choice, capsys), choice
    for choice, said in bad:
        found = spoken(judge, choice, capsys)
        assert said in found and "✓" not in found, choice
    for stub in (..., None):
        assert "not begun yet" in spoken(judge, stub, capsys)
    for answer in (*ANSWERS, 10**400, [10**400] * 2, 1e300):
        assert "✓" not in spoken(judge, answer, capsys)


def test_a_learner_that_changes_its_argument_harms_nobody(capsys):
    def greedy(schedule, step, horizon):
        right = weights_at(schedule, step, horizon)
        schedule.clear()
        return right

    before = {name: list(phases) for name, phases in SCHEDULES.items()}
    assert "✓" in spoken(exercises.weights_at, greedy, capsys) and before == SCHEDULES


def test_arrays_are_as_good_as_lists(capsys):
    assert "✓" in spoken(exercises.advantages, lambda r: np.array(r) - np.mean(r), capsys)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"schedule": "classic"}, "has this one already: classic"),
        ({"schedule": "uniform", "bins": "silent"}, "has this one already: silent-uniform"),
        ({"bins": "narrow"}, "one change against uniform, bins. ✓"),
        ({"bins": "broad"}, "once more"),
        ({"schedule": "hard", "bins": "narrow"}, "schedule and bins"),
        ({"share": 0.5}, "✓"),
        ({"environments": {"deduction": 1.0}}, "✓"),
        (..., "not begun"),
        (None, "not begun"),
        ({}, "once more"),
        ({"schedule": "uniform"}, "once more"),
        ({"schedule": "steep"}, "no schedule called 'steep'"),
        ({"scedule": "hard"}, "an arm has schedule"),
        ({"schedule": "hard", "share": 0.3}, "schedule and share"),
        ({"share": 2.0}, "share"),
        ("hard", "an arm has"),
    ],
)
def test_an_arm_of_ones_own(line, said, capsys):
    exercises.arm(line)
    assert said in capsys.readouterr().out


GOOD = [
    (0, {"easy": 0.5, "medium": 0.5}),
    (40, {"easy": 0.2, "medium": 0.6, "hard": 0.2}),
    (70, {"medium": 0.4, "hard": 0.6}),
]


@pytest.mark.parametrize(
    ("phases", "said"),
    [
        (GOOD, "fits the brief"),
        (..., "not begun yet"),
        (None, "not begun yet"),
        ([(0, {"easy": 1.0})], "never more than half easy"),
        ([(0, {"medium": 0.5, "hard": 0.5})], "nothing hard in the first phase"),
        ([(10, {"medium": 1.0})], "the first must start at 0"),
        ([GOOD[0], GOOD[2], GOOD[1]], "each later than the one before"),
        ([(0, {"easy": -0.5, "medium": 1.5})], "phase 1 has the weights"),
        ([(0, {"simple": 1.0})], "phase 1 has the weights"),
        (GOOD[:2], "half of the last phase"),
        ([(0, {"easy": 0.5, "medium": 0.5}), (20, {"hard": 1.0})], "medium gets 10 of 100"),
        (["soft"], "a list of"),
    ],
)
def test_a_schedule_of_ones_own(phases, said, capsys):
    drawn = exercises.schedule(phases)
    assert said in capsys.readouterr().out
    assert (drawn is not None) == (said == "fits the brief")
    if drawn is not None:
        assert sorted(set(drawn.step)) == [0, 40, 70, 100]
        assert drawn.groupby("step").weight.sum().tolist() == pytest.approx([1] * 4)


def test_weights_are_shares(capsys):
    tenfold = [(step, {name: 10 * share for name, share in part.items()}) for step, part in GOOD]
    pd.testing.assert_frame_equal(exercises.schedule(tenfold), exercises.schedule(GOOD))
    assert "fits the brief" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [*ANSWERS, [(0, [1])], [(float("nan"), {"easy": 1.0})]])
def test_no_arm_or_schedule_makes_a_judge_raise(answer, capsys):
    exercises.arm(answer)
    assert exercises.schedule(answer) is None
    assert "✓" not in capsys.readouterr().out
