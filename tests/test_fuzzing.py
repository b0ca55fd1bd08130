"""An input solves a fuzzing problem only if it is of the type that the problem is about."""

import pytest

from kit import environments
from kit.core import profile, records
from kit.core.manifest import RECORDED
from kit.core.types import Reason, Rejected
from kit.environments.fuzzing import edges
from kit.environments.verify import DeterminismCheck
from kit.sandbox import Sandbox

ENV = environments.make(profile.load_profile("cpu").rounds)["fuzzing"]


@pytest.fixture(scope="module")
def boxes():
    with Sandbox(workers=2) as box, Sandbox(workers=2, hash_seed=1) as other:
        yield DeterminismCheck(box, other)


def draft(inputs, f, pre_test="return True", test="return f(x) < 10", given="x"):
    code = (
        f"def f({given}):\n    {f}\ndef pre_test_f(x):\n    {pre_test}\ndef test_f(x):\n    {test}"
    )
    return ENV.draft(code, inputs)


def reasons(problem, answers, box):
    found = ENV.grade(problem, [f"<answer>{answer}</answer>" for answer in answers], box)
    return [verdict.reason or verdict.outcome for verdict in found]


# What f is, inputs of its type, right answers, and wrong ones that make f raise.
TYPES = [
    (
        "x: list[int]",
        "return sum(x)",
        ["[1]", "[20]"],
        ["[-1, 50]"],
        [
            "[None]",
            "[1, None]",
            "['a']",
            "[[]]",
            "None",
            "3",
            "'ab'",
            "{1: 2, 9: 9}",
            "(1, None)",
            "[0.5, '']",
        ],
    ),
    (
        "x",
        "return sum(x)",
        ["[1]", "[20]", "[]"],
        ["[-1, 50]", "[10]"],
        [
            "[None]",
            "[1, 'a']",
            "[[[]]]",
            "None",
            "7",
            "{None}",
            "{'a': None}",
            "(None,)",
            "[1.5, None]",
        ],
    ),
    (
        "x: dict[str, int]",
        "return sum(x.values())",
        ["{'a': 1}", "{'a': 20}"],
        ["{'q': 9, '': 9}"],
        [
            "{'a': None}",
            "{'a': 1, 'b': 'c'}",
            "{'a': [1]}",
            "[1]",
            "{1: None}",
            "{None: 20}",
            "{1: 20}",
        ],
    ),
    (
        "x: int",
        "return sum(range(x))",
        ["1", "20"],
        ["30"],
        ["None", "0.5", "'a'", "[1]", "{}", "1j"],
    ),
    (
        "x: float",
        "return round(x)",
        ["0.5", "20.5"],
        ["99.5", "99"],
        ["None", "'a'", "1j", "[1.0]"],
    ),
    ("x: str", "return int(x)", ["'1'", "'20'"], ["'99'", "'a'"], ["None", "[]", "b'99'", "['9']"]),
    (
        "x",
        "return x['n'] + len(x['who'])",
        ["{'n': 1, 'who': 'a'}", "{'n': 20, 'who': ''}"],
        ["{'n': 9, 'who': 'ab'}"],
        ["{'n': '', 'who': ''}", "{'n': 1, 'who': 2}", "{'n': None, 'who': ''}"],
    ),
    (
        "x",
        "return sum(a + len(b) for a, b in x)",
        ["[(1, 'a')]", "[(20, 'b')]", "[]"],
        ["[(9, 'abc'), (1, '')]"],
        ["[(1, 2)]", "[('a', 1)]", "[(1,)]", "[(1, 'a', 2)]", "[[9, 'abc']]", "[None]"],
    ),
    (
        "x",
        "return sum(map(sum, x))",
        ["[[1], []]", "[[20]]"],
        ["[[9], [9, 9]]"],
        ["[[None]]", "[1]", "[None]", "[[1], ['a']]", "[[[1]]]", "[(99,)]"],
    ),
    ("x", "return sum(x)", ["{1, 2}", "{20}"], ["{7, 8}"], ["{None}", "{'a'}", "[None]"]),
]


