"""What a prompt computed once per group saves: our steps against TRL's own, by part of the step.

python tests/bench/prefix.py --groups 4 8 --pairs 5     # profile cpu, recorded problems

One training per group size, in which the two take turns on the same prompts and random numbers,
so that a noisy machine hits both. The update is the loss forward and backward.
"""

import argparse
import os
import sys
import tempfile
import time

import pandas as pd
import torch
from plans import turns
from rich.console import Console
from rich.table import Table
from transformers import TrainerCallback

from kit import environments, grpo, prefix
from kit.commands.runner import QUIET_MALLOC
from kit.core import profile

if not QUIET_MALLOC.items() <= os.environ.items():  # glibc reads them when a process starts
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | QUIET_MALLOC)

from trl import GRPOConfig, GRPOTrainer  # noqa: E402


class Clock(TrainerCallback):
    """Switches between the two ways at each step, and takes the time of the step's parts."""

    trainer = None

    def __init__(self):
        self.rows, self.tokens = [], 0

    def on_step_begin(self, args, state, control, **_):
        self.trainer.shares = bool(state.global_step % 2)
        torch.manual_seed(state.global_step // 2)
        self.times = [time.monotonic()]

    def reward(self, completions, completion_ids, **_):
        """A reward at no cost: the first answer of two is right."""
        self.times.append(time.monotonic())
        self.tokens = sum(map(len, completion_ids))
        return [float(k % 2 == 0) for k in range(len(completions))]

    def on_pre_optimizer_step(self, *_, **__):
        self.times.append(time.monotonic())

    def on_optimizer_step(self, args, state, control, **_):
        began, drawn, updated, ended = *self.times, time.monotonic()
        self.rows.append(
            {
                "way": "once per group" if self.trainer.shares else "TRL's own",
                "pair": state.global_step // 2,
                "rollouts": drawn - began,
                "update": updated - drawn,
                "optimizer": ended - updated,
                "step": ended - began,
                "tokens": self.tokens,
            }
        )
        print({k: v if isinstance(v, str) else round(v, 2) for k, v in self.rows[-1].items()})


def take_turns(group: int, pairs: int) -> pd.DataFrame:
    """One training: a row per step, seconds of its parts."""
    settings = profile.load_profile("cpu")
    numbers, envs = settings.grpo, environments.make(settings.rounds)
    problems, twice = turns(settings, pairs)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            max_steps=2 * (pairs + 1),
            seed=0,
            use_cpu=True,
            bf16=numbers.bf16,
            per_device_train_batch_size=group,
            gradient_accumulation_steps=numbers.prompts_per_step,
            num_generations=group,
            max_completion_length=numbers.max_tokens,
            shuffle_dataset=False,
            beta=0.0,
            scale_rewards="none",
            loss_type=numbers.loss_type,
            learning_rate=1e-9,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        model, tokenizer = grpo.load_policy(
            numbers.policy, numbers.layers, numbers.embeddings, numbers.bf16
        )
        clock.trainer = prefix.shared(GRPOTrainer)(
            model=model,
            processing_class=tokenizer,
            args=config,
            callbacks=[clock],
            reward_funcs=clock.reward,
            train_dataset=grpo.training_dataset(twice, problems, envs),
        )
        clock.trainer.train()
    rows = pd.DataFrame(clock.rows)
    return rows[rows.pair > 0].assign(group=group)  # the first pair warms up


def main(groups: list[int], pairs: int) -> None:
    for group in groups:
        rows = take_turns(group, pairs)
        table = Table(f"group {group}", "way", "min", "median", "median of the pairs' ratios")
        for part in ("rollouts", "update", "optimizer", "step"):
            times = rows.pivot(index="pair", columns="way", values=part)
            ratio = (times["TRL's own"] / times["once per group"]).median()
            for way in ("TRL's own", "once per group"):
                last = f"{ratio:.2f} x" if way == "once per group" else ""
                least, middle = f"{times[way].min():.2f}", f"{times[way].median():.2f}"
                table.add_row(part, way, least, middle, last)
        Console().print(table)
        print("tokens of answers per step:", rows.groupby("way").tokens.mean().round(1).to_dict())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    main(given.groups, given.pairs)
