"""GRPO that computes a prompt once for all of its rollouts: a thin layer over TRL's own trainer.

A group is G answers to one prompt. TRL computes that prompt G times to draw them, and G times more
for the loss. Here it is computed once, and its keys and values (the cache) are repeated: answers
are drawn from there, and the loss' gradient flows back through them into the one prompt. What is
sampled and learned is the same but for rounding; tests/bench/prefix.py says what it saves.
"""

from functools import partial
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

from kit.core.trainer import check_trainer

# `shared` puts a trainer of TRL in its place.
_TRAINER: Any = object


def shared(trainer: type) -> type:
    """A trainer that computes each distinct prompt of a batch once.

    Where that cannot be, it prints one sentence and does as TRL does: weights in shards, a model
    without a cache that can be repeated, `recompute`.

    Args:
        trainer: TRL's GRPOTrainer, or a subclass of it.
    Returns:
        A subclass of it, with the same arguments.
    Raises:
        RunError: this TRL is not known, see core.trainer.
    Source: our choice.
    """
    check_trainer()
    return type("OncePerPrompt", (_OncePerPrompt, trainer), {})


def _same(ids: torch.Tensor, mask: torch.Tensor) -> list[int]:
    """Which distinct prompt each row holds, by first appearance.

    `ids`, `mask`: (rows, tokens), padded left.
    """
    seen: dict[tuple, int] = {}
    rows = ids.masked_fill(mask == 0, -1).tolist()
    return [seen.setdefault(tuple(row), len(seen)) for row in rows]


def _together(batches: list[dict]) -> list[dict]:
    """The same batches, of the same sizes, with the rows of a prompt side by side.

    TRL shuffles the rollouts of a step over its batches, which tears groups apart.
    """
    names = [name for name, value in batches[0].items() if value.ndim]
    whole = {name: torch.cat([batch[name] for batch in batches]) for name in names}
    which = _same(whole["prompt_ids"], whole["prompt_mask"])
    order = sorted(range(len(which)), key=which.__getitem__)
    parts = {name: whole[name][order].chunk(len(batches)) for name in names}
    return [batch | {name: parts[name][k] for name in names} for k, batch in enumerate(batches)]


class _OncePerPrompt(_TRAINER):
    """What differs from TRL's trainer: where a cache comes from, and who uses it."""

    shares = True
    # TRL's: the batches of the last generation.
    _buffered_inputs: Any

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            self._as_trl_does("the weights lie in shards")
        elif self.args.gradient_checkpointing:
            self._as_trl_does("recompute keeps no cache")

    def _as_trl_does(self, why):
        self.shares = False
        if self.accelerator.is_main_process:
            print(f"{why.capitalize()}: each prompt is computed once per rollout, as TRL does.")

    def _cache(self, model, ids, mask, positions=None):
        """The cache of all but the last token of each row; None where nothing can be shared.

        `ids`, `mask`, `positions`: (rows, tokens), padded left; the cache has as many rows.
        """
        which = _same(ids, mask)
        firsts = [which.index(k) for k in range(max(which) + 1)]
        length = ids.size(1) - 1
        if len(firsts) == len(which) or not length:
            return None
        cache = model(
            input_ids=ids[firsts, :-1],
            attention_mask=mask[firsts, :-1],
            position_ids=None if positions is None else positions[firsts, :-1],
            use_cache=True,
            logits_to_keep=1,
        ).past_key_values
        # Only keys and values of all tokens can be repeated: no windows, no states.
        layers = getattr(cache, "layers", [])
        if not layers or any(
            type(layer) is not DynamicLayer or layer.get_seq_length() != length for layer in layers
        ):
            self._as_trl_does("the cache of this model cannot be repeated")
            return None
        cache.batch_select_indices(torch.tensor(which, device=ids.device))
        return cache

    def _prepare_inputs(self, generation_batch):
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is before or not self.shares:
            return inputs
        # A new generation: its groups come together again.
        self._buffered_inputs = _together(self._buffered_inputs)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _generate_single_turn(self, *given, **named):
        # TRL asks the model to generate: in between, the model starts from its prompts' cache.
        model = self.accelerator.unwrap_model(self.model_wrapped)
        own = model.generate
        model.generate = partial(self._generate_from_cache, model, own)
        try:
            return super()._generate_single_turn(*given, **named)
        finally:
            model.generate = own

    def _generate_from_cache(
        self, model, own, input_ids, attention_mask, generation_config, **more
    ):
        plain = not more and generation_config.cache_implementation is None
        if self.shares and plain:
            # The positions that `generate` gives: padding does not count.
            positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
            with self.accelerator.autocast():
                cache = self._cache(model, input_ids, attention_mask, positions)
            more = {} if cache is None else {"past_key_values": cache}
        return own(
            input_ids=input_ids,
            attention_mask=attention_mask,
            generation_config=generation_config,
            **more,
        )

    def _get_per_token_logps_and_entropies(
        self,
        model,
        input_ids,
        attention_mask,
        logits_to_keep,
        batch_size=None,
        compute_entropy=False,
        **more,
    ):
        step = super()._get_per_token_logps_and_entropies
        given = (model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy)
        as_trl = partial(step, *given, **more)
        # Images, or the routers of a mixture of experts.
        special = any(value is not None and value is not False for value in more.values())
        # In parts that fit into memory TRL does it.
        parts = (batch_size or len(input_ids)) < len(input_ids)
        if special or parts or not self.shares:
            return as_trl()
        with self.accelerator.autocast():
            prompts = (part[:, :-logits_to_keep] for part in (input_ids, attention_mask))
            cache = self._cache(self.accelerator.unwrap_model(model), *prompts)
            if cache is None:
                return as_trl()
            # The prompt's last token predicts the first one of the answer: both belong to a row.
            outputs = model(
                input_ids=input_ids[:, -logits_to_keep - 1 :],
                attention_mask=attention_mask,
                past_key_values=cache,
                labels=input_ids.masked_fill(attention_mask == 0, -100)[:, -logits_to_keep - 1 :],
                fused_lm_head=True,
            )
        return outputs.log_probs, outputs.entropy if compute_entropy else None, None
