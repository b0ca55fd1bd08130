"""The browsers and explorers, driven as a person would drive them.

By their controls, looking at what they show.
"""

import json
import time
from types import SimpleNamespace

import ipywidgets
import pandas as pd
import pytest
from IPython.display import HTML, Javascript

import kit
from kit import environments
from kit.core.manifest import note_stage
from kit.core.profile import load_profile
from kit.core.types import Problem, Sample, Verdict
from kit.display import browse, explore
from kit.display import compare as comparing
from kit.display.compare import _compared, _folder, compare
from kit.sandbox import SandboxUnavailable
from kit.schedules import PAPER_SCHEDULES, SCHEDULES

PARENT = Problem(
    environment="deduction",
    program="def f(x):\n    return x",
    inputs=["1"],
    outputs=["1"],
    chain_id="c",
    n=4,
    solved=4,
    dropped_by="too easy",
)
CHILD = PARENT.with_(
    program="def f(x):\n    return x * '<b>'",
    parent_id=PARENT.id,
    turn=2,
    asked="harder",
    solved=1,
    kept=True,
    dropped_by="",
    samples=[Sample(answer="<script>alert(1)</script>", outcome="failed", reason="wrong")] * 3,
)
OTHER = Problem(
    environment="induction",
    program="def f(x):\n    return -x",
    inputs=["1", "2"],
    outputs=["-1", "-2"],
    method="real",
)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, in a notebook that a person steps through."""
    seen = []
    monkeypatch.setenv("KIT_HEADLESS", "0")
    for module in (browse, explore):
        monkeypatch.setattr(
            module, "display", lambda x: None if isinstance(x, Javascript) else seen.append(x)
        )
    return seen


@pytest.fixture
def headless(monkeypatch, shown):
    """The same in a run of papermill: no widget may be made."""

    def refuse(*_, **__):
        raise AssertionError("a widget in a headless run")

    monkeypatch.setenv("KIT_HEADLESS", "1")
    monkeypatch.setattr(ipywidgets.Widget, "__init__", refuse)
    return shown


@pytest.fixture
def run(tmp_path):
    return kit.start("00_setup_and_tour", "cpu", str(tmp_path / "runs" / "here"))


def all_in(box):
    yield box
    for child in getattr(box, "children", ()):
        yield from all_in(child)


def control(box, description):
    """The control with these words beside it; every control has some."""
    (found,) = (w for w in all_in(box) if getattr(w, "description", "") == description)
    return found


def html_in(box):
    return "".join(w.value for w in all_in(box) if isinstance(w, ipywidgets.HTML))


def pictures(box):
    return [bytes(w.value) for w in all_in(box) if isinstance(w, ipywidgets.Image)]


def test_every_control_says_what_it_is(shown, run):
    browse.browse([CHILD, PARENT, OTHER])
    explore.playground({"deduction": PARENT}, ENVS, run, {})
    explore.design(pool(), run)
    compare(run, study(), {})
    controls = [
        w
        for box in shown
        for w in all_in(box)
        if isinstance(w, (ipywidgets.Button, ipywidgets.DOMWidget))
        and hasattr(w, "description")
        and not isinstance(w, (ipywidgets.HTML, ipywidgets.Label))
    ]
    assert len(controls) >= 20 and all(w.description for w in controls)
    assert not any(
        getattr(w, "continuous_update", False)
        for w in controls
        if isinstance(w, (ipywidgets.FloatSlider, ipywidgets.IntSlider))
    )


# ------------------------------------------------------------------ the browser


def test_a_card_escapes_what_a_model_wrote_and_shows_what_changed():
    shown = browse.card(CHILD, PARENT).data
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "<b>" not in shown
    assert "-     return x<" in shown and "+     return x * &#x27;&lt;b&gt;&#x27;<" in shown
    assert "1 of 4 attempts (0.25)" in shown and "kept" in shown and "✗ failed wrong × 3" in shown
    assert "changed" not in browse.card(CHILD).data


def test_a_long_attempt_is_folded_and_escaped():
    long = CHILD.with_(samples=[Sample(answer=f"{HOSTILE}\n" * 20, outcome="failed", reason="<i>")])
    shown = browse.attempts(long.samples)
    assert shown.startswith("<details><summary>✗ failed &lt;i&gt;</summary>")
    assert "<script" not in shown and "<img" not in shown


def test_the_chain_is_a_row_of_steps_with_this_one_marked():
    row = browse.chain_html(CHILD, [CHILD, OTHER, PARENT])
    first, second = row.split("→")
    assert "turn 1, new<br>p = 1.00<br>dropped: too easy" in first and "▶" not in first
    assert "▶ turn 2, harder<br>p = 0.25<br>kept" in second and "aria-current" in second
    assert browse.chain_html(OTHER, [CHILD, OTHER, PARENT]) == "", "no chain, no row"
    single = [PARENT.with_(method="single", turn=k) for k in (1, 2)]
    assert "→" not in browse.chain_html(single[0], [*single, CHILD]), (
        "independent draws have no arrow"
    )
    bad = PARENT.with_(status="invalid", reason=HOSTILE, dropped_by="")
    assert "<script" not in browse.chain_html(bad, [bad, CHILD])


def test_every_field_of_a_record_is_escaped_and_can_be_shown():
    odd = f"{HOSTILE}\ud83d"
    texts = ("environment", "message", "asked", "reason", "raw", "teacher", "student", "source")
    bad = CHILD.model_copy(update=dict.fromkeys(texts, odd) | {"turn": PARENT.turn + 1})
    for shown in (
        browse.card(bad, PARENT, [bad, PARENT]).data,
        browse.chain_html(bad, [bad, CHILD]),
    ):
        assert "<script" not in shown and "<img" not in shown
        shown.encode()


def test_browse_shows_the_first_problem_that_has_a_parent_when_headless(headless):
    browse.browse([PARENT, CHILD])
    assert len(headless) == 1 and "changed" in headless[0].data and "▶ turn 2" in headless[0].data


def test_browse_finds_relatives_that_are_not_among_the_chosen(headless):
    browse.browse([CHILD], [PARENT, CHILD])
    assert "changed" in headless[0].data


def test_browse_narrows_and_steps(shown):
    browse.browse([CHILD, PARENT, OTHER])
    (box,) = shown
    problem, following = control(box, "problem"), control(box, "next ▶")
    assert "▶ turn 2" in html_in(box) and [
        w.value for w in all_in(box) if isinstance(w, ipywidgets.Label)
    ] == ["1 of 3"]
    following.click()
    assert problem.value == 1 and "▶ turn 1" in html_in(box)
    control(box, "environment").value = "induction"
    assert [value for _, value in problem.options] == [2] and "return -x" in html_in(box)
    following.click()
    assert problem.value == 2, "round and round"
    control(box, "state").value = "kept"
    assert not problem.options and "no problem is like that" in html_in(box)
    following.click()
    control(box, "environment").value = "all"
    assert [value for _, value in problem.options] == [0] and "▶ turn 2" in html_in(box)
    control(box, "state").value = "all"
    control(box, "◀ previous").click()
    assert problem.value == 2 and "<script" not in html_in(box)


def test_a_filter_with_one_value_is_not_offered(shown):
    browse.browse([PARENT])
    assert {w.description for w in all_in(shown[0]) if isinstance(w, ipywidgets.Dropdown)} == {
        "problem"
    }


def test_nothing_to_browse_is_said(capsys):
    browse.browse([])
    assert "nothing to look at" in capsys.readouterr().out


@pytest.mark.parametrize("headless", ["1", "0"])
def test_answers_are_shown_beside_their_question(headless, monkeypatch, capsys):
    monkeypatch.setenv("KIT_HEADLESS", headless)
    pages = []
    monkeypatch.setattr(browse, "display", pages.append)
    sample = {
        "mode": "sampled",
        "answer": "<answer>7</answer>",
        "outcome": "failed",
        "reason": "wrong",
    }
    scores = pd.DataFrame(
        [{"checkpoint": c, "problem_id": "p", "samples": [sample]} for c in ("before", "after")]
    )
    browse.answers(scores, ["p"], {"p": "is 7 < 8?"})
    (page,) = [page.data for page in pages if isinstance(page, HTML)]
    assert page.count("&lt;answer&gt;7&lt;/answer&gt;") == 2 and "is 7 &lt; 8?" in page
    assert "<h4>before</h4>" in page and "✗ failed wrong, sampled: " in page
    browse.answers(scores, ["p"], {})
    assert any(
        "does not have the question" in page.data for page in pages if isinstance(page, HTML)
    )
    browse.answers(scores, [], {})
    assert "nothing to look at" in capsys.readouterr().out


# ------------------------------------------------------------------ the playground

ENVS = environments.make(load_profile("cpu").rounds)
MADE = {
    "deduction": PARENT.with_(
        program="def f(n):\n    return n * n % 10", inputs=["2"], outputs=["4"]
    ),
    "induction": Problem(
        environment="induction",
        program="def f(n):\n    return n * n % 10",
        inputs=["2", "4", "6", "11", "13"],
        outputs=["4", "6", "6", "1", "9"],
    ),
}
RIGHT = {
    "deduction": "<answer>4</answer>",
    "induction": "```python\ndef f(n):\n    return n * n % 10\n```",
}


def test_an_answer_is_graded_by_the_real_sandbox(shown, run):
    explore.playground(MADE, ENVS, run, RIGHT)
    (box,) = shown
    answer, grade = control(box, "answer"), control(box, "grade")
    assert "what the student reads" in html_in(box) and "n * n % 10" in html_in(box)
    answer.value = RIGHT["deduction"]
    grade.click()
    assert "passed" in html_in(box) and "1.0" in html_in(box) and "our error" not in html_in(box)
    answer.value = f"<answer>5</answer>{HOSTILE}"
    grade.click()
    text = html_in(box)
    assert "failed" in text and "wrong" in text
    assert "<script" not in text and "<img" not in text
    control(box, "problem").value = "induction"
    assert "nothing graded yet" in html_in(box)
    answer.value = "```python\ndef f(n):\n    while True: pass\n```"
    grade.click()
    assert "times out" in html_in(box) and "0.0" in html_in(box)
    assert all(b._closed for b in run.boxes) and len(run.boxes) == 3, "a box for each press, closed"


def test_a_failure_of_ours_is_never_a_wrong_answer(shown, run, monkeypatch):
    explore.playground(MADE, ENVS, run, RIGHT)
    (box,) = shown

    def no_box(**_):
        raise SandboxUnavailable("no walls here")

    monkeypatch.setattr(run, "box", no_box)
    control(box, "answer").value = RIGHT["deduction"]
    control(box, "grade").click()
    text = html_in(box)
    assert "our error, no reward" in text and "no walls here" in text and "None" in text
    assert "failed" not in text


def test_a_box_that_gives_no_verdict_is_our_error_too(run, monkeypatch):
    monkeypatch.setattr(ENVS["induction"], "grade", lambda *_: [Verdict("error", "worker lost")])
    row = explore._graded(ENVS["induction"], MADE["induction"], "x", run)
    assert (
        row["verdict"] == "our error, no reward"
        and row["reward"] == "None"
        and run.boxes[0]._closed
    )


def test_the_playground_grades_a_right_and_a_wrong_answer_when_headless(headless, run):
    explore.playground(MADE, ENVS, run, RIGHT)
    rows = headless[0].data
    assert (
        list(rows.problem) == ["deduction", "deduction", "induction", "induction"]
        and list(rows.verdict) == ["passed", "failed"] * 2
    )


# ------------------------------------------------------------------ the designer


def pool():
    solved = {"easy": 7, "easy-medium": 6, "medium": 4, "hard": 1}
    return [
        Problem(
            environment=e,
            program=f"def f():\n    return {b!r}, {k}",
            message=HOSTILE,
            n=8,
            solved=solved[b],
            kept=True,
        )
        for b in solved
        for e in ("deduction", "abduction")
        for k in range(3 if b == "hard" else 10)
    ]


@pytest.fixture(autouse=True)
def own_schedule_forgotten():
    yield
    SCHEDULES.pop("mine", None)


def test_a_schedule_is_turned_and_its_plan_is_seen_at_once(shown, run):
    explore.design(pool(), run)
    (box,) = shown
    before = pictures(box)
    assert (
        before[0].startswith(b"\x89PNG")
        and "This is the paper&#x27;s" in html_in(box)
        and "<script" not in html_in(box)
    )
    hard, easy = (
        [w for w in all_in(box) if getattr(w, "description", "") == name]
        for name in ("hard", "easy")
    )
    hard[0].value = 1
    easy[0].value = 0
    [w for w in all_in(box) if getattr(w, "description", "") == "medium"][0].value = 0
    assert SCHEDULES["mine"] == [(0, {"easy": 0, "medium": 0, "hard": 1})]
    assert "6 different problems of 66 in 40 prompts" in html_in(box) and pictures(box) != before
    assert "curriculum: {schedule: &#x27;[[0.0, " in html_in(box) and "base: cpu" in html_in(box)


@pytest.mark.parametrize("name", PAPER_SCHEDULES)
def test_each_schedule_of_the_paper_arrives_in_the_sliders_unchanged(name, shown, run):
    explore.design(pool(), run)
    control(shown[0], "begin with").value = name
    assert SCHEDULES["mine"] == SCHEDULES[name]
    assert f"-p SCHEDULE={name}" in html_in(shown[0])


def test_a_slider_that_moves_stays_where_it_is(shown, run):
    """Drawn anew it would lose the focus, and the next arrow key would go to the notebook."""
    explore.design(pool(), run)
    (box,) = shown
    rows = [w for w in all_in(box) if isinstance(w, ipywidgets.VBox)][1].children
    control(box, "hard").value = 1
    assert [w for w in all_in(box) if isinstance(w, ipywidgets.VBox)][1].children is rows
    control(box, "phases").value = 2
    assert [w for w in all_in(box) if isinstance(w, ipywidgets.VBox)][1].children[0] is rows[0]


def test_what_is_no_schedule_is_explained(shown, run):
    explore.design(pool(), run)
    (box,) = shown
    for name in ("easy", "medium", "hard"):
        [w for w in all_in(box) if getattr(w, "description", "") == name][0].value = 0
    assert "No plan: phase 1 has the weights" in html_in(box)
    control(box, "phases").value = 2
    [w for w in all_in(box) if getattr(w, "description", "") == "hard"][0].value = 0.5
    assert "different problems" in html_in(box)
    control(box, "2. starts at").value = 0
    assert "No plan: the phases start at 0, 0" in html_in(box)
    assert [w.layout.display for w in all_in(box) if isinstance(w, ipywidgets.Image)] == ["none"], (
        "no stale picture"
    )


def test_the_printed_line_is_the_schedule(shown, run):
    explore.design(pool(), run)
    (box,) = shown
    [w for w in all_in(box) if getattr(w, "description", "") == "hard"][0].value = 0.9
    line = html_in(box).partition("mine: {schedule: ")[2].partition("}\n")[0]
    ((start, weights),) = json.loads(line.replace("&quot;", '"'))
    assert (
        start == 0
        and sum(weights.values()) == pytest.approx(1)
        and weights == pytest.approx(SCHEDULES["mine"][0][1])
    )


def test_the_profiles_own_schedule_is_drawn_when_headless(headless, run):
    explore.design(pool(), run)
    figure, facts = headless
    assert (
        "curriculum: uniform" in figure.get_suptitle() and "different problems of 66" in facts.data
    )
    assert "mine" not in SCHEDULES


def test_a_long_training_is_planned_shorter_and_says_so(headless, tmp_path):
    began = time.process_time()
    explore.design(pool(), kit.start("04_difficulty", "paper", str(tmp_path / "paper")))
    assert (
        "Drawn for 400 steps instead of 40,000" in headless[1].data
        and time.process_time() - began < 20
    )


def test_a_plan_that_cannot_be_made_is_said(shown, run):
    explore.design([], run)
    assert "No plan: none of 0 problems is synthetic" in html_in(shown[0])


# ------------------------------------------------------------------ the comparer


def curves(seed, level=0.5):
    return pd.DataFrame(
        {
            "seed": seed,
            "step": range(1, 11),
            "reward": level,
            "entropy": 0.3,
            "frac_reward_zero_std": [level] * 5 + [1.0] * 5,
        }
    )


def scores(solved):
    return pd.DataFrame(
        [
            {"checkpoint": c, "set": "maths", "problem_id": p, "n": 4, "solved": k, "seed": 0}
            for c, k in (("before", 1), ("after", solved))
            for p in ("a", "b")
        ]
    )


def study():
    return {
        "curves": pd.concat(
            [
                curves(s, level).assign(arm=arm)
                for arm, level in (("easy", 0.25), ("hard", 0.75))
                for s in (0, 1)
            ]
        ),
        "scores": pd.concat([scores(k).assign(arm=arm) for arm, k in (("easy", 2), ("hard", 3))]),
        "drawn": pd.DataFrame(),
    }


def folder(run, name, rate, rewards=0.5):
    made = kit.start("05_grpo", "cpu", str(run.folder.parent / name), grpo__learning_rate=rate)
    made.save_table(curves(0, rewards).drop(columns="seed"), "train")
    made.save_table(scores(2).drop(columns="seed"), "evaluation")


def test_arms_are_compared_with_what_they_differ_in(shown, run):
    compare(run, study(), {"easy": {"schedule": "easy"}, "hard": {"schedule": "hard"}})
    (box,) = shown
    control(box, "B").value = "arm hard"
    text = html_in(box)
    assert "arm.schedule" in text and "grpo." not in text
    assert "0.25 → 0.50 (n = 2)" in text and "0.25 → 0.75 (n = 2)" in text and "0.75 → 1.00" in text
    before = pictures(box)
    control(box, "curve").value = "share of dead groups"
    assert pictures(box) != before and before[0].startswith(b"\x89PNG")
    control(box, "C").value = "arm easy, seed 1"
    assert "arm easy, seed 1" in html_in(box)
    control(box, "D").value = "recorded run"
    assert "arm.schedule" in html_in(box) and "The runs" not in html_in(box), (
        "an arm and a run have no values in common"
    )


def test_run_folders_are_compared_by_their_profiles(shown, run):
    folder(run, "one", None)
    folder(run, "two<b>", 1e-4)
    compare(
        run, {"curves": pd.DataFrame(columns=["arm", "seed", "step"]), "scores": pd.DataFrame()}, {}
    )
    (box,) = shown
    control(box, "A").value = "run one"
    control(box, "B").value = "run two<b>"
    text = html_in(box)
    assert "grpo.learning_rate" in text and "0.0001" in text and "1e-05" in text
    assert "grpo.steps" not in text
    assert "<b>" not in text
    assert "0.25 → 0.50 (n = 2)" in text
    control(box, "B").value = "recorded run"
    text = html_in(box)
    assert "recorded run: no manifest" in text
    assert "differ in these" not in text and "arm" not in text


def test_a_training_on_a_recorded_plan_says_so(run):
    folder(run, "own", None)
    folder(run, "theirs", None)
    note_stage(run.folder.parent / "theirs", "04_difficulty", recorded=["filtered.parquet"])
    own, theirs = (
        _compared({name: _folder(run.folder.parent / name)}, "reward")[0].get_suptitle()
        for name in ("own", "theirs")
    )
    assert "(recorded data)" in theirs and "recorded" not in own


def test_a_damaged_folder_is_said_and_the_others_go_on(shown, run):
    folder(run, "broken", None)
    (run.folder.parent / "broken" / "train.parquet").write_bytes(b"half a file")
    compare(run, study(), {})
    (box,) = shown
    control(box, "A").value = "run broken"
    assert "cannot be read" in html_in(box)
    control(box, "A").value = "arm easy"
    assert "cannot be read" not in html_in(box)


def test_the_first_two_arms_are_compared_when_headless(headless, run):
    compare(run, study(), {})
    figure, tables = headless
    assert (
        "share of dead groups" in figure.get_suptitle()
        and "arm easy" in tables.data
        and "arm hard" in tables.data
    )


def test_without_a_study_the_recorded_run_is_shown_when_headless(headless, run):
    compare(
        run, {"curves": pd.DataFrame(columns=["arm", "seed", "step"]), "scores": pd.DataFrame()}, {}
    )
    assert "recorded run" in headless[1].data


def test_nothing_to_compare_is_said(run, monkeypatch, capsys, shown):
    monkeypatch.setattr(comparing, "RECORDED", run.folder)
    monkeypatch.setattr(comparing, "ROOT", run.folder)
    compare(
        SimpleNamespace(folder=run.folder / "x"),
        {"curves": pd.DataFrame(columns=["arm", "seed", "step"]), "scores": pd.DataFrame()},
        {},
    )
    assert "nothing to compare" in capsys.readouterr().out and not shown


@pytest.mark.parametrize("headless", ["1", "0"])
def test_texts_are_read_one_after_the_other(headless, monkeypatch, capsys):
    monkeypatch.setenv("KIT_HEADLESS", headless)
    browse.read_texts(["first", "last"])
    assert ("last" in capsys.readouterr().out) == (headless == "1"), "a slider begins at the first"


# ------------------------------------------------------------------ what the policy wrote


def rollouts_of(*groups):
    """A frame of rollouts; each group: step, problem, answers (right where they are "yes")."""
    return pd.DataFrame(
        [
            {"step": step, "slot": 0, "problem_id": problem, "environment": "deduction"}
            | {"bin": "easy", "answer": answer, "reason": "" if answer == "yes" else "wrong"}
            | {
                "outcome": "passed" if answer == "yes" else "failed",
                "reward": float(answer == "yes"),
            }
            for step, problem, answers in groups
            for answer in answers
        ]
    )


def test_an_early_and_a_late_group_of_one_problem_are_shown_and_escaped(headless):
    asked = {name: f"question {name} {HOSTILE}" for name in "abc"}
    groups = [(1, "a", ["early a"]), (2, "b", ["yes", HOSTILE]), (3, "a", ["a"])]
    groups += [(5, "b", ["middle"]), (9, "b", ["yes", "yes"]), (10, "c", ["last"])]
    browse.show_rollouts(rollouts_of(*groups), asked)
    page = headless[0].data
    assert page.index("step 2: deduction, easy, 1 right") < page.index("step 9: deduction, easy, 2")
    assert "yes" in page and "× 2" in page and "middle" not in page and "early a" not in page
    assert "<script" not in page and "<img" not in page and "&lt;script" in page
    # No problem was drawn twice: the ends of the training.
    browse.show_rollouts(rollouts_of(groups[0], groups[1], groups[-1]), asked)
    page = headless[1].data
    assert "early a" in page and "last" in page and "question b" not in page
    browse.show_rollouts(rollouts_of(groups[0]), asked)
    assert headless[2].data.count("early a") == 1


def test_a_training_without_answers_says_so(headless, capsys):
    browse.show_rollouts(pd.DataFrame(), {})
    assert headless == [] and "no answers were kept" in capsys.readouterr().out


def test_a_person_chooses_the_problem(shown):
    rollouts = rollouts_of((1, "a", ["one"]), (4, "a", ["four"]), (2, "b", ["two"]))
    browse.show_rollouts(rollouts, dict(a="?", b="?"))
    chosen = shown[-1].children[0]
    assert chosen.options == ("first and last", "a") and chosen.value == "a"
