"""The rules of the claim board on synthetic studies whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from kit import findings
from kit.effects import arm_difference, matrix, spread


def study(rng, effect, seeds=3, problems=40, samples=8, between_seeds=0.15):
    """Two arms on the same problems.

    Pass rates come from the difficulty of the problem, the seed, the arm, and seed and problem
    together (logits).
    """
    difficulty = rng.normal(0, 1.5, problems)
    out = []
    for shift in (effect, 0.0):
        logit = (
            difficulty
            + shift
            + rng.normal(0, between_seeds, (seeds, 1))
            + rng.normal(0, 0.5, (seeds, problems))
        )
        out.append(pd.DataFrame(rng.binomial(samples, 1 / (1 + np.exp(-logit))) / samples))
    return out


def share(effect, verdict, count=400, **sizes):
    rng = np.random.default_rng(1)
    return np.mean(
        [
            arm_difference(*study(rng, effect, **sizes), resamples=300, seed=k).verdict == verdict
            for k in range(count)
        ]
    )


@pytest.mark.parametrize(
    "sizes", [{}, {"seeds": 5}, {"problems": 100}, {"between_seeds": 0.0}, {"between_seeds": 0.5}]
)
def test_without_an_effect_at_most_5_percent_get_a_verdict(sizes):
    assert share(0.0, "supported", **sizes) + share(0.0, "contradicted", **sizes) <= 0.05


def test_the_power_that_notebook_07_states():
    powers = {effect: share(effect, "supported") for effect in (0.5, 1.0, 1.5)}
    print(powers)
    assert powers[1.0] > 0.5 and powers[1.5] > 0.9 and powers[0.5] < powers[1.0]
    assert share(-1.5, "contradicted") > 0.9


def test_too_few_seeds_or_problems_are_no_test():
    rng = np.random.default_rng(0)
    for sizes in ({"seeds": 2}, {"seeds": 1}, {"problems": 29}):
        assert arm_difference(*study(rng, 5.0, **sizes)).verdict == "not tested at this scale"
    assert arm_difference(pd.DataFrame(), pd.DataFrame()).verdict == "not tested at this scale"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ([-0.5, -0.25, -0.3, -0.4] * 5, "supported"),
        ([0.5, 0.25, 0.3, 0.4] * 5, "contradicted"),
        ([0.5, -0.5] * 10, "undecided"),
        ([-0.5] * 9, "not tested at this scale"),
        ([], "not tested at this scale"),
    ],
)
def test_the_rule_of_f2(changes, verdict):
    assert (
        findings.difficulty_steering(
            pd.DataFrame(
                {"asked": "harder", "chain_id": "c", "change": pd.Series(changes, dtype=float)}
            )
        ).verdict
        == verdict
    )


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        ((30, 10, 10, 5.0, 4.1, 6.0), "supported"),
        ((30, 10, 10, 1.0, 0.5, 2.0), "contradicted"),
        ((30, 10, 10, 4.0, 2.0, 8.0), "undecided"),
        ((29, 10, 10, 5.0, 4.1, 6.0), "not tested at this scale"),
        ((30, 10, 9, 5.0, 4.1, 6.0), "not tested at this scale"),
        (None, "not tested at this scale"),
    ],
)
def test_the_rule_of_f1(row, verdict):
    columns = ["environment", "seeds", "multi_kept", "single_kept", "ratio", "low", "high"]
    assert (
        findings.multi_turn_yield(
            pd.DataFrame([("all", *row)] if row else [], columns=columns)
        ).verdict
        == verdict
    )


def test_spread_of_seeds():
    rng = np.random.default_rng(2)

    def arm(sd, seeds=8):
        return pd.DataFrame(0.5 + rng.normal(0, sd, (seeds, 1)) + rng.normal(0, 0.02, (seeds, 40)))

    assert spread(arm(0.2), arm(0.01)).verdict == "supported"
    assert spread(arm(0.2, 3), arm(0.01, 3)).verdict == "not tested at this scale"
    false = np.mean([spread(arm(0.1), arm(0.1)).verdict != "undecided" for _ in range(400)])
    assert false <= 0.075, "5% in expectation, of 400"


def test_the_matrix_of_an_arm():
    rows = [("a", s, "code", f"p{i}", 4, i, float(i > 2)) for s in (0, 1) for i in range(5)] + [
        ("b", 0, "code", "p0", 4, 1, 1.0)
    ]
    scores = pd.DataFrame(
        rows, columns=["arm", "seed", "set", "problem_id", "n", "solved", "greedy"]
    )
    assert matrix(scores, "a", "code").to_numpy().tolist() == [[0, 0.25, 0.5, 0.75, 1]] * 2
    assert matrix(scores, "a", "code", "greedy").loc[0].tolist() == [0, 0, 0, 1, 1]
    assert matrix(scores, "a", "code", k=4).loc[1].tolist() == [0, 1, 1, 1, 1]
    assert matrix(scores, "a", "maths").empty
