"""OpenAI-compatible servers."""

import asyncio
import os
from pathlib import Path
from threading import Thread
from time import monotonic

import httpx

from kit.core.config import Role
from kit.serving.engine import Completion, Engine, EngineDown, EngineError, without_thoughts

# So often a request may fail while other requests were answered.
FAULTS = 4


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
        # A Retry-After header may hold a date instead of seconds, or nothing.
        try:
            seconds = min(float(retry_after or ""), 300)
        except ValueError:
            seconds = min(60, 0.125 * 2**self.failures)
        self.rests_until = monotonic() + seconds


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

    async def _ask(self, request):
        try:
            async with self.slots:
                return await self._until_answered(request)
        except asyncio.CancelledError:
            raise EngineDown(f"{self.name}: closed before it answered") from None

    async def _until_answered(self, request):
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

    def _judge(self, replica, error):
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

    async def _awake(self, began):
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

    async def _answer(self, replica, request):
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

    async def _end(self):
        in_flight = asyncio.all_tasks() - {asyncio.current_task()}
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)
        for replica in self.replicas:
            await replica.client.close()
