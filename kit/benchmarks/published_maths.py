"""MATH-500 and AIME 2024, judged by math-verify.

A question asks for the final answer in \boxed{}. Answers are LaTeX that a model wrote. They are
read and compared in worker processes with limits on memory and CPU time, so none blocks a run.
"""

import atexit
import logging
import multiprocessing
import random
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial

import pandas as pd
from pebble import ProcessExpired, ProcessPool

from kit.benchmarks import FormatError, fetch
from kit.core.prompts import prompt
from kit.core.types import Item, Reason, Verdict

# CPU seconds of one comparison.
SECONDS = 10.0
# Bytes of one worker's memory.
MEMORY = 4 << 30
WORKERS = 2
# A comparison may take this many times SECONDS on the clock. If a machine is slower than that, it
# is the machine that fails, not the answer.
PATIENCE = 10


@dataclass(frozen=True)
class Source:
    """A published set of maths problems: where it is, its number of problems, its columns."""

    repository: str
    file: str
    rows: int
    # The column that names a problem.
    id: str
    # The column with its difficulty, if there is one.
    level: str = ""


SOURCES = {
    "math500": Source("HuggingFaceH4/MATH-500", "test.jsonl", 500, "unique_id", "level"),
    "aime24": Source("HuggingFaceH4/aime_2024", "data/train-00000-of-00001.parquet", 30, "id"),
}


def _table(source, folder):
    """The problems of a source, a row each. Raises FormatError, Unavailable."""
    path = fetch(source.repository, source.file, folder)
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_json(path, lines=True, dtype=False)
    except (ValueError, OSError) as fault:
        raise FormatError(f"{path} cannot be read: {str(fault)[:200]}") from None

    # A changed set would give scores that cannot be compared.
    where = f"{path.name} of {source.repository}"
    needed = filter(None, ("problem", "answer", source.id, source.level))
    missing = ", ".join(column for column in needed if column not in table)
    if missing:
        present = ", ".join(table)
        raise FormatError(f"{where} has no {missing}; it has {present}: its format has changed")
    if len(table) != source.rows:
        raise FormatError(
            f"{where} has {len(table)} problems, not {source.rows}: it has changed, or is cut off"
        )
    return table


def published_maths_items(name: str, n: int, seed: int = 0, folder: str = "") -> list[Item]:
    """Problems of a published set, drawn without replacement.

    Args:
        name: one of SOURCES.
        n: how many.
        seed: of the draw.
        folder: with the data sets' files; empty: Hugging Face.
    Returns:
        Items that an evaluation takes.
    Raises:
        FormatError: the files have changed or are damaged.
        Unavailable: there are no files.
    Source: paper (the two sets); the draw of a part is our choice.
    """
    source = SOURCES[name]
    rows = list(_table(source, folder).itertuples())
    rows = random.Random(f"{name} {seed}").sample(rows, n)
    return [
        Item(
            f"{name}/{getattr(row, source.id)}",
            name,
            f"level {getattr(row, source.level)}" if source.level else "AIME",
            prompt("evaluate_boxed", question=row.problem),
            partial(grade_maths, str(row.answer)),
            {"question": row.problem, "answer": str(row.answer), "text": row.problem},
        )
        for row in rows
    ]


def grade_maths(gold: str, completions: Iterable[str], box=None) -> list[Verdict]:
    """A verdict for each completion against the expected answer.

    What needs more than SECONDS of CPU or MEMORY is wrong; what this machine did not get to is an
    error.

    Args:
        gold: the expected answer, LaTeX without marks.
        completions: what a model wrote, as it came.
        box: not used; it is there because all items are graded alike.
    Returns:
        A verdict for each completion, in order.
    Source: paper (the sets); math-verify and the limits are our choice.
    """
    # All comparisons are under way before the first is waited for.
    begun = [(completion, _begun(gold, completion)) for completion in completions]
    return [_outcome(gold, completion, future) for completion, future in begun]


def _begun(gold, completion):
    return _pool().schedule(_compare, (gold, completion, SECONDS), timeout=PATIENCE * SECONDS)


def _outcome(gold, completion, future, retry=True):
    """The verdict of a comparison that has begun; waits for it."""
    try:
        found = future.result()
    except TimeoutError:
        return Verdict(
            "error",
            f"a comparison got less than {SECONDS:g} s of CPU in {PATIENCE * SECONDS:g} s: "
            "this machine is too busy",
        )
    except ProcessExpired as fault:
        # The kernel ends a worker by this signal at the limit of CPU time.
        if fault.exitcode == -signal.SIGPROF:
            return Verdict("failed", Reason.TIMEOUT)
        # The worker died, by this answer or by another one: try once more.
        if retry:
            return _outcome(gold, completion, _begun(gold, completion), retry=False)
        return Verdict("error", f"the worker that compared answers died twice ({fault})")
    if found == "passed":
        return Verdict("passed")
    return Verdict("error" if found.startswith("gold") else "failed", found)


@cache
def _pool():
    """The workers of this process; they end with it."""
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPool(WORKERS, max_tasks=1000, initializer=_begin, context=spawn)
    # Exit handlers run in reverse: stop, then wait.
    atexit.register(pool.join)
    atexit.register(pool.stop)
    return pool


def _begin():
    """In a worker: load the library before the clock of the first comparison runs."""
    # Windows has none.
    import resource

    import math_verify  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _compare(gold, completion, seconds):
    """In a worker: "passed", a reason, or "gold..." if the expected answer cannot be read."""
    from math_verify import parse, verify

    # It says at each call that it has no time limit: the worker has one.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    # A limit of CPU time; at its end the kernel ends this worker by SIGPROF, whatever it does.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        expected = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
        if not expected:
            return f"gold answer {gold!r} cannot be read"
        given = parse(completion, parsing_timeout=None)
        if not given:
            return Reason.NO_ANSWER
        return "passed" if verify(expected, given, timeout_seconds=None) else Reason.WRONG
    except (MemoryError, RecursionError):
        return Reason.CRASH
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
