"""What the commands of `python -m kit` share: console, options, and how a long one is stopped."""

import contextlib
import signal
from typing import Annotated

import typer
import yaml
from rich.console import Console
from typer import Option

console = Console()

# Options that several commands have.
ProfileOption = Annotated[str, Option(help="a name in kit/profiles, or the path of a .yaml file")]

ParameterOption = Annotated[
    list[str] | None,
    Option(
        "--parameter",
        "-p",
        help="NAME=VALUE, sets a parameter of a notebook that is run; may be repeated",
    ),
]


@contextlib.contextmanager
def stoppable():
    """Ctrl-C, or a cluster that wants its node back (SIGTERM), ends a long command with a sentence.

    The exit code is then 130.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        console.print("\nstopped; what was computed is kept: the same command goes on from here")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def given(parameters: list[str] | None) -> dict:
    """`NAME=VALUE` texts -> values as YAML reads them, except that 24:00:00 stays a text."""
    values = {}
    for parameter in parameters or []:
        name, _, value = parameter.partition("=")
        values[name] = value if value.count(":") > 1 else yaml.safe_load(value)
    return values
