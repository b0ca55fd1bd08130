"""The sentences with which the report of a run opens."""

import re

import pandas as pd
import pytest

from kit.commands import cli, report, story
from kit.core.manifest import RECORDED, read_manifest
from kit.core.stats import mean_interval
from tests.test_report import HOSTILE, read, stage, write


def problem(method, turn, status, seed, kept, **more):
    row = {"method": method, "turn": turn, "status": status, "seed_id": seed, "kept": kept}
    return row | {"id": f"{method}-{seed}-{turn}"} | more


FILTERED = [
    *(problem("multi", turn, "valid", "a", turn == 1) for turn in (1, 2, 3)),
    problem("multi", 1, "invalid", "b", False),
    problem("multi", 2, "error", "b", False),
    # The chain's own first turn, an independent draw, and real data.
    problem("single", 1, "valid", "a", True),
    problem("single", 2, "valid", "a", True),
    problem("real", 1, "valid", "c", True),
]
YIELDS = {"environment": ["fuzzing", "all"], "ratio": [9.0, 1.5], "low": [8.0, 0.9]}
YIELDS |= {"high": [10.0, 2.5], "seeds": [1, 2], "multi_share": [0.9, 0.6]}
YIELDS |= {"single_share": [0.1, 0.4]}


def difference(*rows):
    columns = "set group mode n snippets value low high".split()
    return pd.DataFrame(rows, columns=columns)


HELD_OUT = ("synthetic", "all", "sampled", 30, 11, 0.2, 0.1, 0.3)
OTHERS = [
    ("maths", "all", "sampled", 9, 9, 0.9, 0.8, 1.0),
    ("synthetic", "fuzzing", "sampled", 9, 9, 0.9, 0.8, 1.0),
    ("synthetic", "all", "greedy", 9, 9, 0.9, 0.8, 1.0),
]
# Two problems of one snippet.
FIRST, SECOND = "multi-a-1", "single-a-2"


def answers(*steps):
    """Rollouts: a group of two per step, (problem, rewards, malformed of two)."""
    rows = [
        {"step": step, "slot": 0, "problem_id": name, "environment": "fuzzing", "bin": "easy"}
        | {"reward": reward, "malformed": k < malformed, "cut_off": False}
        for step, (name, rewards, malformed) in enumerate(steps, 1)
        for k, reward in enumerate(rewards)
    ]
    return pd.DataFrame(rows).astype({"reward": float})


def board(**verdicts):
    rows = [
        {"claim": claim, "mode": mode, "verdict": verdict}
        for claim, verdict in verdicts.items()
        for mode in ("sampled", "greedy")
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def run(tmp_path):
    """A folder of a run that has all tables, and the sentences of it as it is then."""
    folder = write(tmp_path / "run", **{"03_filters": stage(), "07_findings": stage()})
    tables = {
        "filtered": pd.DataFrame(FILTERED),
        "yields": pd.DataFrame(YIELDS),
        "train": pd.DataFrame({"step": [1, 2, 3, 4], "frac_reward_zero_std": [1.0, 0.0, 1.0, 1.0]}),
        "rollouts": answers(
            (FIRST, (0, 0), 2), (SECOND, (0, 1), 0), (FIRST, (1, 1), 1), (SECOND, (1, None), 0)
        ),
        "difference": difference(HELD_OUT, *OTHERS),
        "form": pd.DataFrame({"set": ["synthetic"], "by_form": [0.15], "by_skill": [0.05]}),
        "board": board(F1a="supported", F1b="undecided", F2="undecided", F6="contradicted"),
    }
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")
    return folder


def told(folder):
    return story.tell_story(folder, read_manifest(folder))


def test_the_three_sentences_have_their_numbers(run):
    teacher, training, limits = told(run).values()
    low, high = mean_interval([1, 1, 1, 1, 0], clusters=list("aaaab"))[1:]
    share = f"80%, 95% [{low:.0%}, {high:.0%}]"
    assert teacher.startswith(f"It wrote 5 problems from 2 snippets; 4 were valid ({share})")
    assert "the filters kept 2 of them. At equal cost, 60% of the multi-turn and 40% of the " in (
        teacher
    )
    assert teacher.endswith("ratio 1.50, 95% [0.90, 2.50], n = 2 snippets.")
    assert training.startswith("4 steps of GRPO, 75% of the groups without a signal; ")
    low, high = mean_interval([1, 0.5], bounds=(-1, 1), clusters=list("aa"))[1:]
    interval = f"95% [{low:+.2f}, {high:+.2f}], which may be chance"
    assert (
        f"on the 2 problems drawn in both halves the pass rate moved by +0.75, {interval}"
        in training
    )
    # The answer that was lost is neither well-formed nor malformed.
    assert "malformed answers: 50% → 33% of n = 7" in training
    held_out = "on 30 held-out problems (of 11 snippets) the share solved rose by 0.20"
    assert f"{held_out}, 95% [0.10, 0.30] (+0.15 by form, +0.05 by skill)." in training
    assert "0.90" not in training, "of other sets the table tells"
    # A standard error of 0.2 / 3.92, and 10 degrees of freedom: (2.23 + 0.88) of them or so.
    assert re.match(r"80% of such runs would find a true change of 0.1[56] on 30 held-out", limits)
    assert "one training with one seed" in limits
    assert limits.endswith("2 of 4 claims are undecided (F1b, F2).")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.3, "rose by 0.10"), (-0.3, -0.01, "fell by"), (0.0, 0.2, "may be chance")],
)
def test_a_change_has_a_direction_only_without_zero_in_its_interval(run, low, high, said):
    row = (*HELD_OUT[:5], 0.1 if high > 0 else -0.1, low, high)
    difference(row).to_parquet(run / "difference.parquet")
    assert said in told(run)["The training"]


