"""The words that all stages share: a seed snippet, a problem with its history, a verdict, an item.

They import nothing else of the kit.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

# Half an emoji: a model's string escapes make such characters, and no file or server can hold them.
_SURROGATE = re.compile("[\ud800-\udfff]")

# A count, as a table can hold it.
Count = Annotated[int, Field(ge=0, lt=2**31)]


def clean(value):
    """The same data with every surrogate in its texts replaced by U+FFFD.

    Every text that enters the kit passes here once: messages and answers of engines, prompts,
    records, tables, profiles, and what is shown.

    Args:
        value: a text, or what JSON makes lists and dicts of; anything else stays as it is.
    Returns:
        Text that every file, page and server can hold.
    Source: our choice.
    """
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [*map(clean, value)]
    if isinstance(value, dict):
        return {clean(key): clean(part) for key, part in value.items()}
    return value


class Reason(StrEnum):
    """Why a teacher's draft is invalid, or a student's answer failed."""

    EMPTY = "empty answer"
    CUT_OFF = "cut off"
    NO_CODE = "no code"
    SYNTAX = "syntax error"
    NO_FUNCTION = "no function f"
    NO_INPUTS = "no usable inputs"
    NO_TESTS = "no pre_test_f and test_f"
    COPY = "copy of the seed"
    UNSTABLE = "not deterministic"
    CRASH = "crashes"
    TIMEOUT = "times out"
    NOT_PLAIN = "value is not a plain literal"
    TOO_LONG = "output too long"
    CONSTANT = "same output for every input"
    NO_WITNESS = "no input fails the test"
    NO_BENIGN = "no input passes the test"
    NO_ANSWER = "no answer in the asked form"
    WRONG = "wrong"
    PRECONDITION = "fails pre_test_f"
    WRONG_TYPE = "input of another type"


# Why an answer has not the form that was asked for.
MALFORMED = frozenset(
    (Reason.EMPTY, Reason.NO_CODE, Reason.NO_ANSWER, Reason.SYNTAX, Reason.NO_FUNCTION)
)


class Rejected(ValueError):
    """A model's text is not what it should be: a draft is no problem, or an answer is malformed.

    Args:
        reason: the kind of fault; runs count these.
        detail: what exactly is wrong; the teacher gets it back with the request for a better draft.
    Source: paper (invalid problems are dropped); the kinds of fault are our choice.
    """

    def __init__(self, reason: Reason, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class InfrastructureError(RuntimeError):
    """The sandbox failed; nothing follows for the program that ran in it."""


@dataclass(frozen=True)
class Verdict:
    """What an answer is worth.

    Args:
        outcome: `passed` and `failed` are about the answer. `error` is the kit's own fault and
            counts as neither.
        reason: why it did not pass; a `Reason` where it failed.
    """

    outcome: str
    reason: str = ""

    @classmethod
    def of(cls, right: bool) -> "Verdict":
        """Passed for a right answer, else failed as wrong."""
        return cls("passed") if right else cls("failed", Reason.WRONG)

    @classmethod
    def of_failure(cls, status: str) -> "Verdict":
        """A program that did not return has failed; `status`: what the sandbox's Result says."""
        return cls("failed", Reason.TIMEOUT if status == "timeout" else Reason.CRASH)

    @classmethod
    def of_fault(cls, fault: Exception) -> "Verdict":
        """Something that we did not expect: our own error, which says nothing of the answer."""
        return cls("error", clean(f"{type(fault).__name__}: {fault}"[:300]))

    @property
    def reward(self) -> float | None:
        """1, 0, or None for an error, which TRL leaves out of the group."""
        return {"passed": 1.0, "failed": 0.0}.get(self.outcome)


