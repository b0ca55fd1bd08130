"""`python -m kit loop`: trainings in segments, with new problems between them (kit.loop).

Each training has a run folder of its own (FOLDER/arm/seed), as in a study. It can be killed
anywhere: the same command goes on, and the records are the same.
"""

import json
import runpy
import shutil
import time
from itertools import product
from pathlib import Path

import pandas as pd

from kit import grpo
from kit.arms import ArmError, arm_facts
from kit.commands.launcher import launch, training_script, trains_in_subprocess
from kit.commands.runner import run_notebooks
from kit.commands.study import done
from kit.core import profile as profiles
from kit.core import records
from kit.core.manifest import RunError
from kit.core.run import Run
from kit.core.types import digest
from kit.loop import LOOP_ARMS, TeacherLoop
from kit.loop_findings import segment_table


def prepare_loops(
    profile: str,
    folder: Path,
    data: Path,
    arms: list[str],
    seeds: list[int],
    segments: int,
    turns: int,
) -> list[Path]:
    """A run folder for each seed and arm of LOOP_ARMS, with the first problems and their seeds.

    Args:
        profile: a name, or the path of a file.
        folder: gets a folder `arm/seed` for each.
        data: a run folder with notebooks 01 to 03 done.
        arms, seeds: of training.
        segments: of a training.
        turns: further turns of each chain, for each segment but the first.
    Returns:
        The folders; all arms of a seed come before the next seed.
    Raises:
        ArmError: an arm is unknown.
        RunError: a folder was made otherwise, or a segment would have no step.
        RecordError: `data` has no problems.
    Source: our choice.
    """
    if not {*arms} <= {*LOOP_ARMS}:
        raise ArmError(f"the arms of a loop are {', '.join(LOOP_ARMS)}")
    if profiles.load_profile(profile).grpo.steps < segments:
        raise RunError(f"{segments} segments need as many steps (grpo.steps), or more")
    first = digest([x.id for x in records.load_problems(data / "filtered.parquet")])
    facts = {"data": first, "segments": segments, "turns": turns}
    runs = []
    for seed, arm in dict.fromkeys(product(seeds, arms)):
        run = folder / arm / str(seed)
        note = run / "arm.json"
        told = json.dumps({"arm": arm, "seed": seed, **facts}, indent=1)
        if not note.exists():
            run.mkdir(parents=True, exist_ok=True)
            for name in ("filtered.parquet", "seeds.parquet"):
                shutil.copyfile(data / name, run / name)
            # The note comes last, so a folder that has it is whole.
            note.write_text(told)
        elif note.read_text() != told:
            raise RunError(f"{run} was made with other values: choose another --out")
        runs.append(run)
    return runs


def train_segment(run: Run, profile: str) -> None:
    """Go on with a training to the end of its plan: the cells of notebook 05 tagged `train`.

    Args:
        run: of stage 05; its checkpoint has the optimiser too.
        profile: its name, or the path of its file.
    Source: our choice.
    """
    last = grpo.last_checkpoint(run.path("checkpoints")) or "checkpoint-0"
    # The policy of the segment before: nothing asks it any more.
    if int(last.rpartition("-")[2]) < run.table("plan").step.nunique():
        shutil.rmtree(run.path("policy"), ignore_errors=True)
    given = {"PROFILE": profile, "SEED": 0, "TRAIN_SEED": run.train_seed, "LEARNING_RATE": None}
    if not trains_in_subprocess(run):
        runpy.run_path(str(training_script(run, given)))
    elif not run.path("policy").exists():
        launch(run, **given)


def run_loop(profile: str, folder: Path) -> None:
    """Run the loop of a prepared folder to its end, then notebooks 05 and 06 on what it left."""
    if done(folder):
        return
    loop = TeacherLoop(profile, folder)
    run, steps = loop.run, loop.steps
    if not loop.arm.between:
        _take_over(folder)
    times = records.Log(run.path("segments.jsonl"))
    plan = run.path("plan.parquet")
    planned = run.table("plan").step.nunique() if plan.exists() else 0
    # The last segment that has a plan may not be trained to its end.
    for segment in range(max(1, planned // steps), loop.segments + 1):
        if planned < steps * segment:
            began = time.monotonic()
            problems = loop.problems(segment)
            run.save_problems(problems, "filtered")
            plan = loop.plan(segment, problems)
            again = len(loop.tried[segment]) * run.profile.grpo.group_size
            took = time.monotonic() - began
            times.append({"segment": segment, "seconds": took, "again": again})
            run.save_table(plan, "plan")
        train_segment(run, profile)
    plan, bins = run.table("plan"), run.profile.difficulty.bins
    bill = segment_table(run.problems("filtered"), plan, loop.segments, bins)
    bill["rollouts"] = steps * run.profile.grpo.prompts_per_step * run.profile.grpo.group_size
    spent = pd.DataFrame(times).drop_duplicates("segment")
    bill = bill.merge(spent).assign(arm=folder.parent.name, seed=run.train_seed)
    run.save_table(bill, "segments")
    given = {"SCRATCH_STEPS": 0, "TRAIN_SEED": run.train_seed}
    run_notebooks(profile, str(folder), ["05", "06"], given)


def _take_over(folder):
    """Arms whose further problems are made before the training have the same: made once a seed.

    What they took, in `segments.jsonl`, counts for each.
    """
    for arm in LOOP_ARMS:
        made = folder.parent.parent / arm / folder.name
        there = (made / "segments.jsonl").exists() and not (folder / "segments.jsonl").exists()
        alike = there and arm_facts(made) == arm_facts(folder) | {"arm": arm}
        if alike and not LOOP_ARMS[arm].between:
            # In this order: a copy that is cut off is made again.
            shutil.copyfile(made / "further.jsonl", folder / "further.jsonl")
            first = next(iter(records.Log(made / "segments.jsonl")))
            records.Log(folder / "segments.jsonl").append(first)
