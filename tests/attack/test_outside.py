"""What the host leaves to programs is not their fault: quotas of control groups."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kit.sandbox.walls import core_share


@pytest.mark.parametrize(
    ("files", "line", "share"),
    [
        ({"a/b/cpu.max": "10000 100000"}, "0::/a/b", 0.1),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, "0::/a/b", 1.5),
        ({"cpu.max": "50000 100000"}, "0::/somewhere/else", 0.5),
        ({"cpu/x/cpu.cfs_quota_us": "20000", "cpu/x/cpu.cfs_period_us": "100000"}, "3:cpu:/x", 0.2),
        ({"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, "3:cpu:/x", None),
        ({"a/cpu.max": "what"}, "0::/a", None),
        ({}, "0::/", None),
        ({}, "", None),
    ],
)
def test_cores_are_those_of_affinity_and_quotas(tmp_path, files, line, share):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "cgroup").write_text(line)
    affinity = len(os.sched_getaffinity(0))
    found = core_share(str(tmp_path / "cgroup"), str(tmp_path))
    assert found == min(affinity, share or affinity)
    assert core_share(str(tmp_path / "no such file"), str(tmp_path)) == affinity


QUOTA = Path("/sys/fs/cgroup/cpu/kit-test")
RIGHT = """
import json, os, sys
from pathlib import Path
Path(sys.argv[1], "tasks").write_text(str(os.getpid()))
from kit.sandbox import Job, Sandbox, cores
work = "def f(n):\\n    return sum(k * k for k in range(n))"
with Sandbox(workers=8, timeout=1) as box:
    results = box.map([Job(work, (("f", (500_000,)),)) for _ in range(8)])
print(json.dumps([cores(), [result.status for result in results]]))
"""


def test_a_tenth_of_a_core_for_eight_workers_makes_no_program_late():
    """Under a real quota of a control group; where this user cannot make one: skipped."""
    try:
        QUOTA.mkdir(exist_ok=True)
        (QUOTA / "cpu.cfs_quota_us").write_text("10000")
    except OSError as fault:
        pytest.skip(f"no control group can be made here: {fault}")
    try:
        command = [sys.executable, "-c", RIGHT, str(QUOTA)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    finally:
        # Its last process may still be on its way out.
        time.sleep(1)
        QUOTA.rmdir()
    found, statuses = json.loads(done.stdout.splitlines()[-1])
    assert found == 1 and statuses == ["ok"] * 8, done.stderr
