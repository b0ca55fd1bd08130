"""Induction, ?(i) = o: program synthesis. The student sees input/output pairs and a message.

It answers with the function. Some of the pairs stay hidden (our choice; the closest relative,
Absolute Zero, hides half). Two of the hidden pairs have different outputs, so an answer that lists
the visible pairs and guesses one value for all others earns nothing.
"""

import ast
import re

from kit.core.programs import code_block, function, module
from kit.core.types import Reason, Rejected, Verdict
from kit.environments.base import Environment
from kit.environments.verify import LONGEST, execute, usable, values
from kit.sandbox import Job, arguments, call_text, literal, parse, same


def _bare(program):
    """f without the dictionary around its one result, if all its returns have one (our choice)."""
    # Most functions of CodeI/O have one that their task does not mention.
    tree = parse(program)
    f = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "f")
    returns = [node for node in ast.walk(f) if isinstance(node, ast.Return)]
    results = []
    for node in returns:
        match node.value:
            case ast.Dict(keys=[ast.Constant()], values=[result]):
                results.append(result)
    if len(results) == len(returns):
        for node, result in zip(returns, results):
            node.value = result
    return ast.unparse(tree)


class Induction(Environment):
    """The student gets input/output pairs and a hint, and gives the function.

    Source: paper (right if f_hat(i) = o for all pairs); that some are hidden is our choice.
    """

    name = "induction"

    @property
    def used(self):
        """How many inputs a problem has: the number of its pairs."""
        return self.inputs

    def verify(self, draft, check):
        """Needs two hidden pairs with different outputs; they become the last two."""
        inputs = usable(draft.program, draft.inputs, check.primary)[: self.inputs]
        needed = self.visible + 2
        if len(inputs) < needed:
            raise Rejected(
                Reason.NO_INPUTS,
                f"f runs on only {len(inputs)} of the inputs, at least {needed} are needed",
            )

        outputs = execute(draft.program, inputs, check)
        differing = [k for k, output in enumerate(outputs) if output != outputs[-1]]
        if not differing:
            raise Rejected(Reason.CONSTANT, f"f gives {outputs[0][:80]} every time")
        # Move the last pair that differs from the final one to the place before it.
        for texts in (inputs, outputs):
            texts.insert(-1, texts.pop(differing[-1]))
        return draft.with_(inputs=inputs, outputs=outputs)

    def real(self, code, generator, task, box):
        """A draft from a function of CodeI/O, without a teacher: its task is the message.

        Raises Rejected or InfrastructureError.
        """
        program = _bare(re.sub(r"\bmain_solution\b", "f", module(code, "main_solution")))

        # Its own generator makes the inputs, in the sandbox, each with another seed.
        made = (
            f"from random import Random\n{generator}\n"
            "def made(k):\n    return generate_inputs(Random(k))"
        )
        draws = tuple(("made", (k,)) for k in range(self.inputs + 2))
        drawn = values(box.submit(Job(made, draws)).result())

        # Each must be a dictionary of f's arguments, short enough to be read.
        names = [argument.arg for argument in function(program).args.args]
        if not all(isinstance(given, dict) and {*given} == {*names} for given in drawn):
            detail = f"its generator does not make the arguments {', '.join(names)}"
            raise Rejected(Reason.NO_INPUTS, detail)
        inputs = [call_text(given[name] for name in names) for given in drawn]
        if max(map(len, inputs)) > LONGEST:
            raise Rejected(Reason.NO_INPUTS, f"its inputs are longer than {LONGEST} characters")
        return self.draft(program, inputs, task)

    def read_answer(self, problem, completion):
        """The program in its normal form. Raises Rejected."""
        return module(code_block(completion), "f")

    def job(self, problem, answer):
        """Runs the student's function on all inputs, the hidden ones too."""
        return Job(answer, tuple(("f", arguments(given)) for given in problem.inputs))

    def judge(self, problem, answer, result):
        """Right if every output is the problem's."""
        pairs = zip(result.returned(), problem.outputs, strict=True)
        return Verdict.of(all(same(value, literal(output)) for value, output in pairs))
