"""`python -m kit`: run, study, scale, plan, doctor, models, record, export."""

import contextlib
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.table import Table


@contextlib.contextmanager
def stoppable():
    """Ctrl-C, or a cluster that wants its node back (SIGTERM), ends a long command with a sentence."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        console.print("\nstopped; what was computed is kept: the same command goes on from here")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def given(parameters: list[str] | None) -> dict:
    """`NAME=VALUE` texts -> values as YAML reads them, except that 24:00:00 is no number."""
    return {
        name: value if value.count(":") > 1 else yaml.safe_load(value)
        for name, _, value in (p.partition("=") for p in parameters or [])
    }


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Tutorial and reproduction kit for arXiv 2603.24202: synthetic problems, curricula and GRPO for code.",
)
console = Console()


@app.command()
def run(
    profile: Annotated[
        str, typer.Option(help="a name in kit/profiles, or the path of a .yaml file")
    ] = "cpu",
    out: Annotated[str, typer.Option(help="run folder; default runs/<profile>")] = "",
    only: Annotated[
        list[str] | None, typer.Option(help="number of a notebook, e.g. 02; may be repeated")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="NAME=VALUE of a notebook parameter"),
    ] = None,
    force: Annotated[
        bool, typer.Option(help="execute finished notebooks again; records already there are used")
    ] = False,
) -> None:
    """Execute the notebooks headless, in order; run it again to go on where it stopped."""
    from kit import runner

    with stoppable():
        runner.run(profile, out, only, given(parameter), force)


@app.command()
def study(
    profile: Annotated[
        str, typer.Option(help="a name in kit/profiles, or the path of a .yaml file")
    ] = "cpu",
    arms: Annotated[
        str, typer.Option(help="names in kit/arms.yaml with commas between them; default all")
    ] = "",
    seeds: Annotated[
        str,
        typer.Option(
            help="seeds of training, with commas between them; a verdict needs at least three"
        ),
    ] = "0,1,2",
    out: Annotated[
        str, typer.Option(help="folder of the run folders; default runs/study-<profile>")
    ] = "",
    data: Annotated[
        str,
        typer.Option(
            help="run folder whose filtered problems are trained on; default the recorded ones"
        ),
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, help="runs at once")] = 1,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE of notebook 05 or 06")
    ] = None,
    keep_policies: Annotated[
        bool, typer.Option(help="keep the trained weights of every run")
    ] = False,
    dry: Annotated[bool, typer.Option(help="draw all plans, say what would run, and stop")] = False,
) -> None:
    """Notebooks 05 and 06 over a grid of arms and seeds; notebook 07 reads what comes out. Run it again to go on."""
    from kit import study
    from kit.run import RECORDED, ROOT

    folder = Path(out or ROOT / "runs" / f"study-{Path(profile).stem}").resolve()
    runs = study.prepare(
        profile,
        folder,
        Path(data or RECORDED),
        [a for a in arms.split(",") if a],
        [int(s) for s in seeds.split(",")],
    )
    console.print(f"{len(runs)} runs in {folder}, {sum(map(study.done, runs))} of them done")
    if not dry:
        with stoppable():
            study.run(profile, runs, jobs, given(parameter), keep_policies)


@app.command()
def scale(
    profile: Annotated[
        str, typer.Option(help="a name in kit/profiles, or the path of a .yaml file")
    ] = "cpu",
    out: Annotated[
        str,
        typer.Option(help="run folder, on a disk that all machines see; default runs/<profile>"),
    ] = "",
    stage: Annotated[
        str, typer.Option(help="rounds, or verify: run all problems' programs again")
    ] = "rounds",
    tasks: Annotated[int, typer.Option(min=1, help="shards; the same in every call")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="tasks at once")] = 1,
    executor: Annotated[str, typer.Option(help="local, slurm or ray")] = "local",
    replay: Annotated[
        bool, typer.Option(help="answer from data/recorded instead of models")
    ] = False,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="NAME=VALUE for datatrove's executor or sbatch"),
    ] = None,
) -> None:
    """Notebook 02's rounds sharded by seed over processes, Slurm or Ray; `run` goes on from there. Run it again to go on."""
    try:
        from kit import scale
    except ModuleNotFoundError as e:
        sys.exit(
            f"error: {e.name} is not there: `pip install -c constraints.txt -e '.[scale]'` in the kit's folder brings it"
        )
    with stoppable():
        scale.run(stage, profile, out, tasks, workers, executor, replay, given(option))


