import errno
import json
import os
import signal
import time

import pandas as pd
import pytest
import typer

import kit
from kit.commands.cli import stoppable
from kit.core import run as runs
from kit.core.manifest import RunError, _commit, read_manifest
from kit.core.profile import ProfileError
from kit.core.records import RecordError
from kit.core.types import Problem


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RECORDED", tmp_path / "recorded")
    (tmp_path / "recorded").mkdir()
    return lambda stage="02_rounds", profile="smoke", run_dir=str(tmp_path / "run"), **kw: (
        kit.start(stage, profile, run_dir, **kw)
    )


def test_a_stage_is_counted_in_the_manifest_and_can_be_opened_again(start, capsys):
    run = start(seed=3)
    run.done(kept=5, dropped=2)
    assert "02_rounds done" in capsys.readouterr().out
    again = start(seed=3)
    stage = read_manifest(again.folder)["stages"]["02_rounds"]
    assert stage["counts"] == {"kept": 5, "dropped": 2} and again.seed == 3


def test_an_override_reaches_this_stage_only(start):
    assert start(rounds__turns=4).profile.rounds.turns == 4
    assert start("03_filters").profile.rounds.turns == 2


@pytest.mark.parametrize("again", [{"seed": 4}, {"profile": "cpu", "seed": 3}])
def test_a_folder_made_with_other_values_is_refused_and_unharmed(start, again):
    run = start(seed=3)
    before = (run.folder / "manifest.json").read_text()
    seed = r"made with other values \(.*seed: 3 -> 4.*choose another RUN_DIR"
    name = r"name: smoke -> cpu.*delete that folder"
    with pytest.raises(RunError, match=seed if again == {"seed": 4} else name):
        start(**again)
    assert (run.folder / "manifest.json").read_text() == before


def test_a_folder_of_a_kit_that_lacked_a_field_goes_on_with_its_default(start):
    run = start(seed=3)
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert manifest["profile"]["rounds"].pop("in_flight") == 8
    assert manifest["profile"]["grpo"].pop("layers") is None
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="in_flight: None -> 8"):  # has no default
        start(seed=3)
    manifest["profile"]["rounds"]["in_flight"] = 8
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    start(seed=3)


def test_a_stage_made_with_another_override_is_refused(start):
    start(rounds__turns=4)
    with pytest.raises(
        RunError, match=r"holds 02_rounds with \{'rounds.turns': 4\}, now asked with \{\}"
    ):
        start()
    with pytest.raises(RunError, match=r"now asked with \{'rounds.turns': 3\}"):
        start(rounds__turns=3)
    assert start(rounds__turns=4).profile.rounds.turns == 4


def test_a_misspelt_parameter_leaves_no_folder_behind(start, tmp_path):
    with pytest.raises(ProfileError, match="rounds.turn: unknown key.*turns"):
        start(rounds__turn=4)
    assert not (tmp_path / "run").exists()


def test_its_own_record_comes_before_the_recorded_one_which_is_said(start, tmp_path, capsys):
    recorded = Problem(environment="fuzzing", program="recorded")
    own = Problem(environment="fuzzing", program="own")
    run = start("03_filters")
    runs.records.save_problems([recorded], tmp_path / "recorded" / "rounds.parquet")
    assert run.problems("rounds") == [recorded] and run.label == " (recorded data)"
    assert run.problems("rounds")
    assert capsys.readouterr().out.count("rounds.parquet comes from data/recorded") == 1
    run.done()
    assert read_manifest(run.folder)["stages"]["03_filters"]["recorded"] == ["rounds.parquet"]
    fresh = start("04_difficulty")
    fresh.save_problems([own], "rounds")
    assert fresh.problems("rounds") == [own] and not fresh.recorded
    assert fresh.label == " (recorded data)", "an earlier stage rests on them"
    assert start("01_seeds").label == ""
    assert start("02_rounds", replay=True).label == " (recorded data)"


def test_a_record_that_is_nowhere_names_the_fix(start):
    with pytest.raises(RunError, match="run the notebook that writes rounds.parquet first"):
        start("03_filters").problems("rounds")


def test_an_empty_table_keeps_its_columns(start):
    run = start()
    run.save_table(pd.DataFrame(columns=["step", "bin"]), "plan")
    assert list(run.table("plan").columns) == ["step", "bin"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"profile": ',
        b"\xff\xfe",
        b"[]",
        b"3",
        b"null",
        b'{"profile": 5, "stages": {}}',
        b'{"profile": null, "stages": []}',
        b'{"profile": null, "stages": {"02_rounds": 7}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_manifest(start, content):
    run = start()
    (run.folder / "manifest.json").write_bytes(content)
    with pytest.raises(RunError, match="manifest.json is damaged: delete it"):
        start()


def test_a_manifest_on_a_full_disk_leaves_the_old_one(start, monkeypatch):
    run = start()
    before = json.loads((run.folder / "manifest.json").read_text())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runs.os, "replace", full)
    with pytest.raises(RecordError, match="disk is full"):
        run.done(kept=1)
    assert read_manifest(run.folder) == before


def test_a_figure_lies_beside_its_numbers_and_is_the_same_each_time(start):
    from kit.display import figures

    run = start()
    df = pd.DataFrame({"step": [0, 10], "bin": ["easy", "easy"], "weight": [1.0, 1.0]})
    run.figure(figures.draw_curriculum(df), "curriculum", df)
    first = (run.folder / "figures" / "curriculum.svg").read_bytes()
    run.figure(figures.draw_curriculum(df), "curriculum", df)
    folder = run.folder / "figures"
    assert (folder / "curriculum.svg").read_bytes() == first
    assert sorted(x.name for x in folder.iterdir()) == [
        "curriculum.csv",
        "curriculum.png",
        "curriculum.svg",
    ]
    pd.testing.assert_frame_equal(pd.read_csv(folder / "curriculum.csv"), df, check_dtype=False)


@pytest.mark.parametrize("broken", ["", "big answer", "big answer http://a:1/v1 more"])
def test_a_note_of_a_replica_that_is_not_whole_is_left_out(tmp_path, monkeypatch, capsys, broken):
    monkeypatch.setenv("KIT_ENDPOINTS", str(tmp_path))
    (tmp_path / "1.endpoint").write_text(broken)
    (tmp_path / "2.endpoint").write_text("big answer http://b:1/v1\n")
    assert runs.registered_endpoints("big") == ["http://b:1/v1"]
    assert "1.endpoint does not hold MODEL PURPOSE URL: left out" in capsys.readouterr().out


def test_a_machine_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert _commit() == "unknown"


@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_says_that_nothing_is_lost(word, capsys):
    # In the background of a script it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(typer.Exit) as ended, stoppable():
        os.kill(os.getpid(), word)
        time.sleep(5)
    assert ended.value.exit_code == 130 and "goes on from here" in capsys.readouterr().out
