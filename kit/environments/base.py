"""What the environments share: dialogues with the teacher, the student's prompt, grading.

`propose(seed)` and `revise(problem, ask)` are dialogues: generators that yield a prompt, are sent
the teacher's answer, and return a draft. So a small teacher can be asked in several steps, and a
large one in a single step. `verify(draft)` runs the draft in two sandboxes and returns a problem
with its outputs. `solve_prompt(problem)` is what student and policy see; `grade(problem, answers)`
says what each answer is worth.
"""

import ast
import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

from kit.core.programs import (
    calls,
    code_block,
    copied,
    docstring,
    function,
    last_tag,
    module,
    signature,
)
from kit.core.prompts import Messages, prompt
from kit.core.types import Problem, Reason, Rejected, Verdict, digest
from kit.environments.verify import DeterminismCheck, execute, usable
from kit.sandbox import Job, Result, Sandbox, arguments, call_text

Dialogue = Generator[Messages, str, Problem]
# One concrete argument for a small teacher, in turn: if several types are allowed, its functions
# only ask for the type of their argument (our choice).
ARGUMENTS = ("xs: list[int]", "s: str", "n: int", "words: list[str]", "counts: dict[str, int]")
# How a literal of each type begins.
OPENINGS = {"list[str]": "['", "list": "[", "str": "'", "dict[str": "{'", "dict": "{"}

# One concrete way to the next version, in turn: if it is told only "harder", a small teacher hands
# back the old function (our choice).
HINTS = {
    "harder": (
        "let the position of an element matter as well as its value",
        "carry a running value from one step of the loop to the next",
        "treat repeated elements otherwise than the first ones",
        "treat two kinds of elements differently, then combine the results",
        "stop early under a condition that depends on what was seen before",
    ),
    "easier": (
        "drop one condition",
        "replace the loop by one built-in function",
        "return only a number",
        "look at one property of the argument only",
    ),
    "vary": (
        "let another property of the argument decide",
        "replace a sum by a maximum, or a count by a selection",
        "go through the argument in another order",
        "group the elements instead of counting them",
    ),
    "medium": ("drop one condition", "keep the loop, drop one of its special cases"),
    "easy": ("keep only the first step", "replace the loop by one built-in function"),
}


def turn_to(choices: tuple, *what):
    """One of the choices, always the same one for the same `what`."""
    return choices[int(digest(*what), 16) % len(choices)]


