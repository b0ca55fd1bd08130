"""Fuzzing, test_f(?) fails: the student sees a function, a precondition and a property test, and finds a failing input.

The reward is 1 iff `pre_test_f(input)` passes and `test_f(input)` fails. A problem is valid (our choice) if execution finds
both a witness (passes the precondition, fails the test) and a benign input (passes both) among the teacher's inputs.
"""
import ast

from kit.environments.base import (
    Environment,
    Reason,
    Rejected,
    Verdict,
    calls,
    code_block,
    execute,
    failure,
    given_arguments,
    module,
    prompt,
    signature,
)
from kit.records import Problem
from kit.sandbox import Job, arguments, call_text

# One value per input, whatever the tests return or raise: None counts as passed, so that both `assert` and `return` styles work.
# An input that only exhausts the machine shows nothing about f: it is no witness (our choice).
OUTCOME = """
def _passes(test, args):
    try:
        value = test(*args)
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return False
    return value is None or bool(value)

def outcome(*args):
    import copy
    if not _passes(pre_test_f, copy.deepcopy(args)):
        return 'refused'
    return 'pass' if _passes(test_f, args) else 'fail'
"""


class Fuzzing(Environment):
    name = "fuzzing"

    def complete(self, program, messages):
        """Two-call form: the tests for a function that is already written, then inputs for both outcomes."""
        facts = {"k": self.inputs, "environment": self.name, "signature": signature(program)}
        messages = messages + prompt("tests", **facts)
        tests = module(code_block((yield messages)), "pre_test_f", "test_f")
        messages = [*messages[:-1], {"role": "assistant", "content": f"```python\n{tests}\n```"}, *prompt("inputs", **facts)]
        return self.draft(f"{program}\n\n{tests}", calls((yield messages)))

    def draft(self, code, inputs, message=""):
        try:
            module(code, "pre_test_f", "test_f")
        except Rejected as e:
            raise Rejected(Reason.NO_TESTS, e.detail) from None
        draft = super().draft(without(code, "pre_test_f", "test_f"), inputs, message)
        return draft.with_(pre_test=only(code, "pre_test_f"), test=only(code, "test_f"))

    def code(self, problem: Problem) -> str:
        return "\n\n".join((problem.program, problem.pre_test, problem.test, OUTCOME))

    def verify(self, draft, box, other):
        draft = draft.with_(inputs=list(dict.fromkeys(draft.inputs + edges(draft.inputs))))
        outcomes = execute(self.code(draft), draft.inputs, box, other, name="outcome")
        if "'fail'" not in outcomes:
            raise Rejected(Reason.NO_WITNESS, "test_f holds for every input that pre_test_f lets through")
        if "'pass'" not in outcomes:
            raise Rejected(Reason.NO_BENIGN, "test_f fails for every input that pre_test_f lets through")
        return draft.with_(outputs=outcomes)

    def job(self, problem, answer):
        return Job(self.code(problem), (("outcome", given_arguments(answer)),))

    def judge(self, problem, answer, result):
        if (got := result.returned()) is None:
            return failure(result)
        if got[0] == "fail":
            return Verdict("passed")
        return Verdict("failed", Reason.PRECONDITION if got[0] == "refused" else Reason.WRONG)


# Values at the edges of each type, tried beside the teacher's own inputs (our choice).
EDGES = {int: (0, 1, -1, 2, -7, 10, 100), str: ("", "a", "aa", "Ab c", "x-1", " "), list: ([], [0], [1, 1], [-1, 2], [3, 1, 2], ["a"], ["", "bb"]),
         dict: ({}, {"a": 0}, {"a": -1, "b": 2}), float: (0.0, -1.5), bool: (True, False), tuple: ((), (1, 2))}


def edges(inputs: list[str]) -> list[str]:
    """Further inputs: one argument of the first input at a time replaced by an edge value of its own type."""
    first = arguments(inputs[0])
    return [call_text((*first[:k], value, *first[k + 1:])) for k, old in enumerate(first) for value in EDGES.get(type(old), ())]


def only(code: str, name: str) -> str:
    return next(ast.unparse(n) for n in ast.parse(code).body if isinstance(n, ast.FunctionDef) and n.name == name)


def without(code: str, *names: str) -> str:
    tree = ast.parse(code)
    tree.body = [n for n in tree.body if getattr(n, "name", None) not in names]
    return ast.unparse(tree)


if __name__ == "__main__":
    from kit.environments.base import demo
    code = "def f(x):\n    return abs(x) % 7\n\ndef pre_test_f(x):\n    return isinstance(x, int)\n\ndef test_f(x):\n    assert f(x) < 6"
    problem, verdicts = demo(Fuzzing(), code, ["1", "13"], ["<answer>-6</answer>", "<answer>7</answer>", "<answer>'a'</answer>"])
    assert {"'pass'", "'fail'"} <= set(problem.outputs)
    assert [v.outcome for v in verdicts] == ["passed", "failed", "failed"]
