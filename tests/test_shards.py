"""Sharded rounds over the recording, in the real sandbox.

Local workers, Slurm's scripts and a Ray cluster of two nodes (one of which is killed) make the
records of one process.
"""

import contextlib
import json
import os
import shutil
import stat
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import pandas as pd
import psutil
import pytest
from filelock import FileLock

from kit.commands import shards
from kit.core import profile, records
from kit.core.manifest import RECORDED, ROOT, read_manifest
from kit.core.records import Log
from kit.core.run import Run
from kit.core.types import Problem
from kit.environments.verify import DeterminismCheck
from kit.sandbox import Sandbox
from kit.seeds import seeds_from_frame
from kit.serving.engine import EngineDown, Replay
from kit.synthesis import Synthesis
from tests.fakes.endpoint import FakeEndpoint

pytest.importorskip("datatrove")

pytestmark = pytest.mark.skipif(
    not (RECORDED / "completions.parquet").exists(), reason="no data/recorded in this checkout"
)
# With stepping stones, as the recorded run had them.
PROFILE = str(Path(__file__).parent / "fakes" / "stones.yaml")
CPU = profile.load_profile(PROFILE, {"teacher.engine": "replay", "student.engine": "replay"})


# The seeds of a split serve the four environments in turn. In these fours the problem of fuzzing is
# valid today; in the others its precondition lets other types through, it goes back to the teacher,
# and the recording does not hold what the teacher would answer (see test_notebooks).
ANSWERED = {"train": (3, 5, 9, 10, 13), "held_out": (0, 3, 5, 6, 7)}


def some_seeds(folder, train, held_out, real):
    """Recorded seeds of each kind, written into a run folder.

    They serve the environments that they served when recorded.
    """
    table = pd.read_parquet(RECORDED / "seeds.parquet")
    ids = list(table[table.as_is].id[:real])
    for split, count in (("train", train), ("held_out", held_out)):
        given = list(table[~table.as_is & (table.split == split)].id)
        ids += [given[4 * four + k] for four in ANSWERED[split] for k in range(4)][:count]
    table = table[table.id.isin(ids)]
    records.write_parquet(table, folder / "seeds.parquet")
    return seeds_from_frame(table)


def single(folder, seeds):
    """What one process makes of them."""
    teacher, student = (
        Replay(role, name=role.model, recording=RECORDED / "completions.parquet")
        for role in (CPU.teacher, CPU.student)
    )
    with Sandbox(workers=2) as box, Sandbox(workers=2, hash_seed=1) as other:
        check = DeterminismCheck(box, other)
        rounds = Synthesis(CPU, teacher, student, check, folder / "problems.jsonl")
        records.save_problems(rounds.generate(seeds), folder / "problems.parquet")
    return records.load_problems(folder / "problems.parquet")


def joined(folder):
    return sorted(
        (Problem.model_validate(row) for row in Log(folder / "problems.jsonl")),
        key=lambda p: (p.chain_id, p.turn),
    )


def assert_equal(problems, whole):
    """But for real functions near the time limit.

    These are valid on some machines and at some times (see test_notebooks).
    """
    slow = {
        p.seed_id for p in [*problems, *whole] if p.method == "real" and p.reason == "times out"
    }
    assert len(slow) < 3 and len(whole) > 30
    assert [p for p in problems if p.seed_id not in slow] == [
        p for p in whole if p.seed_id not in slow
    ]


