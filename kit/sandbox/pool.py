"""The pool: programs in, results out, side by side, each in a worker of its own."""

import os
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from subprocess import PIPE, Popen

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
from kit.sandbox.worker import Job, Result, Worker, encode_job

# The two kinds of workers.
_AnyWorker = Worker | MontyWorker


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
        output_bytes: how much a program may report.
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
        # Of bad escapes in what models write.
        warnings.filterwarnings("ignore", message="invalid (escape|octal)", module="<unknown>")

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

        # The pool: threads that each do a job with one of the workers that wait for work. The lock
        # guards what follows it.
        self.counts: Counter = Counter()
        self._pid = os.getpid()
        self._threads = ThreadPoolExecutor(self._workers, "sandbox-dispatcher")
        self._lock = threading.Lock()
        self._live: set[_AnyWorker] = set()
        self._closed = False
        # One thread starts all processes and lives as long as they do: parent-death signals fire
        # when the *thread* that started a process ends.
        self._spawner = ThreadPoolExecutor(1, "sandbox-spawner")
        try:
            self.mode, first = self._choose(mode, allow_unsafe)
        except BaseException:
            self.close()
            raise
        # A thread takes one of these for a job, and starts a worker where it took None.
        self._free: list[_AnyWorker | None] = [*[None] * (self._workers - 1), first]

    def submit(self, job: Job) -> Future:
        """A future of a Result, whatever the program does.

        Raises ValueError if an argument is not a plain value, RuntimeError if the sandbox is
        closed.
        """
        if os.getpid() != self._pid:
            raise RuntimeError("this sandbox was made before a fork: make one in this process")
        return self._threads.submit(self._do, job, encode_job(job))

    def map(self, jobs: Iterable[Job]) -> list[Result]:
        """Run all jobs.

        Args:
            jobs: any number of them.
        Returns:
            All results, in the order of the jobs.
        Raises:
            ValueError: an argument of a call is not a plain value.
            RuntimeError: the sandbox is closed, or was made before a fork.
        Source: our choice.
        """
        return [future.result() for future in [self.submit(job) for job in jobs]]

    def close(self) -> None:
        """Stop all workers.

        Jobs that did not begin are cancelled; those that run become sandbox_error.
        """
        # A fork of this process must not kill its parent's workers.
        if os.getpid() != self._pid:
            return
        # No more work, and what the threads wait for dies.
        with self._lock:
            self._closed = True
            live = list(self._live)
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in live:
            worker.kill()
        self._threads.shutdown()
        for worker in live:
            self._retire(worker)
        self._spawner.shutdown()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _do(self, job: Job, frame: bytes) -> Result:
        """Replace a worker that dies, hangs or cannot seal its child, and try the job once more."""
        worker = self._free.pop()
        for pause in (0.2, 0):
            try:
                worker = worker or self._start(self.mode)
                result = worker.do(job, frame, self._patience * job.times + 10)
                break
            except Exception as fault:
                result = Result("sandbox_error", detail=repr(fault))
                if worker:
                    self._retire(worker)
                worker = None
                if self._closed:
                    break
                # The machine may be out of memory or processes for a moment.
                time.sleep(pause)
        self._free.append(worker)
        with self._lock:
            self.counts[result.status] += 1
        return result

    def _start(self, mode: str) -> _AnyWorker:
        """A new worker that is ready. Raises SandboxUnavailable or OSError."""
        worker: _AnyWorker
        if mode == "monty":
            worker = MontyWorker(self._config)
        else:
            command = bubblewrap_command(mode, self._config)
            process = self._spawner.submit(
                lambda: Popen(
                    command,
                    env=self._environment,
                    cwd="/",
                    start_new_session=True,
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=PIPE,
                )
            )
            worker = Worker(process.result())
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
