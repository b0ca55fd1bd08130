"""`python -m kit`: run, study, loop, pool, scale, plan, doctor, models, regrade and others."""

import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from typer import Argument, Option

from kit.commands.options import (
    JobsOption,
    ParameterOption,
    ProfileOption,
    RunUsage,
    SeedsOption,
    console,
    given,
    seed_numbers,
    show,
    stoppable,
)
from kit.core.manifest import RECORDED, ROOT, RunError
from kit.core.profile import load_profile

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Tutorial and reproduction kit for arXiv 2603.24202: synthetic problems, curricula and "
    "GRPO for code.",
)


def _folder(out: str, name: str) -> Path:
    """The folder that --out names; if empty that of this name in the kit's `runs`."""
    return Path(out or ROOT / "runs" / name).resolve()


@app.command("run", cls=RunUsage)
def run_command(
    profile: ProfileOption = "cpu",
    out: Annotated[str, Option(help="run folder; default: runs/<profile>")] = "",
    only: Annotated[
        list[str] | None,
        Option(help="run only this notebook, e.g. 02 or 02_rounds; may be repeated"),
    ] = None,
    parameter: ParameterOption = None,
    force: Annotated[
        bool, Option(help="run finished notebooks again; they use the records that exist")
    ] = False,
) -> None:
    """Run the notebooks in order, without a browser. Run it again to go on where it stopped."""
    from kit.commands import runner

    with stoppable():
        runner.run_notebooks(profile, out, only, given(parameter), force)


@app.command("study")
def study_command(
    profile: ProfileOption = "cpu",
    arms: Annotated[
        str, Option(help="names in kit/arms.yaml, separated by commas; default: all")
    ] = "",
    arms_file: Annotated[
        str, Option(help="a file like kit/arms.yaml with arms of your own; default of --arms: they")
    ] = "",
    seeds: SeedsOption = "0,1,2",
    out: Annotated[
        str, Option(help="folder for the run folders; default: runs/study-<profile>")
    ] = "",
    data: Annotated[
        str,
        Option(
            help="train on the filtered problems of this run folder; default: the recorded ones"
        ),
    ] = "",
    jobs: JobsOption = 1,
    parameter: ParameterOption = None,
    keep_policies: Annotated[bool, Option(help="keep the trained weights of every run")] = False,
    dry: Annotated[
        bool, Option(help="draw all plans, say what each comparison could find, and stop")
    ] = False,
) -> None:
    """Run notebooks 05 and 06 for every arm and seed. Run it again to go on.

    Notebook 07 reads the results.
    """
    from kit.commands import study

    folder = _folder(out, f"study-{load_profile(profile).name}")
    chosen = list(filter(None, arms.split(",")))
    source = study.problems_for(profile, data)
    runs = study.prepare_study(
        profile, folder, source, chosen, seed_numbers(seeds), arms_file, given(parameter)
    )
    console.print(f"{len(runs)} runs in {folder}, {sum(map(study.done, runs))} of them done")
    console.print(study.what_it_finds(profile, source, runs), soft_wrap=True)
    if not dry:
        with stoppable():
            study.run_study(profile, runs, jobs, keep_policies)


@app.command("pool")
def pool_command(
    folders: Annotated[list[Path], Argument(help="study folders, one or more of each person")],
    out: Annotated[str, Option(help="study folder of all; default: runs/study-class")] = "",
) -> None:
    """Put the finished runs of several studies, say of a class, into one. Clashes are refused."""
    from kit.pooling import pool_studies

    folder = _folder(out, "study-class")
    runs = pool_studies(folders, folder)
    console.print(f"{len(runs)} runs in {folder}", soft_wrap=True)
    print(runs.groupby(["from", "arm"]).seed.agg(["size", list]).to_string())


@app.command("loop")
def loop_command(
    profile: ProfileOption = "mini-loop",
    out: Annotated[str, Option(help="folder for the run folders; or one of these")] = "",
    segments: Annotated[int, Option(min=2, help="segments of a training")] = 5,
    turns: Annotated[int, Option(min=1, help="further turns of a chain between two segments")] = 2,
    arms: Annotated[
        str, Option(help="separated by commas")
    ] = "frozen,no-feedback,closed-loop,re-measured",
    seeds: SeedsOption = "0",
    data: Annotated[str, Option(help="a run folder with notebooks 01 to 03 done")] = "",
    jobs: JobsOption = 1,
) -> None:
    """Train in segments, with new problems from the teacher between them. Run it again to go on.

    Notebook 08 reads the results.
    """
    from kit.commands import loops, study

    folder = _folder(out, f"loop-{load_profile(profile).name}")
    with stoppable():
        # One training, as the command for all of them starts it.
        if (folder / "arm.json").exists():
            loops.run_loop(profile, folder)
            return
        source = study.problems_for(profile, data)
        runs = loops.prepare_loops(
            profile, folder, source, arms.split(","), seed_numbers(seeds), segments, turns
        )
        console.print(f"{len(runs)} runs in {folder}, {sum(map(study.done, runs))} of them done")
        study.run_study(profile, runs, jobs, keep_policies=False)


