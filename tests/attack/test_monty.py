"""Mode "monty" beside this Python: the same value, or no verdict; never another value."""

import itertools

import pytest

from kit.sandbox import Job, Sandbox
from tests.attack.monty import Maker, by_python, differences

pytest.importorskip("pydantic_monty")


@pytest.fixture(scope="module")
def box():
    with Sandbox(mode="monty", workers=2) as box:
        yield box


def outcome(box, code, *arguments):
    """What the mode says of a call of f; it may never be a failure of our own."""
    (result,) = box.map([Job(code, (("f", arguments),))])
    assert result.status != "sandbox_error", result
    return result.values[0] if result.status == "ok" else result.status


# What pydantic-monty 1.4 gets wrong: measured by tests/attack/monty.py, or its search.
WRONG = """
def f(x): return [round(k / 1000, 2) for k in range(10_000)]
def f(x): return list({3, 1, 2, 10, 33, -1})
def f(x): return str(set([9, 1, 8]))
def f(x): return list({8: 1, 0: 2}.keys() & {0: 1, 8: 1}.keys())
def f(x): return hash("a")
def f(x): return "\\ud800"
def f(x): return int("\\u0661")
def f(x): return "abc".rfind("", 20)
def f(x): return enumerate([1])
def f(x): return [map(abs, [1])]
def f(x): return any(10 / y > 1 for y in [5, 0])
def f(x):\\n    m = map(abs, [1])\\n    return list(m), list(m)
def f(x):\\n    a = [1, 2, 3]\\n    for i, y in enumerate(a[:2] and a):\\n        a[2] += y\\n    return a
def f(x):\\n    a = []\\n    a.append(a)\\n    return a
def f(x): return 0 if x > 960 else f(x + 1)
def f(x):\\n    try: return int("x")\\n    except Exception as fault: return str(fault)
import math\\ndef f(x): return math.gamma(4.529)
import re\\ndef f(x): return re.sub(r"(a)", r"\\\\1x", "aba")
def f(x): return pow(3, -1, 7)
def f(x): return type(x)
def f(x):\\n    a = x + 1000\\n    b = x + 1000\\n    return a is b
def f(x): return str({5: 0, 1: 1}.items() - {}.items())
def f(x):\\n    k = {5: 0, 1: 1}.keys()\\n    return str(k & k)
""".strip().split("\n")


@pytest.mark.parametrize("line", WRONG)
def test_what_it_gets_wrong_has_no_verdict(box, line):
    code = line.replace("\\n", "\n").replace("\\\\", "\\")
    assert outcome(box, code, 7) == "unsupported"


@pytest.mark.parametrize("argument", ["\ud800", "é", "a\x1cb", {1, 2}, [frozenset("a")]])
def test_arguments_that_it_changes_have_no_verdict(box, argument):
    assert outcome(box, "def f(x): return [y for y in x]", argument) == "unsupported"


@pytest.mark.parametrize("depth", [10, 55, 65, 150, 400, 3_000, 100_000])
@pytest.mark.parametrize("grow", ["[a]", "(a,)", "{'a': a}"])
def test_a_deeply_nested_value_is_never_a_failure_of_ours(box, depth, grow):
    code = f"def f():\n    a = 1\n    for _ in range({depth}): a = {grow}\n    return a"
    found = outcome(box, code)
    assert found in ("unsupported", by_python(code, ())), found


@pytest.mark.parametrize("depth", [20, 90, 150, 1_000, 50_000])
@pytest.mark.parametrize("around", ["[]", "()", "-"])
def test_a_deeply_nested_program_is_never_a_failure_of_ours(box, depth, around):
    value = around[0] * depth + "1" + around[1:] * depth
    code = f"def f():\n    return {value}"
    found = outcome(box, code)
    assert found in ("unsupported", by_python(code, ()) or "load_error"), found


# What models write most; it must go on working.
RIGHT = """
def f(x): return [y * 2 for y in range(x) if y % 2]
def f(x): return sum(y for y in [x, 2]), sorted(map(str, [10, 9])), dict(zip("ab", [1, 2]))
def f(x): return f"{x:>5}|{2.675:.2f}|{1e16}|{'a'!r}", "%.2f" % 1.005, "{:,}".format(10 ** 6)
def f(x): return {"a": (1, 2.5), "b": [None, True]}, -7 // 2, -7 % 3, 2 ** 70, "abc"[::-1]
def f(x): return 1 // (x - 7), None is None
def f(x): return [k for k, v in {"b": 1, "a": 2}.items() if v is not None], sorted({2: 1}.keys())
def f(x): return [1][x]
""".strip().split("\n")


@pytest.mark.parametrize("code", RIGHT)
def test_usual_programs_give_what_python_gives(box, code):
    found, wanted = outcome(box, code, 7), by_python(code, (7,))
    assert repr(found) == repr(wanted)


def test_random_programs_give_what_python_gives_or_no_verdict(box):
    """3,000 of them; `python -m tests.attack.monty 600` goes on for ten minutes."""
    maker = Maker(1)
    programs = (maker.program() for _ in range(3_000))
    same = 0
    for code, wanted, found in differences(programs, box):
        assert code is None, (code, wanted, found)
        same += found == "same"
    assert same > 1_000


def test_the_search_finds_what_is_wrong(box, monkeypatch):
    """Without the list of what was compared it finds a difference at once."""
    monkeypatch.setattr("kit.sandbox.monty._not_compared", lambda code: "")
    maker = Maker(1)
    programs = (maker.program() for _ in itertools.count())
    assert next(code for code, *_ in differences(programs, box) if code)
