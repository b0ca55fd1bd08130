"""Attacks across programs: what one leaves for the next, and workers that die or starve."""

import os
import signal
import sys
import time

import psutil
import pytest

from kit import sandbox
from kit.sandbox import Job, Sandbox

pytestmark = [
    pytest.mark.attack,
    pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's"),
]


@pytest.fixture(params=[m for m in sandbox.MODES if m != "monty"])
def box(request):
    try:
        with Sandbox(mode=request.param, workers=1, timeout=0.5) as made:
            yield made
    except sandbox.SandboxUnavailable as reason:
        pytest.skip(str(reason))


def one(box, code, *args):
    return box.submit(Job(code, (("f", args),))).result(120)


POISON = {
    "builtins": "import builtins\nbuiltins.leak = 1; builtins.len = lambda x: 42; del builtins.sorted",
    "modules": "import math, json, sys\nmath.sqrt = None; json.dumps = None; sys.leak = 1; del sys.modules['json']",
    "environment": "import os\nos.environ['LEAK'] = '1'",
    "random state": "import random\nrandom.seed(7); random.random = lambda: 42",
    "settings": "import sys, decimal, locale\nsys.setrecursionlimit(50); decimal.getcontext().prec = 2; sys.set_int_max_str_digits(640)",
    "hooks": "import sys, gc\nsys.settrace(lambda *a: None); sys.excepthook = None; gc.disable(); sys.path[:] = []",
    "globals": "SECRET = 1\nleak = 2",
    "limits": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (0, 0))",
}
LOOK = """
import builtins, decimal, gc, json, math, os, random, sys
def f():
    return [hasattr(builtins, "leak"), len("abc"), sorted([2, 1]), math.sqrt(4), json.dumps(1), "LEAK" in os.environ, random.random() == 42,
            sys.getrecursionlimit(), decimal.getcontext().prec, gc.isenabled(), bool(sys.path), "SECRET" in globals(), hasattr(sys, "leak")]
"""


@pytest.mark.parametrize("name", POISON)
def test_nothing_is_left_for_the_next_program(box, name):
    clean = one(box, LOOK).returned()
    assert clean is not None
    one(box, POISON[name] + "\ndef f(): return 1")
    assert one(box, LOOK).returned() == clean


# Reads every mapped page near its own objects, below the heap's end and near a large block. rt_sigprocmask tells whether a page is mapped.
SCAN = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
def f(head, tail):
    token, found, pages = (head + tail).encode(), 0, 0
    call = {"x86_64": 14, "aarch64": 135}[os.uname().machine]
    reach = 1 << 27
    for middle in {id(object()) >> 27, id(bytearray(1 << 21)) >> 27, (libc.sbrk(0) or 0) >> 27, ctypes.cast(libc.malloc, ctypes.c_void_p).value >> 27}:
        for page in range((middle << 27) - reach, (middle << 27) + 2 * reach, 4096):
            if libc.syscall(call, 0, ctypes.c_void_p(page), None, 8) == 0:
                pages += 1
                found += ctypes.string_at(page, 4096).count(token)
    return found, pages
"""


def test_answers_of_one_rollout_are_not_in_the_memory_of_the_next(box):
    with Sandbox(mode=box.mode, workers=1, timeout=20, memory_mb=2048) as patient:
        head, tail = "rollout-", os.urandom(8).hex()
        job = Job(
            f"SECRET = '{head}{tail}'\ndef f(x): return [SECRET + str(i) for i in range(1000)]",
            (("f", (head + tail,)),),
        )
        assert patient.submit(job).result(60).status == "ok"
        found, pages = one(patient, SCAN, head, tail).returned()[0]
        control, _ = one(
            patient, SCAN + f"\nkept = [b'{head}{tail}'[:] * 3]", head, tail
        ).returned()[0]
    assert pages > 1000 and control > found
    # The scanning program holds the token itself, where it joined it: a bytes object, and what the joining left behind.
    assert found <= 4, "the bytes of an earlier rollout are in reach"


def test_nothing_of_one_rollout_is_in_the_pipes_of_the_next(box):
    reader = """
import os, select
def f():
    ready = [fd for fd in range(64) if is_open(fd) and select.select([fd], [], [], 0)[0]]
    return [os.read(fd, 99) for fd in ready if fd > 2]
def is_open(fd):
    try: return os.fstat(fd) and True
    except OSError: return False"""
    futures = [
        box.submit(Job(reader, (("f", ()),))),
        *[box.submit(Job("def f(): return 'secret'", (("f", ()),))) for _ in range(5)],
    ]
    first = futures[0].result(60)
    assert first.returned() in (None, [[]]) and "secret" not in str(first)
    assert [f.result(60).returned() for f in futures[1:]] == [["secret"]] * 5


def test_workers_killed_in_mid_batch_lose_nothing():
    with Sandbox(workers=2, timeout=0.5) as box:
        futures = [
            box.submit(
                Job("import time\ndef f(x):\n    time.sleep(.02)\n    return x", (("f", (i,)),))
            )
            for i in range(60)
        ]
        for _ in range(3):
            time.sleep(0.25)
            for worker in list(box._live):
                os.killpg(worker.process.pid, signal.SIGKILL)
        results = [f.result(120) for f in futures]
    right = [r.returned() == [i] for i, r in enumerate(results)]
    # A program whose worker is killed twice is an error of ours; it is never anything else.
    assert (
        all(ok or r.status == "sandbox_error" for ok, r in zip(right, results)) and sum(right) >= 57
    )


def test_a_starved_worker_is_replaced():
    with Sandbox(workers=1, timeout=0.1) as box:
        assert one(box, "def f(): return 1").returned() == [1]
        (stopped,) = box._live
        for process in psutil.Process(stopped.process.pid).children(recursive=True):
            process.suspend()
        began = time.monotonic()
        assert one(box, "def f(): return 2").returned() == [2]
        assert time.monotonic() - began < 30 and stopped not in box._live
