"""Reward hacking: answers that want the reward without solving, teachers that make free ones."""

import pytest

from kit import environments
from kit.core import profile
from kit.core.types import Reason, Rejected
from kit.environments.verify import DeterminismCheck
from kit.sandbox import Sandbox

pytestmark = pytest.mark.attack
ENVS = environments.make(profile.load_profile("cpu").rounds)


@pytest.fixture(scope="module")
def boxes():
    with Sandbox(workers=2) as box, Sandbox(workers=2, hash_seed=1) as other:
        yield DeterminismCheck(box, other)


def problem(boxes, name, code, inputs):
    return ENVS[name].verify(ENVS[name].draft(code, inputs), boxes)


def outcomes(boxes, made, answers):
    fence = "```python\n{}\n```" if made.environment == "induction" else "<answer>{}</answer>"
    return [
        v.outcome
        for v in ENVS[made.environment].grade(
            made, [fence.format(a) for a in answers], boxes.primary
        )
    ]


# ---------------------------------------------------------------------------------------- induction
@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    return x > 4",
        "def f(x):\n    return x % 2",
        "def f(x):\n    return 1 if x == 1 else 0",
        "def f(x):\n    return x * x",
    ],
)
def test_visible_pairs_with_any_default_earn_nothing(boxes, code):
    made = problem(boxes, "induction", code, ["1", "2", "3", "4", "5"])
    visible = ENVS["induction"].visible
    table = ", ".join(f"({i},): {o}" for i, o in zip(made.inputs[:visible], made.outputs[:visible]))
    answers = [
        f"def f(*x):\n    return {{{table}}}.get(x, {default})"
        for default in dict.fromkeys(made.outputs)
    ]
    assert outcomes(boxes, made, answers) == ["failed"] * len(answers)
    assert outcomes(boxes, made, [code]) == ["passed"]


@pytest.mark.parametrize(
    "answer",
    [
        "class A:\n    def __eq__(self, o): return True\n    def __hash__(self): return 0\ndef f(x): return A()",
        "class I(int):\n    def __eq__(self, o): return True\n    __hash__ = int.__hash__\ndef f(x): return I(0)",
        "import os\ndef f(x): os._exit(0)",
        "def f(x): raise SystemExit(0)",
        "import sys\ndef f(x):\n    frame = sys._getframe(1)\n    return frame.f_locals.get('expected', frame.f_locals.get('outputs'))",
        "import gc\ndef f(x): return next((o for o in gc.get_objects() if isinstance(o, dict) and 'outputs' in o), None)",
        "def f(x, cache={}): return cache.setdefault(x, 0)",
        "import math\nmath.sqrt = print\ndef f(x): return None",
        "def f(*x): return x",
    ],
)
def test_induction_wants_values(boxes, answer):
    made = problem(boxes, "induction", "def f(x):\n    return x * x + 1", ["1", "2", "3", "4", "5"])
    assert outcomes(boxes, made, [answer]) == ["failed"]


def test_hidden_pairs_are_not_in_the_prompt(boxes):
    made = problem(
        boxes, "induction", "def f(x):\n    return x * 1000 + 7", ["1", "2", "3", "4", "5"]
    )
    shown = str(ENVS["induction"].solve_prompt(made))
    assert all((o in shown) == (k < ENVS["induction"].visible) for k, o in enumerate(made.outputs))


# ---------------------------------------------------------------------------- abduction and fuzzing
NOT_INPUTS = [
    "__import__('os').system('true')",
    "open('/etc/passwd').read()",
    "[9] * 10 ** 9",
    "9 ** 9 ** 9",
    "(lambda: 9)()",
    "type('I', (int,), {})(9)",
    "[x for x in [9]]",
    "f(9)[0]",
    "[" * 5000 + "]" * 5000,
    "'" + "a" * 30_000 + "'",
    "(a := [9])",
    "a = []; a.append(a)",
    "*[9]",
    "x=9",
    "9 if True else 8",
    "eval('9')",
    "f'{9}'",
]


@pytest.mark.parametrize("answer", NOT_INPUTS, ids=range(len(NOT_INPUTS)))
def test_an_input_is_a_literal_or_nothing(boxes, answer):
    abduction = problem(boxes, "abduction", "def f(x):\n    return 1", ["9"])
    fuzzing = problem(
        boxes,
        "fuzzing",
        "def f(x):\n    return x\n\ndef pre_test_f(x):\n    return type(x) is int\n\ndef test_f(x):\n    return x == 1",
        ["1", "9"],
    )
    for made in (abduction, fuzzing):
        (verdict,) = ENVS[made.environment].grade(
            made, [f"<answer>{answer}</answer>"], boxes.primary
        )
        assert (verdict.outcome, verdict.reason) == ("failed", Reason.NO_ANSWER)


