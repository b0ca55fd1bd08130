"""Seeds: the real code a problem starts from. Two kinds, as in the paper.

Wild: 25-50 consecutive lines at a random position of a random file (after Magicoder's OSS-Instruct). The paper takes
files of `bigcode/starcoderdata`; here they are installed source, so no network is needed (our choice). Real: solved
functions. The paper takes solutions of contest problems from a first RL run; here they are reasoning-gym's CodeI/O
functions (our choice). Seeds are read and parsed, never run. Same number, same installed versions: same seeds.

Some more of the real functions are not shown to a teacher: `as_is` they become induction problems, the real data with which the
synthetic ones are compared and mixed (F3-F5).
"""

import ast
import functools
import gzip
import json
import random
import re
import sys
import sysconfig
import textwrap
from collections.abc import Iterable
from importlib import metadata, util
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from kit.environments.base import unstable_name
from kit.profile import Profile
from kit.records import digest
from kit.sandbox import PRELOAD

# Beside the standard library: well-kept pure Python that our dependencies bring along (our choice).
PACKAGES = (
    "networkx",
    "mpmath",
    "jinja2",
    "packaging",
    "rich",
    "tqdm",
    "jsonschema",
    "mistune",
    "parso",
    "click",
)
CODEIO = "reasoning_gym/data/codeio.jsonl.gz"
# Tests, vendored copies, tables, generated code, programs with windows, and packages inside the library's folder.
SKIPPED = re.compile(
    r"(^|/)(tests?|testing|_?vendor(ed)?|third_party|examples?|site-packages|dist-packages|config-[^/]*|ensurepip|"
    r"lib2to3|encodings|pydoc_data|idlelib|tkinter|turtledemo|__pycache__)/|"
    r"(^|/)(test_[^/]*|[^/]*_test|conftest|_version|turtle|[^/]*(codes|data|tables?|palette|emoji|entities)[^/]*)\.py$"
)
GENERATED = re.compile(
    r"auto-?\s?generated|generated (by|from)|do not (edit|modify)", re.IGNORECASE
)
BRANCHES = (
    ast.For,
    ast.While,
    ast.If,
    ast.IfExp,
    ast.Match,
    ast.ListComp,
    ast.GeneratorExp,
    ast.DictComp,
)


class SeedError(ValueError):
    """There are not as many seeds as were asked for; the message says how many there are and what to change."""


