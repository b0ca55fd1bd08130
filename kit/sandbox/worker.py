"""One worker: a job in, a result out, over a pipe to a warm interpreter."""

import contextlib
import json
import os
import select
import signal
import time
from dataclasses import dataclass
from subprocess import Popen

from kit.sandbox import _boxed
from kit.sandbox.walls import SandboxUnavailable


@dataclass(frozen=True)
class Job:
    """One program and what to do with it.

    Args:
        code: the program.
        calls: (name of a function, tuple of arguments) each, made in order in one process.
            Arguments are plain values.
        seed: for random.seed in the child.
        each: the limits of time hold for each call instead of for all together.
    Source: our choice.
    """

    code: str
    calls: tuple = ()
    seed: int = 0
    each: bool = False

    @property
    def times(self) -> int:
        """How many times the limit of time this job may take in all."""
        return len(self.calls) + 1 if self.each else 1


@dataclass(frozen=True)
class Result:
    """What became of a job.

    The program is at fault: timeout, overflow (too much output), exit (early, or not 0), signal
    (crashed), load_error. There is no verdict, because the program may be right: sandbox_error (our
    failure), unsupported (mode "monty" does not have what the program uses).

    Args:
        status: ok, or one of the above.
        values: per call ("ok", value) or ("err", name of the exception's type); may be fewer.
        detail: more about the status, for people.
    Source: our choice.
    """

    status: str
    values: tuple = ()
    detail: str = ""

    @property
    def no_verdict(self) -> bool:
        """Whether this says nothing about the program."""
        return self.status in ("sandbox_error", "unsupported")

    def returned(self) -> list | None:
        """The plain values, one per call, if all went well; else None."""
        fine = self.status == "ok" and all(kind == "ok" for kind, _ in self.values)
        return [value for _, value in self.values] if fine else None


# ------------------------------------------------------------------------------------ one worker
class Worker:
    """A zygote (see _boxed.py) and the pipes to it.

    Raises OSError, EOFError or TimeoutError if it is dead or hangs.
    """

    def __init__(self, process: Popen):
        # The spawner makes pipes.
        assert process.stdin and process.stdout
        self.process = process
        self._in = process.stdin.fileno()
        self._out = process.stdout.fileno()
        os.set_blocking(self._in, False)

    def greet(self) -> bool:
        """Wait until the worker is ready. Returns whether it sees files of the host.

        Raises SandboxUnavailable.
        """
        try:
            return self._receive(time.monotonic() + 60)[2] == 1
        except (OSError, EOFError) as fault:
            self.kill()
            _, errors = self.process.communicate()
            said = errors[:2000].decode("utf-8", "replace").strip()
            raise SandboxUnavailable(f"the worker did not start: {said or repr(fault)}") from None

    def do(self, job: Job, frame: bytes, patience: float) -> Result:
        """Have a job done, in so many seconds at most."""
        deadline = time.monotonic() + patience
        view = memoryview(frame)
        while view:
            self._wait(self._in, select.POLLOUT, deadline)
            view = view[os.write(self._in, view) :]
        return _read_result(job, *self._receive(deadline))

    def _receive(self, deadline):
        size, ending, code = _boxed.RESULT_HEADER.unpack(
            self._read(_boxed.RESULT_HEADER.size, deadline)
        )
        return self._read(size, deadline), ending, code

    def _read(self, size, deadline):
        data = bytearray()
        while len(data) < size:
            self._wait(self._out, select.POLLIN, deadline)
            chunk = os.read(self._out, min(size - len(data), 1 << 20))
            if not chunk:
                raise EOFError("the worker is gone")
            data += chunk
        return bytes(data)

    @staticmethod
    def _wait(fd, event, deadline):
        # Not select: a trainer may have more than 1,024 descriptors.
        poll = select.poll()
        poll.register(fd, event)
        if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
            raise TimeoutError("the worker hangs")

    def kill(self) -> None:
        """From any thread. A box dies with its first process."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def release(self) -> None:
        """Stop it and close its pipes; only when no thread reads from it any more."""
        with self.process:
            self.kill()


def encode_job(job: Job) -> bytes:
    """The job on the wire."""
    calls = [[name, json.dumps([*map(_boxed.encode, args)])] for name, args in job.calls]
    order = {"code": job.code, "seed": job.seed, "calls": calls}
    data = json.dumps(order).encode()
    return _boxed.JOB_HEADER.pack(len(data), job.times) + data


def _read_result(job: Job, data: bytes, ending: int, code: int) -> Result:
    """What a child wrote -> Result. All of it may be forged by the program, which is then at fault.

    Raises OSError if the child died before it was sealed, or not by itself: it is tried again.
    """
    if ending == _boxed.LOST or data[:1] != _boxed.SEALED:
        raise OSError(f"the child was lost (ending {ending}, exit code {code})")
    status, detail = _status(ending, code)
    # One line per call, written as soon as the call ended.
    values = []
    for line in data.split(b"\n", len(job.calls) + 1)[:-1]:
        try:
            kind, value = _boxed.load(line)
            if kind != "ok":
                # The name of what was raised: a long list need not become a text.
                value = str.__getitem__(value, slice(80))
            if kind == "load":
                return Result("load_error", detail=value)
            values.append(("ok" if kind == "ok" else "err", value))
        except _boxed.TooBig as fault:
            return Result("overflow", tuple(values), detail=str(fault))
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError, MemoryError):
            return Result("exit", tuple(values), detail="malformed report")
    if status == "ok" and len(values) != len(job.calls):
        return Result("exit", tuple(values), detail="ended before the last call")
    return Result(status, tuple(values), detail=detail)


def _status(ending, code):
    """Status and detail of a program that ended like this."""
    if ending != _boxed.ENDED:
        return "timeout" if ending == _boxed.TIMEOUT else "overflow", ""
    # The zygote has already told the CPU limit from other signals.
    if code < 0:
        return "signal", signal.Signals(-code).name
    known = {0: ("ok", ""), _boxed.TOO_BIG: ("overflow", "the value is too big")}
    return known.get(code, ("exit", f"exit code {code}"))
