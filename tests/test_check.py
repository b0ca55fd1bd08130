"""The judges of the exercises: right answers pass, plausible wrong ones are caught with a sentence, an empty stub passes quietly."""
import pytest

from kit import check


def backwards(curves):
    alive = curves[curves.dead < 0.9].groupby("arm").step.max().reindex(curves.arm.unique(), fill_value=-1)
    return alive[alive < curves.step.max()].idxmin()


@pytest.mark.parametrize(("learner", "said"), [
    (backwards, "right on 3 cases"), (lambda curves: ..., "not begun yet"),
    (lambda curves: curves.groupby("arm").dead.mean().idxmax(), "highest mean collapses later"),
    (lambda curves: curves[curves.dead >= 0.9].groupby("arm").step.min().idxmin(), "touches 0.9 and comes back"),
    (lambda curves: curves.groupby("arm").dead.last().idxmax(), "Expected"), (lambda curves: 1 / 0, "raised ZeroDivisionError")])
def test_which_arm_collapses_first(learner, said, capsys):
    check.collapses_first(learner)
    assert said in capsys.readouterr().out


GOOD = [(0, {"easy": 0.5, "medium": 0.5}), (40, {"easy": 0.2, "medium": 0.6, "hard": 0.2}), (70, {"medium": 0.4, "hard": 0.6})]


@pytest.mark.parametrize(("phases", "said"), [
    (GOOD, "fits the brief"), (..., "not begun yet"), (None, "not begun yet"), ([(0, {"easy": 1.0})], "never more than half easy"),
    ([(0, {"medium": 0.5, "hard": 0.5})], "nothing hard in the first phase"), ([(10, {"medium": 1.0})], "begins at step 0"),
    ([GOOD[0], GOOD[2], GOOD[1]], "come in order"), ([(0, {"easy": 0.5, "medium": 0.4})], "add up to 1"), (GOOD[:2], "half of the last phase"),
    ([(0, {"easy": 0.5, "medium": 0.5}), (20, {"hard": 1.0})], "medium gets 10 of 100"), (["soft"], "a list of")])
def test_a_schedule_of_ones_own(phases, said, capsys):
    drawn = check.schedule(phases)
    assert said in capsys.readouterr().out and (drawn is not None) == (said == "fits the brief")
    if drawn is not None:
        assert sorted(set(drawn.step)) == [0, 40, 70, 100] and drawn.groupby("step").weight.sum().tolist() == pytest.approx([1] * 4)
