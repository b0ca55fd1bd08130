"""GRPO with sandboxed rewards: what notebook 05 hands to TRL. The trainer itself is TRL's, called in the notebook.

The advantage of a rollout is its reward less the mean of its group, not divided by the standard deviation, without a KL term
(paper). A reward is 1, 0, or None where our own infrastructure failed: TRL leaves those out of the group.
"""

import json
import logging
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import datasets
import nbformat
import pandas as pd
from IPython.display import display
from transformers import TrainerCallback

from kit import models, plots
from kit.environments import Environment, grade_all
from kit.records import Log, Problem
from kit.run import ROOT, Run, headless, progress, served
from kit.sandbox import Sandbox

COLUMNS = {
    "reward": "reward",
    "reward_std": "reward_std",
    "entropy": "entropy",
    "frac_reward_zero_std": "frac_reward_zero_std",
    "sandbox_error_share": "sandbox_error_share",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "cut_off_share",
    "clip_ratio/region_mean": "clip_ratio",
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "step_time": "step_time",
    "rollout_time": "rollout_time",
    "reward_time": "reward_time",
}

LAUNCH = ROOT / "kit" / "launch"  # accelerate's files
os.environ.setdefault(
    "VLLM_LOGGING_LEVEL", "ERROR"
)  # TRL imports vLLM, which then talks into the notebook,
logging.getLogger("vllm").setLevel(logging.ERROR)  # and before it has read that variable too


class TrainingError(RuntimeError):
    """A training in processes of its own failed; the message says where its log is."""


def advantages(rewards: list[float | None]) -> list[float]:
    """Rewards of one group -> advantages (paper: reward minus group mean, no division). None gets 0 and is not averaged."""
    known = [r for r in rewards if r is not None]
    mean = sum(known) / len(known) if known else 0.0
    return [0.0 if r is None else r - mean for r in rewards]


def dataset(
    plan: pd.DataFrame, problems: list[Problem], envs: dict[str, Environment]
) -> datasets.Dataset:
    """A curriculum's plan (one row per prompt, in order) -> what TRL reads with `shuffle_dataset=False`."""
    known = {p.id: p for p in problems}
    rows = [
        {
            "prompt": envs[row.environment].solve_prompt(known[row.problem_id]),
            "problem_id": row.problem_id,
            "environment": row.environment,
            "bin": row.bin,
        }
        for row in plan.itertuples()
    ]
    return datasets.Dataset.from_list(rows)


def reward_function(
    problems: list[Problem],
    envs: dict[str, Environment],
    box: Sandbox,
    health: "Health | None" = None,
):
    """TRL's reward function: completions of any mixture of environments -> list of 1.0, 0.0 or None, in order.

    Logged with them, per step: solve rates per environment and bin, share of errors, seconds of the rewards and, given the step's clock
    in `health`, of the rollouts before them."""
    known = {p.id: p for p in problems}

    def verified(
        prompts, completions, problem_id, environment, bin, log_metric=None, **_
    ) -> list[float | None]:
        began = time.monotonic()
        verdicts = grade_all(
            [
                (envs[e], known[i], c[0]["content"])
                for c, i, e in zip(completions, problem_id, environment, strict=True)
            ],
            box,
        )
        rewards = [v.reward for v in verdicts]
        if log_metric:
            log_metric("reward_time", time.monotonic() - began)
            log_metric("sandbox_error_share", rewards.count(None) / len(rewards))
            if health:
                log_metric("rollout_time", began - health.step_began)
            for group in (environment, bin):
                for name in sorted(set(group)):
                    some = [r for r, g in zip(rewards, group) if g == name and r is not None]
                    if some:
                        log_metric(f"solved/{name}", sum(some) / len(some))
        return rewards

    return verified


class Health(TrainerCallback):
    """Writes one line per step to `train.jsonl` and shows progress, in a notebook also the panel of `plots.health`; steps that a
    resumed run repeats replace the old lines. `switches`: steps at which the curriculum changes."""

    def __init__(self, path: Path, switches: Iterable[float] = ()):
        self.path, self.switches, self.picture = Path(path), tuple(switches), None
        self.log: Log | None = None  # of several processes the first one writes
        self.bar = None
        self.step_began = math.nan

    def on_step_begin(self, args, state, control, **_):
        self.step_began = time.monotonic()

    def on_train_begin(self, args, state, control, **_):
        if not state.is_world_process_zero:
            return
        self.log = Log(self.path)
        self.bar = progress(total=state.max_steps, initial=state.global_step, desc="GRPO steps")

    def on_log(self, args, state, control, logs=None, **_):
        if not self.log or not logs or "reward" not in logs:
            return
        row = {"step": state.global_step} | {
            ours: logs[theirs] for theirs, ours in COLUMNS.items() if theirs in logs
        }
        row |= {k: v for k, v in logs.items() if k.startswith("solved/")}
        self.log.append(
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        )
        self.bar.set_postfix(reward=f"{logs['reward']:.2f}", refresh=False)
        self.bar.update(state.global_step - self.bar.n)
        if not headless() and state.global_step % math.ceil(state.max_steps / 40) == 0:
            self._draw()

    def _draw(self) -> None:
        figure = plots.health(self.frame(), self.switches, label=" so far")
        if self.picture:
            self.picture.update(figure)
        else:
            self.picture = display(figure, display_id=True)
        plots.plt.close(figure)

    def on_train_end(self, args, state, control, **_):
        if self.picture:  # the finished panel follows in the notebook
            self.picture.update("")
        if self.log:
            self.bar.close()
            self.log.close()

    def frame(self) -> pd.DataFrame:
        """One row per step, in order."""
        return read_log(self.path)


