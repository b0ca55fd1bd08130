"""The small policy: tokenizer, architecture, and the warm start that gives it its first skill.

`python -m kit models --make mini` makes it anew: next-token training on worked examples of the four
environments, with the library's trainer. Stop it anywhere and run it again: it goes on.
"""

import hashlib
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Literal

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from kit.core.config import EnvironmentName, StrictModel
from kit.core.prompts import Messages, prompt
from kit.core.types import Problem
from kit.environments import KINDS
from kit.grpo import last_checkpoint, save_policy
from kit.mini.language import (
    SMALL_STEPS,
    draw_function,
    draw_problem,
    draw_string_problem,
    draw_sum,
    worked_answer,
)
from kit.serving.models import SMALL_POLICIES
from kit.serving.weights import ModelUnavailable


class Recipe(StrictModel):
    """What a small policy is made by; a comment above a field explains it.

    Source: our choice.
    """

    # Of the vocabulary, the first weights and all examples.
    seed: int = 0
    # Of a layer; its heads are 32 wide.
    width: int = 128
    layers: int = 4
    # Examples of an optimizer step, and its rate, which falls to zero over the last `decay` steps.
    batch: int = 64
    learning_rate: float = 2e-3
    decay: int = 1000
    # Each: how many steps, and by environment the weights of functions of 1, 2, 3 lines. `strings`
    # and `maths` (sums of 2, 3, 4 digits) are out of domain: RL never trains them.
    stages: list[tuple[int, dict[EnvironmentName | Literal["strings", "maths"], list[float]]]] = [
        (2500, {"deduction": [5, 4, 0.3]}),
        (
            7500,
            {
                "deduction": [5, 3, 0.3],
                "abduction": [5, 4, 0.3],
                "induction": [5, 4, 0.3],
                "fuzzing": [5, 4, 0.3],
                "strings": [0.8, 0.4, 0.1],
                "maths": [0.8, 0.6, 0.1],
            },
        ),
    ]


RECIPES = {"mini": Recipe(), "mini-wide": Recipe(width=192)}
# Tokens that a prompt and its answer may have together.
CONTEXT = 512
# The messages before the last one explain the form of an answer: the warm start has taught it.
_TEMPLATE = "{{ messages[-1]['content'] }}{% if add_generation_prompt %}<go>{% endif %}"
# A token is a line of a function, a digit with what stands before it, or the text between.
_PIECES = (
    r"\n    (?:xs = |return type)[^\n]*|\n?\[\d|, \d|\d|\n?[^\d\n]+?(?=\n?\[\d|, \d|\d|\n|$)|\n"
)
# Examples from which the vocabulary comes, and how often a piece must occur there.
_TEXTS, _OFTEN = 4000, 4
_ENVIRONMENTS = {name: kind() for name, kind in KINDS.items()}


def draw_example(rng: random.Random, name: str, depth: int) -> Problem:
    """A problem of an environment whose function has so many steps; its outputs are computed."""
    if name == "strings":
        return draw_string_problem(rng, depth)
    function = draw_function(rng, depth, _ENVIRONMENTS[name].inputs, [*SMALL_STEPS], [])
    return draw_problem(rng, name, *function)


def worked_example(rng: random.Random, name: str, depth: int) -> tuple[Messages, str]:
    """What is asked of the policy, as in training and evaluation, and a worked answer."""
    if name == "maths":
        question, answer = draw_sum(rng, depth + 1)
        return prompt("evaluate_maths", question=question), answer
    problem = draw_example(rng, name, depth)
    return _ENVIRONMENTS[problem.environment].solve_prompt(problem), worked_answer(problem)


class Examples(torch.utils.data.Dataset):
    """The examples of the warm start, each drawn by its number."""

    def __init__(self, recipe: Recipe, tokenizer):
        self.recipe = recipe
        self.tokenizer = tokenizer
        self.ends = list(accumulate(steps for steps, _ in recipe.stages))

    def __len__(self):
        return self.ends[-1] * self.recipe.batch

    def __getitem__(self, number):
        step = number // self.recipe.batch
        stage = next(k for k, end in enumerate(self.ends) if step < end)
        _, weights = self.recipe.stages[stage]
        # A batch has one environment and one depth: its texts are about equally long.
        kinds = {(name, depth): w for name in weights for depth, w in enumerate(weights[name], 1)}
        batch = random.Random(f"batch {self.recipe.seed} {step}")
        ((name, depth),) = batch.choices([*kinds], [*kinds.values()])
        rng = random.Random(f"example {self.recipe.seed} {number}")
        messages, text = worked_example(rng, name, depth)
        asked = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
        # The loss is about the answer and its end alone.
        answer = [*self.tokenizer(text)["input_ids"], self.tokenizer.eos_token_id]
        return {"input_ids": asked + answer, "labels": [-100] * len(asked) + answer}


