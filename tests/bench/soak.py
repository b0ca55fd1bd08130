"""A million programs, honest and hostile: do results stay right, and memory and speed the same?

python tests/bench/soak.py                  # about half an hour on two cores; -n 20000: a short one
"""

import argparse
import contextlib
import json
import random
import time
from concurrent.futures import FIRST_COMPLETED, as_completed, wait

import psutil
from tqdm import tqdm

from kit.sandbox import Job, Sandbox, same

# share, program, expected status, expected value of a call with x
MIX = {
    "honest": (
        0.90,
        "def f(x): return sorted(str(x)), x * x",
        "ok",
        lambda x: (sorted(str(x)), x * x),
    ),
    "raises": (0.0395, "def f(x): return [][x]", "ok", None),
    "crashing": (0.02, "import ctypes\ndef f(x): return ctypes.string_at(0)", "signal", None),
    "flooding": (0.01, "def f(x): return 'x' * 3_000_000", "overflow", None),
    "exiting": (0.02, "import os\ndef f(x): os._exit(0)", "exit", None),
    "forking": (0.005, "import os\ndef f(x): os.fork()", "ok", None),
    "threads": (
        0.005,
        "import threading\ndef f(x):\n    threading.Thread(target=print, daemon=True).start()\n   "
        " return x",
        "ok",
        lambda x: x,
    ),
    "looping": (0.0005, "def f(x):\n    while True: pass", "timeout", None),
}


def jobs(count: int, seed: int):
    """(kind, x, job) for each of `count` programs."""
    draw = random.Random(seed)
    kinds, shares = list(MIX), [share for share, *_ in MIX.values()]
    for x in range(count):
        (kind,) = draw.choices(kinds, shares)
        yield kind, x, Job(MIX[kind][1], (("f", (x,)),))


def fed(box: Sandbox, sent):
    """(kind, x, result) as programs end; only a few more than can run wait in the pool."""
    waiting = {}
    for kind, x, job in sent:
        waiting[box.submit(job)] = kind, x
        if len(waiting) == 4 * box._workers:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield *waiting.pop(future), future.result()
    for future in as_completed(waiting):
        yield *waiting[future], future.result()


def wrong(kind: str, x: int, result) -> bool:
    _, _, status, value = MIX[kind]
    return result.status != status or value is not None and not same(result.returned(), [value(x)])


def memory(box: Sandbox) -> tuple[float, float]:
    """MB of this process, and of the workers without the programs of the moment."""
    total = 0
    for worker in list(box._live):
        for process in psutil.Process(worker.process.pid).children(recursive=True)[:2]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
    return psutil.Process().memory_info().rss / 1e6, total / 1e6


def soak(count: int, seed: int = 0, mode: str | None = None) -> dict:
    """Runs them and returns the figures, with one row per tenth."""
    rows, bad = [], []
    with Sandbox(timeout=0.2, mode=mode) as box:
        began = last = time.monotonic()
        for number, (kind, x, result) in enumerate(
            tqdm(fed(box, jobs(count, seed)), total=count, mininterval=5, unit="program"), 1
        ):
            if wrong(kind, x, result):
                bad.append((kind, result.status, result.detail))
            if number % max(1, count // 10) == 0:
                now = time.monotonic()
                host, workers = memory(box)
                rows.append(
                    {
                        "programs": number,
                        "per_second": round(count / 10 / (now - last)),
                        "host_mb": round(host),
                        "workers_mb": round(workers),
                    }
                )
                last = now
        known_pids = [
            p.pid
            for w in box._live
            for p in (
                psutil.Process(w.process.pid),
                *psutil.Process(w.process.pid).children(recursive=True),
            )
        ]
        figures = {
            "programs": count,
            "mode": box.mode,
            "workers": box._workers,
            "minutes": round((time.monotonic() - began) / 60, 1),
            "counts": dict(box.counts),
            "wrong": len(bad),
            "examples": bad[:5],
            "sandbox_error": box.counts["sandbox_error"],
            "tenths": rows,
        }
    deadline = time.monotonic() + 10
    # The kernel ends a box in its own time.
    while any(map(psutil.pid_exists, known_pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    figures["survivors"] = sum(map(psutil.pid_exists, known_pids))
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=1_000_000)
    parser.add_argument("--mode")
    asked = parser.parse_args()
    print(json.dumps(soak(asked.n, mode=asked.mode), indent=1))
