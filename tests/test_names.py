"""One name, one thing: what each public thing in `kit/` is called; and each says what it does."""

import ast
from collections import defaultdict

import pytest

from tests.house import FILES, IN_THE_BOX, public_names, tree

# A judge has the name of the function that the learner writes, which is that of the kit's own
# function where there is one; `main` is how a script begins.
JUDGES = "kit.display.exercises"
SCRIPTS = {"main"}


def test_no_public_name_lives_in_two_modules():
    homes = defaultdict(list)
    for name in FILES:
        if name not in IN_THE_BOX and not name.startswith(JUDGES):
            for public in public_names(name) - SCRIPTS:
                homes[public].append(name)
    assert {public: found for public, found in homes.items() if len(found) > 1} == {}


def undocumented(body: list[ast.stmt], prefix: str = "") -> list[str]:
    """Public functions, classes and methods without a docstring."""
    found = []
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            found.append(prefix + node.name)
        if isinstance(node, ast.ClassDef):
            found += undocumented(node.body, f"{node.name}.")
    return found


# Methods of TRL's callback and of the environments say what they do where they are declared first.
INHERITED = {"verify", "job", "judge", "solve_prompt", "read_answer", "draft", "complete", "probe"}
INHERITED |= {"used", "real", "close", "alive", "run", "work", "join"}


@pytest.mark.parametrize("name", FILES)
def test_everything_public_has_a_docstring(name):
    assert ast.get_docstring(tree(name)), "a module says what it is"
    if name in IN_THE_BOX:
        return
    missing = undocumented(tree(name).body)
    inherited = [x for x in missing if "." in x and _inherits(x.partition(".")[2])]
    assert sorted(set(missing) - set(inherited)) == []


def _inherits(method: str) -> bool:
    return method in INHERITED or method.startswith("on_")
