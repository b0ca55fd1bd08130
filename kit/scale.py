"""`python -m kit scale`: the rounds of notebook 02, and a second look at their problems, sharded by seed over processes or machines.

One datatrove step stands behind three executors: local processes, Slurm, Ray. Task r of N takes the seeds r, r + N, ... and works in a
folder of its own as the notebook works in the run folder, so a task that was killed goes on where it stopped. When all tasks are done
their rows are counted, checked and joined into the run folder; notebook 02 finds every problem there and asks no model. Machines meet
only in that folder: it must be on a disk that all of them see. (A datatrove step that lacks a package may write nothing and still count as
done: nothing here is believed that was not read back.)
"""

import inspect
import json
import os
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.pipeline.base import PipelineStep
from filelock import FileLock

from kit import environments, records
from kit import run as runs
from kit.profile import Role
from kit.records import Log, Problem, RecordError
from kit.rounds import Rounds
from kit.run import Run
from kit.sandbox import cores
from kit.seeds import Seed, from_frame


class ScaleError(RuntimeError):
    """Shards are missing, unfinished or not what their tasks wrote; the message says how to go on."""


class Stage(PipelineStep):
    """What one task does with its shard, and how the shards are joined. `programs` run side by side in each of a task's two sandboxes;
    `workers` tasks at once share the profile's requests in flight."""

    type, file, read = "kit", "", None

    def __init__(self, run: Run, workers: int, programs: int):
        super().__init__()
        self.of, self.workers, self.programs = run, workers, programs

    @property
    def seeds(self) -> list[Seed]:
        """Of the whole run, in order."""
        return from_frame(self.of.table("seeds"))

    def folder(self, rank: int) -> Path:
        """Where a task works."""
        return self.of.path(f"shards/{self.name}/{rank:05d}")

    def marker(self, rank: int) -> Path:
        """The file by which datatrove knows a task that is done."""
        return self.of.path(f"logs/scale-{self.name}/completions/{rank:05d}")

    def run(self, data, rank: int = 0, world_size: int = 1) -> None:
        folder, began = self.folder(rank), time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(
            folder / "lock"
        ):  # of a node given up for dead the process may live on: two must not write
            shard = Run("02_rounds", self.of.profile, folder, {})
            with (
                shard.box(workers=self.programs) as box,
                shard.box(hash_seed=1, workers=self.programs) as other,
            ):
                note = self.work(shard, box, other, rank, world_size)
            programs = sum((b.counts for b in shard.boxes), Counter())
            self.stat_update("rows", value=note["rows"])
            note |= {
                "seconds": round(time.monotonic() - began, 2),
                "programs": programs,
                "sandbox": box.mode,
            }
            (part := folder / "shard.json.part").write_text(json.dumps(note))
            os.replace(part, folder / "shard.json")

    def work(self, shard: Run, box, other, rank: int, tasks: int) -> dict:
        """Write `file` into the shard's folder; returns how many `rows` it has, and how many `errors` of ours it lacks."""
        raise NotImplementedError

    def note(self, rank: int) -> dict:
        """What a task that is done has counted."""
        return json.loads((self.folder(rank) / "shard.json").read_text())

    def stale(self, rank: int) -> bool:
        """Whether a task that is done is to be done again."""
        return (self.folder(rank) / "shard.json").exists() and self.note(rank)["errors"] > 0

    def shards(self, tasks: int):
        """(rank, its seeds, note, rows) of every shard. Raises ScaleError unless it holds what its task wrote, of its own seeds."""
        seeds = self.seeds
        for rank in range(tasks):
            mine = seeds[rank::tasks]
            try:
                note, rows = self.note(rank), self.read(self.folder(rank) / self.file)
            except (OSError, ValueError, RecordError) as e:
                self.refuse(rank, f"cannot be read ({str(e)[:200]})")
            if len(rows) != note["rows"]:
                self.refuse(rank, f"has {len(rows)} rows where its task wrote {note['rows']}")
            yield rank, mine, note, rows

    def refuse(self, rank: int, why: str) -> None:
        """Raises ScaleError; the shard counts as not done from here on."""
        self.marker(rank).unlink(missing_ok=True)
        raise ScaleError(
            f"{self.folder(rank)} {why}. Run the same command again: it makes this shard anew from its own logs; "
            "if that does not help, delete that folder first"
        )