@dataclass(eq=False)
class Environment:
    """One kind of problem: what the teacher makes, what the student gives, and when that is right.

    A subclass gives `name` and `judge`, mostly `job`, and overrides what is different for it.

    Args:
        form: `one_call`: the teacher writes a problem in one answer (as in the paper). `two_calls`:
            first the function, then the inputs (for a small teacher).
        inputs: input/output pairs of an induction problem.
        visible: how many of these pairs the student sees.
        equality: of abduction. `output`: any input with the right output is right. `input`: only
            the teacher's own input is right.
    Source: paper (environments, `one_call`); `two_calls` and hidden pairs are our choice.
    """

    name: ClassVar[str]
    # What the student sees and must do, for the teacher; the kit's four have it in _task.md.
    task: ClassVar[str] = ""

    form: str = "two_calls"
    inputs: int = 5
    visible: int = 3
    equality: str = "output"

    @property
    def used(self) -> int:
        """How many inputs a problem has."""
        return 1

    def probe(self, problem: Problem) -> tuple[str, tuple[str, ...]]:
        """A program, and the names in it whose values on an input tell what the problem does."""
        return problem.program, ("f",)

    def propose(self, seed: str, ask: str = "new", target=(0.35, 0.65)) -> Dialogue:
        """Turn 1: a problem from a seed snippet.

        Args:
            seed: the snippet's code.
            ask: `new`, or `hard` for a problem with a pass rate in `target`.
            target: lowest and highest pass rate wanted (shares, 0 to 1).
        Returns:
            A generator: yields messages, is sent the teacher's answer, returns a draft.
        Raises:
            Rejected: from the generator, if an answer is no usable draft.
        Source: paper (seeds); the prompts are our choice.
        """
        messages = prompt(
            f"propose_{self.form}",
            environment=self.name,
            task=self.task,
            seed=seed,
            argument=turn_to(ARGUMENTS, self.name, seed),
            k=self.inputs,
            ask=ask,
            target=target,
        )
        return self._dialogue(messages, seed)

    def revise(self, problem: Problem, ask: str, target=(0.35, 0.65)) -> Dialogue:
        """A later turn: shows the previous problem and the summary of its attempts, nothing else.

        Args:
            problem: the previous problem, with its attempts.
            ask: harder, easier, vary, medium or easy.
            target: lowest and highest pass rate wanted (shares, 0 to 1).
        Returns:
            A generator, as in `propose`.
        Source: paper, sec. 4; the prompts of `two_calls` are our choice.
        """
        argument = ast.unparse(function(problem.program).args)
        messages = prompt(
            f"revise_{self.form}",
            problem=problem,
            task=self.task,
            ask=ask,
            target=target,
            k=self.inputs,
            argument=argument,
            hint=turn_to(HINTS[ask], problem.id),
        )
        # First the idea: if asked for the code at once, a small teacher repeats the old one.
        if self.form == "two_calls":
            told = self._answered(messages, (yield messages))
            messages = told + prompt("write", argument=argument, environment=self.name)
        return (yield from self._dialogue(messages, problem.program))

    def _dialogue(self, messages, origin):
        """Both forms of the dialogue; the new function must not repeat the code it grew from."""
        answer = yield messages
        draft = self.read(answer) if self.form == "one_call" else None
        program = draft.program if draft else module(code_block(answer), "f")
        if copied(program, origin):
            raise Rejected(Reason.COPY, "write a new function instead of repeating the given code")
        if draft:
            return draft
        written = self._answered(messages, f"```python\n{program}\n```")
        return (yield from self.complete(program, written))

    @staticmethod
    def _answered(messages, answer):
        """The messages with the teacher's answer instead of the beginning that it was given."""
        return [*messages[:-1], {"role": "assistant", "content": answer}]

    def complete(self, program: str, messages: Messages) -> Dialogue:
        """Two-call form, second call: the inputs for a program that is already written."""
        # Two more than needed are asked for, because some will not fit f (our choice).
        answer = yield messages + self.ask_inputs(program, self.used + 2)
        return self.draft(program, calls(answer))

    def ask_inputs(self, program: str, k: int) -> Messages:
        """The request for k inputs; the answer is begun in the type of the first argument."""
        # A small teacher forgets the type otherwise.
        shown = signature(program)
        kind = shown.partition(": ")[2].partition(")")[0]
        opening = next((start for name, start in OPENINGS.items() if kind.startswith(name)), "")
        return prompt("inputs", k=k, environment=self.name, signature=shown, opening=opening)

    def read(self, answer: str) -> Problem:
        """One-call form: one function, ```input blocks, a ```message block. Raises Rejected."""
        code = re.sub(r"```(input|message).*?```", "", answer, flags=re.S)
        program = module(code_block(code), "f")
        inputs = []
        for block in re.findall(r"```input[ \t]*\n(.*?)```", answer, re.S):
            try:
                inputs.append(call_text(arguments(block)))
            except ValueError as fault:
                detail = f"{block.strip()[:80]} is not a literal: {fault}"
                raise Rejected(Reason.NO_INPUTS, detail) from None
        message = re.findall(r"```message[ \t]*\n(.*?)```", answer, re.S)
        return self.draft(program, inputs, "".join(message[-1:]).strip())

    def draft(self, code: str, inputs: list[str], message: str = "") -> Problem:
        """A problem that is not verified yet.

        Args:
            code: the program with its function f (in fuzzing also the two tests).
            inputs: what stands inside `f(...)`, as text.
            message: a hint for the student; without one, the docstring of f is taken.
        Returns:
            A problem without outputs.
        Raises:
            Rejected: there are no inputs, or a part of the code is missing.
        Source: paper (the parts); the docstring as a hint is our choice.
        """
        if not inputs:
            raise Rejected(Reason.NO_INPUTS, "no call f(...) with literal arguments")
        return Problem(
            environment=self.name,
            program=code,
            inputs=list(dict.fromkeys(inputs)),
            message=message or docstring(code),
        )

    def verify(self, draft: Problem, check: DeterminismCheck) -> Problem:
        """Run a draft to get its outputs; as here, on the first `used` inputs that work.

        Args:
            draft: a problem without outputs.
            check: the two sandboxes in which it must give the same outputs.
        Returns:
            The problem with its outputs.
        Raises:
            Rejected: the draft is at fault.
            InfrastructureError: the sandbox failed.
        Source: paper (execution gives the outputs); the checks are our choice.
        """
        inputs = usable(draft.program, draft.inputs, check.primary)[: self.used]
        return draft.with_(inputs=inputs, outputs=execute(draft.program, inputs, check))

    def solve_prompt(self, problem: Problem) -> Messages:
        """What student and policy are asked: prompts/solve_<name>.md, filled in.

        Args:
            problem: a verified problem.
        Returns:
            Chat messages with `role` and `content`; the last one is the question.
        Source: paper (what is shown); the wording is our choice.
        """
        given = function(problem.program).args.args
        return prompt(
            f"solve_{self.name}",
            problem=problem,
            visible=self.visible,
            arity=len(given),
            names=", ".join(argument.arg for argument in given),
            types=", ".join(ast.unparse(a.annotation) for a in given if a.annotation),
        )

    def read_answer(self, problem: Problem, completion: str) -> str:
        """The text between the answer marks. Raises Rejected."""
        return last_tag(completion)

    def job(self, problem: Problem, answer: str) -> Job | None:
        """What to run to judge an answer; as here, nothing. Raises Rejected if it is malformed."""
        return None

    def judge(self, problem: Problem, answer: str, result: Result | None) -> Verdict:
        """The verdict on a well-formed answer; `result` is that of its `job`, which returned."""
        raise NotImplementedError

    def grade(self, problem: Problem, completions: list[str], box: Sandbox) -> list[Verdict]:
        """What each answer to a problem is worth.

        Args:
            problem: a verified problem.
            completions: what a model wrote, as it came.
            box: runs the programs, side by side.
        Returns:
            A verdict for each completion, in order.
        Source: paper (binary rewards).
        """
        return grade_all([(self, problem, completion) for completion in completions], box)


