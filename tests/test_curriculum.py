import json
from collections import Counter

import pandas as pd
import pytest

from kit import curriculum
from kit.core.profile import ProfileError, load_profile
from kit.core.types import Problem
from kit.schedules import HORIZON, SCHEDULES, CurriculumError, phases, schedule_table, weights

EQUAL = {"induction": 1.0, "abduction": 1.0, "deduction": 1.0, "fuzzing": 1.0}
SYNTHETIC = {"synthetic": 1.0}
SOLVED = {"easy": 7, "easy-medium": 6, "medium": 4, "hard": 1}


def problems(counts: dict[tuple[str, str], int]) -> list[Problem]:
    return [
        Problem(environment=e, program=f"def f():\n    return {b!r}, {k}", n=8, solved=SOLVED[b])
        for (b, e), n in counts.items()
        for k in range(n)
    ]


def full(n=6):
    return problems({(b, e): n for b in SOLVED for e in EQUAL})


def plan(
    given,
    schedule="uniform",
    steps=40,
    per_step=4,
    environments=EQUAL,
    bins="broad",
    seed=0,
    sources=SYNTHETIC,
    **more,
):
    return curriculum.plan(
        given, schedule, steps, per_step, environments, bins, seed, sources, **more
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_weights_sum_to_one_and_phases_rise_from_zero(name):
    starts = [start for start, _ in SCHEDULES[name]]
    assert starts[0] == 0 and starts == sorted(set(starts)) and starts[-1] < HORIZON
    assert all(
        sum(w.values()) == pytest.approx(1) and min(w.values()) >= 0 for _, w in SCHEDULES[name]
    )


@pytest.mark.parametrize(
    "name, step, expected",
    # Typed again from the paper's table.
    [
        ("soft", 0, (0.80, 0.15, 0.05)),
        ("soft", 7_499, (0.80, 0.15, 0.05)),
        ("soft", 7_500, (0.15, 0.80, 0.05)),
        ("soft", 17_500, (0.15, 0.40, 0.45)),
        ("soft", 29_999, (0.15, 0.40, 0.45)),
        ("soft", 30_000, (0.05, 0.15, 0.80)),
        ("sharp", 0, (0.90, 0.05, 0.05)),
        ("sharp", 7_500, (0.05, 0.90, 0.05)),
        ("sharp", 39_999, (0.05, 0.05, 0.90)),
        ("classic", 9_999, (1, 0, 0)),
        ("classic", 10_000, (0.75, 0.25, 0)),
        ("classic", 15_000, (0, 1, 0)),
        ("classic", 25_000, (0, 0.75, 0.25)),
        ("classic", 30_000, (0, 0, 1)),
        ("hard-first", 0, (0, 0, 1)),
        ("hard-first", 10_000, (0, 0.25, 0.75)),
        ("hard-first", 15_000, (0, 1, 0)),
        ("hard-first", 25_000, (0.25, 0.75, 0)),
        ("hard-first", 30_000, (1, 0, 0)),
        ("medium-first", 0, (0, 1, 0)),
        ("medium-first", 17_500, (0.25, 0.75, 0)),
        ("medium-first", 20_000, (1, 0, 0)),
    ],
)
def test_the_papers_table(name, step, expected):
    easy = "easy-medium" if name == "medium-first" else "easy"
    assert weights(name, step, 40_000) == dict(zip((easy, "medium", "hard"), expected, strict=True))


def test_break_points_scale_with_the_horizon():
    assert weights("sharp", 74, 400)["easy"] == 0.90 and weights("sharp", 75, 400)["easy"] == 0.05
    assert weights("sharp", 0, 2)["easy"] == 0.90 and weights("sharp", 1, 2)["hard"] == 0.90
    assert weights("classic", 10_000, 100) == {"easy": 0, "medium": 0, "hard": 1}


def test_the_table_ends_at_the_horizon_with_the_last_weights():
    out = schedule_table("sharp", 80)
    assert sorted(set(out["step"])) == [0, 15, 35, 80]
    assert out[out["step"] == 80]["weight"].tolist() == [0.05, 0.05, 0.90]


def test_a_plan_is_complete_repeatable_and_of_the_given_problems():
    given = full()
    out = plan(given)
    assert out[["step", "slot"]].values.tolist() == [[s, k] for s in range(40) for k in range(4)]
    assert out.equals(plan(given)) and not out.equals(plan(given, seed=1))
    by_id = {x.id: x for x in given}
    assert all(
        by_id[i].environment == e
        for i, e in zip(out["problem_id"], out["environment"], strict=True)
    )
    assert (out["wanted"] == out["bin"]).all()


def test_phases_draw_what_they_say():
    out = plan(full(), "classic")
    assert set(out[out["step"] < 10]["bin"]) == {"easy"}
    assert set(out[(out["step"] >= 15) & (out["step"] < 25)]["bin"]) == {"medium"}
    assert set(out[out["step"] >= 30]["bin"]) == {"hard"}


def test_shares_follow_schedule_and_mixture():
    mixture = {"induction": 3.0, "fuzzing": 1.0}
    out = plan(full(), "sharp", steps=800, environments=mixture)
    shares = curriculum.realised(out, mixture)
    assert (shares["wanted"] - shares["realised"]).abs().max() < 0.06
    assert shares[shares["kind"] == "environment"]["wanted"].unique().tolist() == [0.25, 0.75]
    assert set(out["environment"]) == {"induction", "fuzzing"}


def test_real_and_synthetic_problems_share_the_budget_as_weighted():
    real = [
        x.with_(method="real", program=x.program + "  # real")
        for x in problems({("easy", "induction"): 5, ("medium", "induction"): 5})
    ]
    out = plan(full() + real, steps=800, sources={"synthetic": 1.0, "real": 1.0})
    shares = curriculum.realised(out, sources={"synthetic": 1.0, "real": 1.0}).query(
        "kind == 'source'"
    )
    assert (shares["wanted"] - shares["realised"]).abs().max() < 0.06 and shares[
        "wanted"
    ].tolist() == [0.5, 0.5]
    known = {x.id: x for x in full() + real}
    assert [curriculum.source(known[i]) for i in out["problem_id"]] == out["source"].tolist()
    assert set(out[out["source"] == "real"]["environment"]) == {"induction"} and set(
        plan(full() + real)["source"]
    ) == {"synthetic"}


def test_every_problem_comes_once_before_any_comes_twice():
    given = problems({("medium", "deduction"): 10})
    drawn = plan(given, steps=25, per_step=1)["problem_id"].tolist()
    assert Counter(Counter(drawn[:10]).values()) == {1: 10} and Counter(
        Counter(drawn[10:20]).values()
    ) == {1: 10}
    assert drawn[:10] != drawn[10:20]


def test_the_same_problem_given_twice_is_not_drawn_twice_as_often():
    given = problems({("medium", "deduction"): 4})
    drawn = plan(given + given[:1], steps=4, per_step=1)["problem_id"]
    assert drawn.nunique() == 4


def test_an_empty_environment_passes_its_weight_on_within_the_bin():
    given = problems(
        {
            ("easy", "induction"): 3,
            ("hard", "fuzzing"): 3,
            ("medium", "induction"): 3,
            ("medium", "fuzzing"): 3,
        }
    )
    out = plan(given)
    assert (out["wanted"] == out["bin"]).all()
    assert set(out[out["bin"] == "easy"]["environment"]) == {"induction"}
    assert set(out[out["bin"] == "medium"]["environment"]) == {"induction", "fuzzing"}


def test_an_environment_of_weight_zero_is_not_drawn_even_to_fill_a_gap():
    given = problems({("easy", "induction"): 3, ("hard", "fuzzing"): 3})
    out = plan(given, environments={"fuzzing": 1.0, "induction": 0.0})
    assert (
        set(out["environment"]) == {"fuzzing"}
        and set(out["bin"]) == {"hard"}
        and "easy" in set(out["wanted"])
    )


def test_an_empty_bin_gives_its_weight_to_the_nearest_and_the_plan_says_so():
    out = plan(problems({("easy", "induction"): 4, ("hard", "induction"): 4}), "classic")
    part = curriculum.realised(out).query("from_step == 15").set_index("name")
    assert part.loc["medium", ["wanted", "realised"]].tolist() == [1, 0]
    # Of two equally near the easier.
    assert part.loc["easy", ["wanted", "realised"]].tolist() == [0, 1]
    assert part["n"].sum() == 40


def test_easy_medium_counts_as_easy_except_where_it_is_asked_for():
    given = problems(
        {("easy", "induction"): 2, ("easy-medium", "induction"): 2, ("medium", "induction"): 2}
    )
    easy, easy_medium = ({x.id for x in given if x.solved == k} for k in (7, 6))
    assert (
        set(plan(given, "classic")[lambda x: x["bin"] == "easy"]["problem_id"])
        == easy | easy_medium
    )
    late = plan(given, "medium-first")[lambda x: x["step"] >= 20]
    assert set(late["problem_id"]) == easy_medium and set(late["bin"]) == {"easy-medium"}
    narrow = plan(given, "medium-first", bins="narrow")[lambda x: x["step"] >= 20]
    assert set(narrow["problem_id"]) == easy and set(narrow["bin"]) == {"easy"}


def test_a_plan_read_back_from_a_file_still_knows_what_was_wanted(tmp_path):
    out = plan(full(), "soft")
    out.to_parquet(tmp_path / "plan.parquet")
    pd.testing.assert_frame_equal(
        curriculum.realised(pd.read_parquet(tmp_path / "plan.parquet")), curriculum.realised(out)
    )


def test_realised_survives_phases_shorter_than_a_step():
    assert curriculum.realised(plan(full(), "soft", steps=4))["from_step"].unique().tolist() == [
        0,
        0.75,
        1.75,
        3,
    ]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: plan(full(), "steep"), "no schedule called 'steep': there are uniform, soft"),
        (lambda: plan([]), "none of 0 problems"),
        (
            lambda: plan([Problem(environment="fuzzing", n=8, solved=8)]),
            "none of 1 problems is synthetic, in a bin",
        ),
        (lambda: plan(full(), environments={"induction": 0.0}), "mixture"),
        (lambda: plan(full(), steps=0), "horizon of 0"),
        (
            lambda: plan(full(), "classic", steps=4),
            "the schedule classic has 5 phases, so it needs 5 steps",
        ),
        (lambda: plan(full(), sources={"real": 1.0}), "problems is real, in a bin"),
        (
            lambda: plan(full(), sources={"synthetic": 0.0}),
            "no source has a weight above zero: {'synthetic': 0.0}",
        ),
        (
            lambda: plan(problems({("easy", "induction"): 4}), "hard", substitute=False),
            "asks for hard problems, and of the synthetic ones none is",
        ),
        (
            lambda: plan([*full(), full()[0].with_(split="held_out")]),
            "1 of the problems are held out",
        ),
    ],
)
def test_refusals_say_what_is_wrong(call, message):
    with pytest.raises(CurriculumError, match=message):
        call()


