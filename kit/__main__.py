"""`python -m kit`: run, doctor, models, record."""
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Tutorial and reproduction kit for arXiv 2603.24202: synthetic problems, curricula and GRPO for code.")
console = Console()


@app.command()
def run(profile: Annotated[str, typer.Option(help="a name in kit/profiles, or the path of a .yaml file")] = "cpu",
        out: Annotated[str, typer.Option(help="run folder; default runs/<profile>")] = "",
        only: Annotated[list[str] | None, typer.Option(help="number of a notebook, e.g. 02; may be repeated")] = None,
        parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE of a notebook parameter")] = None,
        force: Annotated[bool, typer.Option(help="execute finished notebooks again; records already there are used")] = False) -> None:
    """Execute the notebooks headless, in order; run it again to go on where it stopped."""
    import yaml

    from kit import runner
    given = dict(p.partition("=")[::2] for p in parameter or [])
    try:
        runner.run(profile, out, only, {k: yaml.safe_load(v) for k, v in given.items()}, force)
    except KeyboardInterrupt:
        console.print("\nstopped; what was computed is kept: the same command goes on from here")
        raise typer.Exit(130) from None


@app.command()
def doctor() -> None:
    """Tell what this machine can run, and the sentence that fixes each lack."""
    from kit import doctor
    checks = doctor.examine()
    console.print(doctor.table(checks))
    raise typer.Exit(any(c.state == "lack" for c in checks))


@app.command()
def models(fetch: Annotated[list[str] | None, typer.Option(help="name of a model to fetch now; may be repeated")] = None) -> None:
    """List the models by digest: what is there, where from, which licence, how large."""
    from kit import models
    for name in fetch or []:
        models.path(name)
    table = Table("model", "state", "where from", "licence", "size", caption=f"kept in {models.cache()}")
    for card in models.cards():
        table.add_row(card["name"], card["state"], card["source"], card["licence"], f"{card['bytes'] / 1e9:.1f} GB" if card["bytes"] else "–")
    console.print(table)


@app.command()
def record(run_dir: Annotated[str, typer.Argument(help="a finished run folder")],
           timed: Annotated[str, typer.Option(help="take the README's minutes from this run instead")] = "") -> None:
    """Copy a run's records, small enough for git, to data/recorded, and its numbers into README.md."""
    from kit import recording
    recording.ship(run_dir, timed=timed)


def main() -> None:
    """Known errors are one clear message; anything else is a bug and shows its traceback."""
    try:
        app()
    except Exception as e:
        source = type(e).__module__.partition(".")[0]
        if source not in ("kit", "papermill"):
            raise
        sys.exit(f"error: {e}" if source == "kit" else 1)        # the runner has told about a notebook's failure


if __name__ == "__main__":
    main()
