"""Arms: who draws from what, by which seed, and what their trainings left."""

import json
from collections import Counter

import pandas as pd
import pytest

from kit import curriculum
from kit.arms import DRAWN, NEEDED, Arm, ArmError, arm_plans, arm_pools, collect_study, load_arms
from kit.core import profile, records
from kit.core.bins import bin_of
from kit.core.manifest import ROOT
from kit.core.types import Problem

CPU = profile.load_profile("cpu", {"curriculum.repeats": 1000})
SOLVED = {"easy": 7, "easy-medium": 6, "medium": 4, "hard": 1}
BINS, ENVIRONMENTS = list(SOLVED), ["induction", "abduction", "deduction", "fuzzing"]


def problem(name, environment, k, method="multi", **more):
    seed = more.pop("seed_id", f"{method}{name}{environment}{k}")
    return Problem(
        environment=environment,
        program=f"def f(x):\n    return {(name, k, method)!r}",
        inputs=["1"],
        outputs=["2"],
        n=8,
        method=method,
        solved=SOLVED[name],
        kept=True,
        seed_id=seed,
        chain_id=more.pop("chain_id", f"{method}-{seed}"),
        **more,
    )


def made(n=5, real=4, chains=3):
    """n kept problems per bin and environment, `real` real ones per bin.

    And whole chains of stepping stones, and some problems held out.
    """
    out = [problem(b, e, k) for b in BINS for e in ENVIRONMENTS for k in range(n)]
    out += [problem(b, "induction", k, "real") for b in BINS for k in range(real)]
    out += [
        problem(b, "deduction", k, "stones", asked=b, chain_id=f"stones-{k}", seed_id=f"s{k}")
        for b in ("easy", "medium", "hard")
        for k in range(chains)
    ]
    # Never solved, so dropped.
    silent = [problem("hard", e, k, "single") for e in ENVIRONMENTS for k in range(n)]
    out += [p.with_(solved=0, kept=False, dropped_by="unsolved") for p in silent]
    return out + [
        problem("easy", "deduction", 99, split="held_out"),
        problem("easy", "fuzzing", 98).with_(kept=False),
    ]


ARMS = load_arms()
SINGLE = ("easy", "medium", "hard")


def ids(problems):
    return {p.id for p in problems}


def pools(given, seed=0, arms=ARMS):
    return arm_pools(arms, given, CPU, seed)


def cells(problems):
    return Counter((bin_of(p.p, "broad"), p.environment) for p in problems)


def test_every_arm_has_a_plan_of_its_own_problems():
    given = made()
    plans = arm_plans(ARMS, given, CPU, [0, 1])
    assert len(plans) == 2 * len(ARMS)
    for (name, seed), plan in plans.items():
        pool = ids(pools(given, seed)[name])
        assert set(plan.problem_id) <= pool
        allowed = {p.id for p in given if p.kept and p.split == "train"}
        if name.startswith("silent"):
            allowed |= {p.id for p in given if p.dropped_by == "unsolved"}
        assert pool <= allowed
        assert len(plan) == CPU.grpo.steps * CPU.grpo.prompts_per_step
    assert set(plans["easy", 0]["bin"]) == {"easy"} and set(plans["hard", 0]["bin"]) == {"hard"}
    assert set(plans["one", 0].environment) == {"induction"}
    assert plans["four", 0].environment.nunique() == 4
    assert set(plans["both", 0].source) == {"real", "synthetic"}
    assert set(plans["real", 0].source) == {"real"}
    assert not plans["uniform", 0].equals(plans["uniform", 1]), "another seed, another order"


def test_single_difficulties_and_chains_are_in_the_papers_narrow_bins():
    found = pools(made())
    for name in SINGLE:
        assert {bin_of(p.p, "narrow") for p in found[name]} == {name}
    assert any(bin_of(p.p, "narrow") is None for p in found["uniform"]), "the profile's are broad"
    trios = {p.chain_id: set() for p in found["chains"]}
    for p in found["chains"]:
        trios[p.chain_id].add(p.asked)
    assert all(asked == set(SINGLE) for asked in trios.values()), "whole chains"
    assert len(found["chains"]) == len(found["disjoint"]) == 6
    assert not {p.seed_id for p in found["chains"]} & {p.seed_id for p in found["disjoint"]}


def test_chains_that_are_in_order_but_not_in_their_bins_are_none():
    given = [p.with_(solved=2) if p.asked == "hard" else p for p in made()]
    found = pools(given)
    assert found["chains"] == found["disjoint"] == []
    with pytest.raises(ArmError, match="no problem for chains"):
        arm_plans(ARMS, given, CPU, [0], ["chains"])


