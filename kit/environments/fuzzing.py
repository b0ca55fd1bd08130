"""Fuzzing, test_f(?) fails: the student sees a function, a precondition and a property test.

It answers with a failing input. The reward is 1 if and only if `pre_test_f(input)` passes and
`test_f(input)` fails. A problem is valid (our choice) if execution finds both a witness (passes the
precondition, fails the test) and a benign input (passes both), among the teacher's inputs and edge
values of ours (`edges`).

An input of another type than the problem's own, such as `[None]` for `[1, 2]`, mostly makes f
raise: it shows nothing about f. It is no witness, and a problem whose precondition lets one through
is not valid (our choice; tests/test_fuzzing.py).
"""

import ast
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import filterfalse, islice, zip_longest

from kit.core.programs import calls, code_block, function, given_arguments, module, signature
from kit.core.prompts import prompt
from kit.core.types import InfrastructureError, Problem, Reason, Rejected, Verdict
from kit.environments.base import Environment, turn_to
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

# Values at the edges of each type, tried besides the teacher's own inputs (our choice). If f names
# one of these types for an argument, they are also examples of it.
WORDS = ("", "a", "aa", "Ab c", "x-1", "hello world", "12", "level")

EDGES = {
    "int": (0, 1, 2, 3, 7, 10, 25, 100, -1, -8),
    "str": WORDS,
    "float": (0.0, 0.5, 3.0, -1.5),
    "bool": (True, False),
    "tuple[int, ...]": ((), (1, 2)),
    "list[int]": ([], [0], [5], [1, 1], [-1, 2], [3, 1, 2], [4, 8, 15, 16, 23]),
    "list[str]": ([], *([word] for word in WORDS), ["b", "a", "b"], ["one", "three", "two"]),
    "dict[str, int]": ({}, {"a": 0}, {"a": 1}, {"a": -1, "b": 2}, {"x": 3, "y": 3, "z": 10}),
}


# What else may stand in an argument's place: most functions raise on some of these (our choice).
STRANGE: tuple = (None, [None], {}, (), "a", 7, 0.5)


def _named(program) -> list[str]:
    """The types that f names for its arguments; '' where it names none."""
    given = function(program).args
    return [
        ast.unparse(each.annotation).lower() if each.annotation else ""
        for each in (*given.posonlyargs, *given.args)
    ]


def edges(draft: Problem) -> list[str]:
    """Further inputs: the first input with one argument replaced by an edge value of its type."""
    first = arguments(draft.inputs[0])
    # The type is the one that f names for an argument, or else that of its value.
    kinds = {name.partition("[")[0]: values for name, values in reversed(EDGES.items())}
    named = [
        name or type(value).__name__ for name, value in zip_longest(_named(draft.program), first)
    ]
    found = [
        (*first[:k], value, *first[k + 1 :])
        for k, name in enumerate(named[: len(first)])
        for value in EDGES.get(name, kinds.get(name.partition("[")[0], ()))
    ]
    return [call_text(args) for args in filter(_types(draft), found)]


def _inside(values):
    """What stands inside some containers, by its place: a key, a position in a tuple, or any."""
    found = defaultdict(list)
    for value in values:
        pairs: Iterable[tuple]
        match value:
            case dict():
                pairs = value.items()
            case tuple():
                pairs = enumerate(value)
            case _:
                pairs = ((None, item) for item in value)
        for place, item in pairs:
            found[type(place), place].append(item)
    return found


def _alike(values: list, examples: list) -> bool:
    """Whether the values have types that the examples have, inside too; all are looked at at once.

    An int may stand for a float, no bool for an int. Without an example, anything fits.
    """
    for kind in {*map(type, values)} if examples else ():
        known = [
            each for each in examples if type(each) in ((int, float) if kind is int else (kind,))
        ]
        if not known:
            return False
        if kind not in (list, tuple, dict, set):
            continue
        some = [value for value in values if type(value) is kind]
        # Tuples that all have one length keep it.
        if kind is tuple and len(sizes := {*map(len, known)}) == 1 and sizes != {*map(len, some)}:
            return False
        places = _inside(known)
        everywhere = [item for items in places.values() for item in items]
        others = []
        for place, items in _inside(some).items():
            if place not in places:
                others += items
            elif not _alike(items, places[place]):
                return False
        keys = [[key for each in group for key in each] for group in (some, known) if kind is dict]
        if not _alike(others, everywhere) or keys and not _alike(*keys):
            return False
    return True


