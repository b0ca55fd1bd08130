"""The fifth environment of kit/README.md: its verbs in the real sandbox.

Also a copy of the kit in which it is installed as that text says.
"""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
from fifth_environment import Mutation, mutants

from kit.core.types import Reason, Rejected
from kit.environments.verify import DeterminismCheck
from kit.sandbox import Result, Sandbox

ROOT = Path(__file__).parent.parent
GUIDE = (
    (ROOT / "kit" / "README.md").read_text(encoding="utf-8").partition("## A fifth environment")[2]
)
PRICE = "def f(n: int):\n    return n * 3 if n < 10 else n"


@pytest.fixture(scope="module")
def boxes():
    with Sandbox(workers=2) as box, Sandbox(workers=2, hash_seed=1) as other:
        yield DeterminismCheck(box, other)


@pytest.fixture(scope="module")
def problem(boxes):
    return Mutation().verify(Mutation().draft(PRICE, ["3", "12"]), boxes)


def test_the_mutant_is_hard_to_tell_from_f_but_can_be(problem):
    assert "n <= 10" in problem.test and problem.outputs.count("'differ'") == 1
    assert dict(zip(problem.inputs, problem.outputs))["10"] == "'differ'"
    found = list(mutants(PRICE))
    assert [g.count("n + 3") for g in found].count(1) == 1
    assert len(found) == 2


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        ("<answer>10</answer>", "passed", ""),
        ("<answer>f(10)</answer>", "passed", ""),
        ("<answer>11</answer>", "failed", Reason.WRONG),
        ("<answer>'10'</answer>", "failed", Reason.CRASH),
        ("<answer>10, 10</answer>", "failed", Reason.CRASH),
        ("10", "failed", Reason.NO_ANSWER),
        ("", "failed", Reason.NO_ANSWER),
        ("<answer>n</answer>", "failed", Reason.NO_ANSWER),
        ("<answer>__import__('os').abort()</answer>", "failed", Reason.NO_ANSWER),
        ("<answer>9**9**9**9</answer>", "failed", Reason.NO_ANSWER),
        ("<answer>[1] * 10</answer>", "failed", Reason.NO_ANSWER),
        ("<answer>" + "(" * 5000 + "</answer>", "failed", Reason.NO_ANSWER),
    ],
)
def test_right_wrong_malformed_and_hostile_answers(answer, outcome, reason, problem, boxes):
    (verdict,) = Mutation().grade(problem, [answer], boxes.primary)
    assert (verdict.outcome, verdict.reason, verdict.reward) == (
        outcome,
        reason,
        float(outcome == "passed"),
    )


@pytest.mark.parametrize(
    ("program", "inputs", "reason"),
    [
        ("def f(x):\n    return x", ["1"], Reason.NO_WITNESS),
        ("def f(x: str):\n    return x.upper()", ["'a'"], Reason.NO_WITNESS),
        ("def f(x):\n    return x.nope", ["1"], Reason.CRASH),
        ("def f(x: int):\n    return open('/etc/passwd').read()", ["1"], Reason.CRASH),
        ("import random\ndef f(x):\n    return random.random() + x", ["1"], Reason.UNSTABLE),
        (PRICE, [], Reason.NO_INPUTS),
    ],
)
def test_drafts_that_are_no_problem_are_refused_with_the_reason(program, inputs, reason, boxes):
    with pytest.raises(Rejected) as e:
        Mutation().verify(Mutation().draft(program, inputs), boxes)
    assert e.value.reason == reason


def test_a_mutant_that_never_ends_is_left_out(boxes):
    code = "def f(n: int):\n    k = 0\n    while k < min(n, 3):\n        k = k + 1\n    return k"
    made = Mutation().verify(Mutation().draft(code, ["2"]), boxes)
    assert "k - 1" not in made.test


def test_a_broken_box_is_no_verdict(problem):
    class FakeBrokenBox:
        def submit(self, job):
            done = Future()
            done.set_result(Result("sandbox_error", detail="worker died"))
            return done

    verdict, malformed = Mutation().grade(problem, ["<answer>10</answer>", "10"], FakeBrokenBox())
    assert (verdict.outcome, verdict.reward, malformed.reward) == ("error", None, 0.0)


@pytest.mark.parametrize("form", ["one_call", "two_calls"])
def test_the_teacher_is_told_the_task_and_shown_the_mutant(form, problem):
    env = Mutation(form)
    graded = problem.with_(n=8, solved=7)
    first = next(env.propose("x = 1"))[0]["content"]
    later = next(env.revise(graded, "harder"))[0]["content"]
    assert (env.task in first) == (form == "one_call")
    assert env.task in later and "def g(" in later
    assert "test_f" not in first + later


