"""The figures that keep `kit/` thin and readable.

`PYTHONPATH=. python tests/test_style.py` prints them.
"""

import ast
import re

import pytest

from tests.house import FILES, OWN_PACKAGE, ROOT, python_tokens

if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-q", "-rP"]))

COLUMNS = 100
# What comes in is paid for by what goes out: lower it whenever something went.
TOKENS = 108_845
MODULE_LINES = 350
READING_LINES = 2_800
FUNCTION_LINES = 60
# What one reads to know the method, in this order.
READING_PATH = (
    "core/types environments/base environments/verify environments/induction "
    "environments/abduction "
    "environments/deduction environments/fuzzing teacher synthesis filters difficulty "
    "curriculum grpo"
).split()
# Programs kept as data, one line each.
PROGRAMS = {"tests/attack/programs.py", "tests/contest.py", "tests/test_published_maths.py"}
PROGRAMS |= {f"tests/attack/test_{name}.py" for name in ("across", "determinism", "portability")}
PROGRAMS |= {f"tests/attack/{name}.py" for name in ("test_tasks", "harness", "monty", "test_monty")}


def relative(path) -> str:
    return path.relative_to(ROOT).as_posix()


KIT = [*FILES.values(), *sorted(OWN_PACKAGE.rglob("*.py"))]
ALL = {relative(path): path for path in [*KIT, *sorted((ROOT / "tests").rglob("*.py"))]}


def lines(path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_no_line_is_longer_than_100_columns():
    wide = {
        name: sum(len(line) > COLUMNS for line in lines(path))
        for name, path in ALL.items()
        if name not in PROGRAMS
    }
    print(f"lines over {COLUMNS} columns: {sum(wide.values())}")
    assert {name: n for name, n in wide.items() if n} == {}


def test_kit_stays_within_its_budget_of_tokens():
    total = sum(map(python_tokens, KIT))
    print(f"Python tokens of kit/: {total:,} of {TOKENS:,}")
    assert total <= TOKENS


def test_no_module_has_more_than_350_lines():
    """The half of the sandbox that runs inside the walls is mounted alone, so it stays one file."""
    long = {relative(path): len(lines(path)) for path in KIT if path.name != "_boxed.py"}
    print(f"longest module: {max(long.values())} lines of {MODULE_LINES}")
    assert {name: n for name, n in long.items() if n > MODULE_LINES} == {}


def test_the_reading_path_is_an_afternoon():
    total = sum(len(lines(ROOT / "kit" / f"{name}.py")) for name in READING_PATH)
    print(f"reading path: {total:,} lines of {READING_LINES:,}")
    assert total <= READING_LINES
    # kit/README.md says how much there is to read.
    said = re.search(
        r"some ([\d,]+) lines", (ROOT / "kit" / "README.md").read_text(encoding="utf-8")
    )
    assert abs(int(said[1].replace(",", "")) - total) <= 100


def test_no_function_has_more_than_60_lines():
    long, longest = {}, 0
    for path in KIT:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                longest = max(longest, length)
                if length > FUNCTION_LINES:
                    long[f"{relative(path)}: {node.name}"] = length
    print(f"longest function: {longest} lines of {FUNCTION_LINES}")
    assert long == {}
