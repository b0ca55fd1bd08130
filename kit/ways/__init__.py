"""The problems and their grading for TRL, verifiers (Prime Intellect) and OpenEnv.

Each of them is one file over `grade(row, answer)`; rows come from `kit.export`. Only the file of a
library imports it.
"""

import functools
import os
import threading

from kit import export
from kit.environments import InfrastructureError, Verdict
from kit.sandbox import Sandbox

_lock = threading.Lock()


@functools.cache
def _box(process: int) -> Sandbox:
    """The sandbox of this process: one that a fork inherits does not work."""
    return Sandbox()


def grade(row: dict, answer: str) -> Verdict:
    """Grade an answer, as a model wrote it, to a row of `kit.export`. From any thread.

    The outcome is passed, failed, or error, which is a failure of our own. All grading of a process
    goes through one sandbox, made for the first answer, with the profiles' limits.
    """
    env, problem = export.problem(row)
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
            f"the sandbox failed, so nothing is known of this answer: {verdict.reason}"
        )
    return verdict.reward
