"""`python -m kit study`: notebooks 05 and 06 over a grid of arms and seeds.

Each training has a run folder of its own (FOLDER/arm/seed). All plans are drawn and checked before
anything is trained. A study that is started again goes on: finished runs are skipped, a training
goes on from its checkpoint. The untrained policy is evaluated once, if there are more runs than go
at the same time: the first goes alone, the others take these rows of its evaluation. Runs of one
seed start from the same weights, have the same order of prompts as far as their arms allow, and
sample with the same seed.
"""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import cycle
from pathlib import Path
from queue import Queue

import pandas as pd
import yaml
from tqdm.auto import tqdm

from kit.arms import arm_facts, arm_plans, load_arms, own_arms, recorded_folder, recorded_study
from kit.commands.options import DIES
from kit.commands.runner import check_parameters, notebooks
from kit.core import profile as profiles
from kit.core import records
from kit.core.manifest import RECORDED, RunError, read_manifest
from kit.core.run import scale_of
from kit.core.types import digest
from kit.sandbox import cores

STUDY_STAGES = ("05_grpo", "06_evaluation")

# In a run folder: the untrained policy's evaluation, and the profile of an arm that changes it.
BEFORE = "before.parquet"
OWN_PROFILE = "profile.yaml"


class StudyError(RuntimeError):
    """Some runs of a study failed; the message says which and where their logs are."""


def problems_for(profile: str, data: str) -> Path:
    """`data`; if empty the folder of the recorded problems: the miniature has its own."""
    scale = scale_of(profiles.load_profile(profile).model_dump())
    return Path(data or RECORDED / ("mini" if scale else ""))


def prepare_study(
    profile: str, folder: Path, data: Path, arms: list[str], seeds: list[int], own: str, given: dict
) -> list[Path]:
    """A run folder for each seed and arm, with the problems and the plan in it.

    `own` is a file of arms of one's own; no arms: all of that file, without one all of the kit.
    `given` are parameters of the notebooks that its runs will get.
    All arms of a seed come before the next seed, so that a study cut short has whole seeds.
    Raises ProfileError, ArmError, RunError (a folder made otherwise, no such parameter),
    ModelUnavailable: then nothing has been computed or written.
    """
    from kit.grpo import tokenizer

    check_parameters(given, [path for path in notebooks() if path.stem in STUDY_STAGES])
    records.quiet()
    loaded = profiles.load_profile(profile)
    source = data / "filtered.parquet"
    if not source.exists():
        raise RunError(
            f"{source} is not there: run notebooks 01 to 03 into {data} first, "
            "or leave out --data for the recorded problems"
        )
    problems = records.load_problems(source)
    known = load_arms()
    added = own_arms(Path(own), known) if own else {}
    known |= added
    plans = arm_plans(known, problems, loaded, seeds, arms or added)
    # Refuses a policy that cannot be asked in messages.
    tokenizer(loaded.grpo.policy)
    # What makes each run the one that it is; a folder of another one is refused.
    content = digest(sorted(problem.id for problem in problems if problem.kept))
    facts = {}
    for (arm, seed), plan in plans.items():
        run = folder / arm / str(seed)
        facts[run] = {
            "arm": arm,
            "seed": seed,
            "profile": loaded.name,
            "data": content,
            **known[arm].model_dump(),
            "problems": int(plan.problem_id.nunique()),
            "plan": digest(plan.to_csv()),
        }
        if given:
            facts[run]["parameters"] = given
        if (run / "arm.json").exists() and arm_facts(run) != facts[run]:
            raise RunError(
                f"{run} was made with other problems, values or another arm of that name: "
                "choose another --out, or delete that folder"
            )
    # Only now write.
    for run, plan in zip(facts, plans.values()):
        if not (run / "arm.json").exists():
            changed = known[facts[run]["arm"]].training()
            _write_run(run, facts[run], plan, source, {"base": profile, "grpo": changed})
    return list(facts)


def _write_run(run, facts, plan, source, own):
    """A run folder; the note comes last, so a folder that has it is whole."""
    run.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, run / "filtered.parquet")
    records.write_parquet(plan, run / "plan.parquet")
    if own["grpo"]:
        (run / OWN_PROFILE).write_text(yaml.safe_dump(own), encoding="utf-8")
    (run / "arm.json").write_text(json.dumps(facts, indent=1))


