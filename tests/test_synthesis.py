"""The loop with fake models that answer by rule, in the real sandbox.

Chains, baseline, repair, resume, counting.
"""

import multiprocessing
import random
import re
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pandas as pd
import pytest

from kit.core import profile
from kit.core.manifest import RECORDED
from kit.core.records import Log, RecordError
from kit.core.types import Problem, Reason, SeedSnippet, Verdict
from kit.environments import make
from kit.environments.verify import DeterminismCheck
from kit.sandbox import Sandbox
from kit.seeds import seeds_from_frame
from kit.serving.engine import Completion, Engine, EngineDown, EngineError, Replay
from kit.serving.weights import ModelUnavailable
from kit.synthesis import Synthesis, adapt, tally, target_pass_rates
from kit.teacher import teacher_quality, turn_changes

CPU = profile.load_profile(
    "cpu", {"rounds.environments": ["deduction"], "rounds.attempts": 4, "rounds.stones": 0}
)
SEEDS = [SeedSnippet(id=f"s{k}", text=f"x = {k}", source="wild", origin="here:1") for k in range(3)]


OPEN: list[Engine] = []


@pytest.fixture(autouse=True)
def no_log_stays_open():
    """An open log is a warning for whichever later test is there when it is collected."""
    yield
    while OPEN:
        OPEN.pop().close()


class FakeModel(Engine):
    """`rule(messages, draw) -> text`; an exception of the rule becomes the request's."""

    def __init__(self, role, rule, log=None):
        super().__init__(role, log)
        self.rule, self.asked = rule, []
        OPEN.append(self)

    def _send(self, key, messages, n, sampling):
        done: Future = Future()
        self.asked.append(messages)

        def later():
            try:
                done.set_result([Completion(self.rule(messages, k), tokens=3) for k in range(n)])
            except Exception as e:
                done.set_exception(e)

        threading.Thread(target=later).start()
        return done


def good_teacher(messages, draw):
    """A new function in every turn, told apart by the number of questions that the prompt holds."""
    last = messages[-1]["content"]
    if last.startswith("f("):
        # The beginning that it was given, in the type of the argument, is left alone.
        return "\nf(3)\nf(4)"
    known = re.findall(r"return \w+ \* (\d+)", "".join(m["content"] for m in messages))
    if last.startswith("The new function"):
        return " is steeper."
    name = re.findall(r"def f\((\w+)", last)[0]
    return f":\n    return {name} * {int(known[0]) + 1 if known else 2}\n```"


def half_right_student(messages, draw):
    program, value = re.findall(r"return \w+ \* (\d+)", messages[-1]["content"])[-1], 3
    return f"<answer>{int(program) * value + draw % 2}</answer>"


@pytest.fixture(scope="module")
def boxes():
    with Sandbox(workers=2) as box, Sandbox(workers=2, hash_seed=1) as other:
        yield DeterminismCheck(box, other)


def loop(tmp_path, boxes, teacher=good_teacher, student=half_right_student, numbers=CPU):
    return Synthesis(
        numbers,
        FakeModel(numbers.teacher, teacher, tmp_path / "teacher.jsonl"),
        FakeModel(numbers.student, student, tmp_path / "student.jsonl"),
        boxes,
        tmp_path / "problems.jsonl",
    )


def test_real_functions_become_problems_without_a_teacher(tmp_path, boxes):
    seed = SeedSnippet(
        id="r",
        text="import math\ndef main_solution(x):\n    return {'doubled': math.floor(x) * 2}",
        source="real",
        origin="there:1",
        as_is=True,
        split="held_out",
        task="Doubles a number.",
        generator="def generate_inputs(rng: Random):\n    return {'x': rng.randint(1, 99)}",
    )

    def student(messages, draw):
        assert "Hint: Doubles a number." in messages[-1]["content"]
        return f"```python\ndef f(x):\n    return x * {2 + draw % 2}\n```"

    rounds = loop(tmp_path, boxes, student=student)
    (one,) = rounds.generate([seed])
    assert (one.method, one.environment, one.split, one.teacher, one.status) == (
        "real",
        "induction",
        "held_out",
        "",
        "valid",
    )
    assert (one.n, one.solved, len(one.inputs)) == (4, 2, 5) and not rounds.teacher.asked
    assert "doubled" not in one.program, "the task says nothing of a dictionary"
    assert teacher_quality([one]).empty or not teacher_quality([one]).of.any(), (
        "no credit and no blame for the teacher"
    )


