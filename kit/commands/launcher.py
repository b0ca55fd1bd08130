"""Training in its own processes: one, or `accelerate launch` for several devices and nodes."""

import itertools
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import nbformat

from kit.commands.options import die_with_parent
from kit.core.manifest import ROOT
from kit.core.run import Run, registered_endpoints
from kit.core.tells import progress
from kit.grpo import quiet_vllm, tokenizer
from kit.serving.models import answer_ends

# Accelerate's files.
LAUNCH = ROOT / "kit" / "launch"


class TrainingError(RuntimeError):
    """A training in its own processes failed; the message says where its log is."""


def rollout_server(run: Run) -> str:
    """Address of the vLLM server that draws rollouts and takes new weights; empty: there is none.

    The profile's `grpo.server` goes before one that is registered for the policy.
    """
    settings = run.profile.grpo
    return settings.server or next(iter(registered_endpoints(settings.policy, "train")), "")


def rollout_options(run: Run) -> dict:
    """GRPOConfig's arguments for where rollouts come from (`grpo.rollouts` of the profile).

    vLLM gets the new weights before each step's rollouts. Its probabilities differ a little from
    the trainer's: TRL weighs a rollout by their ratio and drops it above 3 (its default).

    Args:
        run: of stage 05.
    Returns:
        Arguments by name; none for rollouts by transformers.
    Source: our choice.
    """
    settings = run.profile.grpo
    if settings.rollouts == "transformers":
        return {}
    ends = answer_ends(tokenizer(settings.policy), None)
    options = {
        "use_vllm": True,
        "vllm_mode": settings.rollouts,
        "generation_kwargs": {"stop_token_ids": ends},
    }
    if settings.rollouts == "server":
        return options | {"vllm_server_base_url": rollout_server(run) or None}
    # The student could read every prompt of the plan; the policy's answers may be longer.
    student = run.profile.student
    longer = max(0, settings.max_tokens - student.sampling.max_tokens)
    return options | {
        "vllm_gpu_memory_utilization": settings.vllm_memory,
        "vllm_max_model_length": student.context + longer,
        "vllm_enable_sleep_mode": settings.vllm_sleep,
    }


def trains_in_subprocess(run: Run) -> bool:
    """Whether the training runs in its own processes.

    On GPUs it always does, so that no notebook ever holds a card.

    Args:
        run: of stage 05.
    Returns:
        True for several devices, for rollouts by vLLM, and on a GPU.
    Source: our choice.
    """
    settings = run.profile.grpo
    return settings.devices > 1 or settings.rollouts != "transformers" or not run.on_cpu


