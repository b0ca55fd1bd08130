"""The cost model agrees with what was measured, and every profile can be planned."""

import pytest

from kit.commands import cost
from kit.core import profile

# README's `make run`: seconds and GB of notebooks 02, 05, 06.
MEASURED = {"rounds": (781, 12.1), "GRPO": (361, 7.1), "evaluation": (199, 5.4)}


def test_the_cpu_profile_costs_what_was_measured():
    # That run had fewer problems to evaluate than the profile asks for.
    had = profile.load_profile("cpu", {"evaluation.training": 19, "evaluation.synthetic": 7})
    rows = cost.cost_by_stage(had, cost.DEVICES["cpu"]).set_index("stage")
    rows.loc["rounds"] = rows.loc["teacher"] + rows.loc["student"]  # both engines side by side
    for stage, (seconds, gb) in MEASURED.items():
        assert rows.hours[stage] * 3600 == pytest.approx(seconds, rel=0.25), stage
        assert rows.memory_gb[stage] == pytest.approx(gb, rel=0.3), stage


@pytest.mark.parametrize("name", profile.profile_names())
def test_every_profile_says_of_itself_what_its_plan_says(name):
    loaded = profile.load_profile(name)
    device = cost.device(loaded)
    rows = cost.cost_by_stage(loaded, device)
    assert cost.disk_gb(loaded) <= loaded.needs.disk_gb
    if loaded.needs.gpus:
        assert loaded.minutes == pytest.approx(60 * rows.hours.sum() / loaded.needs.gpus, rel=0.2)
        assert rows.memory_gb.max() <= device.memory_gb * loaded.needs.gpus


def test_more_attempts_cost_more_and_only_the_student():
    few, many = (
        cost.cost_by_stage(profile.load_profile("cpu", {"rounds.attempts": m}), cost.DEVICES["cpu"])
        .set_index("stage")
        .hours
        for m in (8, 32)
    )
    assert many.student > 1.5 * few.student
    assert many.teacher == few.teacher and many.GRPO == few.GRPO


def test_a_study_trains_again_and_writes_no_new_problems():
    one, six = (
        cost.cost_by_stage(profile.load_profile("cpu"), cost.DEVICES["cpu"], n)
        .set_index("stage")
        .hours
        for n in (1, 6)
    )
    assert six.GRPO == pytest.approx(6 * one.GRPO)
    assert six.evaluation == pytest.approx(3.5 * one.evaluation)
    assert six.teacher == one.teacher


@pytest.mark.parametrize(
    "name, size",
    [
        ("qwen2.5-coder-0.5b-instruct", (0.5, 0.5)),
        ("smollm2-135m-instruct", (0.135, 0.135)),
        ("openai/gpt-oss-120b", (120, 5.1)),
        ("meta-llama/Llama-3.1-8B-Instruct", (8, 8)),
    ],
)
def test_sizes_from_names(name, size):
    assert cost.billions(name) == pytest.approx(size)


def test_what_cannot_be_planned_is_said():
    with pytest.raises(cost.PlanError, match="my-model"):
        cost.billions("somebody/my-model")
    with pytest.raises(cost.PlanError, match="24gb"):
        cost.device(profile.load_profile("cpu"), "abacus")
