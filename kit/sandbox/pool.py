"""The pool: programs in, results out, side by side, each in a worker of its own."""

import atexit
import functools
import math
import os
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from kit.sandbox import _boxed
from kit.sandbox.monty import MontyWorker
from kit.sandbox.walls import (
    ENVIRONMENT,
    FIX,
    FORBIDDEN,
    MODES,
    PRELOAD,
    PROBE,
    RIGHTS,
    SandboxUnavailable,
    bubblewrap_command,
    check_host,
    core_share,
    cores,
    package_folders,
)
from kit.sandbox.worker import Job, Result, Spawner, Worker, encode_job


@functools.cache
def hide_escape_warnings() -> None:
    """Of bad escapes in what models write. Once: other filters may be set after it."""
    warnings.filterwarnings("ignore", message="invalid (escape|octal)", module="<unknown>")


# The two kinds of workers.
_AnyWorker = Worker | MontyWorker


def _late(deadline):
    return Result("sandbox_error", detail=f"not done within the batch's {deadline:g} s")


class Sandbox:
    """A pool of workers that run programs. Every method may be called from any thread.

    `mode` is the mode in force; `counts` counts the results by their status.

    Args:
        workers: how many programs run at a time. Default: twice the cores, because sleepers and
            slow starters leave cores idle.
        timeout: CPU seconds of a program, all its calls together. The wall clock stops it only
            where it used less than a twentieth of a core for 3 x timeout + 1 s, so that a busy
            machine does not turn right answers into timeouts.
        memory_mb: address space of a program.
        output_bytes: how much a program may report or print.
        preload: modules that programs may import; others are not found. May name installed
            packages, such as numpy.
        hash_seed: PYTHONHASHSEED of the workers (order of sets of strings).
        mode: one of MODES. Default: the first that passes its self-test on this host.
        allow_unsafe: where none does, run programs with resource limits only (mode "unsafe").
    Raises:
        SandboxUnavailable: no mode works here; the message says why, and what to do.
        ValueError: there is no such mode, or a module of `preload` is not installed.
    Source: our choice.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        timeout: float = 1.0,
        memory_mb: int = 1024,
        output_bytes: int = 1 << 20,
        preload: Iterable[str] = PRELOAD,
        hash_seed: int = 0,
        mode: str | None = None,
        allow_unsafe: bool = False,
    ):
        hide_escape_warnings()

        # What a worker is told. Where cores are few, who waits for his turn is no sleeper.
        self._workers = workers or 2 * cores()
        names = list(preload)
        wall = 3 * timeout + 1
        self._config: dict = {
            "cpu": timeout,
            "wall": wall,
            "idle": min(_boxed.IDLE, core_share() / self._workers / 4),
            "memory": memory_mb << 20,
            "output": output_bytes,
            "preload": names,
            "paths": package_folders(names),
        }
        self._environment = dict(ENVIRONMENT, PYTHONHASHSEED=str(hash_seed))
        if "LD_LIBRARY_PATH" in os.environ:
            # Some Pythons find their own library by it.
            self._environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        # The longest time of a program that no limit stops before.
        self._patience = wall + timeout / self._config["idle"]

        # The pool. A dispatcher is a thread that owns a worker; the lock guards what follows it.
        self.counts: Counter = Counter()
        self._pid = os.getpid()
        self._queue: SimpleQueue = SimpleQueue()
        self._lock = threading.Lock()
        self._live: set[_AnyWorker] = set()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._closed = False
        self._first: _AnyWorker | None = None
        self._spawner = Spawner()
        try:
            self.mode, self._first = self._choose(mode, allow_unsafe)
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)

    def submit(self, job: Job) -> Future:
        """A future of a Result, whatever the program does.

        Raises ValueError if an argument is not a plain value, RuntimeError if the sandbox is
        closed.
        """
        if os.getpid() != self._pid:
            raise RuntimeError("this sandbox was made before a fork: make one in this process")
        frame = encode_job(job)
        future: Future = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the sandbox is closed")
            self._unfinished += 1
            self._queue.put((job, frame, future))
            # Dispatchers begin only when there is work for them.
            if len(self._threads) < min(self._unfinished, self._workers):
                thread = threading.Thread(
                    target=self._dispatch, name="sandbox-dispatcher", daemon=True
                )
                self._threads.append(thread)
                thread.start()
        return future

    def run(self, jobs: Iterable[Job], deadline: float = math.inf) -> Iterator[tuple[int, Result]]:
        """Stream (index, result) as jobs finish.

        `jobs` may be endless: only a few more than can run are taken. deadline: seconds for all of
        them. What has no result by then becomes sandbox_error, and no further job is taken.
        """
        end = time.monotonic() + deadline
        pending: dict[Future, int] = {}
        done: SimpleQueue = SimpleQueue()

        def results(limit):
            """All that is done. Waits until fewer than `limit` are pending, or for the deadline."""
            while not done.empty() or len(pending) >= limit:
                patience = None if deadline == math.inf else max(0, end - time.monotonic())
                try:
                    future = done.get(timeout=patience)
                except Empty:
                    return
                yield pending.pop(future), future.result()

        try:
            for index, job in enumerate(jobs):
                if time.monotonic() > end:
                    break
                future = self.submit(job)
                pending[future] = index
                future.add_done_callback(done.put)
                # Keep every worker busy, but look no further ahead.
                yield from results(4 * self._workers)
            yield from results(1)
            for index in pending.values():
                yield index, _late(deadline)
        finally:
            # A job that runs already is stopped by its own limits.
            for future in pending:
                future.cancel()

    def map(self, jobs: Iterable[Job], deadline: float = math.inf) -> list[Result]:
        """Run all jobs.

        Args:
            jobs: any number of them.
            deadline: seconds for all of them together.
        Returns:
            All results, in the order of the jobs; sandbox_error beyond the deadline.
        Raises:
            ValueError: an argument of a call is not a plain value.
            RuntimeError: the sandbox is closed, or was made before a fork.
        Source: our choice.
        """
        jobs = list(jobs)
        results = [_late(deadline)] * len(jobs)
        for index, result in self.run(jobs, deadline):
            results[index] = result
        return results

    def close(self) -> None:
        """Stop all workers.

        Jobs that did not begin are cancelled; those that run become sandbox_error.
        """
        # A fork of this process must not kill its parent's workers.
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._closed = True
            live = list(self._live)

        # End the dispatchers: no more work, and what they wait for dies.
        for _ in self._threads:
            self._queue.put(None)
        for worker in live:
            worker.kill()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(5)
        for worker in live:
            self._retire(worker)
        self._spawner.stop()
        atexit.unregister(self.close)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _dispatch(self):
        """The life of a dispatcher: take a job, have it done by the worker of this thread."""
        # The first dispatcher gets the worker of the self-test.
        with self._lock:
            worker, self._first = self._first, None
        while order := self._queue.get():
            job, frame, future = order
            result = None
            if self._closed:
                future.cancel()
            if future.set_running_or_notify_cancel():
                worker, result = self._attempt(worker, job, frame)
            with self._lock:
                self._unfinished -= 1
                if result:
                    self.counts[result.status] += 1
            if result:
                future.set_result(result)

    def _attempt(
        self, worker: _AnyWorker | None, job: Job, frame: bytes
    ) -> tuple[_AnyWorker | None, Result]:
        """Replace a worker that dies, hangs or cannot seal its child, and try the job once more."""
        for pause in (0.2, 0):
            try:
                worker = worker or self._start(self.mode)
                return worker, worker.do(job, frame, self._patience * job.times + 10)
            except Exception as fault:
                result = Result("sandbox_error", detail=repr(fault))
                if worker:
                    self._retire(worker)
                worker = None
                if self._closed:
                    break
                # The machine may be out of memory or processes for a moment.
                time.sleep(pause)
        return None, result

    def _start(self, mode: str) -> _AnyWorker:
        """A new worker that is ready. Raises SandboxUnavailable or OSError."""
        worker: _AnyWorker
        if mode == "monty":
            worker = MontyWorker(self._config)
        else:
            command = bubblewrap_command(mode, self._config)
            worker = Worker(self._spawner.popen(command, self._environment))
        with self._lock:
            self._live.add(worker)
        try:
            if self._closed:
                raise SandboxUnavailable("the sandbox is closed")
            if worker.greet() and mode in RIGHTS:
                raise SandboxUnavailable("files of the host are visible in the box")
        except BaseException:
            self._retire(worker)
            raise
        return worker

    def _retire(self, worker):
        worker.release()
        with self._lock:
            self._live.discard(worker)

    def _choose(self, wanted: str | None, allow_unsafe: bool) -> tuple[str, _AnyWorker]:
        """The first mode that passes, and its first worker."""
        if wanted not in (None, "unsafe", *MODES):
            raise ValueError(f"mode {wanted!r}: give one of {', '.join(MODES)}, or none")
        reasons = ["no isolation on this host"]
        for mode in MODES:
            if wanted in (None, mode):
                try:
                    return mode, self._self_test(mode)
                except (SandboxUnavailable, OSError, EOFError) as fault:
                    reasons.append(f"{mode}: {fault}")

        # Nothing isolates here: give up, unless the caller asked for less.
        if not allow_unsafe:
            raise SandboxUnavailable("; ".join(reasons) + ". " + FIX)
        if not hasattr(os, "fork"):
            raise SandboxUnavailable("this system cannot fork processes. " + FIX)
        warnings.warn(
            "RUNNING MODEL-WRITTEN PROGRAMS WITHOUT WALLS: they can read your files and use the "
            "network",
            stacklevel=3,
        )
        return "unsafe", self._start("unsafe")

    def _self_test(self, mode: str) -> _AnyWorker:
        """A worker, only if its walls hold on this very host: whatever is in doubt is refused."""
        if mode == "monty":
            # It has no system calls at all.
            return self._start(mode)
        check_host(mode)
        worker = self._start(mode)
        try:
            job = Job(PROBE, (("allowed", (FORBIDDEN,)),))
            result = worker.do(job, encode_job(job), 60)
            if result.returned() != [[]]:
                raise SandboxUnavailable(f"self-test failed: {result.returned() or result}")
        except BaseException:
            self._retire(worker)
            raise
        return worker


def modes() -> dict[str, str]:
    """Every mode that isolates -> "ok", or the reason why it does not work on this host."""
    found = {}
    for mode in MODES:
        try:
            Sandbox(mode=mode, workers=1).close()
            found[mode] = "ok"
        except SandboxUnavailable as fault:
            found[mode] = str(fault).removesuffix(". " + FIX).partition(f"{mode}: ")[2]
    return found
