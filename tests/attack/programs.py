"""The corpus: hostile programs, and honest ones that clumsy harnesses get wrong. Data only; harness.py runs it.

Every program is asked for `f()`, whose right value is a secret of the host. Before its code stand the constants CANARY (a
file with a secret token), PORT (of a listening socket), HOST (the harness's process id) and two helpers: `attempt`
calls its arguments in turn and gives "denied" if all of them raise OSError or ImportError; `raw` turns the -1 of a C function
into an OSError.
"""

from dataclasses import dataclass

PREAMBLE = """
import ctypes, os, sys, time
def attempt(*doors):
    for door in doors:
        try:
            return "open: " + repr(door())
        except (OSError, ImportError):
            pass
    return "denied"
def raw(answer):
    if answer == -1:
        raise OSError("refused")
    return answer
libc = ctypes.CDLL(None, use_errno=True)
"""


@dataclass(frozen=True)
class Program:
    """`must`: a status of Result, "denied" (f gives "denied"), an exception's name, or "harmless" (any of those but
    sandbox_error), several with | between. `value`: of an honest program, what f returns."""

    kind: str
    name: str
    why: str
    must: str
    code: str
    value: object = None


HOSTILE: list[Program] = []
HONEST: list[Program] = []


def hostile(kind: str, name: str, why: str, must: str, code: str) -> None:
    HOSTILE.append(Program(kind, name, why, must, code))


def honest(name: str, why: str, value, code: str) -> None:
    HONEST.append(Program("honest", name, why, "ok", code, value))


# --------------------------------------------------------------------------------------------- time
hostile(
    "time",
    "endless loop",
    "the commonest failure of all",
    "timeout",
    "def f():\n    while True: pass",
)
hostile("time", "endless loop at import", "never comes to f", "timeout", "while True: pass")
hostile(
    "time",
    "one long C call",
    "no bytecode runs, so no Python signal handler would",
    "timeout",
    "def f(): return sum(range(10 ** 12))",
)
hostile(
    "time",
    "catastrophic regex",
    "a loop inside C that holds the GIL",
    "timeout",
    "import re\ndef f(): return re.match('(a+)+$', 'a' * 50 + 'b')",
)
hostile(
    "time",
    "huge power",
    "one C call of minutes",
    "timeout|MemoryError",
    "def f(): return 7 ** (10 ** 9) % 1000 == 1",
)
hostile(
    "time",
    "sleeper",
    "uses no CPU: only the wall clock sees it",
    "timeout",
    "def f(): time.sleep(999)",
)
hostile(
    "time",
    "lock held for ever",
    "waits without CPU in a futex",
    "timeout",
    "import threading\ndef f():\n    l = threading.Lock(); l.acquire(); l.acquire()",
)
hostile(
    "time",
    "signals ignored",
    "a limit that asks politely is ignored",
    "timeout",
    """
import signal
for n in range(1, 65):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
def f():
    while True:
        try:
            while True: pass
        except BaseException: pass""",
)
hostile(
    "time",
    "loop in a finaliser",
    "runs when f is over already",
    "timeout|ok",
    "class A:\n  def __del__(self):\n    while True: pass\ndef f(): A()",
)
hostile(
    "time",
    "results then a hang",
    "what it had returned must not be scored as a pass",
    "timeout",
    """
import threading
def f():
    time.sleep(0)
    while True: pass""",
)
hostile(
    "time",
    "closes its result pipe and loops",
    "the harness sees the end of output, not of the program",
    "signal|timeout",
    """
def f():
    os.closerange(0, 99)
    while True: pass""",
)