@pytest.mark.parametrize(
    ("generator", "reason"),
    [
        ("def generate_inputs(rng):\n    return {'y': 1}", "no usable inputs"),
        ("def generate_inputs(rng):\n    return [1]", "no usable inputs"),
        ("def generate_inputs(rng):\n    return {'x': 'a' * 500}", "no usable inputs"),
        ("def generate_inputs(rng):\n    return 1 / 0", "crashes"),
        ("def generate_inputs(rng):\n    while True: pass", "times out"),
        ("", "crashes"),
    ],
)
def test_a_real_function_that_makes_no_problem_says_why(tmp_path, boxes, generator, reason):
    seed = SeedSnippet(
        id="r",
        text="def main_solution(x):\n    return x",
        source="real",
        origin="there:1",
        as_is=True,
        generator=generator,
    )
    (one,) = loop(tmp_path, boxes).generate([seed])
    assert (one.status, str(one.reason)) == ("invalid", reason)


@pytest.mark.parametrize(
    ("p", "ask"),
    [(1.0, "harder"), (0.651, "harder"), (0.65, "vary"), (0.01, "vary"), (0.0, "easier")],
)
def test_the_papers_rule_of_adaptation(p, ask):
    assert adapt(p, CPU.rounds) == ask


def test_chains_and_the_baseline_at_equal_budget(tmp_path, boxes):
    problems = list(loop(tmp_path, boxes).generate(SEEDS))
    assert [p.status for p in problems] == ["valid"] * len(problems)
    chains = {m: [p for p in problems if p.method == m] for m in ("multi", "single")}
    assert len(chains["multi"]) == 3 * CPU.rounds.turns
    assert {m: sum(p.teacher_tokens for p in mine) for m, mine in chains.items()} == {
        "multi": 72,
        "single": 72,
    }
    assert all((p.n, p.solved, p.errors) == (4, 2, 0) for p in problems)
    chain = [p for p in chains["multi"] if p.seed_id == "s0"]
    assert [p.asked for p in chain] == ["new", "vary", "vary"]
    assert [p.parent_id for p in chain] == ["", chain[0].id, chain[1].id]
    assert not any(p.parent_id for p in chains["single"])


def test_a_later_turn_sees_the_last_problem_only(tmp_path, boxes):
    run = loop(tmp_path, boxes)
    run.generate(SEEDS[:1])
    third = next(m for m in run.teacher.asked if len(m) == 2 and " * 3" in m[0]["content"])
    assert " * 2" not in third[0]["content"] and SEEDS[0].text not in third[0]["content"]


def test_an_invalid_answer_gets_its_error_back_once(tmp_path, boxes):
    seen = []

    def slips_once(messages, draw):
        text = "".join(m["content"] for m in messages)
        if "did not work" in text:
            seen.append(text)
            return good_teacher(messages, draw)
        return (
            " broken(:\n```"
            if not messages[-1]["content"].startswith("f(")
            else good_teacher(messages, draw)
        )

    problems = list(loop(tmp_path, boxes, slips_once).generate(SEEDS[:1]))
    assert problems[0].status == "valid" and "syntax error" in seen[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "syntax error"),
        ("I would rather talk about the sea.", "syntax error"),
        (":\n    return " + "9" * 100_000, "syntax error"),
    ],
)
def test_a_hopeless_teacher_ends_the_chain_with_a_counted_reason(text, reason, tmp_path, boxes):
    problems = list(loop(tmp_path, boxes, lambda m, k: text).generate(SEEDS[:1]))
    multi = [p for p in problems if p.method == "multi"]
    assert [(p.status, p.n) for p in multi] == [("invalid", 0)]
    assert (
        multi[0].reason in {reason, "no usable inputs", "value is not a plain literal"}
        and multi[0].p is None
    )


