"""How a judge works: cases one after the other, each with the sentence that it teaches."""

import ast
import contextlib
import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd


def judge_cases(name: str, learner: Callable, cases: list[tuple]) -> None:
    """Print the first case on which the learner's function is wrong, or that it is right.

    A case: the arguments, the right answer, and what to say if another one comes.
    """
    # All cases are tried first: a function that gives nothing anywhere is one not begun.
    answers = [call_learner(learner, *arguments) for *arguments, _, _ in cases]
    if not has_begun(name, answers):
        return

    for (*arguments, right, lesson), answer in zip(cases, answers):
        complaint = complaint_about(answer, right)
        if complaint:
            # A frame is too long for the line of the call: it is printed below it.
            frames = [argument for argument in arguments if isinstance(argument, pd.DataFrame)]
            call = name if frames else f"{name}({', '.join(map(repr, arguments))})"
            print(f"{call}: {'. '.join(filter(None, (complaint, lesson)))}")
            for frame in frames:
                print(frame.to_string(index=False))
            return
    print(f"{name}: right on {len(cases)} cases. ✓")


def cases_of(reference: Callable, lessons: dict[str, str]) -> list[tuple]:
    """Cases of the arguments as they stand in a call, with lessons; the reference gives answers."""
    calls = [(ast.literal_eval(f"({text},)"), lesson) for text, lesson in lessons.items()]
    return [(*arguments, reference(*arguments), lesson) for arguments, lesson in calls]


def call_learner(learner: Callable, *arguments) -> Any:
    """The learner's answer to copies of the arguments, or the exception that came instead."""
    try:
        return learner(*copy.deepcopy(arguments))
    except Exception as error:
        return error


def has_begun(name: str, answers: list) -> bool:
    """Whether a learner has written anything; prints a line if not."""
    begun = all(a is not ... for a in answers) and any(a is not None for a in answers)
    if not begun:
        told = "not begun yet, or nothing is returned. Replace the `...` and run the cell again."
        print(f"{name}: {told}")
    return begun


def numbers_of(name: str, answer: Any, form: str) -> list[float]:
    """The numbers, below a billion, of an answer that looks like `form`.

    None of another one, after a line is printed."""
    if not has_begun(name, [answer]):
        return []
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        found = [float(number) for number in np.atleast_1d(answer)]
        if len(found) == form.count(",") + 1 and all(abs(number) < 1e9 for number in found):
            return found
    print(f"{name}: an answer looks like {form}")
    return []


def complaint_about(answer, right) -> str:
    """What is wrong with an answer; empty if it is right."""
    if isinstance(answer, Exception):
        return f"your function raised {type(answer).__name__}: {answer}"
    if answer is None and right is not None:
        return "your function gives nothing: every way through it needs a `return`"
    if _same(answer, right):
        return ""
    wanted, given = (f"{x:.4g}" if isinstance(x, float) else repr(x) for x in (right, answer))
    return f"expected {wanted}, your function gives {given}"


def _same(answer, right):
    """Equal, numbers to within 1e-9; an array or a series counts as the list of its values."""
    if hasattr(answer, "tolist"):
        answer = answer.tolist()
    match answer, right:
        case dict(), dict():
            # A bin that is not named has the weight 0.
            return all(_same(answer.get(k, 0), right.get(k, 0)) for k in {*answer, *right})
        case list() | tuple(), list() | tuple():
            return len(answer) == len(right) and all(map(_same, answer, right))
        case int() | float(), int() | float():
            return math.isclose(answer, right, abs_tol=1e-9)
    return type(answer) is type(right) and answer == right


def follows(name: str, rules: dict[str, Any], praise: str) -> bool:
    """Whether all rules hold; prints the first (a key) that does not, else the praise."""
    broken = next((rule for rule, holds in rules.items() if not holds), "")
    print(f"{name}: {broken or praise}")
    return not broken
