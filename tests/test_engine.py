"""The engine's log, retries and replay, with a fake model.

tests/test_notebooks.py runs the real vLLM.
"""

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import pytest
import torch
from transformers import AutoTokenizer

from kit import serving
from kit.core.config import Role, Sampling
from kit.core.profile import load_profile
from kit.core.records import Log
from kit.core.run import open_run
from kit.serving import open_engine
from kit.serving.engine import (
    Completion,
    Engine,
    EngineDown,
    EngineError,
    NotRecorded,
    Replay,
    RequestError,
    write_recording,
)
from kit.serving.in_process import InProcess, _Draw
from kit.serving.local import Child
from kit.serving.models import answer_ends, model_path
from tests.fakes.endpoint import answered

ROLE = Role(model="fake", sampling=Sampling(temperature=1.0, max_tokens=8))


@pytest.fixture
def run(tmp_path):
    return open_run("02_rounds", "smoke", str(tmp_path / "run"))


def ask(text):
    return [{"role": "user", "content": text}]


class FakeEngine(Engine):
    """Answers with the prompt; fails as often as it is told."""

    def __init__(self, *args, failures=0, dead=False, **kw):
        super().__init__(*args, **kw)
        self.sent = 0
        self.failures = failures
        self.dead = dead

    def alive(self):
        return not self.dead

    def _send(self, key, messages, n, sampling):
        self.sent += 1
        done = Future()

        def later():
            if self.failures:
                self.failures -= 1
                done.set_exception(EngineDown("gone") if self.dead else EngineError("timeout"))
            else:
                done.set_result([Completion(messages[-1]["content"], "stop", 1)] * n)

        threading.Thread(target=later).start()
        return done


def test_answers_come_in_order_and_are_logged(tmp_path):
    with FakeEngine(ROLE, tmp_path / "log.jsonl") as e:
        answers = answered(e, [ask("a"), ask("b")], n=2)
    assert [[c.text for c in a] for a in answers] == [["a", "a"], ["b", "b"]]
    assert len(list(Log(tmp_path / "log.jsonl"))) == 2 and e.counts["tokens"] == 4


def test_a_second_run_asks_nothing_anew(tmp_path):
    for sent, reused in ((1, 0), (0, 1)):
        with FakeEngine(ROLE, tmp_path / "log.jsonl") as e:
            e.submit(ask("a"), key="chain/1").result()
        assert (e.sent, e.counts["reused"]) == (sent, reused)


@pytest.mark.parametrize(
    "change", [{"key": "other"}, {"n": 2}, {"sampling": Sampling(temperature=0.5, max_tokens=8)}]
)
def test_another_draw_is_another_request(tmp_path, change):
    with FakeEngine(ROLE, tmp_path / "log.jsonl") as e:
        e.submit(ask("a"), key="k").result()
        e.submit(ask("a"), **{"key": "k", **change}).result()
    assert e.sent == 2


def test_a_lost_request_is_tried_again_and_then_an_error_never_an_empty_answer(tmp_path):
    with FakeEngine(ROLE, tmp_path / "log.jsonl", failures=2) as e:
        assert e.submit(ask("a")).result()[0].text == "a"
    with FakeEngine(ROLE, failures=9) as e, pytest.raises(EngineError):
        e.submit(ask("a")).result()
    assert e.sent == 3 and e.counts["errors"] == 1


def test_an_error_that_nobody_waits_for_any_more_is_quiet(caplog):
    with FakeEngine(ROLE, dead=True) as e:
        lost = Future()
        e._send = lambda *request: lost
        e.submit(ask("a")).cancel()
        lost.set_exception(EngineDown("closed"))
    assert not caplog.records


def test_a_second_try_that_is_refused_at_once_is_an_error_and_leaves_nobody_waiting():
    with FakeEngine(ROLE) as e:
        lost = Future()
        lost.set_exception(EngineError("timeout"))
        tries = iter([lost])
        e._send = lambda *request: next(tries)
        with pytest.raises(EngineError, match="fake"):
            e.submit(ask("a")).result(timeout=5)


@pytest.mark.parametrize(
    "answer", [Completion("", "stop", 0), Completion("I must not", "content_filter", 4)]
)
def test_an_empty_or_filtered_answer_is_asked_again_and_never_an_answer(answer):
    with FakeEngine(ROLE) as e:
        given = [answer, answer, Completion("fine", "stop", 1)]
        e._send = lambda *request: _done([given.pop(0)])
        assert e.submit(ask("a")).result()[0].text == "fine"
        given[:] = [answer] * 9
        with pytest.raises(EngineError, match="empty or filtered"):
            e.submit(ask("b")).result()
        assert len(given) == 6, "asked three times"


