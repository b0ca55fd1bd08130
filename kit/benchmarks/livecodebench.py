"""LiveCodeBench (Jain et al. 2024, arXiv 2403.07974), graded as its own checker grades, in our sandbox.

Problems come from the six files of `livecodebench/code_generation_lite` on the hub, or from a folder that holds them. An answer is the last
fenced block; it solves a problem if it passes all tests, public and hidden, in 6 s each. Prompts are the original's for chat models.

    items = livecodebench.items("livecodebench", 20)
    with run.box(**livecodebench.LIMITS) as box:
        frame = evaluation.evaluate(items, engine, box, **livecodebench.SAMPLING)

Where the verdict differs from the checker's (package nvidia-livecodebench 26.3; each is a test in tests/test_livecodebench.py):
`sys.stdin.buffer` works, as in later versions of the checker; a second is one of CPU time, so that a busy machine fails nobody; a value that
only says it equals the expected one does not.
"""

import base64
import binascii
import json
import pickletools
import random
import zlib
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Json, ValidationError

from kit.benchmarks import FormatError, fetch
from kit.environments.base import Reason, Verdict, failure, prompt
from kit.evaluation import Item
from kit.sandbox import PRELOAD, Job, Result, Sandbox

REPOSITORY = "livecodebench/code_generation_lite"
FILES = (
    "test.jsonl",
    *(f"test{k}.jsonl" for k in range(2, 7)),
)  # release_v1 is the first, release_v6 all six
LIMITS = {
    "timeout": 6.0,
    "memory_mb": 4096,
    "output_bytes": 64 << 20,
    "preload": (*PRELOAD, "numpy"),
}
SAMPLING = {
    "temperature": 0.2,
    "top_p": 0.95,
    "max_tokens": 2000,
}  # the defaults of its runner, with 10 samples
HARNESS = Path(__file__).with_name("_contest.py").read_text(encoding="utf-8")
TESTS_LIMIT = 1 << 30  # bytes of one problem's hidden tests, unpacked


@dataclass(frozen=True)
class Part:
    """Of the release with so many files the problems of contests on or after `since` and before `until`."""

    about: str
    files: int
    since: str
    until: str
    count: int
    levels: dict[str, int] | None = None


PARTS = {
    "livecodebench": Part(
        "the paper's window of release_v6",
        6,
        "2024-08-01",
        "2025-06-01",
        454,
        {"easy": 110, "medium": 141, "hard": 203},
    ),
    "livecodebench_v5": Part(
        "release_v5, for curves by difficulty", 5, "2023-05-01", "2025-02-01", 880
    ),
}


class Test(BaseModel):
    """One input with its wanted output: text of stdin and stdout, or JSON lines of arguments and result (functional)."""

    input: str
    output: str
    testtype: Literal["stdin", "functional"]


class Row(BaseModel):
    """One line of the files, but for the hidden tests: these can be large and are read when they are needed."""

    question_title: str
    question_content: str
    platform: str
    question_id: str
    contest_id: str
    contest_date: datetime
    starter_code: str
    difficulty: Literal["easy", "medium", "hard"]
    public_test_cases: Json[list[Test]]
    private_test_cases: str
    metadata: Json[dict]


@dataclass(frozen=True)
class Task:
    """Where a problem stands, and what is needed to ask and to run it."""

    path: Path
    place: int  # of its line, in bytes
    id: str
    difficulty: str
    date: str
    question: str
    starter: str
    function: str  # "" for those that read standard input
    public: tuple[Test, ...]

    def tests(self) -> list[Test]:
        """Public and hidden. Raises FormatError."""
        with self.path.open("rb") as file:
            file.seek(self.place)
            row = json.loads(file.readline())
        return [*self.public, *hidden(row["private_test_cases"])]


def tasks(part: str, folder: str = "") -> list[Task]:
    """The problems of one of PARTS in the original's order, by question id. Raises FormatError, and Unavailable without folder or hub."""
    wanted, found = PARTS[part], {}
    for name in FILES[: wanted.files]:
        for task in _read(fetch(REPOSITORY, name, folder)):
            if wanted.since <= task.date < wanted.until:
                found[task.id] = task
    levels = Counter(t.difficulty for t in found.values())
    if len(found) != wanted.count or wanted.levels and levels != wanted.levels:
        raise FormatError(
            f"{wanted.about} should have {wanted.count} problems {wanted.levels or ''}, and {len(found)} were found {dict(levels)}: "
            f"the files of {REPOSITORY} have changed, or some are older than that release"
        )
    return sorted(found.values(), key=lambda t: t.id)


