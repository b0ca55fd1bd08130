"""Rewards, advantages and the plan as TRL reads them.

TRL's own step is run by tests/test_notebooks.py.
"""

import pytest

from kit import environments, grpo
from kit.core import profile
from kit.core.records import Log
from kit.core.types import Problem
from kit.sandbox import Sandbox

ENVS = environments.make(profile.load_profile("cpu").rounds)
DOUBLE = Problem(
    environment="deduction",
    program="def f(n):\n    return n * 2",
    inputs=["3"],
    outputs=["6"],
    kept=True,
)
INVERSE = Problem(
    environment="abduction",
    program="def f(n):\n    return n * 2",
    inputs=["3"],
    outputs=["6"],
    kept=True,
)


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1, 0, 0, 1], [0.5, -0.5, -0.5, 0.5]),
        ([1, 1, 1], [0, 0, 0]),
        ([0, 0], [0, 0]),
        ([1, 0, None, 0, 0], [0.75, -0.25, 0, -0.25, -0.25]),
        ([None, None], [0, 0]),
    ],
)
def test_advantages(rewards, expected):
    assert grpo.advantages(rewards) == pytest.approx(expected)


def test_rewards_of_a_mixed_batch_are_1_0_or_none_in_order():
    metrics = {}
    with Sandbox(workers=2) as box:
        reward = grpo.reward_function([DOUBLE, INVERSE], ENVS, box)
        texts = ["<answer>6</answer>", "<answer>3</answer>", "<answer>7</answer>", "six"]
        got = reward(
            prompts=None,
            completions=[[{"role": "assistant", "content": t}] for t in texts],
            problem_id=[DOUBLE.id, INVERSE.id, DOUBLE.id, INVERSE.id],
            environment=["deduction", "abduction"] * 2,
            bin=["easy", "hard"] * 2,
            log_metric=metrics.__setitem__,
        )
    assert got == [1.0, 1.0, 0.0, 0.0]
    assert metrics["sandbox_error_share"] == 0
    assert metrics["solved/deduction"] == metrics["solved/hard"] == 0.5


def test_the_dataset_keeps_the_plans_order():
    import pandas as pd

    plan = pd.DataFrame(
        {
            "environment": ["abduction", "deduction"],
            "problem_id": [INVERSE.id, DOUBLE.id],
            "bin": ["easy", "hard"],
        }
    )
    data = grpo.training_dataset(plan, [DOUBLE, INVERSE], ENVS)
    assert data["problem_id"] == [INVERSE.id, DOUBLE.id]
    assert data[0]["prompt"][-1]["role"] == "user"


def test_a_resumed_training_logs_each_step_once(tmp_path):
    log = Log(tmp_path / "train.jsonl")
    for step, reward in ((1, 0.1), (2, 0.2), (3, 0.3), (3, 0.4), (4, 0.5)):
        log.append({"step": step, "reward": reward})
    assert list(grpo.read_log(tmp_path / "train.jsonl").reward) == [0.1, 0.2, 0.4, 0.5]


def test_the_last_whole_checkpoint_is_taken_up_again(tmp_path):
    for step in (8, 16, 24):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if step < 24:  # killed while the last one was written
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert grpo.last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-16")


def test_no_checkpoint_means_a_fresh_start(tmp_path):
    assert grpo.last_checkpoint(tmp_path / "none") is None
    assert grpo.last_checkpoint(tmp_path) is None