@dataclass(frozen=True)
class Item:
    """One problem of one set; a comment above a field explains it.

    Source: our choice.
    """

    id: str
    set: str
    # Environment, level or kind of task.
    group: str
    messages: list[dict]
    # `grade(completions, box)` gives a Verdict for each text, in order; box: a Sandbox.
    grade: Callable[[list[str], Any], list[Verdict]] = field(repr=False)
    # JSON-able; its `text` holds statement and solution, for `texts`.
    data: dict = field(repr=False)
    # The snippet of code that it grew from, if any: items of one snippet are no independent draws.
    seed_id: str = ""
    # `lenient(completion)`: whether it holds the right answer, in whatever form. None: as `grade`.
    lenient: Callable[[str], bool] | None = field(default=None, repr=False)


class Record(BaseModel):
    """Base of what is written down: its texts are cleaned as they enter."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    _clean = field_validator("*", mode="before")(clean)


class Sample(Record):
    """One student answer: the text between the answer marks and what became of it."""

    answer: str
    outcome: Literal["passed", "failed", "error"]
    # Why it did not pass.
    reason: str = ""


# What of a problem `id` is the hash of, besides the environment.
VERIFIED = "program inputs outputs message pre_test test".split()


class Problem(Record):
    """A problem and its history.

    Inputs and outputs are Python literals as text; an input is what stands inside `f(...)`.
    A comment above a field explains it.

    Source: our choice.
    """

    # The content: `id` is the hash of these seven.
    environment: str
    program: str = ""
    inputs: list[str] = []
    outputs: list[str] = []
    message: str = ""
    pre_test: str = ""
    test: str = ""

    # The seed it grew from, and where that came from: wild | real.
    seed_id: str = ""
    source: str = ""
    # train | held_out, decided by the seed.
    split: str = "train"
    # multi (turn by turn) | single (independent samples of the same seed) | stones (stepping
    # stones) | real (no teacher).
    method: str = "multi"
    chain_id: str = ""
    parent_id: str = ""
    turn: Count = 1
    # What the teacher was asked for: new | harder | easier | vary.
    asked: str = "new"

    # valid | invalid | error (the kit's own fault: never counted against anybody).
    status: str = "valid"
    reason: str = ""
    # Graded attempts, and how many of them were right.
    n: Count = 0
    solved: Count = 0
    # Attempts that the kit's own infrastructure lost; not part of n.
    errors: Count = 0
    samples: list[Sample] = []

    kept: bool = False
    dropped_by: str = ""
    # Hash of what the program returns on the run's probes (filters); '' if that tells too little.
    behaviour: str = ""
    teacher: str = ""
    student: str = ""
    # Of the loop: the segment in which it was made, from 1 (0: before any), and the policy's step.
    segment: Count = 0
    policy_step: Count = 0
    # Hash of the teacher's first prompt of this turn.
    prompt: str = ""
    # The teacher's last answer, as it came.
    raw: str = ""
    teacher_tokens: Count = 0
    student_tokens: Count = 0

    @property
    def id(self) -> str:
        """Hash of the content alone, so the same problem has the same id wherever it came from.

        Returns:
            16 hexadecimal digits.
        """
        return digest(self.environment, *(getattr(self, name) for name in VERIFIED))

    @property
    def p(self) -> float | None:
        """Pass rate: solved / graded attempts.

        Returns:
            A share from 0 to 1; None before any attempt was graded.
        Source: paper (p = solved / M).
        """
        return self.solved / self.n if self.n else None

    def with_(self, **changes) -> "Problem":
        """A changed copy; texts are cleaned, nothing is validated again.

        Args:
            changes: new values by field.
        Returns:
            The copy; this problem stays as it is.
        """
        return self.model_copy(update=clean(changes))


def digest(*parts) -> str:
    """Hash of JSON-able parts (16 hexadecimal digits), the same in every process and machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class SeedSnippet(Record):
    """A piece of real code, where it comes from, and what it is for."""

    id: str
    text: str
    source: Literal["wild", "real"]
    # Path and lines, relative to the standard library or to site-packages.
    origin: str
    split: Literal["train", "held_out"] = "train"
    # Of the distribution that the code comes from.
    licence: str = ""
    # True: a problem by itself, not shown to a teacher.
    as_is: bool = False
    # Of a real function: what it computes, and the code that makes inputs for it.
    task: str = ""
    generator: str = ""