def bounded(given, f, inputs):
    """As a problem of the recorded run, which was not asked what its pre_test_f lets through."""
    made = draft(inputs, f, given=given)
    return made.with_(outputs=["'pass'", *["'fail'"] * (len(inputs) - 1)])


@pytest.mark.parametrize(("given", "f", "inputs", "right", "wrong"), TYPES)
def test_what_is_of_another_type_solves_nothing(given, f, inputs, right, wrong, boxes):
    made = bounded(given, f, inputs)
    assert reasons(made, right, boxes.primary) == ["passed"] * len(right)
    assert reasons(made, wrong, boxes.primary) == [Reason.WRONG_TYPE] * len(wrong)


@pytest.mark.parametrize(("given", "f", "inputs", "right", "wrong"), TYPES)
def test_a_precondition_that_lets_other_types_through_is_refused(
    given, f, inputs, right, wrong, boxes
):
    with pytest.raises(Rejected) as e:
        ENV.verify(draft(inputs, f, given=given), boxes)
    assert e.value.reason == Reason.WRONG_TYPE and "pre_test_f lets" in e.value.detail


@pytest.mark.parametrize(
    "pre_test",
    [
        "return isinstance(x, list)",
        "return not x or isinstance(x[0], int)",
        "return isinstance(x, list) and (not x or isinstance(x[0], int))",
        "return isinstance(x, list) and all(isinstance(y, int) or y is None for y in x)",
        "return isinstance(x, list) and not any(isinstance(y, str) for y in x)",
        "return len(x) >= 0",
        "yield",
        "assert x is not None",
        "return 'yes'",
    ],
)
def test_half_a_precondition_is_refused(pre_test, boxes):
    for given in ("x", "x: list[int]"):
        with pytest.raises(Rejected) as e:
            ENV.verify(draft(["[1, 2]", "[20]"], "return sum(x)", pre_test, given=given), boxes)
        assert e.value.reason == Reason.WRONG_TYPE


def test_a_teachers_own_input_of_another_type_is_no_witness(boxes):
    """f says list[int], the teacher gives [None], and its precondition lets that through."""
    pre_test = "return isinstance(x, list) and all(y is None or type(y) is int for y in x)"
    made = draft(["[1]", "[None]"], "return sum(x)", pre_test, given="x: list[int]")
    with pytest.raises(Rejected) as e:
        ENV.verify(made, boxes)
    assert e.value.reason == Reason.WRONG_TYPE


@pytest.mark.parametrize(
    ("given", "f", "pre_test", "inputs", "answers"),
    [
        (
            "x: list[int]",
            "return sum(x)",
            "all(isinstance(y, int) for y in x)",
            ["[1]", "[50]"],
            ["[99]", "[-5, 70]"],
        ),
        ("x: int", "return sum(range(x))", "type(x) is int", ["-3", "0"], ["50", "10 "]),
        (
            "x: dict[str, int]",
            "return max(x.values())",
            "all(isinstance(k, str) and isinstance(v, int) for k, v in x.items())",
            ["{'a': 1}", "{'b': 99}"],
            ["{}", "{'': 10}"],
        ),
        (
            "x: list",
            "return sum(x)",
            "all(isinstance(y, (int, float)) for y in x)",
            ["[1.5]", "[50]"],
            ["[99]", "[9.5, 8]"],
        ),
        (
            "x: list[str]",
            "return len(x[0])",
            "all(isinstance(y, str) for y in x)",
            ["['a']", "['bb']"],
            ["[]", "['aaaaaaaaaaaa']", "['é' , 'b']"],
        ),
        ("x", "return len(x)", "isinstance(x, str)", ["'a'", "'ab'"], ["'aaaaaaaaaaaaaa'"]),
        (
            "x: list[list[int]]",
            "return sum(map(sum, x))",
            "all(isinstance(y, list) and all(isinstance(z, int) for z in y) for y in x)",
            ["[]", "[[10, 2]]"],
            ["[[99]]", "[[], [50], []]"],
        ),
        (
            "x: 'int | None'",
            "return x or 11",
            "x is None or isinstance(x, int)",
            ["1", "None"],
            ["0", "None", "12"],
        ),
    ],
)
def test_honest_problems_and_answers_stay(given, f, pre_test, inputs, answers, boxes):
    kind = next((k for k in ("list", "dict") if pre_test.startswith("all") and k in given), "")
    pre_test = f"return {f'isinstance(x, {kind}) and ' if kind else ''}{pre_test}"
    made = ENV.verify(draft(inputs, f, pre_test, given=given), boxes)
    found = reasons(made, answers, boxes.primary)
    assert Reason.WRONG_TYPE not in found and "passed" in found


