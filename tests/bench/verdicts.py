"""What can the rounds of a run decide? The verdicts on F1 and F2 in runs of fewer snippets.

PYTHONPATH=. python tests/bench/verdicts.py --snippets 10 18 30 60 --draws 40

Each draw takes so many of the recorded snippets, with all their problems, and judges them as the
board does, Holm's correction included.
"""

import argparse
import random
from collections import Counter, defaultdict

import pandas as pd
from rich.console import Console
from rich.table import Table

from kit import findings, yields
from kit.arms import EMPTY
from kit.core import records
from kit.core.manifest import RECORDED

CLAIMS = ("F1a", "F1b", "F2")


def main(sizes: list[int], draws: int) -> None:
    by_snippet = defaultdict(list)
    for problem in records.load_problems(RECORDED / "filtered.parquet"):
        if problem.method in ("multi", "single"):
            by_snippet[problem.seed_id].append(problem)
    untrained = {name: pd.DataFrame(columns=columns) for name, columns in EMPTY.items()}

    table = Table("snippets", *CLAIMS, title=f"verdicts of {draws} draws")
    for size in sizes:
        found = {claim: Counter() for claim in CLAIMS}
        for draw in range(draws):
            some = random.Random(draw).sample(sorted(by_snippet), size)
            problems = [problem for name in some for problem in by_snippet[name]]
            tables = findings.round_tables(yields.yield_table(problems), problems)
            board = findings.board({**untrained, **tables}).drop_duplicates("claim")
            verdicts = board.set_index("claim").verdict
            for claim, counts in found.items():
                counts[verdicts[claim]] += 1
        told = (", ".join(f"{k} {n}" for k, n in c.most_common()) for c in found.values())
        table.add_row(f"{size} of {len(by_snippet)}", *told)
    Console(width=140).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--snippets", type=int, nargs="+", default=[10, 18, 30, 60])
    parser.add_argument("--draws", type=int, default=40)
    given = parser.parse_args()
    main(given.snippets, given.draws)