def test_a_disjoint_set_that_cannot_be_filled_is_none():
    few = [p for p in made() if p.method == "stones"] + [problem("hard", "deduction", 0)]
    assert len(pools(few)["chains"]) == 6 and pools(few)["disjoint"] == []


@pytest.mark.parametrize("name", [name for name in ARMS if name != "real-few"])
def test_each_seed_draws_its_own_pool_and_no_more_than_its_part(name):
    given = made(n=8, real=8, chains=8)
    drawn = [ids(pools(given, seed)[name]) for seed in range(4)]
    assert len({frozenset(pool) for pool in drawn}) == 4, "seeds replicate the pool"
    assert len({len(pool) for pool in drawn}) == 1, "of one size"
    assert pools(given)[name] == pools(given)[name], "the same again for the same seed"
    everything = [p for p in given if p.split == "train"]
    stock = cells(curriculum.drawable(everything, **_drawing(name)))
    for cell, count in cells(pools(given)[name]).items():
        assert count <= DRAWN * stock[cell]


def _drawing(name):
    from kit.arms import _drawing

    return _drawing(ARMS[name], CPU)


def test_arms_that_are_compared_draw_from_equally_many_problems_of_each_kind():
    uneven = [p for p in made(n=8, real=6) if (p.solved, p.environment) != (4, "fuzzing")]
    uneven += [problem("medium", "fuzzing", k) for k in range(2)]
    found = pools(uneven)
    of = {name: Counter(p.environment for p in found[name]) for name in SINGLE}
    assert of["easy"] == of["medium"] == of["hard"], "per environment: their bins differ"
    assert of["easy"] == {"induction": 6, "abduction": 6, "deduction": 8, "fuzzing": 1}
    bins = {
        name: Counter(bin_of(p.p, "broad") for p in found[name])
        for name in ("real", "synthetic", "one", "four")
    }
    assert bins["real"] == bins["synthetic"] == dict.fromkeys(BINS, 4), "of the poorer source"
    assert bins["one"] == bins["four"] == dict.fromkeys(BINS, 6)
    assert Counter(p.environment for p in found["four"])["fuzzing"] >= 4, "environments in turn"
    assert ids(found["both"]) == ids(found["real"]) | ids(found["synthetic"])
    few = ids(found["real-few"])
    assert len(few) == 4 and few < ids(found["real"]), "a part of the larger set"
    for name in ("soft", "sharp", "classic", "hard-first", "random-reward", "rejection"):
        assert found[name] == found["uniform"], "one stock, one seed: one pool"


def bins_of(problems, bins="broad"):
    return Counter(bin_of(p.p, bins) for p in problems)


def test_gap_and_smooth_are_equal_sets_with_the_same_hard_problems():
    found = pools(made(n=8, chains=0))
    gap, smooth = found["gap"], found["smooth"]
    hard = [ids(p for p in pool if bin_of(p.p, "broad") == "hard") for pool in (gap, smooth)]
    assert hard[0] == hard[1] and len(hard[0]) == 24 and len(gap) == len(smooth) == 48
    assert set(bins_of(gap)) == {"easy", "hard"} and set(bins_of(smooth)) == set(BINS)
    by_environment = [Counter(p.environment for p in pool) for pool in (gap, smooth)]
    assert by_environment[0] == by_environment[1]
    longer = profile.load_profile("cpu", {"grpo.steps": 300, "curriculum.repeats": 1000})
    plans = arm_plans(ARMS, made(n=8), longer, [0], ["gap", "smooth"])
    shares = [plan["bin"].value_counts(normalize=True).hard for plan in plans.values()]
    assert shares == pytest.approx([1 / 3, 1 / 3], abs=0.06), "of prompts, as of problems"


def test_silent_and_rare_sets_differ_in_their_hard_problems_alone():
    given = made(n=8)
    found = pools(given)
    assert found["silent-uniform"] == found["silent-classic"]
    assert found["rare-uniform"] == found["rare-classic"]
    silent, rare = ids(found["silent-uniform"]), ids(found["rare-uniform"])
    never = {p.id for p in given if p.solved == 0}
    assert silent - rare and silent - rare <= never and not rare & never
    assert bins_of(found["silent-uniform"], "silent") == bins_of(found["rare-uniform"])
    assert {p.p for p in given if p.id in rare - silent} == {SOLVED["hard"] / 8}
    plan = arm_plans(ARMS, given, CPU, [0], ["silent-classic"])["silent-classic", 0]
    assert set(plan[plan["bin"] == "hard"].problem_id) <= never, "the curriculum ends there"


