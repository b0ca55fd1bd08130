"""What a small policy can do while it is made: pass rates by environment and depth.

python tests/bench/mini.py mini        makes it anew, and writes <folder>.part/log.jsonl
"""

import json
import random
import sys
from pathlib import Path

import torch
import transformers

from kit.core.types import Problem
from kit.environments import KINDS
from kit.environments.base import grade_all
from kit.mini.policy import draw_example, make_policy
from kit.sandbox import Sandbox
from kit.serving.models import SMALL_POLICIES

ENVIRONMENTS = {name: kind() for name, kind in KINDS.items()}


def pass_rates(model, tokenizer, problems: list[Problem], attempts: int, box: Sandbox) -> list:
    """The share of right answers of a policy to each problem, at temperature 1."""
    rates = []
    for start in range(0, len(problems), 32):
        some = problems[start : start + 32]
        asked = [ENVIRONMENTS[problem.environment].solve_prompt(problem) for problem in some]
        prompts = tokenizer.apply_chat_template(
            asked, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            written = model.generate(
                **prompts, do_sample=True, top_k=0, max_new_tokens=64, num_return_sequences=attempts
            )
        width = prompts["input_ids"].shape[1]
        answers = tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)
        triples = [
            (ENVIRONMENTS[problem.environment], problem, answers[k * attempts + j])
            for k, problem in enumerate(some)
            for j in range(attempts)
        ]
        passed = [verdict.outcome == "passed" for verdict in grade_all(triples, box)]
        rates += [sum(passed[k : k + attempts]) / attempts for k in range(0, len(passed), attempts)]
    return rates


class Progress(transformers.TrainerCallback):
    """Writes down what the policy can do: pass rates by environment and depth."""

    def __init__(self, folder: Path, every: int = 1000, problems: int = 32, attempts: int = 4):
        self.log = folder / "log.jsonl"
        self.every = every
        self.problems = problems
        self.attempts = attempts

    def on_log(self, args, state, control, logs, **_):
        self._note({"step": state.global_step, **logs})

    def on_step_end(self, args, state, control, model, processing_class, **_):
        if state.global_step % self.every:
            return
        model.eval()
        rng = random.Random("progress")
        with Sandbox() as box:
            for name in ENVIRONMENTS:
                rates = {}
                for depth in (1, 2, 3, 4):
                    some = [draw_example(rng, name, depth) for _ in range(self.problems)]
                    found = pass_rates(model, processing_class, some, self.attempts, box)
                    rates[depth] = round(sum(found) / len(found), 3)
                self._note({"step": state.global_step, "environment": name, **rates})
        model.train()

    def _note(self, row):
        with self.log.open("a") as file:
            print(json.dumps(row), file=file)


if __name__ == "__main__":
    name = sys.argv[1]
    part = Path(f"{SMALL_POLICIES[name]}.part")
    part.mkdir(parents=True, exist_ok=True)
    make_policy(name, [Progress(part)])
