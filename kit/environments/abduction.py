"""Abduction, f(?) = o: input prediction. The student sees the function and an output, and gives an input.

Any input with f(input) = o is right (our choice: f may be many-to-one). The paper prints i_hat = i: `equality: input`.
"""

from kit.environments.base import (
    Environment,
    Reason,
    Verdict,
    execute,
    failure,
    given_arguments,
    usable,
)
from kit.sandbox import Job, arguments, literal, same


class Abduction(Environment):
    """The function and an output are given; an input is wanted. `equality` says whether any input with that output will do."""

    name = "abduction"

    def verify(self, draft, box, other):
        inputs = usable(draft.program, draft.inputs, box)[:1]
        return draft.with_(inputs=inputs, outputs=execute(draft.program, inputs, box, other))

    def job(self, problem, answer):
        given = given_arguments(answer)
        return None if self.equality == "input" else Job(problem.program, (("f", given),))

    def judge(self, problem, answer, result):
        if self.equality == "input":
            right = same(given_arguments(answer), arguments(problem.inputs[0]))
            return Verdict("passed") if right else Verdict("failed", Reason.WRONG)
        if (got := result.returned()) is None:
            return failure(result)
        right = same(got[0], literal(problem.outputs[0]))
        return Verdict("passed") if right else Verdict("failed", Reason.WRONG)


if __name__ == "__main__":
    from kit.environments.base import demo

    problem, verdicts = demo(
        Abduction(),
        "def f(x):\n    return x * x",
        ["3"],
        ["<answer>-3</answer>", "<answer>f(4)</answer>", "<answer>__import__('os')</answer>"],
    )
    assert problem.outputs == ["9"]
    assert [v.outcome for v in verdicts] == ["passed", "failed", "failed"]
