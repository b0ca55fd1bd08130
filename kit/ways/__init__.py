"""Ways out: the problems and their grading in the forms of TRL, verifiers (Prime Intellect) and OpenEnv.

Each way is one file over `grade(row, answer)`; rows come from `kit.export`. A library is imported only where its own way is.
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
    return Sandbox()


def grade(row: dict, answer: str) -> Verdict:
    """The verdict on an answer, as a model wrote it, to a row of `kit.export`: passed, failed, or error, which is ours. From any thread.

    All grading of a process goes through one sandbox, made for the first answer, with the profiles' limits."""
    env, problem = export.problem(row)
    with _lock:  # else two threads would make a sandbox each
        box = _box(os.getpid())
    return env.grade(problem, [answer], box)[0]


def reward(row: dict, answer: str) -> float:
    """1.0 or 0.0, for libraries that know no reward of None. Raises InfrastructureError instead of an error's verdict."""
    if (verdict := grade(row, answer)).reward is None:
        raise InfrastructureError(
            f"the sandbox failed, so nothing is known of this answer: {verdict.reason}"
        )
    return verdict.reward