# ------------------------------------------------------------------------------------------- memory
hostile(
    "memory",
    "one huge allocation",
    "swapping slows everyone",
    "MemoryError",
    "def f(): return len(bytearray(10 ** 11))",
)
hostile(
    "memory",
    "allocates until it fails",
    "would take the machine's memory",
    "MemoryError|timeout",
    "def f():\n    hog = []\n    while True: hog.append(bytearray(10 ** 7))",
)
hostile(
    "memory",
    "string doubling",
    "thirty lines of nothing make gigabytes",
    "MemoryError|timeout",
    "def f():\n    s = 'x' * 1024\n    while True: s += s",
)
hostile(
    "memory",
    "shift of one",
    "an integer of gigabytes",
    "MemoryError|Unencodable|timeout",
    "def f(): return 1 << (1 << 40)",
)
hostile(
    "memory",
    "many small objects",
    "limits by page count miss arenas",
    "MemoryError|timeout",
    "def f():\n    a = []\n    while True: a.append([a, object()])",
)
hostile(
    "memory",
    "anonymous maps",
    "past the allocator of Python",
    "harmless",
    "import ctypes\ndef f():\n    libc.mmap.restype = ctypes.c_void_p\n    n = 0\n"
    "    while libc.mmap(None, ctypes.c_size_t(1 << 26), 3, 0x22, -1, 0) != 2 ** 64 - 1: n += 1\n    return n < 100",
)

# ------------------------------------------------------------------------------------------- output
hostile(
    "output",
    "floods stdout",
    "logs or pipes fill up",
    "timeout|ok",
    "def f():\n    while True: print('x' * 10_000)",
)
hostile(
    "output",
    "floods stderr",
    "nobody reads it",
    "timeout",
    "def f():\n    while True: sys.stderr.write('x' * 1000)",
)
hostile(
    "output",
    "floods every descriptor",
    "the result pipe is one of them",
    "overflow|exit",
    """
def f():
    while True:
        for fd in range(3, 32):
            try: os.write(fd, b'x' * 9999)
            except OSError: pass""",
)

# ------------------------------------------------------------------------------------------ results
hostile(
    "result",
    "huge string",
    "the host has to hold it",
    "overflow",
    "def f(): return 'x' * 50_000_000",
)
hostile(
    "result",
    "shared parts",
    "small in memory, endless on the wire",
    "overflow|timeout",
    "def f():\n    a = []\n    for _ in range(60): a = [a, a]\n    return a",
)
hostile(
    "result",
    "cycle",
    "a walk that never ends",
    "Unencodable",
    "def f():\n    a = []; a.append(a)\n    return a",
)
hostile(
    "result",
    "very deep list",
    "recursion in the host",
    "Unencodable",
    "def f():\n    a = []\n    for _ in range(10 ** 5): a = [a]\n    return a",
)
hostile(
    "result",
    "huge integer",
    "decimal text of it takes minutes",
    "Unencodable",
    "def f(): return 1 << (1 << 22)",
)
hostile(
    "result",
    "colliding keys",
    "a dict of them costs the host n * n steps",
    "exit|overflow|timeout",
    "def f(): return {k * (2 ** 61 - 1): 0 for k in range(1, 15_000)}",
)
hostile(
    "result",
    "an object",
    "its repr holds an address, its __eq__ lies",
    "Unencodable",
    "def f(): return object()",
)
hostile(
    "result",
    "a generator without end",
    "list() of it hangs",
    "Unencodable",
    "import itertools\ndef f(): return itertools.count()",
)
hostile(
    "result",
    "pickle bomb",
    "whoever unpickles runs it",
    "Unencodable",
    "class A:\n    def __reduce__(self): return os.system, ('touch ' + CANARY + '.breach',)\ndef f(): return A()",
)

