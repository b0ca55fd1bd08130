"""Plain values and their text: what programs return, compared and written as Python literals.

Nothing is executed here.
"""

import ast
import cmath
import functools
import itertools
import re
import threading
from collections.abc import Iterable

from kit.sandbox import _boxed


# ---------------------------------------------------------------------- values and their text
def text(value) -> str:
    """The Python literal of a plain value, the same in every process; `literal` reads it back.

    Sets are sorted by their text, dicts keep their order. Raises ValueError for what has no
    literal: nan, inf, bytearray, frozenset, objects.
    """
    return _write(value, canonical=False)


def same(a, b) -> bool:
    """Are two plain values equal? Values that are not plain equal nothing.

    Strict in types: True, 1 and 1.0 differ, so do tuples and lists. But nan equals nan, -0.0 equals
    0.0, and the order of a dict does not matter.
    """
    try:
        return canonical(a) == canonical(b)
    except ValueError:
        return False


def canonical(value) -> str:
    """Text that two plain values share if and only if they are the same.

    Raises ValueError for values that are not plain.
    """
    return _write(value, canonical=True)


_ATOMS = (type(None), bool, int, float, complex, str, bytes)


def _write(value, canonical: bool, depth: int = 0) -> str:
    """Text of a plain value; canonical: values that are the same have one text, nan included."""
    if depth > _boxed.MAX_DEPTH:
        raise ValueError("nested too deeply")
    kind = type(value)

    # Numbers. Adding 0.0 turns -0.0 into 0.0; Python does not write very long integers in decimal.
    if canonical and kind is float:
        return f"float{value + 0.0}"
    if canonical and kind is complex:
        return f"complex{value.real + 0.0},{value.imag + 0.0}"
    if kind in (float, complex) and not cmath.isfinite(value):
        raise ValueError(f"no literal for {value}")
    if kind is int and value.bit_length() >= 8192:
        return hex(value)

    # Other values without parts.
    if kind in _ATOMS or canonical and kind is bytearray:
        return repr(value)

    # Values with parts: write these first.
    if kind not in (list, tuple, dict, set) and not (canonical and kind is frozenset):
        raise ValueError(f"no literal for a {kind.__name__}")
    write = functools.partial(_write, canonical=canonical, depth=depth + 1)
    if kind is dict:
        parts = [f"{write(key)}: {write(item)}" for key, item in value.items()]
    else:
        parts = list(map(write, value))
    if kind in (set, frozenset) or canonical and kind is dict:
        parts.sort()
    joined = ", ".join(parts)
    if kind is list:
        return f"[{joined}]"
    if kind is tuple:
        return f"({joined},)" if len(parts) == 1 else f"({joined})"
    if kind is dict:
        return f"{{{joined}}}"
    braces = f"{{{joined}}}" if parts else "set()"
    return braces if kind is set else f"frozenset({braces})"


# Quantifiers that end in + never give back what they took: a failure costs no second look, so all
# of it takes time in proportion to the text (tests/attack/test_linear_time.py).
_NUMBER = r"(?:[0-9][0-9_]*+(?:\.[0-9_]*+)?+|\.[0-9][0-9_]*+)(?:[eE][+-]?[0-9]++)?+"

_VALUE = re.compile(
    r"""(?xs)
    [0-9]+(?:,\s*[0-9]+)*(?=[,\])}]|$)         # a run of plain integers: the usual case, fast
  | (?: (?: [bB][rR]? | [rR][bB]? | [uU] )?
        (?: '''[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*+'''
          | \"""[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*+\"""
          | '[^'\\\n]*+(?:\\.[^'\\\n]*+)*+' | "[^"\\\n]*+(?:\\.[^"\\\n]*+)*+" ) \s*+ )+
  | (?: [+-]\s*+ )? (?: 0[xX][0-9a-fA-F_]++ | 0[oO][0-7_]++ | 0[bB][01_]++
        | NUMBER [jJ]? (?: \s*+[+-]\s*+ NUMBER [jJ] )? )
  | None | True | False | set\(\s*+\)
  | (?P<open>['"].*+)                          # a string that does not end: no literal""".replace(
        "NUMBER", _NUMBER
    )
)

_STEP = dict.fromkeys("[({", 1) | dict.fromkeys("])}", -1)

_BRACKETS = re.compile(
    r"\[(?:0(?:,0)*,?)?\]|\((?:0(?:,0)*,?)?\)|\{0(?:,0)*,?\}|\{(?:0:0(?:,0:0)*,?)?\}"
)


def _check_grammar(source):
    """Is this a literal, or several with commas between? Raises ValueError if not.

    Python's parser must not be the first to see what models write: deep brackets or chains of signs
    cost it much time. Here values become "0", then brackets around them become "0", from the
    inside. Each step is one pass of a regular expression.
    """
    if len(source) > 20_000:
        raise ValueError("too long")
    rest = re.sub(r"\s+", "", _VALUE.sub(r"0\g<open>", source))
    steps = map(_STEP.get, rest, itertools.repeat(0))
    if max(itertools.accumulate(steps, initial=0)) > _boxed.MAX_DEPTH:
        raise ValueError("nested too deeply")
    for _ in range(_boxed.MAX_DEPTH):
        rest, replaced = _BRACKETS.subn("0", rest)
        if not replaced:
            break
    if not re.fullmatch(r"(?:0(?:,0)*,?)?", rest):
        raise ValueError("not a literal")


_parsing = threading.RLock()


def parse(code: str, mode: str = "exec"):
    """`ast.parse`, one thread at a time.

    Where several threads parse, CPython 3.11 may lose count of its depth and raise SystemError
    (gh-106905).
    """
    with _parsing:
        return ast.parse(code, mode=mode)


def literal(text: str, frame: str = "{}"):
    """The plain value of a Python literal that a model wrote, of 20,000 characters at most.

    frame: what stands around it. Nothing is executed. Raises only ValueError.
    """
    source = text.strip()
    _check_grammar(source)
    try:
        value = ast.literal_eval(parse(frame.format(source), "eval"))
        # Refuse values that could not be written again, such as 1e999.
        _write(value, canonical=False)
        return value
    except (SyntaxError, TypeError, RecursionError, MemoryError, OverflowError) as fault:
        raise ValueError(f"not a literal: {fault}") from None


def arguments(text: str) -> tuple:
    """What stands inside f(...), as values: "[1, 2], 3" -> ([1, 2], 3).

    Raises ValueError, as `literal`.
    """
    return tuple(literal(text, "[{}]"))


def call_text(args: Iterable) -> str:
    """The inverse of `arguments`: ([1, 2], 3) -> "[1, 2], 3". Raises ValueError, as `text`."""
    return ", ".join(map(text, args))