@app.command()
def plan(
    profile: Annotated[
        str, typer.Option(help="a name in kit/profiles, or the path of a .yaml file")
    ] = "cpu",
    device: Annotated[
        str, typer.Option(help="cpu, 24gb, 80gb or 141gb; default what the profile asks for")
    ] = "",
    trainings: Annotated[int, typer.Option(min=1, help="arms x seeds of a study")] = 1,
) -> None:
    """Tell what a profile costs before it is run: tokens, device hours, memory, disk."""
    from kit import plan
    from kit import profile as profiles

    loaded = profiles.load(profile)
    chosen = plan.device(loaded, device)
    rows = plan.stages(loaded, chosen, trainings)
    cards, total = max(1, loaded.needs.gpus), rows.hours.sum()
    unit, scale = ("minutes", 60) if total < 2 else ("hours of a device", 1)
    table = Table(
        "stage",
        "answers",
        "tokens written",
        unit,
        "memory, GB",
        title=f"{loaded.name}: {loaded.about}",
        caption=f"On {chosen.about}. Orders of magnitude: see kit/plan.py for what is assumed.",
    )
    for row in rows.itertuples():
        table.add_row(
            row.stage,
            f"{row.requests:,.0f}",
            f"{row.written:,.0f}",
            f"{scale * row.hours:,.1f}",
            f"{row.memory_gb:,.0f}",
        )
    table.add_section()
    table.add_row(
        "all",
        "",
        f"{rows.written.sum():,.0f}",
        f"{scale * total:,.1f}",
        f"disk {plan.disk_gb(loaded):,.0f}",
    )
    console.print(table)
    if cards > 1:
        console.print(
            f"{total / cards:,.1f} hours on {cards} such cards, if all are busy all the time"
        )


@app.command()
def doctor() -> None:
    """Tell what this machine can run, and the sentence that fixes each lack."""
    from kit import doctor

    checks = doctor.examine()
    console.print(doctor.table(checks))
    raise typer.Exit(any(c.state == "lack" for c in checks))


@app.command()
def models(
    fetch: Annotated[
        list[str] | None, typer.Option(help="name of a model to fetch now; may be repeated")
    ] = None,
) -> None:
    """List the models by digest: what is there, where from, which licence, how large."""
    from kit import models

    for name in fetch or []:
        models.path(name)
    table = Table(
        "model", "state", "where from", "licence", "size", caption=f"kept in {models.cache()}"
    )
    for card in models.cards():
        table.add_row(
            card["name"],
            card["state"],
            card["source"],
            card["licence"],
            f"{card['bytes'] / 1e9:.1f} GB" if card["bytes"] else "–",
        )
    console.print(table)


@app.command()
def record(
    run_dir: Annotated[str, typer.Argument(help="a finished run folder")],
    timed: Annotated[
        str, typer.Option(help="take the README's minutes from this run instead")
    ] = "",
) -> None:
    """Copy a run's records (or the tables of a study's runs), small enough for git, to data/recorded, and its numbers into README.md."""
    from kit import recording

    if any(Path(run_dir).glob("*/*/arm.json")):
        recording.ship_study(run_dir)
    else:
        recording.ship(run_dir, timed=timed)


@app.command()
def export(
    run_dir: Annotated[str, typer.Argument(help="run folder; default the recorded problems")] = "",
    out: Annotated[str, typer.Option(help="folder of the data set; default runs/export")] = "",
    push: Annotated[
        str,
        typer.Option(
            metavar="OWNER/NAME", help="upload it to the Hugging Face hub under this name"
        ),
    ] = "",
    private: Annotated[bool, typer.Option(help="visible to its owner only, on the hub")] = False,
) -> None:
    """Write a run's kept problems as a data set: parquet and a card, for datasets.load_dataset. Nothing is uploaded without --push."""
    from kit import export
    from kit.run import RECORDED, ROOT

    folder = Path(out or ROOT / "runs" / "export")
    counts = export.write(run_dir or RECORDED, folder)
    console.print(
        f"{folder}: " + ", ".join(f"{n} problems to {split}" for split, n in counts.items())
    )
    if push:
        console.print(f"uploaded to {export.push(folder, push, private)}")


def main() -> None:
    """Known errors are one clear message; anything else is a bug and shows its traceback."""
    try:
        app()
    except Exception as e:
        source = type(e).__module__.partition(".")[0]
        if source not in ("kit", "papermill"):
            raise
        sys.exit(
            f"error: {e}" if source == "kit" else 1
        )  # the runner has told about a notebook's failure


if __name__ == "__main__":
    main()