def make_tokenizer(seed: int):
    """The tokenizer: a vocabulary of whole pieces of the language; other text becomes bytes.

    Args:
        seed: of the examples that the vocabulary comes from.
    Returns:
        A tokenizer of transformers with a chat template that shows the last message.
    Source: our choice.
    """
    rng = random.Random(f"vocabulary {seed}")
    pieces = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    counts: Counter[str] = Counter()
    names = [*_ENVIRONMENTS, "strings", "maths"]
    for number in range(_TEXTS):
        depth, place = divmod(number, len(names))
        messages, answer = worked_example(rng, names[place], 1 + depth % 3)
        for text in (messages[-1]["content"], answer):
            counts.update(piece for piece, _ in pieces.pre_tokenize_str(text))
    special = ["<pad>", "<eos>", "<go>"]
    known = sorted(piece for piece, count in counts.items() if count >= _OFTEN)
    words = dict.fromkeys([*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *known])
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        additional_special_tokens=["<go>"],
        padding_side="left",
        chat_template=_TEMPLATE,
        model_max_length=CONTEXT,
    )


def make_model(recipe: Recipe, tokenizer):
    """The architecture of Llama with heads of 32, as small as the recipe says, untrained."""
    transformers.set_seed(recipe.seed)
    width = recipe.width
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=recipe.layers,
            num_attention_heads=width // 32,
            intermediate_size=width * 8 // 3 // 32 * 32,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )
    # On a CPU in bfloat16 the backward pass takes half the time of the default's (measured).
    model.set_attn_implementation("eager")
    return model


def make_policy(name: str, callbacks: Iterable[transformers.TrainerCallback] = ()) -> None:
    """Make a small policy anew, or go on where that was stopped.

    Its folder in `data/` gets the weights, the tokenizer and `made.json` (recipe, digest of the
    weights); until then checkpoints lie in `<folder>.part`.

    Args:
        name: a key of RECIPES.
        callbacks: of the trainer.
    Raises:
        ModelUnavailable: there is no recipe of that name.
    Source: our choice.
    """
    if name not in RECIPES:
        raise ModelUnavailable(f"no recipe for {name!r}: there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    folder = SMALL_POLICIES[name]
    part = Path(f"{folder}.part")
    part.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(recipe.seed)
    examples = Examples(recipe, tokenizer)
    arguments = transformers.TrainingArguments(
        output_dir=str(part / "checkpoints"),
        max_steps=len(examples) // recipe.batch,
        per_device_train_batch_size=recipe.batch,
        train_sampling_strategy="sequential",
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": recipe.decay},
        warmup_steps=50,
        adam_beta2=0.98,
        weight_decay=0.05,
        use_cpu=not torch.cuda.is_available(),
        bf16=True,
        seed=recipe.seed,
        save_steps=250,
        save_total_limit=2,
        logging_steps=100,
        report_to="none",
    )
    trainer = transformers.Trainer(
        make_model(recipe, tokenizer),
        arguments,
        data_collator=transformers.DataCollatorForSeq2Seq(tokenizer),
        train_dataset=examples,
        processing_class=tokenizer,
        callbacks=[*callbacks],
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(part / "checkpoints"))
    shutil.rmtree(part / "policy", ignore_errors=True)
    save_policy(trainer, part / "policy")
    weights = (part / "policy" / "model.safetensors").read_bytes()
    made = {"recipe": recipe.model_dump(), "sha256": hashlib.sha256(weights).hexdigest()}
    (part / "policy" / "made.json").write_text(json.dumps(made, indent=1) + "\n")
    # Its card was written by hand.
    for card in folder.glob("README.md"):
        shutil.copyfile(card, part / "policy" / card.name)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part / "policy", folder)
    shutil.rmtree(part)