def test_an_endless_answer_is_called_cut_off(tmp_path, boxes):
    run = loop(tmp_path, boxes, lambda m, k: "")
    run.teacher._send = lambda key, messages, n, sampling: _done(
        [Completion(":\n    x = [1, 1, 1", "length", 240)]
    )
    assert {p.reason for p in run.generate(SEEDS[:1])} == {"cut off"}


def _done(value):
    done: Future = Future()
    done.set_result(value)
    return done


def test_a_lost_student_is_an_error_not_a_zero_and_is_tried_again(tmp_path, boxes, capsys):
    def lost(messages, draw):
        raise EngineError("timeout")

    first = list(loop(tmp_path, boxes, student=lost).generate(SEEDS[:1]))
    assert {(p.status, p.n, p.p) for p in first} == {("error", 0, None)}
    capsys.readouterr()
    list(loop(tmp_path / "many", boxes, student=lost).generate(SEEDS))
    assert capsys.readouterr().out.count("warning: engine or sandbox lost 3 of 3") == 1
    again = list(loop(tmp_path, boxes).generate(SEEDS[:1]))
    assert {p.status for p in again} == {"valid"}


def test_attempts_that_were_all_lost_are_no_valid_problem():
    env = make(CPU.rounds)["deduction"]
    asked = Problem(environment="deduction", program="def f(x):\n    return x", status="valid")
    answers = [Completion("<answer>1</answer>")] * 2
    lost, wrong = Verdict("error", "lost"), Verdict("failed", Reason.WRONG)
    assert tally(env, asked, answers, [lost, lost], 2).status == "error"
    half = tally(env, asked, answers, [lost, wrong], 2)
    assert (half.status, half.n, half.errors) == ("valid", 1, 1)


def test_an_answer_whose_reading_fails_is_shown_as_it_came_and_ends_nothing():
    class FakeFaulty(type(make(CPU.rounds)["deduction"])):
        def read_answer(self, problem, completion):
            if "read" in completion:
                raise RecursionError("unforeseen")
            return super().read_answer(problem, completion)

    asked = Problem(environment="deduction", program="def f(x):\n    return x", status="valid")
    answers = [Completion("read me"), Completion("<answer>1</answer>")]
    verdicts = [Verdict("failed", Reason.NO_ANSWER), Verdict("passed")]
    found = tally(FakeFaulty(), asked, answers, verdicts, 2)
    assert (found.n, found.solved) == (2, 1)
    assert [sample.answer for sample in found.samples] == ["1", "read me"]


def test_a_full_disk_stops_the_stage_and_unforeseen_faults_do_not(tmp_path, boxes, monkeypatch):
    def full(row):
        raise RecordError("the disk is full")

    def broken(draft, check):
        raise KeyError("unforeseen")

    run = loop(tmp_path / "full", boxes)
    monkeypatch.setattr(run.student.log, "append", full)
    with pytest.raises(RecordError, match="full"):
        run.generate(SEEDS[:1])
    run = loop(tmp_path / "broken", boxes)
    for env in run.environments.values():
        monkeypatch.setattr(env, "verify", broken)
    run.generate(SEEDS[:1])
    rows = list(Log(tmp_path / "broken" / "problems.jsonl"))
    assert rows and {row["status"] for row in rows} == {"error"}
    assert {row["reason"] for row in rows} == {"KeyError: 'unforeseen'"}


