"""GRPO by hand, as notebook 05 writes it, takes the steps of the trainer that the kit configures.

The cells of the notebook are run here, on a tiny policy of the small policy's architecture.
"""

import json
import math
import random
from types import SimpleNamespace

import datasets
import nbformat
import pandas as pd
import pytest
import torch
import transformers

from kit import controls, environments, grpo, prefix
from kit.core import profile
from kit.core.types import Verdict
from kit.mini.policy import Recipe, draw_example, make_model, make_tokenizer
from kit.serving import models
from tests.house import ROOT

CELLS = {
    cell.id: cell.source for cell in nbformat.read(ROOT / "notebooks" / "05_grpo.ipynb", 4).cells
}
# Four problems a step, as the loop by hand has them, in one batch.
MINI = profile.load_profile("mini", {"grpo.prompts_per_step": 4, "grpo.batch": 32})
NUMBERS = MINI.grpo


class FakeBox:
    """The tests' grader runs no program."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Recorder:
    """Instead of an optimiser: the gradients of each step, as clipped."""

    def __init__(self, model):
        self.model, self.steps = model, []

    def step(self):
        self.steps.append({n: p.grad.clone() for n, p in self.model.named_parameters()})

    def zero_grad(self):
        self.model.zero_grad()


@pytest.fixture(scope="module")
def words():
    return make_tokenizer(0)


@pytest.fixture
def problems():
    rng = random.Random(3)
    names = ("deduction", "abduction", "induction", "deduction", "abduction", "deduction")
    return [draw_example(rng, name, 1 + k % 2) for k, name in enumerate(names)]


def fake_rewards(triples):
    """1, 0 or a loss of ours, by the length of the answer: groups are mixed."""
    kinds = {0: Verdict("passed"), 1: Verdict("failed"), 2: Verdict("failed"), 3: Verdict("error")}
    return [kinds[len(text) % 4] for _, _, text in triples]


def by_hand(words, problems, steps=1):
    """What the notebook's cells leave behind, and all that its policy wrote."""
    model = make_model(Recipe(width=32, layers=2), words)
    said, generate = [], model.generate

    def watched(**options):
        ids = generate(**options)
        said.append(ids[:, options["input_ids"].shape[1] :])
        return ids

    model.generate = watched
    space = {
        "torch": torch,
        "random": random,
        "pd": pd,
        "policy": model,
        "words": words,
        "stock": [],
        "mini": MINI,
        "mini_envs": environments.make(MINI.rounds),
        "G": NUMBERS.group_size,
        "most": NUMBERS.max_tokens,
        "pool": problems,
        "steps_by_hand": 0,
        "run": SimpleNamespace(seed=0, box=FakeBox),
        "progress": lambda iterable, desc: iterable,
        "grade_all": lambda triples, box: fake_rewards(triples),
    }
    for cell in ("scratch-sample", "scratch-grade", "scratch-loss"):
        exec(CELLS[cell], space)
    torch.manual_seed(1)
    recorder = Recorder(model)
    losses, loss_of = [], space["my_loss"]
    space |= {
        "steps_by_hand": steps,
        "my_loss": lambda *a: losses.append(loss_of(*a)) or losses[-1],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", lambda *_, **told: space.update(told=told) or recorder)
        exec(CELLS["scratch-loop"], space)
    del model.generate
    return SimpleNamespace(model=model, said=said, losses=losses, space=space, steps=recorder.steps)


def trainer_of(hand, words, tmp_path, chosen):
    """TRL's trainer by the cells of the notebook, which is handed the rollouts of the loop."""
    space = {
        "run": SimpleNamespace(
            path=lambda name: tmp_path / name, train_seed=0, on_cpu=True, profile=MINI
        ),
        "numbers": NUMBERS,
        "plan": SimpleNamespace(step=SimpleNamespace(nunique=lambda: 1)),
        "rollout_options": lambda run: {},
    }
    exec(CELLS["cell-12"], space)
    rewards = [verdict.reward for verdict in fake_rewards(texts_of(hand, words))]
    space["config"].save_strategy = "no"
    rows = [
        {"prompt": hand.space["mini_envs"][p.environment].solve_prompt(p), "problem_id": p.id}
        for p in chosen
    ]
    trainer = prefix.shared(controls.trainer_by(NUMBERS, space["GRPOTrainer"]))(
        model=hand.model,
        processing_class=words,
        args=space["config"],
        reward_funcs=lambda completions, **_: rewards,
        train_dataset=datasets.Dataset.from_list(rows),
    )
    return trainer


def texts_of(hand, words):
    texts = words.batch_decode(hand.said[0], skip_special_tokens=True)
    return [(None, None, text) for text in texts]


def test_loss_and_gradients_are_those_of_the_trainer(words, problems, tmp_path):
    hand = by_hand(words, problems)
    chosen = hand.space["chosen"]
    rewards = hand.space["rewards"]
    mixed = (hand.space["my_advantages"](rewards) != 0).any(1)
    assert mixed.sum() >= 2 and rewards.isnan().any(), "something to learn, and something lost"
    ends = (hand.said[0] == words.eos_token_id).any(1)
    assert ends.any() and not ends.all(), "answers that end, and answers that are cut off"

    trainer = trainer_of(hand, words, tmp_path, chosen)

    def same_rollouts(ids, *_, **__):
        first = [row.tolist() for row in hand.said[0]]
        end = words.eos_token_id
        return [row[: row.index(end) + 1] if end in row else row for row in first], None

    trainer._generate_single_turn = same_rollouts
    seen = {}

    class Look(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, *_, model, **__):
            seen.update({n: p.grad.clone() for n, p in model.named_parameters()})

    trainer.add_callback(Look())
    trainer.train()
    told = next(row for row in trainer.state.log_history if "loss" in row)
    assert told["loss"] == pytest.approx(hand.losses[0].item(), abs=2e-4), "it logs four digits"
    (mine,) = hand.steps
    assert mine.keys() == seen.keys() and max(g.abs().max() for g in seen.values()) > 1e-3
    for name, gradient in seen.items():
        torch.testing.assert_close(mine[name], gradient, rtol=1e-3, atol=1e-6, msg=name)
    assert hand.space["told"] == {"weight_decay": trainer.args.weight_decay}
    assert trainer.args.learning_rate == MINI.grpo.learning_rate


def test_a_lost_answer_gets_no_advantage_and_does_not_count(words, problems):
    hand = by_hand(words, problems, steps=0)
    rows = [[1.0, 0.0, math.nan, 0.0], [1.0, 1.0, math.nan, 1.0]]
    found = hand.space["my_advantages"](torch.tensor(rows)).tolist()
    assert found == [pytest.approx(grpo.advantages([1.0, 0.0, None, 0.0])), [0, 0, 0, 0]]


def test_without_the_small_policy_the_section_says_so_and_is_left_out(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setitem(models.SMALL_POLICIES, "mini", tmp_path)
    space = {
        "SCRATCH_STEPS": None,
        "numbers": NUMBERS,
        "grpo": grpo,
        "environments": environments,
        "run": SimpleNamespace(seed=0, box=FakeBox),
    }
    for name in [name for name in CELLS if name.startswith("scratch-")]:
        if not name.endswith(("-text", "-card")):
            exec(CELLS[name], space)
    said = capsys.readouterr().out
    assert "this section is skipped" in said and "python -m kit models --make mini" in said
    assert space["asked_twice"].empty and not space["one"]


def test_the_section_names_this_file():
    assert "tests/test_scratch.py" in CELLS["scratch-loop-text"]
    assert json.dumps(CELLS).count("def my_loss") == 1