def test_a_model_that_ends_at_once_has_answered():
    with FakeEngine(ROLE) as e:
        e._send = lambda *request: _done([Completion("", "stop", 1)])
        assert e.submit(ask("a")).result() == [Completion("", "stop", 1)]


def _done(value):
    done = Future()
    done.set_result(value)
    return done


def test_a_dead_engine_is_not_asked_again():
    with FakeEngine(ROLE, failures=9, dead=True) as e, pytest.raises(EngineDown):
        e.submit(ask("a")).result()
    assert e.sent == 1


def test_replay_gives_the_recorded_answers_and_refuses_others(run, tmp_path, monkeypatch):
    with FakeEngine(ROLE, tmp_path / "log.jsonl") as e:
        e.submit(ask("a"), key="k").result()
    write_recording([tmp_path / "log.jsonl"], tmp_path / "completions.parquet")
    monkeypatch.setattr(serving, "RECORDED", tmp_path)
    role = ROLE.model_copy(update={"engine": "replay"})
    with open_engine(run, role, "teacher") as replay:
        assert isinstance(replay, Replay) and not replay.live
        assert replay.submit(ask("a"), key="k").result()[0].text == "a"
        for other in "bcd":
            with pytest.raises(EngineError, match="slower or faster here") as lost:
                replay.submit(ask(other), key="k").result()
            assert not isinstance(lost.value, NotRecorded), "a few answers are lost"
        with pytest.raises(NotRecorded, match="recorded seeds"):
            replay.submit(ask("e"), key="k").result()


def test_a_torn_log_costs_one_completion_not_the_run(tmp_path):
    log = tmp_path / "log.jsonl"
    with FakeEngine(ROLE, log) as e:
        answered(e, [ask("a"), ask("b")])
    log.write_bytes(log.read_bytes()[:-9])
    with FakeEngine(ROLE, log) as e:
        answered(e, [ask("a"), ask("b")])
    assert e.sent == 1


def test_an_endpoint_without_an_address_says_what_to_write(run):
    with pytest.raises(EngineError, match="endpoints"):
        open_engine(run, ROLE.model_copy(update={"engine": "openai"}), "teacher")


def test_roles_that_differ_in_how_they_ask_only_share_one_process(run):
    drawn = Sampling(temperature=0.1, max_tokens=3)
    teacher = open_engine(run, ROLE, "teacher")
    student = open_engine(run, ROLE.model_copy(update={"sampling": drawn}), "student")
    other = open_engine(run, ROLE.model_copy(update={"context": 512}), "other")
    assert teacher.child is student.child and other.child is not teacher.child
    teacher.close()
    late = open_engine(run, ROLE, "late")
    assert late.child is student.child, "it goes on for who still needs it"
    for each in (student, late, other):
        each.close()
    again = open_engine(run, ROLE, "again")
    assert again.child is not late.child
    again.close()


STAMMERS = {
    "half a line, then the end": "print('{\"id\": 1, \"compl', end='', flush=True)",
    "half a line, then another": 'print(\'{"id": 1, "comp\', flush=True); time.sleep(60)',
    "no JSON": "print('Segmentation fault', flush=True); time.sleep(60)",
    "an answer to nobody": 'print(\'{"id": 77, "error": "x"}\', flush=True); time.sleep(60)',
    "another shape": 'print(\'{"id": 1, "completions": 7}\', flush=True); time.sleep(60)',
    "a list": "print('[1, 2]', flush=True); time.sleep(60)",
    "the end at once": "sys.exit(3)",
    "deaf and silent": "os.close(0); os.close(1); time.sleep(60)",
}


