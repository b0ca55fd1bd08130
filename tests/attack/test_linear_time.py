"""Every reader of what a model or a program wrote takes time in proportion to the text."""

import json
import subprocess
import sys
import time
import tracemalloc
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


def repeated(item, before=b"[", after=b"]"):
    """The longest report of such items that is read, within the default limit of an output."""
    items: list[bytes] = []
    while sum(map(len, items[-1:])) * len(items) < 1 << 20 and len(items) < 250_000:
        items.append(item(len(items)) if callable(item) else item)

    def line(count):
        return b'["ok",' + before + b",".join(items[:count]) + after + b"]"

    few, many = 1, len(items)
    while many - few > few // 50 + 1:
        count = (few + many) // 2
        try:
            assert len(line(count)) < 1 << 20
            _boxed.load(line(count))
            few = count
        except (AssertionError, _boxed.TooBig):
            many = count
    return line(few)


def crafted_tuple(k):
    """Every sixteenth shares its hash, and all of them begin alike."""
    return b'{"t":[' + b"1000," * 300 + b"%d]}" % (k // 16 + k % 16 * M)


SET = (b'{"s":[', b"]}")
COSTLY = {
    "integers": lambda: repeated(b"0"),
    "floats": lambda: repeated(b"1e-300"),
    "tagged floats": lambda: repeated(b'{"f":"0.1234567890123456"}'),
    "tagged integers": lambda: repeated(b'{"i":"f"}'),
    "bytes": lambda: repeated(b'{"b":"00"}'),
    "brackets in strings": lambda: repeated(b'"["'),
    "pairs": lambda: repeated(b"[0,0]"),
    "tuples": lambda: repeated(b'{"t":[0]}'),
    "sets": lambda: repeated(b'{"s":[0]}'),
    "sets of 65": lambda: repeated(b'{"s":[' + b",".join(b"%d" % k for k in range(65)) + b"]}"),
    "a dict": lambda: repeated(lambda k: b'["%d",0]' % k, b'{"d":[', b"]}"),
    "a set of frozensets": lambda: repeated(lambda k: b'{"z":[%d]}' % k, *SET),
    "sixteen share": lambda: repeated(lambda k: b"%d" % (k % 4000 + k // 4000 * M), *SET),
    "low bits": lambda: repeated(lambda k: b"%d" % (k << 43), *SET),
    "tuples that begin alike": lambda: repeated(crafted_tuple, *SET),
    "long integers": lambda: repeated(b"9" * 399),
}


@pytest.mark.parametrize("name", COSTLY)
def test_the_worst_report_that_is_read_costs_little(name):
    """At most some 40 ms and 29 MB on quiet cores; other processes may make it slower here."""
    line = COSTLY[name]()
    seconds = min(cost(_boxed.load, line) for _ in range(3))
    tracemalloc.start()
    cost(_boxed.load, line)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{name}: {1000 * seconds:.0f} ms, {peak / 1e6:.0f} MB for {len(line):,} bytes")
    assert seconds < 0.5 and peak < 100e6


@pytest.mark.parametrize("tag", "tsz")
def test_a_long_text_is_no_container(tag):
    """As a tuple of its signs it would take eight times the memory."""
    with pytest.raises(ValueError, match="malformed"):
        _boxed.load(b'["ok",{"%s":"' % tag.encode() + b"a" * 1_000_000 + b'"}]')


def test_a_number_of_many_digits_is_malformed():
    assert _boxed.load(b"[" + b",".join([b"9" * 399] * 3) + b"]") == [10**399 - 1] * 3
    with pytest.raises(ValueError, match="too long"):
        _boxed.load(b'["ok",[' + b",".join([b"9" * 4000] * 200) + b"]]")


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


def test_a_list_of_200000_integers_travels():
    with Sandbox(workers=1, output_bytes=1 << 23) as box:
        job = Job("def f(n):\n    return [10**9 + k for k in range(n)]", (("f", (200_000,)),))
        (result,) = box.map([job])
    assert len(result.returned()[0]) == 200_000


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
