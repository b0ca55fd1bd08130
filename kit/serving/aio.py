"""One helper for asyncio inside notebooks."""

from collections.abc import Coroutine
from typing import Any

from anyio.from_thread import start_blocking_portal


def run_coroutine(coroutine: Coroutine) -> Any:
    """Run a coroutine to its end, also from a notebook cell, whose own loop is running.

    Ctrl-C cancels it cleanly. Raises what the coroutine raises.
    """
    try:
        with start_blocking_portal() as portal:
            return portal.call(lambda: coroutine)
    except BaseExceptionGroup as group:
        # The wrapping of a TaskGroup says nothing to the reader.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
