"""From text to syntax tree and back: how the kit reads programs and answers that a model wrote.

Nothing is executed here.
"""

import ast
import re
from contextlib import suppress

from kit.core.types import Reason, Rejected
from kit.sandbox.values import arguments, call_text, parse


def code_block(answer: str) -> str:
    """The last fenced Python block; an answer without a fence that begins like code is taken whole.

    Raises Rejected: there is no code.
    """
    if not answer.strip():
        raise Rejected(Reason.EMPTY)
    # Blocks of other languages are read over: else their ends would begin blocks.
    blocks = re.findall(r"```(\w*)[^\n`]*\n(.*?)```", answer, flags=re.S)
    ours = [code for kind, code in blocks if kind.lower() in ("", "py", "python", "python3")]
    if ours:
        return ours[-1]
    # No block is closed: take what follows the first fence, or the whole answer.
    bare = re.sub(r"\A.*?```\w*[^\n`]*\n", "", answer, flags=re.S)
    if re.match(r"\s*(def|import|from|class|@)\s", bare):
        return bare
    raise Rejected(Reason.NO_CODE)


def module(code: str, *functions: str) -> str:
    """Normal form of a program: imports, definitions and assignments only, without comments.

    Every name in `functions` must be defined at the top level. Raises Rejected.
    """
    keep = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    # What the parser cannot read, or cannot write and read again, is the text's own fault: signs
    # without end, integers with thousands of digits.
    try:
        tree = parse(code)
        tree.body = [node for node in tree.body if isinstance(node, keep)]
        normal = ast.unparse(tree)
        parse(normal)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as fault:
        raise Rejected(Reason.SYNTAX, str(fault)) from None
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    missing = " or ".join(name for name in functions if name not in defined)
    if missing:
        raise Rejected(Reason.NO_FUNCTION, f"no function named {missing} at the top level")
    return normal


def function(code: str, name: str = "f") -> ast.FunctionDef:
    """The syntax tree of a top-level function.

    Raises StopIteration if there is none: `module` must have checked the code before.
    """
    return next(
        node for node in parse(code).body if isinstance(node, ast.FunctionDef) and node.name == name
    )


def docstring(code: str) -> str:
    """The docstring of f on one line; empty if it has none."""
    return " ".join((ast.get_docstring(function(code)) or "").split())


def signature(program: str) -> str:
    """`f(xs: list[int]) -> int` of a program, without its body."""
    node = function(program)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"f({ast.unparse(node.args)}){returns}"


# A string, to its end or to that of the text: one that does not end is read only once.
_STRING = r"""'(?:[^'\\]|\\.)*+'?|"(?:[^"\\]|\\.)*+"?"""

_BRACKET = re.compile(rf"{_STRING}|[()]")


def _closing(line, start):
    """The place of the bracket that ends a call; brackets inside strings do not count."""
    depth = 1
    for part in _BRACKET.finditer(line, start):
        depth += {"(": 1, ")": -1}.get(part[0], 0)
        if not depth:
            return part.start()
    return None


def calls(answer: str) -> list[str]:
    """The argument texts of the calls `f(...)` in an answer, in order, without repeats.

    At most one in a line counts, and only if all its arguments are literals.
    """
    found: dict[str, None] = {}
    for line in answer.splitlines():
        begin = re.search(r"(?<!\w)f\(", "" if "def " in line else line)
        if begin and (end := _closing(line, begin.end())):
            with suppress(ValueError):
                found[call_text(arguments(line[begin.end() : end]))] = None
    return list(found)


def given_arguments(answer: str) -> tuple:
    """A student's input, `[1, 2], 3` or `f([1, 2], 3)`, read as literals, never run.

    Raises Rejected.
    """
    try:
        return arguments(re.sub(r"\Af\((.*)\)\Z", r"\1", answer.strip(), flags=re.S))
    except ValueError as fault:
        raise Rejected(Reason.NO_ANSWER, str(fault)) from None


