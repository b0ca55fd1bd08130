"""One call for every model: `with engine(profile.teacher) as teacher: teacher.chat(conversations)`.

There are three kinds of engine:

- vLLM in a child process of this machine, so that all its memory is given back when it ends;
- any OpenAI-compatible endpoint;
- the replay of a recording.

Every completion is logged under a key made of the model, the prompt, the sampling and the caller's
own name for the request. A stage that is run again finds its completions there before it asks a
model. That is how runs resume, how recordings are made, and how they are replayed.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Lock, Thread
from time import monotonic
from typing import NamedTuple

import httpx
from datasets import Dataset

from kit import records
from kit.profile import Role, Sampling

# How many more times a failed request is tried.
RETRIES = 2


class EngineError(RuntimeError):
    """The engine failed, not the model's answer: never to be counted as a wrong answer."""


class EngineDown(EngineError):
    """The engine is gone and will not answer anything more.

    The stage stops, and goes on when it is run again.
    """


class NotRecorded(EngineError):
    """A replay was asked for something that its recording does not hold."""


class Completion(NamedTuple):
    """One answer of a model."""

    text: str
    # stop | length (cut off at max_tokens) | content_filter
    finish: str = "stop"
    # How many tokens the model wrote.
    tokens: int = 0


def without_thoughts(text: str) -> str:
    """What a model says after it has thought.

    Servers without a parser of reasoning leave `<think> ... </think>` in the text. Thoughts that
    were cut off leave nothing, which is a wrong answer of the model's own.
    """
    return re.sub(r"(?s)^.*</think>\n*|^\s*<think>.*", "", text)


class Engine:
    """Base of the three kinds: keys, log, retries. Use `engine(role, ...)` to get one.

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
        self.log = records.Log(log or Path(os.devnull))
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
                assistant is continued.
            n: completions to draw.
            key: the caller's name for the request. It tells apart equal prompts that are meant as
                separate draws.
            sampling: how to draw; None: as the role says.
        Returns:
            A future of n completions. It raises EngineError if the engine fails.
        Source: our choice.
        """
        sampling = sampling or self.role.sampling
        key = records.digest(self.name, messages, n, sampling.model_dump(), key)
        done: Future = Future()
        # What was answered before is not asked again.
        if key in self.known:
            self.counts["reused"] += 1
            done.set_result([Completion(*row) for row in self._recall(self.known[key])])
        else:
            self._try(done, key, (messages, n, sampling), RETRIES)
        return done

    def chat(
        self,
        conversations: Iterable[list[dict]],
        n: int = 1,
        key: str = "",
        sampling: Sampling | None = None,
    ) -> list[list[Completion]]:
        """Ask for n completions of each conversation, and wait for all of them.

        Args:
            conversations: see `messages` of `submit`.
            n: completions per conversation.
            key: the caller's name for the whole list; each conversation adds its number.
            sampling: how to draw; None: as the role says.
        Returns:
            One list of n completions per conversation, in order.
        Raises:
            EngineError: the engine failed.
        Source: our choice.
        """
        futures = [
            self.submit(messages, n, f"{key}/{number}", sampling)
            for number, messages in enumerate(conversations)
        ]
        return [future.result() for future in futures]

    def _recall(self, place: int) -> list:
        return self.log.at(place)["completions"]

    def _try(self, done: Future, key: str, request: tuple, left: int) -> None:
        """Send a request. `done` gets the answer, or the error after `left` more tries."""

        def finish(sent: Future) -> None:
            error = sent.exception()
            completions = [] if error else sent.result()
            # A filtered answer is none, and one without a token is none either: a model that ends
            # at once still gives its end.
            if any(c.finish == "content_filter" or not (c.text or c.tokens) for c in completions):
                error = EngineError("the engine gave an empty or filtered answer")
            if error is None:
                # If the log's disk is full, the caller must know.
                try:
                    with self._lock:
                        self.counts.update(requests=1, tokens=sum(c.tokens for c in completions))
                        self.log.append({"key": key, "completions": completions})
                    done.set_result(completions)
                except Exception as failure:
                    done.set_exception(failure)
            # A lost request is tried again, as long as that can help.
            elif left and self.alive():
                self._try(done, key, request, left - 1)
            else:
                self.counts["errors"] += 1
                if not isinstance(error, EngineError):
                    error = EngineError(f"{self.name}: {error}")
                done.set_exception(error)

        self._send(key, *request).add_done_callback(finish)

    def _send(self, key: str, messages: list[dict], n: int, sampling: Sampling) -> Future:
        """Ask the model once; the future gives the completions or raises."""
        raise NotImplementedError

    def alive(self) -> bool:
        """Whether asking again can help: False for a replay, and once the engine is gone."""
        return self.live

    def prepare(self) -> None:
        """Begin to start, without waiting: several engines of one stage then load side by side."""

    def close(self) -> None:
        """End what the engine started; what it answered stays in the log."""
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def read_recording(path: Path | None) -> Dataset:
    """Columns `key` and `completions` (JSON text), left on the disk.

    Raises EngineError if there is no recording.
    """
    if not path or not path.exists():
        raise EngineError(f"no recording at {path}: check out data/recorded, or use engine: vllm")
    return Dataset.from_parquet(str(path))


