"""OpenAI-compatible servers.

Whatever a server sends is checked. What is not an answer is its own failure, and ends neither the
other requests nor this process (tests/test_endpoint.py).
"""

import asyncio
import contextlib
import json
import os
import resource
from threading import Thread
from time import monotonic
from typing import Any

import httpx
from pydantic import BaseModel, Field

from kit.serving.engine import Completion, Engine, EngineDown, EngineError, RequestError

# So often a request may fail while other requests were answered.
FAULTS = 4
# Seconds until an answer must begin: a server with much to do is silent.
SILENCE = 1800
# No honest answer has more bytes.
LARGEST = 2**26


class _Message(BaseModel):
    content: str | None = None
    tool_calls: Any = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    completion_tokens: int = Field(0, ge=0, lt=2**24)


class _Answer(BaseModel):
    """What the kit reads of a server's answer."""

    choices: list[_Choice]
    usage: _Usage | None = None


class Replica:
    """One server of an Endpoint: what is in flight there, and until when it is left alone."""

    def __init__(self, url: str):
        self.url = url
        self.in_flight = 0
        # Since it last failed it rests at least so many seconds before it is asked again.
        self.pause = 0.0
        # When that was, and how long it rests, on the clock of `monotonic`.
        self.failed = 0.0
        self.rests_until = 0.0
        key = os.environ.get("OPENAI_API_KEY", "none")
        self.client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            # The time of a whole answer is limited instead, see `_post`.
            timeout=httpx.Timeout(None, connect=30),
            limits=httpx.Limits(max_connections=None),
        )

    def rest(self, sent: float, retry_after: str | None) -> None:
        """Leave it alone after it failed to answer what was sent then, for as long as it asks."""
        # The pause doubles with each failure; what was in flight together fails together.
        if sent > self.failed:
            self.pause = min(60, 2 * self.pause or 0.125)
        now = self.failed = monotonic()
        # The header may hold a date instead of seconds, or nothing, or what is no wait at all; of
        # nan and a number, `min` and `max` give their first.
        try:
            asked = float(retry_after or 0)
        except ValueError:
            asked = 0.0
        self.rests_until = max(self.rests_until, now + max(self.pause, min(asked, 300)))


