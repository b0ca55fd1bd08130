"""What a notebook calls has a contract: arguments, what is returned, what is raised, and the
source.
"""

import ast
import re
from functools import cache

import nbformat
import pytest

from tests.house import FILES, ROOT, tree


def definitions(module: str) -> dict[str, ast.AST]:
    """The functions and classes of a module by name; a package that only imports names hands them
    on.
    """
    found: dict[str, ast.AST] = {}
    for node in tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.ImportFrom) and node.module in FILES:
            wanted = {alias.name for alias in node.names}
            if FILES[module].name == "__init__.py":
                inner = definitions(node.module)
                found |= {name: inner[name] for name in wanted & inner.keys()}
    return found


def code_of(notebook) -> str:
    """All code cells as one program."""
    cells = nbformat.read(notebook, 4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def kit_imports(program: ast.Module) -> dict[str, str]:
    """Name in a notebook -> module or `module:name` of kit."""
    found = {}
    for node in ast.walk(program):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "kit":
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                home = submodule if submodule in FILES else f"{node.module}:{alias.name}"
                found[alias.asname or alias.name] = home
    return found


@cache
def called() -> dict[str, ast.AST]:
    """`module.name` -> definition, for every function and class of kit that a notebook names, and
    the methods of `run`.
    """
    found: dict[str, ast.AST] = {}
    methods = {
        f"kit.core.run.Run.{node.name}": node
        for node in definitions("kit.core.run")["Run"].body
        if isinstance(node, ast.FunctionDef)
    }
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        program = ast.parse(code_of(notebook))
        imports = kit_imports(program)
        for node in ast.walk(program):
            if isinstance(node, ast.Name) and ":" in imports.get(node.id, ""):
                module, _, name = imports[node.id].partition(":")
                if name in definitions(module):
                    found[f"{module}.{name}"] = definitions(module)[name]
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                continue
            home = imports.get(node.value.id, "")
            if home in FILES and node.attr in definitions(home):
                found[f"{home}.{node.attr}"] = definitions(home)[node.attr]
            method = f"kit.core.run.Run.{node.attr}"
            if node.value.id == "run" and method in methods:
                found[method] = methods[method]
    return found


def sections(text: str) -> dict[str, str]:
    """The parts of a docstring that begin with `Args:`, `Returns:`, `Raises:`, `Source:`."""
    parts = re.split(r"^(Args|Returns|Raises|Source):", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parameters(node: ast.FunctionDef) -> list[str]:
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    every += [x for x in (node.args.vararg, node.args.kwarg) if x]
    names = [x.arg for x in every]
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def raises(node: ast.FunctionDef) -> bool:
    """Whether the function itself raises something that a caller may meet."""
    return any(isinstance(part, ast.Raise) and part.exc for part in ast.walk(node))


def missing(node: ast.AST) -> list[str]:
    """What the contract of a function or class does not say."""
    found = sections(ast.get_docstring(node) or "")
    out = [] if "Source" in found else ["Source"]
    function = node
    if isinstance(node, ast.ClassDef):
        own = [x for x in node.body if isinstance(x, ast.FunctionDef) and x.name == "__init__"]
        if not own:
            return out
        function = own[0]
    names = parameters(function)
    if names and "Args" not in found:
        out.append("Args")
    out += [name for name in names if not re.search(rf"\b{name}\b", found.get("Args", ""))]
    is_property = any("property" in ast.unparse(x) for x in function.decorator_list)
    gives = function.returns is not None and ast.unparse(function.returns) != "None"
    if gives and not is_property and "Returns" not in found:
        out.append("Returns")
    if raises(function) and "Raises" not in found:
        out.append("Raises")
    return out


def test_notebooks_call_what_is_looked_at_here():
    assert len(called()) > 90
    assert {"kit.yields.yield_table", "kit.core.run.Run.table"} <= called().keys()
    assert "kit.display.figures.draw_funnel" in called()


@pytest.mark.parametrize("name", sorted(called()))
def test_what_a_notebook_calls_has_a_contract(name):
    assert missing(called()[name]) == []
