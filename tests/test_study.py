"""The grid of a study; the trainings themselves run in tests/test_notebooks.py."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
import yaml

from kit import arms as study_arms
from kit import findings, grpo
from kit.arms import EMPTY, ArmError, collect_study, load_arms
from kit.commands import pages, record, study
from kit.core import profile
from kit.core.manifest import RECORDED, RunError
from kit.core.profile import ProfileError
from kit.core.records import save_problems
from kit.core.run import LABEL, MINIATURE, open_run
from kit.pooling import read_study
from tests.test_arms import made

NO_ROUNDS = findings.round_tables(
    pd.DataFrame(columns="environment seeds multi_kept single_kept ratio low high".split()), []
)


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(grpo, "tokenizer", lambda name: None)
    save_problems(made(), tmp_path / "data" / "filtered.parquet")

    def prepare(**changes):
        options = {
            "profile": "study",
            "folder": tmp_path / "study",
            "data": tmp_path / "data",
            "arms": ["easy", "hard"],
            "seeds": [0, 1],
            "own": "",
            "given": {},
        }
        return study.prepare_study(**(options | changes))

    return prepare


def test_run_folders_hold_problems_plan_and_arm(prepared):
    runs = prepared()
    assert [f"{r.parent.name}/{r.name}" for r in runs] == [
        "easy/0",
        "hard/0",
        "easy/1",
        "hard/1",
    ], "whole seeds first"
    for run in runs:
        facts = json.loads((run / "arm.json").read_text())
        assert set(pd.read_parquet(run / "plan.parquet")["bin"]) == {facts["schedule"]}
        assert (run / "filtered.parquet").exists()
    before = (runs[0] / "plan.parquet").stat().st_mtime_ns
    assert prepared(arms=["hard"]) == runs[1::2], (
        "the match is that of the whole file, whatever is chosen"
    )
    assert prepared() == runs and (runs[0] / "plan.parquet").stat().st_mtime_ns == before, (
        "made once"
    )


def test_a_folder_of_other_problems_or_another_profile_is_refused_and_unharmed(prepared, tmp_path):
    run = prepared()[0]
    before = (run / "arm.json").read_text()
    save_problems(made()[1:], tmp_path / "data" / "filtered.parquet")
    for changes in ({}, {"profile": "smoke", "arms": ["easy"]}):
        with pytest.raises(RunError, match="was made with other problems, values or another arm"):
            prepared(**changes)
    assert (run / "arm.json").read_text() == before


def test_a_folder_made_with_other_values_of_p_is_refused(prepared):
    """Else its runs would be of two kinds."""
    given = {"given": {"SAMPLES": 4}}
    prepared(**given)
    assert len(prepared(**given)) == 4, "the same values go on"
    for other in ({"given": {"SAMPLES": 8}}, {}):
        with pytest.raises(RunError, match="was made with other problems, values"):
            prepared(**other)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": "nowhere"}, RunError, "run notebooks 01 to 03"),
        ({"arms": ["steep"]}, ArmError, "no arm is called"),
        ({"profile": "cqu"}, ProfileError, "cpu"),
        ({"given": {"LEARNING": 1e-5}}, RunError, "no notebook has a parameter LEARNING"),
    ],
)
def test_bad_input_leaves_no_folder_behind(prepared, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        prepared(**({k: Path(v) if k == "data" else v for k, v in changes.items()}))
    assert not (tmp_path / "study").exists()


def test_an_arm_that_changes_the_training_has_a_profile_of_its_own(prepared):
    """Notebooks 05 and 06 get it instead of the study's."""
    runs = {run.parent.name: run for run in prepared(arms=["uniform", "random-reward"], seeds=[0])}
    assert not (runs["uniform"] / study.OWN_PROFILE).exists()
    own = profile.load_profile(str(runs["random-reward"] / study.OWN_PROFILE))
    plain = profile.load_profile("study")
    assert own == plain.model_copy(
        update={"grpo": plain.grpo.model_copy(update={"reward": "random"})}
    )
    assert runs["uniform"].joinpath("plan.parquet").read_bytes() == (
        runs["random-reward"].joinpath("plan.parquet").read_bytes()
    )


