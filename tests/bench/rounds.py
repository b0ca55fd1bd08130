"""Is the engine what the rounds wait for, and does memory stay flat?

    python tests/bench/rounds.py engine --seeds 24     # real models: the rounds, then the same prompts alone; about 15 minutes
    python tests/bench/rounds.py replay --seeds 10000  # recorded answers: problems per second and memory; about 20 minutes
"""
import argparse
import re
import resource
import tempfile
import time
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from kit import profile, seeds
from kit.engine import VLLM, Replay
from kit.rounds import Rounds
from kit.run import RECORDED
from kit.sandbox import Sandbox


class Noting(VLLM):
    """Remembers what it was asked."""

    def start(self):
        super().start()
        self.asked = getattr(self, "asked", [])

    def submit(self, messages, n=1, key="", sampling=None):
        self.asked.append((messages, n, key))
        return super().submit(messages, n, key, sampling)


def engine(count: int) -> None:
    """Tokens per second of the rounds stage against the same two engines given the same prompts all at once."""
    settings = profile.load("cpu", {"seeds.wild": count // 2, "seeds.real": count - count // 2})
    table = Table("what", "teacher tokens", "student tokens", "seconds", "tokens/s")
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        asked = None
        for what in ("the rounds", "the same prompts, nothing else"):
            with Noting(settings.teacher, stderr=Path(folder, "t.log")) as teacher, Noting(settings.student, stderr=Path(folder, "s.log")) as student:
                teacher.start()
                student.start()
                began = time.perf_counter()
                if asked is None:
                    with Sandbox() as box, Sandbox(hash_seed=1) as other:
                        Rounds(settings, teacher, student, box, other, Path(folder, "problems.jsonl")).generate(seeds.sample(settings))
                    asked = teacher.asked, student.asked
                else:
                    futures = [role.submit(*each) for role, mine in zip((teacher, student), asked) for each in mine]
                    for future in futures:
                        future.result()
                seconds = time.perf_counter() - began
            tokens = teacher.counts["tokens"], student.counts["tokens"]
            rates.append(sum(tokens) / seconds)
            table.add_row(what, *(f"{t:,}" for t in tokens), f"{seconds:.0f}", f"{rates[-1]:.1f}")
    Console().print(table)
    print(f"rounds / engine alone = {rates[0] / rates[1]:.2f}, bar >= 0.90 ({count} seeds, {settings.rounds.turns} turns)")


class Copies(Replay):
    """Answers a copy of a recorded seed, `id~17`, as the recorded one."""

    def submit(self, messages, n=1, key="", sampling=None):
        return super().submit(messages, n, re.sub(r"~\d+", "", key), sampling)


def replay(count: int) -> None:
    """The recorded seeds over and over, each copy with an id of its own, verified and graded in the real sandbox."""
    settings = profile.load("cpu", {"rounds.stones": 0})
    recorded, each = seeds.from_frame(pd.read_parquet(RECORDED / "seeds.parquet")), len(settings.rounds.environments)
    splits = [[s for s in recorded if s.split == split and not s.as_is] for split in ("train", "held_out")]
    # Of each split a multiple of the environments, so that every copy serves the environment that the recorded one served.
    recorded = [s for mine in splits for s in mine[:len(mine) // each * each]]
    copies = [s.model_copy(update={"id": f"{s.id}~{k}"}) for k in range(-(-count // len(recorded))) for s in recorded]
    table = Table("seeds", "problems", "seconds", "problems/s", "peak memory of this process, MB")
    for part in (count // 10, count):
        with tempfile.TemporaryDirectory() as folder, Sandbox() as box, Sandbox(hash_seed=1) as other:
            teacher, student = (Copies(role, name=role.model, recording=RECORDED / "completions.parquet") for role in (settings.teacher, settings.student))
            began = time.perf_counter()
            problems = sum(1 for _ in Rounds(settings, teacher, student, box, other, Path(folder, "p.jsonl")).generate(copies[:part]))
            seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        table.add_row(f"{part:,}", f"{problems:,}", f"{seconds:.0f}", f"{problems / seconds:.1f}", f"{peak:.0f}")
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["engine", "replay"])
    parser.add_argument("--seeds", type=int, required=True)
    given = parser.parse_args()
    {"engine": engine, "replay": replay}[given.what](given.seeds)
