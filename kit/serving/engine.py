"""One call for every model: `with open_engine(run, role, ...) as teacher:
teacher.submit(messages)`.

There are five kinds of engine:

- vLLM in a child process of this machine, so that all its memory is given back when it ends;
- any OpenAI-compatible endpoint;
- transformers in this process, for small models;
- a program in the place of a teacher, for the miniature;
- the replay of a recording.

Every completion is logged under a key made of the model, the prompt, the sampling and the caller's
own name for the request. A stage that is run again finds its completions there before it asks a
model. That is how runs resume, how recordings are made, and how they are replayed.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from pydantic import BaseModel

from kit.core import records
from kit.core.config import Role, Sampling
from kit.core.types import clean, digest

# How many more times a failed request is tried.
RETRIES = 2
# So ends what is no answer of the model's own.
NO_ANSWER = {"content_filter", "tool_calls", "function_call", "abort", "error"}


class EngineError(RuntimeError):
    """The engine failed, not the model's answer: never to be counted as a wrong answer.

    Source: our choice.
    """


class EngineDown(EngineError):
    """The engine is gone and will not answer anything more.

    The stage stops, and goes on when it is run again.
    """


class RequestError(EngineError):
    """This one request gets no answer, however often it is sent; others do."""


class NotRecorded(EngineError):
    """A replay was asked for something that its recording does not hold."""


class Completion(NamedTuple):
    """One answer of a model."""

    text: str
    # stop | length (cut off at max_tokens) | one of NO_ANSWER
    finish: str = "stop"
    # How many tokens the model wrote.
    tokens: int = 0


class Answered(BaseModel):
    """A line of the log."""

    key: str
    completions: list[Completion]


def without_thoughts(text: str) -> str:
    """What a model says after it has thought.

    Servers without a parser of reasoning leave `<think> ... </think>` in the text. Thoughts that
    were cut off leave nothing, which is a wrong answer of the model's own.
    """
    return re.sub(r"(?s)^.*</think>\n*|^\s*<think>.*", "", text)


class Engine:
    """Base of all kinds: keys, log, retries. `serving.open_engine` gives one.

    It works in a `with` block, which closes it. A request that was answered before is known by its
    place in the log, so memory does not grow with the answers.

    Args:
        role: the model, and how it is asked.
        log: JSON lines file of completions; None: nothing is logged.
        name: the model's name in the keys of requests; empty: `role.model`.
    Source: our choice.
    """

    # Whether asking can help: False for a replay, and once the engine is gone for good.
    live = True

    def __init__(self, role: Role, log: Path | None = None, name: str = ""):
        self.role = role
        self.name = name or role.model
        # Without a log, what is written goes nowhere.
        self.log = records.Log(log or Path(os.devnull), Answered)
        # The key of each answered request, and the place of its completions in the log.
        self.known = {row["key"]: place for place, row in self.log.places()}
        # Counts requests, reused, tokens, errors.
        self.counts: Counter[str] = Counter()
        self._lock = Lock()

    def submit(
        self, messages: list[dict], n: int = 1, key: str = "", sampling: Sampling | None = None
    ) -> Future[list[Completion]]:
        """Ask for n completions of a conversation, without waiting for them.

        Args:
            messages: the conversation, each with `role` and `content`. A last message by the
                assistant is continued. Half an emoji is sent as U+FFFD.
            n: completions to draw.
            key: the caller's name for the request. It tells apart equal prompts that are meant as
                separate draws.
            sampling: how to draw; None: as the role says.
        Returns:
            A future of n completions. It raises EngineError if the engine fails.
        Source: our choice.
        """
        sampling = sampling or self.role.sampling
        messages = clean(messages)
        key = digest(self.name, messages, n, sampling.model_dump(), key)
        done: Future = Future()
        # What was answered before is not asked again.
        if key in self.known:
            self.counts["reused"] += 1
            done.set_result([Completion(*row) for row in self._recall(self.known[key])])
        else:
            self._try(done, key, (messages, n, sampling), RETRIES)
        return done

    def _recall(self, place):
        return self.log.at(place)["completions"]

    def _try(self, done: Future, key: str, request: tuple, left: int) -> None:
        """Send a request. `done` gets the answer, or the error after `left` more tries."""

        def finish(sent: Future) -> None:
            # One that was cancelled raises too.
            try:
                completions = [
                    c._replace(text=clean(without_thoughts(c.text))) for c in sent.result()
                ]
                # A filtered answer is none, and one without a token is none either: a model that
                # ends at once still gives its end.
                if any(c.finish in NO_ANSWER or not (c.text or c.tokens) for c in completions):
                    ends = ", ".join(c.finish for c in completions)
                    raise EngineError(f"the engine gave an empty or filtered answer ({ends})")
            except Exception as error:
                # A lost request is tried again, as long as that can help.
                if left and self.alive() and not isinstance(error, RequestError):
                    try:
                        self._try(done, key, request, left - 1)
                        return
                    except Exception as refused:
                        error = refused
                # Nobody waits any more.
                if done.cancelled():
                    return
                self.counts["errors"] += 1
                ours = isinstance(error, EngineError)
                done.set_exception(error if ours else EngineError(f"{self.name}: {error}"))
                return
            # If the log's disk is full, the caller must know.
            try:
                with self._lock:
                    self.counts.update(requests=1, tokens=sum(c.tokens for c in completions))
                    self.log.append({"key": key, "completions": completions})
                done.set_result(completions)
            except Exception as failure:
                done.set_exception(failure)

        self._send(key, *request).add_done_callback(finish)

    def _send(self, key: str, messages: list[dict], n: int, sampling: Sampling) -> Future:
        """Ask the model once; the future gives the completions or raises."""
        raise NotImplementedError

    def alive(self) -> bool:
        """Whether asking again can help: False for a replay, and once the engine is gone."""
        return self.live

    def together(self) -> AbstractContextManager:
        """What is asked in this context is answered in one batch, if the engine can say so."""
        return nullcontext()

    def prepare(self) -> None:
        """Begin to start, without waiting: several engines of one stage then load side by side."""

    def close(self) -> None:
        """End what the engine started; what it answered stays in the log."""
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def write_recording(logs: Iterable[Path], path: Path) -> None:
    """Gather completion logs into one parquet file, a row per request."""
    rows = {
        row["key"]: row | {"completions": json.dumps(row["completions"])}
        for log in logs
        for row in records.Log(log, Answered)
    }
    records.write_parquet(rows.values(), path)


class Replay(Engine):
    """Answers from a recording only. What it shows was made before, by the model that it names.

    A program near the sandbox's time limit may end differently on another machine, and the requests
    that follow from it were never recorded. A few such answers are lost, each an EngineError. Many
    mean other seeds or another profile: then NotRecorded ends the run.

    Args:
        role: the recorded model.
        recording: parquet file by `write_recording`.
        name: the model's name in the keys of requests; empty: `role.model`.
    Raises:
        EngineError: there is no recording.
    """

    live = False

    def __init__(self, role: Role, recording: Path, name: str = ""):
        super().__init__(role, name=name)
        if not recording.exists():
            raise EngineError(
                f"no recording at {recording}: check out data/recorded, or use engine: vllm"
            )
        # Columns `key` and `completions` (JSON text).
        self.rows = records.read_parquet(recording)
        self.known = {key: place for place, key in enumerate(self.rows["key"])}

    def _recall(self, place):
        return clean(json.loads(self.rows["completions"][place]))

    def _send(self, key, messages, n, sampling):
        self.counts["absent"] += 1
        error = EngineError(
            "not in the recording: a program was slower or faster here, or is refused today"
        )
        # How many lost answers are more than "a few" is our choice.
        if self.counts["absent"] > 3 + self.counts["reused"] / 20:
            error = NotRecorded(
                "the recording has no answer to this prompt: a replay needs the recorded seeds and "
                "the recorded profile. Start from an empty RUN_DIR with the profile's own values, "
                "or use a live engine"
            )
        sent: Future = Future()
        sent.set_exception(error)
        return sent
