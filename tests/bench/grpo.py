"""What our rewards cost: GRPO steps with sandboxed rewards against steps with a constant reward.

python tests/bench/grpo.py --pairs 10     # profile cpu, recorded problems

Both have the same prompts and take turns, so that a noisy machine hits both.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from plans import turns
from rich.console import Console
from rich.table import Table

from kit import environments, grpo
from kit.commands.runner import QUIET_MALLOC
from kit.core import profile
from kit.sandbox import Sandbox

if not QUIET_MALLOC.items() <= os.environ.items():  # glibc reads them when a process starts
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | QUIET_MALLOC)

from trl import GRPOConfig, GRPOTrainer  # noqa: E402


def main(pairs: int, policy: str) -> None:
    settings = profile.load_profile("cpu", {"grpo.policy": policy})
    numbers, envs = settings.grpo, environments.make(settings.rounds)
    problems, twice = turns(settings, pairs)
    with tempfile.TemporaryDirectory() as folder, Sandbox() as box:
        health = grpo.Health(Path(folder, "train.jsonl"))
        ours = grpo.reward_function(problems, envs, box, health)
        calls = iter(range(10**6))

        def in_turn(completions, **rest):
            return (
                ours(completions=completions, **rest)
                if next(calls) % 2
                else [1.0] * len(completions)
            )

        config = GRPOConfig(
            output_dir=folder,
            max_steps=2 * (pairs + 1),
            seed=0,
            use_cpu=True,
            bf16=True,
            per_device_train_batch_size=numbers.batch,
            gradient_accumulation_steps=numbers.group_size
            * numbers.prompts_per_step
            // numbers.batch,
            num_generations=numbers.group_size,
            max_completion_length=numbers.max_tokens,
            shuffle_dataset=False,
            beta=0.0,
            scale_rewards="none",
            loss_type=numbers.loss_type,
            learning_rate=1e-9,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        model, tokenizer = grpo.load_policy(numbers.policy, numbers.layers)
        GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            args=config,
            callbacks=[health],
            reward_funcs=in_turn,
            train_dataset=grpo.training_dataset(twice, problems, envs),
        ).train()
        steps = grpo.read_log(health.path)[2:]  # the first pair warms up
    constant, sandboxed = (steps[k::2].reset_index(drop=True) for k in (0, 1))
    table = Table("rewards", "steps", "seconds per step: mean", "median")
    for name, frame in (("constant", constant), ("sandboxed", sandboxed)):
        table.add_row(
            name,
            str(len(frame)),
            f"{frame.step_time.mean():.2f}",
            f"{frame.step_time.median():.2f}",
        )
    Console().print(table)
    ratio = (sandboxed.step_time / constant.step_time).median()
    rollouts = (sandboxed.rollout_time / sandboxed.step_time).mean()
    rewards = (sandboxed.reward_time / sandboxed.step_time).mean()
    print(
        f"sandboxed / constant, median over {pairs} pairs: {ratio:.3f} (bar 1.05); of a sandboxed "
        f"step: rollouts {rollouts:.1%}, rewards {rewards:.2%}; policy {policy}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--policy", default="smollm2-135m-instruct")
    given = parser.parse_args()
    main(given.pairs, given.policy)