def test_what_was_dropped_for_another_reason_is_drawn_by_no_arm():
    given = made()
    for reason in ("duplicate", "contaminated", "too easy"):
        twins = [p.with_(dropped_by=reason) if not p.solved else p for p in given]
        assert not any(p.solved == 0 for pool in pools(twins).values() for p in pool)
    held = [p.with_(split="held_out") if not p.solved else p for p in given]
    assert not any(p.solved == 0 for pool in pools(held).values() for p in pool)
    with pytest.raises(
        ArmError, match="silent-uniform, seed 0: the schedule uniform asks for hard"
    ):
        arm_plans(ARMS, held, CPU, [0], ["silent-uniform"])


def test_a_kind_that_one_partner_lacks_is_left_out_of_all():
    given = [p for p in made() if (p.solved, p.environment) != (4, "fuzzing")]
    found = pools(given)
    assert all("fuzzing" not in {p.environment for p in found[name]} for name in SINGLE)
    assert "fuzzing" in {p.environment for p in found["uniform"]}
    assert pools(made(real=0))["synthetic"], "an arm without problems does not starve the others"


def test_trainings_of_one_seed_have_one_order_as_far_as_their_arms_allow():
    longer = profile.load_profile("cpu", {"grpo.steps": 200, "curriculum.repeats": 1000})
    plans = arm_plans(ARMS, made(n=8), longer, [0, 1])
    for control in ("random-reward", "rejection", "uniform-rerun"):
        for seed in (0, 1):
            pd.testing.assert_frame_equal(plans[control, seed], plans["uniform", seed])

    def order(name, cell, seed=0):
        plan = plans[name, seed]
        rows = plan[(plan.bin == cell[0]) & (plan.environment == cell[1])]
        return list(dict.fromkeys(rows.problem_id))

    for environment in ENVIRONMENTS:
        one, other = (order(n, ("medium", environment)) for n in ("uniform", "classic"))
        shorter = min(len(one), len(other))
        assert one[:shorter] == other[:shorter] and shorter
    slots = ["step", "slot", "wanted"]
    assert plans["one", 0][slots].equals(plans["synthetic", 0][slots])


def test_notebook_05_trains_with_the_seed_of_the_training_in_the_plans_order():
    source = (ROOT / "notebooks" / "05_grpo.ipynb").read_text(encoding="utf-8")
    for said in (
        "grpo__seed=TRAIN_SEED",
        "seed=run.train_seed",
        "shuffle_dataset=False",
        "controls.reward_by(numbers, verified, run.train_seed)",
        "controls.trainer_by(numbers, GRPOTrainer)",
    ):
        assert said in source


@pytest.mark.parametrize(
    ("given", "arms", "message"),
    [
        (made(real=0), ["real"], "no problem for real of a kind that all arms of its match have"),
        ([p for p in made() if p.solved > 1], ["hard"], "no problem for hard"),
        (
            [p for p in made() if p.solved > 1],
            ["classic"],
            "arm classic, seed 0: the schedule classic asks for hard problems, "
            "and of the synthetic ones none is",
        ),
        (made(), ["steep"], "no arm is called steep; there are easy, medium"),
    ],
)
def test_an_arm_that_cannot_be_trained_is_refused(given, arms, message):
    with pytest.raises(ArmError, match=message):
        arm_plans(ARMS, given, CPU, [0], arms)


def test_an_arm_whose_pool_is_too_small_for_its_cap_names_the_value_and_what_is_missing():
    capped = profile.load_profile("cpu", {"curriculum.repeats": 3})
    given = made(n=3)
    with pytest.raises(
        ArmError,
        match="arm easy, seed 0: too few problems to draw none of them more than 3 times: "
        r"make 4 more synthetic easy ones \(10 prompts\), or raise curriculum.repeats",
    ):
        arm_plans(ARMS, given, capped, [0], ["easy"])
    plan = arm_plans(ARMS, made(n=6), capped, [0], ["easy"])["easy", 0]
    assert plan.problem_id.value_counts().max() == 3


def test_a_horizon_shorter_than_a_schedule_is_refused():
    with pytest.raises(ArmError, match="a horizon of 3 steps: the schedule classic has 5 phases"):
        short = profile.load_profile("cpu", {"grpo.steps": 3})
        arm_plans(ARMS, made(), short, [0], ["classic"])


def test_a_rerun_is_the_same_arm_by_another_name(tmp_path):
    assert ARMS["uniform-rerun"] == ARMS["uniform"].model_copy(update={"rerun": "uniform"})
    (tmp_path / "arms.yaml").write_text("again: {rerun: once}\n")
    with pytest.raises(ArmError, match="has no arm 'once' to run again"):
        load_arms(path=tmp_path / "arms.yaml")


