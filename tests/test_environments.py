"""Parsers with their reasons, verification in two boxes, grading; no model."""

import runpy
from pathlib import Path

import pytest

from kit import environments
from kit.core import profile
from kit.core.programs import (
    calls,
    code_block,
    copied,
    docstring,
    given_arguments,
    last_tag,
    module,
    unstable_name,
)
from kit.core.types import Problem, Reason, Rejected
from kit.environments.base import grade_all
from kit.environments.verify import DeterminismCheck
from kit.sandbox import Sandbox

ENVS = environments.make(profile.load_profile("cpu").rounds)
ONE_CALL = environments.make(profile.load_profile("cpu", {"rounds.form": "one_call"}).rounds)


@pytest.fixture(scope="module")
def boxes():
    with Sandbox(workers=2) as box, Sandbox(workers=2, hash_seed=1) as other:
        yield DeterminismCheck(box, other)


def test_equal_answers_to_a_problem_are_run_once(boxes):
    env, program = ENVS["abduction"], "def f(n):\n    return n * 2"
    one = env.verify(env.draft(program, ["3"]), boxes)
    two = env.verify(env.draft(program, ["4"]), boxes)
    before = boxes.primary.counts["ok"]
    asked = [(one, 3), (two, 3), (one, 3), (one, 4), (two, 4), (one, 3)]
    verdicts = grade_all([(env, x, f"<answer>{n}</answer>") for x, n in asked], boxes.primary)
    assert [v.reward for v in verdicts] == [1, 0, 1, 0, 1, 1]
    assert boxes.primary.counts["ok"] - before == 4


@pytest.mark.parametrize("name", environments.KINDS)
def test_the_example_at_the_end_of_each_environment_runs(name):
    runpy.run_path(str(Path(environments.__file__).parent / f"{name}.py"), run_name="__main__")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", Reason.EMPTY),
        ("  \n", Reason.EMPTY),
        ("I cannot help with that.", Reason.NO_CODE),
        ("```python\ndef f(x:\n```", Reason.SYNTAX),
        ("```python\ndef g(x): return x\n```", Reason.NO_FUNCTION),
        ("```python\n" + "(" * 500 + "\n```", Reason.SYNTAX),
    ],
)
def test_bad_code_is_rejected_with_its_reason(answer, reason):
    with pytest.raises(Rejected) as e:
        module(code_block(answer), "f")
    assert e.value.reason == reason


def test_a_program_keeps_helpers_and_loses_calls_and_comments():
    written = (
        "import math\n# note\ndef g(x):\n    return x\n\n"
        "def f(x):\n    'adds'\n    return g(x)\n\nprint(f(1))\nassert f(2)"
    )
    code = module(written, "f")
    assert "print" not in code and "note" not in code
    assert "def g" in code
    assert docstring(code) == "adds"


def test_the_last_of_several_blocks_is_the_answer():
    assert code_block("```python\na = 1\n```\ntext\n```python\nb = 2\n```") == "b = 2\n"


@pytest.mark.parametrize(
    "answer",
    [
        "```text\nthe idea\n```\n```python\nb = 2\n```",
        "```json\n[1]\n```\nso\n```python\nb = 2\n```\n```text\nout\n```\n```sh\nls\n```",
        "```python3\nb = 2\n```",
        "```Python\nb = 2\n```",
        "```python\r\nb = 2\n```",
        "```python title=f.py\nb = 2\n```",
    ],
)
def test_blocks_of_other_languages_are_read_over(answer):
    assert code_block(answer) == "b = 2\n"


def test_calls_are_read_as_literals_only():
    text = (
        "f([1, 2])  # two\n1. f('a)b')\nf(x)\nf(__import__('os'))\nprint(f((3, 4)))\n"
        "f(n=1)\nf([1, 2])\ndef f(x):"
    )
    assert calls(text) == ["[1, 2]", "'a)b'", "(3, 4)"]


@pytest.mark.parametrize(
    ("answer", "args"),
    [("[1], 2", ([1], 2)), ("f('a')", ("a",)), (" 3 ", (3,)), ("(1, 2)", ((1, 2),))],
)
def test_arguments_in_either_form(answer, args):
    assert given_arguments(answer) == args


