import math

import numpy as np
import pytest

from kit import difficulty
from kit.core.bins import BINS, bin_of, reachable
from kit.core.stats import wilson_interval
from kit.core.types import Problem

E = 1e-4


@pytest.mark.parametrize(
    "p, expected",
    [
        (0.10 - E, None),
        (0.10, "hard"),
        (0.26 - E, "hard"),
        (0.26, "medium"),
        (0.61 - E, "medium"),
        (0.61, "easy-medium"),
        (0.85 - E, "easy-medium"),
        (0.85, "easy"),
        (0.97, "easy"),
        (0.97 + E, None),
        (0.0, None),
        (1.0, None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_broad_edges(p, expected):
    assert bin_of(p, "broad") == expected


@pytest.mark.parametrize(
    "p, expected",
    [
        (0.05 - E, None),
        (0.05, "hard"),
        (0.16, "hard"),
        (0.16 + E, None),
        (0.41 - E, None),
        (0.41, "medium"),
        (0.59, "medium"),
        (0.59 + E, None),
        (0.81 - E, None),
        (0.81, "easy"),
        (0.91, "easy"),
        (0.91 + E, None),
    ],
)
def test_narrow_edges(p, expected):
    assert bin_of(p, "narrow") == expected


@pytest.mark.parametrize("edge", [0.05, 0.10, 0.16, 0.26, 0.59, 0.61, 0.85, 0.91, 0.97])
def test_a_pass_rate_read_back_as_float32_stays_in_its_bin(edge):
    for bins in BINS:
        assert bin_of(float(np.float32(edge)), bins) == bin_of(edge, bins)


def test_the_silent_bins_have_what_was_never_solved_in_the_place_of_hard():
    assert bin_of(0.0, "silent") == "hard" and bin_of(0.0, "broad") is None
    for p in (1 / 32, 0.15, 0.3, 0.7, 0.9):
        assert bin_of(p, "silent") == (bin_of(p, "broad") if p > 0.26 else None)


def test_fractions_of_attempts_meet_the_edges_exactly():
    assert bin_of(17 / 20, "broad") == "easy" and bin_of(97 / 100, "broad") == "easy"
    assert bin_of(61 / 100, "broad") == "easy-medium" and bin_of(59 / 100, "narrow") == "medium"


def solved(text):
    if not text.strip():
        return []
    first, _, last = text.strip().partition("-")
    return list(range(int(first), int(last or first) + 1))


def test_the_docstring_says_which_counts_fall_in_which_bin():
    rows = [
        line.split("|")[1:7]
        for line in difficulty.__doc__.splitlines()
        if line.startswith(("| 8", "| 32"))
    ]
    assert len(rows) == 4
    for attempts, bins, hard, medium, easy_medium, easy in rows:
        said = {
            "easy": solved(easy),
            "easy-medium": solved(easy_medium),
            "medium": solved(medium),
            "hard": solved(hard),
        }
        found = reachable(int(attempts), bins.strip())
        assert {"easy-medium": [], **found} == said
    assert reachable(4, "broad")["easy"] == []


def test_unknown_bins_are_named():
    with pytest.raises(ValueError, match=r"'wide'.*narrow, broad"):
        bin_of(0.5, "wide")


def test_wilson_interval():
    # statsmodels, proportion_confint
    assert wilson_interval(0, 8) == pytest.approx((0.0, 0.3244), abs=1e-4)
    assert wilson_interval(4, 8) == pytest.approx((0.2152, 0.7848), abs=1e-4)
    assert wilson_interval(31, 32) == pytest.approx((0.8426, 0.9945), abs=1e-4)
    low, high = wilson_interval(8, 8)
    assert low == pytest.approx(0.6756, abs=1e-4) and high == 1.0
    assert all(map(math.isnan, wilson_interval(0, 0)))
    # scipy's own words
    with pytest.raises(ValueError, match="9.* greater than n .8"):
        wilson_interval(9, 8)


def test_assign():
    given = [
        Problem(environment="fuzzing", n=8, solved=7),
        Problem(environment="fuzzing", n=8, solved=8),
        Problem(environment="fuzzing"),
    ]
    out = difficulty.assign(given, "broad")
    assert out["bin"].tolist() == ["easy", None, None] and out["p"].tolist()[:2] == [0.875, 1.0]
    assert out.loc[2, ["p", "low", "high"]].isna().all() and (out["low"] <= out["p"])[:2].all()
    assert difficulty.assign([], "narrow")["p"].dtype == float


def stone(seed, asked, solved, kept=True, environment="deduction", method="stones"):
    return Problem(
        environment=environment,
        program=f"{method} {seed} {asked}",
        method=method,
        chain_id=f"{method}-{seed}",
        seed_id=seed,
        asked=asked,
        n=32,
        solved=solved,
        kept=kept,
    )


def test_stepping_stones_are_a_trio_in_order_each_in_the_bin_of_its_name():
    chains = [
        stone("a", "hard", 3),
        stone("a", "medium", 16),
        stone("a", "easy", 27),  # in the narrow bins
        stone("b", "hard", 8),
        stone("b", "medium", 16),
        stone("b", "easy", 28),  # in order, and in the broad bins only
        stone("c", "hard", 16),
        stone("c", "medium", 16),
        stone("c", "easy", 27),  # not in order
        stone("d", "hard", 3),
        stone("d", "medium", 16, kept=False),
        stone("d", "easy", 27),
        stone("e", "hard", 27),
        stone("e", "medium", 16),
        stone("e", "easy", 3),  # each in a bin, but not in that of its name
    ]
    assert difficulty.stepping_stones(chains) == ["stones-a"]
    assert difficulty.stepping_stones(chains, "broad") == ["stones-b"]
    more = [stone("A", *part) for part in (("hard", 3), ("medium", 16), ("easy", 27))]
    assert difficulty.stepping_stones([*chains, *more]) == ["stones-A", "stones-a"], "sorted"
    assert difficulty.stepping_stones([]) == []


def test_the_disjoint_set_has_the_same_pass_rates_and_no_relatives():
    chain = [stone("a", "hard", 3), stone("a", "medium", 16), stone("a", "easy", 27)]
    others = [
        stone(f"s{k}", "new", solved, method="multi")
        for k, solved in enumerate((3, 16, 27, 27, 16, 9))
    ]
    others += [
        stone("a", "new", 3, method="multi"),
        stone("t", "new", 16, kept=False, method="multi"),
    ]
    apart = difficulty.disjoint(chain, chain + others)
    assert sorted(x.p for x in apart) == sorted(x.p for x in chain)
    assert (
        len({x.seed_id for x in apart}) == 3
        and "a" not in {x.seed_id for x in apart}
        and all(x.kept for x in apart)
    )
    assert difficulty.disjoint(chain, chain + others) == apart, "the same draw again"
    assert len(difficulty.disjoint(chain, others[:2])) == 2, (
        "too few problems give a shorter set, not relatives"
    )
