"""The half of the sandbox that runs inside the box: a warm interpreter, one fork per program.

The sandbox mounts this one file into the box and runs it as a script, so it needs nothing but the
standard library. The warm interpreter is called the zygote. A child reads its own job, gives up its
rights, runs the program, and writes values, never verdicts, to the only pipe that it owns. The
zygote never holds a program: it only forks, keeps the time, and passes the bytes on.
"""

import ctypes
import errno
import gc
import itertools
import json
import os
import random
import re
import select
import signal
import struct
import sys
import time
from collections import Counter

# On Windows this file is only imported for its wire format.
if sys.platform != "win32":
    import resource

# How a program ended, as the zygote saw it.
# LOST: without a verdict, because it could not start, or something outside killed or stopped it.
ENDED, TIMEOUT, OVERFLOW, LOST = range(4)
# Of a result: bytes that follow, how the program ended, exit code (negative: signal).
RESULT_HEADER = struct.Struct("<IBi")
# Of a job: bytes that follow, how many times the limits of time apply.
JOB_HEADER = struct.Struct("<II")
NEWLINE = 10
# First byte of a child: its limits and its filter are in force, and the program writes the rest.
# JSON does not mind it.
SEALED = b" "
# Exit code of a child. A program gains nothing by forging it: it says that it is at fault.
TOO_BIG = 121
# Share of a core. A program that uses less until the wall clock runs out sleeps. One that uses more
# may only be starved by other processes. The host asks for less where cores are scarce.
IDLE = 0.05
# What the zygote runs once itself.
WARM = "def f(x):\n    return [str(k) for k in x]"
# Threads that a program may have at a time.
THREADS = 256
# A sealed program cannot send signals. Those by which it may end nevertheless:
OWN_SIGNALS = "SEGV ABRT BUS FPE ILL TRAP SYS PIPE XCPU XFSZ".split()

# ---------------------------------------------------------------------------- values on the wire
MAX_DEPTH = 60
MAX_BITS = 1 << 20
MAX_BYTES = 1 << 24
# What one report may hold. The worst takes the host some 40 ms and 30 MB within the default limit
# of output, 80 ms with these 4 MB (tests/attack/test_linear_time.py). Bytes:
MAX_REPORT = 4 << 20
# Values, containers and floats threefold: a list of 200,000 integers travels.
MAX_NODES = 250_000
# Keys of a set or dict, and how many of them may have one hash.
MAX_KEYS = 1 << 16
SHARED = 16
# Decimal digits of a number: of ours, the longer ones are sent in hex.
MAX_DIGITS = 400


class Unencodable(ValueError):
    """The value is not made of plain builtins, is too deep, or has too large an integer."""


class TooBig(ValueError):
    """The value takes more bytes than may be sent."""


_WALKED: tuple = ((list, ""), (tuple, "t"), (set, "s"), (frozenset, "z"))


