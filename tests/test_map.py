"""kit/README.md is the map: every module stands in it, every import obeys it. And every public thing in kit has a docstring."""

import ast
import importlib
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAP = (ROOT / "kit" / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d) \| (\w+) \| `([\w.]+)` \| (.+) \|$", MAP, re.M)
PLACE = {module: (int(floor), room) for floor, room, module, _ in ROWS}
EXCEPTIONS = set(re.findall(r"^- `(\S+) -> (\S+)`: \S", MAP, re.M))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {
    name_of(path): path
    for path in sorted((ROOT / "kit").rglob("*.py"))
    if path.parent.name != "verifiers"
}  # that is a package of its own


def imported(source: str, name: str, is_package: bool) -> set[str]:
    """The modules of kit that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".")[: None if is_package else -1]
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (above, node.module)))
            found |= {
                f"{base}.{a.name}" if f"{base}.{a.name}" in FILES else base for a in node.names
            }
    return {module for module in found if module.partition(".")[0] == "kit"} - {name}


@cache
def arrows() -> frozenset[tuple[str, str]]:
    return frozenset(
        (name, other)
        for name, path in FILES.items()
        for other in imported(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")
    )


def forbidden(name: str, other: str) -> bool:
    (floor, room), (floor_below, other_room) = PLACE[name], PLACE[other]
    return floor < floor_below or floor == floor_below and room != other_room


def test_every_module_stands_in_the_map_once_and_nothing_else():
    assert sorted(module for *_, module, _ in ROWS) == sorted(FILES)


def test_every_module_is_in_the_picture():
    picture = MAP.partition("```\n")[2].partition("```")[0]
    words = {name.rpartition(".")[2] for name in FILES} - {
        "kit",
        "__main__",
        "livecodebench",
        "maths",
        "_contest",
    }
    assert sorted(word for word in words if not re.search(rf"(?<!\w){word}(?!\w)", picture)) == []


def test_arrows_point_down_and_stages_do_not_import_each_other():
    wrong = {arrow for arrow in arrows() if forbidden(*arrow)}
    assert sorted(wrong - EXCEPTIONS) == [], "move what is shared to a lower floor"
    assert sorted(EXCEPTIONS - wrong) == [], "listed as an exception, but no longer one"


def test_the_reader_of_imports_sees_all_kinds():
    assert {"kit.run", "kit.sandbox", "kit.engine"} <= {
        other for name, other in arrows() if name in ("kit.run", "kit.evaluation")
    }
    text = "import kit.run\nfrom . import records\ndef f():\n    from kit import plots as p\n    from .environments import base\n    import os"
    assert imported(text, "kit.models", False) == {
        "kit.run",
        "kit.records",
        "kit.plots",
        "kit.environments.base",
    }
    assert (
        forbidden("kit.records", "kit.run")
        and forbidden("kit.filters", "kit.grpo")
        and not forbidden("kit.curricula", "kit.difficulty")
    )


def undocumented(module) -> list[str]:
    """Public functions, classes and methods without a docstring; an inherited one will do for a method."""
    found = []
    for name, thing in vars(module).items():
        if (
            name.startswith("_")
            or getattr(thing, "__module__", "") != module.__name__
            or not (inspect.isclass(thing) or inspect.isfunction(thing))
        ):
            continue
        if not thing.__doc__ or thing.__doc__.startswith(
            f"{name}("
        ):  # the latter is a dataclass's own
            found.append(name)
        for key, part in vars(thing).items() if inspect.isclass(thing) else ():
            part = getattr(part, "__func__", part)
            if (
                not key.startswith("_")
                and (inspect.isfunction(part) or isinstance(part, property))
                and not inspect.getdoc(getattr(thing, key))
            ):
                found.append(f"{name}.{key}")
    return found


@pytest.mark.parametrize("name", FILES)
def test_everything_public_has_a_docstring(name):
    if name.rpartition(".")[2] in ("_boxed", "_contest"):  # they run in the box, as source
        assert ast.get_docstring(ast.parse(FILES[name].read_text(encoding="utf-8")))
        return
    if name == "kit.ways.openenv":
        pytest.importorskip("openenv", reason="make ways")
    module = importlib.import_module(name)
    assert module.__doc__ and undocumented(module) == []