def read_log(path: Path) -> pd.DataFrame:
    """The log of a training, one row per step in order; of a step done twice the later row counts."""
    rows = pd.DataFrame(list(Log(path)))
    return (
        rows.drop_duplicates("step", keep="last").sort_values("step", ignore_index=True)
        if len(rows)
        else rows
    )


def tokenizer(name: str):
    """Of a policy. Raises models.ModelUnavailable, also for one that cannot be asked in messages."""
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(models.path(name))
    if not found.chat_template:
        raise models.ModelUnavailable(
            f"{name} has no chat template, so it cannot be asked in messages: take an instruct model as grpo.policy"
        )
    return found


def load_policy(name: str, layers: int | None = None, embeddings: bool = False, bf16: bool = True):
    """(model, tokenizer) of a policy. What is trained is in float32, because half precision loses small updates; what is frozen in bfloat16,
    with `bf16`. Raises models.ModelUnavailable.

    Frozen (our choice): all but the last `layers` layers, if that is given; without `embeddings` also those of the tokens, a third of a
    0.5B model's weights, hardly moved by RL, dear in memory and time."""
    import torch
    from transformers import AutoModelForCausalLM, logging

    words = tokenizer(name)
    logging.set_verbosity_error()  # it tells of every special token that it sets by the tokenizer
    model = AutoModelForCausalLM.from_pretrained(models.path(name), dtype=torch.float32)
    whole = model.get_decoder().layers
    for frozen in (
        *([] if embeddings else [model.get_input_embeddings()]),
        *whole[: len(whole) - (layers or len(whole))],
    ):
        frozen.to(torch.bfloat16 if bf16 else torch.float32).requires_grad_(False)
    if bf16 and not torch.cuda.is_available():
        _cast_once(model)
    return model, words


def _cast_once(model) -> None:
    """On a CPU autocast turns every weight into half precision anew at each token. Inside one outer autocast it does so once per
    rollout. The copies end with it, so none is stale after an update."""
    import torch

    generate = model.generate

    def cached(*args, **options):
        with torch.autocast("cpu", torch.bfloat16):
            return generate(*args, **options)

    model.generate = cached