def last_tag(answer: str) -> str:
    """Text of the last complete <answer>...</answer>. Raises Rejected."""
    ended = answer.split("</answer>")[:-1]
    found = [part.partition("<answer>")[2] for part in ended if "<answer>" in part]
    if not found:
        raise Rejected(Reason.NO_ANSWER, "no <answer> ... </answer>")
    return found[-1].strip().strip("`").strip()


def _bare_lines(code):
    """The longer lines of a program, without white space."""
    return [re.sub(r"\s+", "", line) for line in code.splitlines() if len(line.strip()) > 8]


def copied(program: str, seed: str) -> bool:
    """Whether most of the program's lines stand in the seed: a copy teaches nothing.

    Source: our choice, with its threshold of 0.8.
    """
    known = set(_bare_lines(seed))
    # The seed's normal form counts too, if it can be parsed.
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        known.update(_bare_lines(ast.unparse(parse(seed))))
    # The first line is not compared: the signature is renamed to f.
    lines = _bare_lines(program)[1:]
    return bool(lines) and sum(line in known for line in lines) >= 0.8 * len(lines)


# What depends on more than a program's input, or lets it look at its caller.
_UNSTABLE = set(
    """
    time os uuid secrets threading locale platform socket subprocess getpass tempfile gc weakref
    inspect traceback ctypes importlib
    datetime.now datetime.utcnow datetime.today date.today
    sys.argv sys._getframe sys.getrefcount sys.hash_info random.SystemRandom
    """.split()
)

_UNSTABLE_CALLS = set("id hash object input open globals locals vars dir __import__".split())


def _real_names(nodes):
    """What a program imports and reads, each under its real name whatever the program calls it."""
    real: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            real |= {alias.asname or alias.name: prefix + alias.name for alias in node.names}
    yield from real.values()
    for node in nodes:
        if isinstance(node, ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            yield real.get(first, first) + dot + rest


def unstable_name(code: str) -> str:
    """The first name in a program whose value depends on more than its input, or ''.

    Random numbers are fine if their generator is seeded.
    """
    nodes = list(ast.walk(parse(code)))
    called = [(ast.unparse(node.func), node.args) for node in nodes if isinstance(node, ast.Call)]
    seeds = ("random.seed", "seed", "random.Random", "Random")
    seeded = any(given and name in seeds for name, given in called)

    # A builtin's name that the program gives to something of its own is harmless.
    own = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    suspects = [name for name, _ in called if name in _UNSTABLE_CALLS - own]

    for name in [*_real_names(nodes), *suspects]:
        parts = name.split(".")
        if parts[0] in _UNSTABLE or ".".join(parts[-2:]) in _UNSTABLE or name in _UNSTABLE_CALLS:
            return name
        if parts[0] == "random" and parts[1:] and not seeded:
            return name
    return ""


_TOKEN = re.compile(rf"\d[\w.]*|\w+|{_STRING}|[^\w\s]")


def _own_names(tree: ast.Module) -> set[str]:
    """The names that a program defines; its docstrings and annotations are taken out."""
    own: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                own.add(node.name)
                if ast.get_docstring(node) is not None:
                    node.body = node.body[1:] or [ast.Pass()]
                if isinstance(node, ast.FunctionDef):
                    node.returns = None
            case ast.arg():
                own.add(node.arg)
                node.annotation = None
            case ast.Name(ctx=ast.Store()):
                own.add(node.id)
    return own


def program_tokens(code: str) -> list[str]:
    """Deduplication by text, first step: the tokens of a program, whatever its names and layout.

    Comments, docstrings and annotations are left out, and its own names are numbered as they
    come, so two programs that differ only in those give the same tokens.

    Args:
        code: a program; code that is no Python is split as it stands.
    Returns:
        The tokens in order; names of its own are v0, v1, ...
    Source: our choice.
    """
    own = {"f", "pre_test_f", "test_f"}
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        tree = parse(code)
        own |= _own_names(tree)
        code = ast.unparse(tree)
    names: dict[str, str] = {}
    return [
        names.setdefault(token, f"v{len(names)}") if token in own else token
        for token in _TOKEN.findall(code)
    ]
