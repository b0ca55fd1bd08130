"""The verdict on one answer, without trainer, engine or figures."""

import functools
import os
import threading

from kit.core.types import VERIFIED, InfrastructureError, Problem, Verdict
from kit.environments import KINDS
from kit.environments.base import Environment
from kit.sandbox import Sandbox

_lock = threading.Lock()


@functools.cache
def _box(process):
    """The sandbox of this process: one that a fork inherits does not work."""
    return Sandbox()


def grade(row: dict, answer: str) -> Verdict:
    """Grade an answer, as a model wrote it, to a row of `kit.commands.export`. From any thread.

    The outcome is passed, failed, or error, which is a failure of our own. All grading of a process
    goes through one sandbox, made for the first answer, with the profiles' limits.
    """
    env, problem = problem_of_row(row)
    # Without the lock two threads would make a sandbox each.
    with _lock:
        box = _box(os.getpid())
    return env.grade(problem, [answer], box)[0]


def reward(row: dict, answer: str) -> float:
    """1.0 or 0.0, for libraries that know no reward of None.

    Raises InfrastructureError where `grade` gives an error.
    """
    verdict = grade(row, answer)
    if verdict.reward is None:
        raise InfrastructureError(
            f"nothing is known of this answer, by no fault of it: {verdict.reason}"
        )
    return verdict.reward


class ExportError(RuntimeError):
    """There is nothing to export, no place for it, or it was refused; it says what to do."""


def problem_of_row(row: dict) -> tuple[Environment, Problem]:
    """A row of the data set as what the kit grades.

    Raises ExportError for a row in which something is missing, or of an unknown environment.
    """
    try:
        if (name := row["environment"]) not in KINDS:
            raise ExportError(f"no environment is called {name!r}: there are {', '.join(KINDS)}")
        env = KINDS[name](visible=row["visible"], equality=row["equality"])
        return env, Problem(environment=env.name, **{name: row[name] for name in VERIFIED})
    except KeyError as error:
        raise ExportError(
            f"this row has no {error}: it is no row of `python -m kit export`"
        ) from None