def test_a_child_that_never_came_up_says_so_to_everybody(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    child = Child({"model": str(tmp_path)}, None)
    child.users = 1
    for _ in range(2):
        with pytest.raises(EngineDown, match="ended"):
            child.ask({"n": 1}).result(30)


def test_a_child_that_nobody_needs_any_more_is_not_started(tmp_path, monkeypatch):
    """It was closed while its model came from far away."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    child = Child({"model": str(tmp_path)}, None)
    with pytest.raises(EngineDown, match="closed before"):
        child.start()
    assert not child.process


def test_a_child_interrupted_while_it_loads_is_started_anew(tmp_path, monkeypatch):
    """Ctrl-C in the cell that waits for the model."""
    (slow := tmp_path / "slow").write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    child = Child({"model": str(tmp_path)}, None)
    child.users = 1
    started = []

    def press():
        while not child.process:
            time.sleep(0.01)
        started.append(child.process)
        time.sleep(0.5)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        child.start()
    assert started[0].poll() is not None, "no process is left"
    assert child.process is None and child.alive()
    slow.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(EngineDown, match="exit 3"):
        child.start()


@pytest.mark.parametrize("program", STAMMERS.values(), ids=STAMMERS)
def test_a_child_that_ends_or_stammers_leaves_nobody_waiting(program):
    child = Child({"model": "none"}, None)
    command = [sys.executable, "-c", f"import os, sys, time\ninput()\n{program}"]
    child.process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    threading.Thread(target=child._read, daemon=True).start()
    first = child.ask({"n": 1})
    with pytest.raises(EngineDown, match="the vLLM process for none ended"):
        first.result(30)
    with pytest.raises(EngineDown):
        child.ask({"n": 1}).result(30)
    assert child.process.poll() is not None, "and no process is left"


# transformers in this process


def test_noise_draws_from_the_softmax_as_the_role_asks():
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0]).expand(20_000, -1)
    how = Sampling(temperature=0.5, top_p=0.9, max_tokens=1)
    draw = _Draw(["a" * 16], 20_000, how, "cpu")
    drawn = draw(None, scores).argmax(-1).bincount(minlength=4) / 20_000
    # At temperature 0.5 the first two have 0.865 and 0.117: together more than 0.9.
    expected = torch.tensor([0.881, 0.119, 0.0, 0.0])
    assert torch.allclose(drawn, expected, atol=0.01)


@pytest.mark.model
def test_a_small_model_in_this_process_answers_alike_whatever_is_asked_beside_it():
    student = load_profile("mini").student
    steps = ["xs = xs[::-1]", "xs = sorted(xs)", "xs = xs[1:]"]
    asked = [ask(f"```python\ndef f(xs):\n    {step}\n    return xs\n```") for step in steps]
    with InProcess(student, name="one") as engine:
        first = engine
        sent = [engine.submit(messages, 8, "a") for messages in asked]
        greedy = engine.submit(asked[0], sampling=Sampling(temperature=0.0, max_tokens=80))
        beside = [future.result() for future in sent]
        assert len(greedy.result()) == 1
        long = engine.submit(ask("1" * 600))
        with pytest.raises(RequestError, match="longer than 512"):
            long.result()
        late = engine.submit(asked[1], 8, "b")
        while engine.waiting:
            time.sleep(0.01)
    with InProcess(student.model_copy(update={"concurrency": 1}), name="one") as engine:
        alone = [engine.submit(messages, 8, "a").result() for messages in asked]
    with InProcess(student, name="two") as engine:
        other = engine.submit(asked[0], 8, "a").result()
    assert beside == alone and other != alone[0]
    # Answered, or failed with the engine's end: nobody waits for ever.
    assert late.done() and (late.exception() is None or isinstance(late.exception(), EngineDown))
    assert first.log._file is None
    assert all(answer.tokens and answer.finish in ("stop", "length") for answer in other)


@pytest.mark.model
def test_what_is_asked_together_is_answered_in_one_batch(monkeypatch):
    asked = [ask(f"```python\ndef f(x):\n    return x + {k}\n```") for k in range(5)]
    batches, answer = [], InProcess._answer

    def counted(self, batch, n, sampling):
        batches.append(len(batch))
        return answer(self, batch, n, sampling)

    monkeypatch.setattr(InProcess, "_answer", counted)
    with InProcess(load_profile("mini").student) as engine:
        with engine.together():
            sent = []
            for messages in asked:
                sent.append(engine.submit(messages, 8))
                # Long enough for a batch of those before it.
                time.sleep(0.05)
                assert not batches
        assert all(len(future.result(60)) == 8 for future in sent)
    assert batches == [len(asked)]


@pytest.mark.model
def test_an_answer_ends_where_the_chat_template_ends_a_turn():
    """A base model's configuration knows another end only."""
    words = AutoTokenizer.from_pretrained(model_path("mini"))
    pad, eos, go = words.convert_tokens_to_ids(["<pad>", "<eos>", "<go>"])
    assert answer_ends(words, eos) == [eos]
    assert answer_ends(words, [pad, eos]) == [pad, eos]
    words.chat_template = (
        "<pad>{% for m in messages %}{{ m.content }}"
        "{% if m.role == 'assistant' %}<go>\n{% endif %}{% endfor %}"
    )
    assert answer_ends(words, None) == [eos, go]
    # A template that ends no turn adds none.
    words.chat_template = "<pad>{% for m in messages %}{{ m.content }}{% endfor %}"
    assert answer_ends(words, eos) == [eos]


@pytest.mark.model
def test_a_conversation_that_the_template_refuses_is_that_requests_error():
    refuses = "{% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}"
    with InProcess(load_profile("mini").student) as engine:
        engine.tokenizer.chat_template = refuses + engine.tokenizer.chat_template
        refused, fine = engine.submit([*ask("a"), *ask("b")]), engine.submit(ask("a"))
        with pytest.raises(RequestError, match="one turn only"):
            refused.result(60)
        assert fine.result(60)[0].tokens and engine.counts["errors"] == 1
