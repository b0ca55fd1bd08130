"""What the tests of the layout share: the files of `kit/`, their syntax trees and their imports.

Nothing of kit is run.
"""

import ast
import io
import tokenize
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Source that runs alone in the sandbox, and a package of its own: they import nothing of kit.
IN_THE_BOX = ("kit.sandbox._boxed", "kit.benchmarks._contest")
OWN_PACKAGE = ROOT / "kit" / "integrations" / "verifiers"


def name_of(path: Path) -> str:
    """`kit/core/types.py` -> `kit.core.types`; a package's `__init__.py` -> the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {
    name_of(path): path
    for path in sorted((ROOT / "kit").rglob("*.py"))
    if OWN_PACKAGE not in path.parents
}


@cache
def tree(name: str) -> ast.Module:
    """The syntax tree of a module of kit."""
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def imported(syntax: ast.Module, name: str, is_package: bool) -> set[str]:
    """The modules of kit that a module imports, anywhere in it, functions included."""
    found = set()
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # A relative import starts from the package of the module.
            package = name.split(".")[: None if is_package else -1]
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (above, node.module)))
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                found.add(submodule if submodule in FILES else base)
    return {module for module in found if module.partition(".")[0] == "kit"} - {name}


@cache
def arrows() -> frozenset[tuple[str, str]]:
    """(module, module that it imports) for all of kit."""
    return frozenset(
        (name, other)
        for name, path in FILES.items()
        for other in imported(tree(name), name, path.name == "__init__.py")
    )


def public_names(name: str) -> set[str]:
    """Functions, classes and constants that a module defines at its top level, without a leading
    underscore.
    """
    found = set()
    for node in tree(name).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        for target in targets:
            found |= {part.id for part in ast.walk(target) if isinstance(part, ast.Name)}
    return {x for x in found if not x.startswith("_")}


UNCOUNTED = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def python_tokens(path: Path) -> int:
    """Python tokens of a file.

    Comments and line ends are not counted, a docstring is one token however long it is.
    """
    text = io.StringIO(path.read_text(encoding="utf-8"))
    tokens = tokenize.generate_tokens(text.readline)
    return sum(token.type not in UNCOUNTED for token in tokens)
