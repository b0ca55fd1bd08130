"""Tests side by side: `pytest -n 3`, as `make test` says it, and what each process then gets.

A file stays in one process, in its own order, so that what its tests share (an engine, an executed
notebook, a sandbox) is made once. What holds a model is one piece too: memory. The longest pieces
begin first, the many short ones fill up the end. Three processes for two cores: many tests wait.
"""

import os

import pytest

# What a test's file and name begin with -> its piece; all others belong to that of their file.
PIECES = {
    "test_notebooks.py::test_filters_plan_and_board": "filters",
    "test_notebooks.py::test_rounds_replay": "replay",
    "test_launch.py": "models",
    "test_notebooks.py": "models",
    "test_server.py": "models",
}
# The longest first; all others follow in their own order.
FIRST = ("models", "filters", "test_shards.py", "replay", "test_attacks.py", "test_evaluation.py")

# Two threads of one process would wait for each other while another process has their core.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"


def piece(nodeid: str) -> str:
    """The name of the piece that a test belongs to."""
    name = nodeid.partition("[")[0].rpartition("/")[2]
    known = (PIECES[start] for start in PIECES if name.startswith(start))
    return next(known, name.partition("::")[0])


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