def write_recording(logs: Iterable[Path], path: Path) -> int:
    """Gather completion logs into one parquet file; returns the number of requests in it."""
    rows = {
        row["key"]: row | {"completions": json.dumps(row["completions"])}
        for log in logs
        for row in records.Log(log)
    }
    records.write_parquet(rows.values(), path)
    return len(rows)


class Replay(Engine):
    """Answers from a recording only. What it shows was made before, by the model that it names.

    A program near the sandbox's time limit may end differently on another machine, and the requests
    that follow from it were never recorded. A few such answers are lost, each an EngineError. Many
    mean other seeds or another profile: then NotRecorded ends the run.

    Args:
        role: the recorded model.
        name: the model's name in the keys of requests; empty: `role.model`.
        recording: parquet file by `write_recording`.
    """

    live = False

    def __init__(self, role: Role, name: str = "", recording: Path | None = None):
        super().__init__(role, name=name)
        self.rows = read_recording(recording)
        self.known = {key: place for place, key in enumerate(self.rows["key"])}

    def _recall(self, place):
        return json.loads(self.rows[place]["completions"])

    def _send(self, key, messages, n, sampling):
        self.counts["absent"] += 1
        error = EngineError("not in the recording: a program was slower here than there, or faster")
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


# vLLM's process gets these, unless the user has set them otherwise.
_CHILD_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}


class Child:
    """The process of one or several VLLM engines (`kit.vllm_child`).

    Args:
        config: for `kit.vllm_child.main`, with the name of the model instead of its folder.
        stderr: file for what vLLM says; None: that is dropped.
    """

    # All children, by their config as JSON.
    running: dict[str, "Child"] = {}

    def __init__(self, config: dict, stderr: Path | None):
        self.config = config
        self.stderr = stderr or Path(os.devnull)
        # Where this process begins in that file.
        self.log_from = 0
        # How many engines use it.
        self.users = 0
        self.process: Popen[str] | None = None
        # Requests that are sent and not answered, by number.
        self.waiting: dict[int, Future] = {}
        # The number of the last request.
        self.last = 0
        self._lock = Lock()

    @classmethod
    def shared(cls, role: Role, seed: int, stderr: Path | None) -> "Child":
        """The running child of such a role, else a new one."""
        config = role.model_dump(include={"model", "context", "concurrency", "memory"})
        config["seed"] = seed
        alike = json.dumps(config)
        child = cls.running.get(alike)
        if not (child and child.alive()):
            child = cls.running[alike] = cls(config, stderr)
        child.users += 1
        return child

    def start(self) -> None:
        """Start the process, unless it runs, and wait until the model is loaded.

        Raises EngineDown with the end of its log.
        """
        with self._lock:
            if self.process:
                return
            from kit import models

            name = self.config["model"]
            config = {**self.config, "model": str(models.path(name))}
            # The trainer's settings of malloc (see runner) would cost GB of memory here.
            inherited = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
            print(f"starting vLLM with {name} ...", flush=True)
            self.stderr.parent.mkdir(parents=True, exist_ok=True)
            with self.stderr.open("ab") as log:
                self.log_from = log.tell()
                self.process = Popen(
                    [sys.executable, "-m", "kit.vllm_child", json.dumps(config)],
                    env=_CHILD_ENVIRONMENT | inherited,
                    stderr=log,
                    stdin=PIPE,
                    stdout=PIPE,
                    text=True,
                    start_new_session=True,
                )
            # The first line says that the model is loaded.
            assert self.process.stdout
            if not self.process.stdout.readline():
                raise EngineDown(self._died())
            Thread(target=self._read, daemon=True).start()

    def ask(self, request: dict) -> Future:
        """The completions of one request, as the child process writes them."""
        self.start()
        assert self.process
        sent: Future = Future()
        with self._lock:
            number = self.last = self.last + 1
            self.waiting[number] = sent
            try:
                print(json.dumps({"id": number, **request}), file=self.process.stdin, flush=True)
            except OSError:
                self.waiting.pop(number, None)
                sent.set_exception(EngineDown(self._died()))
        return sent

    def _read(self) -> None:
        """Hand each answer to the future that waits for it, until the process ends."""
        assert self.process and self.process.stdout
        for line in self.process.stdout:
            row = json.loads(line)
            sent = self.waiting.pop(row["id"])
            if "error" in row:
                sent.set_exception(EngineError(row["error"]))
                continue
            sent.set_result(
                [Completion(without_thoughts(text), *rest) for text, *rest in row["completions"]]
            )
        # The process is gone: nobody waits for ever.
        for number in list(self.waiting):
            self.waiting.pop(number).set_exception(EngineDown(self._died()))

    def alive(self) -> bool:
        """Whether it can be asked: in use, and not started yet or running."""
        return self.users > 0 and (self.process is None or self.process.poll() is None)

    def _died(self) -> str:
        assert self.process
        said = self.stderr.read_bytes()[self.log_from :].decode(errors="replace")
        return (
            f"the vLLM process for {self.config['model']} ended (exit {self.process.wait(5)}). "
            "If it ran out of memory, lower `memory` or `concurrency` of this role in the profile. "
            f"Run the same command again to go on; nothing computed is lost.\n{said[-1500:]}"
        )

    def release(self) -> None:
        """One engine needs it no more; the last one ends the process."""
        self.users -= 1
        if not self.users and self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class VLLM(Engine):
    """vLLM in a child process, which starts at the first request that the log cannot answer.

    Roles that differ only in how they ask (sampling, effort) share one process, so the weights are
    loaded once.

    Args:
        role, log, name: as for Engine.
        seed: of everything that is drawn.
        stderr: file for what vLLM says; None: that is dropped.
    """

    def __init__(
        self,
        role: Role,
        log: Path | None = None,
        name: str = "",
        seed: int = 0,
        stderr: Path | None = None,
    ):
        super().__init__(role, log, name)
        self.child = Child.shared(role, seed, stderr)

    def prepare(self) -> None:
        """Begin to load the model, without waiting."""

        def begin():
            # The first request will raise it again.
            with contextlib.suppress(EngineError):
                self.child.start()

        if not self.child.process:
            Thread(target=begin, daemon=True).start()

    def _send(self, key, messages, n, sampling):
        return self.child.ask(
            {
                "messages": messages,
                "n": n,
                "template": self.role.extra.get("chat_template_kwargs", {}),
                "sampling": sampling.model_dump(),
            }
        )

    def alive(self) -> bool:
        """Whether the child can be asked."""
        return self.child.alive()

    def close(self) -> None:
        """Leave the child; the last engine that uses it ends it."""
        self.child.release()
        super().close()