@pytest.mark.parametrize(
    ("key", "mixture"),
    [
        ("environments", {"induction": -1.0}),
        ("sources", {"real": -1.0}),
        ("sources", {"real": float("nan")}),
    ],
)
def test_a_mixture_with_a_weight_below_zero_is_refused_by_the_profile(key, mixture):
    (name,) = mixture
    with pytest.raises(ProfileError, match=f"curriculum.{key}.{name}: Input should be"):
        load_profile("cpu", {f"curriculum.{key}": mixture})


def test_no_problem_is_drawn_more_often_than_repeats_says():
    given = problems({("easy", e): n for e, n in zip(EQUAL, (1, 6, 6, 6))})
    often = plan(given, "easy").problem_id.value_counts()
    assert often.max() > 30, "an environment with one problem draws it all the time"
    seldom = plan(given, "easy", repeats=9).problem_id.value_counts()
    assert seldom.max() == 9 and len(plan(given, "easy", repeats=9)) == 160


def test_a_pool_too_small_for_its_repeats_says_what_is_missing_and_what_to_raise():
    given = problems({("medium", "induction"): 5, ("hard", "fuzzing"): 20})
    with pytest.raises(
        CurriculumError,
        match=r"more than 7 times: make 18 more synthetic medium ones \(125 prompts\), "
        "or raise curriculum.repeats",
    ):
        plan(given, "medium", repeats=7, substitute=False)
    assert plan(given, "medium", repeats=32, substitute=False).problem_id.nunique() == 5
    made = plan(given, "medium", repeats=7)
    assert made["bin"].value_counts().to_dict() == {"hard": 125, "medium": 35}, (
        "a bin that is used up gives way to the nearest, as an empty one does"
    )
    with pytest.raises(CurriculumError, match="make 7 more synthetic"):
        plan(given, "medium", repeats=5)


