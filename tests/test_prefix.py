"""Each prompt once per group: the same numbers as TRL's own path, with a tiny model made here.

`prefix.shared` changes where keys and values come from, not what is sampled or learned.
"""

from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch

from kit import controls, prefix
from kit.commands import runner
from kit.core import profile
from kit.core import trainer as known
from kit.core.manifest import RunError

EOS = 0


def tokenizer():
    """Numbers from 1 to 40 as words: no model has to be fetched."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = {"<eos>": EOS} | {str(n): n for n in range(1, 41)}
    raw = Tokenizer(models.WordLevel(names, unk_token="1"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    found = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<eos>")
    found.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    return found


def policy(**more):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": 41}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, **heads, **more))


PROMPTS = ["5 6 7 8 9 10 11", "12 13 14", "5 6 7 8 9 10 30", "20"]


def make(folder, once, *, group=4, batch=8, model=None, trainer=None, prompts=PROMPTS, **more):
    """A trainer of TRL, or ours; its reward is the share of even words."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    def reward(completion_ids, **_):
        return [sum(i % 2 == 0 for i in ids) / len(ids) for ids in completion_ids]

    chosen = {"bf16": False, "temperature": 0.7, "beta": 0.0, "max_steps": 1} | more
    config = GRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=group * len(prompts) // batch,
        num_generations=group,
        max_completion_length=6,
        scale_rewards="none",
        loss_type="dr_grpo",
        learning_rate=1e-2,
        shuffle_dataset=False,
        gradient_checkpointing=chosen.pop("gradient_checkpointing", False),
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **chosen,
    )
    kind = trainer or GRPOTrainer
    rows = [{"prompt": [{"role": "user", "content": text}]} for text in prompts]
    return (prefix.shared(kind) if once else kind)(
        model=model or policy(),
        processing_class=tokenizer(),
        args=config,
        reward_funcs=reward,
        train_dataset=Dataset.from_list(rows),
    )


def batch_of(group, prompts=PROMPTS, answers=6):
    """What TRL hands to the loss: prompts padded left, answers of all lengths padded right."""
    torch.manual_seed(1)
    words = [[int(word) for word in text.split()] for text in prompts for _ in range(group)]
    length = max(map(len, words))
    lengths = torch.randint(1, answers + 1, (len(words), 1))
    lengths[0] = answers
    answered = (torch.arange(answers) < lengths).long()
    return {
        "prompt_ids": torch.tensor([[EOS] * (length - len(row)) + row for row in words]),
        "prompt_mask": torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in words]),
        "completion_ids": torch.randint(1, 41, (len(words), answers)) * answered,
        "completion_mask": answered,
        "advantages": torch.randn(len(words)),
        "num_items_in_batch": answered.sum(),
    }


def scores(trainer, batch, **more):
    ids, mask = (
        torch.cat([batch[f"prompt_{name}"], batch[f"completion_{name}"]], dim=1)
        for name in ("ids", "mask")
    )
    return trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, mask, batch["completion_ids"].size(1), compute_entropy=True, **more
    )


def gradients(trainer, batch):
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    grads = {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}
    return loss.detach(), grads


@pytest.fixture
def seen(monkeypatch):
    """Shapes (rows, tokens) of all that the tiny models read."""
    from transformers import Qwen2Model

    shapes, forward = [], Qwen2Model.forward

    def watched(self, input_ids=None, **more):
        shapes.append(tuple(input_ids.shape))
        return forward(self, input_ids=input_ids, **more)

    monkeypatch.setattr(Qwen2Model, "forward", watched)
    return shapes


def close(one, other):
    torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-6)


def test_the_installed_trl_is_known():
    assert version("trl") in known.TRL_VERSIONS


