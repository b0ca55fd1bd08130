"""What the host leaves to programs is not their fault: quotas of control groups."""

import os

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
