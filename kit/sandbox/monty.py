"""Mode "monty": another interpreter for hosts without the walls of Linux."""

import time

from kit.sandbox import _boxed
from kit.sandbox.walls import SandboxUnavailable
from kit.sandbox.worker import Job, Result

# ------------------------------------------------------------------------- another interpreter
# A program that raises these under monty may be right under Python.
_MONTY_LACKS = """
    ImportError ModuleNotFoundError NotImplementedError AttributeError NameError TypeError
    MontyConversionError
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
            max_recursion_depth=20_000,
        )
        self._pool = monty.Monty(max_processes=1)
        self._pool.__enter__()

    def greet(self) -> bool:
        """It is ready, and has no system calls: it sees no file."""
        return False

    def do(self, job: Job, frame: bytes, patience: float) -> Result:
        """Have a job done; its own limits end it."""
        if job.stdin is not None:
            return Result("unsupported", detail="monty has no standard input")
        values: list[tuple] = []
        try:
            with self._pool.checkout(limits=self._limits) as session:
                status, detail = self._feed(session, job, values)
        except self._monty.MontyCrashedError as fault:
            return Result("timeout" if fault.timed_out else "signal", detail=str(fault)[:200])
        return Result(status, tuple(values), detail=detail)

    def _feed(self, session, job: Job, values: list) -> tuple[str, str]:
        """Load the program, then make its calls and keep their values.

        Returns status and detail.
        """
        end = time.monotonic() + self._seconds
        for name, args in [("", ()), *job.calls]:
            code = f"{name}(*arguments_)" if name else job.code
            inputs = {"arguments_": args}
            try:
                value = session.feed_run(code, inputs=inputs, print_callback=lambda *_: None)
                if name:
                    values.append(("ok", _boxed.decode(_boxed.encode(value))))
            except self._monty.MontySyntaxError as fault:
                return "unsupported" if _compiles(job.code) else "load_error", str(fault)[:200]
            except (ValueError, self._monty.MontyError) as fault:
                raised = fault.exception() if isinstance(fault, self._monty.MontyError) else fault
                kind = type(raised).__name__
                if kind == "TimeoutError":
                    return "timeout", ""
                if kind in _MONTY_LACKS:
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


def _compiles(code):
    """Is this a program to Python?"""
    try:
        compile(code, "<program>", "exec", dont_inherit=True)
        return True
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
