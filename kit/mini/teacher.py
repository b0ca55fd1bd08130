"""A scripted teacher behind the engine's call: it stands where a language model would.

It reads the prompts of the paper's form (`rounds.form: one_call`) and answers as they ask. What it
writes is verified like a model's. That harder versions are harder is built in, so nothing that it
does is evidence for the paper's findings about teachers (F1, F2).
"""

import random
import re
from concurrent.futures import Future

from kit.core.config import StrictModel
from kit.core.programs import copied
from kit.core.types import Problem
from kit.mini.language import (
    SMALL_STEPS,
    draw_function,
    draw_problem,
    program_of,
    steps_of,
    suggested_steps,
)
from kit.serving.engine import Completion, Engine, EngineDown, EngineError, RequestError

# What a prompt says of the student's task, by environment (prompts/_task.md).
_TASKS = {
    "induction": "must write a function",
    "abduction": "must find an input that gives",
    "deduction": "must predict the output",
    "fuzzing": "must find an input for which",
}
# How many steps a new function has, by chance: most real problems are easy, a few are very hard.
_NEW = {1: 0.45, 2: 0.3, 3: 0.15, 4: 0.07, 5: 0.03}
_HARD = {2: 0.4, 3: 0.4, 4: 0.2}
# What the next version's number of steps is, by what is asked for and that of the one before.
_NEXT = {"HARDER": 1, "EASIER": -1, "MEDIUM": -1, "EASY": -99, "VARY": 0}


class TeacherSettings(StrictModel):
    """What stands in `extra` of a role with `engine: script`."""

    # Share of the answers that are invalid, and of the later turns that repeat the old function.
    invalid: float = 0.06
    copies: float = 0.04
    # The most steps of a function.
    deepest: int = 6


class ScriptedTeacher(Engine):
    """An engine that asks no model: the same request gets the same answer.

    Args:
        role, log, name: as for Engine; `role.extra` holds TeacherSettings.
        seed: of everything that is drawn.
    Raises:
        EngineError: a function of `deepest` steps would not fit the role's context.
    Source: our choice.
    """

    def __init__(self, *given, seed: int = 0, **named):
        super().__init__(*given, **named)
        self.settings = TeacherSettings.model_validate(self.role.extra)
        self.seed = seed
        # A list has some ten tokens; an induction problem shows six of them.
        needed = 80 + 10 * self.settings.deepest
        if needed > self.role.context:
            raise EngineError(
                f"functions of {self.settings.deepest} steps need {needed} tokens, and the "
                f"context is {self.role.context}: lower extra.deepest"
            )

    def _send(self, key, messages, n, sampling):
        sent: Future = Future()
        rng = random.Random(f"{self.seed} {key}")
        try:
            texts = [self._answer(rng, messages[0]["content"]) for _ in range(n)]
            sent.set_result([Completion(text, "stop", len(text.split())) for text in texts])
        except EngineError as error:
            self.live = not isinstance(error, EngineDown)
            sent.set_exception(error)
        return sent

    def _answer(self, rng, asked):
        """What is answered to a prompt: a problem, sometimes a copy or invalid."""
        environment = next((name for name, task in _TASKS.items() if task in asked), "")
        code = re.search(r"```python\n(.*?)\n```", asked, re.S)
        if not (environment and code):
            raise EngineDown(
                "the scripted teacher reads only prompts that ask for a problem in one answer: "
                "it needs rounds.form: one_call (see kit/profiles/mini.yaml), and is no student"
            )
        number = re.search(r"(\d+) ```input", asked)
        count = int(number[1]) if number else 1
        wish = re.search(r"HARDER|EASIER|MEDIUM|EASY|VARY|HARD", asked.rpartition("```")[2])
        if wish and wish[0] in _NEXT:
            function = self._next_function(rng, code[1], wish[0], count)
        else:
            function = self._first_function(rng, code[1], _HARD if wish else _NEW, count)
        problem = draw_problem(rng, environment, *function)
        text = _written(problem)
        return _spoiled(rng, text) if rng.random() < self.settings.invalid else text

    def _first_function(self, rng, snippet, depths, count):
        """A function from what a snippet suggests."""
        atoms = suggested_steps(snippet)
        if not atoms:
            raise RequestError(f"there is nothing to draw from in this snippet: {snippet[:80]!r}")
        (depth,) = rng.choices([*depths], [*depths.values()])
        return draw_function(rng, min(depth, self.settings.deepest), count, atoms, [])

    def _next_function(self, rng, program, wish, count):
        """A function with some of the old one's steps, so few that it is no copy."""
        old = steps_of(program)
        if rng.random() < self.settings.copies:
            return draw_function(rng, len(old), count, [], old)
        depth = min(max(1, len(old) + _NEXT[wish]), self.settings.deepest)
        others = [step for step in SMALL_STEPS if step not in old]
        for kept in range(min(len(old), depth - 1), -1, -1):
            places = sorted(rng.sample(range(len(old)), kept))
            begun = [old[place] for place in places]
            steps, inputs = draw_function(rng, depth, count, others, begun)
            if steps and not copied(program_of(steps), program):
                break
        return steps, inputs


def _written(problem: Problem) -> str:
    """A problem in the form that prompts/_format.md asks for."""
    parts = [problem.program, problem.pre_test, problem.test]
    code = "\n\n".join(filter(None, parts))
    blocks = [("python", code), *(("input", text) for text in problem.inputs)]
    if problem.message:
        blocks.append(("message", problem.message))
    return "\n\n".join(f"```{kind}\n{text}\n```" for kind, text in blocks)


def _spoiled(rng: random.Random, text: str) -> str:
    """An answer with a fault: no inputs, a bracket too many, a crash, a result of another kind."""
    return rng.choice(
        [
            text.replace("```input", "```text"),
            text.replace("return xs", "return xs)"),
            text.replace("return xs", "return xs[99]"),
            text.replace("return xs", "return iter(xs)"),
        ]
    )
