"""LiveCodeBench (Jain et al. 2024, arXiv 2403.07974), graded as its own checker grades.

Problems come from the six files of `livecodebench/code_generation_lite` on Hugging Face, or from a
folder that holds them. Answers run in the kit's sandbox. An answer is the last fenced block; it
solves a problem if it passes all tests, public and hidden, in 6 s each. Prompts are the original's
for chat models.

    items = livecodebench.contest_items("livecodebench", 20)
    sampling = Sampling(**livecodebench.SAMPLING)
    with run.box(**livecodebench.LIMITS) as box:
        frame = evaluation.evaluate(items, engine, box, 10, sampling)

The verdict differs from the checker's (package nvidia-livecodebench 26.3) in three cases, each with
a test in tests/test_livecodebench.py: `sys.stdin.buffer` works, as in later versions of the
checker; a second is one of CPU time, so that a busy machine fails nobody; a value that only says
that it equals the expected one does not.
"""

import base64
import json
import pickletools
import random
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Json, ValidationError

from kit.benchmarks import FormatError, fetch
from kit.core.prompts import prompt
from kit.core.types import Item, Reason, Verdict
from kit.sandbox import PRELOAD, Job, Sandbox

REPOSITORY = "livecodebench/code_generation_lite"

# release_v1 is the first file, release_v6 all six.
RELEASE_FILES = ("test.jsonl", *(f"test{k}.jsonl" for k in range(2, 7)))

# Of the sandbox.
LIMITS = {
    "timeout": 6.0,
    "memory_mb": 4096,
    "output_bytes": 64 << 20,
    "preload": (*PRELOAD, "numpy"),
}

# The defaults of its runner, with 10 samples.
SAMPLING = {"temperature": 0.2, "top_p": 0.95, "max_tokens": 2000}

HARNESS = Path(__file__).with_name("_contest.py").read_text(encoding="utf-8")

# Bytes of one problem's hidden tests, unpacked.
TESTS_LIMIT = 1 << 30


@dataclass(frozen=True)
class ContestWindow:
    """Problems of contests on or after `since` and before `until`, in the first RELEASE_FILES."""

    about: str
    files: int
    since: str
    until: str
    # How many problems there must be, and how many of each difficulty.
    count: int
    levels: dict[str, int] | None = None


CONTEST_WINDOWS = {
    "livecodebench": ContestWindow(
        "the paper's window of release_v6",
        6,
        "2024-08-01",
        "2025-06-01",
        454,
        {"easy": 110, "medium": 141, "hard": 203},
    ),
    "livecodebench_v5": ContestWindow(
        "release_v5, for curves by difficulty", 5, "2023-05-01", "2025-02-01", 880
    ),
}


class Test(BaseModel):
    """One input with its expected output.

    `stdin`: the texts of standard input and output; `functional`: JSON, a line for each argument
    and one for the result.
    """

    input: str
    output: str


class Row(BaseModel):
    """What the kit reads of a line. The hidden tests stay packed: they can be large."""

    question_content: str
    question_id: str
    contest_date: datetime
    starter_code: str
    difficulty: Literal["easy", "medium", "hard"]
    public_test_cases: Json[list[Test]]
    private_test_cases: str
    metadata: Json[dict]


@dataclass(frozen=True)
class ContestProblem:
    """A problem: where its line is, and what is needed to ask it and to run answers."""

    path: Path
    # Of the line, in bytes from the start of the file.
    place: int
    id: str
    difficulty: str
    # Of the contest: YYYY-MM-DD.
    date: str
    question: str
    starter: str
    # The function to write; empty if a program reads standard input.
    function: str
    public: tuple[Test, ...]

    def tests(self) -> list[Test]:
        """Public and hidden tests, read when they are needed. Raises FormatError."""
        with self.path.open("rb") as file:
            file.seek(self.place)
            row = json.loads(file.readline())
        return [*self.public, *hidden(row["private_test_cases"], self.id)]


def _read(path: Path) -> Iterator[ContestProblem]:
    """The problems of one file. Raises FormatError."""
    with path.open("rb") as file:
        place = 0
        for line in file:
            try:
                row = Row.model_validate_json(line)
            except ValidationError as fault:
                first = fault.errors()[0]
                field = ".".join(map(str, first["loc"])) or "the line"
                raise FormatError(
                    f"{path.name}, byte {place}: {field}: {first['msg']}; the format of "
                    f"{REPOSITORY} has changed, or the file is damaged"
                ) from None
            yield ContestProblem(
                path,
                place,
                row.question_id,
                row.difficulty,
                row.contest_date.date().isoformat(),
                row.question_content,
                row.starter_code,
                row.metadata.get("func_name") or "",
                tuple(row.public_test_cases),
            )
            place += len(line)


def tasks(part: str, folder: str = "") -> list[ContestProblem]:
    """The problems of one of CONTEST_WINDOWS in the original's order, by question id.

    Raises FormatError, and Unavailable if neither folder nor Hugging Face has the files.
    """
    wanted = CONTEST_WINDOWS[part]
    # A later file may hold a problem again: it replaces the earlier one.
    found = {
        task.id: task
        for name in RELEASE_FILES[: wanted.files]
        for task in _read(fetch(REPOSITORY, name, folder))
        if wanted.since <= task.date < wanted.until
    }
    # Other problems would give scores that cannot be compared.
    levels = Counter(task.difficulty for task in found.values())
    if len(found) != wanted.count or wanted.levels and levels != wanted.levels:
        raise FormatError(
            f"{wanted.about} should have {wanted.count} problems {wanted.levels or ''}, and "
            f"{len(found)} were found {dict(levels)}: the files of {REPOSITORY} have changed, or "
            "some are older than that release"
        )
    return [found[key] for key in sorted(found)]


