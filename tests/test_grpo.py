"""Rewards, advantages and the plan as TRL reads them.

TRL's own step is run by tests/test_notebooks.py.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerState

from kit import environments, grpo
from kit.core import profile
from kit.core.records import Log, RecordError, read_parquet, write_parquet
from kit.core.types import Problem
from kit.rollouts import ROLLOUT, first_and_second_half, pass_rates_over_training, read_rollouts
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


class FakeTokenizer:
    all_special_ids = [0, 1]


def logged(folder, steps):
    """A training's reward function and callback for some steps; each: texts and their token ids.

    Two groups of two; the second one is of another problem.
    """
    health = grpo.Health(folder / "train.jsonl")
    state = TrainerState(is_world_process_zero=True, max_steps=9)
    args = SimpleNamespace(use_vllm=False)
    health.on_train_begin(args, state, None, processing_class=FakeTokenizer())
    with Sandbox(workers=2) as box:
        reward = grpo.reward_function([DOUBLE, INVERSE], ENVS, box, health)
        for step, texts, ids in steps:
            reward(
                prompts=None,
                completions=[[{"role": "assistant", "content": text}] for text in texts],
                completion_ids=ids,
                problem_id=[DOUBLE.id] * 2 + [INVERSE.id] * 2,
                environment=["deduction"] * 2 + ["abduction"] * 2,
                bin=["easy"] * 2 + ["hard"] * 2,
                slot=[0, 0, 1, 1],
                trainer_state=TrainerState(global_step=step - 1),
                log_metric=lambda *_: None,
            )
    health.on_train_end()
    return read_rollouts(folder / "rollouts.jsonl")


def test_a_vllm_in_the_training_s_process_draws_by_the_training_s_seed(tmp_path):
    state = TrainerState(is_world_process_zero=False, max_steps=9)
    drawn = []
    for seed in (1, 1, 2):
        # As vLLM does, when the trainer is made.
        torch.manual_seed(0)
        args = SimpleNamespace(use_vllm=True, seed=seed, process_index=0)
        health = grpo.Health(tmp_path / "train.jsonl")
        health.on_train_begin(args, state, None, processing_class=FakeTokenizer())
        drawn.append(torch.rand(()).item())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_training_without_a_signal_says_so(tmp_path, capsys):
    texts = ["<answer>6</answer>", "<answer>6</answer>", "<b>six</b>", "<answer>none</answer>"]
    ids = [[5, 1]] * 4
    logged(tmp_path / "short", [(step, texts, ids) for step in range(1, 10)])
    assert "warning" not in capsys.readouterr().out
    logged(tmp_path / "long", [(step, texts, ids) for step in range(1, 11)])
    out = capsys.readouterr().out
    assert "warning: 100% of the groups of the last 10 steps have equal rewards" in out


def test_every_answer_is_kept_with_its_verdict(tmp_path):
    texts = ["<answer>6</answer>", "<answer>7</answer>", "<b>six</b> \ud800", "<answer>3</answer>"]
    rollouts = logged(tmp_path, [(1, texts, [[5, 1], [5, 6, 7], [5], [5, 0]])])
    assert list(rollouts.columns) == ROLLOUT
    assert rollouts.answer.tolist() == [*texts[:2], "<b>six</b> \ufffd", texts[3]]
    assert rollouts.reward.tolist() == [1, 0, 0, 1] and rollouts.tokens.tolist() == [2, 3, 1, 2]
    assert rollouts.reason.tolist() == ["", "wrong", "no answer in the asked form", ""]
    assert rollouts.malformed.tolist() == [False, False, True, False]
    assert rollouts.cut_off.tolist() == [False, True, True, False]
    assert rollouts.problem_id.tolist() == [DOUBLE.id] * 2 + [INVERSE.id] * 2
    assert rollouts.slot.tolist() == [0, 0, 1, 1] and set(rollouts.step) == {1}
    write_parquet(rollouts, tmp_path / "rollouts.parquet")
    assert read_parquet(tmp_path / "rollouts.parquet").answer[2] == "<b>six</b> \ufffd"


def test_of_a_step_done_twice_the_later_answers_count(tmp_path):
    right, wrong, ids = ["<answer>6</answer>"] * 4, ["<answer>no</answer>"] * 4, [[5, 1]] * 4
    logged(tmp_path, [(1, wrong, ids), (2, wrong, ids), (3, wrong, ids)])
    # Killed while it wrote: half a line is left, and step 3 is done again.
    with (tmp_path / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 4, "rollouts": [{"ans')
    rollouts = logged(tmp_path, [(3, right, ids), (4, wrong, ids)])
    assert rollouts.step.tolist() == sorted([1, 2, 3, 4] * 4)
    rates = pass_rates_over_training(rollouts)
    double = rates[rates.problem_id == DOUBLE.id]
    assert double.p.tolist() == [0, 0, 1, 0] and double.draw.tolist() == [1, 2, 3, 4]
    # The second problem is another one with the same answer; each counts once.
    halves = first_and_second_half(rates).set_index("problem_id")
    assert (halves.before[DOUBLE.id], halves.after[DOUBLE.id]) == (0, 0.5) and len(halves) == 2
    assert first_and_second_half(rates[rates.step < 2]).empty
    with (tmp_path / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 5, "rollouts": [{"answer": "x"\n')
    with pytest.raises(RecordError, match="line 6"):
        read_rollouts(tmp_path / "rollouts.jsonl")


def test_a_lost_answer_is_no_zero_in_a_pass_rate(tmp_path):
    nothing = pass_rates_over_training(read_rollouts(tmp_path / "none.jsonl"))
    assert nothing.empty and first_and_second_half(nothing).empty
    texts, ids = ["<answer>6</answer>"] * 4, [[5, 1]] * 4
    rollouts = logged(tmp_path, [(1, texts, ids)])
    rollouts.loc[0, "reward"] = None
    rollouts.loc[2:, "reward"] = None
    rates = pass_rates_over_training(rollouts).set_index("slot")
    assert (rates.n[0], rates.solved[0], rates.errors[0], rates.p[0]) == (1, 1, 1, 1)
    assert rates.n[1] == 0 and rates.errors[1] == 2 and math.isnan(rates.p[1])