class Endpoint(Engine):
    """One or several OpenAI-compatible servers (`vllm serve` replicas, a vendor's API).

    A request goes to the replica with the fewest in flight. If a replica fails to answer, it rests
    for a while and the request goes to another one. None of this counts as a wrong answer. An
    answer must begin within SILENCE seconds and then be sent within `role.patience` minutes. A
    request that has none after twice SILENCE, while others were answered, is lost.

    Args:
        role, log, name: as for Engine; `role.endpoints` holds the addresses.
    Raises:
        EngineError: the role names no endpoint.
    """

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        role = self.role
        if not role.endpoints:
            raise EngineError(
                f"{role.model} has engine: openai but no `endpoints`: name at least one, "
                "e.g. [http://localhost:8000/v1]"
            )
        self.replicas = [Replica(url) for url in role.endpoints]
        # A request in flight is an open file: as many as the system grants.
        with contextlib.suppress(OSError, ValueError):
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
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
        request = {"model": self.role.model, "messages": messages, "n": n}
        request |= sampling.model_dump() | extra
        return asyncio.run_coroutine_threadsafe(self._ask(request), self.loop)

    async def _ask(self, request):
        try:
            async with self.slots:
                # All of it is ASCII, so every text can be sent.
                return await self._until_answered(json.dumps(request), request["n"])
        except asyncio.CancelledError:
            raise EngineDown(f"{self.name}: closed before it answered") from None

    async def _until_answered(self, request, n):
        began = before = monotonic()
        tries = faults = 0
        while faults < FAULTS:
            replica = await self._awake(began, tries)
            sent = monotonic()
            if sent - began > 2 * SILENCE:
                break
            replica.in_flight += 1
            try:
                status, body, retry_after = await self._post(replica, request)
                if status < 300:
                    completions = _completions(body, n)
                    self._heard(replica, sent)
                    return completions
                self._judge(replica.url, status, body)
            # There was no answer, or it was cut off or too late, or it was garbage.
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RecursionError):
                status, retry_after = 0, None
            finally:
                replica.in_flight -= 1
            replica.rest(sent, retry_after)
            # If others were answered since its last try, it may be this request that breaks
            # replicas. To have too much to do is no such fault.
            faults += self.heard > before and status != 429
            before = sent
            tries += 1
        raise RequestError(
            f"{self.role.model} failed again and again to answer a request, "
            "while others were answered"
        )

    async def _post(self, replica, request):
        """Ask one replica once: status, body and the header Retry-After, however they come."""
        body = bytearray()
        async with (
            asyncio.timeout(SILENCE) as clock,
            replica.client.stream("POST", "/chat/completions", content=request) as answer,
        ):
            clock.reschedule(self.loop.time() + 60 * self.role.patience)
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > LARGEST:
                    raise ValueError("an endless answer")
        return answer.status_code, body.decode(errors="replace"), answer.headers.get("retry-after")

    def _heard(self, replica, sent):
        """Note that a replica has answered what was sent then."""
        self.heard = monotonic()
        # An answer to what was sent before it failed does not end its rest.
        replica.pause = min(replica.pause, 0.125)
        if sent > replica.failed:
            replica.pause = replica.rests_until = 0

    def _judge(self, url, status, body):
        """Raise if an error status says that no other try can help."""
        if status in (401, 403, 404):
            self.live = False
            raise EngineDown(
                f"{url} refuses {self.role.model} ({status}): check the address, the "
                f"model's name and OPENAI_API_KEY. {body[:200]}"
            )
        # This request's own fault, e.g. a prompt that is too long.
        if 400 <= status < 500 and status not in (408, 409, 429):
            raise RequestError(f"{url} ({status}): {body[:500]}")

    async def _awake(self, began, tries):
        """The replica for a request, as soon as one is not resting.

        Who has failed less often comes first, so a request that breaks replicas is not in the way.
        Raises EngineDown if none has answered anything for `patience` minutes, and all have failed.
        """
        while self.live:
            now = monotonic()
            silent = now - max(began, self.heard) > 60 * self.role.patience
            if silent and all(replica.failed > self.heard for replica in self.replicas):
                self.live = False
                break
            # The least busy one of those awake; if all rest, the one that wakes first.
            replica = min(self.replicas, key=lambda r: (max(now, r.rests_until), r.in_flight))
            if replica.rests_until <= now:
                # After a failure one request at a time finds out whether it answers again.
                replica.rests_until = now + replica.pause
                return replica
            await asyncio.sleep(min(1, replica.rests_until - now) + 0.01 * min(tries, 9))
        raise EngineDown(
            f"no endpoint of {self.role.model} has answered for {self.role.patience:g} minutes: "
            f"{', '.join(self.role.endpoints)}. "
            "Start them again and run the same command; nothing computed is lost"
        )

    def close(self) -> None:
        """End at once; what is in flight fails."""
        self.live = False
        if self.thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(10)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(10)
            self.loop.close()
        super().close()

    async def _end(self):
        in_flight = asyncio.all_tasks() - {asyncio.current_task()}
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)
        for replica in self.replicas:
            await replica.client.aclose()


def _completions(body, n):
    """The n completions in a server's answer. Raises ValueError or RecursionError."""
    answer = _Answer.model_validate(json.loads(body), strict=True)
    if len(answer.choices) != n:
        raise ValueError(f"{len(answer.choices)} answers for {n}")
    # A server counts the tokens of all n answers together.
    tokens = answer.usage.completion_tokens // n if answer.usage else 0
    return [
        Completion(
            choice.message.content or "",
            "tool_calls" if choice.message.tool_calls else choice.finish_reason or "stop",
            tokens,
        )
        for choice in answer.choices
    ]
