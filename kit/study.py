"""`python -m kit study`: notebooks 05 and 06 over a grid of arms and seeds, each in a run folder of its own (FOLDER/arm/seed).

All plans are drawn and checked before anything is trained. A study that is started again goes on: finished runs are skipped, a training
goes on from its checkpoint. The untrained policy is evaluated once; the other runs take its completions from the first one's log.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm.auto import tqdm

from kit import findings, records
from kit import profile as profiles
from kit.run import RunError, read_manifest
from kit.runner import check, notebooks

STAGES = ("05_grpo", "06_evaluation")
BEFORE = Path("completions/06_evaluation-before.jsonl")


class StudyError(RuntimeError):
    """Some runs of a study failed; the message says which and where their logs are."""


def prepare(
    profile: str,
    folder: Path,
    data: Path,
    arms: Iterable[str] = (),
    seeds: Iterable[int] = (0, 1, 2),
) -> list[Path]:
    """A run folder for each seed and arm, with the problems and the plan in it; seeds outside, so that a study cut short has whole seeds.

    Raises ProfileError, ArmError, RunError (a folder made otherwise), ModelUnavailable: nothing has been computed then."""
    from kit.grpo import tokenizer

    loaded = profiles.load(profile)
    if not (source := Path(data) / "filtered.parquet").exists():
        raise RunError(
            f"{source} is not there: run notebooks 01 to 03 into {data} first, or leave out --data for the recorded problems"
        )
    problems, known = records.load(source), findings.arms()
    plans = findings.plans(known, problems, loaded, seeds, arms)
    tokenizer(loaded.grpo.policy)  # refuses a policy that cannot be asked in messages
    wanted, data_digest = {}, records.digest(sorted(p.id for p in problems if p.kept))
    for (arm, seed), plan in plans.items():
        facts = {
            "arm": arm,
            "seed": seed,
            "profile": loaded.name,
            "data": data_digest,
            **known[arm].model_dump(),
            "problems": int(plan.problem_id.nunique()),
            "plan": records.digest(plan.to_csv()),
        }
        run = Path(folder) / arm / str(seed)
        if (note := run / "arm.json").exists() and json.loads(note.read_text()) != facts:
            raise RunError(
                f"{run} was made with other problems, values or another arm of that name: choose another --out, or delete that folder"
            )
        wanted[run] = facts, plan
    for run, (facts, plan) in wanted.items():
        run.mkdir(parents=True, exist_ok=True)
        if not (run / "arm.json").exists():
            shutil.copyfile(source, run / "filtered.parquet")
            records.write_parquet(plan, run / "plan.parquet")
            (run / "arm.json").write_text(json.dumps(facts, indent=1))
    return list(wanted)


def run(
    profile: str,
    runs: list[Path],
    jobs: int = 1,
    parameters: dict | None = None,
    keep_policies: bool = False,
) -> None:
    """Train and evaluate all runs, `jobs` at once, each in processes of its own. Raises StudyError at the end if some failed."""
    check(parameters or {}, [n for n in notebooks() if n.stem in STAGES])
    left = [r for r in runs if not done(r)]
    failed, children = [], {}
    with (
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(runs), initial=len(runs) - len(left), desc="runs", smoothing=0) as bar,
    ):
        started = {
            pool.submit(_one, profile, r, runs, jobs, parameters or {}, keep_policies, children): r
            for r in left
        }
        try:
            for future in as_completed(started):
                bar.update()
                if code := future.result():
                    failed.append(started[future])
                    bar.write(
                        f"{started[future]} failed (exit {code}), see study.log there; the others go on"
                    )
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children.values():
                child.terminate()
            raise
    if failed:
        raise StudyError(
            f"{len(failed)} of {len(runs)} runs failed: {', '.join(map(str, failed))}; the same command tries them again"
        )


def done(run: Path) -> bool:
    """Whether both notebooks ran to their end in it."""
    stages = read_manifest(run)["stages"]
    return all("finished" in stages.get(stage, {}) for stage in STAGES)


def _one(
    profile: str,
    run: Path,
    runs: list[Path],
    jobs: int,
    parameters: dict,
    keep_policies: bool,
    children: dict,
) -> int:
    """Exit code of one run; its output goes to study.log."""
    if not (run / BEFORE).exists() and (
        finished := next((r for r in runs if done(r) and (r / BEFORE).exists()), None)
    ):
        (run / BEFORE).parent.mkdir(exist_ok=True)
        shutil.copyfile(finished / BEFORE, run / BEFORE)
    facts = json.loads((run / "arm.json").read_text())
    given = [
        f"-p{name}={json.dumps(value)}"
        for name, value in (parameters | {"TRAIN_SEED": facts["seed"]}).items()
    ]
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} if jobs > 1 else {}
    with (run / "study.log").open("a") as log:
        command = [
            sys.executable,
            "-m",
            "kit",
            "run",
            "--profile",
            profile,
            "--out",
            str(run),
            "--only",
            "05",
            "--only",
            "06",
            *given,
        ]
        child = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **threads}
        )
        children[run] = child
        code = child.wait()
    if code == 0:
        for heavy in ("checkpoints", *(() if keep_policies else ("policy",))):
            shutil.rmtree(run / heavy, ignore_errors=True)
    return code
