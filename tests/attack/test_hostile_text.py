"""Text that a model may write against the readers of the kit: it always ends as a verdict.

python -m tests.attack.test_hostile_text 600   # the same with new texts, for so many seconds
"""

import random
import sys
import time
from contextlib import suppress

import pytest

from kit import environments
from kit.core import profile
from kit.core.programs import last_tag, module
from kit.core.types import Reason, Rejected, Verdict
from kit.environments.base import grade_all
from kit.environments.verify import DeterminismCheck
from kit.sandbox import Sandbox

pytestmark = pytest.mark.attack

ENVS = environments.make(profile.load_profile("cpu").rounds)
GOOD = "def f(x: int) -> int:\n    return x * x"
TESTS = (
    "\n\ndef pre_test_f(x):\n    assert isinstance(x, int)\n\ndef test_f(x):\n    assert f(x) < 50"
)
# Each alone broke a parser, an unparser or a reader of literals once, or looks as if it could.
NASTY = (
    "-" * 400 + "x",
    "0x" + "f" * 3600,
    "1" * 5000,
    "not " * 900 + "x",
    "(" * 300 + "x" + ")" * 300,
    "[" * 120 + "]" * 120,
    "x" + ".a" * 2000,
    "x" + "[0]" * 1500,
    "x" + "()" * 1500,
    "lambda: " * 400 + "x",
    "x if x else " * 300 + "x",
    "1" + "+1" * 3000,
    "{" * 90 + "}" * 90,
    "f'" + "{x}" * 300 + "'",
    "'" + chr(92) + "ud800'",
    chr(0xD800),
    chr(0),
    "1e999999",
    "10 ** 10 ** 10",
    "x = = 1",
    "*x",
    "yield x",
    "await x",
    "__import__('os').abort()",
)


def programs():
    for nasty in NASTY:
        yield f"def f(x):\n    return {nasty}"
        yield f"def f(x={nasty}):\n    return x"
        yield f"@{nasty}\ndef f(x):\n    return x"
        yield f"def f(x: {nasty}):\n    return x"
    yield "def f(x):\n" + "".join(" " * k + "if x:\n" for k in range(1, 99)) + " " * 99 + "pass"
    yield "class f:\n    pass"
    yield "def f(x):\n    global f\n    return f"


def completions():
    for program in programs():
        yield f"```python\n{program}\n```"
    for nasty in NASTY:
        yield f"<answer>{nasty}</answer>"
        yield f"<answer>f({nasty})</answer>"
        yield nasty
    yield from mixtures(0)


def mixtures(seed, count=150):
    """The same texts cut and joined at random, always alike."""
    rng = random.Random(seed)
    parts = [f"<answer>{nasty}</answer>" for nasty in NASTY] + [
        "```python\n",
        "```",
        "f(",
        "def f(",
    ]
    for _ in range(count):
        text = "".join(rng.sample(parts, 3))
        start = rng.randrange(len(text))
        yield text[start : start + rng.randrange(400)]


@pytest.fixture(scope="module")
def check():
    with Sandbox(workers=2) as box, Sandbox(workers=2, hash_seed=1) as other:
        yield DeterminismCheck(box, other)


@pytest.fixture(scope="module")
def problems(check):
    return valid_problems(check)


def valid_problems(check):
    made = {}
    for name, env in ENVS.items():
        code = GOOD + TESTS * (name == "fuzzing")
        draft = env.draft(code, ["1", "2", "3", "4", "5", "9"])
        made[name] = env.verify(draft, check).with_(n=8, solved=6)
    return made


@pytest.mark.parametrize("code", ["return " + "-" * 400 + "x", "return 0x" + "f" * 3600])
def test_what_cannot_be_written_again_is_a_syntax_error(code):
    with pytest.raises(Rejected) as fault:
        module(f"def f(x):\n    {code}", "f")
    assert fault.value.reason == Reason.SYNTAX


