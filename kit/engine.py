"""One call for every model: `with engine(profile.teacher) as teacher: teacher.chat(conversations) -> completions`.

Three kinds stand behind it: vLLM in a child process of this machine (so that its memory is given back for certain), any
OpenAI-compatible endpoint, and the replay of a recording. Every completion is logged under a key made of the model, the
prompt, the sampling and the caller's own name for the request. A stage that is run again finds its completions there
before it asks a model: that is how runs resume, how recordings are made and how they are replayed.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import datasets
import httpx

from kit import records
from kit.profile import Role, Sampling

RETRIES, FAULTS = 2, 4  # of a request: tries more; failures while other requests were answered


class EngineError(RuntimeError):
    """The engine failed, not the model's answer: never to be counted as a wrong answer."""


class EngineDown(EngineError):
    """The engine is gone and will not answer anything more: the stage stops, and goes on when it is run again."""


class NotRecorded(EngineError):
    """A replay was asked for something its recording does not hold."""


@dataclass(frozen=True)
class Completion:
    """One answer of a model; `tokens` counts what it wrote."""

    text: str
    finish: str = "stop"  # stop | length (cut off at max_tokens) | content_filter
    tokens: int = 0


class Engine:
    """Base of the three kinds: keys, log, retries. Use `engine(role, ...)` to get one.

    What was asked before is known by its place in the log, so memory does not grow with what the answers hold."""

    live = True

    def __init__(self, role: Role, log: Path | None = None, name: str = ""):
        self.role, self.name = role, name or role.model
        self.log = records.Log(log) if log else None
        self.known: dict[str, int] = {}  # key -> place of its completions
        self.counts: Counter[str] = Counter()  # requests, reused, tokens, errors
        self._lock = threading.Lock()
        if self.log:
            self.known = {row["key"]: place for place, row in self.log.places()}

    def submit(
        self, messages: list[dict], n: int = 1, key: str = "", sampling: Sampling | None = None
    ) -> Future:
        """Ask for n completions of a conversation; the future gives list[Completion] or raises EngineError.

        A last message by the assistant is continued. `key` tells apart equal prompts that are meant as separate draws."""
        sampling = sampling or self.role.sampling
        key = records.digest(self.name, messages, n, sampling.model_dump(), key)
        done: Future = Future()
        if key in self.known:
            self.counts["reused"] += 1
            done.set_result([Completion(*c) for c in self._recall(self.known[key])])
            return done
        self._try(done, key, (messages, n, sampling), RETRIES)
        return done

    def chat(
        self,
        conversations: Iterable[list[dict]],
        n: int = 1,
        key: str = "",
        sampling: Sampling | None = None,
    ):
        """list of conversations -> list of list[Completion], in order."""
        futures = [self.submit(m, n, f"{key}/{i}", sampling) for i, m in enumerate(conversations)]
        return [f.result() for f in futures]

    def _recall(self, place: int) -> list:
        return self.log.at(place)["completions"]

    def _try(self, done: Future, key: str, request: tuple, left: int) -> None:
        def finish(sent: Future) -> None:
            error = sent.exception() or _refused(sent.result())
            if error is None:
                try:
                    self._keep(key, sent.result())
                    done.set_result(sent.result())
                except Exception as e:  # the log's disk is full: the caller must know
                    done.set_exception(e)
            elif left and not isinstance(error, NotRecorded) and self.alive():
                self._try(done, key, request, left - 1)
            else:
                self.counts["errors"] += 1
                done.set_exception(
                    error
                    if isinstance(error, EngineError)
                    else EngineError(f"{self.name}: {error}")
                )

        self._send(key, *request).add_done_callback(finish)

    def _keep(self, key: str, completions: list[Completion]) -> None:
        with self._lock:
            self.counts["requests"] += 1
            self.counts["tokens"] += sum(c.tokens for c in completions)
            if self.log:
                self.log.append(
                    {"key": key, "completions": [[c.text, c.finish, c.tokens] for c in completions]}
                )

    def _send(self, key: str, messages: list[dict], n: int, sampling: Sampling) -> Future:
        raise NotImplementedError

    def alive(self) -> bool:
        """Whether asking again can help: False once the engine is gone for good."""
        return True

    def prepare(self) -> None:
        """Begin to start, without waiting: several engines of one stage then load side by side."""

    def close(self) -> None:
        """Ends what the engine started; what it answered stays in the log."""
        if self.log:
            self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class VLLM(Engine):
    """vLLM in a child process; started at the first request that the log cannot answer. Roles that differ in how they ask only (sampling,
    effort) share one process, so the weights are loaded once."""

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

    def start(self) -> None:
        """Start the child and wait until the model is loaded. Raises EngineDown with the end of its log."""
        self.child.start()

    def prepare(self) -> None:
        def begin():
            with contextlib.suppress(EngineError):  # the first request will say it
                self.start()

        if self.child.process is None:
            threading.Thread(target=begin, daemon=True).start()

    def _send(self, key, messages, n, sampling) -> Future:
        return self.child.ask(
            {
                "messages": messages,
                "n": n,
                "template": self.role.extra.get("chat_template_kwargs", {}),
                **sampling.model_dump(),
            }
        )

    def alive(self) -> bool:
        return self.child.alive()

    def close(self) -> None:
        self.child.release()
        super().close()


