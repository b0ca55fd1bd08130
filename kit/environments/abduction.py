"""Abduction, f(?) = o: input prediction. The student sees a function and an output.

It answers with an input. Any input with f(input) = o is right (our choice: f may be many-to-one).
The paper prints i_hat = i: that is `equality: input`.
"""

from kit.core.programs import given_arguments
from kit.core.types import Verdict
from kit.environments.base import Environment
from kit.sandbox import Job, arguments, literal, same


class Abduction(Environment):
    """The student gets f and an output o, and gives an input.

    Source: paper (printed: i_hat = i); any input with that output is our default.
    """

    name = "abduction"

    def job(self, problem, answer):
        """Runs f on the answer, unless only the teacher's own input is right."""
        given = given_arguments(answer)
        return None if self.equality == "input" else Job(problem.program, (("f", given),))

    def judge(self, problem, answer, result):
        """Right if the output, or with `equality: input` the input itself, is the problem's."""
        if self.equality == "input":
            return Verdict.of(same(given_arguments(answer), arguments(problem.inputs[0])))
        return Verdict.of(same(result.returned()[0], literal(problem.outputs[0])))
