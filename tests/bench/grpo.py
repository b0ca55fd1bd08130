"""What our rewards cost: GRPO steps with sandboxed rewards against the same steps with a constant reward.

    python tests/bench/grpo.py --steps 8     # profile cpu, recorded problems; the two take turns, so that a noisy machine hits both
"""
import argparse
import tempfile
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from trl import GRPOConfig, GRPOTrainer

from kit import curricula, environments, grpo, profile, records
from kit.run import RECORDED
from kit.sandbox import Sandbox


def steps(settings, plan, problems, envs, rewards, health) -> pd.DataFrame:
    numbers = settings.grpo
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, max_steps=numbers.steps, seed=0, use_cpu=True, bf16=True, per_device_train_batch_size=numbers.batch,
            gradient_accumulation_steps=numbers.group_size * numbers.prompts_per_step // numbers.batch, num_generations=numbers.group_size,
            max_completion_length=numbers.max_tokens, shuffle_dataset=False, beta=0.0, scale_rewards="none", loss_type=numbers.loss_type,
            learning_rate=1e-9, gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True)
        model, tokenizer = grpo.load_policy(numbers.policy, numbers.layers)
        GRPOTrainer(model=model, processing_class=tokenizer, args=config, callbacks=[health], reward_funcs=rewards,
                    train_dataset=grpo.dataset(plan, problems, envs)).train()
    return health.frame()


def main(count: int, policy: str, turns: int) -> None:
    settings = profile.load("cpu", {"grpo.steps": count, "grpo.policy": policy})
    problems = [p for p in records.load(RECORDED / "filtered.parquet") if p.kept and p.split == "train"]
    mixture = settings.curriculum.environments
    plan = curricula.plan(problems, "uniform", count, settings.grpo.prompts_per_step, mixture, settings.difficulty.bins, 0)
    envs, found = environments.make(settings.rounds), {"sandboxed": [], "constant": []}
    with tempfile.TemporaryDirectory() as folder, Sandbox() as box:
        for turn in range(turns):
            for name in found:
                health = grpo.Health(Path(folder, f"{name}-{turn}.jsonl"))
                ours = grpo.reward_function(problems, envs, box, health)
                rewards = ours if name == "sandboxed" else lambda completions, **_: [1.0] * len(completions)
                found[name].append(steps(settings, plan, problems, envs, rewards, health)[1:])     # the first step warms up
    table, times = Table("rewards", "steps", "seconds per step: mean", "median"), {}
    for name, frames in found.items():
        times[name] = pd.concat(frames).step_time
        table.add_row(name, str(len(times[name])), f"{times[name].mean():.2f}", f"{times[name].median():.2f}")
    Console().print(table)
    own = pd.concat(found["sandboxed"])
    print(f"sandboxed / constant = {times['sandboxed'].mean() / times['constant'].mean():.3f} (bar 1.05); of a step with ours: rollouts "
          f"{(own.rollout_time / own.step_time).mean():.1%}, rewards {(own.reward_time / own.step_time).mean():.2%}; policy {policy}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--policy", default="smollm2-135m-instruct")
    given = parser.parse_args()
    main(given.steps, given.policy, given.turns)