def what_it_finds(profile: str, data: Path, runs: list[Path]) -> str:
    """`design.study_power` of prepared runs as text; nothing of a recorded study, no forecast."""
    from kit.design import study_power

    loaded = profiles.load_profile(profile)
    scale = scale_of(loaded.model_dump())
    recorded = recorded_study(recorded_folder(scale))
    if recorded is None:
        return "no study is recorded whose variances would tell what this one can find"
    problems = records.load_problems(data / "filtered.parquet")
    arms = [run.parent.name for run in runs]
    seeds = len(runs) // len(set(arms))
    found = study_power(loaded, problems, arms, seeds, recorded)
    lines = [
        "What it can find (smallest effect in 80% of such studies, by the variances of the "
        f"recorded study{scale}), or what is missing:"
    ]
    # First what it can test.
    for row in sorted(found.itertuples(), key=lambda row: row.missing != ""):
        # Of a set that the recorded study does not have no variance is known.
        least = f"{row.smallest:.2f}".replace("nan", "unknown")
        able = row.missing or f"{least} with {row.seeds} seeds, {row.problems} problems"
        if pd.notna(row.low):
            within = f"[{row.low:+.2f}, {row.high:+.2f}]"
            able += f"; recorded {row.value:+.2f}, 95% of repeats of this size {within}"
        lines.append(f"  {row.claim:4}{row.comparison}: {able}")
    return "\n".join(lines)


def run_study(profile: str, runs: list[Path], jobs: int, keep_policies: bool) -> None:
    """Train and evaluate all runs, `jobs` at once, each in processes of its own.

    Raises StudyError at the end if some failed.
    """
    left = [run for run in runs if not done(run)]
    failed = []
    children: dict[Path, subprocess.Popen] = {}
    # Runs at once take GPUs in turn; one that trains on several has them all.
    cards: Queue[str] = Queue()
    for _, card in zip(range(jobs), cycle(_cards(profile))):
        cards.put(card)
    with (
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(runs), initial=len(runs) - len(left), desc="runs", smoothing=0) as bar,
    ):
        try:
            # The evaluation of the untrained policy comes first: then all others can share it. If
            # all fit in at once, waiting for it would take longer.
            together = len(left) <= jobs or _before(runs)
            for batch in (left, []) if together else (left[:1], left[1:]):
                shared = (profile, runs, jobs, keep_policies, children, cards)
                started = {pool.submit(_one, run, *shared): run for run in batch}
                for future in as_completed(started):
                    bar.update()
                    run = started[future]
                    # What fails before its process runs, such as a full disk, is one run's too.
                    if error := future.exception():
                        told = f"{type(error).__name__}: {error}"
                    elif code := future.result():
                        told = f"exit {code}, see study.log there"
                    else:
                        continue
                    failed.append(run)
                    bar.write(f"{run} failed ({told}); the others go on")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children.values():
                child.terminate()
            raise
    if failed:
        raise StudyError(
            f"{len(failed)} of {len(runs)} runs failed: {', '.join(map(str, failed))}; "
            "the same command tries them again"
        )


def done(run: Path) -> bool:
    """Whether both notebooks ran to their end in it."""
    stages = read_manifest(run)["stages"]
    return all("finished" in stages.get(stage, {}) for stage in STUDY_STAGES)


def _cards(profile):
    """The GPUs, as CUDA names them; else one empty name."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if profiles.load_profile(profile).grpo.devices == 1 and torch.cuda.device_count() > 1:
        return named.split(",") if named else [*map(str, range(torch.cuda.device_count()))]
    return [""]


def _before(runs):
    """The evaluation of the first finished run that has one."""
    tables = (run / "evaluation.parquet" for run in runs if done(run))
    return next(filter(Path.exists, tables), None)


def _one(run, profile, runs, jobs, keep_policies, children, cards):
    """Exit code of one run; its output goes to study.log."""
    # The untrained policy is the same in every run: take its rows from a finished one.
    if not (run / BEFORE).exists() and (shared := _before(runs)):
        rows = records.read_parquet(shared).query("checkpoint == 'before' and errors == 0")
        records.write_parquet(rows, run / BEFORE)
    # If the study is killed, so is the run: a second one in this folder would spoil its records.
    # Nobody sees figures of its health panel either.
    environment = os.environ | {DIES: "1", "KIT_HEADLESS": "1"}
    # The runs at once share the cores.
    if jobs > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, cores() // jobs))
    facts = arm_facts(run)
    # A run in segments makes problems between them, see commands.loops.
    words = "-m kit run --only 05 --only 06 --profile"
    if "segments" in facts:
        words, given = "-m kit loop --profile", {}
    else:
        # A study has no use for the steps by hand.
        given = {"SCRATCH_STEPS": 0} | facts.get("parameters", {}) | {"TRAIN_SEED": facts["seed"]}
    own = run / OWN_PROFILE
    chosen = str(own) if own.exists() else profile
    command = [sys.executable, *words.split(), chosen, "--out", str(run)]
    for name, value in given.items():
        # As YAML, which reads 3e-05 as text.
        written = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n")
        command.append(f"-p{name}={written.strip()}")
    card = cards.get()
    if card:
        environment["CUDA_VISIBLE_DEVICES"] = card
    try:
        with (run / "study.log").open("a") as log:
            child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
            children[run] = child
            code = child.wait()
    finally:
        cards.put(card)
    # Weights are large, and no later step reads them.
    if code == 0:
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        if not keep_policies:
            shutil.rmtree(run / "policy", ignore_errors=True)
    return code
