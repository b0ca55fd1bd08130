"""Fuzzing, test_f(?) fails: the student sees a function, a precondition and a property test.

It answers with a failing input. The reward is 1 if and only if `pre_test_f(input)` passes and
`test_f(input)` fails. A problem is valid (our choice) if execution finds both a witness (passes the
precondition, fails the test) and a benign input (passes both).
"""

import ast

from kit.core.programs import calls, code_block, function, given_arguments, module, signature
from kit.core.prompts import prompt
from kit.core.types import Problem, Reason, Rejected, Verdict
from kit.environments.base import Environment, demo, turn_to
from kit.environments.verify import execute
from kit.sandbox import Job, arguments, call_text, parse

# One value per input, whatever the tests return or raise. None counts as passed, so that both
# `assert` and `return` styles work. An input that only exhausts the machine shows nothing about f:
# it is no witness (our choice).
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

# One concrete property of the result, in turn, by the type that f says it returns: if it is asked
# for "a property", a small teacher joins several that contradict each other (our choice).
PROPERTIES = {
    "int": ("is greater than 0", "is even", "is less than 10", "is not 1"),
    "float": ("is greater than 0", "is less than 10"),
    "bool": ("is True",),
    "str": (
        "is not empty",
        "is longer than 2 characters",
        "differs from the argument",
        "has no repeated character",
    ),
    "list": ("is not empty", "has no repeated element", "has at least two elements", "is sorted"),
    "dict": ("is not empty", "has at most two keys"),
    "None": ("differs from the argument", "is truthy"),
}

# Values at the edges of each type, tried besides the teacher's own inputs (our choice).
WORDS = ("", "a", "aa", "Ab c", "x-1", "hello world", "12", "level")

EDGES = {
    "int": (0, 1, 2, 3, 7, 10, 25, 100, -1, -8),
    "str": WORDS,
    "float": (0.0, 0.5, 3.0, -1.5),
    "bool": (True, False),
    "tuple": ((), (1, 2)),
    "list": ([], [0], [5], [1, 1], [-1, 2], [3, 1, 2], [4, 8, 15, 16, 23]),
    "list[str]": ([], *([word] for word in WORDS), ["b", "a", "b"], ["one", "three", "two"]),
    "dict": ({}, {"a": 0}, {"a": 1}, {"a": -1, "b": 2}, {"x": 3, "y": 3, "z": 10}),
}


def edges(draft: Problem) -> list[str]:
    """Further inputs: the first input with one argument replaced by an edge value of its type."""
    first = arguments(draft.inputs[0])
    # The type is the one that f names for an argument, or else that of its value.
    types = [type(value).__name__ for value in first]
    for k, parameter in enumerate(function(draft.program).args.args[: len(first)]):
        if parameter.annotation:
            types[k] = ast.unparse(parameter.annotation)
    return [
        call_text((*first[:k], value, *first[k + 1 :]))
        for k, name in enumerate(types)
        for value in EDGES.get(name, EDGES.get(name.partition("[")[0].lower(), ()))
    ]


def _only(code, name):
    """The source of the one top-level function of this name."""
    return ast.unparse(function(code, name))


def _without(code, *names):
    """The code without its top-level functions and classes of these names."""
    tree = parse(code)
    tree.body = [node for node in tree.body if getattr(node, "name", None) not in names]
    return ast.unparse(tree)


class Fuzzing(Environment):
    """The student gets f, a precondition and a test, and gives an input on which the test fails.

    Source: paper (the reward); what makes a problem valid is our choice.
    """

    name = "fuzzing"

    def complete(self, program, messages):
        """Two-call form: the tests for a function that is already written, then the inputs."""
        returns = ast.unparse(function(program).returns or ast.Constant(None)).partition("[")[0]
        properties = PROPERTIES.get(returns, PROPERTIES["None"])
        messages = messages + prompt(
            "tests", signature=signature(program), property=turn_to(properties, program)
        )
        tests = module(code_block((yield messages)), "pre_test_f", "test_f")

        written = self._answered(messages, f"```python\n{tests}\n```")
        answer = yield written + self.ask_inputs(program, self.inputs)
        return self.draft(f"{program}\n\n{tests}", calls(answer))

    def draft(self, code, inputs, message=""):
        """Takes the two tests out of the code. Raises Rejected if one is missing."""
        try:
            module(code, "pre_test_f", "test_f")
        except Rejected as fault:
            raise Rejected(Reason.NO_TESTS, fault.detail) from None
        draft = super().draft(_without(code, "pre_test_f", "test_f"), inputs, message)
        return draft.with_(pre_test=_only(code, "pre_test_f"), test=_only(code, "test_f"))

    def code(self, problem: Problem) -> str:
        """The program that says of an input: refused, pass or fail."""
        return "\n\n".join((problem.program, problem.pre_test, problem.test, OUTCOME))

    def probe(self, problem):
        return self.code(problem), ("f", "outcome")

    def verify(self, draft, check):
        """Needs a witness and a benign input, among the teacher's inputs and the edge values."""
        draft = draft.with_(inputs=list(dict.fromkeys(draft.inputs + edges(draft))))
        outcomes = execute(self.code(draft), draft.inputs, check, name="outcome")
        if "'fail'" not in outcomes:
            raise Rejected(
                Reason.NO_WITNESS, "test_f holds for every input that pre_test_f lets through"
            )
        if "'pass'" not in outcomes:
            raise Rejected(
                Reason.NO_BENIGN, "test_f fails for every input that pre_test_f lets through"
            )
        return draft.with_(outputs=outcomes)

    def job(self, problem, answer):
        """Runs precondition and test on the answer."""
        return Job(self.code(problem), (("outcome", given_arguments(answer)),))

    def judge(self, problem, answer, result):
        """Right if the precondition passes and the test fails."""
        (outcome,) = result.returned()
        if outcome == "refused":
            return Verdict("failed", Reason.PRECONDITION)
        return Verdict.of(outcome == "fail")


if __name__ == "__main__":
    code = (
        "def f(x):\n    return abs(x) % 7\n\n"
        "def pre_test_f(x):\n    return isinstance(x, int)\n\n"
        "def test_f(x):\n    assert f(x) < 6"
    )
    answers = ["<answer>-6</answer>", "<answer>7</answer>", "<answer>'a'</answer>"]
    problem, verdicts = demo(Fuzzing(), code, ["1", "13"], answers)
    assert {"'pass'", "'fail'"} <= set(problem.outputs)
    assert [v.outcome for v in verdicts] == ["passed", "failed", "failed"]
