"""GRPO with sandboxed rewards: what notebook 05 hands to TRL. The trainer itself is TRL's, called in the notebook.

The advantage of a rollout is its reward less the mean of its group, not divided by the standard deviation, without a KL term
(paper). A reward is 1, 0, or None where our own infrastructure failed: TRL leaves those out of the group.
"""
import math
import time
from pathlib import Path

import datasets
import pandas as pd
from tqdm.auto import tqdm
from transformers import TrainerCallback

from kit import models
from kit.environments import Environment, grade_all
from kit.records import Log, Problem
from kit.sandbox import Sandbox

COLUMNS = {"reward": "reward", "reward_std": "reward_std", "entropy": "entropy", "frac_reward_zero_std": "frac_reward_zero_std",
           "sandbox_error_share": "sandbox_error_share", "completions/mean_length": "completion_length",
           "completions/clipped_ratio": "cut_off_share", "clip_ratio/region_mean": "clip_ratio", "loss": "loss", "grad_norm": "grad_norm",
           "learning_rate": "learning_rate", "step_time": "step_time", "reward_time": "reward_time"}


def advantages(rewards: list[float | None]) -> list[float]:
    """Rewards of one group -> advantages (paper: reward minus group mean, no division). None gets 0 and is not averaged."""
    known = [r for r in rewards if r is not None]
    mean = sum(known) / len(known) if known else 0.0
    return [0.0 if r is None else r - mean for r in rewards]


def dataset(plan: pd.DataFrame, problems: list[Problem], envs: dict[str, Environment]) -> datasets.Dataset:
    """A curriculum's plan (one row per prompt, in order) -> what TRL reads with `shuffle_dataset=False`."""
    known = {p.id: p for p in problems}
    rows = [{"prompt": envs[row.environment].solve_prompt(known[row.problem_id]), "problem_id": row.problem_id, "environment": row.environment,
             "bin": row.bin} for row in plan.itertuples()]
    return datasets.Dataset.from_list(rows)


def reward_function(problems: list[Problem], envs: dict[str, Environment], box: Sandbox):
    """TRL's reward function: completions of any mixture of environments -> list of 1.0, 0.0 or None, in order."""
    known = {p.id: p for p in problems}

    def verified(prompts, completions, problem_id, environment, log_metric=None, **_) -> list[float | None]:
        began = time.monotonic()
        verdicts = grade_all([(envs[e], known[i], c[0]["content"]) for c, i, e in zip(completions, problem_id, environment, strict=True)], box)
        rewards = [v.reward for v in verdicts]
        if log_metric:
            log_metric("reward_time", time.monotonic() - began)
            log_metric("sandbox_error_share", rewards.count(None) / len(rewards))
            for name in sorted(set(environment)):
                some = [r for r, e in zip(rewards, environment) if e == name and r is not None]
                if some:
                    log_metric(f"solved/{name}", sum(some) / len(some))
        return rewards
    return verified


class Health(TrainerCallback):
    """Writes one line per step to `train.jsonl` and shows progress; steps that a resumed run repeats replace the old lines."""

    def __init__(self, path: Path):
        self.log = Log(path)
        self.bar: tqdm | None = None

    def on_train_begin(self, args, state, control, **_):
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="GRPO steps")

    def on_log(self, args, state, control, logs=None, **_):
        if not logs or "reward" not in logs:
            return
        row = {"step": state.global_step} | {ours: logs[theirs] for theirs, ours in COLUMNS.items() if theirs in logs}
        row |= {k: v for k, v in logs.items() if k.startswith("solved/")}
        self.log.append({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
        self.bar.set_postfix(reward=f"{logs['reward']:.2f}", refresh=False)
        self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args, state, control, **_):
        self.bar.close()
        self.log.close()

    def frame(self) -> pd.DataFrame:
        """One row per step, in order."""
        return read_log(self.log.path)


def read_log(path: Path) -> pd.DataFrame:
    rows = pd.DataFrame(list(Log(path)))
    return rows.drop_duplicates("step", keep="last").sort_values("step", ignore_index=True) if len(rows) else rows


def load_policy(name: str):
    """(model, tokenizer) of a policy, in float32 for training: half precision loses small updates. Raises models.ModelUnavailable.

    The token embeddings are frozen (our choice): a third of a 0.5B model's weights, hardly moved by RL, dear in memory and time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    path = models.path(name)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model.get_input_embeddings().weight.requires_grad_(False)
    return model, AutoTokenizer.from_pretrained(path)


def checkpoint(folder: Path) -> str | None:
    """The last complete checkpoint of an interrupted training, or None. Its state file is written last: without it, it is torn."""
    whole = [path.parent for path in Path(folder).glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None


def save_policy(trainer, folder: Path) -> None:
    """The trained policy in bfloat16, ready for an engine; written whole or not at all."""
    import os
    import shutil

    import torch
    part = Path(f"{folder}.part")
    shutil.rmtree(part, ignore_errors=True)
    trainer.model.to(torch.bfloat16).save_pretrained(part)
    trainer.processing_class.save_pretrained(part)
    os.replace(part, folder)
