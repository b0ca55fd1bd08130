"""The browsers and explorers, driven as a person would drive them.

By their controls, looking at what they show.
"""

import json
import re
import time

import ipywidgets
import pandas as pd
import pytest
from IPython.display import HTML, Javascript
from matplotlib.figure import Figure

import kit
from kit import environments
from kit.core.profile import load_profile
from kit.core.types import Problem, Sample, Verdict
from kit.display import browse, explore
from kit.display.compare import CURVES, compare
from kit.sandbox import SandboxUnavailable
from kit.schedules import HORIZON, PAPER_SCHEDULES, SCHEDULES

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
    compare(study(), {})
    controls = [
        w
        for box in shown
        for w in all_in(box)
        if isinstance(w, (ipywidgets.Button, ipywidgets.DOMWidget))
        and hasattr(w, "description")
        and not isinstance(w, (ipywidgets.HTML, ipywidgets.Label))
    ]
    assert len(controls) >= 18 and all(w.description for w in controls)
    assert not any(
        getattr(w, "continuous_update", False)
        for w in controls
        if isinstance(w, (ipywidgets.FloatSlider, ipywidgets.IntSlider))
    )


# ------------------------------------------------------------------ the browser


def test_a_card_escapes_what_a_model_wrote_and_shows_what_changed():
    shown = browse.card(CHILD, [PARENT, CHILD]).data
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "<b>" not in shown
    assert "-     return x<" in shown and "+     return x * &#x27;&lt;b&gt;&#x27;<" in shown
    assert "1 of 4 attempts (0.25)" in shown and "kept" in shown and "✗ failed wrong × 3" in shown
    for unknown in ([], [CHILD, OTHER], [CHILD, PARENT.with_(chain_id="another")]):
        assert "changed" not in browse.card(CHILD, unknown).data


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
    for shown in (browse.card(bad, [bad, PARENT]).data, browse.chain_html(bad, [bad, CHILD])):
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
    problem = control(box, "problem")
    assert "▶ turn 2" in html_in(box)
    assert (
        problem.options[0] == ("0: deduction turn 2 harder 1/4 ", 0) and len(problem.options) == 3
    )
    problem.index = 1
    assert problem.value == 1 and "▶ turn 1" in html_in(box)
    control(box, "environment").value = "induction"
    assert [value for _, value in problem.options] == [2] and "return -x" in html_in(box)
    control(box, "state").value = "kept"
    assert not problem.options and "no problem is like that" in html_in(box)
    control(box, "environment").value = "all"
    assert [value for _, value in problem.options] == [0] and "▶ turn 2" in html_in(box)
    control(box, "state").value = "all"
    problem.index = 2
    assert problem.value == 2 and "return -x" in html_in(box) and "<script" not in html_in(box)


def test_a_filter_with_one_value_is_not_offered(shown):
    browse.browse([PARENT])
    assert not [w for w in all_in(shown[0]) if isinstance(w, ipywidgets.Dropdown)]
    assert control(shown[0], "problem").value == 0


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


def slider_rows(box):
    """The sliders of the phases in use, a row each."""
    return [w for w in all_in(box) if isinstance(w, ipywidgets.VBox)][1].children


def slid(box):
    """What the sliders say: of each phase its start and the weights, as SCHEDULES has them."""
    rows = [row.children for row in slider_rows(box)]
    return [
        (start.value * HORIZON, {b.description: b.value for b in bins}) for start, *bins in rows
    ]


def written(box):
    """The schedule in the line of arms.yaml that is printed."""
    line = html_in(box).partition("mine: {schedule: ")[2].partition("}\n")[0]
    return json.loads(line.replace("&quot;", '"'))


def test_a_schedule_is_turned_and_its_plan_is_seen_at_once(shown, run):
    known = str(SCHEDULES)
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
    assert written(box) == [[0, {"easy": 0, "medium": 0, "hard": 1}]] and str(SCHEDULES) == known
    assert "6 different problems of 66 in 40 prompts" in html_in(box) and pictures(box) != before
    assert "curriculum: {schedule: &#x27;[[0.0, " in html_in(box) and "base: cpu" in html_in(box)


@pytest.mark.parametrize("name", PAPER_SCHEDULES)
def test_each_schedule_of_the_paper_arrives_in_the_sliders_unchanged(name, shown, run):
    explore.design(pool(), run)
    control(shown[0], "begin with").value = name
    assert [start for start, _ in slid(shown[0])] == [start for start, _ in SCHEDULES[name]]
    assert [weights for _, weights in slid(shown[0])] == [weights for _, weights in SCHEDULES[name]]
    assert f"-p SCHEDULE={name}" in html_in(shown[0])


