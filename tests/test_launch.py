"""Training beyond one device.

Accelerate's files, the commands, Slurm scripts, and two processes on a CPU against one.
"""

import json
import os
import stat
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from tqdm.auto import tqdm

import kit
from kit import grpo
from kit.commands import launcher
from kit.commands.launcher import (
    LAUNCH,
    TrainingError,
    _follow,
    launch,
    launch_command,
    rollout_options,
    rollout_server,
    trains_in_subprocess,
)
from kit.core import profile, records
from kit.core.manifest import RECORDED, ROOT
from kit.core.run import Run, registered_endpoints
from kit.core.types import Problem
from kit.serving import open_engine

POLICY = "smollm2-135m-instruct"
SLURM = LAUNCH / "slurm"


def doubling(k):
    """A problem whose prompt ends in its own question, and four completions for that.

    They have different lengths: right, wrong, right, wrong.
    """
    problem = Problem(
        environment="deduction",
        program="def f(n):\n    return n * 2",
        inputs=[str(k)],
        outputs=[str(2 * k)],
        kept=True,
    )
    right = f"<answer>{2 * k}</answer>"
    return problem, {
        f"What does f({k}) return?": [
            right,
            "<answer>'no'</answer>",
            f"It doubles. {right}",
            "I do not know, sorry.",
        ]
    }