class Child:
    """The process of one or several VLLM engines (`kit.vllm_child`)."""

    running: dict[tuple, "Child"] = {}

    def __init__(self, role: Role, seed: int, stderr: Path | None):
        self.role, self.seed, self.stderr = role, seed, stderr
        self.users = 0
        self.process: subprocess.Popen | None = None
        self.waiting: dict[int, Future] = {}
        self.ids = itertools.count()
        self._starting, self._lock = threading.Lock(), threading.Lock()

    @classmethod
    def shared(cls, role: Role, seed: int, stderr: Path | None) -> "Child":
        """The running child of such a role, else a new one."""
        alike = (role.model, role.context, role.concurrency, role.memory, seed)
        child = cls.running.get(alike)
        if child is None or not child.alive():
            child = cls.running[alike] = cls(role, seed, stderr)
        child.users += 1
        return child

    def start(self) -> None:
        """Start it, unless it runs, and wait until the model is loaded. Raises EngineDown with the end of its log."""
        with self._starting:
            if self.process is not None:
                return
            from kit import models

            config = {
                "model": str(models.path(self.role.model)),
                "context": self.role.context,
                "memory": self.role.memory,
                "concurrency": self.role.concurrency,
                "seed": self.seed,
            }
            env = {
                "OMP_WAIT_POLICY": "PASSIVE",
                "VLLM_LOGGING_LEVEL": "WARNING",
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                "VLLM_NO_USAGE_STATS": "1",
                "TOKENIZERS_PARALLELISM": "false",
                "HF_HUB_OFFLINE": "1",
                **os.environ,
            }
            env = {
                k: v for k, v in env.items() if not k.startswith("MALLOC_")
            }  # the trainer's (see runner): GB of memory here
            if self.stderr:
                self.stderr.parent.mkdir(parents=True, exist_ok=True)
            out = open(self.stderr, "ab") if self.stderr else subprocess.DEVNULL
            print(f"starting vLLM with {self.role.model} ...", flush=True)
            self.log_from = out.tell() if self.stderr else 0
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kit.vllm_child", json.dumps(config)],
                env=env,
                stderr=out,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            ready = self.process.stdout.readline()
            if not ready:
                raise EngineDown(self._died())
            threading.Thread(target=self._read, daemon=True).start()

    def ask(self, request: dict) -> Future:
        """The completions of one request, as the child process writes them."""
        self.start()
        sent: Future = Future()
        with self._lock:
            number = next(self.ids)
            self.waiting[number] = sent
            try:
                self.process.stdin.write(json.dumps({"id": number, **request}).encode() + b"\n")
                self.process.stdin.flush()
            except OSError:
                self.waiting.pop(number, None)
                sent.set_exception(EngineDown(self._died()))
        return sent

    def _read(self) -> None:
        for line in self.process.stdout:
            row = json.loads(line)
            sent = self.waiting.pop(row["id"])
            if "error" in row:
                sent.set_exception(EngineError(row["error"]))
            else:
                sent.set_result(
                    [
                        Completion(without_thoughts(text), *rest)
                        for text, *rest in row["completions"]
                    ]
                )
        for number in list(self.waiting):  # the child is gone: nobody waits for ever
            self.waiting.pop(number).set_exception(EngineDown(self._died()))

    def alive(self) -> bool:
        """Whether it can be asked: not started yet, or running."""
        return self.process is None or self.process.poll() is None

    def _died(self) -> str:
        code = self.process.wait(5)
        tail = (
            self.stderr.read_bytes()[self.log_from :].decode(errors="replace")[-1500:]
            if self.stderr
            else ""
        )
        return (
            f"the vLLM process for {self.role.model} ended (exit {code}). If it ran out of memory, lower `memory` or `concurrency` of this "
            f"role in the profile. Run the same command again to go on; nothing computed is lost.\n{tail}"
        )

    def release(self) -> None:
        """The last user ends it."""
        self.users -= 1
        if self.users == 0:
            type(self).running = {
                key: child for key, child in type(self).running.items() if child is not self
            }
            if self.process is not None and self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class Replica:
    """One server of an Endpoint: what is in flight there, and until when it is left alone after a failure."""

    def __init__(self, url: str):
        from openai import AsyncOpenAI

        self.url, self.in_flight, self.failures, self.rests_until = url, 0, 0, 0.0
        self.client = AsyncOpenAI(
            base_url=url,
            api_key=os.environ.get("OPENAI_API_KEY", "none"),
            timeout=1800,
            max_retries=0,
        )

    def rest(self, seconds: float | None = None) -> None:
        """Leave it alone: for so long as it asked, or longer after each failure in a row."""
        self.failures += 1
        self.rests_until = time.monotonic() + (
            min(60, 0.125 * 2**self.failures) if seconds is None else seconds
        )