@app.command("scale")
def scale_command(
    profile: ProfileOption = "cpu",
    out: Annotated[
        str, Option(help="run folder, on a disk that all machines see; default: runs/<profile>")
    ] = "",
    tasks: Annotated[int, Option(min=1, help="number of shards; the same in every call")] = 1,
    workers: Annotated[int, Option(min=1, help="how many tasks at the same time")] = 1,
    executor: Annotated[str, Option(help="local, slurm or ray")] = "local",
    replay: Annotated[
        bool, Option(help="take answers from data/recorded instead of asking models")
    ] = False,
    option: Annotated[
        list[str] | None,
        Option(
            "--option",
            "-o",
            help="NAME=VALUE, an option of datatrove's executor or of sbatch; may be repeated",
        ),
    ] = None,
) -> None:
    """Run the rounds of notebook 02 on many processes, with Slurm or with Ray.

    Each shard has some of the seeds. Run it again to go on; afterwards `run` does the other
    notebooks.
    """
    try:
        from kit.commands import shards
    except ModuleNotFoundError as error:
        sys.exit(
            f"error: {error.name} is not there: install it with "
            "`pip install -c constraints.txt -e '.[scale]'` in the kit's folder"
        )
    with stoppable():
        shards.run_shards(profile, out, tasks, workers, executor, replay, given(option))


@app.command("plan")
def plan_command(
    profile: ProfileOption = "cpu",
    device: Annotated[
        str, Option(help="cpu, 24gb, 80gb or 141gb; default: what the profile asks for")
    ] = "",
    trainings: Annotated[
        int, Option(min=1, help="number of trainings: arms x seeds of a study")
    ] = 1,
) -> None:
    """Say what a profile costs before it is run: tokens, device hours, memory, disk."""
    from kit.commands import cost

    loaded = load_profile(profile)
    chosen = cost.device(loaded, device)
    rows = cost.cost_by_stage(loaded, chosen, trainings)
    told = cost.cost_caption(loaded, chosen, rows)
    forms = {"requests": "{:,.0f}", "written": "{:,.0f}", "hours": "{:,.2f}", "memory_gb": "{:.0f}"}
    printed = rows.assign(**{name: rows[name].map(form.format) for name, form in forms.items()})
    show(printed, title=f"{loaded.name}: {loaded.about}", caption=told)


@app.command("doctor")
def doctor_command() -> None:
    """Say what this machine can run, and what to do where something is missing."""

    from kit.commands import doctor

    checks = pd.DataFrame(doctor.examine())
    show(checks, caption=doctor.LEGEND)
    raise typer.Exit("missing" in checks.state.values)


@app.command("models")
def models_command(
    fetch: Annotated[
        list[str] | None, Option(help="name of a model to fetch now; may be repeated")
    ] = None,
    make: Annotated[str, Option(help="name of a small policy to train again from nothing")] = "",
) -> None:
    """List the models: what is there, where it comes from, its licence and size."""

    from kit.serving import models
    from kit.serving.weights import cache_folder

    for name in fetch or []:
        models.model_path(name)
    if make:
        from kit.mini.policy import make_policy

        with stoppable():
            make_policy(make)
    cards = pd.DataFrame(models.model_cards())
    cards["size"] = (cards.bytes / 1e9).map("{:.1f} GB".format)
    show(cards[["name", "state", "source", "licence", "size"]], caption=f"in {cache_folder()}")


@app.command("regrade")
def regrade_command(
    run_dir: Annotated[str, Argument(help="a run folder, or data/recorded")],
) -> None:
    """Grade the stored answers of a run again, without a model, and list the changed verdicts.

    Answers of the training (rollouts.parquet) and of the evaluation (evaluation.parquet).
    """
    from kit.commands import regrade

    answers = regrade.regrade_run(run_dir)
    counts = answers.value_counts(["set", "group", "state"], sort=False).reset_index()
    show(counts, title="stored answers, graded again")
    others = answers[~answers.state.isin(["same", "absent"])]
    columns = "set at problem_id mode outcome reason new_outcome new_reason".split()
    show(others[columns].head(20), title=f"{len(others)} others (at most 20 are shown)")


@app.command("report")
def report_command(run_dir: Annotated[str, Argument(help="a run folder")]) -> None:
    """Write the report page of a run again, from what its folder holds."""
    from kit.commands import report

    if not Path(run_dir, "manifest.json").exists():
        raise RunError(f"{run_dir} is no run folder: give one that `run` wrote, e.g. runs/cpu")
    console.print(f"{report.write_report(run_dir)}", soft_wrap=True)


@app.command("record")
def record_command(
    run_dir: Annotated[str, Argument(help="a finished run folder, or a study's folder")],
    timed: Annotated[str, Option(help="take the minutes in README.md from this run instead")] = "",
) -> None:
    """Copy a run (or the tables of a study) to data/recorded, and its numbers into the pages."""
    from kit.commands import record

    if any(Path(run_dir).glob("*/*/arm.json")):
        record.record_study(run_dir)
    else:
        record.record_run(run_dir, timed=timed)


@app.command("export")
def export_command(
    run_dir: Annotated[str, Argument(help="run folder; default: the recorded problems")] = "",
    out: Annotated[str, Option(help="folder of the data set; default: runs/export")] = "",
) -> None:
    """Write the kept problems of a run as a data set, for datasets.load_dataset.

    The data set is parquet and a card. Nothing is uploaded: `hf upload OWNER/NAME FOLDER
    --repo-type dataset` does that.
    """
    from kit.commands import export

    folder = _folder(out, "export")
    counts = export.write_export(run_dir or RECORDED, folder)
    told = ", ".join(f"{count} problems to {split}" for split, count in counts.items())
    console.print(f"{folder}: {told}")


def main() -> None:
    """Known errors are one clear message; anything else is a bug and shows its traceback."""
    try:
        app()
    except Exception as error:
        source = type(error).__module__.partition(".")[0]
        if source not in ("kit", "papermill"):
            raise
        # The runner has told about a notebook's failure.
        sys.exit(f"error: {error}" if source == "kit" else 1)