@pytest.mark.parametrize("answer", ["open('x')", "f(1", "[1] * 9**9**9", "lambda: 1", "x", "1 +"])
def test_an_answer_that_is_a_program_is_malformed(answer):
    with pytest.raises(Rejected):
        given_arguments(answer)


def test_the_last_complete_tag_counts():
    assert last_tag("<answer>1</answer> no, <answer> 2 </answer> <answer>3") == "2"
    with pytest.raises(Rejected):
        last_tag("the answer is 2")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import time\ndef f(x): return time.time()", "time"),
        ("import random\ndef f(x): return random.random()", "random.random"),
        ("import random\ndef f(x): return random.Random(1).random()", ""),
        ("def f(x): return id(x)", "id"),
        ("from datetime import datetime\ndef f(x): return datetime.now()", "datetime.datetime.now"),
        ("import math\ndef f(x): return math.pi", ""),
    ],
)
def test_unstable_names(code, found):
    assert unstable_name(code) == found


def test_a_renamed_copy_of_the_seed_is_a_copy():
    seed = "def area(w, h):\n    total = w * h + 100\n    return total * 2 - w\n"
    assert copied(seed.replace("area", "f"), seed)
    assert not copied("def f(w, h):\n    perimeter = 2 * (w + h)\n    return perimeter % 7\n", seed)


@pytest.mark.parametrize(
    ("name", "code", "inputs", "reason"),
    [
        ("induction", "def f(x):\n    return 1", ["1", "2", "3", "4", "5"], Reason.CONSTANT),
        ("induction", "def f(x):\n    return x", ["1", "2"], Reason.NO_INPUTS),
        ("deduction", "def f(x):\n    return x.nope", ["1"], Reason.CRASH),
        ("deduction", "def f(x):\n    while True: pass", ["1"], Reason.CRASH),
        (
            "deduction",
            "def f(x):\n    return {str(k) for k in range(50)}.pop()",
            ["1"],
            Reason.UNSTABLE,
        ),
        (
            "deduction",
            "n = 0\ndef f(x):\n    global n\n    n += 1\n    return n",
            ["1"],
            Reason.UNSTABLE,
        ),
        ("deduction", "def f(x):\n    return float('nan')", ["1"], Reason.NOT_PLAIN),
        ("deduction", "def f(x):\n    return [x] * 300", ["1"], Reason.TOO_LONG),
        ("deduction", "import os\ndef f(x):\n    return 1", ["1"], Reason.UNSTABLE),
    ],
)
def test_verification_rejects(name, code, inputs, reason, boxes):
    with pytest.raises(Rejected) as e:
        ENVS[name].verify(ENVS[name].draft(code, inputs), boxes)
    assert e.value.reason == reason


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("return True", Reason.NO_WITNESS),
        ("return False", Reason.NO_BENIGN),
        ("raise ValueError", Reason.NO_BENIGN),
    ],
)
def test_fuzzing_needs_a_witness_and_a_benign_input(test, reason, boxes):
    code = (
        "def f(x):\n    return x\ndef pre_test_f(x):\n    return isinstance(x, int)\n"
        f"def test_f(x):\n    {test}"
    )
    with pytest.raises(Rejected) as e:
        ENVS["fuzzing"].verify(ENVS["fuzzing"].draft(code, ["1", "2"]), boxes)
    assert e.value.reason == reason


def test_inputs_on_which_f_crashes_are_dropped(boxes):
    draft = ENVS["induction"].draft(
        "def f(x):\n    return 10 // x", ["1", "0", "2", "3", "'a'", "4", "5"]
    )
    # 4 and 5 give the same output.
    assert ENVS["induction"].verify(draft, boxes).inputs == ["1", "2", "4", "3", "5"]


def test_hidden_pairs_have_different_outputs(boxes):
    draft = ENVS["induction"].draft("def f(x):\n    return x > 1", ["1", "2", "3", "4", "5"])
    made = ENVS["induction"].verify(draft, boxes)
    assert sorted(made.outputs[3:]) == ["False", "True"]
    assert sorted(made.inputs) == ["1", "2", "3", "4", "5"]