def _let_through(problem: Problem) -> list[tuple]:
    """The inputs of a problem but for those that its precondition is known to refuse."""
    pairs = zip_longest(problem.inputs, problem.outputs)
    return [arguments(each) for each, outcome in pairs if outcome != "'refused'"]


def _types(problem: Problem) -> Callable[[tuple], bool]:
    """Whether arguments are of the types that f names, or else that the problem's inputs have.

    Of its inputs those count that the precondition lets through (our choice).
    """
    named = _named(problem.program)
    given = _let_through(problem)

    def fit(args):
        return len(args) in {*map(len, given)} and all(
            _alike([value], [*EDGES.get(name, ())] or [each[k] for each in given if k < len(each)])
            for k, (value, name) in enumerate(zip_longest(args, named[: len(args)]))
        )

    return fit


def _strange(value) -> Iterator:
    """Values that are like this one but for the type of something in it."""
    yield from STRANGE
    match value:
        case list() | tuple():
            yield from (tuple(value), list(value), type(value)([*value[:-1], None]))
            for k in {0, len(value) - 1} if value else ():
                for other in _strange(value[k]):
                    yield type(value)([*value[:k], other, *value[k + 1 :]])
        case dict():
            yield from (list(value), {**value, "a": None})
            for key, item in value.items():
                yield from ({**value, key: other} for other in _strange(item))
        case str() | set():
            yield from (list(value), {None})


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
        names = ("pre_test_f", "test_f")
        try:
            module(code, *names)
        except Rejected as fault:
            raise Rejected(Reason.NO_TESTS, fault.detail) from None
        draft = super().draft(_without(code, *names), inputs, message)
        pre_test, test = (ast.unparse(function(code, name)) for name in names)
        return draft.with_(pre_test=pre_test, test=test)

    def code(self, problem: Problem) -> str:
        """The program that says of an input: refused, pass or fail."""
        return "\n\n".join((problem.program, problem.pre_test, problem.test, OUTCOME))

    def probe(self, problem):
        return self.code(problem), ("f", "outcome")

    def verify(self, draft, check):
        """Needs a witness and a benign input, among the teacher's inputs and the edge values."""
        draft = draft.with_(inputs=list(dict.fromkeys(draft.inputs + edges(draft))))
        draft = draft.with_(outputs=execute(self.code(draft), draft.inputs, check, name="outcome"))
        self._refuse_other_types(draft, check)
        if "'fail'" not in draft.outputs:
            raise Rejected(
                Reason.NO_WITNESS, "test_f holds for every input that pre_test_f lets through"
            )
        if "'pass'" not in draft.outputs:
            raise Rejected(
                Reason.NO_BENIGN, "test_f fails for every input that pre_test_f lets through"
            )
        return draft

    def _refuse_other_types(self, draft, check):
        """Raises Rejected if an input of another type would be a witness."""
        given = _let_through(draft)
        # Its own inputs, which may be of a type that f does not name, and changed ones.
        tried = given.copy()
        for args in given[:5]:
            tried += [args[:-1], (*args, None)]
            for k, value in enumerate(args):
                tried += [
                    (*args[:k], other, *args[k + 1 :]) for other in islice(_strange(value), 40)
                ]
        tried = list(filterfalse(_types(draft), tried))
        calls = tuple(("outcome", args) for args in tried)
        result = check.primary.submit(Job(self.code(draft), calls)).result()
        if result.no_verdict:
            raise InfrastructureError(result.detail)
        # Where one never ends, those before it are enough.
        for args, value in zip(tried, result.values):
            if value == ("ok", "fail"):
                raise Rejected(
                    Reason.WRONG_TYPE,
                    f"pre_test_f lets f({call_text(args)}) through, on which f fails",
                )

    def job(self, problem, answer):
        """Runs precondition and test on the answer."""
        return Job(self.code(problem), (("outcome", given_arguments(answer)),))

    def judge(self, problem, answer, result):
        """Right if the precondition passes and the test fails."""
        (outcome,) = result.returned()
        if outcome == "refused":
            return Verdict("failed", Reason.PRECONDITION)
        if outcome == "fail" and not _types(problem)(given_arguments(answer)):
            return Verdict("failed", Reason.WRONG_TYPE)
        return Verdict.of(outcome == "fail")
