"""What the commands of `python -m kit` share: console, options, and how a long one is stopped."""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from typer import Option
from typer.core import TyperCommand

from kit.commands.live import plain_text

console = Console()

# The variable by which a study tells its runs to end with it.
DIES = "KIT_DIES_WITH_PARENT"


def _whole(profile):
    """The path of a profile's file as it is from any folder: notebooks run in theirs."""
    return str(Path(profile).resolve()) if profile.endswith(("yaml", "yml")) else profile


# Options that several commands have.
ProfileOption = Annotated[
    str, Option(help="a name in kit/profiles, or the path of a .yaml file", callback=_whole)
]

ParameterOption = Annotated[
    list[str] | None,
    Option(
        "--parameter",
        "-p",
        help="NAME=VALUE, sets a parameter of a notebook that is run; may be repeated",
    ),
]

JobsOption = Annotated[int, Option(min=1, help="how many runs at the same time")]

SeedsOption = Annotated[
    str, Option(help="seeds of training, separated by commas; a verdict needs three or more")
]


@contextlib.contextmanager
def stoppable():
    """Ctrl-C, or a cluster that wants its node back (SIGTERM), ends a long command with a sentence.

    The exit code is then 130.
    """
    if DIES in os.environ:
        die_with_parent()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        console.print("\nstopped; what was computed is kept: the same command goes on from here")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def show(rows: Any, **options: Any) -> None:
    """Print a frame as a table; texts may be those of a file that somebody else made.

    `rows`: a pandas frame; `options`: of rich's Table, such as a title.
    """
    table = Table(*(Column(name, overflow="fold") for name in rows), **options)
    for row in rows.itertuples(index=False):
        table.add_row(*(escape(plain_text(str(value))) for value in row))
    console.print(table)


def die_with_parent() -> None:
    """End this process when the one that started it is killed (Linux).

    Otherwise a killed notebook or launcher would leave trainers behind.
    """
    if sys.platform == "linux":
        # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def seed_numbers(text: str) -> list[int]:
    """`0,1,2` -> the numbers."""
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write seeds as 0,1,2") from None


def given(parameters: list[str] | None) -> dict:
    """`NAME=VALUE` texts -> values as YAML reads them; 24:00:00 and a schedule stay texts."""
    values = {}
    for parameter in parameters or []:
        name, equals, value = parameter.partition("=")
        if not equals:
            raise typer.BadParameter(f"{parameter}: write NAME=VALUE, for example TURNS=2")
        values[name] = value if value.count(":") > 1 or "{" in value else yaml.safe_load(value)
    return values


class RunUsage(TyperCommand):
    """A command whose help lists what `-p` can set, notebook by notebook."""

    def format_help(self, ctx, formatter) -> None:
        """Print the usual help, then the parameters that a notebook does not share with all."""
        from kit.commands import runner

        super().format_help(ctx, formatter)
        known = {notebook.stem: runner.parameters_of(notebook) for notebook in runner.notebooks()}
        shared = set.intersection(*map(set, known.values()))
        table = Table("notebook", "-p NAME=VALUE", "where its value comes from")
        for stem, parameters in known.items():
            for name in filter(lambda name: name not in shared, parameters):
                table.add_row(stem, name, parameters[name])
        console.print(table)
        console.print("Each notebook also has SEED. A value that a profile may hold: kit/profiles.")