def checkpoint(folder: Path) -> str | None:
    """The last complete checkpoint of an interrupted training, or None. Its state file is written last: without it, it is torn."""
    whole = [path.parent for path in Path(folder).glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None


def save_policy(trainer, folder: Path) -> None:
    """The trained policy in bfloat16, ready for an engine; written whole or not at all, by the first of several processes."""
    import shutil

    import torch

    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.accelerator.is_main_process:
        part = Path(f"{folder}.part")
        shutil.rmtree(part, ignore_errors=True)
        model = trainer.accelerator.unwrap_model(trainer.model_wrapped).to(torch.bfloat16)
        model.save_pretrained(
            part, state_dict={name: x.to(torch.bfloat16) for name, x in weights.items()}
        )
        trainer.processing_class.save_pretrained(part)
        os.replace(part, folder)


def server(run: Run) -> str:
    """Address of the vLLM server that answers the policy's prompts and takes its weights; empty if there is none."""
    return run.profile.grpo.server or next(iter(served(run.profile.grpo.policy, "train")), "")


def rollout_options(run: Run) -> dict:
    """GRPOConfig's arguments for where rollouts come from (`grpo.rollouts`). vLLM gets the new weights before each step's rollouts.

    vLLM's probabilities differ a little from the trainer's: TRL weighs a rollout by their ratio and drops it above 3 (its default)."""
    g, student = run.profile.grpo, run.profile.student
    if g.rollouts == "transformers":
        return {}
    if g.rollouts == "server":
        return {
            "use_vllm": True,
            "vllm_mode": "server",
            "vllm_server_base_url": server(run) or None,
        }
    longest = student.context + max(
        0, g.max_tokens - student.sampling.max_tokens
    )  # the student could read every prompt of the plan
    return {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": g.vllm_memory,
        "vllm_max_model_length": longest,
        "vllm_enable_sleep_mode": g.vllm_sleep,
    }


def apart(run: Run) -> bool:
    """Whether the training runs in processes of its own. On GPUs always: so no notebook ever holds a card, and none keeps one."""
    g = run.profile.grpo
    return g.devices > 1 or g.rollouts != "transformers" or not run.on_cpu


def launch(run: Run, **parameters) -> None:
    """Train in processes of its own, one a device: the cells of the running notebook that are tagged `train`, with these parameters, as a
    script. Follows its log. Raises TrainingError with the log's last lines and where it is."""
    g = run.profile.grpo
    if g.rollouts != "transformers" and run.on_cpu:
        raise TrainingError(
            f"grpo.rollouts: {g.rollouts} needs GPUs (TRL does not work with vLLM's CPU build): take `transformers` on a CPU"
        )
    if g.rollouts == "server" and not server(run):
        raise TrainingError(
            f"no vLLM server for {g.policy}: start kit/launch/slurm/serve.sbatch for training, or name one in grpo.server"
        )
    notebook = nbformat.read(ROOT / "notebooks" / f"{run.stage}.ipynb", 4)
    cells = [c.source for c in notebook.cells if "train" in c.metadata.get("tags", [])]
    given = "\n".join(
        f"{name} = {value!r}"
        for name, value in (parameters | {"RUN_DIR": str(run.folder), "TRAIN": True}).items()
    )
    script, log = run.path(f"logs/{run.stage}.py"), run.path(f"logs/{run.stage}.log")
    script.parent.mkdir(exist_ok=True)
    script.write_text(
        "\n\n".join(["from kit import grpo\ngrpo.die_with_parent()", given, *cells]) + "\n"
    )
    steps, before = run.path("train.jsonl"), log.stat().st_size if log.exists() else 0
    environment = os.environ | {"KIT_HEADLESS": "1"}
    if g.devices == 1:  # TRL would take all visible cards into one process, and refuses
        environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(
            ","
        )[0]
    with (
        log.open("a") as out,
        progress(
            total=g.steps, desc=f"GRPO steps on {g.devices} device{'s' * (g.devices > 1)}"
        ) as bar,
    ):
        child = subprocess.Popen(
            command(run, script), stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=environment
        )
        try:
            while child.poll() is None:
                time.sleep(1)
                _follow(steps, bar)
        finally:
            child.terminate()
            child.wait()
        _follow(steps, bar)
    if child.returncode:
        raise TrainingError(
            f"the training ended with exit code {child.returncode}:\n{_error(log, before)}\n"
            f"see {log}; run the same again to go on from its checkpoint"
        )


def command(run: Run, script: Path) -> list[str]:
    """What `launch` runs: the script itself on one device; on several `accelerate launch` with a file of kit/launch; for several nodes under
    `srun`, once a node, in the allocation that kit/launch/slurm/train.sbatch has asked for. Raises TrainingError outside of one."""
    g = run.profile.grpo
    if g.devices == 1:
        return [sys.executable, str(script)]
    accelerate = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(LAUNCH / ("cpu.yaml" if run.on_cpu else "fsdp2.yaml")),
        "--num_processes",
        str(g.devices),
        "--num_machines",
        str(g.nodes),
        "--mixed_precision",
        "bf16" if g.bf16 else "no",
    ]
    if g.nodes == 1:
        return [
            *accelerate,
            "--main_process_port",
            "0",
            str(script),
        ]  # any free port: two trainings may share a machine
    try:
        first = [
            "--main_process_ip",
            os.environ["MASTER_ADDR"],
            "--main_process_port",
            os.environ["MASTER_PORT"],
        ]
    except KeyError as e:
        raise TrainingError(
            f"grpo.nodes is {g.nodes} but {e} is not set: start the run by kit/launch/slurm/train.sbatch, see kit/launch"
        ) from None
    each = f'{shlex.join([*accelerate, *first])} --machine_rank "$SLURM_PROCID" {shlex.quote(str(script))}'  # known on the node alone
    return [
        "srun",
        f"--nodes={g.nodes}",
        f"--ntasks={g.nodes}",
        "--ntasks-per-node=1",
        "--kill-on-bad-exit=1",
        "bash",
        "-c",
        each,
    ]


def die_with_parent() -> None:
    """A killed notebook or launcher must not leave trainers behind (Linux)."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _follow(steps: Path, bar) -> None:
    if (
        steps.exists()
    ):  # read as text: opening the Log would cut off a line that the child still writes
        last = steps.read_text(encoding="utf-8").rpartition("\n")[0].rpartition("\n")[2]
        if last and (row := json.loads(last))["step"] != bar.n:
            bar.set_postfix(reward=row["reward"], refresh=False)
            bar.update(row["step"] - bar.n)


def _error(log: Path, start: int, lines: int = 12) -> str:
    """The end of what a training wrote since `start` (bytes), without the launcher's own report of its dead children."""
    with log.open("rb") as f:
        f.seek(start)
        text = f.read().decode(errors="replace")
    own = [line for line in text.splitlines() if line.strip()]
    cut = next((k for k, line in enumerate(own) if "torch/distributed/elastic" in line), len(own))
    return "\n".join(line.rpartition("\r")[2][:300] for line in own[:cut][-lines:])
