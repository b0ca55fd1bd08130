"""Seeds: the real code a problem starts from. Two kinds, as in the paper.

Wild: 25-50 consecutive lines at a random position of a random file (after Magicoder's
OSS-Instruct). The paper takes files of `bigcode/starcoderdata`; here they are installed source, so
no network is needed (our choice).

Real: solved functions. The paper takes solutions of coding problems from a first RL run; here they
are reasoning-gym's CodeI/O functions (our choice). Some more of them are not shown to a teacher:
`as_is` they become induction problems, the real data with which the synthetic ones are compared
and mixed (F3-F5).

Seeds are read and parsed, never run. Same number, same installed versions: same seeds.
"""

import ast
import gzip
import json
import random
import re
import sys
import sysconfig
import textwrap
from collections.abc import Iterable
from functools import cache
from importlib import metadata, util
from itertools import chain
from pathlib import Path

import pandas as pd

from kit.core.config import Profile
from kit.core.programs import unstable_name
from kit.core.types import SeedSnippet, digest
from kit.mini.language import drawn_functions
from kit.sandbox import PRELOAD

# Beside the standard library: well-kept pure Python that our dependencies bring along (our choice).
SEED_PACKAGES = (
    "networkx mpmath jinja2 packaging rich tqdm jsonschema mistune parso click"
).split()

CODEIO = "reasoning_gym/data/codeio.jsonl.gz"

# Left out: tests, vendored copies, tables, generated code, programs with windows, and packages
# inside the library's folder.
SKIPPED = re.compile(
    r"(^|/)(tests?|testing|_?vendor(ed)?|third_party|examples?|site-packages|dist-packages"
    r"|config-[^/]*|ensurepip|lib2to3|encodings|pydoc_data|idlelib|tkinter|turtledemo"
    r"|__pycache__)/|"
    r"(^|/)(test_[^/]*|[^/]*_test|conftest|_version|turtle"
    r"|[^/]*(codes|data|tables?|palette|emoji|entities)[^/]*)\.py$"
)

GENERATED = re.compile(
    r"auto-?\s?generated|generated (by|from)|do not (edit|modify)", re.IGNORECASE
)

BRANCHES = (
    ast.For
    | ast.While
    | ast.If
    | ast.IfExp
    | ast.Match
    | ast.ListComp
    | ast.GeneratorExp
    | ast.DictComp
)


class SeedError(ValueError):
    """There are not as many seeds as were asked for; the message says what to change."""


def sample_seeds(profile: Profile) -> list[SeedSnippet]:
    """All seeds of a run, in a fixed order.

    Args:
        profile: its section `seeds` says how many of which kind, how long, and how many of them
            are held out; `seed` is the number of the draw.
    Returns:
        Wild seeds, then real ones for the teacher, then real functions that become problems as
        they are (`as_is`), all with their `split`.
    Raises:
        SeedError: there are fewer than the profile asks for.
    Source: paper (the two kinds); where they come from and the held-out share are our choice.
    """
    asked = profile.seeds
    functions = real_seeds(asked.real, profile.seed, asked.lines[1])
    shown = wild_seeds(asked.wild, asked.lines, profile.seed) + functions
    # Real data: further functions, none of which a teacher is shown.
    enough = asked.real + asked.problems
    others: list[SeedSnippet] = []
    if asked.problems and asked.corpus == "mini":
        others = drawn_functions(asked.problems, profile.seed)
    elif asked.problems:
        others = real_seeds(enough, profile.seed, asked.problem_lines)
    new = [seed.model_copy(update={"as_is": True}) for seed in others if seed not in functions]
    as_is = new[: asked.problems]
    return split_seeds(shown, asked.held_out, profile.seed) + split_seeds(
        as_is, asked.held_out, profile.seed
    )