def test_edge_values_are_of_the_type_of_the_inputs():
    """Lists of integers are no witnesses for lists of words or of lists."""
    for inputs in (["['a']", "['b']"], ["[[1]]", "[[2]]"]):
        assert edges(draft(inputs, "return x")) == ["[]"]
    assert "[3, 1, 2]" in edges(draft(["[1]"], "return x"))
    assert "['b', 'a', 'b']" in edges(draft(["[1]"], "return x", given="x: list[str]"))


def test_a_bool_is_no_int(boxes):
    made = bounded("x: int", "return sum(map(int, str(x)))", ["1", "99"])
    assert reasons(made, ["True", "-1"], boxes.primary) == [Reason.WRONG_TYPE, "passed"]


def test_another_number_of_arguments_is_another_type(boxes):
    code = (
        "def f(x, y):\n    return x + y\ndef pre_test_f(*args):\n    return True\n"
        "def test_f(*args):\n    return f(*args) < 10"
    )
    made = ENV.draft(code, ["1, 2", "9, 9"]).with_(outputs=["'pass'", "'fail'"])
    answers = ["8, 8", "1", "1, 2, 3", "1, None", "None, 1", "(1, 2)", ""]
    found = reasons(made, answers, boxes.primary)
    assert found == ["passed", *[Reason.WRONG_TYPE] * 5, found[-1]] and found[-1] != "passed"
    with pytest.raises(Rejected):
        ENV.verify(made.with_(outputs=[]), boxes)


HACKS = [
    "None",
    "[None]",
    "[1, None]",
    "['a', None]",
    "{'a': None}",
    "{'a': 1, 'b': None}",
    "{None: None}",
    "[[None]]",
    "[{}]",
    "[[]]",
    "{'a': []}",
    "{'a': {}}",
    "{1: 'a'}",
    "(None,)",
    "[b'a']",
    "[1j]",
    "[1, 'a']",
    "['a', 1]",
    "[1.5, None]",
    "b'a'",
    "1j",
    "{1j: 1}",
    "{'a': 1j}",
    "0.5",
    "[True, None]",
]


@pytest.mark.skipif(
    not (RECORDED / "filtered.parquet").exists(), reason="no data/recorded in this checkout"
)
def test_no_recorded_problem_is_solved_by_a_wrong_type(boxes):
    problems = {
        problem.id: problem
        for problem in records.load_problems(RECORDED / "filtered.parquet")
        if problem.environment == "fuzzing" and problem.status == "valid"
    }
    items = [
        (ENV, problem, f"<answer>{hack}</answer>")
        for problem in problems.values()
        for hack in HACKS
    ]
    solved = [
        (problem.id, hack)
        for (_, problem, hack), verdict in zip(
            items, environments.base.grade_all(items, boxes.primary)
        )
        if verdict.outcome == "passed"
    ]
    print(f"{len(solved)} solved of {len(problems)} problems")
    assert len(problems) > 90 and not solved


def test_a_long_answer_is_looked_at_in_linear_time():
    """Twice the length costs about twice the time: 20,000 characters are all that is read."""
    import time

    from kit.environments.fuzzing import _types

    made = bounded("x", "return 1", ["[{'a': 1, 'b': 2}]", "[" + "{'c': 3}, " * 30 + "]"])

    def cost(n):
        value = [{f"k{k}": k} for k in range(n)]
        began = time.process_time()
        assert _types(made)((value,))
        return time.process_time() - began

    cost(100)
    assert min(cost(4000) for _ in range(3)) < 8 * min(cost(1000) for _ in range(3)) + 0.05
