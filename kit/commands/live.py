"""What a terminal shows of a notebook that is executed: one line that moves, and warnings."""

import contextlib
import json
import os
import re
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text
from tqdm.std import tqdm

from kit.core.tells import TELLS

# Seconds between two lines where there is no terminal.
PLAIN = 30
# Seconds between two looks at what the stage has told.
LOOK = 0.5
# Of tqdm's words: the counts come first, because a narrow terminal cuts the end off.
FORM = "{desc} {n_fmt}/{total_fmt}, {rate_fmt}, {remaining} left{postfix}"


def plain_text(text: str) -> str:
    """A text without the characters that control a terminal: a model may have written it."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "?", text.replace("\r", "\n"))


class StageLine(threading.Thread):
    """Follows a notebook: use it in a `with` block around the execution.

    In a terminal one line shows the stage, its counts, rate and the time left; elsewhere there is a
    plain line every PLAIN seconds. What the notebook prints is written into `log`: this is a file
    for papermill.

    Args:
        stem: name of the notebook.
        folder: of the run.
        console: where lines are shown.
    """

    def __init__(self, stem: str, folder: Path, console: Console):
        super().__init__(daemon=True)
        self.stem = stem
        self.console = console
        self.log = folder / f"logs/{stem}.out"
        self.told = folder / "logs/tells.jsonl"
        self.bar: dict | None = None
        self.live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self.live = Live(console=console, auto_refresh=False, transient=True)
        self._read = 0
        self._ended = threading.Event()

    def __enter__(self):
        self.began = self._shown = time.monotonic()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._out = self.log.open("w", encoding="utf-8")
        self.told.write_text("")
        os.environ[TELLS] = str(self.told)
        if self.live:
            self.live.start()
        else:
            self.console.print(f"{self.stem:24} ...")
        self.start()
        return self

    def __exit__(self, *exc):
        self._ended.set()
        self.join()
        if self.live:
            self.live.stop()
        os.environ.pop(TELLS)
        with contextlib.suppress(OSError):
            self._out.close()

    def write(self, text: str) -> None:
        """Takes what the notebook prints."""
        # The notebook says it better if the disk is full.
        with contextlib.suppress(OSError):
            self._out.write(plain_text(text))

    def flush(self) -> None:
        """So that the log is never behind."""
        with contextlib.suppress(OSError):
            self._out.flush()

    def run(self):
        while not self._ended.wait(LOOK):
            self._look()
        self._look()

    def _look(self):
        """Show what is new."""
        for line in self._new():
            if warning := line.get("warning"):
                said = f"{self.stem} warning: {plain_text(warning)}"
                self.console.print(Text(said, "yellow"), soft_wrap=True)
            self.bar = line.get("bar", self.bar)
        if self.live:
            self.live.update(Text(self.line(), no_wrap=True, overflow="ellipsis"), refresh=True)
        elif time.monotonic() - self._shown >= PLAIN:
            self._shown = time.monotonic()
            self.console.print(Text(self.line()), soft_wrap=True)

    def _new(self):
        """The whole lines that were written since the last look."""
        with self.told.open("rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if line.endswith(b"\n"):
                self._read += len(line)
                # A full disk can take half a line.
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def line(self) -> str:
        """Notebook, time since it began, and the state of its bar if it has one."""
        said = f"{self.stem} {tqdm.format_interval(time.monotonic() - self.began)}"
        if self.bar:
            state = self.bar | {"elapsed": time.time() - self.bar["started"]}
            said += f" {tqdm.format_meter(**state, bar_format=FORM)}"
        return " ".join(plain_text(said).split())