def test_tags_without_end_are_read_in_one_pass():
    """One more tag costs the same, however many came before; else 8 times as many cost 64 times."""

    def cost(text):
        times = []
        for _ in range(5):
            began = time.thread_time()
            with suppress(Rejected):
                last_tag(text)
            times.append(time.thread_time() - began)
        return min(times)

    for tags in ("<answer>", "<answer>1</answer>", "</answer>"):
        assert cost(tags * 240_000) < 20 * cost(tags * 30_000) + 0.01


@pytest.mark.parametrize("name", ENVS)
def test_every_answer_ends_as_a_verdict_on_it(name, problems, check):
    answers = list(completions())
    verdicts = ENVS[name].grade(problems[name], answers, check.primary)
    assert {verdict.outcome for verdict in verdicts} <= {"passed", "failed"}
    assert len(verdicts) == len(answers)


@pytest.mark.parametrize("name", ENVS)
def test_every_draft_is_a_problem_or_is_rejected(name, problems, check):
    """Both turns of the dialogue, each of its steps answered by hostile text, then verification."""
    env = ENVS[name]
    right = f"```python\n{GOOD}{TESTS * (name == 'fuzzing')}\n```"
    hostile = [*list(completions())[::7], *(f"f({nasty})" for nasty in NASTY)]
    for answer in hostile:
        for begin in (
            lambda: env.propose("import os", "new"),
            lambda: env.revise(problems[name], "harder"),
        ):
            for step in range(3):
                drive(env, begin(), step, answer, right, check)


def drive(env, dialogue, hostile_step, answer, right, check):
    """A dialogue in which one step is answered by hostile text; a Rejected is all that may come."""
    try:
        next(dialogue)
        for step in range(5):
            dialogue.send(answer if step == hostile_step else right)
    except StopIteration as end:
        try:
            env.verify(end.value, check)
        except Rejected:
            pass
    except Rejected:
        pass


def test_a_fault_of_ours_is_that_answers_error_and_leaves_the_batch_alone(problems, check):
    """Whatever is not foreseen, at each of the steps from text to reward."""

    class FakeFaulty(type(ENVS["deduction"])):
        def read_answer(self, problem, completion):
            if "read" in completion:
                raise KeyError("unforeseen")
            return super().read_answer(problem, completion)

        def judge(self, problem, answer, result):
            if "7" in answer:
                raise RecursionError("unforeseen too")
            return super().judge(problem, answer, result)

    problem = problems["deduction"]
    env = FakeFaulty()
    texts = ["<answer>1</answer>", "read", "<answer>7</answer>", "<answer>2</answer>"]
    verdicts = grade_all([(env, problem, text) for text in texts], check.primary)
    assert [verdict.outcome for verdict in verdicts] == ["passed", "error", "error", "failed"]
    assert verdicts[1] == Verdict("error", "KeyError: 'unforeseen'")
    assert [verdict.reward for verdict in verdicts] == [1.0, None, None, 0.0]


def main(seconds: float) -> None:
    """New mixtures as answers and as drafts in all environments, until the time is over."""
    end = time.monotonic() + seconds
    with Sandbox(workers=2) as box, Sandbox(workers=2, hash_seed=1) as other:
        check = DeterminismCheck(box, other)
        problems = valid_problems(check)
        seed = 0
        while time.monotonic() < end:
            seed += 1
            texts = list(mixtures(seed))
            for name, env in ENVS.items():
                for text, verdict in zip(texts, env.grade(problems[name], texts, box)):
                    if verdict.outcome not in ("passed", "failed"):
                        print(name, verdict, ascii(text), flush=True)
                right = f"```python\n{GOOD}{TESTS * (name == 'fuzzing')}\n```"
                for text in texts[:20]:
                    drive(env, env.propose("import os", "new"), seed % 3, text, right, check)
    print(f"{seed} x {len(texts)} texts in {len(ENVS)} environments")


if __name__ == "__main__":
    main(float(sys.argv[1]))