# ------------------------------------------------------------------------------------------ crashes
hostile(
    "crash",
    "null pointer",
    "takes a pool's worker with it",
    "signal",
    "def f(): ctypes.string_at(0)",
)
hostile(
    "crash",
    "bad bytecode",
    "the interpreter itself crashes",
    "signal|harmless",
    """
def f():
    g = lambda: 0
    g.__code__ = g.__code__.replace(co_code=bytes([100, 255] * 50), co_consts=())
    return g()""",
)
hostile(
    "crash",
    "C stack overflow",
    "recursion that no limit counts",
    "signal|RecursionError|SystemError|MemoryError|timeout",
    """
sys.setrecursionlimit(10 ** 9)
class A:
    def __getattr__(self, n): return getattr(self, n + 'x')
def f(): return A().y""",
)
hostile(
    "crash",
    "abort",
    "SIGABRT, and a core file where that is allowed",
    "signal",
    "def f(): libc.abort()",
)
hostile(
    "crash",
    "writes over its memory",
    "anything may happen then, but only to it",
    "signal|harmless",
    "def f(): ctypes.memset(id(None), 255, 64)",
)
hostile(
    "crash",
    "source with a NUL",
    "some compilers stop reading there",
    "load_error",
    "\0def f(): return 1",
)
hostile(
    "crash",
    "source nested too deeply",
    "crashed parsers before 3.9",
    "load_error",
    "x = " + "(" * 10_000,
)
hostile(
    "crash",
    "source of a million signs",
    "the compiler's stack",
    "load_error|timeout|signal",
    "x = " + "-" * 1_000_000 + "1",
)

# -------------------------------------------------------------------------------------------- exits
hostile(
    "exit",
    "os._exit(0)",
    "exit code 0 means passed to many a harness",
    "exit",
    "def f(): os._exit(0)",
)
hostile("exit", "os._exit(0) at import", "before any test ran", "exit", "os._exit(0)")
hostile(
    "exit",
    "sys.exit(0)",
    "an exception that except Exception misses",
    "SystemExit",
    "def f(): sys.exit(0)",
)
hostile("exit", "sys.exit(0) at import", "the same, before f", "load_error", "sys.exit(0)")
hostile("exit", "C exit", "past Python's own ending", "exit", "def f(): libc.exit(0)")
hostile(
    "exit",
    "kills itself",
    "SIGKILL looks like a full memory",
    "PermissionError|signal",
    "def f(): os.kill(os.getpid(), 9)",
)
hostile(
    "exit",
    "KeyboardInterrupt",
    "stops a harness that lets it through",
    "KeyboardInterrupt",
    "def f(): raise KeyboardInterrupt",
)
hostile(
    "exit",
    "exception with a lying name",
    "its type's name is the program's own text",
    "harmless",
    "def f(): raise type('ok\\n[\"ok\", 1]', (BaseException,), {})()",
)
hostile(
    "exit",
    "exception whose str hangs",
    "printing it would loop",
    "harmless",
    "class E(Exception):\n    def __str__(self):\n        while True: pass\n    __repr__ = __str__\ndef f(): raise E",
)

