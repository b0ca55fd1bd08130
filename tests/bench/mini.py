"""What a small policy can do: pass rates by environment and depth.

PYTHONPATH=. python tests/bench/mini.py mini        # or mini-wide
"""

import random
import sys

import pandas as pd
import torch
import transformers

from kit.core.types import Problem
from kit.environments import KINDS
from kit.environments.base import grade_all
from kit.mini.policy import draw_example
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


def skill(name: str, problems: int = 128, attempts: int = 4) -> pd.DataFrame:
    """Its share of right answers: a row per environment, a column per lines of the function."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        SMALL_POLICIES[name], padding_side="left"
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(SMALL_POLICIES[name])
    torch.manual_seed(0)
    rng = random.Random("skill")
    rows = {}
    with Sandbox() as box:
        for environment in ENVIRONMENTS:
            rows[environment] = {}
            for depth in (1, 2, 3, 4):
                some = [draw_example(rng, environment, depth) for _ in range(problems)]
                found = pass_rates(model, tokenizer, some, attempts, box)
                rows[environment][depth] = sum(found) / len(found)
    return pd.DataFrame.from_dict(rows, orient="index")


if __name__ == "__main__":
    print(skill(sys.argv[1]).round(2).to_string())
