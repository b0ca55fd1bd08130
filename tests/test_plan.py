"""The cost model agrees with what was measured, and every profile can be planned."""
import pytest

from kit import plan, profile


def test_the_cpu_profile_costs_what_was_measured():
    rows = plan.stages(profile.load("cpu"), plan.DEVICES["cpu"]).set_index("stage")
    minutes = rows.hours * 60
    measured = {"GRPO": 7.6, "evaluation": 3.9}                    # README: notebooks 05 and 06 of `make run`
    for stage, real in measured.items():
        assert real / 3 < minutes[stage] < real * 3, (stage, minutes[stage])
    assert 13.5 / 3 < minutes.teacher + minutes.student < 13.5 * 3, minutes    # notebook 02
    assert rows.memory_gb.max() < 16


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_can_be_planned(name):
    loaded = profile.load(name)
    rows = plan.stages(loaded, plan.DEVICES["80gb"])
    assert (rows.hours > 0).all() and 0 < plan.disk_gb(loaded) <= 2 * loaded.needs.disk_gb


def test_more_attempts_cost_more_and_only_the_student():
    few, many = (plan.stages(profile.load("cpu", {"rounds.attempts": m}), plan.DEVICES["cpu"]).set_index("stage").hours for m in (8, 32))
    assert many.student > 3 * few.student and many.teacher == few.teacher


@pytest.mark.parametrize("name, size", [("qwen2.5-coder-0.5b-instruct", (0.5, 0.5)), ("smollm2-135m-instruct", (0.135, 0.135)),
                                        ("openai/gpt-oss-120b", (120, 5.1)), ("meta-llama/Llama-3.1-8B-Instruct", (8, 8))])
def test_sizes_from_names(name, size):
    assert plan.billions(name) == pytest.approx(size)


def test_a_name_without_a_size_is_said():
    with pytest.raises(plan.PlanError, match="my-model"):
        plan.billions("somebody/my-model")