def test_a_change_on_very_few_snippets_has_no_interval(run):
    difference((*HELD_OUT[:4], 3, 0.38, 0.12, 0.62)).to_parquet(run / "difference.parquet")
    training = told(run)["The training"]
    assert "(of 3 snippets) the share solved moved by +0.38, too few for an interval" in training


@pytest.mark.parametrize(
    ("name", "title"), [("filtered", "The teacher"), ("train", "The training")]
)
@pytest.mark.parametrize("damaged", [b"", b"not parquet", None])
def test_a_sentence_without_its_table_says_so(run, name, title, damaged):
    before = told(run)
    path = run / f"{name}.parquet"
    path.write_bytes(damaged or b"")
    if damaged is None:
        path.unlink()
    after = told(run)
    assert after[title] == f"Nothing is told here: this run has no {name}.parquet yet."
    others = before.keys() - {title, "What cannot be said", "The training"}
    assert all(after[other] == before[other] for other in others)
    assert after[title] in read(run).said, "and the page is whole"


def test_what_is_less_than_a_table_is_left_out(run):
    for name in ("yields", "rollouts", "difference", "form", "board"):
        (run / f"{name}.parquet").unlink()
    teacher, training, limits = told(run).values()
    assert teacher.endswith("kept 2 of them.")
    assert training == (
        "4 steps of GRPO, 75% of the groups without a signal; nothing was evaluated before and "
        "after it."
    )
    assert limits.endswith("no claim is judged yet: this run has no board.parquet.")


def test_tables_of_an_older_kit_are_no_tables(run):
    pd.DataFrame({"set": ["synthetic"], "value": [0.5]}).to_parquet(run / "difference.parquet")
    pd.DataFrame({"claim": ["F1"]}).to_parquet(run / "board.parquet")
    assert "nothing was evaluated" in told(run)["The training"]
    assert "no claim is judged yet" in told(run)["What cannot be said"]


def test_recorded_data_behind_a_sentence_are_said(run):
    write(run, **{"03_filters": stage(), "07_findings": stage(recorded=["study"])})
    teacher, training, limits = told(run).values()
    assert "recorded" not in teacher + training
    assert limits.endswith("those after F2 are judged by recorded trainings, not by this run's.")
    write(run, **{"04_difficulty": stage(recorded=["filtered.parquet"])})
    teacher, training, _ = told(run).values()
    assert "recorded" not in teacher and training.endswith("(recorded data).")
    write(run, **{"03_filters": stage(recorded=["problems.parquet"])})
    assert told(run)["The teacher"].endswith("(recorded data).")


def test_nothing_has_happened(tmp_path):
    assert told(write(tmp_path / "run")) == {}


def test_the_page_opens_with_them_and_hostile_names_are_text(run):
    board(**{HOSTILE: "undecided"}).to_parquet(run / "board.parquet")
    page = read(run)
    text = " ".join(" ".join(page.text).split())
    assert text.index("It wrote 5 problems") < text.index("Notebooks")
    assert f"1 of 1 claims are undecided ({HOSTILE})" in text


@pytest.mark.skipif(
    not (RECORDED / "filtered.parquet").exists(), reason="no data/recorded in this checkout"
)
def test_the_recorded_run_has_a_story():
    manifest = {"stages": {"01_seeds": {}}}
    teacher, training, _ = story.tell_story(RECORDED, manifest).values()
    both = pd.read_parquet(RECORDED / "yields.parquet").set_index("environment").loc["all"]
    assert f"ratio {both.ratio:.2f}" in teacher
    moved = pd.read_parquet(RECORDED / "difference.parquet").query("set == 'synthetic'").iloc[0]
    assert f"on {moved.n} held-out problems" in training and f"{moved.value:+.2f}" in training


def test_a_command_writes_the_page_anew(run, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["kit", "report", str(run)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0 and "report.html" in capsys.readouterr().out
    assert "It wrote 5 problems" in (run / "report.html").read_text()


def test_a_command_for_no_run_folder_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["kit", "report", str(tmp_path)])
    with pytest.raises(SystemExit, match="is no run folder"):
        cli.main()
    assert not (tmp_path / "report.html").exists()


def test_on_a_phone_the_notebooks_are_no_table(run):
    """390 pixels: each row is a block, its cells say what they are, and nothing is wide."""
    page = (run / report.write_report(run).name).read_text()
    narrow = re.search(r"@media \(max-width: 46rem\) \{(.*?)\n\}", page, re.S)[1]
    assert re.search(r"\.stages tr \{ display: block;", narrow)
    assert re.search(r"\.stages \.counts \{ display: block; min-width: 0;", narrow)
    table = re.search(r'<table class="stages">.*?</table>', page, re.S)[0]
    assert (
        re.findall(r'<td class="number"([^>]*)>', table)
        == [' data-label="minutes"', ' data-label="peak, GB"'] * 2
    )
