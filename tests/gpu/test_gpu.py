"""The steps of look.py, small: on a card where there is one; on a CPU that they work at all."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from tests.gpu import look

needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")


@pytest.mark.gpu
@needs_card
def test_loss_and_gradient_on_the_card_are_those_of_the_cpu(tmp_path):
    found = look.same_numbers(tmp_path, small=True)
    assert found["loss_card"] == pytest.approx(found["loss_cpu"], rel=1e-4)
    assert 0 < found["gradient_apart"] < 1e-3


@pytest.mark.gpu
@needs_card
def test_the_miniature_trains_on_the_card(tmp_path):
    assert look.miniature(tmp_path, small=True)["tokens_per_second"] > 0


@pytest.mark.model
@pytest.mark.slow
def test_one_command_does_the_steps_and_leaves_their_results(tmp_path):
    steps = ["miniature", "same_numbers", "once_per_group"]
    asked = ["--small", "--out", tmp_path / "out", "--work", tmp_path / "work", "--only", *steps]
    command = [sys.executable, look.__file__, *map(str, asked)]
    subprocess.run(command, check=True, cwd=look.ROOT, env=os.environ | {"PYTHONPATH": "."})
    shutil.unpack_archive(tmp_path / "out" / "results.tar.gz", tmp_path / "found")
    assert not [*(tmp_path / "found").glob("*.error.txt")]
    found = {step: json.loads((tmp_path / "found" / f"{step}.json").read_text()) for step in steps}
    assert all(result["card"] for result in found.values())