# The pickle opcodes of a text, and those that make no object.
TEXT = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"}

HARMLESS = TEXT | {*"PROTO FRAME MEMOIZE PUT BINPUT LONG_BINPUT STOP".split()}


def _unpacked(data):
    unpack = zlib.decompressobj()
    out = unpack.decompress(data, TESTS_LIMIT)
    if not unpack.eof:
        raise ValueError("too large, or cut off")
    return out


def _pickled_text(data):
    """The only text in a pickle, which is read opcode by opcode and never loaded."""
    # One text takes six of them at most: a flood is not read.
    steps = [(op.name, value) for op, value, _ in islice(pickletools.genops(data), 9)]
    other = {name for name, _ in steps} - HARMLESS
    if other:
        raise ValueError(f"the pickle holds {', '.join(sorted(other))}, not only a text")
    (text,) = (str(value) for name, value in steps if name in TEXT)
    return text


def hidden(packed: str, name: str = "a problem") -> list[Test]:
    """Hidden tests from JSON, or from base64 of zlib of a pickled JSON text.

    The pickle may hold one text and nothing that makes an object. Raises FormatError.
    """
    try:
        if not packed.lstrip().startswith("["):
            packed = _pickled_text(_unpacked(base64.b64decode(packed, validate=True)))
        return [Test.model_validate(row) for row in json.loads(packed)]
    # binascii.Error is a ValueError.
    except (zlib.error, ValueError, TypeError, RecursionError) as fault:
        raise FormatError(f"{name}: no base64 of zlib of a pickled text: {fault!s:.200}") from None


def contest_items(part: str, n: int, seed: int = 0, folder: str = "") -> list[Item]:
    """Problems of a part, drawn without replacement.

    Args:
        part: one of CONTEST_WINDOWS.
        n: how many.
        seed: of the draw.
        folder: with the data set's files; empty: Hugging Face.
    Returns:
        Items that an evaluation takes.
    Raises:
        FormatError: the files have changed or are damaged.
        Unavailable: there are no files.
    Source: paper (the two windows); the draw of a part is our choice.
    """
    drawn = random.Random(f"livecodebench {seed}").sample(tasks(part, folder), n)
    return [
        Item(
            f"{part}/{task.id}",
            part,
            task.difficulty,
            prompt("evaluate_livecodebench", question=task.question, starter=task.starter),
            partial(grade_contest, task),
            {"question_id": task.id, "contest_date": task.date, "text": task.question},
        )
        for task in drawn
    ]


def extract(completion: str) -> str:
    """What stands between the last two lines with a fence; "" if there are fewer."""
    lines = completion.split("\n")
    fences = [k for k, line in enumerate(lines) if "```" in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else ""


def equal(value, expected: str) -> bool:
    """Python's own equality, in which 1, 1.0 and True are the same."""
    return value == json.loads(expected)


def _same_line(a, b):
    """The same text but for blanks at the ends, or the same exact decimal numbers."""
    if a.strip() == b.strip():
        return True
    try:
        return [*map(Decimal, a.split(None, len(b.split())))] == [*map(Decimal, b.split())]
    except ArithmeticError:
        return False


def same_lines(printed: str, expected: str) -> bool:
    """Line by line, without the blanks at the ends: the same text, or the same decimal numbers."""
    # A program may forge its report: what is no text is not what was wanted.
    if not isinstance(printed, str):
        return False
    found, wanted = printed.strip(), expected.strip()
    # A flood of lines is not taken apart.
    if found.count("\n") != wanted.count("\n"):
        return False
    return all(map(_same_line, found.split("\n"), wanted.split("\n")))


def _verdict(result, task, tests):
    if result.no_verdict:
        return Verdict("error", result.detail)
    # The first value is that of `load`. A wrong value counts even if a later test crashes.
    alike = equal if task.function else same_lines
    for (kind, value), test in zip(result.values[1:], tests):
        if kind == "ok" and not alike(value, test.output):
            return Verdict("failed", Reason.WRONG)
    return Verdict("passed") if result.returned() else Verdict.of_failure(result.status)


def _input(task, test):
    """What an answer is given: the text of standard input, or the arguments of the function."""
    if not task.function:
        return test.input
    return [json.loads(line) for line in test.input.split("\n")]


def _run(task, tests, codes, box):
    """A verdict for each code on some tests of a problem. The codes run side by side."""
    name = "call" if task.function else "feed"
    calls = tuple((name, (_input(task, test),)) for test in tests)
    futures = {}
    for code in sorted(codes):
        load = ("load", (code, task.function))
        futures[code] = box.submit(Job(HARNESS, (load, *calls), each=True))
    return {code: _verdict(future.result(), task, tests) for code, future in futures.items()}


def grade_contest(task: ContestProblem, completions: list[str], box: Sandbox) -> list[Verdict]:
    """What each answer to a problem is worth.

    Args:
        task: the problem.
        completions: what a model wrote, as it came.
        box: a sandbox with LIMITS.
    Returns:
        A verdict for each completion, in order.
    Raises:
        FormatError: the hidden tests cannot be read.
    Source: LiveCodeBench's checker; the differences stand at the top of this file.
    """
    tests = task.tests()
    codes = [extract(completion) for completion in completions]
    # The first test decides whether all are run: most wrong answers fail it.
    verdicts = _run(task, tests[:1], {code for code in codes if code.strip()}, box)
    if len(tests) > 1:
        passed = {code for code, verdict in verdicts.items() if verdict.outcome == "passed"}
        verdicts |= _run(task, tests, passed, box)
    return [verdicts.get(code) or Verdict("failed", Reason.NO_CODE) for code in codes]