class Seed(BaseModel):
    """`origin`: path and lines, relative to the standard library or site-packages. `licence`: of which distribution.
    `task` and `generator`: of a real function, what it computes and the code that makes inputs for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    text: str
    source: Literal["wild", "real"]
    origin: str
    split: Literal["train", "held_out"] = "train"
    licence: str = ""
    as_is: bool = False
    task: str = ""
    generator: str = ""


def sample(profile: Profile) -> list[Seed]:
    """`profile.seeds.wild` and `.real` seeds and `.problems` functions as they are, with their split, in a fixed order. Raises SeedError."""
    asked = profile.seeds
    functions = real(asked.real, profile.seed, asked.lines[1])
    found = wild(asked.wild, asked.lines, profile.seed) + functions
    others = (
        [
            s
            for s in real(asked.real + asked.problems, profile.seed, asked.problem_lines)
            if s not in functions
        ]
        if asked.problems
        else []
    )
    as_is = [s.model_copy(update={"as_is": True}) for s in others[: asked.problems]]
    return split(found, asked.held_out, profile.seed) + split(as_is, asked.held_out, profile.seed)


def wild(n: int, lines=(25, 50), seed: int = 0, roots: Iterable[Path] | None = None) -> list[Seed]:
    """n windows of `lines` consecutive lines, common indentation removed; `roots`: folders to take instead of PACKAGES.

    A window counts (our choice) if at least half of its lines are code inside functions, docstrings and comments left
    out, and one of them branches or loops. Every file is tried once before any is tried again. Raises SeedError."""
    if not 1 <= lines[0] <= lines[1]:
        raise SeedError(
            f"lines: {lines} should be the shortest and the longest window, e.g. [25, 50]"
        )
    files = _files(_installed() if roots is None else tuple((Path(r), Path(r), "") for r in roots))
    rng = random.Random(f"wild {seed}")
    tries = (file for _ in range(20) for file in rng.sample(files, len(files)))
    found = filter(None, (_window(*file, rng.randint(*lines), rng) for file in tries))
    return _take(
        n, "wild", found, f"wild seeds in {len(files)} files: lower seeds.wild or seeds.lines"
    )


def real(n: int, seed: int = 0, longest: int = 50) -> list[Seed]:
    """n functions `main_solution` with their helpers, of 5 to `longest` lines. Left out (our choice): those that
    import what the sandbox lacks, or depend on a clock, files or chance. Raises SeedError."""
    package, licence = (
        Path(util.find_spec("reasoning_gym").origin).parent,
        _licence("reasoning-gym"),
    )
    rows = _functions(package.parent / CODEIO)
    found = [
        (
            row["code_sample"].strip(),
            f"{CODEIO}:{k}",
            licence,
            row["task_description"].strip(),
            row["input_generator"].strip(),
        )
        for k, row in enumerate(rows, 1)
    ]
    random.Random(f"real {seed}").shuffle(found)
    good = (x for x in found if 5 <= x[0].count("\n") + 1 <= longest and _stands_alone(x[0]))
    return _take(
        n, "real", good, f"real seeds of 5 to {longest} lines: lower seeds.real or seeds.problems"
    )


@functools.lru_cache(maxsize=1)
def _functions(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def split(seeds: list[Seed], held_out: float, seed: int = 0) -> list[Seed]:
    """The seeds with `split` set: of each source's files the share `held_out`, rounded. Windows of one file stay
    together, so that no relative of a training problem gets into the evaluation (our choice)."""
    family = {s.id: s.origin.partition(":")[0] if s.source == "wild" else s.origin for s in seeds}
    chosen = set()
    for source in ("wild", "real"):
        files = sorted({family[s.id] for s in seeds if s.source == source})
        chosen.update(random.Random(f"split {seed}").sample(files, round(held_out * len(files))))
    return [
        s.model_copy(update={"split": "held_out" if family[s.id] in chosen else "train"})
        for s in seeds
    ]


def frame(seeds: Iterable[Seed]) -> pd.DataFrame:
    """One row per seed: the fields of `Seed`."""
    return pd.DataFrame([s.model_dump() for s in seeds], columns=list(Seed.model_fields))


def from_frame(table: pd.DataFrame) -> list[Seed]:
    """The seeds of such a table, as `frame` made it."""
    return [Seed(**row) for row in table[list(Seed.model_fields)].to_dict("records")]


def _take(n: int, source: str, candidates: Iterable[tuple[str, ...]], what: str) -> list[Seed]:
    """The first n distinct of (text, origin, licence, and of a real one task and generator) as seeds."""
    found = {}
    for text, origin, licence, *more in candidates if n else ():
        found.setdefault(
            digest(text),
            Seed(
                id=digest(text),
                text=text,
                source=source,
                origin=origin,
                licence=licence,
                **dict(zip(("task", "generator"), more)),
            ),
        )
        if len(found) == n:
            break
    if len(found) < n:
        raise SeedError(f"{n} asked for, but there are only {len(found)} {what}")
    return list(found.values())


def _installed() -> tuple:
    """(folder, what origins are relative to, licence) of the standard library and of each of PACKAGES that is there."""
    library = Path(sysconfig.get_paths()["stdlib"])
    there = {name: Path(spec.origin).parent for name in PACKAGES if (spec := util.find_spec(name))}
    return (
        (library, library, f"PSF-2.0 (Python {sys.version.split()[0]})"),
        *((folder, folder.parent, _licence(name)) for name, folder in there.items()),
    )


def _licence(distribution: str) -> str:
    """As its metadata states it, with name and version: `Apache-2.0 (reasoning-gym 0.1.25)`."""
    facts = metadata.metadata(distribution)
    classifiers = [
        c.rpartition(" :: ")[2]
        for c in facts.get_all("Classifier", [])
        if c.startswith("License ::")
    ]
    stated = facts.get("License-Expression") or " or ".join(classifiers) or "unknown"
    return f"{stated} ({distribution} {facts['Version']})"


@functools.lru_cache(maxsize=4)
def _files(roots: tuple) -> list[tuple[Path, Path, str]]:
    return [
        (path, base, licence)
        for folder, base, licence in roots
        for path in sorted(folder.rglob("*.py"))
        if not SKIPPED.search(path.relative_to(base).as_posix())
    ]


@functools.lru_cache(maxsize=4096)
def _read(path: Path) -> tuple[list[str], set[int], set[int]]:
    """A file's lines, the numbers of those with code inside functions, and of those where a branch or loop begins."""
    nothing: tuple = [], set(), set()
    try:
        code = path.read_text(encoding="utf-8")
        tree, lines = (
            ast.parse(code),
            code.split("\n"),
        )  # splitlines knows more line ends than the parser
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return nothing
    # Very long lines are data; a fence would end the prompt's own.
    if GENERATED.search(code[:500]) or "```" in code or max(map(len, lines)) > 200:
        return nothing
    functions = [
        node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    nodes = [
        node
        for f in functions
        for statement in f.body
        for node in ast.walk(statement)
        if hasattr(node, "lineno")
        and not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
    ]  # a docstring
    branches = {node.lineno for node in nodes if isinstance(node, BRANCHES)}
    return lines, {k for node in nodes for k in (node.lineno, node.end_lineno)}, branches


def _window(
    path: Path, base: Path, licence: str, length: int, rng: random.Random
) -> tuple[str, str, str] | None:
    """(text, origin, licence) of a random window, or None where the file or the window will not do."""
    lines, inside, branches = _read(path)
    first = rng.randint(1, max(1, len(lines) - length + 1))
    window, numbers = lines[first - 1 : first - 1 + length], set(range(first, first + length))
    logic = 2 * len(numbers & inside) >= length and numbers & branches
    if len(window) < length or not logic or not window[0].strip() or not window[-1].strip():
        return None
    origin = f"{path.relative_to(base).as_posix()}:{first}-{first + length - 1}"
    return textwrap.dedent("\n".join(window)), origin, licence


def _stands_alone(code: str) -> bool:
    nodes = list(ast.walk(ast.parse(code)))  # all of them parse
    imported = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return imported <= set(PRELOAD) and "```" not in code and not unstable_name(code)
