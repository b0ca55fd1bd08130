"""The loop with fake models that answer by rule, in the real sandbox: chains, baseline, repair, resume, counting."""
import re
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from kit import profile
from kit.engine import Completion, Engine, EngineDown, EngineError
from kit.records import Log
from kit.rounds import Rounds, adapt, steps, verdict
from kit.sandbox import Sandbox
from kit.seeds import Seed

CPU = profile.load("cpu", {"rounds.environments": ["deduction"], "rounds.attempts": 4})
SEEDS = [Seed(id=f"s{k}", text=f"x = {k}", source="wild", origin="here:1") for k in range(3)]


class FakeModel(Engine):
    """`rule(messages, draw) -> text`; an exception of the rule becomes the request's."""

    def __init__(self, role, rule, log=None):
        super().__init__(role, log)
        self.rule, self.asked = rule, []

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
        return "3)\nf(4)"
    known = re.findall(r"return \w+ \* (\d+)", "".join(m["content"] for m in messages))
    name = re.findall(r"def f\((\w+)", last)[0]
    return f":\n    return {name} * {int(known[0]) + 1 if known else 2}\n```"


def half_right_student(messages, draw):
    program, value = re.findall(r"return \w+ \* (\d+)", messages[-1]["content"])[-1], 3
    return f"<answer>{int(program) * value + draw % 2}</answer>"


@pytest.fixture(scope="module")
def boxes():
    with Sandbox(workers=2) as box, Sandbox(workers=2, hash_seed=1) as other:
        yield box, other


def loop(tmp_path, boxes, teacher=good_teacher, student=half_right_student, numbers=CPU):
    return Rounds(numbers, FakeModel(numbers.teacher, teacher, tmp_path / "teacher.jsonl"),
                  FakeModel(numbers.student, student, tmp_path / "student.jsonl"), *boxes, tmp_path / "problems.jsonl")


@pytest.mark.parametrize(("p", "ask"), [(1.0, "harder"), (0.651, "harder"), (0.65, "vary"), (0.01, "vary"), (0.0, "easier")])
def test_the_papers_rule_of_adaptation(p, ask):
    assert adapt(p, CPU.rounds) == ask


def test_chains_and_the_baseline_at_equal_budget(tmp_path, boxes):
    problems = loop(tmp_path, boxes).generate(SEEDS)
    assert [p.status for p in problems] == ["valid"] * len(problems)
    chains = {m: [p for p in problems if p.method == m] for m in ("multi", "single")}
    assert len(chains["multi"]) == len(chains["single"]) == 3 * CPU.rounds.turns
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
        return " broken(:\n```" if not messages[-1]["content"].startswith("f(") else good_teacher(messages, draw)
    problems = loop(tmp_path, boxes, slips_once).generate(SEEDS[:1])
    assert problems[0].status == "valid" and "syntax error" in seen[0]


@pytest.mark.parametrize(("text", "reason"), [("", "syntax error"), ("I would rather talk about the sea.", "syntax error"),
                                              (":\n    return " + "9" * 100_000, "syntax error")])
def test_a_hopeless_teacher_ends_the_chain_with_a_counted_reason(text, reason, tmp_path, boxes):
    problems = loop(tmp_path, boxes, lambda m, k: text).generate(SEEDS[:1])
    multi = [p for p in problems if p.method == "multi"]
    assert [(p.status, p.n) for p in multi] == [("invalid", 0)]
    assert multi[0].reason in {reason, "no usable inputs", "value is not a plain literal"} and multi[0].p is None


def test_an_endless_answer_is_called_cut_off(tmp_path, boxes):
    run = loop(tmp_path, boxes, lambda m, k: "")
    run.teacher._send = lambda key, messages, n, sampling: _done([Completion(":\n    x = [1, 1, 1", "length", 240)])
    assert {p.reason for p in run.generate(SEEDS[:1])} == {"cut off"}


def _done(value):
    done: Future = Future()
    done.set_result(value)
    return done


def test_a_lost_student_is_an_error_not_a_zero_and_is_tried_again(tmp_path, boxes):
    def lost(messages, draw):
        raise EngineError("timeout")
    first = loop(tmp_path, boxes, student=lost).generate(SEEDS[:1])
    assert {(p.status, p.n, p.p) for p in first} == {("error", 0, None)}
    again = loop(tmp_path, boxes).generate(SEEDS[:1])
    assert {p.status for p in again} == {"valid"}


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
    problems = loop(tmp_path, boxes).generate(SEEDS)
    assert 0 < kept < len(problems) == 6 * CPU.rounds.turns


def test_killed_in_the_middle_and_run_again_it_equals_an_undisturbed_run(tmp_path, boxes):
    script = textwrap.dedent(f"""
        import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
        import time
        from pathlib import Path
        import test_rounds as t
        from kit.sandbox import Sandbox
        def slow(messages, draw):
            time.sleep(0.05)
            return t.good_teacher(messages, draw)
        with Sandbox(workers=1) as a, Sandbox(workers=1, hash_seed=1) as b:
            t.loop(Path(sys.argv[1]), (a, b), slow).generate(t.SEEDS)""")
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
    log = tmp_path / "killed" / "problems.jsonl"
    end = time.monotonic() + 60
    while time.monotonic() < end and not (log.exists() and log.stat().st_size > 2000):
        time.sleep(0.01)
    child.kill()
    child.wait()
    killed = loop(tmp_path / "killed", boxes).generate(SEEDS)
    assert killed == loop(tmp_path / "whole", boxes).generate(SEEDS)


def test_steps_and_the_verdict_on_f2():
    from kit.records import Problem
    chain = [Problem(environment="deduction", program=str(k), method="multi", chain_id="c", turn=k, n=4, solved=5 - k) for k in (1, 2, 3)]
    found = steps(chain)
    assert list(found.change) == [-0.25, -0.25]
    assert "not tested at this scale" in verdict(found.change)
    import pandas as pd
    assert "supported" in verdict(pd.Series([-0.5, -0.25, -0.3, -0.4] * 5))
    assert "contradicted" in verdict(pd.Series([0.5, 0.25, 0.3, 0.4] * 5))
    assert "undecided" in verdict(pd.Series([0.5, -0.5] * 10))
