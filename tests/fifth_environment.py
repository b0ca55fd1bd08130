"""Mutation, f(?) != g(?): the student sees a function and a copy of it with one operator changed.

It answers with an input on which the two differ. This is the worked example of kit/README.md: as
`kit/environments/mutation.py`, with its name in `kit/core/config.py`, it is a fifth environment.
The teacher writes f and inputs. The copy is made here, and execution says which copies can be told
from f, so nobody's word is taken for anything.
"""

import ast
from collections.abc import Iterator

from kit.core.programs import given_arguments
from kit.core.types import Reason, Rejected, Verdict
from kit.environments.base import Environment
from kit.environments.fuzzing import edges
from kit.environments.verify import execute, usable
from kit.sandbox import Job, same

SWAPS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mod,
    ast.Mod: ast.FloorDiv,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def mutants(program: str) -> Iterator[str]:
    """Every function g that is f with one operator changed, as source."""
    for k in range(len(list(ast.walk(ast.parse(program))))):
        g = next(
            n for n in ast.parse(program).body if isinstance(n, ast.FunctionDef) and n.name == "f"
        )
        node = next((n for j, n in enumerate(ast.walk(g)) if j == k), None)
        name = "ops" if isinstance(node, ast.Compare) else "op"
        old = getattr(node, name, None)
        if new := SWAPS.get(type(old[0] if name == "ops" else old) if old else None):
            setattr(node, name, [new(), *old[1:]] if name == "ops" else new())
            g.name = "g"
            yield ast.unparse(g)


class Mutation(Environment):
    """The student gets f and its mutant g (in `test`), and gives an input that tells them apart.

    Both must return, and not the same.
    """

    name = "mutation"
    task = (
        "The student will see `f` and a copy of it with one operator changed, and must find an "
        "input for which the two return different values."
    )

    @property
    def used(self):
        return self.inputs

    def probe(self, problem):
        return f"{problem.program}\n\n{problem.test}", ("f", "g")

    def verify(self, draft, check):
        """The mutant that differs from f on the fewest inputs, at least one.

        On some inputs they must agree, or any guess would do.
        """
        tried = list(dict.fromkeys(draft.inputs + edges(draft)))
        inputs = usable(draft.program, tried, check.primary)
        wanted = execute(draft.program, inputs, check)
        found = []
        for g in mutants(draft.program):
            try:
                got = execute(f"{draft.program}\n\n{g}", inputs, check, name="g")
            except Rejected:
                # It crashes or never ends on one of them.
                continue
            outcomes = ["'same'" if a == b else "'differ'" for a, b in zip(wanted, got)]
            if 0 < outcomes.count("'differ'") < len(inputs):
                found.append(draft.with_(inputs=inputs, outputs=outcomes, test=g))
        if not found:
            raise Rejected(
                Reason.NO_WITNESS,
                "no change of one operator shows on some of the inputs and not on others",
            )
        return min(found, key=lambda p: p.outputs.count("'differ'"))

    def solve_prompt(self, problem):
        system = (
            "You find an input on which two functions differ. Answer with the arguments as Python "
            "literals inside <answer> and </answer>."
        )
        question = (
            f"```python\n{problem.program}\n\n{problem.test}\n```\n"
            "For which input do f and g return different values?"
        )
        return [{"role": "system", "content": system}, {"role": "user", "content": question}]

    def job(self, problem, answer):
        given = given_arguments(answer)
        return Job(f"{problem.program}\n\n{problem.test}", (("f", given), ("g", given)))

    def judge(self, problem, answer, result):
        if (got := result.returned()) is None:
            return Verdict.of_failure(result.status)
        return Verdict("failed", Reason.WRONG) if same(*got) else Verdict("passed")
