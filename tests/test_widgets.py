import pandas as pd
import pytest

from kit import widgets
from kit.records import Problem, Sample

PARENT = Problem(environment="deduction", program="def f(x):\n    return x", inputs=["1"], outputs=["1"], chain_id="c", n=4, solved=4)
CHILD = PARENT.with_(program="def f(x):\n    return x * '<b>'", parent_id=PARENT.id, turn=2, asked="harder", solved=1, kept=True,
                     samples=[Sample(answer="<script>alert(1)</script>", outcome="failed", reason="wrong")])


def test_a_card_escapes_what_a_model_wrote_and_shows_what_changed():
    shown = widgets.card(CHILD, PARENT).data
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "<b>" not in shown
    assert "-     return x<" in shown and "+     return x * &#x27;&lt;b&gt;&#x27;<" in shown
    assert "1 of 4 attempts (0.25)" in shown and "kept" in shown
    assert "changed" not in widgets.card(CHILD).data


@pytest.mark.parametrize("headless", ["1", "0"])
def test_browse_shows_a_problem_with_its_parent_and_never_waits(headless, monkeypatch):
    seen = []
    monkeypatch.setenv("KIT_HEADLESS", headless)
    monkeypatch.setattr(widgets, "display", lambda x: seen.append(x.data))
    widgets.browse([CHILD, PARENT])
    assert len(seen) == 1 and "changed" in seen[0]


def test_nothing_to_browse_is_said(capsys):
    widgets.browse([])
    assert "nothing to look at" in capsys.readouterr().out


@pytest.mark.parametrize("headless", ["1", "0"])
def test_answers_are_shown_with_their_verdicts(headless, monkeypatch, capsys):
    monkeypatch.setenv("KIT_HEADLESS", headless)
    sample = {"mode": "sampled", "answer": "<answer>7</answer>", "outcome": "failed", "reason": "wrong"}
    scores = pd.DataFrame([{"checkpoint": c, "problem_id": "p", "samples": [sample]} for c in ("before", "after")])
    widgets.answers(scores, ["p"])
    shown = capsys.readouterr().out
    assert shown.count("<answer>7</answer>") == 2 and "before, sampled: failed wrong" in shown
    widgets.answers(scores, [])
    assert "nothing to look at" in capsys.readouterr().out
