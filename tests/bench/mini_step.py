"""Seconds of a GRPO step of the miniature: TRL with the sandbox's verdicts, TRL with a constant
reward, and a bare loop with the same rollouts. Run it on quiet cores.

    python tests/bench/mini_step.py --steps 20
"""

import argparse
import random
import statistics
import tempfile
import time

import torch
import transformers

from kit import environments, grpo, prefix
from kit.core import profile
from kit.environments.base import grade_all
from kit.environments.verify import DeterminismCheck
from kit.mini.policy import draw_example
from kit.sandbox import Sandbox

MINI = profile.load_profile("mini")
NUMBERS = MINI.grpo
ENVS = environments.make(MINI.rounds)


def problems(check, n=64):
    """Verified problems of all environments, of one and two lines."""
    rng = random.Random(0)
    drawn = [draw_example(rng, name, 1 + k % 2) for k in range(n // len(ENVS)) for name in ENVS]
    return [ENVS[problem.environment].verify(problem, check) for problem in drawn]


class Clock(transformers.TrainerCallback):
    """Seconds of each step."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *_, **__):
        self.began = time.monotonic()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.monotonic() - self.began)


def constant(prompts, **_):
    """A reward that runs nothing."""
    return [1.0] * len(prompts)


def by_trl(found, reward, steps):
    """Seconds of the steps of TRL's trainer."""
    from trl import GRPOConfig, GRPOTrainer

    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps,
        use_cpu=True,
        bf16=NUMBERS.bf16,
        gradient_checkpointing=NUMBERS.recompute,
        per_device_train_batch_size=NUMBERS.prompts_per_step * NUMBERS.group_size,
        num_generations=NUMBERS.group_size,
        max_completion_length=NUMBERS.max_tokens,
        beta=0.0,
        scale_rewards="none",
        loss_type="dr_grpo",
        learning_rate=NUMBERS.learning_rate,
        lr_scheduler_type="constant",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    rows = [
        {
            "prompt": ENVS[problem.environment].solve_prompt(problem),
            "problem_id": problem.id,
            "environment": problem.environment,
            "bin": "medium",
        }
        for problem in found
    ]
    import datasets

    model, words = grpo.load_policy("mini", None, True, NUMBERS.bf16)
    clock = Clock()
    # As notebook 05 does: a prompt once per group.
    trainer = prefix.shared(GRPOTrainer)(
        model=model,
        processing_class=words,
        args=config,
        callbacks=[clock],
        reward_funcs=reward,
        train_dataset=datasets.Dataset.from_list(rows),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return clock.seconds


def by_hand(found, box, steps):
    """Seconds of the steps of a loop without a library: sample, grade, advantage, loss, step."""
    model, words = grpo.load_policy("mini", None, True, NUMBERS.bf16)
    optimizer = torch.optim.AdamW(model.parameters(), NUMBERS.learning_rate, weight_decay=0.0)
    rng, seconds, size = random.Random(0), [], NUMBERS.group_size
    for _ in range(steps):
        began = time.monotonic()
        some = [x for x in rng.sample(found, NUMBERS.prompts_per_step) for _ in range(size)]
        asked = [ENVS[x.environment].solve_prompt(x) for x in some]
        prompts = words.apply_chat_template(
            asked, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
        )
        width = prompts["input_ids"].shape[1]
        with torch.no_grad():
            ids = model.generate(
                **prompts, do_sample=True, top_k=0, max_new_tokens=NUMBERS.max_tokens
            )
        texts = words.batch_decode(ids[:, width:], skip_special_tokens=True)
        triples = [(ENVS[x.environment], x, text) for x, text in zip(some, texts)]
        rewards = torch.tensor([verdict.reward for verdict in grade_all(triples, box)])
        groups = rewards.view(-1, size)
        advantage = (groups - groups.mean(1, keepdim=True)).flatten()
        written = ids[:, width:]
        ended = (written == words.eos_token_id).cumsum(1)
        kept = (ended == 0) | ((ended == 1) & (written == words.eos_token_id))
        mask = torch.cat([prompts["attention_mask"], kept.long()], 1)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        logits = model(input_ids=ids, attention_mask=mask, position_ids=places).logits
        chosen = torch.log_softmax(logits[:, width - 1 : -1], -1).gather(-1, written[..., None])
        per_token = advantage[:, None] * chosen.squeeze(-1) * kept
        loss = -per_token.sum() / (len(some) * NUMBERS.max_tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.monotonic() - began)
    return seconds


if __name__ == "__main__":
    grpo.quiet_vllm()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args().steps
    with Sandbox() as box, Sandbox(hash_seed=1) as other:
        found = problems(DeterminismCheck(box, other))
        verified = grpo.reward_function(found, ENVS, box)
        measured = {
            "TRL, the sandbox's verdicts": lambda: by_trl(found, verified, steps),
            "by hand, the sandbox's verdicts": lambda: by_hand(found, box, steps),
            "TRL, a constant": lambda: by_trl(found, constant, steps),
        }
        for name, seconds in measured.items():
            # The first steps warm up.
            counted = seconds()[3:]
            print(
                f"{name:32} {statistics.median(counted):.3f} s a step (median of {len(counted)})",
                flush=True,
            )
