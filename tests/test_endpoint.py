"""Endpoints that fail in every way a server can: no failure is an answer, no answer is lost."""

import gzip
import json
import time
from concurrent.futures import wait

import pytest

from kit.core.config import Role, Sampling
from kit.core.types import clean
from kit.serving import endpoint
from kit.serving.endpoint import Endpoint
from kit.serving.engine import EngineDown, EngineError, RequestError, without_thoughts
from tests.fakes.endpoint import FakeEndpoint, answered
from tests.patience import thrice


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
        answers = answered(e, [ask(str(k)) for k in range(60)])
        assert [a[0].text for a in answers] == [f"echo {k}" for k in range(60)] and not e.counts[
            "errors"
        ]
    with engine("http://127.0.0.1:9/v1", log=tmp_path / "log") as again:
        assert answered(again, [ask(str(k)) for k in range(60)]) == answers, (
            "a second run asks nobody"
        )


def test_requests_are_balanced_over_replicas():
    with (
        FakeEndpoint(seconds=0.05) as one,
        FakeEndpoint(seconds=0.05) as two,
        engine(one.url, two.url) as e,
    ):
        answered(e, [ask(str(k)) for k in range(48)])
        assert abs(len(one.seen) - len(two.seen)) <= 4 and one.busiest <= 9 and two.busiest <= 9


def test_a_replica_that_dies_in_mid_batch_is_left_alone():
    with (
        FakeEndpoint(["ok"] * 5 + ["dead"], 0.02) as one,
        FakeEndpoint(seconds=0.02) as two,
        engine(one.url, two.url) as e,
    ):
        answers = answered(e, [ask(str(k)) for k in range(100)])
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


@thrice
def test_nobody_there_ends_after_the_patience_of_the_profile():
    began = time.monotonic()
    with (
        engine("http://127.0.0.1:9/v1", patience=0.03) as e,
        pytest.raises(EngineDown, match="nothing computed is lost"),
    ):
        e.submit(ask("a")).result(30)
    assert time.monotonic() - began < 15


@thrice
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


