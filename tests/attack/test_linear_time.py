"""Every reader of what a model or a program wrote takes time in proportion to the text."""

import json
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from kit.benchmarks.livecodebench import same_lines
from kit.benchmarks.procedural import _grade_maths
from kit.core import programs
from kit.sandbox import Job, Sandbox, _boxed, literal
from kit.serving.engine import without_thoughts

# What is repeated, and what stands before and after it.
PUMPS = (
    r"""
1 1, 1+ 1. .1 1e 1_ 0x 1j 1+1j [ ( { ] ) } [0, (0, {0: ' " \' \" '' ''' '''\' '''\'' '\' b' rb"
+ - +- * × set( set() f( f() ) f(1) half( <answer> </answer> ``` def # , : a = =, None None, b r
<think> </think> \
""".split()
    + [" ", "\n", "\t", "+ ", ", ", "- ", "x =", "'a' ", "\\'\n", "1 + ", " × ", "```\n"]
)

FRAMES = [("", ""), ("[", "]"), ("1+", ""), ("'", ""), ("f(", ")"), ("<answer>", "</answer>")]

READERS = {
    "literal": literal,
    "calls": programs.calls,
    "last_tag": programs.last_tag,
    "code_block": programs.code_block,
    "given_arguments": programs.given_arguments,
    "program_tokens": programs.program_tokens,
    "copied": lambda text: programs.copied(text, text),
    "maths": lambda text: _grade_maths("7", [text]),
    "thoughts": without_thoughts,
    "lines": lambda text: same_lines(text, "1"),
}


def cost(reader, text):
    began = time.thread_time()
    with suppress(ValueError):
        reader(text)
    return time.thread_time() - began


@pytest.mark.parametrize("name", READERS)
def test_no_text_of_a_model_stalls_its_reader(name):
    """For 20,000 characters; a quadratic reader took 2 to 30 s."""
    slow = {}
    for pump in PUMPS:
        for before, after in FRAMES:
            text = before + pump * (19_900 // len(pump)) + after
            if cost(READERS[name], text) > 0.4:
                slow[before, pump, after] = min(cost(READERS[name], text) for _ in range(3))
    assert {what: seconds for what, seconds in slow.items() if seconds > 0.4} == {}


def test_a_call_ends_at_its_own_bracket():
    answer = "f([1, (2, 3)], ')(') # f(9)\nhalf(3)\nprint(f(4))\nf('a\\'b)')\ndef f(x)\nf(y)"
    assert programs.calls(answer) == ["[1, (2, 3)], ')('", "4", '"a\'b)"']


M = 2**61 - 1


def shared(k):
    """An int whose hash is that of every other one of these."""
    return {"i": format(k * M, "x")}


REPORTS = {
    "half collide": {"s": [shared(k) if k % 2 else k for k in range(40_000)]},
    "all collide": {"d": [[shared(k), 0] for k in range(20_000)]},
    "a hundred collide": {"s": [*map(shared, range(100)), *range(1000, 2000)]},
    "small tuples": [{"t": []}] * 400_000,
    "numbers": [0] * 400_000,
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_that_would_stall_the_host_is_too_much(name):
    line = json.dumps(["ok", REPORTS[name]]).encode()

    def read(line):
        with pytest.raises(_boxed.TooBig):
            _boxed.load(line)

    assert cost(read, line) < 1


FORGER = """
import os
def f():
    for fd in range(3, 16):
        try:
            os.write(fd, b'["ok", [' + b'0,' * 400_000 + b'0]]' + bytes([10]))
        except OSError:
            pass
    os._exit(0)
"""


def test_a_program_that_forges_such_a_report_has_overflown():
    with Sandbox(workers=1) as box:
        (result,) = box.map([Job(FORGER, (("f", ()),))])
    assert result.status == "overflow"


def test_honest_values_of_any_size_still_travel():
    code = "def f(n):\n    return [*range(n)], '[,{' * n, {k: (k,) for k in range(n // 10)}"
    with Sandbox(workers=1, output_bytes=1 << 23) as box:
        (result,) = box.map([Job(code, (("f", (100_000,)),))])
    numbers, text, table = result.returned()[0]
    assert len(numbers) == 100_000 and len(text) == 300_000 and table[9_999] == (9_999,)


DEEP = """
import sys
from kit.sandbox import _boxed
sys.setrecursionlimit(10**7)
for line in (b"[" * 10**6, b'["ok",' + b"[" * 10**5 + b"]" * 10**5 + b"]", b'{"t":[' * 10**5):
    try:
        _boxed.load(line)
    except ValueError:
        print("refused")
"""


def test_brackets_too_deep_for_a_raised_recursion_limit_do_not_crash_the_host():
    done = subprocess.run([sys.executable, "-c", DEEP], capture_output=True, text=True)
    assert done.stdout.split() == ["refused"] * 3, done.stderr[-300:]