# ---------------------------------------------------------------------------------- forged verdicts
hostile(
    "forge",
    "equal to everything",
    "result == expected is True",
    "Unencodable",
    "class A:\n    def __eq__(self, o): return True\n    def __hash__(self): return 0\ndef f(): return A()",
)
hostile(
    "forge",
    "int that equals all",
    "isinstance(x, int) holds",
    "harmless",
    "class I(int):\n    __eq__ = lambda s, o: True\n    __ne__ = lambda s, o: False\n    __hash__ = int.__hash__\ndef f(): return I(1)",
)
hostile(
    "forge",
    "list that equals all",
    "the same for containers",
    "harmless",
    "class L(list):\n    __eq__ = lambda s, o: True\n    __iter__ = lambda s: iter([])\ndef f(): return L([1])",
)
hostile(
    "forge",
    "lying __class__",
    "isinstance believes it",
    "Unencodable",
    "class A:\n    __class__ = int\n    def __index__(self): return 1\ndef f(): return A()",
)
hostile(
    "forge",
    "patched builtins",
    "the harness's own checks run patched code",
    "harmless",
    "import builtins\nbuiltins.isinstance = builtins.all = builtins.any = lambda *a: True\nbuiltins.len = lambda x: 1\ndef f(): return object()",
)
hostile(
    "forge",
    "patched json",
    "the report is written by the program's function",
    "harmless",
    "import json\njson.dumps = lambda *a, **k: '[\"ok\", 42]'\ndef f(): return 1",
)
hostile(
    "forge",
    "patched os.write",
    "and then the report itself",
    "harmless",
    "w = os.write\nos.write = lambda fd, data: w(fd, b'[\"ok\", 42]\\n') and len(data)\ndef f(): return 1",
)
hostile(
    "forge",
    "writes verdicts to all descriptors",
    "guesses the protocol",
    "harmless",
    """
def f():
    for fd in range(64):
        for line in (b'["ok", true]\\n', b'{"passed": true}\\n', b'passed\\n', b'+\\n'):
            try: os.write(fd, line)
            except OSError: pass
    os._exit(0)""",
)
hostile(
    "forge",
    "a mapping of empty pairs",
    "the reader takes the first of each pair",
    "harmless",
    "line = b'[\"ok\", {\"d\": [' + b','.join([b'[]'] * 20) + b']}]\\n'\n"
    "def f():\n    for fd in range(3, 32):\n        try: os.write(fd, line)\n"
    "        except OSError: pass\n    return 1",
)
hostile(
    "forge",
    "writes more reports than calls",
    "the last ones might be taken",
    "exit|harmless",
    "def f():\n    for fd in range(3, 32):\n        try: os.write(fd, b'[\"ok\", 1]\\n' * 50)\n        except OSError: pass\n    return 1",
)
hostile(
    "forge",
    "patches what runs next",
    "the rest of the harness's calls in this process",
    "harmless",
    """
def f():
    frame = sys._getframe()
    while frame:
        for name, value in list(frame.f_globals.items()):
            if callable(value) and name in ('encode', 'write_all', 'run_calls', 'same'): frame.f_globals[name] = lambda *a, **k: 1
        frame = frame.f_back
    return 1""",
)
hostile(
    "forge",
    "prints the test's word",
    "a harness that greps stdout",
    "harmless",
    "print('PASSED'); print('OK'); print('1 passed in 0.01s')\ndef f(): print('passed', flush=True)",
)

# ------------------------------------------------------------------------------ looking for answers
hostile(
    "search",
    "all frames",
    "expected values are locals of the caller in many a harness",
    "harmless",
    """
def f():
    found, frame = [], sys._getframe()
    while frame:
        found.append(repr({k: str(v)[:2000] for k, v in {**frame.f_globals, **frame.f_locals}.items()}))
        frame = frame.f_back
    return found""",
)
hostile(
    "search",
    "all objects of the collector",
    "anything in the process is found by a scan",
    "harmless",
    "import gc\ndef f(): return [o for o in gc.get_objects() if isinstance(o, (str, list, dict)) and TOKEN_HEAD in str(o)[:5000]][:3]",
)
hostile(
    "search",
    "own memory from /proc",
    "what other rollouts left in freed pages",
    "denied",
    "def f(): return attempt(lambda: open('/proc/self/mem', 'rb').read(1), lambda: open('/proc/self/maps').read())",
)
hostile(
    "search",
    "memory of the zygote",
    "it holds what the pipe brought",
    "denied",
    "def f(): return attempt(lambda: raw(libc.process_vm_readv(os.getppid(), 0, 0, 0, 0, 0)), lambda: open(f'/proc/{os.getppid()}/mem'))",
)
hostile(
    "search",
    "memory of the host",
    "the answers are there",
    "denied",
    "def f(): return attempt(lambda: raw(libc.process_vm_readv(HOST, 0, 0, 0, 0, 0)), lambda: open(f'/proc/{HOST}/mem'), lambda: raw(libc.ptrace(16, HOST, 0, 0)))",
)
hostile(
    "search",
    "reads all descriptors",
    "the next job may stand in the pipe",
    "harmless",
    """
import select
def f():
    got = []
    for fd in range(64):
        try:
            if select.select([fd], [], [], 0)[0]: got.append((fd, os.read(fd, 10_000)))
        except OSError: pass
    return [g for g in got if g[1]]""",
)
hostile(
    "search",
    "command line and environment",
    "secrets of CI live there",
    "denied",
    "def f(): return attempt(lambda: open('/proc/self/environ').read(), lambda: open('/proc/1/cmdline').read(), lambda: open(f'/proc/{HOST}/environ').read())",
)
hostile(
    "search",
    "environment variables",
    "tokens of hubs and clouds",
    "harmless",
    "def f(): return sorted(os.environ.items())",
)

