"""MATH-500 and AIME 2024, judged by math-verify.

A question asks for the final answer in \\boxed{}. Answers are LaTeX that a model wrote: they are read and compared in worker processes with
limits on memory and CPU time, so that none blocks a run.
"""

import atexit
import functools
import json
import random
import resource
import signal
from collections.abc import Iterable
from concurrent.futures import TimeoutError as TooLong
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pandas as pd
from pebble import ProcessExpired, ProcessPool

from kit.benchmarks import FormatError, fetch
from kit.environments.base import Reason, Verdict, prompt
from kit.evaluation import Item

SECONDS, MEMORY, WORKERS = 10.0, 4 << 30, 2  # CPU of one comparison; bytes of a worker
PATIENCE = 10  # times SECONDS: a machine that is as slow as that fails us, not the answer


@dataclass(frozen=True)
class Source:
    """Where a published set of maths problems lies, how many it has, and how its columns are called."""

    repository: str
    file: str
    rows: int
    id: str  # the column that names a problem
    level: str = ""  # the column with its difficulty


SOURCES = {
    "math500": Source("HuggingFaceH4/MATH-500", "test.jsonl", 500, "unique_id", "level"),
    "aime24": Source("HuggingFaceH4/aime_2024", "data/train-00000-of-00001.parquet", 30, "id"),
}


def items(name: str, n: int | None = None, seed: int = 0, folder: str = "") -> list[Item]:
    """n problems of one of SOURCES, drawn without replacement; None: all. Raises FormatError, Unavailable."""
    source = SOURCES[name]
    path = fetch(source.repository, source.file, folder)
    try:
        rows = (
            pd.read_parquet(path)
            if path.suffix == ".parquet"
            else pd.DataFrame(map(json.loads, path.read_text(encoding="utf-8").splitlines()))
        )
    except (ValueError, OSError) as e:
        raise FormatError(f"{path} cannot be read: {str(e)[:200]}") from None
    needed = ["problem", "answer", source.id, *([source.level] if source.level else [])]
    if missing := [column for column in needed if column not in rows]:
        raise FormatError(
            f"{path.name} of {source.repository} lacks {', '.join(missing)}; it has {', '.join(rows)}: its format has changed"
        )
    if len(rows) != source.rows:
        raise FormatError(
            f"{path.name} of {source.repository} has {len(rows)} problems, not {source.rows}: it has changed, or is cut off"
        )
    drawn = (
        list(rows.itertuples())
        if n is None
        else random.Random(f"{name} {seed}").sample(list(rows.itertuples()), min(n, len(rows)))
    )
    return [
        Item(
            f"{name}/{getattr(x, source.id)}",
            name,
            f"level {getattr(x, source.level)}" if source.level else "AIME",
            prompt("evaluate_boxed", question=x.problem),
            partial(grade, str(x.answer)),
            {"question": x.problem, "answer": str(x.answer), "text": x.problem},
        )
        for x in drawn
    ]


def grade(gold: str, completions: Iterable[str], box=None) -> list[Verdict]:
    """A verdict for each completion against the expected answer, LaTeX without marks. What needs more than
    SECONDS of CPU or MEMORY is wrong, what this machine did not get to is an error."""
    return [_outcome(gold, c, first) for c, first in [(c, _begun(gold, c)) for c in completions]]


def _begun(gold: str, completion: str):
    return _pool().schedule(_compare, (gold, completion, SECONDS), timeout=PATIENCE * SECONDS)


def _outcome(gold: str, completion: str, first) -> Verdict:
    for future in (first, None):
        try:
            found = (future or _begun(gold, completion)).result()
            return (
                Verdict("passed")
                if found == "passed"
                else Verdict("error", found)
                if found.startswith("gold")
                else Verdict("failed", found)
            )
        except TooLong:
            return Verdict(
                "error",
                f"a comparison got less than {SECONDS:g} s of CPU in {PATIENCE * SECONDS:g} s: this machine is too busy",
            )
        except ProcessExpired as e:
            if e.exitcode == -signal.SIGPROF:
                return Verdict("failed", Reason.TIMEOUT)
            died = e  # the worker died, by this answer or another one: once more
    return Verdict("error", f"the worker that compared answers died twice ({died})")


@functools.cache
def _pool() -> ProcessPool:
    import multiprocessing

    pool = ProcessPool(
        WORKERS, max_tasks=1000, initializer=_begin, context=multiprocessing.get_context("spawn")
    )
    atexit.register(lambda: (pool.stop(), pool.join()))
    return pool


def _begin() -> None:
    import math_verify  # noqa: F401                   before the clock of the first comparison runs

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


@contextmanager
def _limited(seconds: float):
    """So much CPU time for what is within; then the kernel ends this worker by SIGPROF, whatever it is at."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _compare(gold: str, completion: str, seconds: float) -> str:
    """In a worker: "passed", a reason, or "gold..." where the expected answer cannot be read."""
    import logging

    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(
        logging.ERROR
    )  # says at each call that it has no time limit: the worker has
    try:
        with _limited(seconds):
            expected = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
            if not expected:
                return f"gold answer {gold!r} cannot be read"
            if not (given := parse(completion, parsing_timeout=None)):
                return Reason.NO_ANSWER
            return "passed" if verify(expected, given, timeout_seconds=None) else Reason.WRONG
    except (MemoryError, RecursionError):
        return Reason.CRASH