def test_listing_the_visible_pairs_earns_nothing(boxes):
    draft = ENVS["induction"].draft("def f(x):\n    return x + 1", ["1", "2", "3", "4", "5"])
    problem = ENVS["induction"].verify(draft, boxes)
    shown = ENVS["induction"].solve_prompt(problem)[-1]["content"]
    assert "f(3)" in shown and "f(4)" not in shown
    lister = "```python\ndef f(x):\n    return {1: 2, 2: 3, 3: 4}.get(x)\n```"
    right = "```python\ndef f(x): return x + 1\n```"
    verdicts = ENVS["induction"].grade(problem, [lister, right], boxes.primary)
    assert [v.outcome for v in verdicts] == ["failed", "passed"]


def test_an_infrastructure_failure_is_no_verdict_on_the_answer():
    from concurrent.futures import Future

    from kit.sandbox import Result

    class FakeBrokenBox:
        def submit(self, job):
            done = Future()
            done.set_result(Result("sandbox_error", detail="worker died"))
            return done

    problem = Problem(
        environment="abduction", program="def f(x):\n    return x", inputs=["1"], outputs=["1"]
    )
    verdict, malformed = ENVS["abduction"].grade(
        problem, ["<answer>1</answer>", "1"], FakeBrokenBox()
    )
    assert (verdict.outcome, verdict.reward) == ("error", None)
    assert (malformed.outcome, malformed.reward) == ("failed", 0.0)


def finish(dialogue, *answers):
    next(dialogue)
    for answer in answers[:-1]:
        dialogue.send(answer)
    try:
        dialogue.send(answers[-1])
    except StopIteration as done:
        return done.value


def test_two_calls_and_one_call_give_the_same_draft():
    code = "def f(xs: list[int]):\n    'sums'\n    return sum(xs)"
    two = finish(ENVS["induction"].propose("seed"), f"```python\n{code}\n```", "f([1])\nf([2, 3])")
    one = finish(
        ONE_CALL["induction"].propose("seed"),
        f"```python\n{code}\n```\n```input\n[1]\n```\n```input\n[2, 3]\n```\n```message\nsums\n```",
    )
    assert two == one and two.inputs == ["[1]", "[2, 3]"] and two.message == "sums"


def test_fuzzing_asks_for_tests_between_function_and_inputs():
    tests = (
        "```python\ndef pre_test_f(n):\n    return True\ndef test_f(n):\n    return f(n) > 0\n```"
    )
    draft = finish(
        ENVS["fuzzing"].propose("seed"),
        "```python\ndef f(n: int):\n    return n\n```",
        tests,
        "f(1)\nf(-1)",
    )
    assert draft.pre_test.startswith("def pre_test_f") and "test_f" not in draft.program


@pytest.mark.parametrize("outputs", [["f(1"], ["<object>"], []])
@pytest.mark.parametrize("answer", ["<answer>1</answer>", "<answer>f(1)</answer>"])
def test_a_row_with_a_broken_output_says_nothing_of_the_answer(outputs, answer, boxes):
    problem = Problem(
        environment="deduction", program="def f(n):\n    return n", inputs=["1"], outputs=outputs
    )
    (verdict,) = ENVS["deduction"].grade(problem, [answer], boxes.primary)
    assert verdict.outcome == "error" and verdict.reward is None


def test_a_later_turn_shows_pass_rate_answers_and_band():
    from kit.core.types import Sample

    problem = Problem(
        environment="deduction",
        program="def f(n: int):\n    return n",
        inputs=["1"],
        outputs=["1"],
        n=8,
        solved=7,
        samples=[
            Sample(answer="1", outcome="passed"),
            Sample(answer="2", outcome="failed", reason="wrong"),
        ],
    )
    text = next(ENVS["deduction"].revise(problem, "harder"))[0]["content"]
    for part in ("0.875 over 8", "HARDER", "0.35 and 0.65", "stand alone", "wrong"):
        assert part in text
