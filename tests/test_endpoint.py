"""Endpoints that fail in every way a server can: no failure is an answer, no answer is lost."""

import time

import pytest

from kit.core.config import Role, Sampling
from kit.serving.endpoint import Endpoint
from kit.serving.engine import EngineDown, EngineError, without_thoughts
from tests.fakes.endpoint import FakeEndpoint


def engine(*urls, log=None, **changes):
    role = {
        "model": "m",
        "engine": "openai",
        "endpoints": list(urls),
        "sampling": Sampling(temperature=0.5, max_tokens=9),
        "concurrency": 16,
    }
    return Endpoint(Role(**role | changes), log)


def ask(text):
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("fault", ["slow", "429", "500", "cut", "garbage", "odd", "short", "dead"])
def test_a_fault_is_never_an_answer(fault, tmp_path):
    with FakeEndpoint([fault, "ok"]) as server, engine(server.url, log=tmp_path / "log") as e:
        assert [c.text for c in e.submit(ask("a"), 2).result(30)] == ["echo a", "echo a"]
        assert e.counts["requests"] == 1 and not e.counts["errors"]
        assert [word for word, _ in server.seen] == ([fault] if fault == "slow" else [fault, "ok"])


def test_a_storm_of_faults_loses_nothing(tmp_path):
    storm = ["ok", "500", "cut", "429", "garbage", "dead", "slow"] * 3 + ["ok"]
    with (
        FakeEndpoint(storm) as one,
        FakeEndpoint(["ok"], 0.02) as two,
        engine(one.url, two.url, log=tmp_path / "log") as e,
    ):
        answers = e.chat([ask(str(k)) for k in range(60)])
        assert [a[0].text for a in answers] == [f"echo {k}" for k in range(60)] and not e.counts[
            "errors"
        ]
    with engine("http://127.0.0.1:9/v1", log=tmp_path / "log") as again:
        assert again.chat([ask(str(k)) for k in range(60)]) == answers, "a second run asks nobody"


def test_requests_are_balanced_over_replicas():
    with (
        FakeEndpoint(seconds=0.05) as one,
        FakeEndpoint(seconds=0.05) as two,
        engine(one.url, two.url) as e,
    ):
        e.chat([ask(str(k)) for k in range(48)])
        assert abs(len(one.seen) - len(two.seen)) <= 4 and one.busiest <= 9 and two.busiest <= 9


def test_a_replica_that_dies_in_mid_batch_is_left_alone():
    with (
        FakeEndpoint(["ok"] * 5 + ["dead"], 0.02) as one,
        FakeEndpoint(seconds=0.02) as two,
        engine(one.url, two.url) as e,
    ):
        answers = e.chat([ask(str(k)) for k in range(100)])
        assert len(answers) == 100 and not e.counts["errors"]
        assert sum(word == "dead" for word, _ in one.seen) <= 16 + 4, (
            "those in flight, and a probe now and then"
        )


def test_a_bad_request_is_its_own_fault():
    with FakeEndpoint(["400"]) as server, engine(server.url) as e:
        with pytest.raises(EngineError, match="scripted 400") as caught:
            e.submit(ask("a")).result(20)
        assert not isinstance(caught.value, EngineDown) and e.alive()


def test_a_refused_key_or_unknown_model_stops_the_stage_with_the_fix():
    with FakeEndpoint(["401"]) as server, engine(server.url) as e:
        with pytest.raises(EngineDown, match="OPENAI_API_KEY"):
            e.submit(ask("a")).result(20)
        assert len(server.seen) == 1


def test_a_request_that_breaks_every_replica_ends():
    with FakeEndpoint(seconds=0.01) as server, engine(server.url, concurrency=2) as e:
        server.answer = lambda to, word, body, usual=server.answer: usual(
            to, "garbage" if "poison" in str(body) else word, body
        )
        poisoned, others = e.submit(ask("poison")), []
        for k in range(400):
            others.append(e.submit(ask(str(k))))
            if poisoned.done():
                break
            time.sleep(0.05)
        with pytest.raises(EngineError, match="while others were answered"):
            poisoned.result(30)
        assert all(f.result(30)[0].text.startswith("echo") for f in others)


def test_nobody_there_ends_after_the_patience_of_the_profile():
    began = time.monotonic()
    with (
        engine("http://127.0.0.1:9/v1", patience=0.03) as e,
        pytest.raises(EngineDown, match="nothing computed is lost"),
    ):
        e.submit(ask("a")).result(30)
    assert time.monotonic() - began < 15


def test_closing_does_not_wait_for_what_is_in_flight():
    with FakeEndpoint(seconds=5) as server:
        e = engine(server.url)
        waiting = e.submit(ask("a"))
        time.sleep(0.3)
        began = time.monotonic()
        e.close()
        assert time.monotonic() - began < 3
        with pytest.raises(EngineError):
            waiting.result(5)


@pytest.mark.parametrize(
    "text, said",
    [
        ("plain", "plain"),
        ("<think>a</think>\n\nb", "b"),
        ("a</think>b", "b"),
        ("<think>and so on", ""),
        ("\n<think>x</think>y <think> z", "y <think> z"),
        ("", ""),
    ],
)
def test_thoughts_are_not_the_answer(text, said):
    assert without_thoughts(text) == said


def test_thinking_models_over_the_wire():
    with (
        FakeEndpoint(["thinks", "thinks on"]) as server,
        engine(server.url, concurrency=1, extra={"reasoning_effort": "high"}) as e,
    ):
        assert e.submit(ask("a")).result(9)[0].text == "echo a"
        cut = e.submit(ask("b")).result(9)[0]
        assert (cut.text, cut.finish, cut.tokens) == ("", "length", 3), (
            "an empty answer of the model's own, not an error"
        )
        assert all(body["reasoning_effort"] == "high" for _, body in server.seen)
