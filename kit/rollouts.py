"""What the policy wrote in its training: each answer with its verdict, and what follows from them.

The reward function of kit.grpo sees every answer; `grpo.Health` writes them down, a line per step.
"""

from pathlib import Path

import pandas as pd

from kit.core.records import Log
from kit.core.types import MALFORMED, Problem, Verdict, clean
from kit.environments.base import Environment

# The columns of an answer: its text and verdict; its step (from 1) and the group's slot in that
# (from 0); the reward is 1, 0, or None where our own infrastructure failed.
ROLLOUT = (
    "answer outcome reason step slot problem_id environment bin reward tokens malformed cut_off"
).split()


def rollout_rows(
    triples: list[tuple[Environment, Problem, str]],
    verdicts: list[Verdict],
    bins: list[str],
    given: dict,
    ends: frozenset[int],
) -> list[dict]:
    """The answers of a step as rows, of all processes of the training: each of them must call it.

    Args:
        triples, verdicts, bins: of the answers that this process sees.
        given: what TRL hands to a reward function: `trainer_state`, `completion_ids`, and the
            data set's column `slot`.
        ends: the tokens that end an answer. One that ends in another was cut off, as TRL counts.
    Returns:
        The columns ROLLOUT, a group's answers one after the other.
    Source: our choice.
    """
    # Imported here on purpose: it brings torch, and a reader of answers needs none.
    from accelerate.utils import gather_object

    step = given["trainer_state"].global_step + 1
    columns = zip(triples, verdicts, bins, given["completion_ids"], given["slot"], strict=True)
    rows = [
        clean(
            {
                "step": step,
                "slot": slot,
                "problem_id": problem.id,
                "environment": environment.name,
                "bin": bin_name,
                "answer": text,
                "outcome": verdict.outcome,
                "reason": str(verdict.reason),
                "reward": verdict.reward,
                "tokens": len(tokens),
                "malformed": verdict.reason in MALFORMED,
                "cut_off": bool(tokens) and tokens[-1] not in ends,
            }
        )
        for (environment, problem, text), verdict, bin_name, tokens, slot in columns
    ]
    return gather_object(rows)


def read_rollouts(path: Path) -> pd.DataFrame:
    """Every answer of a training.

    Args:
        path: of the `rollouts.jsonl` that `Health` wrote.
    Returns:
        One row per answer, by step; of a step done twice the later answers. Columns: ROLLOUT;
        `reward` is NaN where our infrastructure failed. No rows if there is no such file.
    Raises:
        RecordError: a line of the file is not JSON.
    Source: our choice.
    """
    steps = {row["step"]: row["rollouts"] for row in Log(path)}
    rows = [rollout for step in sorted(steps) for rollout in steps[step]]
    return pd.DataFrame(rows, columns=ROLLOUT).astype({"reward": float})


def pass_rates_over_training(rollouts: pd.DataFrame) -> pd.DataFrame:
    """The policy's pass rate on a problem each time that the training drew it.

    Args:
        rollouts: of `read_rollouts`.
    Returns:
        One row per group, in order: `step`, `slot`, `problem_id`, `environment`, `bin`; `draw` (of
        this problem, from 1); `n` (graded answers), `solved`, `malformed`, `cut_off` (how many),
        `errors` (lost by our infrastructure, not in n), `p` = solved / n, NaN for n = 0.
    Source: paper (p = solved / M); our choice.
    """
    key = "step slot problem_id environment bin".split()
    rates = rollouts.assign(errors=rollouts.reward.isna()).groupby(key, as_index=False)
    rates = rates.agg(
        n=("reward", "count"),
        solved=("reward", "sum"),
        malformed=("malformed", "sum"),
        cut_off=("cut_off", "sum"),
        errors=("errors", "sum"),
    )
    draw = rates.groupby("problem_id").cumcount() + 1
    return rates.assign(draw=draw, p=rates.solved / rates.n)


def rollout_summary(rollouts: pd.DataFrame) -> pd.DataFrame:
    """A training's answers counted, by environment and bin, over ten steps at a time.

    Args:
        rollouts: of `read_rollouts`.
    Returns:
        Columns `step` (the last one of the ten), `environment`, `bin`; `n` (graded answers),
        `solved`, `malformed`, `cut_off` (how many).
    Source: our choice.
    """
    counts = pass_rates_over_training(rollouts)
    counts["step"] = -(-counts.step // 10) * 10
    key = ["step", "environment", "bin"]
    return counts.groupby(key, as_index=False)["n solved malformed cut_off".split()].sum()


def first_and_second_half(rates: pd.DataFrame) -> pd.DataFrame:
    """The training's own problems early and late: those that were drawn in both halves.

    Args:
        rates: of `pass_rates_over_training`.
    Returns:
        One row per problem: `problem_id`, `environment`, `before`, `after` (pass rates, 0 to 1, of
        the first and the second half of the steps).
    Source: our choice.
    """
    half = (rates.step > rates.step.max() / 2).map({False: "before", True: "after"})
    sums = rates.groupby(["problem_id", "environment", half])[["n", "solved"]].sum()
    shares = (sums.solved / sums.n).unstack().reindex(columns=["before", "after"])
    return shares.dropna().reset_index()