def test_what_an_arm_changes_of_the_training():
    assert ARMS["uniform"].training() == {}
    assert ARMS["random-reward"].training() == {"reward": "random"}
    assert Arm(advantage="rejection").training() == {"advantage": "rejection"}


def test_the_study_profile_has_problems_enough_in_the_recorded_run():
    study = profile.load_profile("study")
    given = records.load_problems(ROOT / "data" / "recorded" / "filtered.parquet")
    # No chain was kept there, and a third of the real ones is too few; so are the easy ones.
    few = ("chains", "disjoint", "real-few", "smooth")
    names = [name for name in ARMS if name not in few]
    plans = arm_plans(ARMS, given, study, range(4), names)
    often = max(plan.problem_id.value_counts().max() for plan in plans.values())
    assert often <= study.curriculum.repeats < 10


@pytest.mark.parametrize(
    "text",
    [
        b"uniform: {shedule: hard}",
        b"uniform: {share: 2.0}",
        b"- uniform",
        b"uniform: [",
        # Latin-1, not UTF-8.
        b"j\xfcrgen: {schedule: hard}",
    ],
)
def test_a_broken_file_of_arms_is_refused(tmp_path, text):
    (tmp_path / "arms.yaml").write_bytes(text)
    with pytest.raises(ArmError, match="is not a list of arms"):
        load_arms(path=tmp_path / "arms.yaml")


def finished(run, arm, seed, extra):
    """A run folder with the least that `collect_study` needs."""
    run.mkdir(parents=True)
    given = made()
    held = next(p for p in given if p.split == "held_out")
    records.save_problems(given, run / "filtered.parquet")
    row = {"set": "synthetic", "problem_id": f"synthetic/{held.id}", "n": 4, "solved": 1}
    rows = [row, {**row, "set": "maths", "problem_id": "maths/1"}]
    scores = pd.DataFrame([{**r, "checkpoint": "after", "samples": [], **extra} for r in rows])
    scores.to_parquet(run / "evaluation.parquet")
    pd.DataFrame({"step": [1], "reward": 0.5}).to_parquet(run / "train.parquet")
    pd.DataFrame({"bin": ["easy"], "problem_id": ["a"]}).to_parquet(run / "plan.parquet")
    stages = {"06_evaluation": {"finished": "today"}}
    (run / "manifest.json").write_text(json.dumps({"profile": CPU.model_dump(), "stages": stages}))
    (run / "arm.json").write_text(json.dumps({"arm": arm, "seed": seed}))


def test_scores_know_the_snippet_and_keep_what_newer_runs_count(tmp_path):
    counted = {"malformed": 2, "lenient": 3, "seed_id": "snippet"}
    finished(tmp_path / "easy" / "0", "easy", 0, counted)
    finished(tmp_path / "easy" / "1", "easy", 1, {})
    scores = collect_study(tmp_path)["scores"]
    synthetic = scores[scores["set"] == "synthetic"]
    assert set(synthetic.bin) == {"easy"} and scores[scores["set"] == "maths"].bin.isna().all()
    assert scores[scores.seed == 0].lenient.tolist() == [3, 3]
    assert set(scores[scores.seed == 0].seed_id) == {"snippet"}
    assert scores[scores.seed == 1].lenient.isna().all(), "an older run has none"


def test_a_folder_without_an_arm_is_no_run(tmp_path, capsys):
    for seed in (0, 1):
        finished(tmp_path / "easy" / str(seed), "easy", seed, {})
    (tmp_path / "easy" / "1" / "arm.json").unlink()
    assert set(collect_study(tmp_path)["scores"].seed) == {0} and not capsys.readouterr().out


@pytest.mark.parametrize("lost", [*NEEDED, "end of notebook 06"])
def test_a_half_written_run_is_left_out_by_name(tmp_path, capsys, lost):
    for seed in (0, 1, 2):
        finished(tmp_path / "easy" / str(seed), "easy", seed, {})
    assert collect_study(tmp_path)["scores"].seed.nunique() == 3 and not capsys.readouterr().out
    if (path := tmp_path / "easy" / "1" / lost).exists():
        path.unlink()
    # What failed in notebook 06 may have written its table before.
    else:
        stages = {"06_evaluation": {"seconds": 9.0}}
        manifest = {"profile": CPU.model_dump(), "stages": stages}
        path.with_name("manifest.json").write_text(json.dumps(manifest))
    assert set(collect_study(tmp_path)["scores"].seed) == {0, 2}
    said = capsys.readouterr().out
    assert f"not finished, so left out: 1 of 3 runs: easy/1 (no {lost})" in said