def test_one_seed_gives_one_order_whatever_the_pool():
    given = full(12)
    whole = plan(given, "uniform", steps=200)
    some = plan(given[::2], "uniform", steps=200)
    other = plan(given[::2], "uniform", steps=200, seed=1)
    cell = ("medium", "induction")

    def order(made, common):
        drawn = made[(made.bin == cell[0]) & (made.environment == cell[1])].problem_id
        return [i for i in dict.fromkeys(drawn) if i in common]

    common = {x.id for x in given[::2]}
    assert order(whole, common) == order(some, common) != order(other, common)
    columns = ["step", "slot", "wanted", "bin", "environment"]
    assert whole[columns].equals(some[columns]), "and one order of bins and environments"


# ------------------------------------------------------------------ a schedule of one's own


def own(*parts):
    """Phases as JSON: that is their name."""
    return json.dumps(parts)


def test_a_schedule_of_ones_own_is_planned_like_the_papers():
    mine = own((0, {"easy": 2, "medium": 2}), (0.25, {"hard": 5}))
    assert phases(mine, 40) == [(0, 10, {"easy": 0.5, "medium": 0.5}), (10, 40, {"hard": 1})]
    out = plan(full(), mine)
    assert set(out[out.step < 10].bin) == {"easy", "medium"} and set(out[out.step >= 10].bin) == {
        "hard"
    }
    assert curriculum.switches(out) == [10] and len(phases(own((0, {"hard": 1})), 40)) == 1


@pytest.mark.parametrize(
    "parts, why",
    [
        ([], "must start at 0"),
        ([(0.5, {"easy": 1})], "must start at 0"),
        ([(0, {"easy": 1}), (0, {"hard": 1})], "later than the one before"),
        ([(0, {"easy": 1}), (1, {"hard": 1})], "below 1"),
        ([(0, {"easy": 0})], "phase 1"),
        ([(0, {"easy": 2, "hard": -1})], "phase 1"),
        ([(0, {"tough": 1})], "phase 1"),
        ([(0, {"easy": float("nan")})], "phase 1"),
        ([(0, {"easy": "much"})], "is no schedule: each phase is"),
        ([(0, {"easy": 1}, 3)], "is no schedule: each phase is"),
    ],
)
def test_what_is_no_schedule_is_refused(parts, why):
    before = dict(SCHEDULES)
    with pytest.raises(CurriculumError, match=why):
        phases(own(*parts), 40)
    assert SCHEDULES == before
