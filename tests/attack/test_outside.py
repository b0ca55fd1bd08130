"""What others do to a program is not its fault: quotas of the host, signals from outside."""

import os
import signal
import threading
import time

import psutil
import pytest

from kit.sandbox import Job, Sandbox, modes
from kit.sandbox.walls import core_share

SLOW = "import time\ndef f():\n    end = time.process_time() + 0.5\n"
SLOW += "    while time.process_time() < end:\n        pass\n    return 7"
NATIVE = [mode for mode, found in modes().items() if found == "ok" and mode != "monty"]


@pytest.mark.parametrize(
    ("files", "line", "share"),
    [
        ({"a/b/cpu.max": "10000 100000"}, "0::/a/b", 0.1),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, "0::/a/b", 1.5),
        ({"cpu.max": "50000 100000"}, "0::/somewhere/else", 0.5),
        ({"cpu/x/cpu.cfs_quota_us": "20000", "cpu/x/cpu.cfs_period_us": "100000"}, "3:cpu:/x", 0.2),
        ({"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, "3:cpu:/x", None),
        ({"a/cpu.max": "what"}, "0::/a", None),
        ({}, "0::/", None),
        ({}, "", None),
    ],
)
def test_cores_are_those_of_affinity_and_quotas(tmp_path, files, line, share):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "cgroup").write_text(line)
    affinity = len(os.sched_getaffinity(0))
    found = core_share(str(tmp_path / "cgroup"), str(tmp_path))
    assert found == min(affinity, share or affinity)
    assert core_share(str(tmp_path / "no such file"), str(tmp_path)) == affinity


def _hit(box, sent, times, stop):
    """Send a signal to the program that runs, so many times, each time to another one."""
    seen = set()
    while len(seen) < times and not stop.is_set():
        for worker in psutil.Process().children(recursive=True):
            # The program is the youngest of its worker: it alone has no child and uses CPU.
            try:
                if not worker.children() and worker.cpu_times().user > 0.1:
                    parent = worker.parent()
                    if parent.pid != os.getpid() and worker.pid not in seen:
                        if time.time() - worker.create_time() < 3:
                            os.kill(worker.pid, sent)
                            seen.add(worker.pid)
                            break
            except (psutil.Error, OSError):
                continue
        time.sleep(0.02)


@pytest.mark.parametrize("mode", NATIVE)
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(("times", "status"), [(1, "ok"), (2, "sandbox_error")])
def test_a_program_that_others_kill_is_tried_once_more(mode, sent, times, status):
    stop = threading.Event()
    with Sandbox(mode=mode, workers=1, timeout=5) as box:
        box.map([Job("def f():\n    return 1", (("f", ()),))])
        time.sleep(3.1)
        killer = threading.Thread(target=_hit, args=(box, sent, times, stop))
        killer.start()
        (result,) = box.map([Job(SLOW, (("f", ()),))])
        stop.set()
        killer.join()
    assert (result.status, result.returned()) == (status, [7] if status == "ok" else None)


@pytest.mark.parametrize("mode", NATIVE)
def test_a_program_cannot_pretend_that_others_killed_it(mode):
    tries = """
import ctypes, os, signal
def f(k):
    libc = ctypes.CDLL(None)
    ways = (
        lambda: os.kill(os.getpid(), 9), lambda: signal.raise_signal(9),
        lambda: signal.alarm(1), lambda: signal.setitimer(signal.ITIMER_REAL, 0.01),
        lambda: libc.raise_(9), lambda: libc.abort(), lambda: libc.syscall(62, os.getpid(), 9),
        lambda: libc.syscall(234, os.getpid(), os.getpid(), 9), lambda: ctypes.string_at(0),
        lambda: libc.syscall(157, 1, 9),
    )
    ways[k]()
    return "alive"
"""
    with Sandbox(mode=mode, workers=2) as box:
        results = box.map([Job(tries, (("f", (k,)),)) for k in range(10)])
    assert not [result for result in results if result.no_verdict]
