"""Deduction, f(i) = ?: output prediction. The student sees a function and an input.

It answers with the output. The answer is a literal that is read and never run: an answer that
repeats the call earns nothing.
"""

from kit.core.types import Reason, Verdict
from kit.environments.base import Environment
from kit.sandbox import literal, same


class Deduction(Environment):
    """The student gets f and an input i, and gives the output. No program runs to grade it.

    Source: paper (right if o_hat = o).
    """

    name = "deduction"

    def judge(self, problem, answer, result):
        """Right if the answer is a literal and equals the output."""
        # Outside of `try`: an output that is no literal is the row's error, not the answer's.
        wanted = literal(problem.outputs[0])
        try:
            return Verdict.of(same(literal(answer), wanted))
        except ValueError:
            return Verdict("failed", Reason.NO_ANSWER)