# So often a request may fail while other requests were answered.
FAULTS = 4


def _seconds(header: str | None, otherwise: float) -> float:
    """Of a Retry-After header; it may hold a date instead, or nothing."""
    try:
        return min(float(header or ""), 300)
    except ValueError:
        return otherwise


class Replica:
    """One server of an Endpoint: what is in flight there, and until when it is left alone."""

    def __init__(self, url: str):
        from openai import AsyncOpenAI

        self.url = url
        self.in_flight = 0
        # Failures in a row.
        self.failures = 0
        # On the clock of `monotonic`.
        self.rests_until = 0.0
        key = os.environ.get("OPENAI_API_KEY", "none")
        self.client = AsyncOpenAI(base_url=url, api_key=key, timeout=1800, max_retries=0)

    def rest(self, retry_after: str | None = None) -> None:
        """Leave it alone for as long as it asked, or longer after each failure in a row."""
        self.failures += 1
        usual = min(60, 0.125 * 2**self.failures)
        self.rests_until = monotonic() + _seconds(retry_after, usual)


class Endpoint(Engine):
    """One or several OpenAI-compatible servers (`vllm serve` replicas, a vendor's API).

    A request goes to the replica with the fewest in flight. If a replica fails to answer, it rests
    for a while and the request goes to another one. None of this counts as a wrong answer.

    Args:
        role, log, name: as for Engine; `role.endpoints` holds the addresses.
    Raises:
        EngineError: the role names no endpoint.
    """

    def __init__(self, role: Role, log: Path | None = None, name: str = ""):
        super().__init__(role, log, name)
        if not role.endpoints:
            raise EngineError(
                f"{role.model} has engine: openai but no `endpoints`: name at least one, "
                "e.g. [http://localhost:8000/v1]"
            )
        self.replicas = [Replica(url) for url in role.endpoints]
        self.slots = asyncio.Semaphore(role.concurrency)
        # When a replica last answered.
        self.heard = monotonic()
        # All requests live in one thread, so what is in flight can be cancelled.
        self.loop = asyncio.new_event_loop()
        self.thread = Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def _send(self, key, messages, n, sampling):
        extra = dict(self.role.extra)
        # vLLM's own fields: the answer continues the given beginning.
        if messages[-1]["role"] == "assistant":
            extra |= {"continue_final_message": True, "add_generation_prompt": False}
        request = {"messages": messages, "n": n, "extra_body": extra, **sampling.model_dump()}
        return asyncio.run_coroutine_threadsafe(self._ask(request), self.loop)

    async def _ask(self, request: dict) -> list[Completion]:
        try:
            async with self.slots:
                return await self._until_answered(request)
        except asyncio.CancelledError:
            raise EngineDown(f"{self.name}: closed before it answered") from None

    async def _until_answered(self, request: dict) -> list[Completion]:
        import openai

        began = monotonic()
        faults = 0
        while faults < FAULTS:
            replica = await self._awake(began)
            sent = monotonic()
            try:
                return await self._answer(replica, request)
            except openai.APIStatusError as error:
                self._judge(replica, error)
            # There was no answer, or it was cut off, or it was garbage.
            except (openai.OpenAIError, httpx.HTTPError, ValueError, AttributeError, TypeError):
                replica.rest()
            # Others were answered meanwhile, so this request may be what breaks replicas.
            faults += self.heard > sent
        raise EngineError(
            f"{self.role.model} failed {FAULTS} times to answer a request, "
            "while others were answered"
        )

    def _judge(self, replica: Replica, error) -> None:
        """Let a replica rest that answered with an error status; raise if no other try can help."""
        status = error.status_code
        if status in (401, 403, 404):
            self.live = False
            raise EngineDown(
                f"{replica.url} refuses {self.role.model} ({status}): check the address, the "
                f"model's name and OPENAI_API_KEY. {str(error)[:200]}"
            ) from None
        # This request's own fault, e.g. a prompt that is too long.
        if status < 500 and status not in (408, 409, 429):
            raise EngineError(f"{replica.url}: {str(error)[:500]}") from None
        # A replica that has too much to do may say for how long.
        headers = error.response.headers if status == 429 else {}
        replica.rest(headers.get("retry-after"))

    async def _awake(self, began: float) -> Replica:
        """The replica for a request, as soon as one is not resting.

        Raises EngineDown if none has answered anything for `patience` minutes.
        """
        while self.live:
            now = monotonic()
            # The least busy one of those awake; if all rest, the one that wakes first.
            replica = min(self.replicas, key=lambda r: (max(now, r.rests_until), r.in_flight))
            if replica.rests_until <= now:
                return replica
            self.live = now - max(began, self.heard) <= 60 * self.role.patience
            await asyncio.sleep(min(1, replica.rests_until - now))
        raise EngineDown(
            f"no endpoint of {self.role.model} has answered for {self.role.patience:g} minutes: "
            f"{', '.join(self.role.endpoints)}. "
            "Start them again and run the same command; nothing computed is lost"
        )

    async def _answer(self, replica: Replica, request: dict) -> list[Completion]:
        """Ask one replica once."""
        replica.in_flight += 1
        try:
            answer = await replica.client.chat.completions.create(model=self.role.model, **request)
        finally:
            replica.in_flight -= 1
        n = request["n"]
        if len(answer.choices) != n:
            raise ValueError(f"{len(answer.choices)} answers for {n}")
        # A server counts the tokens of all n answers together.
        tokens = answer.usage.completion_tokens // n if answer.usage else 0
        completions = [
            Completion(without_thoughts(c.message.content or ""), c.finish_reason or "stop", tokens)
            for c in answer.choices
        ]
        replica.failures = 0
        self.heard = monotonic()
        return completions

    def close(self) -> None:
        """End at once; what is in flight fails."""
        self.live = False
        if self.thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(10)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(10)
            self.loop.close()
        super().close()

    async def _end(self) -> None:
        in_flight = asyncio.all_tasks() - {asyncio.current_task()}
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)
        for replica in self.replicas:
            await replica.client.close()


def engine(
    role: Role,
    *,
    log: Path | None = None,
    name: str = "",
    seed: int = 0,
    stderr: Path | None = None,
    recording: Path | None = None,
) -> Engine:
    """The engine that `role.engine` names: vLLM here, an endpoint, or a replay.

    Args:
        role: the model, and how it is asked.
        log: JSON lines file of completions; a replay writes none.
        name: the model's name in the keys of requests; empty: `role.model`.
        seed: of everything that vLLM draws.
        stderr: file for what vLLM says.
        recording: parquet file that a replay answers from.
    Returns:
        An engine to use in a `with` block; nothing is loaded before the first request.
    Raises:
        EngineError: a replay has no recording, or the role names no endpoint.
    Source: our choice.
    """
    if role.engine == "replay":
        return Replay(role, name, recording)
    if role.engine == "openai":
        return Endpoint(role, log, name)
    return VLLM(role, log, name, seed, stderr)
