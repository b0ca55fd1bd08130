"""Arms of one's own, from a file; several studies as one: beside the recorded ones, and of a class.

The trainings are made up; those of the notebooks run in tests/test_notebooks.py.
"""

import json
import re
import shutil

import nbformat
import pandas as pd
import pytest
from typer.testing import CliRunner

from kit import arms, curriculum, pooling
from kit.arms import ArmError, collect_study, load_arms, own_arms
from kit.commands.cli import app
from kit.core.config import CurriculumConfig
from kit.core.manifest import ROOT, RunError
from kit.core.run import open_run
from kit.pooling import pool_studies, read_study
from kit.schedules import CurriculumError, phases
from tests.test_study import finish, prepared

assert prepared, "a fixture"
KNOWN = load_arms()
ADA = "ada: {schedule: [[0, {easy: 1}], [0.5, {hard: 3, medium: 1}]]}\n"


def written(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return folder / "mine.yaml"


# ------------------------------------------------------------------ an arm of one's own


def test_phases_stand_where_a_name_stands():
    text = '[[0, {"easy": 2}], [0.5, {"hard": 3, "medium": 1}]]'
    assert phases(text, 40) == [(0, 20, {"easy": 1}), (20, 40, {"hard": 0.75, "medium": 0.25})]
    for broken, why in (
        ("[[0]]", "each phase is"),
        ('[[0, {"easy": "much"}]]', "each phase is"),
        ("[[", "each phase is"),
        ("[]", "must start at 0"),
        ('[[0, {"tough": 1}]]', "the bins are"),
    ):
        with pytest.raises(CurriculumError, match=why):
            phases(broken, 40)
    own = CurriculumConfig(schedule='[[0, {"easy": 1}]]', environments={"deduction": 1.0})
    assert phases(own.schedule, 10) == [(0, 10, {"easy": 1})], "in a profile too"


def test_an_own_arm_is_planned_and_its_plan_tells_its_phases(prepared, tmp_path):
    file = written(tmp_path, ADA)
    runs = prepared(arms=[], seeds=[7], own=str(file))
    assert [f"{run.parent.name}/{run.name}" for run in runs] == ["ada/7"], "the file's arms alone"
    plan = pd.read_parquet(runs[0] / "plan.parquet")
    half = (plan.step.max() + 1) / 2
    assert set(plan[plan.step < half].bin) == {"easy"}
    assert "hard" in set(plan[plan.step >= half].bin)
    # Another process, which has not seen the file, draws it and knows its break points.
    assert curriculum.switches(plan) == [half]
    assert prepared(arms=[], seeds=[7], own=str(file)) == runs, "it goes on"
    both = prepared(arms=["easy", "ada"], seeds=[7], own=str(file))
    assert [run.parent.name for run in both] == ["easy", "ada"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ada: {schedule: [[0.5, {easy: 1}]]}", "arm ada: the phases start at 0.5"),
        ("ada: {schedule: [[0, {simple: 1}]]}", "arm ada: phase 1 has the weights"),
        ("ada: {schedule: [0, {easy: 1}]}", "arm ada: .*each phase is"),
        ("ada: {schedule: steep}", "arm ada: no schedule called 'steep'"),
        ("uniform: {schedule: hard}", "the kit has an arm of this name"),
        ("ada: {match: difficulty}", "the match difficulty is the kit's"),
        ("../ada: {schedule: hard}", "a name has letters"),
        ("7: {schedule: hard}", "a name has letters"),
        ("ada: {shedule: hard}", "is not a list of arms"),
        ("ada: [", "is not a list of arms"),
    ],
)
def test_a_broken_file_of_own_arms_is_refused_before_anything_is_made(
    prepared, tmp_path, text, why
):
    file = written(tmp_path, text)
    with pytest.raises(ArmError, match=why):
        prepared(arms=[], own=str(file))
    assert not (tmp_path / "study").exists()


def test_own_arms_change_nothing_for_the_kits(prepared, tmp_path):
    alone = prepared(arms=["easy"], seeds=[0], folder=tmp_path / "alone")[0]
    file = written(tmp_path, ADA)
    beside = prepared(arms=["easy", "ada"], seeds=[0], folder=tmp_path / "beside", own=str(file))[0]
    assert (alone / "arm.json").read_bytes() == (beside / "arm.json").read_bytes()


