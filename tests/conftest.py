"""Tests side by side: `pytest -n 2`, as `make test` says it, and what each process then gets.

A file stays in one process, in its own order, so that what its tests share (an engine, an executed
notebook, a sandbox) is made once. Long tests that share nothing are pieces of their own. The
longest pieces begin first, the many short ones fill up the end.
"""

import os

import pytest

# Tests of one piece: the first words of their names, after the file's.
PIECES = (
    "test_notebooks.py::test_a_killed_study",
    "test_notebooks.py::test_filters_plan_and_board",
    "test_notebooks.py::test_rounds_replay",
)
# The longest first; all others follow in their own order.
FIRST = (
    PIECES[0],
    "test_launch.py",
    "test_server.py",
    "test_notebooks.py",
    *PIECES[1:],
    "test_shards.py",
    "test_attacks.py",
)

# One core for each process: two threads of one wait for each other while the other's work goes on.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"


def piece(nodeid: str) -> str:
    """The name of the piece that a test belongs to."""
    name = nodeid.partition("[")[0].rpartition("/")[2]
    return next((start for start in PIECES if name.startswith(start)), name.partition("::")[0])


def place(item) -> int:
    """Where its piece stands in the order."""
    found = piece(item.nodeid)
    return FIRST.index(found) if found in FIRST else len(FIRST)


def pytest_collection_modifyitems(items):
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Pieces(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return piece(nodeid)

    # Not by the number of tests.
    config.option.loadscopereorder = False
    return Pieces(config, log)
