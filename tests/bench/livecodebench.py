"""How long does verifying LiveCodeBench take: 454 problems x 10 answers, about 30 tests each?

    python tests/bench/livecodebench.py

runs a sample of that shape and says what follows for all of it; about 2 minutes. The answers are
ours: 40 in 100 right, 50 wrong, 8 crash, 2 never end (an assumption; weak policies fail more, and
earlier).
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kit.benchmarks import livecodebench
from kit.sandbox import Sandbox
from tests.contest import row

PROBLEMS, ANSWERS, TESTS = 454, 10, 30
READ = "n = int(input())\nxs = list(map(int, input().split()))"
BODY = {
    "right": "print(sum(xs))",
    "wrong": "print(sum(xs) + (len(xs) > 400))",
    "crashes": "print(xs[len(xs)])",
    "never ends": "while True: pass",
}
SHARES = {"right": 40, "wrong": 50, "crashes": 8, "never ends": 2}


def main(problems: int, tokens: float, rate: float) -> None:
    rng = random.Random(0)
    inputs = [
        [rng.randrange(10**6) for _ in range(rng.choice([5, 50, 500, 5000]))] for _ in range(TESTS)
    ]
    tests = [(f"{len(xs)}\n{' '.join(map(str, xs))}", str(sum(xs))) for xs in inputs]
    with tempfile.TemporaryDirectory() as folder, Sandbox(**livecodebench.LIMITS) as box:
        path = Path(folder, "test.jsonl")
        rows = [json.dumps(row(k, "", tests)) + "\n" for k in range(problems)]
        path.write_text("".join(rows))
        counts = {}
        began = time.perf_counter()
        for task in livecodebench._read(path):
            kinds = rng.choices(list(SHARES), list(SHARES.values()), k=ANSWERS)
            answers = [
                f"```python\n# {k}\n{READ}\n{BODY[kind]}\n```" for k, kind in enumerate(kinds)
            ]
            for verdict in livecodebench.grade_contest(task, answers, box):
                counts[verdict.outcome] = counts.get(verdict.outcome, 0) + 1
        seconds = time.perf_counter() - began
    done = problems * ANSWERS
    whole = PROBLEMS * ANSWERS
    table = Table(
        "answers",
        "tests each",
        "seconds",
        "answers/s",
        f"all {whole:,}: minutes",
        "of generating and verifying",
    )
    verify = seconds * whole / done
    table.add_row(
        str(done),
        str(TESTS),
        f"{seconds:.0f}",
        f"{done / seconds:.1f}",
        f"{verify / 60:.0f}",
        f"{verify / (verify + whole * tokens / rate):.1%}",
    )
    Console().print(table)
    print(f"verdicts {counts}; assumed: {tokens:.0f} tokens an answer, {rate:.0f} tokens/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--tokens", type=float, default=1000, help="of an answer (an assumption)")
    parser.add_argument(
        "--rate",
        type=float,
        default=2000,
        help="tokens per second of the engine (an assumption; measure yours)",
    )
    given = parser.parse_args()
    main(given.problems, given.tokens, given.rate)