def encode(value, max_bytes: int = MAX_BYTES):
    """Turn a plain builtin value into a tagged value for JSON. Subclasses become their base.

    Only methods of the base classes are called: a program's own __iter__ or __repr__ never runs.
    max_bytes: of JSON, counted from below: a value too big is refused before it costs much.
    Raises Unencodable or TooBig (both ValueError).
    """
    left = max_bytes

    def spend(size):  # a = [a, a], fifty times over, is small in memory and endless on the wire
        nonlocal left
        left -= size
        if left < 0:
            raise TooBig

    def walk(part, depth):
        spend(2)  # itself and a comma
        if depth > MAX_DEPTH:
            raise Unencodable("nested too deeply")
        kind, depth = type(part), depth + 1
        if part is None or kind is bool:
            return part
        if isinstance(part, int):
            bits = int.bit_length(part)
            if bits > MAX_BITS:
                raise Unencodable("integer too large")
            spend(bits // 4)
            return int.__index__(part) if bits < 1000 else {"i": int.__format__(part, "x")}
        if isinstance(part, str):
            spend(str.__len__(part))
            return str.__getitem__(part, slice(None))
        if isinstance(part, float):
            part = float.__float__(part)
            return part if part - part == 0 else {"f": float.__repr__(part)}
        # Containers. A dict keeps its order: whoever prints the value needs it.
        for base, tag in _WALKED:
            if isinstance(part, base):
                items = [walk(item, depth) for item in base.__iter__(part)]
                return {tag: items} if tag else items
        if isinstance(part, dict):
            return {"d": [[walk(key, depth), walk(item, depth)] for key, item in dict.items(part)]}
        if isinstance(part, bytes):
            spend(2 * bytes.__len__(part))
            return {"b": bytes.hex(part)}
        if isinstance(part, bytearray):
            spend(2 * bytearray.__len__(part))
            return {"a": bytearray.hex(part)}
        if kind is complex:
            return {"c": [walk(part.real, depth), walk(part.imag, depth)]}
        raise Unencodable("not a plain value")

    try:
        return walk(value, 0)
    except TypeError:  # it only looked like a builtin, by its __class__
        raise Unencodable("not a plain value") from None


# Tag -> what makes the value, from a text or from a list of values.
_TAGS: dict = {
    "i": lambda digits: int(digits, 16),
    "f": float,
    "b": bytes.fromhex,
    "a": bytearray.fromhex,
    "t": tuple,
    "c": lambda pair: complex(*pair),
    "d": dict,
    "s": set,
    "z": frozenset,
}


def _tagged(node):
    ((tag, body),) = node.items()
    # A text of a million signs is no tuple of so many.
    if type(body) is not (str if tag in "ifba" else list):
        raise ValueError("malformed value")
    if tag in "dsz" and len(body) > SHARED:
        keys = [pair[0] for pair in body] if tag == "d" else body
        # A set of n keys that share a hash costs n * n steps.
        if len(keys) > MAX_KEYS or max(Counter(map(hash, keys)).values()) > SHARED:
            raise TooBig("too many keys, or colliding ones")
    return _TAGS[tag](body)


# json.loads would make a new one each time.
_DECODER = json.JSONDecoder(object_hook=_tagged)


def decode(text: str):
    """Turn JSON of what `encode` made into the plain value again. Made for hostile input.

    The parser walks: Python runs for tagged values only, so a long list costs little.
    Raises ValueError, TypeError, LookupError, OverflowError or RecursionError; TooBig for keys that
    were chosen to share their hashes.
    """
    return _DECODER.decode(text)


_STEPS = dict(zip(b"[{]}", (1, 1, -1, -1)))
# What is left of a report where it is counted. Digits become 0.
_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")
_OTHERS = bytes(set(range(256)) - set(b'"[]{},:.eE0123456789'))


def load(line: bytes):
    """`decode` of a report that a program may have forged, once it is known what that costs.

    Raises TooBig for what is too much, and ValueError for brackets too deep (a host that has raised
    its recursion limit would crash on these) or numbers too long.
    """
    if len(line) > MAX_REPORT:
        raise TooBig("too many bytes")
    # A short line cannot cost much.
    if len(line) > 1000:
        # Without strings: these are every second part between quotes.
        bare = line.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_ALIKE, _OTHERS)
        bare = b"".join(bare.replace(b'""', b"").split(b'"')[::2])
        # A brace counts by its colon, of which it may have more.
        treble = sum(map(bare.count, (b"[", b":", b".", b"0e")))
        if bare.count(b",") + 3 * treble > MAX_NODES:
            raise TooBig("too many values")
        steps = map(_STEPS.__getitem__, bare.translate(None, b",:.e0"))
        # A value of ours takes up to three brackets a level, and its line one more.
        deepest = max(itertools.accumulate(steps), default=0)
        if deepest > 3 * MAX_DEPTH + 4 or b"0" * MAX_DIGITS in bare:
            raise ValueError("nested too deeply, or a number too long")
    return decode(line.decode())