class FakeNotebooks:
    """Instead of `python -m kit run`: what it was asked, and how many were at it at once."""

    def __init__(self, monkeypatch, fails=()):
        self.commands, self.at_once, self.alone, self.fails = {}, [], Lock(), fails
        self.running, self.cards = 0, {}
        monkeypatch.setattr(study.subprocess, "Popen", self.start)

    def start(self, command, env, **_):
        run = Path(command[command.index("--out") + 1])
        with self.alone:
            self.cards[run] = env.get("CUDA_VISIBLE_DEVICES")
            self.running += 1
            self.at_once.append(self.running)
            self.commands[run] = (command, (run / study.BEFORE).exists())
        return SimpleNamespace(wait=lambda: self.wait(run), terminate=lambda: None)

    def wait(self, run):
        time.sleep(0.05)
        with self.alone:
            self.running -= 1
        if run.name in self.fails:
            return 1
        finish(run, run.parent.name)
        # Its first answer was lost.
        table = pd.read_parquet(run / "evaluation.parquet")
        table.loc[0, "errors"] = 1
        table.to_parquet(run / "evaluation.parquet")
        return 0


def test_the_untrained_policy_is_evaluated_by_one_run_before_all_others(prepared, monkeypatch):
    ran = FakeNotebooks(monkeypatch)
    runs = prepared(arms=["easy", "random-reward"], seeds=[0, 1])
    study.run_study("study", runs, 3, False)
    answered = [ran.commands[run][1] for run in runs]
    assert answered == [False, True, True, True], "the first asks, the others find the answers"
    # But not those that were lost: they are asked again.
    whole = pd.read_parquet(runs[0] / "evaluation.parquet")
    handed = pd.read_parquet(runs[1] / study.BEFORE)
    assert set(handed.checkpoint) == {"before"}
    assert list(handed.problem_id) == list(whole[whole.checkpoint == "before"].problem_id[1:])
    assert ran.at_once[0] == 1 and max(ran.at_once) == 3, "it goes alone, then all at once"
    asked = {run: " ".join(command) for run, (command, _) in ran.commands.items()}
    for run in runs:
        assert f"-pTRAIN_SEED={run.name}" in asked[run], "one seed, one sampling"
        chosen = run / study.OWN_PROFILE if run.parent.name == "random-reward" else "study"
        assert f"--profile {chosen} " in asked[run]


