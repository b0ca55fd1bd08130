"""kit/README.md is the map: every module has its room there, imports only point down, and an import
changes nothing.
"""

import ast
import re

import pytest

from tests.house import FILES, IN_THE_BOX, ROOT, arrows, imported, tree

MAP = (ROOT / "kit" / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d) \| ([\w ]+) \| ((?:`[\w.]+`(?:, )?)+) \| (.+) \|$", MAP, re.M)


def listed() -> dict[str, tuple[int, str]]:
    """Module, or package for all that is in it -> (floor, room)."""
    return {
        module: (int(floor), room)
        for floor, room, modules, _ in ROWS
        for module in re.findall(r"`([\w.]+)`", modules)
    }


def place(name: str) -> tuple[int, str]:
    """(floor, room) of a module: its own row, else that of the package around it."""
    rows = listed()
    around = name
    while around not in rows:
        around = around.rpartition(".")[0]
        assert around not in ("", "kit"), f"the map has no row for {name}"
    return rows[around]


def forbidden(name: str, other: str) -> bool:
    """Whether a module may not import another: it stands higher, or in another room of the same
    floor.
    """
    (floor, room), (other_floor, other_room) = place(name), place(other)
    return floor < other_floor or (floor == other_floor and room != other_room)


def test_every_module_has_its_room_and_every_row_its_modules():
    assert {name: place(name) for name in FILES}
    named = {module for module in listed() if module in FILES}
    assert sorted(set(listed()) - named) == [], "rows without a module"


def test_every_room_is_in_the_picture():
    picture = MAP.partition("```\n")[2].partition("```")[0]
    rooms = {room for _, room in listed().values()} - {"door", "sandbox"}
    assert sorted(room for room in rooms if not re.search(rf"\b{room}\b", picture)) == []


def test_arrows_point_down_and_stages_do_not_import_each_other():
    wrong = sorted(arrow for arrow in arrows() if forbidden(*arrow))
    assert wrong == [], "move what is shared to a lower floor"


def test_the_map_has_no_exceptions():
    assert "exception" not in MAP.lower()


def test_there_is_no_circle():
    """Take away modules that import nothing more; what is left over goes in circles."""
    left = {name: {other for start, other in arrows() if start == name} for name in FILES}
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    assert sorted(left) == []


def test_the_shared_words_import_nothing_of_kit():
    assert [other for name, other in arrows() if name == "kit.core.types"] == []


def test_the_sandbox_imports_nothing_of_the_rest():
    ours = {other for name, other in arrows() if name.startswith("kit.sandbox")}
    assert all(other.startswith("kit.sandbox") for other in ours)


def test_the_reader_of_imports_sees_all_kinds():
    text = (
        "import kit.core.run\n"
        "from . import records\n"
        "def f():\n"
        "    from kit.display import figures as drawn\n"
        "    from ..environments import base\n"
        "    import os"
    )
    found = imported(ast.parse(text), "kit.core.profile", is_package=False)
    assert found == {
        "kit.core.run",
        "kit.core.records",
        "kit.display.figures",
        "kit.environments.base",
    }
    assert forbidden("kit.core.records", "kit.grpo")
    assert forbidden("kit.filters", "kit.grpo")
    assert not forbidden("kit.curriculum", "kit.difficulty")


HARMLESS = (
    ast.Import,
    ast.ImportFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Assign,
    ast.AnnAssign,
)


def acts(node: ast.stmt) -> bool:
    """Whether a top-level statement does more than define a name."""
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return ast.unparse(node.test) not in ("__name__ == '__main__'", "TYPE_CHECKING")
    if isinstance(node, ast.Try):
        return not all(isinstance(part, ast.Import | ast.ImportFrom) for part in node.body)
    targets = node.targets if isinstance(node, ast.Assign) else []
    stored = any(isinstance(target, ast.Attribute | ast.Subscript) for target in targets)
    return stored or not isinstance(node, HARMLESS)


@pytest.mark.parametrize("name", [name for name in FILES if name not in IN_THE_BOX])
def test_an_import_only_defines_names(name):
    """Style, palettes, environment variables, logging, schedules: whoever wants them set makes a
    call.
    """
    assert [ast.unparse(node)[:100] for node in tree(name).body if acts(node)] == []


def test_statements_that_act_are_seen():
    source = (
        "import os\nos.environ['A'] = '1'\nprint('x')\nfor x in ():\n    pass\nif x:\n    y = 1"
    )
    assert [acts(node) for node in ast.parse(source).body] == [False, True, True, True, True]