def test_a_model_that_is_not_there_stops_the_stage(tmp_path, boxes, monkeypatch):
    run = loop(tmp_path, boxes)

    def absent(*_, **__):
        raise ModelUnavailable("there is no model")

    monkeypatch.setattr(run.student, "submit", absent)
    with pytest.raises(ModelUnavailable):
        run.generate(SEEDS[:1])


def test_an_engine_that_is_gone_stops_the_stage_and_nothing_is_lost(tmp_path, boxes):
    calls = []

    def dies(messages, draw):
        calls.append(1)
        if len(calls) > 40:
            raise EngineDown("the process ended")
        return half_right_student(messages, draw)

    with pytest.raises(EngineDown, match="ended"):
        loop(tmp_path, boxes, student=dies).generate(SEEDS)
    kept = len(list(Log(tmp_path / "problems.jsonl")))
    problems = list(loop(tmp_path, boxes).generate(SEEDS))
    assert problems == list(loop(tmp_path / "whole", boxes).generate(SEEDS))
    assert 0 < kept < len(problems)


def replayed(folder, seeds):
    """The rounds over the real models' recorded answers: what a killed process below does."""
    roles = profile.load_profile("cpu")
    teacher, student = (
        Replay(role, name=role.model, recording=RECORDED / "completions.parquet")
        for role in (roles.teacher, roles.student)
    )
    with Sandbox(workers=1) as a, Sandbox(workers=1, hash_seed=1) as b:
        check = DeterminismCheck(a, b)
        synthesis = Synthesis(roles, teacher, student, check, Path(folder) / "problems.jsonl")
        return list(synthesis.generate(seeds))


def doomed(folder, seeds, ready):
    ready.set()
    replayed(folder, seeds)


def test_killed_at_20_random_moments_it_equals_an_undisturbed_run(tmp_path, monkeypatch):
    # In the order in which they were recorded.
    seeds = seeds_from_frame(pd.read_parquet(RECORDED / "seeds.parquet"))[:8]
    whole = replayed(tmp_path / "whole", seeds)
    size = (tmp_path / "whole" / "problems.jsonl").stat().st_size
    log = tmp_path / "killed" / "problems.jsonl"
    context = multiprocessing.get_context("forkserver")
    # So that the server can import this once.
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{Path(__file__).parents[1]}")
    context.set_forkserver_preload(["test_synthesis"])
    draw = random.Random(0)
    seen = set()

    def written():
        return log.stat().st_size if log.exists() else 0

    for _ in range(20):
        ready = context.Event()
        # A moment of the work, not of the clock: a machine of any speed is killed at work.
        aim = written() + draw.uniform(-size / 8, size / 4)
        child = context.Process(target=doomed, args=(log.parent, seeds, ready))
        child.start()
        assert ready.wait(60)
        while child.is_alive() and written() < aim:
            time.sleep(0.001)
        # Before the first problem too, and not always right after one.
        child.join(draw.uniform(0, 0.1))
        child.kill()
        child.join()
        seen.add(written())
        # All is written: the next one begins anew.
        if written() == size:
            log.unlink()
    print(f"killed with so many bytes of {size} written: {sorted(seen)}")
    assert len(seen) > 9, "the kills came at different moments"
    assert replayed(log.parent, seeds) == whole
    assert replayed(tmp_path / "again", seeds) == whole, (
        "two runs over the same recording are identical"
    )


def test_stepping_stones_are_made_top_down(tmp_path, boxes):
    numbers = profile.load_profile(
        "cpu",
        {
            "rounds.environments": ["deduction"],
            "rounds.attempts": 4,
            "rounds.stones": 1,
            "rounds.baseline": False,
        },
    )
    held_out = SEEDS[0].model_copy(update={"id": "held", "split": "held_out"})
    problems = list(loop(tmp_path, boxes, numbers=numbers).generate([held_out, *SEEDS]))
    stones = [p for p in problems if p.method == "stones"]
    assert [(p.seed_id, p.turn, p.asked) for p in stones] == [
        ("s0", 1, "hard"),
        ("s0", 2, "medium"),
        ("s0", 3, "easy"),
    ], "of the first seed that is trained on: a held-out one would be a waste"
    assert {p.parent_id for p in stones[1:]} == {stones[0].id}, (
        "both variants are made from the hard one"
    )


