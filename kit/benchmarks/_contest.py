"""Runs a contest answer inside the sandbox as LiveCodeBench's checker runs it.

kit.benchmarks.livecodebench sends this file as text. The oddities are the checker's and decide
verdicts: a script becomes the body of a function, all tests run in one process, and the names below
are imported for it. Values come back as they are; they are compared outside.
"""

import ast
import io
import sys
import types
from typing import Any

STAR = """
    string re datetime collections heapq bisect copy math random statistics itertools functools
    operator io sys json builtins typing
""".split()
NAMED = [name for name in STAR if name not in ("builtins", "typing")]
PRELUDE = "\n".join(
    [f"from {name} import *" for name in STAR]
    + [f"import {name}" for name in NAMED]
    + ["sys.setrecursionlimit(50000)", ""]
)

# The function under test; `load` sets it.
answer: Any = None


class Early:
    """Standard input to those who took its name before the test began (`from sys import stdin`).

    Lines have no ends, and there is nothing to iterate over.
    """

    def begin(self, text):
        """Take the input of a test."""
        self.text = text
        self.lines = iter(text.split("\n"))
        self.buffer = io.BytesIO(text.encode())

    def read(self, *_):
        """All of it, every time."""
        return self.text

    def readline(self, *_):
        """The next line."""
        return next(self.lines)

    def readlines(self, *_):
        """All lines, every time."""
        return self.text.split("\n")

    def __iter__(self):
        return iter(())


early = Early()


def load(code, function):
    """The answer as a program: of a named function, or a script (function "")."""
    global answer
    sys.set_int_max_str_digits(50_000)
    early.begin("")
    sys.stdin = early
    module = types.ModuleType("tmp_sol")
    exec(PRELUDE + "\n\n" + (code if function else script(code)), module.__dict__)
    holder = module.__dict__["Solution"]() if "class Solution" in code else module
    answer = getattr(holder, function or "wrapped_function")


def script(code):
    """A script as a function, with its imports before it.

    The body of a last `if __name__ == "__main__"` replaces it.
    """
    body = ast.parse(code).body
    if isinstance(body[-1], ast.If) and ast.unparse(body[-1].test) == "__name__ == '__main__'":
        body[-1:] = body[-1].body
    imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    rest = [node for node in body if node not in imports]
    whole: Any = ast.parse("def wrapped_function(): pass").body[0]
    whole.body = rest
    return ast.unparse(ast.Module([*imports, whole], []))


def call(arguments):
    """What the function returns, a tuple as a list."""
    value = answer(*arguments)
    return list(map(plain, value)) if isinstance(value, tuple) else plain(value)


def plain(value):
    """Numbers of other kinds (numpy's, fractions) as the equal builtin ones, if there are such."""
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    if value is None or isinstance(value, (int, float, str)):
        return value
    for kind in (int, float):
        try:
            builtin = kind(value)
            if builtin == value:
                return builtin
        except Exception:
            pass
    return value


def feed(text):
    """What the script prints, given this standard input."""
    early.begin(text)
    stdin: Any = io.StringIO(text)
    stdin.buffer = early.buffer
    out: Any = io.StringIO()
    out.close = lambda x: 1
    own = sys.stdout
    sys.stdin = stdin
    sys.stdout = out
    try:
        answer()
    except SystemExit:
        pass
    finally:
        sys.stdout = own
    return out.getvalue()