# -------------------------------------------------------------------------------------- files: read
for name, door in {
    "open": "open(CANARY).read()",
    "os.open": "os.read(os.open(CANARY, 0), 99)",
    "open by number": "raw(libc.syscall(2 if os.uname().machine == 'x86_64' else 56, CANARY.encode(), 0, 0))",
    "openat": "raw(libc.openat(-100, CANARY.encode(), 0))",
    "openat2": "raw(libc.syscall(437, -100, CANARY.encode(), 0, 0))",
    "io_uring": "raw(libc.syscall(425, 8, ctypes.create_string_buffer(256)))",
    "stat": "os.stat(CANARY)",
    "list": "os.listdir(os.path.dirname(CANARY))",
    "readlink": "os.readlink('/proc/self/exe')",
    "import": "__import__('antigravity')",
    "linecache": "raw(-1 if not __import__('linecache').getlines(CANARY) else 0)",
    "mmap": "__import__('mmap').mmap(os.open(CANARY, 0), 1)",
    "name_to_handle": "raw(libc.syscall(303, -100, CANARY.encode(), 0, 0, 0))",
    "password file": "open('/etc/passwd').read()",
    "sqlite": "__import__('sqlite3').connect(CANARY).execute('select 1')",
}.items():
    hostile(
        "read", name, "a file of the host", "denied", f"def f(): return attempt(lambda: {door})"
    )
# ------------------------------------------------------------------------------------- files: write
for name, door in {
    "create": "open(CANARY + '.breach', 'w')",
    "append": "open(CANARY, 'a').write('x')",
    "delete": "os.unlink(CANARY)",
    "rename": "os.rename(CANARY, CANARY + '.breach')",
    "mkdir": "os.mkdir(CANARY + '.breach')",
    "symlink": "os.symlink('/', CANARY + '.breach')",
    "chmod": "os.chmod(CANARY, 0)",
    "truncate": "os.truncate(CANARY, 0)",
    "tempfile": "__import__('tempfile').TemporaryFile()",
    "mknod": "os.mknod(CANARY + '.breach')",
    "chdir": "os.chdir('/tmp')",
    "mount": "raw(libc.mount(b'/', b'/', b'x', 0, 0))",
}.items():
    hostile(
        "write",
        name,
        "a change of the host's files",
        "denied",
        f"def f(): return attempt(lambda: {door})",
    )