def wild_seeds(n: int, lines=(25, 50), seed: int = 0) -> list[SeedSnippet]:
    """Windows of consecutive lines of installed source files.

    A window counts if at least half of its lines are code inside functions, docstrings and
    comments left out, and one of them branches or loops. Every file is tried once before any is
    tried again.

    Args:
        n: number of seeds.
        lines: the shortest and the longest window, in lines.
        seed: number of the draw.
    Returns:
        n different seeds; the indentation that all lines share is removed.
    Raises:
        SeedError: there are fewer.
    Source: paper (consecutive lines at a random position of a file); which windows count is our
        choice.
    """
    files = _files(_installed())
    rng = random.Random(f"wild {seed}")
    tries = (file for _ in range(20) for file in rng.sample(files, len(files)))
    windows = filter(None, (_window(*file, rng.randint(*lines), rng) for file in tries))
    return _take(n, windows, f"wild seeds in {len(files)} files: lower seeds.wild or seeds.lines")


@cache
def _functions() -> list[SeedSnippet]:
    """All functions of CodeI/O."""
    path = metadata.distribution("reasoning-gym").locate_file(CODEIO)
    licence = _licence("reasoning-gym")
    with gzip.open(str(path), "rt", encoding="utf-8") as file:
        return [
            _seed_of(
                row["code_sample"].strip(),
                source="real",
                origin=f"{CODEIO}:{number}",
                licence=licence,
                task=row["task_description"].strip(),
                generator=row["input_generator"].strip(),
            )
            for number, row in enumerate(map(json.loads, file), 1)
        ]


def real_seeds(n: int, seed: int = 0, longest: int = 50) -> list[SeedSnippet]:
    """Functions `main_solution` with their helpers, of reasoning-gym's CodeI/O.

    Left out: those that import what the sandbox does not have, or depend on a clock, files or
    chance.

    Args:
        n: number of seeds.
        seed: number of the draw; the first seeds of a larger draw are those of a smaller one.
        longest: most lines of a function; the fewest are 5.
    Returns:
        n different seeds, each with its `task` and its `generator` of inputs.
    Raises:
        SeedError: there are fewer.
    Source: paper (solutions of real problems); CodeI/O and the limits are our choice.
    """
    functions = [*_functions()]
    random.Random(f"real {seed}").shuffle(functions)
    good = (
        function
        for function in functions
        if 5 <= function.text.count("\n") + 1 <= longest and _stands_alone(function.text)
    )
    return _take(n, good, f"real seeds of 5 to {longest} lines: lower seeds.real or seeds.problems")


def split_seeds(seeds: list[SeedSnippet], held_out: float, seed: int = 0) -> list[SeedSnippet]:
    """The seeds with `split` set: of each source's files the share `held_out`, rounded.

    Windows of one file stay together, so that no relative of a training problem gets into the
    evaluation (our choice).
    """
    family = {s.id: s.origin.partition(":")[0] if s.source == "wild" else s.origin for s in seeds}
    chosen: set[str] = set()
    for source in ("wild", "real"):
        files = sorted({family[s.id] for s in seeds if s.source == source})
        chosen.update(random.Random(f"split {seed}").sample(files, round(held_out * len(files))))
    return [
        s.model_copy(update={"split": "held_out" if family[s.id] in chosen else "train"})
        for s in seeds
    ]


def seeds_frame(seeds: Iterable[SeedSnippet]) -> pd.DataFrame:
    """The seeds as a table, to save and to show.

    Args:
        seeds: any.
    Returns:
        One row per seed, a column for each field of `SeedSnippet`.
    Source: our choice.
    """
    return pd.DataFrame(
        [seed.model_dump() for seed in seeds], columns=list(SeedSnippet.model_fields)
    )


def seeds_from_frame(table: pd.DataFrame) -> list[SeedSnippet]:
    """The seeds of a table that `seeds_frame` made.

    Args:
        table: one row per seed; other columns than the fields of `SeedSnippet` are passed over.
    Returns:
        The seeds, in the table's order.
    Source: our choice.
    """
    return [SeedSnippet(**row) for row in table[list(SeedSnippet.model_fields)].to_dict("records")]


