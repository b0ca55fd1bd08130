"""The controls: a coin for a reward, and right rollouts alone."""

from types import SimpleNamespace

import pytest
import torch

from kit import controls
from kit.core import profile

VERIFIED = profile.load_profile("cpu").grpo
RANDOM = VERIFIED.model_copy(update={"reward": "random"})
REJECTION = VERIFIED.model_copy(update={"advantage": "rejection"})


def given(prompts, completions, problem_id, trainer_state, log_metric=None):
    """A sandbox that knows: the completion is its own verdict. It gets all that TRL gives."""
    assert len(problem_id) == len(completions) and trainer_state.global_step
    if log_metric:
        log_metric("solved/all", 0.5)
    return completions


def rewards(completions, seed=0, step=1, numbers=RANDOM, **more):
    state = SimpleNamespace(global_step=step)
    reward = controls.reward_by(numbers, given, seed)
    ids = [f"p{k // 4}" for k in range(len(completions))]
    return reward(None, completions, problem_id=ids, trainer_state=state, **more)


def test_a_coin_does_not_know_the_answer_but_keeps_what_was_lost():
    right, wrong = [1.0] * 4000, [0.0] * 4000
    tossed = rewards(right)
    assert tossed == rewards(wrong), "the same coins, whatever the answers are"
    assert set(tossed) == {0.0, 1.0} and abs(sum(tossed) / 4000 - 0.5) < 0.03
    assert sum(one != other for one, other in zip(tossed[::4], tossed[1::4])) > 400, (
        "within a group they differ"
    )
    assert rewards([1.0, None, 0.0, None])[1::2] == [None, None]
    assert rewards(right) != rewards(right, step=2) != rewards(right, seed=1, step=2)
    seen = {}
    rewards(right, log_metric=seen.__setitem__)
    assert seen == {"solved/all": 0.5}, "the log still says what was solved"


def test_the_verdict_is_handed_on_as_it_is():
    assert controls.reward_by(VERIFIED, given, 0) is given
    assert controls.trainer_by(VERIFIED, object) is object


class FakeTrainer:
    """What TRL does: rewards of all processes, advantages of its own rollouts."""

    def __init__(self, earned, process):
        self.given = torch.tensor(earned).unsqueeze(1)
        self.accelerator = SimpleNamespace(process_index=process)

    def _calculate_rewards(self, inputs, prompts, completions, ids):
        return self.given

    def _generate_and_score_completions(self, inputs):
        earned = self._calculate_rewards(inputs, None, None, None)[:, 0].view(-1, 4)
        group = (earned - earned.nanmean(dim=1, keepdim=True)).nan_to_num(0.0).view(-1)
        own = slice(4 * self.accelerator.process_index, 4 * self.accelerator.process_index + 4)
        return {"advantages": group[own], "other": 1}


@pytest.mark.parametrize(("process", "expected"), [(0, [1, 1, 1, 1]), (1, [1, 0, 0, 0])])
def test_rejection_pushes_right_rollouts_alone_also_where_all_are_right(process, expected):
    earned = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, float("nan"), 0.0]
    trainer = controls.trainer_by(REJECTION, FakeTrainer)(earned, process)
    scored = trainer._generate_and_score_completions([])
    assert scored["advantages"].tolist() == expected and scored["other"] == 1
    group = FakeTrainer(earned, process)._generate_and_score_completions([])["advantages"].tolist()
    assert group != expected


def words():
    """A tokenizer of whole words, made here, so that TRL's own step needs no model."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<eos>", "<unk>", "right", "wrong", "say"]
    raw = Tokenizer(models.WordLevel(dict(zip(names, range(5))), unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    found = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<eos>")
    found.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("advantage", "said", "moved"),
    [
        ("group", "right right right right", 0),
        ("rejection", "right right right right", 1),
        ("rejection", "wrong wrong wrong wrong", 0),
        ("rejection", "right wrong wrong wrong", 1),
    ],
)
def test_trls_own_step_moves_the_policy_towards_right_rollouts(tmp_path, advantage, said, moved):
    from datasets import Dataset
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True}
    policy = Qwen2ForCausalLM(Qwen2Config(vocab_size=5, **sizes, **heads))
    tokenizer = words()
    config = GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        max_steps=1,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=4,
        learning_rate=1e-2,
        beta=0.0,
        scale_rewards="none",
        loss_type="dr_grpo",
        report_to="none",
        save_strategy="no",
        logging_steps=1,
    )

    def reward(completions, **_):
        return [float(c[0]["content"].strip() == "right") for c in completions]

    numbers = VERIFIED.model_copy(update={"advantage": advantage})
    trainer = controls.trainer_by(numbers, GRPOTrainer)(
        model=policy,
        processing_class=tokenizer,
        args=config,
        reward_funcs=reward,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "say"}]}]),
    )
    answers = [tokenizer(word)["input_ids"] + [0] for word in said.split()]
    trainer._generate_single_turn = lambda *_, **__: (answers, None)

    def chance():
        with torch.no_grad():
            return policy(torch.tensor([[4]])).logits[0, -1].log_softmax(-1)[2].item()

    before = chance()
    trainer.train()
    print(advantage, said, before, chance())
    assert (chance() - before > 1e-3) if moved else chance() == pytest.approx(before, abs=1e-6)
