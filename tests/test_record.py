"""`python -m kit record`: a run in miniature becomes the recorded one of its scale."""

import shutil

import pytest

from kit.commands import record
from kit.core import run
from kit.core.manifest import RECORDED, RunError

TABLES = (*record.TABLES, "rollouts")


@pytest.fixture
def finished(tmp_path):
    """A run folder in miniature, with the recorded tables as its own."""
    folder = tmp_path / "run"
    run.open_run("05_grpo", "mini", str(folder)).done(steps=1)
    for table in TABLES:
        shutil.copyfile(RECORDED / "run-mini" / f"{table}.parquet", folder / f"{table}.parquet")
    return folder


def test_a_run_in_miniature_is_recorded_beside_the_other_one(tmp_path, monkeypatch, finished):
    for module in (record, run):
        monkeypatch.setattr(module, "RECORDED", tmp_path / "recorded")
    monkeypatch.setattr(record, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(record, "update_pages", None)  # the pages are about language models
    out = record.record_run(finished)
    assert out == tmp_path / "recorded" / "run-mini" and not (tmp_path / "figures").exists()
    assert {path.stem for path in out.glob("*.parquet")} == {*TABLES}
    card = (out / "README.md").read_text()
    assert "profile `mini`" in card and "| `train.parquet` | " in card
    # A run in miniature without a plan takes that one, and nothing of language models.
    small = run.open_run("05_grpo", "mini", str(tmp_path / "empty"))
    assert small.find("plan.parquet") == out / "plan.parquet"
    assert small.label == " (in miniature) (recorded data)"
    (out / "plan.parquet").unlink()
    shutil.copyfile(RECORDED / "plan.parquet", tmp_path / "recorded" / "plan.parquet")
    with pytest.raises(RunError, match="data/recorded has none"):
        small.find("plan.parquet")


def test_an_unfinished_run_is_not_recorded(tmp_path, monkeypatch, finished):
    monkeypatch.setattr(record, "RECORDED", tmp_path / "recorded")
    (finished / "evaluation.parquet").unlink()
    with pytest.raises(RunError, match=r"no evaluation.*finish the run first"):
        record.record_run(finished)
    assert not (tmp_path / "recorded").exists()
