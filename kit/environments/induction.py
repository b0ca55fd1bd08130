"""Induction, ?(i) = o: program synthesis. The student sees input/output pairs and a message, and writes the function.

Some of the pairs stay hidden (our choice; the closest relative, Absolute Zero, hides half), and two of those have different
outputs, so that an answer that lists the visible pairs and guesses one value for all others earns nothing.
"""

import ast
import re

from kit.environments.base import (
    LONGEST,
    Environment,
    Reason,
    Rejected,
    Verdict,
    code_block,
    execute,
    failure,
    function,
    module,
    usable,
    values,
)
from kit.sandbox import Job, arguments, call_text, literal, parse, same


def _bare(program: str) -> str:
    """f without the dictionary around its one result: most functions of CodeI/O have one that their task does not mention (our choice)."""
    tree = parse(program)
    f = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "f")
    returns = [node for node in ast.walk(f) if isinstance(node, ast.Return)]
    if all(
        isinstance(r.value, ast.Dict)
        and len(r.value.keys) == 1
        and isinstance(r.value.keys[0], ast.Constant)
        for r in returns
    ):
        for r in returns:
            r.value = r.value.values[0]
    return ast.unparse(tree)


class Induction(Environment):
    """Some input/output pairs and a hint are given; the function is wanted. Hidden pairs decide too."""

    name = "induction"

    @property
    def used(self):
        return self.inputs

    def verify(self, draft, box, other):
        inputs = usable(draft.program, draft.inputs, box)[: self.inputs]
        if len(inputs) < self.visible + 2:
            raise Rejected(
                Reason.NO_INPUTS,
                f"f runs on only {len(inputs)} of the inputs, at least {self.visible + 2} are needed",
            )
        pairs = list(zip(inputs, execute(draft.program, inputs, box, other)))
        differing = next(
            (k for k in reversed(range(len(pairs) - 1)) if pairs[k][1] != pairs[-1][1]), None
        )
        if differing is None:
            raise Rejected(Reason.CONSTANT, f"f gives {pairs[0][1][:80]} every time")
        pairs.insert(-1, pairs.pop(differing))
        inputs, outputs = map(list, zip(*pairs))
        return draft.with_(inputs=inputs, outputs=outputs)

    def real(self, code: str, generator: str, task: str, box):
        """An unverified problem without a teacher: `main_solution` becomes f, its own `generate_inputs` makes the inputs, its task is the
        message. Raises Rejected or InfrastructureError."""
        program = _bare(re.sub(r"\bmain_solution\b", "f", module(code, "main_solution")))
        made = f"from random import Random\n{generator}\ndef made(k):\n    return generate_inputs(Random(k))"
        drawn = values(
            box.submit(Job(made, tuple(("made", (k,)) for k in range(self.inputs + 2)))).result()
        )
        names = [a.arg for a in function(program).args.args]
        if not all(isinstance(x, dict) and {*x} == {*names} for x in drawn):
            raise Rejected(
                Reason.NO_INPUTS, f"its generator does not make the arguments {', '.join(names)}"
            )
        inputs = [call_text(x[name] for name in names) for x in drawn]
        if max(map(len, inputs)) > LONGEST:
            raise Rejected(Reason.NO_INPUTS, f"its inputs are longer than {LONGEST} characters")
        return self.draft(program, inputs, task)

    def read_answer(self, problem, completion):
        return module(code_block(completion), "f")

    def job(self, problem, answer):
        return Job(answer, tuple(("f", arguments(i)) for i in problem.inputs))

    def judge(self, problem, answer, result):
        if (got := result.returned()) is None:
            return failure(result)
        right = all(same(a, literal(o)) for a, o in zip(got, problem.outputs, strict=True))
        return Verdict("passed") if right else Verdict("failed", Reason.WRONG)


if __name__ == "__main__":
    from kit.environments.base import demo

    problem, verdicts = demo(
        Induction(),
        "def f(x):\n    return x * x",
        ["1", "2", "3", "4", "5"],
        [
            "```python\ndef f(n):\n    return n ** 2\n```",
            "```python\ndef f(n):\n    return {1: 1, 2: 4, 3: 9}[n]\n```",
        ],
    )
    assert problem.outputs == ["1", "4", "9", "16", "25"]
    assert [v.outcome for v in verdicts] == ["passed", "failed"]