def test_the_arm_of_notebook_04_can_be_trained(tmp_path):
    cells = nbformat.read(ROOT / "notebooks" / "04_difficulty.ipynb", 4).cells
    text = next(cell.source for cell in cells if cell.id == "own-arm")
    line = re.search(r"```yaml\n(.+?)```", text, re.S)[1]
    assert list(own_arms(written(tmp_path, line), KNOWN)) == ["ada"]


# ------------------------------------------------------------------ several studies as one


@pytest.fixture
def studies(prepared, tmp_path):
    """The finished studies of two people, each with an arm of their own and seeds of their own."""
    made = {}
    for name, seeds in (("ada", [1, 2]), ("ben", [3, 4, 5])):
        file = written(tmp_path / name, ADA.replace("ada", name))
        made[name] = tmp_path / name / "study"
        for run in prepared(arms=["easy", name], seeds=seeds, folder=made[name], own=str(file)):
            finish(run, run.parent.name)
    return made


def test_a_class_has_one_board_that_knows_who_brought_what(studies, tmp_path):
    out = tmp_path / "class"
    told = pool_studies(list(studies.values()), out)
    assert told.groupby("from").seed.nunique().to_dict() == {
        str(studies["ada"]): 2,
        str(studies["ben"]): 3,
    }
    found = collect_study(out)["scores"]
    assert found.groupby("arm").seed.nunique().to_dict() == {"easy": 5, "ada": 2, "ben": 3}
    assert set(found[found.arm == "ben"]["from"]) == {str(studies["ben"])}
    # Once more, and one by one, changes nothing.
    again = pool_studies([studies["ben"]], out)
    assert again.sort_values(["arm", "seed"]).values.tolist() == (
        told.sort_values(["arm", "seed"]).values.tolist()
    )


def changed(run, file, change):
    facts = json.loads((run / file).read_text())
    change(facts)
    (run / file).write_text(json.dumps(facts))


def other_results(run):
    scores = pd.read_parquet(run / "evaluation.parquet")
    scores.assign(solved=0).to_parquet(run / "evaluation.parquet")


@pytest.mark.parametrize(
    ("clash", "why"),
    [
        (
            lambda run: changed(run, "arm.json", lambda f: f.update(data="x")),
            r"other problems .*\(data: ",
        ),
        (
            lambda run: changed(
                run, "manifest.json", lambda f: f["profile"]["grpo"].update(steps=7)
            ),
            r"another profile \(profile.grpo.steps: \d+ -> 7\)",
        ),
        (
            lambda run: changed(
                run,
                "manifest.json",
                lambda f: f["stages"]["05_grpo"].update(overrides={"grpo.learning_rate": 1.0}),
            ),
            r"another profile \(profile.grpo.learning_rate: .* -> 1.0\)",
        ),
        (
            lambda run: changed(run, "arm.json", lambda f: f.update(schedule="hard")),
            r"two arms of one name, so rename the folder .*/easy \(schedule: easy -> hard\)",
        ),
        (
            lambda run: (other_results(run), changed(run, "arm.json", lambda f: f.update(seed=1))),
            "the same arm and seed with other results",
        ),
        (lambda run: (run / "arm.json").write_text("{"), "is no run of a study"),
        (lambda run: (run / "arm.json").write_text("{}"), "is no run of a study"),
    ],
)
def test_runs_that_clash_are_refused_and_nothing_is_written(studies, tmp_path, clash, why):
    clash(studies["ben"] / "easy" / "3")
    with pytest.raises(RunError, match=why):
        pool_studies(list(studies.values()), tmp_path / "class")
    assert not (tmp_path / "class").exists()


def test_a_name_that_two_chose_is_changed_by_renaming_a_folder(studies, tmp_path):
    mine = [studies[name] / "mine" for name in ("ada", "ben")]
    (studies["ada"] / "ada").rename(mine[0])
    (studies["ben"] / "ben").rename(mine[1])
    for run in mine[1].iterdir():
        changed(run, "arm.json", lambda facts: facts.update(schedule="hard"))
    with pytest.raises(RunError, match="two arms of one name"):
        pool_studies(list(studies.values()), tmp_path / "class")
    mine[1].rename(studies["ben"] / "bens")
    pool_studies(list(studies.values()), tmp_path / "class")
    assert set(collect_study(tmp_path / "class")["scores"].arm) == {"easy", "mine", "bens"}