def opened(folder, name, **changed):
    """A run of 05 at smoke size with other `grpo` values."""
    (folder / f"{name}.yaml").write_text(
        yaml.safe_dump({"base": "smoke", "name": name, "grpo": changed})
    )
    return kit.start("05_grpo", str(folder / f"{name}.yaml"), str(folder / name), 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train in its own folder: two steps, each one prompt of four rollouts.

    tests/fakes/rollouts gives these to every process alike. In float32: in bfloat16 the rounding
    alone parts two trainings by a hundredth after one step of Adam.
    """
    folder = tmp_path_factory.mktemp("launch")
    fakes = [doubling(k) for k in (31, 32)]
    plan = (
        pd.read_parquet(RECORDED / "plan.parquet")
        .head(2)
        .assign(
            step=range(2),
            slot=0,
            environment="deduction",
            bin="easy",
            problem_id=[p.id for p, _ in fakes],
        )
    )

    def train(name, **changed):
        (folder / name).mkdir()
        records.save_problems([p for p, _ in fakes], folder / name / "filtered.parquet")
        records.write_parquet(plan, folder / name / "plan.parquet")
        run = opened(
            folder,
            name,
            prompts_per_step=1,
            steps=2,
            save_every=2,
            embeddings=True,
            bf16=False,
            learning_rate=1.0e-5,
            **changed,
        )
        launch(
            run, PROFILE=str(folder / f"{name}.yaml"), SEED=0, TRAIN_SEED=None, LEARNING_RATE=None
        )
        return run

    with pytest.MonkeyPatch.context() as m:
        m.setenv(
            "FAKE_ROLLOUTS",
            json.dumps({part: group for _, fake in fakes for part, group in fake.items()}),
        )
        m.setenv(
            "PYTHONPATH", os.pathsep.join([str(ROOT / "tests" / "fakes" / "rollouts"), str(ROOT)])
        )
        yield train


@pytest.fixture(scope="module")
def one(trained):
    return trained("one")


def same(one, two):
    """Asserts that two trainings on the same rollouts are one.

    Compared are what each step logs, and what the steps changed in the weights.
    """
    a, b = (grpo.read_log(run.path("train.jsonl")) for run in (one, two))
    assert (
        list(a.step) == list(b.step) == [1, 2]
        and (a.grad_norm > 0.1).all()
        and (a.reward == 0.5).all()
    ), "there was something to learn"
    columns = [
        "reward",
        "reward_std",
        "loss",
        "grad_norm",
        "entropy",
        "completion_length",
        "solved/deduction",
        "frac_reward_zero_std",
    ]
    pd.testing.assert_frame_equal(a[columns], b[columns], rtol=1e-3, atol=1e-6)
    start = {
        name: x.detach()
        for name, x in grpo.load_policy(POLICY, embeddings=True)[0].named_parameters()
    }
    first, second = (
        load_file(run.path("checkpoints/checkpoint-2/model.safetensors")) for run in (one, two)
    )
    changed, apart = (
        torch.cat([(x[name] - y[name]).flatten() for name in start]).norm()
        for x, y in ((first, start), (first, second))
    )
    assert apart < 1e-3 * changed
    policies = [load_file(run.path("policy/model.safetensors")) for run in (one, two)]
    assert all(x.dtype == torch.bfloat16 for policy in policies for x in policy.values())
    assert all(
        torch.allclose(x, policies[1][name], rtol=0.01, atol=1e-6)
        for name, x in policies[0].items()
    )
    assert len(list(two.path("checkpoints/checkpoint-2").glob("rng_state_*.pth"))) == 2, (
        "there were two processes"
    )


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_train_as_one_does(one, trained):
    same(one, trained("two", devices=2, batch=2))


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_with_sharded_weights_train_as_one_does(one, trained, tmp_path, monkeypatch):
    """The file for GPUs on two CPU processes.

    Accelerate has to be talked into it (FAKE_FSDP), the sharding and its checkpoints are real.
    """
    config = yaml.safe_load((LAUNCH / "fsdp2.yaml").read_text())
    (tmp_path / "cpu.yaml").write_text(yaml.safe_dump(config | {"use_cpu": True}))
    monkeypatch.setattr(launcher, "LAUNCH", tmp_path)
    monkeypatch.setenv("FAKE_FSDP", "1")
    sharded = trained("sharded", devices=2, batch=2)
    assert sharded.path("checkpoints/checkpoint-2/pytorch_model_fsdp.bin").exists(), "it was FSDP"
    same(one, sharded)


@pytest.mark.parametrize("name", ["cpu", "fsdp2"])
def test_accelerate_reads_the_files(name):
    config = load_config_from_file(str(LAUNCH / f"{name}.yaml"))
    assert config.mixed_precision == "bf16" and config.use_cpu == (name == "cpu")
    assert config.num_machines == 1 and config.rdzv_backend == "static", (
        "`launcher.launch_command` gives the nodes, and the first of them is known"
    )
    if name == "fsdp2":
        assert (
            config.distributed_type == DistributedType.FSDP
            and config.fsdp_config["fsdp_version"] == 2
        )
        assert config.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT", (
            "checkpoints are policies that an engine can read"
        )


def test_the_papers_devices_are_those_of_the_file():
    config = load_config_from_file(str(LAUNCH / "fsdp2.yaml"))
    assert config.num_processes == profile.load_profile("paper").grpo.devices


def as_if(monkeypatch, folder, cpu, base="smoke", **changed):
    monkeypatch.setattr(Run, "on_cpu", cpu)
    return Run(
        "05_grpo",
        profile.load_profile(base, {f"grpo.{key}": value for key, value in changed.items()}),
        folder,
    )


@pytest.mark.parametrize(
    ("cpu", "changed", "expected"),
    [
        (True, {}, False),
        (True, {"devices": 2}, True),
        (False, {}, True),
        (True, {"rollouts": "colocate"}, True),
    ],
)
def test_what_trains_in_processes_of_its_own(monkeypatch, tmp_path, cpu, changed, expected):
    assert trains_in_subprocess(as_if(monkeypatch, tmp_path, cpu, **changed)) == expected


def test_commands(monkeypatch, tmp_path):
    script = tmp_path / "a run" / "05.py"
    assert launch_command(as_if(monkeypatch, tmp_path, False), script) == [
        sys.executable,
        str(script),
    ]
    for cpu, name in ((True, "cpu"), (False, "fsdp2")):
        command = launch_command(as_if(monkeypatch, tmp_path, cpu, devices=8, batch=1), script)
        assert command[command.index("--config_file") + 1] == str(LAUNCH / f"{name}.yaml")
        assert command[command.index("--num_processes") + 1] == "8" and command[-1] == str(script)
        assert command[command.index("--mixed_precision") + 1] == "bf16"
    command = launch_command(as_if(monkeypatch, tmp_path, True, devices=2, bf16=False), script)
    assert command[command.index("--mixed_precision") + 1] == "no"


def test_several_nodes_outside_an_allocation_are_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(TrainingError, match="grpo.nodes is 2 .*train.sbatch"):
        launch_command(
            as_if(monkeypatch, tmp_path, False, devices=4, nodes=2, batch=2), tmp_path / "05.py"
        )


FAKE_SRUN = """#!/bin/bash
# Fake srun: every "node" is this machine.
nodes=1
while [[ $1 == --* ]]; do [[ $1 == --nodes=* ]] && nodes=${1#--nodes=}; shift; done
for ((k = 0; k < nodes; k++)); do SLURM_PROCID=$k "$@" & done
for job in $(jobs -p); do wait "$job" || exit 1; done
"""


def fake(folder, name, text):
    (folder / name).write_text(text)
    (folder / name).chmod(stat.S_IRWXU)


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_two_nodes_meet(monkeypatch, tmp_path):
    """The command for several nodes with a fake srun.

    Two launchers with two processes each find one another, and each knows its rank.
    """
    fake(tmp_path, "srun", FAKE_SRUN)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29611")
    script = tmp_path / "05.py"
    script.write_text(
        "import torch, torch.distributed as d\n"
        "d.init_process_group('gloo')\n"
        "x = torch.tensor([2.0 ** d.get_rank()])\n"
        "d.all_reduce(x)\n"
        f"file = open(rf'{tmp_path}/rank{{d.get_rank()}}', 'w')\n"
        "file.write(f'{d.get_world_size()} {x.item()}')\n"
        "file.close()\n"
        "d.barrier()\nd.destroy_process_group()\n"
    )
    run = as_if(monkeypatch, tmp_path, True, devices=4, nodes=2, batch=2)
    subprocess.run(launch_command(run, script), check=True, timeout=600)
    assert [(tmp_path / f"rank{k}").read_text() for k in range(4)] == ["4 15.0"] * 4


def test_rollout_options_are_arguments_of_trl(monkeypatch, tmp_path):
    from trl import GRPOConfig

    for name, mode in (("gpu", "colocate"), ("gpu-80", "colocate"), ("paper", "server")):
        options = rollout_options(
            as_if(
                monkeypatch,
                tmp_path,
                False,
                name,
                server="http://node:8000" if mode == "server" else "",
                policy="mini",
            )
        )
        config = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, **options)
        assert config.generation_kwargs == {"stop_token_ids": [1]}
        assert config.use_vllm and config.vllm_mode == mode
        assert config.vllm_enable_sleep_mode == (name == "gpu") and (
            mode == "colocate" or config.vllm_server_base_url == "http://node:8000"
        )
    assert rollout_options(as_if(monkeypatch, tmp_path, True)) == {}


def test_vllm_without_a_gpu_and_a_server_that_is_not_there_are_refused(monkeypatch, tmp_path):
    with pytest.raises(TrainingError, match="colocate needs GPUs"):
        launch(as_if(monkeypatch, tmp_path, True, rollouts="colocate"))
    with pytest.raises(TrainingError, match="no vLLM server for smollm2"):
        launch(as_if(monkeypatch, tmp_path, False, rollouts="server"))


def test_a_failed_training_shows_its_own_last_lines(monkeypatch, tmp_path):
    run = as_if(monkeypatch, tmp_path, True)
    fails = "print('no such disk', flush=True); raise SystemExit(3)"
    monkeypatch.setattr(
        launcher, "launch_command", lambda run, script: [sys.executable, "-c", fails]
    )
    run.path("logs").mkdir()
    run.path("logs/05_grpo.log").write_text("of an earlier try\n")
    with pytest.raises(TrainingError, match=r"exit code 3:\nno such disk\nsee .*05_grpo.log"):
        launch(run)


def test_the_bar_follows_the_last_whole_line(tmp_path):
    steps = tmp_path / "train.jsonl"
    bar = tqdm(total=9, disable=False)
    for text, n in (
        ("", 0),
        ('{"step": 1, "reward": 0.5}\n{"st', 1),
        ('{"step": 1, "reward": 0.5}\n{"step": 4, "reward": null}\n', 4),
    ):
        steps.write_text(text)
        _follow(steps, bar)
        assert bar.n == n
    bar.close()


def test_addresses_of_replicas(monkeypatch, tmp_path):
    assert registered_endpoints("big") == []
    monkeypatch.setenv("KIT_ENDPOINTS", str(tmp_path))
    for k, line in enumerate(
        (
            "big answer http://a:1/v1",
            "big answer http://b:1/v1",
            "small answer http://c:1/v1",
            "small train http://d:1",
        )
    ):
        (tmp_path / f"{k}.endpoint").write_text(line + "\n")
    assert registered_endpoints("big") == [
        "http://a:1/v1",
        "http://b:1/v1",
    ] and registered_endpoints("small") == ["http://c:1/v1"]
    assert (
        rollout_server(as_if(monkeypatch, tmp_path, False, policy="small", rollouts="server"))
        == "http://d:1"
    )
    role = profile.load_profile("gpu-80", {"teacher.model": "big"}).teacher
    run = Run("02_rounds", profile.load_profile("gpu-80"), tmp_path)
    with open_engine(run, role, "teacher") as teacher:
        assert teacher.role.endpoints == ["http://a:1/v1", "http://b:1/v1"]


@pytest.mark.parametrize("name", ["serve", "train"])
def test_slurm_scripts_are_shell(name):
    subprocess.run(["bash", "-n", str(SLURM / f"{name}.sbatch")], check=True)


def test_a_replica_notes_its_address_when_it_answers_and_takes_it_back(tmp_path):
    fake(
        tmp_path,
        "vllm",
        '#!/bin/bash\necho "$VLLM_SERVER_DEV_MODE $@" > "$KIT_ENDPOINTS/asked"; exec sleep 3\n',
    )
    fake(tmp_path, "curl", "#!/bin/bash\nexit 0\n")
    for purpose, port, url in (("answer", 20007, "/v1"), ("train", 20007, "")):
        env = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "KIT_ENDPOINTS": str(tmp_path),
            "SLURM_JOB_ID": "7",
        }
        env |= {"MODEL": "m", "FOR": purpose}
        job = subprocess.Popen(
            ["bash", str(SLURM / "serve.sbatch")], env=env, stderr=subprocess.DEVNULL
        )
        note = tmp_path / "7.endpoint"
        while not note.exists() and job.poll() is None:
            time.sleep(0.02)
        model, what, address = note.read_text().split()
        assert (model, what) == ("m", purpose) and address.endswith(f":{port}{url}")
        assert ("--weight-transfer-config" in (tmp_path / "asked").read_text()) == (
            purpose == "train"
        )
        job.wait(timeout=30)
        assert not note.exists()


def test_train_sbatch_gives_the_first_node_and_runs_the_same_command(tmp_path):
    fake(tmp_path, "scontrol", "#!/bin/bash\nprintf 'n1\\nn2\\n'\n")
    fake(tmp_path, "python", '#!/bin/bash\necho "$MASTER_ADDR $MASTER_PORT $@" > "$0.asked"\n')
    env = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n[1-2]",
    }
    subprocess.run(
        ["bash", str(SLURM / "train.sbatch"), "--profile", "paper", "--only", "05"],
        env=env,
        check=True,
    )
    assert (tmp_path / "python.asked").read_text().split() == [
        "n1",
        "29507",
        "-m",
        "kit",
        "run",
        "--profile",
        "paper",
        "--only",
        "05",
    ]