def test_a_slider_that_moves_stays_where_it_is(shown, run):
    """Drawn anew it would lose the focus, and the next arrow key would go to the notebook."""
    explore.design(pool(), run)
    (box,) = shown
    rows = slider_rows(box)
    control(box, "hard").value = 1
    assert slider_rows(box) is rows
    control(box, "phases").value = 2
    assert slider_rows(box)[0] is rows[0]


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
    ((start, weights),) = written(box)
    ((_, moved),) = slid(box)
    total = sum(moved.values())
    assert start == 0 and sum(weights.values()) == pytest.approx(1) and moved["hard"] == 0.9
    assert weights == pytest.approx({name: weight / total for name, weight in moved.items()})


def test_the_profiles_own_schedule_is_drawn_when_headless(headless, run):
    explore.design(pool(), run)
    figure, facts = headless
    assert (
        "curriculum: uniform" in figure.get_suptitle() and "different problems of 66" in facts.data
    )


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


def cells(page):
    """The tables of a page as lists of rows of texts, headings too."""
    return [
        [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in table.split("<tr>")[1:]]
        for table in re.findall(r"<table.*?</table>", page.data, re.S)
    ]


def test_arms_are_compared_with_what_they_differ_in(shown):
    arms = {"easy": {"schedule": "easy"}, "hard": {"schedule": "hard", "bins": HOSTILE}}
    compare(study(), arms, " (recorded data)")
    figure, tables, box = shown
    said = figure.get_suptitle()
    assert "share of dead groups" in said and said.endswith(" (recorded data)")
    rates, differing = cells(tables)
    assert rates == [
        ["set", "checkpoint", "easy", "hard"],
        ["maths", "before", "0.250", "0.250"],
        ["maths", "after", "0.500", "0.750"],
    ]
    assert differing[1:] == [["schedule", "easy", "hard"], ["bins", "–", differing[2][2]]]
    assert "<script" not in tables.data and "<img" not in tables.data
    # Another curve, and a seed of an arm beside the two.
    control(box, "curve").value = "reward"
    assert "reward" in shown[-2].get_suptitle() and "0.25" in shown[-2].get_suptitle()
    control(box, "C").value = "easy, seed 1"
    assert cells(shown[-1])[1][0][1:] == ["easy", "hard", "easy, seed 1"]


@pytest.mark.parametrize("curve", CURVES)
def test_a_curve_that_was_not_logged_and_arms_without_answers_can_be_shown(shown, curve):
    compare(study() | {"scores": study()["scores"][:0]}, {})
    box = shown[-1]
    control(box, "curve").value = curve
    (*_, figure) = (x for x in shown if isinstance(x, Figure))
    assert curve in figure.get_suptitle().replace("\n", " ")
    for letter in "AB":
        control(box, letter).value = "–"
    (heading,) = cells(shown[-1])[1]
    assert len(heading) == 1, "no arm is chosen"


def test_the_first_two_arms_are_compared_when_headless(headless):
    three = pd.concat([study()["curves"], curves(0).assign(arm="third")])
    compare(study() | {"curves": three}, {})
    figure, tables = headless
    assert "share of dead groups" in figure.get_suptitle()
    assert "easy" in tables.data and "hard" in tables.data and "third" not in tables.data


def test_nothing_to_compare_is_said(capsys, shown):
    none = {"curves": pd.DataFrame(columns=["arm", "seed", "step"]), "scores": pd.DataFrame()}
    compare(none, {})
    assert "nothing to compare" in capsys.readouterr().out and not shown


def test_texts_are_read_one_after_the_other(shown, monkeypatch):
    texts = ["one\n<b>first</b>", "two\nlast"]
    browse.read_texts(texts)
    page, box = shown
    assert "&lt;b&gt;first" in page.data and "<b>" not in page.data and "last" not in page.data
    chosen = box.children[0]
    assert chosen.options == ("one", "two")
    chosen.value = "two"
    assert "last" in shown[-1].data
    monkeypatch.setenv("KIT_HEADLESS", "1")
    browse.read_texts(texts)
    assert "first" in shown[-1].data


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
    assert chosen.options == ("a", "first and last") and chosen.value == "a"


def test_answers_to_a_question_that_is_not_here_are_shown(headless):
    browse.show_rollouts(rollouts_of((1, "a", ["one"])), {})
    assert "does not have the question" in headless[0].data and "one" in headless[0].data