def _read(path: Path):
    with path.open("rb") as file:
        while line := file.readline():
            place = file.tell() - len(line)
            try:
                row = Row.model_validate_json(line)
            except ValidationError as e:
                first = e.errors()[0]
                raise FormatError(
                    f"{path.name}, byte {place}: {'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}; the format of "
                    f"{REPOSITORY} has changed, or the file is damaged"
                ) from None
            yield Task(
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


TEXT = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"}
HARMLESS = TEXT | {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}


def hidden(packed: str) -> list[Test]:
    """Hidden tests from JSON, or from base64 of zlib of a pickled JSON text. The pickle is read as data, opcode by opcode, and never
    loaded: it may hold one text and nothing that makes an object. Raises FormatError."""
    try:
        text = (
            packed
            if packed.lstrip().startswith("[")
            else _pickled_text(_unpacked(base64.b64decode(packed, validate=True)))
        )
        return [Test.model_validate(row) for row in json.loads(text)]
    except (binascii.Error, zlib.error, ValueError, TypeError) as e:
        raise FormatError(
            f"the hidden tests are not base64 of zlib of a pickled JSON text: {str(e)[:200]}"
        ) from None


def _unpacked(data: bytes) -> bytes:
    unpack = zlib.decompressobj()
    out = unpack.decompress(data, TESTS_LIMIT)
    if not unpack.eof:
        raise ValueError("too large, or cut off")
    return out


def _pickled_text(data: bytes) -> str:
    steps = [(op.name, value) for op, value, _ in pickletools.genops(data)]
    if other := {name for name, _ in steps} - HARMLESS:
        raise ValueError(f"the pickle holds {', '.join(sorted(other))}, not only a text")
    (text,) = [value for name, value in steps if name in TEXT]
    return text


def items(
    part: str = "livecodebench", n: int | None = None, seed: int = 0, folder: str = ""
) -> list[Item]:
    """n problems of a part, drawn without replacement; None: all. Raises FormatError, Unavailable."""
    known = tasks(part, folder)
    drawn = (
        known
        if n is None
        else random.Random(f"livecodebench {seed}").sample(known, min(n, len(known)))
    )
    return [
        Item(
            f"{part}/{t.id}",
            part,
            t.difficulty,
            prompt("evaluate_livecodebench", question=t.question, starter=t.starter),
            partial(grade, t),
            {"question_id": t.id, "contest_date": t.date, "text": t.question},
        )
        for t in drawn
    ]


# ------------------------------------------------------------------ grading


def extract(completion: str) -> str:
    """What stands between the last two lines with a fence; "" if there are fewer."""
    lines = completion.split("\n")
    fences = [k for k, line in enumerate(lines) if "```" in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else ""


def grade(task: Task, completions: list[str], box: Sandbox) -> list[Verdict]:
    """A verdict for each completion. The first test decides whether all are run: most wrong answers fail it."""
    tests, codes = task.tests(), [extract(c) for c in completions]
    found = _run(task, tests[:1], {code for code in codes if code.strip()}, box)
    if len(tests) > 1:
        found |= _run(
            task,
            tests,
            {code for code, verdict in found.items() if verdict.outcome == "passed"},
            box,
        )
    return [found.get(code) or Verdict("failed", Reason.NO_CODE) for code in codes]


def _run(task: Task, tests: list[Test], codes: set[str], box: Sandbox) -> dict[str, Verdict]:
    calls = [
        ("call", ([json.loads(line) for line in t.input.split("\n")],))
        if task.function
        else ("feed", (t.input,))
        for t in tests
    ]
    jobs = {
        code: box.submit(Job(HARNESS, (("load", (code, task.function)), *calls), each=True))
        for code in sorted(codes)
    }
    return {code: _verdict(future.result(), task, tests) for code, future in jobs.items()}


def _verdict(result: Result, task: Task, tests: list[Test]) -> Verdict:
    if result.no_verdict:
        return Verdict("error", result.detail)
    alike = equal if task.function else same_lines
    if any(
        kind == "ok" and not alike(value, test.output)
        for (kind, value), test in zip(result.values[1:], tests)
    ):
        return Verdict("failed", Reason.WRONG)
    return Verdict("passed") if result.returned() else failure(result)


def equal(value, expected: str) -> bool:
    """Python's own equality, in which 1, 1.0 and True are the same."""
    return value == json.loads(expected)


def same_lines(printed: str, expected: str) -> bool:
    """Line by line, without the blanks at the ends: the same text, or the same exact decimal numbers."""
    ours, theirs = (
        [line.strip() for line in text.strip().split("\n")] for text in (printed, expected)
    )
    return len(ours) == len(theirs) and all(
        a == b or _same_numbers(a, b) for a, b in zip(ours, theirs)
    )


def _same_numbers(a: str, b: str) -> bool:
    try:
        return [Decimal(x) for x in a.split()] == [Decimal(x) for x in b.split()]
    except ArithmeticError:
        return False