def test_runs_at_once_take_the_gpus_in_turn(prepared, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    ran = FakeNotebooks(monkeypatch)
    runs = prepared(arms=["easy", "random-reward"], seeds=[0])
    study.run_study("study", runs, 2, False)
    assert {*ran.cards.values()} == {"2", "3"}
    # With more runs than cards at once, each has as many.
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    ran.cards.clear()
    runs = prepared(arms=["hard", "medium"], seeds=range(4))
    study.run_study("study", runs, 8, False)
    assert sorted(ran.cards.values()) == sorted([*"0123"] * 2)


def test_a_machine_with_one_gpu_or_none_names_none(prepared, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    ran = FakeNotebooks(monkeypatch)
    study.run_study("study", prepared(arms=["easy"], seeds=[0]), 2, False)
    assert [*ran.cards.values()] == [None]


def test_the_runs_of_a_study_that_is_killed_end_with_it():
    """Else the same command would start a second one in each folder."""
    run = "import time\nfrom kit.commands.options import stoppable\n"
    run += "with stoppable():\n    print('begun', flush=True)\n    time.sleep(60)"
    starts = "import subprocess, sys\nfrom kit.commands.options import DIES\n"
    starts += f"made = subprocess.Popen([sys.executable, '-c', {run!r}], env={{DIES: '1'}})\n"
    starts += "print(made.pid, flush=True)\nmade.wait()"
    parent = subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    assert parent.stdout.readline() == "begun\n"
    parent.kill()
    parent.wait()
    psutil.wait_procs([child], timeout=20)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_study_whose_first_run_fails_goes_on_and_says_so(prepared, monkeypatch):
    ran = FakeNotebooks(monkeypatch, fails={"0"})
    runs = prepared(arms=["easy"], seeds=[0, 1, 2])
    with pytest.raises(study.StudyError, match="1 of 3 runs failed"):
        study.run_study("study", runs, 2, False)
    assert len(ran.commands) == 3


def test_a_run_that_cannot_even_begin_is_one_failed_run(prepared, monkeypatch):
    ran = FakeNotebooks(monkeypatch)
    runs = prepared(arms=["easy"], seeds=[0, 1, 2])
    (runs[1] / "study.log").mkdir()
    with pytest.raises(study.StudyError, match="1 of 3 runs failed"):
        study.run_study("study", runs, 1, False)
    assert len(ran.commands) == 2


def test_a_policy_without_a_chat_template_is_refused(tmp_path, monkeypatch):
    from kit.serving import models
    from kit.serving.weights import ModelUnavailable

    class Bare:
        chat_template = None

    monkeypatch.setattr(models, "model_path", lambda name: tmp_path)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda path: Bare)
    with pytest.raises(ModelUnavailable, match="has no chat template"):
        grpo.tokenizer("base")


def finish(run, arm, gain=0.0, of="study"):
    """What notebooks 05 and 06 leave, made up."""
    bins = {f"synthetic/{p.id}": p for p in made() if p.split == "held_out"}
    names = [*bins, *(f"maths/{k}" for k in range(40))]
    rows = [
        {
            "set": i.split("/")[0],
            "problem_id": i,
            "group": "",
            "n": 4,
            "solved": (k + (c == "after") * round(4 * gain)) % 5,
            "malformed": 0,
            "errors": 0,
            "greedy": 1.0,
            "cut_off": 0,
            "tokens": 1,
            "samples": [],
            "checkpoint": c,
        }
        for c in ("before", "after")
        for k, i in enumerate(names)
    ]
    pd.DataFrame(rows).to_parquet(run / "evaluation.parquet")
    curve = {
        "step": [1, 2, 3, 4],
        "reward": 0.5,
        "entropy": 1.0,
        "frac_reward_zero_std": 0.2,
        "solved/hard": gain,
    }
    pd.DataFrame(curve).to_parquet(run / "train.parquet")
    manifest = {
        "profile": profile.load_profile(of).model_dump(),
        "versions": {"trl": "1.2"},
        "stages": {s: {"finished": "now", "seconds": 90} for s in study.STUDY_STAGES},
    }
    (run / "manifest.json").write_text(json.dumps(manifest))


def test_checkpoints_in_between_are_no_second_answer(prepared, tmp_path):
    (run,) = prepared(arms=["easy"], seeds=[0])
    finish(run, "easy")
    table = pd.read_parquet(run / "evaluation.parquet")
    between = table[table.checkpoint == "after"].assign(checkpoint="step 2", solved=0)
    pd.concat([table, between]).to_parquet(run / "evaluation.parquet")
    found = collect_study(tmp_path / "study")["scores"]
    assert set(found.checkpoint) == {"before", "after"} and len(found) == len(table)


def test_a_finished_study_is_collected_and_judged(prepared, tmp_path):
    runs = prepared(arms=["easy", "four", "one"], seeds=[0, 1, 2])
    for run in runs[:-1]:
        finish(run, run.parent.name)
    assert [study.done(r) for r in runs] == [True] * 8 + [False]
    found, label = read_study(
        open_run("07_findings", "cpu", str(tmp_path / "run")), tmp_path / "study"
    )
    assert (
        found["scores"].groupby("arm").seed.nunique().to_dict() == {"easy": 3, "four": 3, "one": 2}
        and not label
    )
    assert found["scores"].dropna(subset="bin")["bin"].unique().tolist() == ["easy"]
    board = findings.board(found | NO_ROUNDS)
    assert list(dict.fromkeys(board.claim))[2:] == [
        *(f"F{k}" for k in range(2, 11)),
        *("C1", "C2", "E1", "E2a", "E2b", "E3"),
    ]
    assert set(board.verdict) == {"not tested at this scale"}, "two seeds of one arm are too few"
    finish(runs[-1], "one")
    after = findings.board(collect_study(tmp_path / "study") | NO_ROUNDS).query(
        "claim == 'F9' and mode == 'sampled'"
    )
    assert after.why.tolist() == [
        "nothing differs between problems or seeds",
        "an arm has no answers",
    ]
    assert after.verdict.unique().tolist() == ["not tested at this scale"]


def write_pages(folder, text):
    """The pages into which `record` writes; README.md has the verdicts alone."""
    for name in pages.PAGES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "README.md").write_text("<!-- verdicts -->\nold\n<!-- /verdicts -->\n")