def test_a_string_that_f_evaluates_stays_in_the_box(boxes, tmp_path):
    made = problem(boxes, "abduction", "def f(s):\n    return len(str(eval(s)))", ["'123'"])
    mark = tmp_path / "breach"
    assert outcomes(boxes, made, [f"\"open({str(mark)!r}, 'w') and 123\"", "'321'"]) == [
        "failed",
        "passed",
    ]
    assert not mark.exists()


TESTED = "def f(n):\n    return 0 if n <= 0 else 1 + f(n - 1)\n\ndef pre_test_f(n):\n    return isinstance(n, int)\n\ndef test_f(n):\n    assert f(n) == n"


def test_exhausting_the_machine_is_no_failing_test(boxes):
    """-1 breaks the property; a recursion too deep, a loop or a full memory only break the computer."""
    made = problem(boxes, "fuzzing", TESTED, ["3", "-1"])
    assert outcomes(boxes, made, ["-1", "10000000", "3", "'a'"]) == [
        "passed",
        "failed",
        "failed",
        "failed",
    ]
    hog = problem(
        boxes,
        "fuzzing",
        TESTED.replace(
            "return 0 if n <= 0 else 1 + f(n - 1)", "return max(0, len(bytearray(max(n, 0))))"
        ),
        ["3", "-1"],
    )
    assert outcomes(boxes, hog, ["-1", "10 ** 12", "1000000000000"]) == [
        "passed",
        "failed",
        "failed",
    ]
    loop = problem(
        boxes,
        "fuzzing",
        TESTED.replace("return 0 if n <= 0 else 1 + f(n - 1)", "return len([1 for _ in range(n)])"),
        ["3", "-1"],
    )
    assert outcomes(boxes, loop, ["99999999999"]) == ["failed"]


# ---------------------------------------------------------------------------------------- deduction
@pytest.mark.parametrize(
    "answer",
    [
        "f(3)",
        "3 * 3",
        "9.0",
        "True",
        "'9'",
        "[9]",
        "9,",
        "int('9')",
        "__import__('os')",
        "",
        "9 # or 8",
        "8 or 9",
        "9 9",
        "-9",
    ],
)
def test_deduction_wants_the_value(boxes, answer):
    made = problem(boxes, "deduction", "def f(x):\n    return x * x", ["3"])
    assert outcomes(boxes, made, [answer, "9"]) == ["failed", "passed"]


def test_many_answers_are_not_many_chances(boxes):
    made = problem(boxes, "deduction", "def f(x):\n    return x * x", ["3"])
    guesses = "".join(f"<answer>{i}</answer>" for i in range(20))
    assert (
        ENVS["deduction"]
        .grade(made, [guesses, guesses + "<answer>9</answer>"], boxes.primary)[0]
        .outcome
        == "failed"
    )


# ----------------------------------------------------------------------------------------- teachers
@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("return False", Reason.NO_BENIGN),
        ("assert False", Reason.NO_BENIGN),
        ("raise ValueError", Reason.NO_BENIGN),
        ("return f(n, n)", Reason.NO_BENIGN),
        ("return True", Reason.NO_WITNESS),
        ("pass", Reason.NO_WITNESS),
        ("import inspect\n    return len(inspect.stack()) > 5", Reason.UNSTABLE),
        ("import sys\n    return sys._getframe(1).f_code.co_name == 'x'", Reason.UNSTABLE),
        ("import traceback\n    return len(traceback.extract_stack()) < n", Reason.UNSTABLE),
        ("return '_passes' in __import__('sys')._getframe(1).f_code.co_name", Reason.UNSTABLE),
        ("return 'pre_test_f' not in globals()", Reason.UNSTABLE),
        ("import random\n    return random.random() < 0.5", Reason.UNSTABLE),
        ("calls.append(n)\n    return len(calls) % 2 == 0", Reason.UNSTABLE),
    ],
)
def test_a_teacher_cannot_make_free_rewards(boxes, test, reason):
    code = f"calls = []\ndef f(n):\n    return n\ndef pre_test_f(n):\n    return isinstance(n, int)\ndef test_f(n):\n    {test}"
    with pytest.raises(Rejected) as e:
        problem(boxes, "fuzzing", code, ["1", "2", "3"])
    assert e.value.reason == reason


def test_a_test_that_changes_its_input_changes_only_its_copy(boxes):
    code = "def f(xs):\n    return sum(xs)\ndef pre_test_f(xs):\n    fine = all(type(x) is int for x in xs)\n    xs.clear()\n    return fine\ndef test_f(xs):\n    return f(xs) == 0"
    made = problem(boxes, "fuzzing", code, ["[]", "[1]"])
    assert outcomes(boxes, made, ["[5]", "[]"]) == ["passed", "failed"]
