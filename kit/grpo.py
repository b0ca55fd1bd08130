"""GRPO with sandboxed rewards: what notebook 05 hands to TRL. The notebook calls TRL's own trainer.

The advantage of a rollout is its reward minus the mean of its group, without a division by the
standard deviation and without a KL term (paper). A reward is 1, 0, or None where our own
infrastructure failed: TRL leaves those out of the group.
"""

import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import torch
import transformers
from IPython.display import display
from pydantic import BaseModel
from trl import import_utils

from kit.core.records import Log
from kit.core.run import headless
from kit.core.tells import Watch, progress
from kit.core.types import Count, Problem
from kit.environments.base import Environment, grade_all
from kit.rollouts import rollout_rows
from kit.sandbox import Sandbox
from kit.serving import models
from kit.serving.weights import ModelUnavailable

# TRL's names of what is logged of a step: most are kept, three become other columns.
_KEPT = (
    "reward reward_std entropy frac_reward_zero_std sandbox_error_share loss grad_norm "
    "learning_rate step_time rollout_time reward_time"
).split()

LOG_COLUMNS = dict(zip(_KEPT, _KEPT)) | {
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "cut_off_share",
    "clip_ratio/region_mean": "clip_ratio",
}


def quiet_vllm() -> None:
    """Let vLLM report errors only; without a GPU, TRL leaves it out. Call it before importing TRL.

    Source: our choice.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    # vLLM logs its first lines before it has read that variable.
    logging.getLogger("vllm").setLevel(logging.ERROR)
    # TRL imports vLLM wherever it is installed: without a GPU, seconds for nothing.
    if not torch.cuda.is_available():
        import_utils.is_vllm_available = lambda *_, **__: False


def advantages(rewards: list[float | None]) -> list[float]:
    """The advantages of one group: each reward minus the group's mean, without a division.

    Args:
        rewards: of the rollouts of one prompt: 1, 0, or None for an error of ours.
    Returns:
        One advantage per rollout, in order. None gets 0 and does not count for the mean.
    Source: paper, RL (the advantage); what None becomes is our choice.
    """
    known = pd.Series(rewards, dtype=float)
    return (known - known.mean()).fillna(0.0).tolist()


def training_dataset(plan: pd.DataFrame, problems: Iterable[Problem], envs: dict[str, Environment]):
    """A curriculum's plan as the data set that TRL reads in order with `shuffle_dataset=False`.

    Args:
        plan: one row per prompt, in order: columns `problem_id`, `environment`, `bin` and others.
        problems, envs: at least those that the plan names; the environments by name.
    Returns:
        One row per prompt: columns `prompt` (messages), `problem_id`, `environment`, `bin`, and
        `slot` (the group's place in its step) if the plan has it.
    Source: our choice.
    """
    known = {problem.id: problem for problem in problems}
    prompts = [
        envs[name].solve_prompt(known[i]) for name, i in zip(plan.environment, plan.problem_id)
    ]
    columns = plan.filter(["problem_id", "environment", "bin", "slot"]).to_dict("list")
    return datasets.Dataset.from_dict({"prompt": prompts, **columns})


def reward_function(
    problems: Iterable[Problem],
    envs: dict[str, Environment],
    box: Sandbox,
    health: "Health | None" = None,
) -> Callable:
    """TRL's reward function, for completions of any mixture of environments.

    It also logs, per step: `solved/<name>` of each environment and bin (share of its rollouts),
    `sandbox_error_share`, and `reward_time` (seconds).

    Args:
        problems, envs: at least those of the data set; the environments by name.
        box: where programs run.
        health: keeps every answer, see `rollouts.read_rollouts`, and has the clock of the step:
            with it `rollout_time` (seconds) is logged too.
    Returns:
        A function of TRL's columns that gives 1.0, 0.0 or None per completion, in order.
    Source: paper, the four environments (binary rewards); what is logged is our choice.
    """
    known = {problem.id: problem for problem in problems}

    def verified(prompts, completions, problem_id, environment, bin, log_metric=None, **more):
        began = time.monotonic()
        triples = [
            (envs[name], known[i], completion[0]["content"])
            for name, i, completion in zip(environment, problem_id, completions, strict=True)
        ]
        verdicts = grade_all(triples, box)
        rewards = [verdict.reward for verdict in verdicts]
        if health:
            health.keep(rollout_rows(triples, verdicts, bin, more, health.ends))
        if not log_metric:
            return rewards
        # Where the time of the step went, and what our infrastructure lost.
        log_metric("reward_time", time.monotonic() - began)
        log_metric("sandbox_error_share", rewards.count(None) / len(rewards))
        if health:
            log_metric("rollout_time", began - health.step_began)
        # Solve rates without the lost rollouts.
        solved = pd.Series(rewards, dtype=float)
        for names in (environment, bin):
            for name, rate in solved.groupby(names).mean().dropna().items():
                log_metric(f"solved/{name}", rate)
        return rewards

    return verified


class Health(transformers.TrainerCallback):
    """Follows a training: a line per step in a file, a progress bar, in a notebook also a figure.

    Beside that file stands `rollouts.jsonl`, with a line per step that holds all answers. A resumed
    run repeats steps: only its lines count then.

    Args:
        path: of the log; `read_log` reads it.
        switches: steps at which the curriculum changes.
        panel: `panel(log, switches)` draws the figure, from what `read_log` gives. None: no figure.
    Source: our choice.
    """

    # Only the first of several processes has logs and a bar.
    log: Log | None = None
    rollouts: Log | None = None
    bar: Any = None
    picture: Any = None
    step_began = math.nan
    # Tokens that end an answer.
    ends: frozenset[int] = frozenset()

    def __init__(self, path: Path, switches: Iterable[float] = (), panel: Callable | None = None):
        self.path = path
        self.switches = tuple(switches)
        self.panel = panel
        self.watch = Watch()

    def on_step_begin(self, *_, **__):
        self.step_began = time.monotonic()

    def on_train_begin(self, args, state, control, processing_class, **_):
        # A vLLM in this process draws from the same stream, and has seeded it itself as it began.
        if args.use_vllm:
            transformers.set_seed(args.seed + args.process_index)
        self.ends = frozenset(processing_class.all_special_ids)
        if state.is_world_process_zero:
            self.log = Log(self.path)
            self.rollouts = Log(self.path.with_name("rollouts.jsonl"))
            self.bar = progress(total=state.max_steps, initial=state.global_step, desc="GRPO steps")

    def keep(self, rows: list[dict]) -> None:
        """Write down the answers of a step, see `rollouts.rollout_rows`: a line for all of them."""
        if self.rollouts:
            self.rollouts.append({"step": rows[0]["step"], "rollouts": rows})
            self.watch.step(rows)

    def on_log(self, args, state, control, logs, **_):
        if not self.log or "reward" not in logs:
            return
        # One line: the columns that TRL gave, then the solve rates. JSON has no NaN.
        columns = LOG_COLUMNS | {name: name for name in logs if name.startswith("solved/")}
        values = {
            column: None if pd.isna(logs[name]) else logs[name]
            for name, column in columns.items()
            if name in logs
        }
        self.log.append({"step": state.global_step} | values)
        # A person sees the bar move at each step, the figure some 40 times.
        self.bar.set_postfix(reward=f"{logs['reward']:.2f}", refresh=False)
        self.bar.update(state.global_step - self.bar.n)
        if state.global_step % math.ceil(state.max_steps / 40) == 0:
            self._draw()

    def _draw(self):
        if not self.panel or headless():
            return
        from matplotlib import pyplot

        figure = self.panel(read_log(self.path), self.switches)
        if self.picture:
            self.picture.update(figure)
        else:
            self.picture = display(figure, display_id=True)
        # The notebook would show an open figure once more.
        pyplot.close(figure)

    def on_train_end(self, *_, **__):
        # The notebook draws the finished figure itself.
        if self.picture:
            self.picture.update("")
        if self.log and self.rollouts:
            self.bar.close()
            self.log.close()
            self.rollouts.close()


class _Step(BaseModel, extra="allow"):
    """A line of the log: the step, and numbers."""

    __pydantic_extra__: dict[str, float | None]
    step: Count


def read_log(path: Path) -> pd.DataFrame:
    """The log of a training.

    Args:
        path: of the file that `Health` wrote.
    Returns:
        One row per step, in order; of a step done twice the later row. Columns `step` (from 1),
        the values of LOG_COLUMNS and `solved/<environment or bin>`, as far as they were logged:
        shares from 0 to 1, times in seconds, lengths in tokens.
    Raises:
        RecordError: a line of the file does not hold a step.
    Source: our choice.
    """
    rows = {row["step"]: row for row in Log(path, _Step)}
    return pd.DataFrame([rows[step] for step in sorted(rows)])


def tokenizer(name: str):
    """The tokenizer of a policy.

    Raises weights.ModelUnavailable, also for a policy that cannot be asked in messages.
    """
    found = transformers.AutoTokenizer.from_pretrained(models.model_path(name))
    if not found.chat_template:
        raise ModelUnavailable(
            f"{name} has no chat template, so it cannot be asked in messages: "
            "take an instruct model as grpo.policy"
        )
    return found


def load_policy(name: str, layers: int | None = None, embeddings: bool = False, bf16: bool = True):
    """A policy that is ready to be trained. What is trained is in float32: it sums small updates.

    Args:
        name: of the model.
        layers: train only so many of the last layers; None: all of them.
        embeddings: train the embeddings of tokens too. They are a third of a 0.5B model: RL hardly
            moves them, and they cost memory and time.
        bf16: whether frozen weights are in bfloat16, and a CPU computes in it.
    Returns:
        The model and its tokenizer.
    Raises:
        ModelUnavailable: the model is not here, or cannot be asked in messages.
    Source: our choice.
    """
    quiet_vllm()
    # More threads wait for one another: a step of the small policy took 0.3 s with two quiet cores,
    # 0.4 s with one (tests/bench/mini_step.py).
    if name in models.SMALL_POLICIES:
        torch.set_num_threads(min(2, torch.get_num_threads()))
    words = tokenizer(name)
    # The library would report every special token that it takes from the tokenizer.
    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        models.model_path(name), dtype=torch.float32
    )
    model.generation_config.eos_token_id = models.answer_ends(
        words, model.generation_config.eos_token_id
    )
    # Freeze the first layers and the embeddings.
    frozen = [*model.get_decoder().layers[:-layers]] if layers else []
    if not embeddings:
        frozen.append(model.get_input_embeddings())
    for part in frozen:
        part.to(torch.bfloat16 if bf16 else torch.float32).requires_grad_(False)
    # On a CPU autocast turns the weights into half precision at each token; inside an outer
    # autocast once per rollout. The copies end with the outer one: no update leaves stale ones.
    if bf16 and not torch.cuda.is_available():
        model.generate = torch.autocast("cpu", torch.bfloat16)(model.generate)
    return model, words


def last_checkpoint(folder: Path) -> str | None:
    """The last complete checkpoint of an interrupted training.

    Args:
        folder: holds `checkpoint-<step>` folders, or does not exist.
    Returns:
        The path of that checkpoint; None if there is none.
    Source: our choice.
    """
    # The state is written last: a checkpoint without it is torn.
    states = folder.glob("checkpoint-*/trainer_state.json")
    whole = (state for state in states if state.stat().st_size)
    last = max(whole, key=lambda state: int(state.parent.name.split("-")[1]), default=None)
    return str(last.parent) if last else None


def save_policy(trainer, folder: Path) -> None:
    """Write the trained policy in bfloat16, ready for an engine: whole or not at all.

    All processes of a training must call it; only the first one writes.

    Args:
        trainer: TRL's, after the training.
        folder: where the policy goes.
    Source: our choice.
    """
    accelerator = trainer.accelerator
    # Sharded weights come together from all processes.
    weights = accelerator.get_state_dict(trainer.model_wrapped)
    if not accelerator.is_main_process:
        return
    part = Path(f"{folder}.part")
    shutil.rmtree(part, ignore_errors=True)
    model = accelerator.unwrap_model(trainer.model_wrapped).to(torch.bfloat16)
    halved = {name: weight.to(torch.bfloat16) for name, weight in weights.items()}
    model.save_pretrained(part, state_dict=halved)
    trainer.processing_class.save_pretrained(part)
    os.replace(part, folder)