def test_a_recorded_study_brings_its_card_and_its_board(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(study_arms, "RECORDED", tmp_path)
    (tmp_path / "study-mini").symlink_to(RECORDED / "study-mini")
    write_pages(tmp_path, "above\n<!-- board -->\nold\n<!-- /board -->\nbelow\n")
    for run in prepared(arms=["four", "one"], seeds=[0, 1, 2], folder=tmp_path / "made"):
        finish(run, run.parent.name)
    record.record_study(tmp_path / "made")
    card, readme = ((tmp_path / name).read_text() for name in ("study/README.md", pages.PAGES[1]))
    assert "--arms four,one --seeds 0,1,2" in card
    assert "median of 6" in card
    assert "05 1.5, 06 1.5" in card
    assert readme.startswith("above")
    assert readme.endswith("below\n")
    assert "old" not in readme
    assert "| F9 |" in readme
    assert {p.stem for p in (tmp_path / "study").glob("*.parquet")} == set(EMPTY)
    with pytest.raises(RunError, match="no run"):
        record.record_study(tmp_path / "nothing")


def test_a_study_in_miniature_is_recorded_as_it_grows_beside_the_other(
    prepared, tmp_path, monkeypatch
):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(study_arms, "RECORDED", tmp_path / "recorded")
    of_language_models = tmp_path / "recorded" / "study"
    of_language_models.parent.mkdir()
    of_language_models.symlink_to(RECORDED / "study")
    write_pages(tmp_path, "<!-- board -->\nold\n<!-- /board -->\n")
    runs = prepared(arms=["silent-classic", "silent-uniform"], seeds=[0, 1, 2])
    answers = {"step": [1, 2, 11], "slot": 0, "problem_id": "a", "environment": "fuzzing"}
    answers |= {
        "bin": "hard",
        "reward": [1, 0, None],
        "malformed": False,
        "cut_off": [False, True, True],
    }
    for sitting in (runs[:3], runs[3:]):
        for run in sitting:
            finish(run, run.parent.name, of="mini")
            pd.DataFrame(answers).to_parquet(run / "rollouts.parquet")
        out = record.record_study(tmp_path / "study")
        assert out == tmp_path / "recorded" / "study-mini"
        trained = pd.read_parquet(out / "scores.parquet").groupby("arm").seed.nunique()
        assert trained.sum() == len(runs[: 3 if sitting == runs[:3] else 6])
    assert (
        "Finished trainings: silent-classic 3, silent-uniform 3" in (out / "README.md").read_text()
    )
    # Another machine has some of them no more: what is recorded stays.
    shutil.rmtree(runs[0])
    record.record_study(tmp_path / "study")
    assert pd.read_parquet(out / "scores.parquet").groupby("arm").seed.nunique().sum() == len(runs)
    counted = pd.read_parquet(out / "rollouts.parquet")
    one = counted[(counted.arm == "silent-uniform") & (counted.seed == 2)]
    assert one[["step", "n", "solved", "cut_off"]].values.tolist() == [[10, 2, 1, 1], [20, 0, 0, 1]]
    # The column beside the recorded study of language models, which stays as it is.
    readme = (tmp_path / pages.PAGES[1]).read_text()
    (line,) = (line for line in readme.splitlines() if line.startswith("| E2a |"))
    assert (
        line.count("no training of silent-classic") == 1
        and "an arm has no answers" in line.split(" | ")[-2]
    )
    assert "built into the teacher, not judged" in readme and "not run" not in readme
    # Notebook 07 of that profile reads it where it has no study of its own; another one does not.
    of_language_models.unlink()
    mini = open_run("07_findings", "mini", str(tmp_path / "run"))
    (tmp_path / "none").mkdir()
    found, label = read_study(mini, tmp_path / "none")
    assert (
        set(found["scores"].arm) == {"silent-classic", "silent-uniform"}
        and label == MINIATURE + LABEL
    )
    cpu = open_run("07_findings", "cpu", str(tmp_path / "cpu"))
    assert read_study(cpu, tmp_path / "none")[0]["scores"].empty
    assert read_study(cpu, tmp_path / "study")[1] == MINIATURE


def test_before_it_is_run_a_study_says_by_which_variances(prepared, tmp_path, monkeypatch):
    arms = ["silent-classic", "silent-uniform", "rare-classic", "rare-uniform", "smooth"]
    runs = prepared(profile="mini", arms=arms, seeds=range(5))
    told = study.what_it_finds("mini", tmp_path / "data", runs)
    assert "recorded study (in miniature))" in told
    lines = {line.split()[0]: line for line in told.splitlines() if line.startswith("  E")}
    assert "no training of gap: --arms" in lines["E1"]
    assert "evaluation.synthetic" in lines["E2b"] and "no training of four, one" in lines["E3"]
    monkeypatch.setattr(study_arms, "RECORDED", tmp_path)
    assert "no study is recorded" in study.what_it_finds("mini", tmp_path / "data", runs)


def test_a_study_without_runs_still_has_its_board(tmp_path, monkeypatch):
    monkeypatch.setattr(study_arms, "RECORDED", tmp_path)
    (tmp_path / "none").mkdir()
    found, label = read_study(
        open_run("07_findings", "cpu", str(tmp_path / "run")), tmp_path / "none"
    )
    assert not label
    board = findings.board(found | NO_ROUNDS)
    assert len(board) and set(board.verdict) == {"not tested at this scale"}
    assert (
        findings.by_difficulty(found["scores"]).empty
        and findings.changes_by_arm(found["scores"]).empty
    )


def test_the_shipped_arms_are_the_papers():
    known = load_arms()
    assert (
        yaml.safe_load((Path(study_arms.__file__).parent / "arms.yaml").read_text()).keys()
        == known.keys()
    )
    compared = {arm for claim in findings.CLAIMS for c in claim.comparisons for arm in c.arms}
    assert compared <= {*known}, "every comparison has its arms"


def test_loops_are_recorded_beside_the_studies_with_a_card_of_their_own(
    prepared, tmp_path, monkeypatch
):
    monkeypatch.setattr(record, "RECORDED", tmp_path / "recorded")
    judged = []
    monkeypatch.setattr(record, "rejudge", lambda: judged.append("the pages"))
    (tmp_path / "recorded").mkdir()
    for run in prepared(arms=["easy", "hard"], seeds=[0]):
        finish(run, run.parent.name)
        bill = {"segment": [1, 2], "made": [0, 5], "arm": run.parent.name, "seed": 0}
        pd.DataFrame(bill).to_parquet(run / "segments.parquet")
    out = record.record_study(tmp_path / "study")
    assert out == tmp_path / "recorded" / "loop-mini"
    card = (out / "README.md").read_text()
    assert "python -m kit loop " in card and "notebook 08 reads it" in card
    assert len(pd.read_parquet(out / "segments.parquet")) == 4 and judged == ["the pages"]