def said(content="fine", **changes):
    """A server's answer with some parts changed; None takes a part away."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": content}}
    usage = {"completion_tokens": 3}
    found = {"choices": [choice | changes.pop("choice", {})], "usage": usage} | changes
    return {name: part for name, part in found.items() if part is not None}


DEEP = b"[" * 100_000 + b"]" * 100_000
# What a server may send as an answer with status 200.
ODD_ANSWERS = {
    "nothing": b"",
    "null": b"null",
    "a list": [],
    "a number": 3,
    "a text": b'"fine"',
    "nested deeply": DEEP,
    "content nested deeply": b'{"choices": [{"message": {"content": ' + DEEP + b"}}]}",
    "a number of 9999 digits": b"9" * 9999,
    "not a number": b'{"choices": NaN, "usage": Infinity}',
    "no utf-8": b'{"choices": [\xff\xfe]}',
    "packed with a wrong name": gzip.compress(json.dumps(said()).encode()),
    "no choices": said(choices=None),
    "choices are empty": said(choices=[]),
    "choices are a text": said(choices="fine"),
    "choices are an object": said(choices={"0": "fine"}),
    "a choice is a text": said(choices=["fine"]),
    "a choice is null": said(choices=[None]),
    "no message": said(choice={"message": None}),
    "message is a text": said(choice={"message": "fine"}),
    "message is a list": said(choice={"message": ["fine"]}),
    "content is a list": said([{"type": "text", "text": "fine"}]),
    "content is a number": said(3),
    "content is an object": said({"text": "fine"}),
    "content is true": said(True),
    "finish is a number": said(choice={"finish_reason": 5}),
    "finish is a list": said(choice={"finish_reason": ["stop"]}),
    "usage is a text": said(usage="3"),
    "usage is a list": said(usage=[3]),
    "tokens are a text": said(usage={"completion_tokens": "3"}),
    "tokens are negative": said(usage={"completion_tokens": -3}),
    "tokens are a fraction": said(usage={"completion_tokens": 0.5}),
    "tokens are too many": said(usage={"completion_tokens": 10**30}),
    "tokens are null": said(usage={"completion_tokens": None}),
    "an error": {"error": {"message": "overloaded", "code": 502}},
    "a stream": b'data: {"choices": []}\n\ndata: [DONE]\n\n',
}


@pytest.mark.parametrize("odd", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_an_odd_answer_is_the_servers_fault_and_the_next_one_counts(odd):
    with FakeEndpoint([odd, odd, "ok"]) as server, engine(server.url) as e:
        assert e.submit(ask("a")).result(30)[0] == ("echo a", "stop", 3)
        assert len(server.seen) == 3 and not e.counts["errors"]


@pytest.mark.parametrize("status", ["300", "301", "302", "304", "307", "308", "408", "418", "503"])
def test_any_other_status_is_no_answer(status):
    with FakeEndpoint([status, "ok"]) as server, engine(server.url) as e:
        if status == "418":
            with pytest.raises(RequestError, match="418"):
                e.submit(ask("a")).result(30)
            assert len(server.seen) == 1, "its own fault is not asked again"
        else:
            assert e.submit(ask("a")).result(30)[0].text == "echo a"
        assert e.alive()


def test_an_endless_answer_is_cut(monkeypatch):
    monkeypatch.setattr(endpoint, "LARGEST", 2**20)
    with FakeEndpoint(["endless", "ok"]) as server, engine(server.url) as e:
        assert e.submit(ask("a")).result(60)[0].text == "echo a"


@pytest.mark.parametrize(
    "odd",
    [
        said(None, choice={"finish_reason": "tool_calls"}),
        said(choice={"message": {"content": None, "tool_calls": [{"id": "x"}]}}),
        said(choice={"message": {"content": "", "tool_calls": "x"}}),
        said(choice={"finish_reason": "content_filter"}),
        said(choice={"finish_reason": "abort"}),
        said("", usage=None),
    ],
)
def test_what_is_no_answer_of_the_models_own_is_an_error_of_that_request(odd):
    with FakeEndpoint([odd]) as server, engine(server.url) as e:
        with pytest.raises(EngineError, match="empty or filtered") as caught:
            e.submit(ask("a")).result(30)
        assert not isinstance(caught.value, EngineDown) and e.alive() and len(server.seen) == 3


def test_an_answer_without_counts_is_one():
    with FakeEndpoint([said(usage=None), said(usage={})]) as server, engine(server.url) as e:
        assert [e.submit(ask(x)).result(30)[0] for x in "ab"] == [("fine", "stop", 0)] * 2


# ------------------------------------------------------------------ servers that let one wait

# Minutes: two seconds.
SHORT = 2 / 60


@pytest.fixture
def little_time(monkeypatch):
    """Servers have two seconds to begin an answer."""
    monkeypatch.setattr(endpoint, "SILENCE", 2)


@pytest.mark.parametrize(
    "header",
    ["0", "0.0", "-1", "-1e9", "nan", "-inf", "1e-9", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"],
)
def test_a_server_that_says_429_for_ever_is_asked_ever_more_rarely_and_then_given_up(header):
    with FakeEndpoint([f"429 {header}"]) as server, engine(server.url, patience=SHORT) as e:
        asked = [e.submit(ask(str(k))) for k in range(8)]
        assert not wait(asked, 60).not_done
        assert all(isinstance(one.exception(), EngineDown) for one in asked)
        # Eight at once, then one after 0.125, 0.25, 0.5, ... seconds.
        assert len(server.seen) <= 8 + 6


@pytest.mark.parametrize("header", ["inf", "1e999", "9" * 500, "86400"])
def test_no_server_makes_a_request_wait_longer_than_its_patience(header):
    with FakeEndpoint([f"429 {header}"]) as server, engine(server.url, patience=SHORT) as e:
        with pytest.raises(EngineDown):
            e.submit(ask("a")).result(60)
        assert len(server.seen) == 1


def test_a_server_that_asks_for_time_gets_it():
    with FakeEndpoint(["429 1", "ok"]) as server, engine(server.url) as e:
        began = time.monotonic()
        assert e.submit(ask("a")).result(30)[0].text == "echo a"
        assert time.monotonic() - began >= 1


@pytest.mark.parametrize("word", ["drip", "mute", "silent", "429 0", "500", "302"])
def test_a_server_that_never_answers_is_given_up_after_the_patience(word, little_time):
    with FakeEndpoint([word]) as server, engine(server.url, patience=SHORT) as e:
        asked = [e.submit(ask(str(k))) for k in range(4)]
        assert not wait(asked, 60).not_done
        assert all(isinstance(one.exception(), EngineDown) for one in asked) and not e.alive()


@pytest.mark.parametrize("word", ["drip", "mute", "silent", "429 0", "500", "302"])
def test_a_server_that_never_answers_does_not_hold_up_the_others(word, little_time):
    with (
        FakeEndpoint([word]) as one,
        FakeEndpoint(seconds=0.02) as two,
        engine(one.url, two.url, patience=SHORT, concurrency=4) as e,
    ):
        asked = [e.submit(ask(str(k))) for k in range(20)]
        assert [one.result(60)[0].text for one in asked] == [f"echo {k}" for k in range(20)]


@pytest.mark.parametrize("word", ["drip", "429 0", "500"])
def test_a_request_that_never_gets_an_answer_ends_while_others_do(word, little_time):
    """Also where only 429s come: such a replica has not answered."""
    with FakeEndpoint(seconds=0.01) as server, engine(server.url, patience=SHORT) as e:
        server.answer = lambda to, usual_word, body, usual=server.answer: usual(
            to, word if "poison" in str(body) else usual_word, body
        )
        poisoned, others = e.submit(ask("poison")), []
        until = time.monotonic() + 60
        while not poisoned.done() and time.monotonic() < until:
            others.append(e.submit(ask(str(len(others)))))
            time.sleep(0.1)
        assert isinstance(poisoned.exception(0), RequestError)
        assert all(f.result(30)[0].text.startswith("echo") for f in others)


def test_a_replica_that_failed_thousands_of_times_can_be_let_rest():
    one = endpoint.Replica("http://127.0.0.1:9/v1")
    for _ in range(5000):
        one.rest(time.monotonic(), "0")
        time.sleep(0.00001)
    assert 0 < one.rests_until - time.monotonic() <= 60


# ------------------------------------------------------------------ texts


@pytest.mark.parametrize("text", ["half \ud83d", "\udfff\ud800", "\0 \u2028 \u202e \x1b[2J 😀"])
def test_every_text_can_be_asked_and_answered(text, tmp_path):
    with FakeEndpoint() as server, engine(server.url, log=tmp_path / "log") as e:
        answer = e.submit(ask(text)).result(30)
        assert answer[0].text == f"echo {clean(text)}" and len(server.seen) == 1
        answer[0].text.encode()
    with engine("http://127.0.0.1:9/v1", log=tmp_path / "log") as again:
        assert again.submit(ask(text)).result(30) == answer, "found in the log"


@pytest.mark.parametrize("text", ["half \ud83d", "\udc00"])
def test_half_an_emoji_from_a_server_is_part_of_the_answer(text):
    odd = json.dumps(said(text), ensure_ascii=False).encode(errors="surrogatepass")
    for body in (said(text), odd):
        with FakeEndpoint([body]) as server, engine(server.url) as e:
            (answer,) = e.submit(ask("a")).result(30)
            assert "\ufffd" in answer.text and answer.text.encode() and len(server.seen) == 1


def test_a_request_that_cannot_be_written_is_its_own_error():
    role = {"extra": {}}
    with FakeEndpoint() as server, engine(server.url, **role) as e:
        e.role.extra["when"] = {1, 2}
        with pytest.raises(EngineError, match="not JSON serializable") as caught:
            e.submit(ask("a")).result(30)
        assert not isinstance(caught.value, EngineDown) and e.alive() and not server.seen
        e.role.extra.clear()
        assert e.submit(ask("a")).result(30)[0].text == "echo a"
