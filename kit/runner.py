"""The runner behind `python -m kit run`: executes the numbered notebooks in order, headless, with papermill.

A finished notebook is skipped when the run goes on; a failed one is kept with its error. What comes out: executed notebooks,
HTML, figures, and one page that tells the run (kit/report.py).
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nbformat
import papermill
import psutil
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor, TagRemovePreprocessor
from rich.console import Console
from traitlets.config import Config

from kit import models, report
from kit import profile as profiles
from kit.run import ROOT, RunError, note, read_manifest

NOTEBOOKS = ROOT / "notebooks"
# glibc gives freed blocks back to the system at once and takes them anew each training step; these stop that (MEASURED: 2x).
QUIET_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


def notebooks() -> list[Path]:
    """The numbered notebooks in order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def parameters_of(notebook: Path) -> dict[str, str]:
    """Name -> help text of a notebook's parameters cell."""
    return {name: p["help"] for name, p in papermill.inspect_notebook(str(notebook)).items()}


def check(parameters: dict, chosen: list[Path]) -> None:
    """Raises RunError for a parameter that no chosen notebook has: papermill alone would only print a line."""
    known = {name for notebook in chosen for name in parameters_of(notebook)}
    if unknown := sorted(set(parameters) - known):
        raise RunError(
            f"no notebook has a parameter {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )


def run(
    profile: str,
    out: str,
    only: list[str] | None = None,
    parameters: dict | None = None,
    force: bool = False,
) -> Path:
    """Execute the notebooks (or those whose numbers are in `only`) into `out`; returns that folder.

    Raises ProfileError, RunError, or papermill's own error after keeping the notebook that failed."""
    parameters, console = parameters or {}, Console()
    loaded = profiles.load(profile)
    folder = Path(out or f"runs/{loaded.name}").resolve()
    chosen = [n for n in notebooks() if not only or n.stem[:2] in only]
    if not chosen:
        raise RunError(
            f"no notebook is numbered {', '.join(only)}; there are {', '.join(n.stem for n in notebooks())}"
        )
    check(parameters, chosen)
    os.environ["KIT_HEADLESS"] = "1"  # widgets then draw a static picture and wait for nobody
    os.environ.update({k: v for k, v in QUIET_MALLOC.items() if k not in os.environ})
    began = time.monotonic()
    if not only and not parameters.get("REPLAY"):
        _fetch(loaded, folder)
    try:
        for notebook in chosen:
            with PeakMemory() as memory:
                ran = _one(
                    notebook,
                    folder,
                    {"PROFILE": profile, "RUN_DIR": str(folder), **parameters},
                    force,
                    console,
                )
            if ran:
                note(folder, notebook.stem, peak_gb=round(memory.gb, 1))
    finally:  # of a failed or stopped run too
        page = report.write(folder)
    console.print(
        f"\ndone in {(time.monotonic() - began) / 60:.1f} minutes. Open {page}\nnotebooks, HTML and figures: {folder}"
    )
    return folder


def _fetch(profile: profiles.Profile, folder: Path) -> None:
    """Make the profile's models ready beside the first notebooks. What goes wrong is said by the notebook that needs the model."""
    wanted = {
        role.model for role in (profile.teacher, profile.student) if role.engine == "vllm"
    } | {profile.grpo.policy}
    absent = [
        card["name"]
        for card in models.cards()
        if card["name"] in wanted and card["state"] != "converted"
    ]
    (log := folder / "logs" / "models.log").parent.mkdir(parents=True, exist_ok=True)
    for name in absent:  # a process each: one converts while the other downloads
        with log.open("ab") as out:
            subprocess.Popen(
                [sys.executable, "-m", "kit", "models", "--fetch", name],
                cwd=ROOT,
                stdout=out,
                stderr=out,
            )


def _one(notebook: Path, folder: Path, parameters: dict, force: bool, console: Console) -> bool:
    """Whether it had to run. Raises what the notebook raised."""
    done = folder / "notebooks" / notebook.name
    own = {k: v for k, v in parameters.items() if k in parameters_of(notebook)}
    if not force and finished(done, notebook, folder, own):
        console.print(f"{notebook.stem:24} done before, skipped")
        return False
    done.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    console.print(f"{notebook.stem:24} ...")
    try:
        with tempfile.TemporaryDirectory(
            prefix="kit-"
        ) as sockets:  # files of its own: no open TCP ports, no meeting of two runs
            papermill.execute_notebook(
                str(notebook),
                str(done),
                own,
                cwd=str(NOTEBOOKS),
                kernel_name="python3",
                progress_bar=False,
                start_timeout=600,
                config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}}),
            )
    except papermill.PapermillExecutionError as e:
        _html(done)
        console.print(
            f"[red]{notebook.stem} failed[/red] in cell {e.exec_count}: {e.ename}: {e.evalue}\n"
            f"kept with its output: {done}\nwhat was computed is kept; the same command goes on from here"
        )
        raise
    _html(done)
    console.print(f"{notebook.stem:24} {time.monotonic() - began:6.0f} s")
    return True


def finished(done: Path, notebook: Path, folder: Path, parameters: dict) -> bool:
    """Whether a notebook ran to its end in this folder, with the code that it has now and these parameters."""
    if not done.exists() or "finished" not in read_manifest(folder)["stages"].get(
        notebook.stem, {}
    ):
        return False
    ran, now = nbformat.read(done, 4), nbformat.read(notebook, 4)
    code = [
        [
            c.source
            for c in nb.cells
            if c.cell_type == "code" and "injected-parameters" not in c.metadata.get("tags", [])
        ]
        for nb in (ran, now)
    ]
    known = ran.metadata.papermill.parameters
    same = all(
        known.get(name) == value for name, value in parameters.items() if name != "RUN_DIR"
    )  # a folder may be moved
    return same and code[0] == code[1] and not ran.metadata.papermill.get("exception")


def _html(done: Path) -> None:
    quiet = [
        CoalesceStreamsPreprocessor(enabled=True),  # a progress bar's last state
        TagRemovePreprocessor(enabled=True, remove_input_tags={"solution"}),
    ]  # pages do not fold
    body, _ = HTMLExporter(embed_images=True, preprocessors=quiet).from_notebook_node(
        nbformat.read(done, 4)
    )
    done.with_suffix(".html").write_text(body, encoding="utf-8")


class PeakMemory(threading.Thread):
    """Largest sum of resident sizes of this process and all its descendants, in GB, sampled every second. Shared pages count
    once for each process, so it errs on the high side; a process under a second old is left out, since a fork of an engine that
    has yet to become another program would count all of the engine twice."""

    def __init__(self):
        super().__init__(daemon=True)
        self.gb, self._ended = 0.0, threading.Event()

    def run(self):
        while not self._ended.wait(1):
            sizes = []
            for process in (me := psutil.Process(), *me.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    if time.time() - process.create_time() > 1:
                        sizes.append(process.memory_info().rss)
            self.gb = max(self.gb, sum(sizes) / 1e9)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self._ended.set()