def test_a_folder_without_a_finished_run_is_named(studies, tmp_path):
    with pytest.raises(RunError, match="nothing has no finished run of a study"):
        pool_studies([studies["ada"], tmp_path / "nothing"], tmp_path / "class")
    (studies["ada"] / "ada" / "1" / "evaluation.parquet").unlink()
    assert len(pool_studies([studies["ada"]], tmp_path / "class")) == 3, "the others go on"


def test_the_command_says_who_brought_what(studies, tmp_path):
    folders = list(map(str, studies.values()))
    said = CliRunner().invoke(app, ["pool", *folders, "--out", str(tmp_path / "class")])
    assert said.exit_code == 0 and "10 runs in" in said.output.replace("\n", " ")
    assert re.search(r"ada/study\s+ada\s+2\s+\[1, 2\]", said.output)


@pytest.fixture
def recorded(studies, tmp_path, monkeypatch):
    """A recorded study in miniature with the arm `hard`, and run 07 of profile mini."""
    monkeypatch.setattr(arms, "RECORDED", tmp_path / "recorded")
    place = tmp_path / "recorded" / "study-mini"
    place.mkdir(parents=True)
    for name, table in collect_study(studies["ada"]).items():
        table = table[table.arm == "ada"].assign(arm="hard")
        table.to_parquet(place / f"{name}.parquet")
    return open_run("07_findings", "mini", str(tmp_path / "run"))


def test_own_runs_stand_beside_the_recorded_ones(studies, recorded, tmp_path):
    found, label = read_study(recorded, f"{studies['ben']}, recorded")
    assert found["scores"].groupby("arm").seed.nunique().to_dict() == {
        "easy": 3,
        "ben": 3,
        "hard": 2,
    }
    assert label == " (in miniature) (recorded data)" and "study" in recorded.recorded
    found, label = read_study(recorded, f"{studies['ada']},{studies['ben']}")
    assert set(found["curves"].arm) == {"easy", "ada", "ben"} and label == " (in miniature)"
    (tmp_path / "none").mkdir()
    found, _ = read_study(recorded, str(tmp_path / "none"))
    assert set(found["scores"].arm) == {"hard"}, "nothing of one's own: the recorded ones"


def test_a_folder_that_is_not_there_is_named(studies, recorded, tmp_path, monkeypatch):
    with pytest.raises(RunError, match=f"no study in {tmp_path}/typo: look at STUDY"):
        read_study(recorded, f"{studies['ben']}, {tmp_path}/typo, recorded")
    # Without a name it is that of the profile, which need not be there.
    monkeypatch.setattr(pooling, "ROOT", tmp_path)
    assert set(read_study(recorded)[0]["scores"].arm) == {"hard"}


def test_a_study_may_ask_more_problems_than_another_but_not_others(studies, recorded):
    path = next(studies["ben"].glob("*/*")) / "evaluation.parquet"
    whole = pd.read_parquet(path)
    more = pd.concat([whole, whole.assign(problem_id=whole.problem_id + " too")])
    more.to_parquet(path)
    found, _ = read_study(recorded, f"{studies['ben']},recorded")
    assert found["scores"].problem_id.str.endswith(" too").any()
    for other in studies["ben"].glob("*/*"):
        more[more.problem_id.str.endswith(" too")].to_parquet(other / "evaluation.parquet")
    with pytest.raises(RunError, match="problems of one that the others did not ask"):
        read_study(recorded, f"{studies['ben']},recorded")


def test_studies_that_cannot_be_compared_are_refused(studies, recorded, tmp_path):
    shutil.copytree(studies["ben"], tmp_path / "again")
    with pytest.raises(RunError, match=r"in two of the studies: easy/3"):
        read_study(recorded, f"{studies['ben']},{tmp_path / 'again'}")
    for run in (tmp_path / "again").glob("*/*"):
        curve = pd.read_parquet(run / "train.parquet")
        curve[curve.step < 3].to_parquet(run / "train.parquet")
    with pytest.raises(RunError, match="2 steps against 4 steps"):
        read_study(recorded, f"{tmp_path / 'again'},recorded")
    shutil.rmtree(tmp_path / "recorded")
    with pytest.raises(RunError, match="no study of this scale is recorded"):
        read_study(recorded, f"{studies['ben']},recorded")
