"""What sharding gains and what it costs.

Problems per second at 1 and 2 workers over the recorded answers, and what the paper's size would
need.

python tests/bench/shards.py               # about 5 minutes of two quiet cores
python tests/bench/shards.py --train 4     # a few seeds only: does it work?
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from kit.commands import cost
from kit.core import profile, records
from kit.core.manifest import RECORDED, ROOT

ATTEMPTS = 20_000 * 6 * 32  # paper: problems x turns x attempts
PROFILE = {"base": "cpu", "rounds": {"stones": 28}}  # as recorded


def measure(folder: Path, seeds: pd.DataFrame, cores: set[int], workers: int) -> dict:
    """The whole command in its own process, which has these cores only.

    The rounds' own seconds are the slowest task's. A chain's first problem, which the baseline
    shares, counts once.
    """
    records.write_parquet(seeds, folder / "seeds.parquet")
    (folder / "bench.yaml").write_text(yaml.safe_dump(PROFILE))
    command = [
        sys.executable,
        "-m",
        "kit",
        "scale",
        "--profile",
        str(folder / "bench.yaml"),
        "--out",
        str(folder),
        "--replay",
        "--tasks",
        str(workers),
        "--workers",
        str(workers),
    ]
    began = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    notes = [json.loads(path.read_text()) for path in folder.glob("shards/rounds/*/shard.json")]
    problems = [
        p
        for path in folder.glob("shards/rounds/*/problems.parquet")
        for p in records.load_problems(path)
        if (p.method, p.turn) != ("single", 1)
    ]
    return {
        "workers": workers,
        "cores": len(cores),
        "problems": len(problems),
        "attempts": sum(p.n for p in problems),
        "rounds": max(n["seconds"] for n in notes),
        "command": time.perf_counter() - began,
    }


def main(train: int, repeats: int) -> None:
    table = pd.read_parquet(RECORDED / "seeds.parquet")
    if train:
        table = table[table.id.isin(table[~table.as_is & (table.split == "train")].id[:train])]
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("two cores are needed")
    cases = {"1 on 1": (1, set(cores[:1])), "2 on 2": (2, set(cores)), "1 on 2": (1, set(cores))}
    rows = []
    for _ in range(repeats):  # in turns, so that a busy minute hits all of them
        for name, (workers, given_cores) in cases.items():
            with tempfile.TemporaryDirectory() as folder:
                measured = measure(Path(folder), table, given_cores, workers)
                rows.append({"case": name, **measured})
    found = pd.DataFrame(rows).groupby("case", sort=False).median()
    found["rate"] = found.problems / found.rounds
    single = found.rate["1 on 1"]
    shown = Table(
        "workers on cores",
        "problems",
        "attempts",
        "s",
        "with start",
        "problems/s",
        "attempts/s",
        "efficiency",
        title=f"{len(table)} recorded seeds, median of {repeats}",
    )
    for name, x in found.iterrows():
        shown.add_row(
            name,
            f"{x.problems:.0f}",
            f"{x.attempts:.0f}",
            f"{x.rounds:.1f}",
            f"{x.command:.1f}",
            f"{x.rate:.2f}",
            f"{x.attempts / x.rounds:.1f}",
            f"{x.rate / single / x.cores:.2f}",
        )
    Console(width=120).print(shown)
    one = found.loc["1 on 1"]
    cpu = ATTEMPTS / (one.attempts / one.rounds) / 3600
    paper = cost.cost_by_stage(profile.load_profile("paper"), cost.DEVICES["80gb"]).set_index(
        "stage"
    )
    teacher, student = (
        paper.hours[k] / paper.requests[k] * n
        for k, n in (("teacher", ATTEMPTS / 32), ("student", ATTEMPTS))
    )
    with_two = cpu * found.rate["1 on 1"] * 2 / found.rate["2 on 2"] / 64
    gpu_days = (teacher + student) / 8 / 24
    needed = cpu / ((teacher + student) / 8)
    print(f"""
{ATTEMPTS:,} attempts (20,000 problems x 6 turns x 32):
  measured   {one.attempts / one.rounds:.1f} attempts/s of one core for everything but the models:
             prompts, two verifications of each problem, grading, records
  projected  {cpu:,.0f} core hours of that kind, {cpu / 64:,.1f} hours on 64 cores, if 32 attempts
             at a problem cost what 4 times 8 cost here and the teacher's programs run no longer;
             {with_two:,.1f} hours at the efficiency measured with two
  assumed    {teacher:,.0f} + {student:,.0f} GPU hours (H100) of teacher and student by
             kit/commands/cost.py, whose shares of the peak nobody has measured; on 8 GPUs
             {gpu_days:,.1f} days, in which the rounds need {needed:,.2f} cores to
             keep up with them""")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--train", type=int, default=0, help="only the first N seeds of the training split"
    )
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    main(given.train, given.repeats)