# ----------------------------------------------------------------------------- the system calls
# Name, number on x86_64, number on aarch64. All other calls fail with EPERM: open, stat, socket,
# fork, exec, kill, ptrace...
ALLOWED = """
read 0 63                write 1 64               close 3 57               fstat 5 80
poll 7 -                 lseek 8 62               mmap 9 222               mprotect 10 226
munmap 11 215            brk 12 214               rt_sigaction 13 134      rt_sigprocmask 14 135
rt_sigreturn 15 139      pread64 17 67            pwrite64 18 68           readv 19 65
writev 20 66             select 23 -              sched_yield 24 124       mremap 25 216
madvise 28 233           dup 32 23                nanosleep 35 101         getpid 39 172
exit 60 93               uname 63 160             getcwd 79 17             gettimeofday 96 169
getrusage 98 165         times 100 153            getuid 102 174           getgid 104 176
geteuid 107 175          getegid 108 177          getppid 110 173          sigaltstack 131 132
gettid 186 178           time 201 -               futex 202 98             sched_getaffinity 204 123
restart_syscall 219 128  clock_gettime 228 113    clock_getres 229 114     clock_nanosleep 230 115
exit_group 231 94        pselect6 270 72          ppoll 271 73             set_robust_list 273 99
getrandom 318 278        membarrier 324 283       rseq 334 293
"""
# These have rules of their own.
SPECIAL = "clone 56 220  clone3 435 435"
# Column of the numbers, and AUDIT_ARCH_* of the kernel.
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def system_calls(machine: str) -> dict[str, int]:
    """Name -> number of every call that has a rule, for "x86_64" or "aarch64"."""
    column, _ = MACHINES[machine]
    rows = re.findall(r"(\w+) (\S+) (\S+)", ALLOWED + SPECIAL)
    return {name: int(numbers[column]) for name, *numbers in rows if numbers[column] != "-"}


# Instructions of classic BPF: LD|W|ABS, JMP|JEQ|K, ALU|AND|K, RET|K.
_LOAD, _EQUAL, _MASK, _RETURN = 0x20, 0x15, 0x54, 0x06
# Offsets in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16
# Verdicts of a filter.
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_DENY, _MISSING = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
# Flags of clone: CLONE_THREAD, and every CLONE_NEW*.
_THREAD, _NAMESPACES = 0x00010000, 0x7E020000


def _assembled(machine, program, foreign):
    """struct sock_filter[]: the program, behind a check of the architecture.

    `foreign`: verdict on calls of another one, whose numbers mean something else.
    """
    checked = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, MACHINES[machine][1]),
        (_RETURN, 0, 0, foreign),
        (_LOAD, 0, 0, _NUMBER),
        *program,
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in checked)


