"""Stored answers graded anew: what changes is found, nothing else; an error is never a zero."""

import shutil
from concurrent.futures import Future

import pandas as pd
import pytest
from typer.testing import CliRunner

from kit.commands import cli, regrade
from kit.core.manifest import RECORDED, RunError
from kit.core.profile import load_profile
from kit.core.records import load_problems, read_parquet, write_parquet
from kit.rollouts import ROLLOUT
from kit.sandbox import Result, Sandbox, SandboxUnavailable


@pytest.fixture(scope="module", autouse=True)
def sandbox():
    try:
        with Sandbox(workers=1):
            pass
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture
def folder(tmp_path):
    """A run with some recorded evaluations, and two answers to a problem of the recording.

    Three verdicts are spoilt: one stored as wrong, one for another reason, one as an error of ours.
    """
    problems = load_problems(RECORDED / "filtered.parquet")
    asked = next(p for p in problems if p.kept and p.environment == "deduction")
    shutil.copy(RECORDED / "filtered.parquet", tmp_path)
    rows = [(f"<answer>{asked.outputs[0]}</answer>", "error", "ours"), ("five", "failed", "wrong")]
    answers = [
        dict(
            step=1,
            slot=0,
            problem_id=asked.id,
            environment="deduction",
            bin="easy",
            answer=answer,
            outcome=outcome,
            reason=reason,
            reward=None if outcome == "error" else 0.0,
            tokens=3,
            malformed=False,
            cut_off=False,
        )
        for answer, outcome, reason in rows
    ]
    write_parquet(pd.DataFrame(answers)[ROLLOUT], tmp_path / "rollouts.parquet")
    scores = read_parquet(RECORDED / "evaluation.parquet")
    scores = scores[scores["set"].isin(["synthetic", "maths"])].reset_index(drop=True)
    row = scores.index[(scores.checkpoint == "before") & (scores.solved > 0)][0]
    samples = [dict(sample) for sample in scores.samples[row]]
    spoilt = next(s for s in samples if s["mode"] == "sampled" and s["outcome"] == "passed")
    spoilt |= {"outcome": "failed", "reason": "wrong"}
    scores.at[row, "samples"] = samples
    scores.loc[row, "solved"] -= 1
    write_parquet(scores, tmp_path / "evaluation.parquet")
    return tmp_path


def test_the_recorded_verdicts_hold_today():
    assert set(regrade.regrade_run(RECORDED).state) == {"same"}


def test_changed_verdicts_are_found_and_nothing_is_written(folder):
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    answers = regrade.regrade_run(folder)
    others = answers[answers.state != "same"]
    assert others.state.tolist() == ["now right", "other reason", "now right"]
    assert others.new_outcome.tolist() == ["passed", "failed", "passed"]
    assert others.outcome.tolist() == ["error", "failed", "failed"]
    assert others.set.tolist() == ["rollouts", "rollouts", "synthetic"]
    assert {path: path.read_bytes() for path in folder.iterdir()} == kept


def test_a_failure_of_ours_takes_no_verdict_away(folder, monkeypatch):
    class FakeBrokenBox(Sandbox):
        def submit(self, job):
            gone = Future()
            gone.set_result(Result("sandbox_error", detail="the sandbox is gone"))
            return gone

    monkeypatch.setattr(regrade, "Sandbox", FakeBrokenBox)
    answers = regrade.regrade_run(folder)
    lost = answers[answers.state == "lost"]
    assert len(lost) and set(lost.new_outcome) == {"error"} and "error" not in set(lost.outcome)


def test_answers_to_unknown_problems_are_absent(folder):
    rollouts = read_parquet(folder / "rollouts.parquet").assign(problem_id="[red]gone\x1b[2J")
    write_parquet(rollouts, folder / "rollouts.parquet")
    answers = regrade.regrade_run(folder)
    assert answers.state[answers.set == regrade.TRAINING].tolist() == ["absent"] * 2


def test_the_command_lists_what_changed(folder):
    said = CliRunner().invoke(cli.app, ["regrade", str(folder)])
    assert said.exit_code == 0 and "3 others" in said.output
    assert "regrade" in CliRunner().invoke(cli.app, ["--help"]).output


def test_a_folder_without_answers_is_refused(tmp_path):
    with pytest.raises(RunError, match="run notebook 05 or 06"):
        regrade.regrade_run(tmp_path)


def test_a_run_in_miniature_is_graded_against_its_own_problems(tmp_path):
    """Those that notebook 05 took: the recorded ones of the miniature."""
    problem = load_problems(RECORDED / "run-mini" / "filtered.parquet")[0]
    found = regrade._items(tmp_path, {f"rollouts/{problem.id}"}, set(), load_profile("mini"))
    assert f"rollouts/{problem.id}" in {item.id for item in found}