def written(log):
    return log.read_bytes().count(b"\n") if log.exists() else 0


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(run folder after two local tasks, the problems of one process)."""
    folder = tmp_path_factory.mktemp("small")
    seeds = some_seeds(folder, 4, 1, 2)
    shards.run_shards(PROFILE, str(folder), tasks=2, workers=2, replay=True)
    return folder, single(tmp_path_factory.mktemp("whole"), seeds)


def test_two_local_tasks_make_the_records_of_one_process(small):
    folder, whole = small
    assert_equal(joined(folder), whole)
    assert {p.method for p in whole} == {"multi", "single", "stones", "real"}
    sizes = [
        len(records.load_problems(folder / f"shards/rounds/{rank:05d}/problems.parquet"))
        for rank in (0, 1)
    ]
    assert min(sizes) > 0 and sum(sizes) == len(whole)
    stage = read_manifest(folder)["stages"]["scale_rounds"]
    assert (
        stage["counts"] == {"problems": len(whole), "errors": 0}
        and stage["tasks"] == 2
        and stage["programs"]["ok"] > 0
    )


def test_the_rounds_in_the_run_folder_find_every_problem_written(small, monkeypatch):
    """What notebook 02 does next: it asks no model and runs no program."""
    folder, whole = small
    monkeypatch.setattr(Replay, "submit", lambda *_: pytest.fail("a model was asked"))
    before = (folder / "problems.jsonl").read_bytes()
    assert_equal(single(folder, seeds_from_frame(pd.read_parquet(folder / "seeds.parquet"))), whole)
    assert (folder / "problems.jsonl").read_bytes() == before


def test_the_same_command_again_skips_what_is_done(small, tmp_path):
    folder = shutil.copytree(small[0], tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("shards/*/*/*")}
    shards.run_shards(PROFILE, str(folder), tasks=2, replay=True)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("shards/*/*/*")} == before
    with pytest.raises(shards.ScaleError, match="say --tasks 2"):
        shards.run_shards(PROFILE, str(folder), tasks=3, replay=True)


@pytest.mark.slow
def test_killed_in_the_middle_the_same_command_goes_on(small, tmp_path):
    """All processes at once, as a machine without power."""
    some_seeds(tmp_path, 4, 1, 2)
    command = psutil.Popen(
        [
            sys.executable,
            "-m",
            "kit",
            "scale",
            "--profile",
            PROFILE,
            "--out",
            str(tmp_path),
            "--tasks",
            "2",
            "--workers",
            "2",
            "--replay",
        ],
        cwd=ROOT,
    )
    logs = [tmp_path / f"shards/rounds/{rank:05d}/problems.jsonl" for rank in (0, 1)]
    while not all(written(log) > 3 for log in logs):
        assert command.poll() is None
        time.sleep(0.01)
    for process in (*command.children(recursive=True), command):
        with contextlib.suppress(psutil.Error):
            process.kill()
    command.wait()
    before = [log.read_bytes().rpartition(b"\n")[0] for log in logs]
    assert (
        not (tmp_path / "problems.jsonl").exists()
        and len(list(tmp_path.glob("logs/scale-rounds/completions/*"))) < 2
    )
    shards.run_shards(PROFILE, str(tmp_path), tasks=2, replay=True)
    assert all(log.read_bytes().startswith(rows) for log, rows in zip(logs, before)), (
        "what was written stays"
    )
    assert_equal(joined(tmp_path), small[1])


def test_a_task_waits_for_another_process_at_its_shard(small, tmp_path):
    """A node that is given up for dead may still be writing."""
    folder = shutil.copytree(small[0], tmp_path / "run")
    step = shards.Rounds(Run("scale_rounds", CPU, folder), 1, 2)
    (note := step.folder(0) / "shard.json").unlink()
    with FileLock(step.folder(0) / "lock"):
        (task := threading.Thread(target=step.run, args=(None, 0, 2))).start()
        task.join(6)
        assert task.is_alive() and not note.exists()
    task.join(60)
    assert note.exists()


def remove(folder):
    (folder / "shards/rounds/00001/problems.parquet").unlink()


def tear(folder):
    data = (path := folder / "shards/rounds/00001/problems.parquet").read_bytes()
    path.write_bytes(data[: len(data) // 2])


def shorten(folder):
    records.save_problems(
        records.load_problems(path := folder / "shards/rounds/00001/problems.parquet")[:-1], path
    )


def repeat(folder):
    shutil.copyfile(
        folder / "shards/rounds/00000/problems.parquet",
        folder / "shards/rounds/00001/problems.parquet",
    )
    shutil.copyfile(
        folder / "shards/rounds/00000/shard.json", folder / "shards/rounds/00001/shard.json"
    )


def lose_a_turn_twice(folder):
    problems = records.load_problems(path := folder / "shards/rounds/00001/problems.parquet")
    records.save_problems([*problems[:-1], problems[0]], path)


def note(folder, **changes):
    path = folder / "shards/rounds/00001/shard.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (remove, "cannot be read"),
        (tear, "not a readable parquet"),
        (shorten, "rows where its task wrote"),
        (repeat, "of other seeds"),
        (lose_a_turn_twice, "or one twice"),
    ],
)
def test_a_damaged_shard_is_refused_and_then_made_anew(damage, why, small, tmp_path):
    folder = shutil.copytree(small[0], tmp_path / "run")
    (folder / "problems.jsonl").unlink()
    damage(folder)
    with pytest.raises(shards.ScaleError, match=f"00001 .*{why}"):
        shards.run_shards(PROFILE, str(folder), tasks=2, replay=True)
    assert not (folder / "problems.jsonl").exists()
    shards.run_shards(
        PROFILE, str(folder), tasks=2, replay=True
    )  # from the shard's own log, so at once
    assert_equal(joined(folder), small[1])


def test_errors_of_ours_are_left_out_said_and_tried_again(small, tmp_path, capsys):
    folder = shutil.copytree(small[0], tmp_path / "run")
    log = folder / "shards/rounds/00001/problems.jsonl"
    *rows, last = Log(log)
    log.write_text(
        "".join(
            json.dumps(row) + "\n"
            for row in [*rows, {**last, "status": "error", "reason": "lost", "n": 0, "solved": 0}]
        )
    )
    records.save_problems(
        (Problem.model_validate(row) for row in rows), log.with_suffix(".parquet")
    )
    note(folder, rows=len(rows), errors=1)
    step = shards.Rounds(Run("scale_rounds", CPU, folder), 1, 2)
    (folder / "problems.jsonl").unlink()
    assert step.join(2) == {"problems": len(small[1]) - 1, "errors": 1}
    assert shards.run_shards(PROFILE, str(folder), tasks=2, replay=True) == {
        "problems": len(small[1]),
        "errors": 0,
    }
    assert_equal(joined(folder), small[1])


def test_problems_that_no_shard_has_are_not_overwritten(small, tmp_path):
    folder = shutil.copytree(small[0], tmp_path / "run")
    with (folder / "problems.jsonl").open("a") as file:
        file.write(json.dumps(small[1][0].with_(chain_id="multi-other").model_dump()) + "\n")
    with pytest.raises(shards.ScaleError, match="holds 1 problems that no shard has"):
        shards.run_shards(PROFILE, str(folder), tasks=2, replay=True)


@pytest.mark.slow
def test_tasks_share_an_endpoint_and_go_on_when_it_is_back(tmp_path):
    some_seeds(tmp_path, 4, 0, 2)
    role = {"engine": "openai", "concurrency": 4, "patience": 0.02}

    def begin(server):
        roles = {name: {**role, "endpoints": [server.url]} for name in ("teacher", "student")}
        (tmp_path / "served.yaml").write_text(
            json.dumps({"base": "cpu", **roles, "rounds": {"turns": 1, "attempts": 2, "stones": 0}})
        )
        return shards.run_shards(
            str(tmp_path / "served.yaml"), str(tmp_path / "run"), tasks=2, workers=2
        )

    (tmp_path / "run").mkdir()
    shutil.move(tmp_path / "seeds.parquet", tmp_path / "run")
    with FakeEndpoint(["ok"] * 6 + ["dead"], seconds=0.05) as server:
        with pytest.raises(EngineDown, match="no endpoint"):
            begin(server)
        answered = sum(word == "ok" for word, _ in server.seen)
    with FakeEndpoint(
        seconds=0.05
    ) as server:  # at another address: that is no part of what a run is
        counts = begin(server)
        assert server.busiest <= 4
    logs = [
        len(list(Log(path)))
        for path in (tmp_path / "run").glob("shards/rounds/*/completions/02_rounds-*.jsonl")
    ]
    assert sum(logs) == answered + len(server.seen) and answered == 6 and len(logs) == 4
    assert counts["problems"] == len(joined(tmp_path / "run")) >= 6 and counts["errors"] == 0


def test_every_worker_with_a_model_of_its_own_is_refused(tmp_path):
    some_seeds(tmp_path, 2, 0, 0)
    with pytest.raises(shards.ScaleError, match="serve them"):
        shards.run_shards(PROFILE, str(tmp_path), tasks=2, workers=2)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"executor": "dask"}, "local, slurm, ray"),
        ({"options": {"cpus": 3}}, "local executor has no option cpus"),
    ],
)
def test_what_does_not_exist_is_refused(wrong, why, tmp_path):
    some_seeds(tmp_path, 2, 0, 0)
    with pytest.raises(shards.ScaleError, match=why):
        shards.run_shards(**{"profile": PROFILE, "out": str(tmp_path), "replay": True, **wrong})


def test_seeds_are_not_taken_from_the_recording_unasked(tmp_path):
    with pytest.raises(shards.ScaleError, match="no seeds.parquet"):
        shards.run_shards(PROFILE, str(tmp_path))


# Stands for Slurm in the test below: runs each element of the array where it is submitted.
FAKE_SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
last = re.search(r"--array=0-(\\d+)", script)
for k in range(int(last[1]) + 1 if "launch_pickled_pipeline" in script else 0):
    env = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(k), "SLURM_NODELIST": "here"}}
    subprocess.run(["bash", sys.argv[-1]], env=env, check=True)
open(os.environ["FAKE_SLURM"], "a").write(script)
print("Submitted batch job 17")
"""