def training_script(run: Run, parameters: dict) -> Path:
    """Writes the script: the parameters, then the cells of the notebook that are tagged `train`."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{run.stage}.ipynb", 4)
    cells = [cell.source for cell in notebook.cells if "train" in cell.metadata.get("tags", [])]
    values = parameters | {"RUN_DIR": str(run.folder), "TRAIN": True}
    given = [f"{name} = {value!r}" for name, value in values.items()]
    # A caller that runs it in its own process (runpy) is not `__main__`, and stays.
    first = (
        "from kit.commands.options import die_with_parent\n"
        "if __name__ == '__main__':\n    die_with_parent()"
    )
    script = run.path(f"logs/{run.stage}.py")
    script.parent.mkdir(exist_ok=True)
    script.write_text("\n\n".join([first, *given, *cells]), encoding="utf-8")
    return script


def launch(run: Run, **parameters) -> None:
    """Train in own processes, one per device: the cells tagged `train`, as a script.

    Args:
        run: of stage 05.
        parameters: of the notebook, by name; RUN_DIR and TRAIN are set here.
    Raises:
        TrainingError: vLLM is asked for without a GPU or a server, a launch on several nodes is
            outside of an allocation, or the training failed; then the message has its last lines.
    Source: our choice.
    """
    settings = run.profile.grpo
    if settings.rollouts != "transformers" and run.on_cpu:
        raise TrainingError(
            f"grpo.rollouts: {settings.rollouts} needs GPUs (TRL does not work with vLLM's CPU "
            "build): take `transformers` on a CPU"
        )
    if settings.rollouts == "server" and not rollout_server(run):
        raise TrainingError(
            f"no vLLM server for {settings.policy}: start kit/launch/slurm/serve.sbatch for "
            "training, or name one in grpo.server"
        )

    # The children inherit the environment.
    quiet_vllm()
    environment = os.environ | {"KIT_HEADLESS": "1"}
    if settings.devices == 1:
        # TRL would take all visible cards into one process, and refuse.
        cards = environment.get("CUDA_VISIBLE_DEVICES", "0")
        environment["CUDA_VISIBLE_DEVICES"] = cards.split(",")[0]

    # The log may hold an earlier try: remember where this one begins.
    asked = launch_command(run, training_script(run, parameters))
    log = run.path(f"logs/{run.stage}.log")
    start = log.stat().st_size if log.exists() else 0
    steps = run.path("train.jsonl")
    desc = f"GRPO steps on {settings.devices} device{'s' * (settings.devices > 1)}"
    with log.open("a") as out, progress(total=settings.steps, desc=desc) as bar:
        child = subprocess.Popen(
            asked,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            preexec_fn=die_with_parent,
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
            f"the training ended with exit code {child.returncode}:\n{_error(log, start)}\n"
            f"see {log}; run the same again to go on from its checkpoint"
        )


def launch_command(run: Run, script: Path) -> list[str]:
    """What `launch` runs: the script itself on one device, `accelerate launch` on several.

    For several nodes it is `srun`, which starts `accelerate launch` once on each node of the
    allocation that kit/launch/slurm/train.sbatch asks for. Raises TrainingError outside of one.
    """
    settings = run.profile.grpo
    if settings.devices == 1:
        return [sys.executable, str(script)]

    config = LAUNCH / ("cpu.yaml" if run.on_cpu else "fsdp2.yaml")
    precision = "bf16" if settings.bf16 else "no"
    sizes = f"--num_processes {settings.devices} --num_machines {settings.nodes}"
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    accelerate += [*sizes.split(), "--mixed_precision", precision]
    if settings.nodes == 1:
        # Any free port: two trainings may share a machine.
        return [*accelerate, "--main_process_port", "0", str(script)]

    # The nodes meet at the first one. Only a node itself knows its rank.
    try:
        accelerate += ["--main_process_ip", os.environ["MASTER_ADDR"]]
        accelerate += ["--main_process_port", os.environ["MASTER_PORT"]]
    except KeyError as missing:
        raise TrainingError(
            f"grpo.nodes is {settings.nodes} but {missing} is not set: start the run by "
            "kit/launch/slurm/train.sbatch, see kit/launch"
        ) from None
    each = f'{shlex.join(accelerate)} --machine_rank "$SLURM_PROCID" {shlex.quote(str(script))}'
    srun = f"srun --nodes={settings.nodes} --ntasks={settings.nodes} --ntasks-per-node=1"
    return [*srun.split(), "--kill-on-bad-exit=1", "bash", "-c", each]


def _follow(steps, bar):
    """Moves the bar to the last step that the training has logged."""
    if not steps.exists():
        return
    # Read as text: opening the Log would cut off a line that the child still writes.
    *whole, _ = steps.read_text(encoding="utf-8").split("\n")
    if whole:
        row = json.loads(whole[-1])
        bar.set_postfix(reward=row["reward"], refresh=False)
        bar.update(row["step"] - bar.n)


def _error(log, start):
    """The last 12 lines that a training wrote after `start` (bytes)."""
    written = filter(str.strip, log.read_bytes()[start:].decode(errors="replace").splitlines())
    # The launcher's own report of its dead children comes last and says nothing.
    own = itertools.takewhile(lambda line: "torch/distributed/elastic" not in line, written)
    return "\n".join(line[:300] for line in [*own][-12:])