class Generate(Stage):
    """The rounds. Errors of engine or sandbox are left out of a finished shard, and tried again when the command is run again."""

    name, file, read = "rounds", "problems.parquet", staticmethod(records.load)

    def work(self, shard, box, other, rank, tasks):
        def part(role: Role) -> Role:  # the endpoints are everybody's
            return (
                role.model_copy(update={"concurrency": max(1, role.concurrency // self.workers)})
                if role.engine == "openai"
                else role
            )

        profile = shard.profile
        with (
            shard.engine(part(profile.teacher), "teacher") as teacher,
            shard.engine(part(profile.student), "student") as student,
        ):
            rounds = Rounds(profile, teacher, student, box, other, shard.path("problems.jsonl"))
            problems = list(rounds.generate(self.seeds, rank, tasks))
        good = [p for p in problems if p.status != "error"]
        shard.save_problems(good, "problems")
        return {"rows": len(good), "errors": len(problems) - len(good)}

    def join(self, tasks: int) -> dict:
        """Write problems.jsonl; counts for the manifest. Raises ScaleError if a problem is there twice, or a seed left nothing behind."""
        numbers, whole = self.of.profile.rounds, self.of.path("problems.jsonl")
        stones = {s.id for s in self.seeds[: numbers.stones]}
        part = whole.with_suffix(".part")
        part.unlink(missing_ok=True)
        log, known, counts = Log(part), set(), Counter(problems=0, errors=0)
        for rank, seeds, note, problems in self.shards(tasks):
            places = {(p.chain_id, p.turn) for p in problems}
            if (
                {p.seed_id for p in problems} - {s.id for s in seeds}
                or len(places) < len(problems)
                or places & known
            ):
                self.refuse(rank, "holds problems of other seeds, or one twice")
            begun = {
                (f"{method}-{s.id}", 1)
                for s in seeds
                for method in (
                    ["real"]
                    if s.as_is
                    else [
                        "multi",
                        *(["single"] if numbers.baseline else []),
                        *(["stones"] if s.id in stones else []),
                    ]
                )
            }
            if len(begun - places) > note["errors"]:
                self.refuse(
                    rank,
                    f"has nothing of {len(begun - places)} chains that its seeds should have, and {note['errors']} errors",
                )
            for problem in problems:
                log.append(problem.model_dump())
            known |= places
            counts.update(problems=len(problems), errors=note["errors"])
        log.close()
        if (
            strangers := {(r["chain_id"], r["turn"]) for r in Log(whole) if r["status"] != "error"}
            - known
        ):
            raise ScaleError(
                f"{whole} holds {len(strangers)} problems that no shard has, so something else wrote it: keep it and go on with "
                "`python -m kit run`, or delete it and run the same command again"
            )
        if counts["problems"]:
            os.replace(part, whole)
        return dict(counts)


class Verify(Stage):
    """Every valid problem's program run again in both sandboxes: are its outputs still those that are recorded?"""

    name, file, read = "verify", "verified.parquet", staticmethod(pd.read_parquet)
    columns = [
        "id",
        "chain_id",
        "turn",
        "outcome",
    ]  # outcome: same, differs, error (ours), or the reason for which it is refused now

    def valid(self):
        """The rows of the valid problems."""
        return (row for row in Log(self.of.path("problems.jsonl")) if row["status"] == "valid")

    def stale(self, rank):
        note, problems = self.folder(rank) / "shard.json", self.of.path("problems.jsonl")
        return (
            super().stale(rank) or note.exists() and note.stat().st_mtime < problems.stat().st_mtime
        )

    def work(self, shard, box, other, rank, tasks):
        kinds = environments.make(shard.profile.rounds)

        def outcome(problem: Problem) -> str:
            try:
                return (
                    "same"
                    if kinds[problem.environment].verify(problem, box, other).id == problem.id
                    else "differs"
                )
            except environments.Rejected as e:
                return str(e.reason)
            except environments.InfrastructureError:
                return "error"

        mine = {s.id for s in self.seeds[rank::tasks]}
        problems = [Problem.model_validate(row) for row in self.valid() if row["seed_id"] in mine]
        with ThreadPoolExecutor(self.programs) as pool:
            rows = [
                (p.id, p.chain_id, p.turn, found)
                for p, found in zip(problems, pool.map(outcome, problems))
            ]
        shard.save_table(pd.DataFrame(rows, columns=self.columns), "verified")
        return {"rows": len(rows), "errors": sum(row[3] == "error" for row in rows)}

    def join(self, tasks):
        """Write verified.parquet; counts for the manifest. Raises ScaleError if a shard lacks a problem of its seeds."""
        tables, wanted = [], defaultdict(set)
        for row in self.valid():
            wanted[row["seed_id"]].add((row["chain_id"], row["turn"]))
        for rank, seeds, _, table in self.shards(tasks):
            places = list(zip(table.chain_id, table.turn))
            if set(places) != set().union(*(wanted[s.id] for s in seeds)) or len(set(places)) < len(
                places
            ):
                self.refuse(rank, "does not hold the valid problems of its seeds")
            tables.append(table)
        whole = pd.concat(tables, ignore_index=True)
        self.of.save_table(whole, "verified")
        return {"problems": len(whole), **whole.outcome.value_counts().to_dict()}


STAGES = {stage.name: stage for stage in (Generate, Verify)}
EXECUTORS = {
    "local": LocalPipelineExecutor,
    "slurm": SlurmPipelineExecutor,
    "ray": RayPipelineExecutor,
}


def run(
    stage: str,
    profile: str,
    out: str = "",
    tasks: int = 1,
    workers: int = 1,
    executor: str = "local",
    replay: bool = False,
    options: dict | None = None,
) -> dict | None:
    """Do what is not done of `tasks` shards, `workers` of them at once, then join them; returns the counts, None if Slurm does it later.

    `options`: keywords of datatrove's executor; those that Slurm's does not know go to sbatch. Raises ScaleError, or what a task raised."""
    for name, there in ((stage, STAGES), (executor, EXECUTORS)):
        if name not in there:
            raise ScaleError(f"there is no {name!r}: choose one of {', '.join(there)}")
    of = runs.start(
        f"scale_{stage}", profile, str(Path(out).resolve()) if out else "", replay=replay
    )
    if not replay and not of.path("seeds.parquet").exists():
        raise ScaleError(
            f"{of.folder} has no seeds.parquet: run `python -m kit run --only 01` with the same --profile and --out first"
        )
    if stage == "verify" and not of.path("problems.jsonl").exists():
        raise ScaleError(f"{of.folder} has no problems.jsonl: run the rounds first")
    if (known := runs.read_manifest(of.folder)["stages"][of.stage].get("tasks", tasks)) != tasks:
        raise ScaleError(
            f"{of.folder} was begun with {known} tasks: say --tasks {known}, or choose another --out"
        )
    if (
        executor == "local"
        and workers > 1
        and "vllm" in (of.profile.teacher.engine, of.profile.student.engine)
        and stage == "rounds"
    ):
        raise ScaleError(
            "every worker would load the profile's models: serve them (`vllm serve`, engine: openai), or say --workers 1"
        )
    runs.note(of.folder, of.stage, tasks=tasks)
    options = options or {}
    cpus = max(1, cores() // workers) if executor == "local" else options.get("cpus_per_task", 1)
    step = STAGES[stage](of, workers, 2 * cpus)
    for rank in range(tasks):
        if step.stale(rank):
            step.marker(rank).unlink(missing_ok=True)
    pipeline = _executor(
        executor,
        options,
        pipeline=[step],
        tasks=tasks,
        workers=workers,
        logging_dir=str(step.marker(0).parent.parent),
    )
    pipeline.run()
    if missing := pipeline.get_incomplete_ranks(skip_completed=True):
        if executor == "slurm":
            print(
                f"Slurm job {pipeline.job_id} has {len(missing)} of {tasks} tasks. When it has ended run the same command again: it joins the "
                "shards, or submits what is missing"
            )
            return None
        raise ScaleError(
            f"{len(missing)} of {tasks} tasks are not finished: {pipeline.logging_dir.path}/logs says why; the same command goes on"
        )
    counts, notes = step.join(tasks), [step.note(rank) for rank in range(tasks)]
    of.done(**counts)
    runs.note(
        of.folder,
        of.stage,
        programs=sum((Counter(n["programs"]) for n in notes), Counter()),
        sandbox=sorted({n["sandbox"] for n in notes}),
    )
    if counts.get("errors"):
        print(
            f"{counts['errors']} problems are missing through errors of engine or sandbox: the same command tries them again"
        )
    return counts


def _executor(kind: str, options: dict, **common) -> PipelineExecutor:
    known = inspect.signature(EXECUTORS[kind]).parameters
    own, others = (
        {k: v for k, v in options.items() if (k in known) == here} for here in (True, False)
    )
    if kind == "slurm":
        if not {"partition", "time"} <= own.keys():
            raise ScaleError(
                "Slurm needs at least --option partition=NAME and --option time=HH:MM:SS"
            )
        # This environment's python and datatrove's own command, also where no environment is active.
        here = {
            "job_name": "kit-scale",
            "qos": "",
            "env_command": f'export PATH="{Path(sys.executable).parent}:$PATH"',
        }
        return SlurmPipelineExecutor(**common, **here | own, sbatch_args=others)
    if others:
        raise ScaleError(
            f"the {kind} executor has no option {', '.join(others)}; it has {', '.join(known)}"
        )
    if kind == "ray":
        import ray

        ray.init(
            ignore_reinit_error=True
        )  # this machine's cluster, or that of RAY_ADDRESS; where there is none, a cluster of one
    return EXECUTORS[kind](**common, **own)