def _seed_of(text, **facts):
    """A seed is known by its text, so that the same text is the same seed."""
    return SeedSnippet(id=digest(text), text=text, **facts)


def _take(n, candidates, what):
    """The first n different candidates; no more of them are made than that takes."""
    found: dict[str, SeedSnippet] = {}
    while len(found) < n:
        seed = next(candidates, None)
        if seed is None:
            raise SeedError(f"{n} asked for, but there are only {len(found)} {what}")
        found.setdefault(seed.id, seed)
    return list(found.values())


def _installed():
    """(folder, base of its origins, licence) of the standard library and each of SEED_PACKAGES."""
    library = Path(sysconfig.get_paths()["stdlib"])
    python = (library, library, f"PSF-2.0 (Python {sys.version.split()[0]})")
    # Looked up, not imported.
    specs = map(util.find_spec, SEED_PACKAGES)
    found = [(spec.name, Path(spec.origin).parent) for spec in specs if spec and spec.origin]
    return python, *((folder, folder.parent, _licence(name)) for name, folder in found)


def _licence(distribution):
    """As its metadata states it, with name and version: `Apache-2.0 (reasoning-gym 0.1.25)`."""
    facts = metadata.metadata(distribution)
    stated = facts.get_all("License-Expression") or [
        classifier.rpartition(" :: ")[2]
        for classifier in facts.get_all("Classifier", [])
        if classifier.startswith("License ::")
    ]
    return f"{' or '.join(stated) or 'unknown'} ({distribution} {facts['Version']})"


@cache
def _files(roots) -> list[tuple[Path, Path, str]]:
    """(path, base of its origin, licence) of every file that may be a source of seeds."""
    return [
        (path, base, licence)
        for folder, base, licence in roots
        for path in sorted(folder.rglob("*.py"))
        if not SKIPPED.search(path.relative_to(base).as_posix())
    ]


@cache
def _read(path):
    """A file's lines; the numbers of those with code inside functions, and of those that branch."""
    inside: set[int] = set()
    branches: set[int] = set()
    try:
        code = path.read_text(encoding="utf-8")
        tree = ast.parse(code)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return [], inside, branches
    # Not splitlines, which knows more line ends than the parser.
    lines = code.split("\n")
    # Generated code teaches little, very long lines are data, a fence would end the prompt's own.
    if GENERATED.search(code[:500]) or "```" in code or max(map(len, lines)) > 200:
        return [], inside, branches
    functions = [x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef)]
    for statement in chain.from_iterable(function.body for function in functions):
        # A docstring is no logic.
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        for node in ast.walk(statement):
            # Nodes without a place of their own count as line 0, which is in no window.
            inside |= {getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)}
            if isinstance(node, BRANCHES):
                branches.add(node.lineno)
    return lines, inside, branches


def _window(path, base, licence, length, rng):
    """A random window of a file as a seed; None where the file or the window will not do."""
    lines, inside, branches = _read(path)
    first = rng.randint(1, max(1, len(lines) - length + 1))
    last = first + length - 1
    window = lines[first - 1 : last]
    # Too short a file, or blank lines at an end.
    if len(window) < length or not window[0].strip() or not window[-1].strip():
        return None
    # Too little logic: there must be something to make a problem of (our choice).
    numbers = range(first, last + 1)
    if 2 * len(inside.intersection(numbers)) < length or branches.isdisjoint(numbers):
        return None
    origin = f"{path.relative_to(base).as_posix()}:{first}-{last}"
    text = textwrap.dedent("\n".join(window))
    return _seed_of(text, source="wild", origin=origin, licence=licence)


def _stands_alone(code):
    """Whether a function runs in the sandbox and returns the same whenever it runs."""
    # All of them parse.
    nodes = list(ast.walk(ast.parse(code)))
    imported = {x.name for node in nodes if isinstance(node, ast.Import) for x in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return imported <= {*PRELOAD} and "```" not in code and not unstable_name(code)