# ---------------------------------------------------------------------------------------- processes
for name, door in {
    "fork": "os.fork()",
    "vfork by number": "raw(libc.syscall(58 if os.uname().machine == 'x86_64' else 1071))",
    "clone": "raw(libc.syscall(56 if os.uname().machine == 'x86_64' else 220, 17, 0, 0, 0, 0))",
    "clone3": "raw(libc.syscall(435, ctypes.create_string_buffer(88), 88))",
    "exec": "os.execv('/bin/true', ['true'])",
    "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "shell": "raw(-1 if libc.system(b'true') == 127 << 8 else 0)",
    "subprocess": "__import__('subprocess').run(['true'])",
    "multiprocessing": "__import__('multiprocessing').Process(target=print).start()",
    "kill the zygote": "os.kill(os.getppid(), 9)",
    "kill all": "os.kill(-1, 9)",
    "kill the host": "os.kill(HOST, 9)",
    "tgkill": "raw(libc.syscall(234, os.getpid(), os.getpid(), 9))",
    "killpg": "os.killpg(0, 9)",
    "ptrace": "raw(libc.ptrace(16, os.getppid(), 0, 0))",
    "new session": "os.setsid()",
    "become root": "os.setuid(0)",
    "limits of the parent": "raw(libc.prlimit(os.getppid(), 0, 0, 0))",
    "priority": "os.setpriority(0, 0, -5)",
    "affinity": "os.sched_setaffinity(0, {0})",
    "namespaces": "raw(libc.unshare(0x10000000))",
    "bpf": "raw(libc.syscall(321, 0, 0, 0))",
}.items():
    hostile(
        "process",
        name,
        "reaches other processes or leaves its limits",
        "denied",
        f"def f(): return attempt(lambda: {door})",
    )
hostile(
    "process",
    "raise own limits",
    "CPU and memory without end",
    "ValueError",
    "import resource\ndef f(): resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
)
hostile(
    "process",
    "fork bomb",
    "fills the process table of the host",
    "PermissionError",
    "def f():\n    while True: os.fork()",
)
hostile(
    "process",
    "daemon",
    "a process that outlives the verdict",
    "denied",
    "def f(): return attempt(lambda: os.fork() or os.setsid() or os.fork() or time.sleep(99))",
)
# ------------------------------------------------------------------------------------------ network
for name, door in {
    "connect": "__import__('socket').create_connection(('127.0.0.1', PORT))",
    "raw socket call": "raw(libc.socket(2, 1, 0))",
    "unix socket": "raw(libc.socket(1, 1, 0))",
    "socketpair": "raw(libc.socketpair(1, 1, 0, (ctypes.c_int * 2)()))",
    "http": "__import__('urllib.request').request.urlopen(f'http://127.0.0.1:{PORT}')",
    "pipe": "os.pipe()",
    "eventfd": "os.eventfd(0)",
    "memfd and exec": "os.fexecve(os.memfd_create('x'), [], {}) if hasattr(os, 'fexecve') else os.memfd_create('x')",
    "shared memory": "raw(libc.shmget(0, 4096, 0o1777))",
}.items():
    hostile(
        "network", name, "talks to somebody", "denied", f"def f(): return attempt(lambda: {door})"
    )
# ------------------------------------------------------------------------------------------ threads
hostile(
    "thread",
    "thread bomb",
    "as a fork bomb, within one process",
    "harmless",
    "import threading\nthreading.stack_size(32768)\ndef f():\n    while True: threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
)
hostile(
    "thread",
    "threads left running",
    "burn CPU after f has returned",
    "harmless",
    "import threading\ndef work():\n    while True: pass\ndef f():\n    for _ in range(4): threading.Thread(target=work).start()\n    return 1",
)
hostile(
    "thread",
    "atexit that loops",
    "would run after everything",
    "ok",
    "import atexit\n@atexit.register\ndef work():\n    while True: pass\ndef f(): return 1",
)
hostile(
    "thread",
    "result changed by a thread",
    "while it is being written",
    "harmless",
    "import threading\ndef f():\n    a = list(range(1000))\n    def work():\n        while True: a.append(0); a.pop(0)\n    threading.Thread(target=work, daemon=True).start()\n    return a",
)

