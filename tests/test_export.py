"""The exported data set, read by `datasets` itself."""

import json
import re
import shutil

import datasets
import pytest
import yaml
from typer.testing import CliRunner

from kit import environments
from kit.commands import cli, export
from kit.core import profile, records
from kit.core.manifest import RECORDED
from kit.dataset import ROW_FIELDS, SPLITS, problem_rows
from kit.grading import ExportError, problem_of_row

KEPT = {x.id: x for x in records.load_problems(RECORDED / "filtered.parquet") if x.kept}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "data"
    export.write_export(RECORDED, out)
    return out


@pytest.fixture(scope="module")
def data(folder, tmp_path_factory):
    return datasets.load_dataset(str(folder), cache_dir=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def run(tmp_path):
    """A run of its own: other visible pairs and bins than the default profile's."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("filtered", "seeds"):
        shutil.copyfile(RECORDED / f"{name}.parquet", folder / f"{name}.parquet")
    made = profile.load_profile(
        "smoke", {"rounds.visible": 2, "difficulty.bins": "narrow", "rounds.equality": "input"}
    ).model_dump(mode="json")
    (folder / "manifest.json").write_text(
        json.dumps({"profile": made, "versions": {"kit": "abc", "trl": "1"}, "stages": {}})
    )
    return folder


def test_datasets_reads_both_splits(data):
    assert data["train"].features == data["test"].features
    assert set(ROW_FIELDS) == set(data["train"].column_names)
    for split, name in SPLITS.items():
        ids = set(data[split]["id"])
        assert ids == {x.id for x in KEPT.values() if x.split == name}
        assert len(ids) == len(data[split])


def test_a_row_holds_what_is_verified_and_the_students_prompt(data):
    envs = environments.make(profile.load_profile("cpu").rounds)
    for row in data["test"]:
        env, problem = problem_of_row(row)
        kept = KEPT[row["id"]]
        assert problem.id == row["id"] and env.name == row["environment"]
        assert env.solve_prompt(problem) == envs[env.name].solve_prompt(kept) == row["prompt"]
        assert row["p"] == pytest.approx(kept.p)
        assert row["solved"] == round(row["p"] * row["n"])


def test_the_card_counts_and_describes_every_column(folder, data):
    _, header, text = (folder / "README.md").read_text().split("---\n", 2)
    header = yaml.safe_load(header)
    assert header["license"] == "apache-2.0"
    assert [x["split"] for x in header["configs"][0]["data_files"]] == ["train", "test"]
    assert all(f"| `{name}` |" in text for name in data["train"].column_names)
    assert re.search(
        r"\| split +\|.* induction .* hard .*\|\n.*\n\| test +\|.*\n\| train +\|", text
    )
    assert "python -m kit run --profile cpu" in text
    assert "PSF-2.0" in text
    assert "**How.**" in text


def test_a_runs_own_settings_go_into_its_rows(run):
    rows = problem_rows(run)["train"]
    assert {(x["visible"], x["equality"]) for x in rows} == {(2, "input")}
    assert None in {x["bin"] for x in rows}
    shown = next(x for x in rows if x["environment"] == "induction")
    prompt = shown["prompt"][-1]["content"]
    assert shown["inputs"][1] in prompt
    assert f"f({shown['inputs'][2]}) ==" not in prompt
    export.write_export(run, run / "out")
    assert "student smollm2-135m-instruct" in (run / "out" / "README.md").read_text()


def test_an_export_is_whole_or_not_there(tmp_path, monkeypatch):
    export.write_export(RECORDED, tmp_path / "old")
    before = {x.name: x.read_bytes() for x in (tmp_path / "old").iterdir()}
    monkeypatch.setattr(export, "_card", lambda *_: 1 / 0)
    for name in ("old", "new"):
        with pytest.raises(ZeroDivisionError):
            export.write_export(RECORDED, tmp_path / name)
    assert {x.name: x.read_bytes() for x in (tmp_path / "old").iterdir()} == before
    assert [x.name for x in tmp_path.iterdir()] == ["old"]


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ExportError, match="other things"):
        export.write_export(RECORDED, tmp_path)
    assert [x.name for x in tmp_path.iterdir()] == ["thesis.tex"]


def test_nothing_kept_is_said(run):
    records.save_problems([x.with_(kept=False) for x in KEPT.values()], run / "filtered.parquet")
    with pytest.raises(ExportError, match="kept no problem"):
        export.write_export(run, run / "out")
    with pytest.raises(records.RecordError, match="is not there"):
        export.write_export(run / "nowhere", run / "out")


def test_a_split_without_problems_is_left_out(run, tmp_path):
    records.save_problems(
        [x for x in KEPT.values() if x.split == "train"], run / "filtered.parquet"
    )
    assert export.write_export(run, run / "out").keys() == {"train"}
    assert datasets.load_dataset(str(run / "out"), cache_dir=str(tmp_path / "cache")).keys() == {
        "train"
    }


def test_a_foreign_row_is_refused():
    with pytest.raises(ExportError, match="no row of"):
        problem_of_row({"environment": "deduction", "program": "def f(): pass"})
    unknown = r"no environment is called 'deduktion': there are .*deduction"
    with pytest.raises(ExportError, match=unknown):
        problem_of_row({"environment": "deduktion", "program": "def f(): pass"})


def test_a_profile_that_this_kit_cannot_read_is_said(run):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["profile"]["rounds"]["colour"] = "red"
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match=r"profile in .*manifest.json \(rounds.colour\): use the"):
        export.write_export(run, run / "out")
    assert not (run / "out").exists()


def test_the_command_exports(tmp_path):
    done = CliRunner().invoke(cli.app, ["export", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert "problems to train" in " ".join(done.output.split())
    assert {x.name for x in (tmp_path / "out").iterdir()} == export.EXPORT_FILES