class Endpoint(Engine):
    """One or several OpenAI-compatible servers (`vllm serve` replicas, a vendor's API). A request goes to the replica with the fewest in
    flight; what a replica fails to answer goes to another one, and the replica rests for a while. None of it is a wrong answer."""

    def __init__(self, role: Role, log: Path | None = None, name: str = "", **_):
        super().__init__(role, log, name)
        if not role.endpoints:
            raise EngineError(
                f"{role.model} has engine: openai but no `endpoints`: name at least one, e.g. [http://localhost:8000/v1]"
            )
        self.replicas = [Replica(url) for url in role.endpoints]
        self.slots = asyncio.Semaphore(role.concurrency)
        self.heard = time.monotonic()  # when a replica last answered
        self.down = False
        self.loop = (
            asyncio.new_event_loop()
        )  # all requests live in one thread; what is in flight can be cancelled
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def _send(self, key, messages, n, sampling) -> Future:
        return asyncio.run_coroutine_threadsafe(self._ask(messages, n, sampling), self.loop)

    async def _ask(self, messages, n, sampling) -> list[Completion]:
        try:
            async with self.slots:
                return await self._until_answered(messages, n, sampling)
        except asyncio.CancelledError:
            raise EngineDown(f"{self.name}: closed before it answered") from None

    async def _until_answered(self, messages, n, sampling) -> list[Completion]:
        import openai

        began, faults = time.monotonic(), 0
        while faults < FAULTS:
            replica, sent = await self._awake(began), time.monotonic()
            replica.in_flight += 1
            try:
                answer = await self._request(replica, messages, n, sampling)
                replica.failures, self.heard = 0, time.monotonic()
                return answer
            except openai.APIStatusError as e:
                if e.status_code == 429:
                    replica.rest(_seconds(e.response.headers.get("retry-after")))
                elif e.status_code in (401, 403, 404):
                    self.down = True
                    raise EngineDown(
                        f"{replica.url} refuses {self.role.model} ({e.status_code}): check the address, the model's name and "
                        f"OPENAI_API_KEY. {str(e)[:200]}"
                    ) from None
                elif e.status_code < 500 and e.status_code not in (408, 409):
                    raise EngineError(
                        f"{replica.url}: {str(e)[:500]}"
                    ) from None  # this request's own fault, e.g. a prompt too long
                else:
                    replica.rest()
            except (
                openai.OpenAIError,
                httpx.HTTPError,
                ValueError,
                AttributeError,
                TypeError,
            ):  # no answer, cut off, or garbage
                replica.rest()
            finally:
                replica.in_flight -= 1
            faults += (
                self.heard > sent
            )  # others were answered meanwhile, so this request may be what breaks replicas
        raise EngineError(
            f"{self.role.model} failed {FAULTS} times to answer a request, while others were answered"
        )

    async def _awake(self, began: float) -> Replica:
        """The replica for a request, as soon as one is not resting. Raises EngineDown if none has answered anything for `patience` minutes."""
        while not self.down:
            now = time.monotonic()
            if awake := [r for r in self.replicas if r.rests_until <= now]:
                return min(awake, key=lambda r: r.in_flight)
            self.down = now - max(began, self.heard) > 60 * self.role.patience
            await asyncio.sleep(min(1, min(r.rests_until for r in self.replicas) - now))
        raise EngineDown(
            f"no endpoint of {self.role.model} has answered for {self.role.patience:g} minutes: {', '.join(self.role.endpoints)}. "
            f"Start them again and run the same command; nothing computed is lost"
        )

    async def _request(self, replica: Replica, messages, n, sampling) -> list[Completion]:
        extra = dict(self.role.extra)
        if (
            messages[-1]["role"] == "assistant"
        ):  # vLLM's own fields; the answer continues the given beginning
            extra |= {"continue_final_message": True, "add_generation_prompt": False}
        answer = await replica.client.chat.completions.create(
            model=self.role.model,
            messages=messages,
            n=n,
            extra_body=extra,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
        )
        if len(answer.choices) != n:
            raise ValueError(f"{len(answer.choices)} answers for {n}")
        each = (answer.usage.completion_tokens // n) if answer.usage else 0
        return [
            Completion(without_thoughts(c.message.content or ""), c.finish_reason or "stop", each)
            for c in answer.choices
        ]

    def alive(self) -> bool:
        return not self.down

    def close(self) -> None:
        """What is in flight fails at once."""

        async def end():
            mine = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in mine:
                task.cancel()
            await asyncio.gather(*mine, return_exceptions=True)
            for replica in self.replicas:
                await replica.client.close()

        self.down = True
        if self.thread.is_alive():
            asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(10)
            self.loop.close()
        super().close()


def without_thoughts(text: str) -> str:
    """What a model says after it has thought: servers without a parser of reasoning leave `<think> ... </think>` in the text. Thoughts that
    were cut off leave nothing, which is a wrong answer of the model's own."""
    _, closed, answer = text.rpartition("</think>")
    return answer.lstrip("\n") if closed else "" if text.lstrip().startswith("<think>") else text


def _seconds(header: str | None) -> float | None:
    """Of a Retry-After header; it may hold a date instead, or nothing."""
    try:
        return min(float(header), 300)
    except (TypeError, ValueError):
        return None


class Replay(Engine):
    """Answers from a recording only. What it shows was made before, by the model it names.

    A program near the sandbox's time limit may end otherwise on another machine, and what follows from it was never recorded: a few such
    answers are lost, each an EngineError; many mean other seeds or another profile, and NotRecorded ends the run."""

    live = False

    def __init__(
        self,
        role: Role,
        log: Path | None = None,
        name: str = "",
        recording: Path | None = None,
        **_,
    ):
        super().__init__(role, None, name)
        self.rows = read_recording(recording)
        self.known = {key: place for place, key in enumerate(self.rows["key"])}

    def alive(self) -> bool:
        """False: asking again does not help."""
        return False

    def _recall(self, place):
        return json.loads(self.rows[place]["completions"])

    def _send(self, key, messages, n, sampling) -> Future:
        self.counts["absent"] += 1
        few = self.counts["absent"] <= 3 + self.counts["reused"] / 20  # our choice
        sent: Future = Future()
        sent.set_exception(
            EngineError("not in the recording: a program was slower here than there, or faster")
            if few
            else NotRecorded(
                "the recording has no answer to this prompt: a replay needs the recorded seeds and the "
                "recorded profile. Start from an empty RUN_DIR with the profile's own values, or use a live engine"
            )
        )
        return sent


def engine(
    role: Role,
    *,
    log: Path | None = None,
    name: str = "",
    seed: int = 0,
    stderr: Path | None = None,
    recording: Path | None = None,
) -> Engine:
    """The engine that `role.engine` names. `log` is the JSONL file of completions, `name` the model's name in its keys."""
    if role.engine == "replay":
        return Replay(role, name=name, recording=recording)
    if role.engine == "openai":
        return Endpoint(role, log, name)
    return VLLM(role, log, name, seed, stderr)


def _refused(completions: list[Completion]) -> EngineError | None:
    """An answer that is no answer: filtered, or of no token at all. A model that ends at once still gives one token, its end,
    and is wrong by its own doing."""
    if any(c.finish == "content_filter" or not (c.text or c.tokens) for c in completions):
        return EngineError("the engine gave an empty or filtered answer")
    return None


def read_recording(path: Path) -> datasets.Dataset:
    """Columns key and completions (JSON text), left on the disk. Raises EngineError."""
    if not path or not Path(path).exists():
        raise EngineError(f"no recording at {path}: check out data/recorded, or use engine: vllm")
    return datasets.Dataset.from_parquet(str(path))


def write_recording(logs: Iterable[Path], path: Path) -> int:
    """Gather completion logs into one parquet file; returns the number of requests in it."""
    rows = {
        row["key"]: {"key": row["key"], "completions": json.dumps(row["completions"])}
        for log in logs
        for row in records.Log(log)
    }
    records.write_parquet(rows.values(), path)
    return len(rows)
