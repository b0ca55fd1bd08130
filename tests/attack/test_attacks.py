"""Every program of the corpus in every mode of this host, as this user.

Where that is root: as nobody too.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import HONEST, HOSTILE

from kit import sandbox
from kit.sandbox.walls import bubblewrap

pytestmark = [
    pytest.mark.attack,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's"),
]
ROOT = Path(__file__).parents[2]
SETTINGS = [
    *(m for m in sandbox.MODES if m != "monty"),
    *(["userns as nobody", "plain as nobody"] if os.geteuid() == 0 else []),
]


@functools.cache
def report(setting: str) -> dict[str, list[str]] | str:
    """What the harness found, run as a process of its own; or why this host has no such mode."""
    mode, _, user = setting.partition(" as ")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        *(as_nobody() if user else []),
        sys.executable,
        str(Path(__file__).parent / "harness.py"),
        mode,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/")
    if done.returncode == 0:
        return json.loads(done.stdout)
    if "SandboxUnavailable" in done.stderr:
        return done.stderr.strip().splitlines()[-1]
    raise AssertionError(done.stderr)


def as_nobody() -> list[str]:
    """A command that runs another one without privileges.

    Root's home, where Python may live, is replaced by what is needed of it.
    """
    home, needed = Path.home(), {Path(p).resolve() for p in (sys.prefix, sys.base_prefix, ROOT)}
    needed = [p for p in sorted(needed) if p.is_relative_to(home)]
    above = dict.fromkeys(
        d for p in needed for d in reversed(p.parents) if d.is_relative_to(home) and d != home
    )
    shown = [x for d in above for x in ("--perms", "0755", "--dir", str(d))] + [
        x for p in needed for x in ("--ro-bind", str(p), str(p))
    ]
    return [
        bubblewrap(),
        "--bind",
        "/",
        "/",
        "--dev-bind",
        "/dev",
        "/dev",
        "--tmpfs",
        str(home),
        *shown,
        "--setenv",
        "HOME",
        "/tmp",
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--",
    ]


def test_the_corpus_is_as_large_as_promised():
    names = [f"{p.kind}: {p.name}" for p in HOSTILE + HONEST]
    assert len(set(names)) == len(names) and len(HOSTILE) >= 70 and len(HONEST) >= 15
    assert all(p.why for p in HOSTILE + HONEST)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("program", HOSTILE + HONEST, ids=lambda p: f"{p.kind}: {p.name}")
def test_program(program, setting):
    found = report(setting)
    if isinstance(found, str):
        pytest.skip(found[:300])
    assert found[f"{program.kind}: {program.name}"] == [], program.why
