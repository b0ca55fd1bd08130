"""Mode "monty": another interpreter for hosts without the walls of Linux."""

import ast
import builtins
import json
import re
import time

from kit.sandbox import _boxed
from kit.sandbox.values import parse
from kit.sandbox.walls import SandboxUnavailable
from kit.sandbox.worker import Job, Result

# ------------------------------------------------------------------------- another interpreter
# What tests/attack/monty.py compares with Python: syntax, builtins, attributes, modules. What
# else the interpreter has may be wrong, as are round(x, 2), the order of a set, an error's text.
_COMPARED = """
    Module FunctionDef arguments arg Return Assign AugAssign AnnAssign For While If IfExp Raise Try
    Assert Import ImportFrom alias Global Nonlocal Expr Pass Break Continue ExceptHandler BoolOp
    NamedExpr BinOp UnaryOp Lambda Dict ListComp DictComp GeneratorExp comprehension Compare
    Call keyword FormattedValue JoinedStr Constant Attribute Subscript Starred Name List Tuple Slice
    Load Store And Or Add Sub Mult Div Mod Pow LShift RShift BitOr BitXor BitAnd FloorDiv Invert Not
    UAdd USub Eq NotEq Lt LtE Gt GtE Is IsNot In NotIn

    abs all any bin bool chr dict divmod enumerate filter float format hex int isinstance len list
    map max min oct ord print range repr reversed sorted str sum tuple zip
    AssertionError IndexError KeyError ValueError ZeroDivisionError

    append capitalize casefold center clear copy count endswith expandtabs extend find format
    fromkeys get index insert isalnum isalpha isascii isdecimal isdigit isidentifier islower
    isnumeric isprintable isspace istitle isupper items join keys ljust lower lstrip partition pop
    popitem remove removeprefix removesuffix replace reverse rjust rpartition rsplit rstrip
    setdefault sort split splitlines startswith strip swapcase title update upper values zfill

    math ceil comb copysign fabs factorial floor fsum gcd inf isclose isfinite isinf isnan isqrt lcm
    perm pi prod sqrt trunc
    typing Any Callable Dict Iterable Iterator List Optional Sequence Tuple Union
""".split()

# Iterators are lists at once here, and views of a dict are not all they should be. That is the same
# where they are read to the end on the spot.
_LATE = "map filter zip enumerate reversed items keys".split()
_READ_OUT = "list tuple sorted sum min max dict join".split()

# In a job's JSON: text beyond ASCII or an escape that may make it, and a set.
_ODD = re.compile(rb'\\[uUxN0-7]|\{\\?"[sz]\\?"')

# What a program raises under Python too. Another error may be something that monty lacks.
_RAISED = """
    AssertionError IndexError KeyError ValueError ZeroDivisionError Unencodable TooBig
""".split()


class MontyWorker:
    """The same for an interpreter in Rust, in a process of its own: for macOS and Windows.

    Raises SandboxUnavailable.
    """

    def __init__(self, config: dict):
        try:
            import pydantic_monty as monty
        except ImportError:
            raise SandboxUnavailable("pydantic-monty is not installed") from None
        # It knows the wall clock only.
        self._seconds = config["wall"]
        self._monty = monty
        self._limits = monty.ResourceLimits(
            max_feed_duration_secs=self._seconds,
            max_memory=config["memory"],
            # Less than Python's, so that no program goes deeper here.
            max_recursion_depth=900,
        )
        self._pool = monty.Monty(max_processes=1)
        self._pool.__enter__()

    def greet(self) -> bool:
        """It is ready, and has no system calls: it sees no file."""
        return False

    def do(self, job: Job, frame: bytes, patience: float) -> Result:
        """Have a job done; its own limits end it."""
        try:
            strange = _not_compared(job.code) or _ODD.search(frame)
        except RecursionError as fault:
            strange = fault
        except (SyntaxError, ValueError, MemoryError) as fault:
            return Result("load_error", detail=str(fault)[:200])
        if strange:
            return Result("unsupported", detail=f"monty may be wrong: {strange}")
        values: list[tuple] = []
        try:
            with self._pool.checkout(limits=self._limits) as session:
                status, detail = self._feed(session, job, values)
        except self._monty.MontyCrashedError as fault:
            return Result("timeout" if fault.timed_out else "unsupported", detail=str(fault)[:200])
        return Result(status, tuple(values), detail=detail)

    def _feed(self, session, job: Job, values: list) -> tuple[str, str]:
        """Load the program, then make its calls and keep their values.

        Returns status and detail.
        """
        end = time.monotonic() + self._seconds
        for name, args in [("", ()), *job.calls]:
            code = f"value_ = {name}(*arguments_)\nvalue_" if name else job.code
            inputs = {"arguments_": args}
            try:
                value = session.feed_run(code, inputs=inputs, print_callback=lambda *_: None)
                if name:
                    values.append(("ok", _boxed.decode(json.dumps(_boxed.encode(value)))))
                    # An iterator comes as a list, a list in itself as a text.
                    if session.feed_run("repr(value_)") != ascii(value):
                        return "unsupported", "monty shows this value in another way"
            except (ValueError, self._monty.MontyError) as fault:
                raised = fault.exception() if isinstance(fault, self._monty.MontyError) else fault
                kind = type(raised).__name__
                if kind == "TimeoutError":
                    return "timeout", ""
                if kind not in _RAISED:
                    return "unsupported", str(fault)[:200]
                if not name:
                    return "load_error", kind
                values.append(("err", kind))
            if time.monotonic() > end:
                return "timeout", ""
        return "ok", ""

    def kill(self) -> None:
        """From any thread."""
        self._pool.__exit__(None, None, None)

    release = kill


def _not_compared(code):
    """The first word of a program that may not be as in Python; "" if there is none.

    Raises what `compile` and `parse` raise.
    """
    compile(code, "<program>", "exec", dont_inherit=True)
    read_out: set[ast.AST] = set()
    # Parents come before what is in them.
    for node in ast.walk(parse(code)):
        words = [type(node).__name__, getattr(node, "attr", "Name")]
        match node:
            case ast.alias():
                words.append(node.name)
            case ast.Name() if hasattr(builtins, node.id):
                words.append(node.id)
            case ast.ExceptHandler() if node.name or not node.type:
                # Its text is read, or it hides what monty lacks.
                words.append("except")
            case ast.Compare(comparators=[ast.Constant(value=None)]):
                pass
            case ast.Compare() if {ast.Is, ast.IsNot} & set(map(type, node.ops)):
                words.append("is")
            case ast.comprehension() | ast.For(iter=ast.Call(func=ast.Attribute())):
                read_out.add(node.iter)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                if name in _READ_OUT:
                    read_out.update(node.args)
                if name in _LATE and node not in read_out:
                    words.append(f"{name}()")
            case ast.GeneratorExp() if node not in read_out:
                words.append("(... for ...)")
        for word in words:
            if word not in _COMPARED:
                return word
    return ""