def grade_all(items: list[tuple[Environment, Problem, str]], box: Sandbox) -> list[Verdict]:
    """Verdicts for (environment, problem, completion) triples: the only way from text to reward.

    Equal answers to one problem are run once.

    Args:
        items: of each answer the environment, the problem and what a model wrote.
        box: runs the programs, side by side.
    Returns:
        A verdict for each triple, in order.
    Source: paper (binary rewards).
    """
    # What makes a triple different from others.
    keys = [(id(env), id(problem), completion) for env, problem, completion in items]
    verdicts: dict[tuple, Verdict] = {}
    pending = []
    # Malformed answers fail at once; the programs of all others start side by side.
    for k, (env, problem, completion) in dict(zip(keys, items)).items():
        try:
            answer = env.read_answer(problem, completion)
            job = env.job(problem, answer)
        except Rejected as fault:
            verdicts[k] = Verdict("failed", fault.reason)
        # Whatever a model wrote, one answer never ends the batch: what we did not foresee is an
        # error of ours.
        except Exception as fault:
            verdicts[k] = Verdict.of_fault(fault)
        else:
            pending.append((k, env, problem, answer, box.submit(job) if job else None))
    # A failure of the sandbox is no verdict on the answer; a program that does not return fails.
    for k, env, problem, answer, future in pending:
        result = future.result() if future else None
        if result and result.no_verdict:
            verdicts[k] = Verdict("error", result.detail)
        elif result and result.returned() is None:
            verdicts[k] = Verdict.of_failure(result.status)
        else:
            try:
                verdicts[k] = env.judge(problem, answer, result)
            except Exception as fault:
                verdicts[k] = Verdict.of_fault(fault)
    return [verdicts[k] for k in keys]