def test_an_unknown_trl_is_refused_by_name_before_any_compute(monkeypatch, tmp_path):
    monkeypatch.setattr(known, "version", lambda name: "9.9.9")
    with pytest.raises(RunError, match=r"TRL 9\.9\.9 is installed.* TRL 1\.16\.0"):
        prefix.shared(object)
    # The runner says it before notebook 01, not after the hours of notebook 02.
    with pytest.raises(RunError, match=r"TRL 9\.9\.9 is installed"):
        runner.run_notebooks("smoke", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("group", [4, 8])
def test_log_probs_loss_and_gradients_are_trls_own(tmp_path, seen, group, attention):
    batch = batch_of(group)
    own = make(tmp_path, False, group=group, model=policy(attn_implementation=attention))
    ours = make(tmp_path, True, group=group, model=policy(attn_implementation=attention))
    for one, other in zip(scores(own, batch)[:2], scores(ours, batch)[:2], strict=True):
        assert one.abs().sum() > 0
        close(other, one)
    (loss, grads), (our_loss, our_grads) = gradients(own, batch), gradients(ours, batch)
    close(our_loss, loss)
    assert len(grads) == len(our_grads) == len(list(own.model.parameters()))
    close(our_grads, grads)
    # Four prompts of at most seven tokens, of which the last one belongs to the answers.
    assert seen == [(4 * group, 13), (4, 6), (4 * group, 7)] * 2


def test_rows_in_any_order_and_a_part_of_a_group_are_computed_once_too(tmp_path):
    batch = batch_of(4)
    rows = torch.randperm(16)[:11]
    torn = {name: value[rows] if value.ndim else value for name, value in batch.items()}
    close(scores(make(tmp_path, True), torn)[:2], scores(make(tmp_path, False), torn)[:2])


def test_in_parts_that_fit_into_memory(tmp_path, seen):
    batch = batch_of(4)
    own, ours = make(tmp_path, False), make(tmp_path, True)
    close(scores(ours, batch, batch_size=8)[:2], scores(own, batch)[:2])
    assert seen == [(8, 13)] * 2 + [(16, 13)], "each part as TRL does it"
    close(scores(ours, batch, batch_size=16)[:2], scores(own, batch)[:2])
    assert seen[3:] == [(4, 6), (16, 7), (16, 13)], "what fits as a whole is no part"


@pytest.mark.parametrize("prompts", [PROMPTS, ["7"] * 1])
def test_one_row_per_prompt_or_one_token_goes_trls_way(tmp_path, seen, prompts):
    batch = batch_of(1 if len(prompts) > 1 else 4, prompts)
    own, ours = make(tmp_path, False), make(tmp_path, True)
    assert torch.equal(scores(own, batch)[0], scores(ours, batch)[0])
    assert seen[0] == seen[1] and len(seen) == 2
    assert ours.shares, "the next batch may hold whole groups"


def frozen():
    """As `grpo.load_policy` leaves a policy: frozen parts in bfloat16, the rest in float32."""
    model = policy()
    for part in (*model.model.layers[:-1], model.model.embed_tokens):
        part.to(torch.bfloat16).requires_grad_(False)
    model.generate = torch.autocast("cpu", torch.bfloat16)(model.generate)
    return model


def test_partly_frozen_under_autocast(tmp_path, seen):
    batch = batch_of(4)
    own = make(tmp_path, False, model=frozen(), bf16=True)
    ours = make(tmp_path, True, model=frozen(), bf16=True)
    (loss, grads), (our_loss, our_grads) = gradients(own, batch), gradients(ours, batch)
    assert seen == [(16, 13), (4, 6), (16, 7)]
    assert grads.keys() == our_grads.keys() and len(grads) < len(list(own.model.parameters()))
    one, other = (
        torch.cat([g.float().flatten() for g in found.values()]) for found in (grads, our_grads)
    )
    # Two orders of summation in bfloat16.
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.999
    assert other.norm() == pytest.approx(one.norm().item(), rel=0.02)
    torch.testing.assert_close(our_loss, loss, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("temperature", [1e-4, 0.7])
@pytest.mark.parametrize("bf16", [False, True])
def test_rollouts_are_trls_own(tmp_path, seen, temperature, bf16):
    """At nearly zero the likeliest words; above it the same draws from the same seed."""
    ids = [[int(word) for word in text.split()] for text in PROMPTS for _ in range(4)]
    found = []
    for once in (False, True):
        trainer = make(tmp_path, once, temperature=temperature, bf16=bf16)
        torch.manual_seed(3)
        found.append(trainer._generate_single_turn(ids, None, {}, 4)[0])
        assert trainer.model.generate.__name__ == "generate", "the model is left as it was"
    assert found[0] == found[1]
    assert len({len(answer) for answer in found[0]}) > 1 or temperature < 0.1
    assert seen.count((16, 7)) == 1 and seen.count((4, 6)) == 1


@pytest.mark.parametrize("batch", [4, 8, 16])
def test_a_whole_training_is_trls_own(tmp_path, seen, batch):
    """Accumulation too: TRL shuffles rollouts over its batches, ours keeps groups together."""
    weights = []
    for once in (False, True):
        seen.clear()
        trainer = make(tmp_path, once, batch=batch, max_steps=3, optim="sgd")
        trainer.train()
        weights.append(dict(trainer.model.named_parameters()))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-5)
    prompts = [rows for rows, tokens in seen if tokens == 6]
    # A step: four prompts for the rollouts, and four over all batches of the update.
    assert sum(prompts) >= 3 * (4 + 4)
    assert all(rows in (4, batch // 4) for rows in prompts)
    moved = [not torch.equal(weights[1][n], p) for n, p in policy().named_parameters()]
    assert all(moved)


def test_with_rejection(tmp_path):
    from trl import GRPOTrainer

    numbers = profile.load_profile("cpu").grpo.model_copy(update={"advantage": "rejection"})
    both = prefix.shared(controls.trainer_by(numbers, GRPOTrainer))
    assert [kind.__name__ for kind in both.__mro__][:4] == [
        "OncePerPrompt",
        "_OncePerPrompt",
        "Rejection",
        "GRPOTrainer",
    ]
    trainer = make(tmp_path, True, trainer=controls.trainer_by(numbers, GRPOTrainer))
    trainer.train()
    assert trainer.state.log_history


def test_a_cache_of_a_window_cannot_be_repeated(tmp_path, seen, capsys):
    window = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
    batch = batch_of(4)
    own = make(tmp_path, False, model=policy(**window))
    ours = make(tmp_path, True, model=policy(**window))
    for _ in range(2):
        assert torch.equal(scores(own, batch)[0], scores(ours, batch)[0])
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if "once per rollout" in line] == [
        "The cache of this model cannot be repeated: each prompt is computed once per rollout, "
        "as TRL does."
    ]
    assert seen == [(16, 13), (4, 6), (16, 13), (16, 13), (16, 13)], "it is tried once"


def test_recompute_keeps_trls_loss_and_rollouts(tmp_path, seen, capsys):
    trainer = make(tmp_path, True, gradient_checkpointing=True, batch=16)
    printed = capsys.readouterr().out
    assert "Recompute keeps no cache: each prompt is computed once per rollout" in printed
    trainer.train()
    assert seen[0] == (16, 7), "rollouts start from whole prompts"
    assert seen[-1][1] > 7 and (4, 6) not in seen


class FakeTrainer:
    """What TRL's trainer says of itself once it is made."""

    is_fsdp_enabled = is_deepspeed_enabled = False
    args = SimpleNamespace(gradient_checkpointing=False)
    accelerator = SimpleNamespace(is_main_process=True)


@pytest.mark.parametrize(
    ("what", "shares", "sentence"),
    [
        ({}, True, ""),
        ({"is_fsdp_enabled": True}, False, "The weights lie in shards: each prompt is"),
        ({"is_deepspeed_enabled": True}, False, "The weights lie in shards: each"),
    ],
)
def test_what_cannot_be_shared_is_said_at_the_start(capsys, what, shares, sentence):
    trainer = prefix.shared(type("Fake", (FakeTrainer,), what))()
    assert trainer.shares == shares
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == bool(sentence) and sentence in "".join(printed)


def test_groups_come_together():
    batch = batch_of(4, PROMPTS[:2])
    rows = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])
    torn = [
        {name: value[part] if value.ndim else value for name, value in batch.items()}
        for part in rows.split(4)
    ]
    whole = prefix._together(torn)
    for k, one in enumerate(whole):
        for name, value in batch.items():
            assert torch.equal(one[name], value[4 * k : 4 * k + 4] if value.ndim else value)


def test_a_word_that_pads_is_a_word_where_it_is_in_the_prompt():
    ids, mask = torch.tensor([[EOS, 5], [EOS, 5], [EOS, 5]]), torch.tensor([[0, 1], [1, 1], [0, 1]])
    assert prefix._same(ids, mask) == [0, 1, 0]
