"""One helper for asyncio inside notebooks."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any


def run_coroutine(coroutine: Coroutine) -> Any:
    """Run a coroutine to its end, also from a notebook cell, whose own loop is running.

    Ctrl-C cancels it cleanly. Raises what the coroutine raises.
    """
    ended: Future = Future()
    running: list = []

    async def main():
        running.append(asyncio.current_task())
        return await coroutine

    def work():
        try:
            ended.set_result(asyncio.run(main()))
        except BaseException as error:
            # The wrapping of a TaskGroup says nothing to the reader.
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            ended.set_exception(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        return ended.result()
    except KeyboardInterrupt:
        for task in running:
            task.get_loop().call_soon_threadsafe(task.cancel)
        thread.join(10)
        raise
