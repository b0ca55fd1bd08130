"""From a draft to a verified problem: run it on its inputs, twice, in two sandboxes."""

from dataclasses import dataclass

from kit.core.programs import unstable_name
from kit.core.types import InfrastructureError, Reason, Rejected
from kit.sandbox import Job, Result, Sandbox, arguments, same, text

# Characters of an input or output: a student has to read it (our choice).
LONGEST = 400


@dataclass(frozen=True)
class DeterminismCheck:
    """Two sandboxes in which a program must give the same outputs.

    Args:
        primary: runs drafts, attempts and answers.
        reseeded: runs drafts a second time; it has another hash seed, so another order of sets.
    Source: our choice.
    """

    primary: Sandbox
    reseeded: Sandbox


def values(result: Result) -> list:
    """The values of a run that went well. Raises Rejected or InfrastructureError."""
    if result.no_verdict:
        raise InfrastructureError(result.detail)
    if result.status == "timeout":
        raise Rejected(Reason.TIMEOUT)
    returned = result.returned()
    if returned is None:
        errors = [value for kind, value in result.values if kind == "err"]
        reason = Reason.NOT_PLAIN if "Unencodable" in errors else Reason.CRASH
        raise Rejected(reason, ", ".join(dict.fromkeys(errors)) or result.status)
    return returned


def usable(program: str, inputs: list[str], box: Sandbox) -> list[str]:
    """The inputs on which a program returns. Raises Rejected if none is left."""
    results = box.map([Job(program, (("f", arguments(given)),)) for given in inputs])
    for result in results:
        if result.no_verdict:
            raise InfrastructureError(result.detail)
    good = [given for given, result in zip(inputs, results) if result.returned() is not None]
    if not good:
        faults = [str(r.values[-1][1]) if r.values else r.status for r in results]
        why = ", ".join(dict.fromkeys(faults))
        raise Rejected(Reason.CRASH, f"f runs on none of the inputs: {why}")
    return good


def execute(code: str, inputs: list[str], check: DeterminismCheck, name: str = "f") -> list[str]:
    """The output of a deterministic program for each input, as the text of a literal.

    It must be the same in two sandboxes with different hash and random seeds, on a second call in
    one process, and when the inputs come in reverse (our choice). Raises Rejected.
    """
    # First without running: clocks, files and the like.
    found = unstable_name(code)
    if found:
        raise Rejected(Reason.UNSTABLE, f"it uses {found}")

    # Run all inputs twice in one sandbox, and once in reverse in the other.
    once = tuple((name, arguments(given)) for given in inputs)
    first = check.primary.submit(Job(code, once + once))
    second = check.reseeded.submit(Job(code, once[::-1], seed=1))
    twice = values(first.result())
    reverse = values(second.result())
    outputs = twice[: len(once)]
    if not all(map(same, outputs * 2, twice[len(once) :] + reverse[::-1])):
        raise Rejected(Reason.UNSTABLE, "two runs on the same input gave different outputs")

    # An output is shown as a literal, and a student has to read it.
    try:
        texts = [text(output) for output in outputs]
    except ValueError as fault:
        raise Rejected(Reason.NOT_PLAIN, str(fault)) from None
    longest = max(map(len, texts))
    if longest > LONGEST:
        raise Rejected(Reason.TOO_LONG, f"{longest} characters, at most {LONGEST} are allowed")
    return texts