def seccomp_filter(machine: str) -> bytes:
    """The allowlist as classic BPF (the kernel's struct sock_filter[]).

    Raises KeyError for an unknown machine.
    """
    calls = system_calls(machine)
    clone, clone3 = calls.pop("clone"), calls.pop("clone3")
    program = [
        # libc falls back to clone, whose flags the filter can see.
        (_EQUAL, 0, 1, clone3),
        (_RETURN, 0, 0, _MISSING),
        # Threads may begin, processes and namespaces may not.
        (_EQUAL, 0, 3, clone),
        (_LOAD, 0, 0, _ARGUMENT),
        (_MASK, 0, 0, _THREAD | _NAMESPACES),
        (_EQUAL, len(calls) + 1, len(calls), _THREAD),
        # A hit jumps over the rest and over the denial.
        *((_EQUAL, len(calls) - k, 0, number) for k, number in enumerate(calls.values())),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return _assembled(machine, program, _DENY)


def thread_filter(machine: str) -> bytes:
    """The filter of `ThreadGate`: it asks before a thread begins or ends, and allows the rest."""
    calls = system_calls(machine)
    program = [
        (_EQUAL, 4, 0, calls["exit"]),
        (_EQUAL, 0, 4, calls["clone"]),
        (_LOAD, 0, 0, _ARGUMENT),
        (_MASK, 0, 0, _THREAD),
        (_EQUAL, 0, 1, _THREAD),
        (_RETURN, 0, 0, _ASK),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return _assembled(machine, program, _ALLOW)


def filter_program(code: bytes):
    """struct sock_fprog, and behind it the code that it points to."""
    memory = ctypes.create_string_buffer(bytes(16) + code)
    struct.pack_into("HP", memory, 0, len(code) // 8, ctypes.addressof(memory) + 16)
    return memory


class ThreadGate:
    """The kernel asks here before a thread of a program begins or ends.

    A limit of resources would not do: it holds for all processes of a user, so that the threads of
    one program would take from its neighbours, and for root it does not hold at all.
    Raises OSError on kernels that do not ask (before 5.5, or not Linux's own).
    """

    # _IOWR('!', 0, struct seccomp_notif) and _IOWR('!', 1, struct seccomp_notif_resp).
    RECEIVE, SEND = 0xC0502100, 0xC0182101
    # "Go on with the call."
    CONTINUE = 1

    def __init__(self, libc):
        machine = os.uname().machine
        self.libc = libc
        self.clone = system_calls(machine)["clone"]
        # Of the main thread and those that it started.
        self.alive = 1
        # PR_SET_NO_NEW_PRIVS, then seccomp(SET_MODE_FILTER, NEW_LISTENER): all children inherit it.
        libc.prctl(38, 1, 0, 0, 0)
        program = filter_program(thread_filter(machine))
        number = 317 if machine == "x86_64" else 277
        self.fd = libc.syscall(number, 1, 8, ctypes.byref(program))
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "seccomp listener")

    def answer(self) -> None:
        """Let the thread that waits begin or end, or refuse one too many as the kernel would."""
        question = ctypes.create_string_buffer(80)
        if self.libc.ioctl(self.fd, self.RECEIVE, question):
            # It was killed while it waited.
            return
        sender, _, _, call = struct.unpack_from("=QIIi", question)
        begins = call == self.clone
        if begins and self.alive >= THREADS:
            error, flags = -errno.EAGAIN, 0
        else:
            error, flags = 0, self.CONTINUE
            self.alive += 1 if begins else -1
        self.libc.ioctl(self.fd, self.SEND, struct.pack("=QqiI", sender, 0, error, flags))


# --------------------------------------------------------------------------- running a program
def read_exactly(fd: int, size: int) -> bytes:
    """Read so many bytes. Raises EOFError when the other side is gone."""
    data = bytearray()
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)


def write_all(fd: int, data) -> None:
    """Write all of the bytes, however many writes it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def run_calls(job: dict, result: int, max_bytes: int) -> int:
    """Load the program, make the calls, write one JSON line for each. Returns the exit code."""

    def report(kind, value):
        # Written at once: what a program had returned before it hung must not depend on timing.
        write_all(result, json.dumps([kind, value]).encode() + b"\n")

    def name_of(fault):
        return str(type.__dict__["__name__"].__get__(type(fault)))

    # Load the program.
    # In sys.modules, because dataclasses and typing look classes up there.
    module = sys.modules["solution"] = type(sys)("solution")
    try:
        exec(compile(job["code"], "<program>", "exec", dont_inherit=True), module.__dict__)
    except BaseException as fault:
        report("load", name_of(fault))
        return 0

    # Make the calls. One that raises does not stop the next.
    for name, args in job["calls"]:
        try:
            if name not in module.__dict__:
                raise NameError(name)
            report("ok", encode(module.__dict__[name](*decode(args)), max_bytes))
        except TooBig:
            return TOO_BIG
        except BaseException as fault:
            report("err", name_of(fault))
    return 0


# ------------------------------------------------------------------------------------ the zygote
class Zygote:
    """Reads jobs from standard input and forks a child for each, until the input ends.

    It writes the results to standard output, one for every job.
    config: seccomp (bool), cpu and wall (seconds), idle (share of a core), memory and output
        (bytes), preload (modules), paths (for sys.path).
    """

    def __init__(self, config: dict):
        self.config = config
        self.libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            # PR_SET_PDEATHSIG: die with the host process.
            self.libc.prctl(1, signal.SIGKILL)
            # PR_SET_DUMPABLE: other processes may not read /proc of this one.
            self.libc.prctl(4, 0)

        # What the child does not have to do, no program waits for.
        self._import(config["preload"], config["paths"])
        self.filter = self.gate = None
        if config["seccomp"]:
            self.filter = filter_program(seccomp_filter(os.uname().machine))
            try:
                self.gate = ThreadGate(self.libc)
            except OSError:
                # The limit below is all there is.
                pass

        # Programs get neither of the two pipes.
        self.jobs = os.dup(0)
        self.results = os.dup(1)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)

        # What runs here has no first time in a child, which would copy the pages it changes.
        run_calls({"code": WARM, "calls": [["f", '[[3, {"t": ["a"]}]]']] * 20}, null, MAX_BYTES)
        del sys.modules["solution"]

        # The byte SEALED, the output, and one byte too many.
        self.buffer = memoryview(bytearray(config["output"] + 2))
        gc.collect()
        gc.freeze()

    @staticmethod
    def _import(names, paths):
        sys.path += paths
        if "numpy" in names:
            # numpy imports it late.
            names = [*names, "numpy.random"]
        for name in names:
            try:
                __import__(name)
            except ImportError:
                # Some Pythons are built without zlib or the like.
                pass

    def serve(self) -> None:
        """Give one result for every job, in order, until the input ends.

        The first message says that the zygote is ready, and whether it sees files of the host.
        """
        sees_host = any(map(os.path.exists, ("/etc/passwd", "/proc/self")))
        write_all(self.results, RESULT_HEADER.pack(0, ENDED, sees_host))
        while True:
            try:
                order = JOB_HEADER.unpack(read_exactly(self.jobs, JOB_HEADER.size))
            except EOFError:
                return
            self._run_one(*order)

    def _run_one(self, job_size: int, times: int) -> None:
        """Fork a child for the next job, wait for its end, and report it."""
        read_end, write_end = os.pipe()
        try:
            child = os.fork()
        except OSError:
            # No process or memory is left. The job stays unread, so the host gives this worker up.
            write_all(self.results, RESULT_HEADER.pack(0, LOST, 0))
            return
        if child == 0:
            code = 1
            try:
                os.close(read_end)
                code = self._child(job_size, times, write_end)
            finally:
                os._exit(code)

        # Collect what it writes, then stop it, unless it has ended.
        os.close(write_end)
        try:
            end = os.pidfd_open(child)
        except (AttributeError, OSError):
            # Kernels before 5.3, gVisor, macOS.
            end = None
        size, ending, ended = self._watch(child, end, read_end, times)
        if end:
            os.close(end)
        if not ended:
            stopped = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
            if ending == TIMEOUT and self.filter and os.waitid(os.P_PID, child, stopped):
                ending = LOST
            os.kill(child, signal.SIGKILL)
            ended = os.wait4(child, 0)
        _, status, usage = ended
        os.close(read_end)
        code = os.waitstatus_to_exitcode(status)

        # The kernel's limit may have been faster than ours.
        spent = usage.ru_utime + usage.ru_stime
        if ending == ENDED and code < 0 and spent >= self.config["cpu"] * times:
            ending = TIMEOUT
        elif ending == ENDED and code < 0 and self.filter:
            if signal.Signals(-code).name.removeprefix("SIG") not in OWN_SIGNALS:
                ending = LOST
        write_all(self.results, RESULT_HEADER.pack(size, ending, code))
        write_all(self.results, self.buffer[:size])
        # Nothing of this program is left for the next fork.
        self.buffer[:size] = bytes(size)

    def _watch(self, child: int, end: int | None, fd: int, times: int) -> tuple:
        """Collect output until it ends or goes beyond a limit.

        `end` is readable when the child has ended. Returns (bytes in the buffer, how it ended, what
        wait4() said or None). The wall clock ends only a program that sleeps.
        One that a busy machine starves goes on as long as it uses the CPU at all. With `times`
        above 1 the limits of time begin anew with every line, which is a call: `times` times at
        most, because a program can write lines of its own.
        """
        cpu, wall = self.config["cpu"], self.config["wall"]
        # When the wall clock began, and the CPU time used by then.
        since, spent = time.monotonic(), 0.0
        size = 0
        poll = select.poll()
        if self.gate:
            self.gate.alive = 1
            poll.register(self.gate.fd, select.POLLIN)
        if end:
            poll.register(end, select.POLLIN)
            if times == 1:
                # Most programs end at once. What they wrote is read then: to wake for every line
                # costs more than all else here.
                poll.poll(50)
        poll.register(fd, select.POLLIN)
        closed = False
        while size < len(self.buffer):
            # Is there time left?
            now, used = time.monotonic(), cpu_seconds(child)
            if now >= since + wall and used - spent >= self.config["idle"] * wall:
                since, spent = now, used
            left = min(since + wall - now, cpu - used)
            if left <= 0:
                return size, TIMEOUT, None

            # Take what there is.
            for ready, _ in poll.poll(max(5, left * 1000) if end or not closed else 1):
                if ready == fd:
                    count = os.readv(fd, [self.buffer[size:]])
                    if not count:
                        closed = True
                        poll.unregister(fd)
                    size += count
                    if count and times > 1 and self.buffer[size - 1] == NEWLINE:
                        since, spent, times = time.monotonic(), cpu_seconds(child), times - 1
                        cpu = spent + self.config["cpu"]
                elif ready == end:
                    poll.unregister(end)
                elif self.gate:
                    self.gate.answer()
            # Who closes his output has not ended yet.
            if closed:
                ended = os.wait4(child, os.WNOHANG)
                if ended[0]:
                    return size, ENDED, ended
        return size, OVERFLOW, None

    def _child(self, job_size, times, result):
        """The life of a child: read the job, give up all rights, run the program."""
        job = json.loads(read_exactly(self.jobs, job_size))
        os.close(self.jobs)
        os.close(self.results)
        if self.gate:
            os.close(self.gate.fd)
        self._seal(times)
        random.seed(job["seed"])
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed(job["seed"] % (1 << 32))
        os.write(result, SEALED)
        return run_calls(job, result, self.config["output"])

    def _seal(self, times: int) -> None:
        """Limits, no root, no system calls. A failure ends the child before the program begins."""
        wanted = {
            # Only in case the zygote, which keeps the exact limit, is late.
            "CPU": int(self.config["cpu"] * times) + 2,
            "AS": self.config["memory"],
            "STACK": 64 << 20,
            "NOFILE": 32,
            "CORE": 0,
            "FSIZE": 0,
        }
        if not self.gate:
            wanted["NPROC"] = 4096
        for name, limit in wanted.items():
            kind = getattr(resource, "RLIMIT_" + name)
            hard = resource.getrlimit(kind)[1]
            # None above the hard limits of this process.
            if hard != resource.RLIM_INFINITY:
                limit = min(limit, hard)
            try:
                resource.setrlimit(kind, (limit, limit))
            except (ValueError, OSError):
                # macOS does not know all of them.
                if self.filter:
                    raise
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        if sys.platform == "linux":
            # Again, because a new user clears it.
            self.libc.prctl(1, signal.SIGKILL)
        if self.filter:
            # PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP with a filter.
            prctl = self.libc.prctl
            if prctl(38, 1, 0, 0, 0) or prctl(22, 2, ctypes.byref(self.filter), 0, 0):
                raise OSError(ctypes.get_errno(), "seccomp")


def cpu_seconds(pid: int) -> float:
    """CPU time of another process; 0 if there is none.

    It has a clock of its own, whose number is what clock_getcpuclockid() makes of the process id.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


if __name__ == "__main__":
    Zygote(json.loads(sys.argv[1])).serve()
