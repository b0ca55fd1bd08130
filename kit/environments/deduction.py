"""Deduction, f(i) = ?: output prediction. The student sees the function and an input, and gives the output.

The answer is a literal that is read, never run: restating the call earns nothing.
"""

from kit.environments.base import Environment, Reason, Verdict, execute, usable
from kit.sandbox import literal, same


class Deduction(Environment):
    """The function and an input are given; the output is wanted. No program runs to grade it."""

    name = "deduction"

    def verify(self, draft, box, other):
        inputs = usable(draft.program, draft.inputs, box)[:1]
        return draft.with_(inputs=inputs, outputs=execute(draft.program, inputs, box, other))

    def job(self, problem, answer):
        return None

    def judge(self, problem, answer, result):
        try:
            right = same(literal(answer), literal(problem.outputs[0]))
        except ValueError:
            return Verdict("failed", Reason.NO_ANSWER)
        return Verdict("passed") if right else Verdict("failed", Reason.WRONG)


if __name__ == "__main__":
    from kit.environments.base import demo

    problem, verdicts = demo(
        Deduction(),
        "def f(x):\n    return x * x",
        ["3"],
        ["<answer>9</answer>", "<answer>f(3)</answer>", "<answer>9.0</answer>"],
    )
    assert problem.outputs == ["9"]
    assert [v.outcome for v in verdicts] == ["passed", "failed", "failed"]
