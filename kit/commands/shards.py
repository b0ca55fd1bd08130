"""`python -m kit scale`: the rounds of notebook 02, sharded by seed over processes or machines.

One datatrove step works in three executors: local processes, Slurm, Ray. Task r of N takes the
seeds r, r + N, ... and works in its own folder as the notebook does in the run folder, so a killed
task goes on where it stopped. At the end their rows are checked and joined into the run folder,
which all machines must see. Notebook 02 finds every problem there and asks no model. (A datatrove
step whose package is missing may write nothing and still count as done: the join reads everything
back.)
"""

import inspect
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import NoReturn

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from filelock import FileLock

from kit.core import records
from kit.core.manifest import note_stage, read_manifest
from kit.core.records import Log
from kit.core.run import Run, open_run
from kit.core.types import Problem
from kit.environments.verify import DeterminismCheck
from kit.sandbox import cores
from kit.seeds import seeds_from_frame
from kit.serving import open_engine
from kit.synthesis import Synthesis


class ScaleError(RuntimeError):
    """Shards are missing, unfinished or damaged; the message says how to go on."""


class Rounds(PipelineStep):
    """What one task does with its shard, and how the shards are joined.

    `workers` tasks run at once and share the profile's requests in flight; `programs` run side by
    side in each of a task's two sandboxes. Errors are left out of a finished shard; the same
    command tries them again.
    """

    type = "kit"
    name = "rounds"

    def __init__(self, run: Run, workers: int, programs: int):
        super().__init__()
        self.of = run
        self.workers = workers
        self.programs = programs

    def folder(self, rank: int) -> Path:
        """Where a task works."""
        return self.of.path(f"shards/rounds/{rank:05d}")

    def marker(self, rank: int) -> Path:
        """The file by which datatrove knows that a task is done."""
        return self.of.path(f"logs/scale-rounds/completions/{rank:05d}")

    def run(self, data, rank: int = 0, world_size: int = 1) -> None:
        """One task; datatrove calls it."""
        folder = self.folder(rank)
        began = monotonic()
        # The process of a node that is given up for dead may live on: two must not write.
        with FileLock(folder / "lock"):
            records.quiet()
            shard = Run("02_rounds", self.of.profile, folder)
            count = self.programs
            with shard.box(workers=count) as box, shard.box(hash_seed=1, workers=count) as other:
                note = self.work(shard, DeterminismCheck(box, other), rank, world_size)
            self.stat_update("rows", value=note["rows"])
            note |= {"seconds": round(monotonic() - began, 2), "sandbox": box.mode}
            note["programs"] = box.counts + other.counts
            with records.whole_file(folder / "shard.json") as part:
                part.write_text(json.dumps(note))

    def note(self, rank: int) -> dict:
        """What a task that is done has counted."""
        return json.loads((self.folder(rank) / "shard.json").read_text())

    def stale(self, rank: int) -> bool:
        """Whether a task that is done is to be done again."""
        return (self.folder(rank) / "shard.json").exists() and self.note(rank)["errors"] > 0

    def shards(self, tasks: int) -> Iterator[tuple]:
        """(rank, ids of its seeds, its note, its problems) of every shard. Raises ScaleError."""
        seeds = [*self.of.table("seeds").id]
        for rank in range(tasks):
            try:
                note = self.note(rank)
                problems = records.load_problems(self.folder(rank) / "problems.parquet")
            except (OSError, ValueError, records.RecordError) as error:
                self.refuse(rank, f"cannot be read ({str(error)[:200]})")
            if (count := len(problems)) != note["rows"]:
                self.refuse(rank, f"has {count} rows where its task wrote {note['rows']}")
            yield rank, seeds[rank::tasks], note, problems

    def refuse(self, rank: int, why: str) -> NoReturn:
        """Raises ScaleError; the shard counts as not done from here on."""
        self.marker(rank).unlink(missing_ok=True)
        fix = "Run the same command again; if that does not help, delete that folder first"
        raise ScaleError(f"{self.folder(rank)} {why}. {fix}")

    def work(self, shard: Run, check: DeterminismCheck, rank: int, tasks: int) -> dict:
        """Write problems.parquet; returns its `rows`, and how many `errors` the kit made."""

        def share(role):
            # All workers ask the same endpoints.
            part = {"concurrency": max(1, role.concurrency // self.workers)}
            return role.model_copy(update=part if role.engine == "openai" else {})

        profile = shard.profile
        with (
            open_engine(shard, share(profile.teacher), "teacher") as teacher,
            open_engine(shard, share(profile.student), "student") as student,
        ):
            rounds = Synthesis(profile, teacher, student, check, shard.path("problems.jsonl"))
            problems = list(rounds.generate(seeds_from_frame(self.of.table("seeds")), rank, tasks))
        good = [problem for problem in problems if problem.status != "error"]
        shard.save_problems(good, "problems")
        return {"rows": len(good), "errors": len(problems) - len(good)}

    def join(self, tasks: int) -> dict:
        """Write problems.jsonl. Raises ScaleError if a problem is there twice or a stranger's."""
        whole = self.of.path("problems.jsonl")
        part = whole.with_suffix(".part")
        part.unlink(missing_ok=True)
        log = Log(part)
        known: set[tuple] = set()
        errors = 0
        for rank, seeds, note, problems in self.shards(tasks):
            # Every problem belongs to a seed of this shard, and none is there twice.
            places = {(problem.chain_id, problem.turn) for problem in problems}
            strangers = {problem.seed_id for problem in problems} - {*seeds}
            if strangers or len(places) < len(problems) or places & known:
                self.refuse(rank, "holds problems of other seeds, or one twice")
            for problem in problems:
                log.append(problem.model_dump())
            known |= places
            errors += note["errors"]
        log.close()
        # Problems that are in the run folder already must not be lost.
        rows = Log(whole, Problem)
        there = {(row["chain_id"], row["turn"]) for row in rows if row["status"] != "error"}
        if there - known:
            raise ScaleError(
                f"{whole} holds {len(there - known)} problems that no shard has: keep it and go on "
                "with `python -m kit run`, or delete it and run the same command again"
            )
        if known:
            part.replace(whole)
        return {"problems": len(known), "errors": errors}


EXECUTORS = dict(local=LocalPipelineExecutor, slurm=SlurmPipelineExecutor, ray=RayPipelineExecutor)


def _executor(kind, options, **common):
    """The executor of datatrove with the user's options."""
    known = inspect.signature(EXECUTORS[kind]).parameters
    own = dict(options)
    others = {key: own.pop(key) for key in options if key not in known}
    if kind == "slurm":
        if not {"partition", "time"} <= own.keys():
            raise ScaleError("Slurm needs --option partition=NAME and --option time=HH:MM:SS")
        # This environment's python and datatrove's command, also where no environment is active.
        path = f'export PATH="{Path(sys.executable).parent}:$PATH"'
        own = {"job_name": "kit-scale", "qos": "", "env_command": path} | own
        return SlurmPipelineExecutor(**common, **own, sbatch_args=others)
    if others:
        raise ScaleError(
            f"the {kind} executor has no option {', '.join(others)}; it has {', '.join(known)}"
        )
    if kind == "ray":
        import ray

        # This machine's cluster, or that of RAY_ADDRESS; if there is none, a cluster of one.
        ray.init(ignore_reinit_error=True)
    return EXECUTORS[kind](**common, **own)


def _joined(step, tasks):
    """Join the shards and close the stage of the run; returns the counts."""
    counts = step.join(tasks)
    step.of.done(**counts)
    # The sandboxes of all tasks count as the run's.
    notes = [step.note(rank) for rank in range(tasks)]
    modes = sorted({note["sandbox"] for note in notes})
    programs = sum((Counter(note["programs"]) for note in notes), Counter())
    note_stage(step.of.folder, step.of.stage, programs=programs, sandbox=modes)
    if lost := counts.get("errors"):
        print(f"{lost} problems are missing through errors of the kit: run the same command again")
    return counts


def run_shards(
    profile: str,
    out: str = "",
    tasks: int = 1,
    workers: int = 1,
    executor: str = "local",
    replay: bool = False,
    options: dict | None = None,
) -> dict | None:
    """Do those of `tasks` shards that are not done, `workers` at once, then join all of them.

    `options` are keywords of datatrove's executor; those that Slurm's does not know go to sbatch.
    Returns the counts, or None if Slurm does it later. Raises ScaleError, or what a task raised.
    """
    if executor not in EXECUTORS:
        raise ScaleError(f"there is no {executor!r}: choose one of {', '.join(EXECUTORS)}")
    of = open_run("scale_rounds", profile, out and str(Path(out).resolve()), replay=replay)
    # A replay has its seeds from the recording.
    if not replay and not of.path("seeds.parquet").exists():
        first = "run `python -m kit run --only 01` with the same --profile and --out first"
        raise ScaleError(f"{of.folder} has no seeds.parquet: {first}")
    begun = read_manifest(of.folder)["stages"][of.stage].get("tasks", tasks)
    if begun != tasks:
        way_out = f"say --tasks {begun}, or choose another --out"
        raise ScaleError(f"{of.folder} was begun with {begun} tasks: {way_out}")
    engines = of.profile.teacher.engine, of.profile.student.engine
    if executor == "local" and workers > 1 and "vllm" in engines:
        way_out = "serve them (`vllm serve`, engine: openai), or say --workers 1"
        raise ScaleError(f"every worker would load the profile's models: {way_out}")
    # Two programs side by side for each core of a task.
    options = options or {}
    cpus = max(1, cores() // workers) if executor == "local" else options.get("cpus_per_task", 1)
    step = Rounds(of, workers, 2 * cpus)
    for rank in filter(step.stale, range(tasks)):
        step.marker(rank).unlink(missing_ok=True)
    common = {"tasks": tasks, "workers": workers, "logging_dir": str(step.marker(0).parents[1])}
    pipeline = _executor(executor, options, pipeline=[step], **common)
    note_stage(of.folder, of.stage, tasks=tasks)
    pipeline.run()
    missing = len(pipeline.get_incomplete_ranks(skip_completed=True))
    if missing and executor == "slurm":
        print(f"Slurm job {pipeline.job_id} has {missing} of {tasks} tasks. When it has ended run")
        print("the same command again: it joins the shards, or submits what is missing")
        return None
    if missing:
        why = f"{pipeline.logging_dir.path}/logs says why; the same command goes on"
        raise ScaleError(f"{missing} of {tasks} tasks are not finished: {why}")
    return _joined(step, tasks)