@pytest.mark.parametrize(
    ("ask", "aim"),
    [
        ("new", [0.35, 0.65]),
        ("harder", [0.35, 0.65]),
        ("hard", [0.05, 0.16]),
        ("medium", [0.41, 0.59]),
        ("easy", [0.81, 0.91]),
    ],
)
def test_the_pass_rates_that_the_teacher_is_to_aim_at(ask, aim):
    assert target_pass_rates(ask, CPU.rounds) == aim


def test_the_baseline_costs_what_the_chain_costs(tmp_path, boxes):
    def ends(messages, draw):  # later turns are broken: the chain ends after its first problem
        later = messages[-1]["content"].startswith("```python") and len(messages) > 2
        return " broken(:\n```" if later else good_teacher(messages, draw)

    problems = list(loop(tmp_path, boxes, ends).generate(SEEDS[:1]))
    tokens = {m: [p.teacher_tokens for p in problems if p.method == m] for m in ("multi", "single")}
    assert len(tokens["multi"]) == 2 and problems[1].status == "invalid"
    assert sum(tokens["single"][:-1]) < sum(tokens["multi"]) <= sum(tokens["single"])


def test_the_bar_counts_problems_and_ends_full(tmp_path, boxes):
    """Also where a chain ends early, and when all is there already."""

    def ends(messages, draw):
        later = messages[-1]["content"].startswith("```python") and len(messages) > 2
        return " broken(:\n```" if later else good_teacher(messages, draw)

    for name, teacher in (("whole", good_teacher), ("early", ends), ("early", ends)):
        (tmp_path / name).mkdir(exist_ok=True)
        rounds = loop(tmp_path / name, boxes, teacher)
        problems = list(rounds.generate(SEEDS))
        assert rounds.bar.n == rounds.bar.total == len(problems)


def test_quality_counts_what_the_teacher_did():
    from kit.core.types import Problem

    base = {"environment": "deduction", "method": "multi", "n": 4}
    chain = [
        Problem(
            **base,
            program=f"def f(x):\n    return x * {k}",
            chain_id="c",
            turn=k,
            asked=a,
            solved=s,
        )
        for k, a, s in ((1, "new", 4), (2, "harder", 1), (3, "vary", 0), (4, "easier", 0))
    ]
    twin = Problem(
        **base, program="def f(y):\n    # other words\n    return y * 1", chain_id="d", turn=1
    )
    copy = Problem(
        environment="deduction",
        method="multi",
        chain_id="e",
        status="invalid",
        reason="copy of the seed",
    )
    lost = Problem(environment="deduction", method="multi", chain_id="g", status="error")
    found = teacher_quality([*chain, twin, copy, lost, twin.with_(method="single")]).set_index(
        ["environment", "measure"]
    )
    assert found.loc["all", ["count", "of"]].to_numpy().tolist() == [
        [5, 6],
        [1, 6],
        [4, 5],
        [1, 1],
        [0, 1],
    ]
    assert found.loc["deduction", "share"].tolist() == found.loc["all", "share"].tolist()


def test_steps_join_a_turn_with_the_one_before():
    from kit.core.types import Problem

    chain = [
        Problem(
            environment="deduction",
            program=str(k),
            method="multi",
            chain_id="c",
            turn=k,
            n=4,
            solved=5 - k,
        )
        for k in (1, 2, 3)
    ]
    found = turn_changes(chain)
    assert list(found.change) == [-0.25, -0.25]
