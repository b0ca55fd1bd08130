"""What happens outside of a program is not its fault: neighbours, signals, its own closed pipe."""

import os
import signal
import sys
import threading
import time

import psutil
import pytest

from kit import sandbox
from kit.sandbox import Job, Sandbox, _boxed

pytestmark = [
    pytest.mark.attack,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's"),
]

BOMB = """
import threading, time
threading.stack_size(32768)
def f():
    while True:
        try:
            threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
        except RuntimeError:
            pass
"""
EIGHT = """
import threading, time
def f():
    out = []
    def work(i):
        time.sleep(.01)
        out.append(i)
    ts = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [t.start() for t in ts]; [t.join() for t in ts]
    return sorted(out)
"""
# How many threads one may have at a time, then again once these have ended, and then 600 in turn.
COUNT = """
import threading
def many():
    stop = threading.Event()
    ts = []
    try:
        while len(ts) < 2000:
            t = threading.Thread(target=stop.wait, daemon=True)
            t.start()
            ts.append(t)
    except RuntimeError:
        pass
    stop.set()
    [t.join() for t in ts]
    return len(ts)
def f():
    threading.stack_size(65536)
    found = [many(), many()]
    for _ in range(600):
        t = threading.Thread(target=int)
        t.start()
        t.join()
    return found
"""


@pytest.fixture(params=[m for m in sandbox.MODES if m != "monty"])
def mode(request):
    try:
        Sandbox(mode=request.param, workers=1).close()
    except sandbox.SandboxUnavailable as reason:
        pytest.skip(str(reason))
    return request.param


def test_a_program_has_at_most_256_threads_at_a_time(mode):
    with Sandbox(mode=mode, workers=1, timeout=5) as box:
        counts = box.submit(Job(COUNT, (("f", ()),))).result(120).returned()
    assert counts == [[_boxed.THREADS - 1] * 2]


def test_a_thread_bomb_takes_nothing_from_its_neighbours(mode):
    jobs = [Job(BOMB if k % 4 == 0 else EIGHT, (("f", ()),)) for k in range(40)]
    with Sandbox(mode=mode, workers=6, timeout=1) as box:
        results = box.map(jobs)
    found = {result.status for k, result in enumerate(results) if k % 4 == 0}
    honest = [result.returned() for k, result in enumerate(results) if k % 4]
    assert honest == [[list(range(8))]] * 30
    assert found == {"timeout"}


def children(box):
    """The programs that run now: a zygote's children, which look like it."""
    found = []
    for worker in list(box._live):
        try:
            worker_process = psutil.Process(worker.process.pid)
            below = [worker_process, *worker_process.children(recursive=True)]
            found += [p for p in below if is_zygote(p) and is_zygote(p.parent())]
        except psutil.Error:
            pass
    return found


def is_zygote(process):
    # One that is just ending has no command line.
    line = [*process.cmdline(), "", ""]
    return "bwrap" not in line[0] and line[1].endswith(("/box.py", "_boxed.py"))


WAITS = "import time\ndef f(x):\n    time.sleep(1)\n    return x"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_signal_from_outside_is_not_the_programs_end(mode, number):
    with Sandbox(mode=mode, workers=1, timeout=1) as box:
        # Once: the next try succeeds.
        future = box.submit(Job(WAITS, (("f", (7,)),)))
        hit_next_child(box, number)
        assert future.result(60).returned() == [7]
        # Whenever it is tried: there is no verdict.
        stop = threading.Event()
        hitter = threading.Thread(target=keep_hitting, args=(box, number, stop))
        hitter.start()
        try:
            result = box.submit(Job(WAITS, (("f", (7,)),))).result(60)
        finally:
            stop.set()
            hitter.join()
        assert result.status == "sandbox_error", result


def hit_next_child(box, number):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        time.sleep(0.02)
        for child in children(box):
            time.sleep(0.2)
            os.kill(child.pid, number)
            return
    raise AssertionError("no program seen")


def keep_hitting(box, number, stop):
    while not stop.is_set():
        time.sleep(0.05)
        try:
            for child in children(box):
                os.kill(child.pid, number)
        except (psutil.Error, ProcessLookupError):
            pass


CLOSED = """
import os
def close_all():
    for fd in range(3, 64):
        try: os.close(fd)
        except OSError: pass
def crash():
    import ctypes
    close_all()
    ctypes.string_at(0)
def leave():
    close_all()
    os._exit(0)
def spin():
    close_all()
    while True: pass
def sleep():
    import time
    close_all()
    time.sleep(99)
"""


@pytest.mark.parametrize(
    ("name", "status"),
    [("crash", "signal"), ("leave", "exit"), ("spin", "timeout"), ("sleep", "timeout")],
)
def test_a_program_that_closes_its_pipe_gets_its_own_verdict(mode, name, status):
    with Sandbox(mode=mode, workers=1, timeout=0.3) as box:
        assert box.submit(Job(CLOSED, ((name, ()),))).result(60).status == status
        assert box.counts["sandbox_error"] == 0


def test_without_questions_of_the_kernel_a_limit_of_processes_is_left(monkeypatch):
    class Deaf:
        prctl = staticmethod(lambda *_: 0)
        syscall = staticmethod(lambda *_: -1)

    with pytest.raises(OSError, match="listener"):
        _boxed.ThreadGate(Deaf)
