"""Which learning rate does a training of profile `cpu` need? Its own problems before and after.

PYTHONPATH=. python tests/bench/learning.py runs/learning --rates 5e-6 1e-5 --seeds 0

For each seed as many recorded training problems as a `make run` keeps, whole snippets of them; then
notebooks 04 to 06 as they are. Held-out problems are only asked with --held-out, for the table of
the rate that was chosen: the choice itself does not look at them. Run again, it goes on.
"""

import argparse
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from kit.core import records
from kit.core.manifest import RECORDED


def some_problems(seed: int, count: int) -> list:
    """At least `count` kept training problems of random snippets; all that is held out."""
    kept = [p for p in records.load_problems(RECORDED / "filtered.parquet") if p.kept]
    written = [p for p in kept if p.method != "real"]
    train = [p for p in written if p.split == "train"]
    snippets = sorted({p.seed_id for p in train})
    chosen: list = []
    for snippet in random.Random(seed).sample(snippets, len(snippets)):
        if len(chosen) < count:
            chosen += [p for p in train if p.seed_id == snippet]
    return chosen + [p for p in written if p.split == "held_out"]


def train(folder: Path, rate: float, seed: int, count: int, numbers: dict, held_out: bool) -> None:
    """One training and its evaluation, as notebooks 04 to 06 do them."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = {} if held_out else {"synthetic": 0, "real": 0, "maths": 0}
    profile = folder.parent / f"{folder.name}.yaml"
    changed = {"base": "cpu", "name": folder.name, "evaluation": sets}
    profile.write_text(yaml.safe_dump(changed | numbers))
    if not (folder / "filtered.parquet").exists():
        records.save_problems(some_problems(seed, count), folder / "filtered.parquet")
    stages = [word for stage in ("04", "05", "06") for word in ("--only", stage)]
    values = ["-p", f"LEARNING_RATE={rate:.1e}", "-p", f"SEED={seed}"]
    command = [sys.executable, "-m", "kit", "run", "--profile", str(profile), "--out", str(folder)]
    subprocess.run([*command, *stages, *values], check=True)


def row_of(folder: Path, rate: float, seed: int) -> dict:
    """What one training did."""
    log = pd.read_parquet(folder / "train.parquet")
    moved = pd.read_parquet(folder / "difference.parquet").query("group == 'all'")
    form = pd.read_parquet(folder / "form.parquet").set_index("set")
    row = {"rate": f"{rate:g}", "seed": seed, "steps": len(log)}
    row["s a step"] = f"{log.step_time.median():.0f}"
    row["dead"] = f"{log.frac_reward_zero_std.mean():.0%}"
    half = len(log) // 2
    row["reward"] = f"{log.reward[:half].mean():.2f} → {log.reward[half:].mean():.2f}"
    row["entropy"] = f"{log.entropy[:3].mean():.2f} → {log.entropy[-3:].mean():.2f}"
    for name in ("training", "synthetic", "maths"):
        for r in moved[moved.set == name].itertuples():
            row[f"{name} {r.mode}"] = f"{r.value:+.2f} [{r.low:+.2f}, {r.high:+.2f}] n={r.n}"
        if name in form.index:
            f = form.loc[name]
            row[f"{name} malformed"] = f"{f.malformed_before:.0%} → {f.malformed_after:.0%}"
    return row


def main(out: Path, rates: list[float], seeds: list[int], count: int, numbers: dict, held_out):
    rows = []
    for seed in seeds:
        for rate in rates:
            folder = out / f"rate-{rate:g}-seed-{seed}"
            if not (folder / "difference.parquet").exists():
                train(folder, rate, seed, count, numbers, held_out)
            rows.append(row_of(folder, rate, seed))
            print({k: v for k, v in rows[-1].items()}, flush=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns)
    for row in rows:
        table.add_row(*(str(row.get(name, "")) for name in columns))
    Console(width=220).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rates", type=float, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--problems", type=int, default=26, help="training problems, at least")
    parser.add_argument("--numbers", type=yaml.safe_load, default={}, help="YAML over the profile")
    parser.add_argument("--held-out", action="store_true", help="evaluate held-out problems too")
    given = parser.parse_args()
    main(given.out, given.rates, given.seeds, given.problems, given.numbers, given.held_out)