SCRIPT = """
import re, sys, threading
from concurrent.futures import Future
from pathlib import Path
from kit import curriculum, environments, filters, grpo, held_out
from kit.core import profile, records
from kit.display import figures
from kit.display.figures.common import ENVIRONMENT_COLOURS
from kit.environments.verify import DeterminismCheck
from kit.serving.engine import Completion, Engine
from kit.synthesis import Synthesis
from kit.sandbox import Sandbox
from kit.core.types import SeedSnippet

class FakeModel(Engine):
    def __init__(self, role, rule):
        super().__init__(role)
        self.rule = rule
    def _send(self, key, messages, n, sampling):
        done = Future()
        done.set_result([Completion(self.rule(messages, k), tokens=3) for k in range(n)])
        return done

def teacher(messages, draw):
    last = messages[-1]["content"]
    if last.startswith("f("):
        return "3)\\nf(12)"
    if last.startswith("The new function"):
        return " has another limit."
    known = re.findall(r"< (\\d+)", "".join(m["content"] for m in messages))
    limit = int(known[0]) + 1 if known else 2
    argument = re.findall(r"def f[(](.+?):", last)[0]
    return f":\\n    return len(str({argument})) < {limit}\\n```"

def student(messages, draw):
    limit = int(re.findall(r"< (\\d+)", messages[-1]["content"])[-1])
    name = re.findall(r"def f[(](\\w+)", messages[-1]["content"])[-1]
    values = {"n": "1" * limit, "s": "'" + "a" * limit + "'"}
    value = values.get(name, "[" + "1" * (limit - 2) + "]")
    return f"<answer>{value}</answer>" if draw % 2 else "<answer>0</answer>"

mine = profile.load_profile("mine.yaml", {"rounds.attempts": 4})
assert mine.curriculum.environments["mutation"] == 1.0
assert list(environments.KINDS)[-1] == "mutation"
assert len(set(ENVIRONMENT_COLOURS.values())) == 5 and "mutation" in ENVIRONMENT_COLOURS
with Sandbox(workers=2) as box, Sandbox(workers=2, hash_seed=1) as other:
    seeds = [
        SeedSnippet(
            id=f"s{k}",
            text=f"x = {k}",
            source="wild",
            origin=f"here{k}:1",
            split="train" if k % 4 else "held_out",
        )
        for k in range(24)
    ]
    models = FakeModel(mine.teacher, teacher), FakeModel(mine.student, student)
    loop = Synthesis(mine, *models, DeterminismCheck(box, other), Path("problems.jsonl"))
    problems = list(loop.generate(seeds))
    valid = [p for p in problems if p.status == "valid"]
    assert {p.environment for p in problems} == {"mutation"}
    assert valid and any(0 < p.p < 1 for p in valid), [p.reason for p in problems]
    behaviour = filters.behaviour(problems, 24, {}, box)
    kept = filters.apply(problems, mine.filters, {}, behaviour)
    train = [p for p in kept if p.kept and p.split == "train"]
    held = [p for p in kept if p.kept and p.split == "held_out"]
    mixture = mine.curriculum.environments
    sources = mine.curriculum.sources
    plan = curriculum.plan(train or valid, "uniform", 4, 2, mixture, "broad", 0, sources)
    envs = environments.make(mine.rounds)
    assert len(grpo.training_dataset(plan, (train or valid), envs)) == 8
    first = (train or valid)[0]
    texts = [[{"content": "<answer>0</answer>"}], [{"content": "none"}]]
    reward = grpo.reward_function([first], envs, box)
    rewards = reward(
        prompts=None,
        completions=texts,
        problem_id=[first.id] * 2,
        environment=["mutation"] * 2,
        bin=["hard"] * 2,
        log_metric=lambda *_: None,
        log_extra=lambda *_: None,
    )
    assert rewards == [0.0, 0.0], rewards
    others = [p.with_(kept=True, split="held_out") for p in valid[:3]]
    items = held_out.held_out_items("synthetic", others, envs, 2)
    assert items and {i.group for i in items} == {"mutation"}
    table = records.problems_frame(kept)
    for draw in (figures.draw_pass_rates, figures.draw_slopes, figures.draw_lineage):
        draw(table[table.method == "multi"])
print("fine", len(valid), len(train))
"""


@pytest.mark.timeout(300)
def test_installed_by_the_lines_of_the_guide_it_goes_through_every_stage(tmp_path):
    shutil.copytree(ROOT / "kit", tmp_path / "kit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(
        ROOT / "tests" / "fifth_environment.py", tmp_path / "kit" / "environments" / "mutation.py"
    )
    for path, old, new in re.findall(r"^# (kit/\S+)\n-(.+)\n\+(.+)$", GUIDE, re.M):
        text = (tmp_path / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path} has no such line: {old}"
        (tmp_path / path).write_text(text.replace(old, new), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(
        re.search(r"```yaml\n(.+?)```", GUIDE, re.S)[1], encoding="utf-8"
    )
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-500:]
    assert "fine" in done.stdout