# ====================================================================== honest, and often got wrong
honest(
    "deep recursion",
    "recursion limits of the harness",
    30_000,
    "sys.setrecursionlimit(10 ** 6)\ndef g(n): return 0 if n == 0 else 1 + g(n - 1)\ndef f(): return g(30_000)",
)
honest("nan", "nan != nan", float("nan"), "def f(): return float('nan')")
honest(
    "infinities and minus zero",
    "no JSON for the first, two signs for the second",
    [float("inf"), -float("inf"), 0.0],
    "def f(): return [1e999, -1e999, -0.0]",
)
honest("lone surrogate", "cannot be encoded in UTF-8", "\ud800", "def f(): return chr(0xD800)")
honest(
    "set of strings",
    "its order depends on the hash seed",
    {str(i) for i in range(50)},
    "def f(): return {str(i) for i in range(50)}",
)
honest(
    "tuple keys and integers as keys",
    "JSON has neither",
    {(1, 2): "a", 3: (4,)},
    "def f(): return {(1, 2): 'a', 3: (4,)}",
)
honest("big integer", "more digits than str() allows", 3**20_000, "def f(): return 3 ** 20_000")
honest("bytes", "JSON has none", b"\x00\xff", "def f(): return b'\\0\\xff'")
honest(
    "Counter",
    "a dict by its base",
    {"a": 2, "b": 1},
    "from collections import Counter\ndef f(): return Counter('aab')",
)
honest(
    "namedtuple",
    "a tuple by its base",
    (1, 2),
    "from collections import namedtuple\ndef f(): return namedtuple('P', 'x y')(1, 2)",
)
honest(
    "noise on stdout",
    "debug prints are no error",
    1,
    "def f():\n    print('noise' * 10 ** 5)\n    return 1",
)
honest(
    "threads",
    "starting threads is allowed",
    list(range(8)),
    "import threading\ndef f():\n    out = []\n    ts = [threading.Thread(target=out.append, args=(i,)) for i in range(8)]\n    [t.start() for t in ts]; [t.join() for t in ts]\n    return sorted(out)",
)
honest(
    "dataclass with future annotations",
    "looks its module up in sys.modules",
    (3,),
    "from dataclasses import dataclass, astuple\n@dataclass\nclass P:\n    x: 'int' = 3\ndef f(): return astuple(P())",
)
honest("naps", "sleeping is no CPU time", 1, "def f():\n    time.sleep(0.4)\n    return 1")
honest(
    "catches its OSError",
    "a denied open is an exception like any other",
    "none",
    "def f():\n    try: return open('config.ini').read()\n    except OSError: return 'none'",
)
honest(
    "not a script",
    "the guard at the end must not run",
    1,
    "def f(): return 1\nif __name__ == '__main__': 1 / 0",
)
honest(
    "late imports",
    "modules imported inside f",
    "0.333",
    "def f():\n    import decimal, heapq, itertools, statistics, bisect\n    return str(decimal.Decimal(1) / 3)[:5]",
)
honest(
    "strptime",
    "imports a module the moment it is called",
    2020,
    "import datetime\ndef f(): return datetime.datetime.strptime('2020', '%Y').year",
)
honest(
    "changes its argument's type",
    "True, 1 and 1.0 are different answers",
    [True, 1, 1.0],
    "def f(): return [True, 1, 1.0]",
)
honest(
    "memory within limits", "100 MB are allowed", 10**8, "def f(): return len(bytearray(10 ** 8))"
)
honest(
    "deep recursion in a thread",
    "threading.stack_size, as on contest sites",
    50_000,
    "import threading\nsys.setrecursionlimit(10 ** 6)\nthreading.stack_size(1 << 28)\ndef g(n): return 0 if n == 0 else 1 + g(n - 1)\ndef f():\n    out = []\n    t = threading.Thread(target=lambda: out.append(g(50_000)))\n    t.start(); t.join()\n    return out[0]",
)
honest(
    "executor",
    "its threads end with it",
    [0, 1, 4, 9],
    "from concurrent.futures import ThreadPoolExecutor\ndef f():\n    with ThreadPoolExecutor() as pool: return list(pool.map(lambda x: x * x, range(4)))",
)
honest("large output", "more than a pipe holds", "x" * 200_000, "def f(): return 'x' * 200_000")