@pytest.mark.slow
def test_the_scripts_for_slurm_do_the_work(small, tmp_path, monkeypatch, capsys):
    seeds = some_seeds(tmp_path / "run", 4, 1, 2)
    for name, text in {
        "sbatch": FAKE_SBATCH.format(python=sys.executable),
        "scontrol": "#!/bin/sh\necho here\n",
        "launch_pickled_pipeline": (
            f"#!{sys.executable}\n"
            "from datatrove.tools.launch_pickled_pipeline import main\n"
            "main()\n"
        ),
        "srun": '#!/bin/bash\nwhile [[ $1 != launch* ]]; do shift; done\nexec "$@"\n',
    }.items():
        (path := tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "submitted"))
    with pytest.raises(shards.ScaleError, match="partition=NAME"):
        shards.run_shards(PROFILE, str(tmp_path / "run"), tasks=3, executor="slurm", replay=True)
    options = {
        "partition": "cpus",
        "time": "24:00:00",
        "account": "ours",
        "cpus_per_task": 2,
        "env_command": ":",
    }
    shards.run_shards(
        PROFILE,
        str(tmp_path / "run"),
        tasks=2,
        workers=2,
        executor="slurm",
        replay=True,
        options=options,
    )
    script = (tmp_path / "submitted").read_text()
    assert all(
        f"#SBATCH --{line}\n" in script
        for line in (
            "partition=cpus",
            "time=24:00:00",
            "account=ours",
            "cpus-per-task=2",
            "array=0-1%2",
        )
    )
    assert_equal(joined(tmp_path / "run"), small[1])
    assert len(seeds) == 7


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each on this machine.

    It gives the function that kills the second node with all that runs on it.
    """
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ |= {
        "RAY_agent_register_timeout_ms": "180000",
        "RAY_health_check_failure_threshold": "20",
    }  # a busy machine is not a dead node
    node = {"num_cpus": 1, "memory": 3 << 30, "object_store_memory": 100 << 20}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = made.add_node(**node)
    ray.init(address=made.address, log_to_driver=False)
    raylet = psutil.Process(second.all_processes["raylet"][0].process.pid)

    def kill():
        for process in (*raylet.children(recursive=True), raylet):
            with contextlib.suppress(psutil.NoSuchProcess):  # a child of one that is gone already
                process.kill()
        made.remove_node(second, allow_graceful=False)

    yield kill
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "one node killed"])
def test_two_ray_nodes_make_the_records_of_one_process(killed, cluster, tmp_path, monkeypatch):
    seeds = some_seeds(tmp_path / "run", 12, 4, 4)
    logs = [tmp_path / f"run/shards/rounds/{rank:05d}/problems.jsonl" for rank in (0, 1)]
    done = [tmp_path / f"run/logs/scale-rounds/completions/{rank:05d}" for rank in (0, 1)]
    state = []

    def begun(log):
        return log.exists() and log.read_bytes().count(b"\n") > 5

    class Together(shards.Rounds):
        """A task that has written its sixth problem waits for the other's sixth.

        So the kill finds both at work.
        """

        def run(self, data, rank=0, world_size=1):
            append = Log.append

            def waiting(log, row):
                place = append(log, row)
                while begun(logs[rank]) and not all(map(begun, logs)):
                    time.sleep(0.02)
                return place

            with mock.patch.object(Log, "append", waiting):
                super().run(data, rank, world_size)

    def kill_in_the_middle():
        while not all(map(begun, logs)):
            time.sleep(0.02)
        state.append([marker.exists() for marker in done])
        cluster()
        state.append([marker.exists() for marker in done])

    if killed:
        monkeypatch.setattr(shards, "Rounds", Together)
        threading.Thread(target=kill_in_the_middle, daemon=True).start()
    shards.run_shards(
        PROFILE,
        str(tmp_path / "run"),
        tasks=2,
        workers=2,
        executor="ray",
        replay=True,
        options={"mem_per_cpu_gb": 1},
    )
    if killed:
        assert state[0] == [False, False] and False in state[1], (
            "killed while both tasks were at work"
        )
    assert_equal(joined(tmp_path / "run"), single(tmp_path / "whole", seeds))
