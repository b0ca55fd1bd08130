"""The runner behind `python -m kit run`: the numbered notebooks in order, headless, by papermill.

A finished notebook is skipped when the run goes on; a failed one is kept with its error. What comes
out: executed notebooks, HTML, figures, and one page that tells the run (kit/commands/report.py).
"""

import contextlib
import logging
import os
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
from rich.markup import escape
from traitlets.config import Config

from kit.commands import report
from kit.commands.live import StageLine, plain_text
from kit.core import profile as profiles
from kit.core.manifest import ROOT, RunError, note_stage, read_manifest
from kit.core.trainer import check_trainer

NOTEBOOKS = ROOT / "notebooks"

# glibc gives freed blocks back to the system at once and takes new ones in each training step;
# these settings stop that (MEASURED: 2x).
QUIET_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}

# On a phone a figure keeps a size at which it can be read, and scrolls; as in report.html. So does
# the text that is printed, which the library's page breaks within words.
PHONE = """<style>@media (max-width: 46rem) {
.jp-RenderedImage, .jp-RenderedMarkdown pre, .jp-RenderedText pre { overflow-x: auto; }
.jp-RenderedMarkdown pre, .jp-RenderedMarkdown pre code { white-space: pre !important; }
.jp-RenderedText pre { word-break: normal !important; overflow-wrap: anywhere; }
.jp-RenderedImage img { max-width: 40rem !important; } }</style>"""


def notebooks() -> list[Path]:
    """The numbered notebooks in order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def parameters_of(notebook: Path) -> dict[str, str]:
    """Name -> help text of a notebook's parameters cell."""
    found = papermill.inspect_notebook(str(notebook)).items()
    return {name: parameter["help"] for name, parameter in found}


def check_parameters(parameters: dict, chosen: list[Path]) -> None:
    """Raises RunError for a parameter that no chosen notebook has.

    papermill alone would only print a line.
    """
    known = {name for notebook in chosen for name in parameters_of(notebook)}
    if unknown := sorted(parameters.keys() - known):
        raise RunError(
            f"no notebook has a parameter {', '.join(unknown)}; there are "
            f"{', '.join(sorted(known))}: `python -m kit run --help` says what each one is"
        )


def run_notebooks(
    profile: str,
    out: str,
    only: list[str] | None = None,
    parameters: dict | None = None,
    force: bool = False,
) -> Path:
    """Execute the notebooks (or those of which `only` has number or name) into `out`.

    Returns that folder. Raises ProfileError, RunError, or papermill's own error after keeping the
    notebook that failed.
    """
    parameters = parameters or {}
    loaded = profiles.load_profile(profile)
    folder = Path(out or ROOT / "runs" / loaded.name).resolve()
    # By number or by name: 02, 02_rounds.
    asked = {*(only or [])}
    chosen = [path for path in notebooks() if not asked or {path.stem, path.stem[:2]} & asked]
    known = {name for path in chosen for name in (path.stem, path.stem[:2])}
    if unknown := sorted(asked - known):
        raise RunError(
            f"no notebook is called {', '.join(unknown)}: give a number or a name of "
            f"{', '.join(notebook.stem for notebook in notebooks())}"
        )
    check_parameters(parameters, chosen)
    if any(path.stem == "05_grpo" for path in chosen) and parameters.get("TRAIN", True):
        check_trainer()
    # Widgets then draw a static picture and wait for nobody.
    os.environ["KIT_HEADLESS"] = "1"
    for variable, value in QUIET_MALLOC.items():
        os.environ.setdefault(variable, value)
    # Of a kernel that is stopped asyncio would print a traceback; papermill raises what matters.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    console = Console()
    began = time.monotonic()
    console.print(f"logs: {folder / 'logs'}", soft_wrap=True)
    given = {"PROFILE": profile, "RUN_DIR": str(folder), **parameters}
    try:
        for notebook in chosen:
            with PeakMemory() as memory:
                ran = _one(notebook, folder, given, force, console)
            if ran:
                note_stage(folder, notebook.stem, peak_gb=round(memory.gb, 1))
    finally:
        # A run that failed or was stopped has its page too.
        page = report.write_report(folder)
    console.print(
        f"\ndone in {(time.monotonic() - began) / 60:.1f} minutes. Open {page}\n"
        f"notebooks, HTML and figures: {folder}"
    )
    return folder


def _one(notebook: Path, folder: Path, parameters: dict, force: bool, console: Console) -> bool:
    """Whether it had to run. Raises what the notebook raised."""
    done = folder / "notebooks" / notebook.name
    known = parameters_of(notebook)
    own = {name: value for name, value in parameters.items() if name in known}
    if not force and finished(done, notebook, folder, own):
        console.print(f"{notebook.stem:24} done before, skipped")
        return False
    done.parent.mkdir(parents=True, exist_ok=True)
    done.with_suffix(".html").unlink(missing_ok=True)
    began = time.monotonic()
    try:
        # The kernel's sockets are files of its own: no open TCP ports, and two runs do not meet.
        with (
            tempfile.TemporaryDirectory(prefix="kit-") as sockets,
            StageLine(notebook.stem, folder, console) as line,
        ):
            kernel: dict[str, dict] = {
                "KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"},
                # A kernel that is stopped would complain into the terminal.
                "NotebookClient": {"extra_arguments": ["--IPKernelApp.log_level=50"]},
            }
            papermill.execute_notebook(
                str(notebook),
                str(done),
                own,
                cwd=str(NOTEBOOKS),
                kernel_name="python3",
                progress_bar=False,
                stdout_file=line,
                stderr_file=line,
                start_timeout=600,
                config=Config(kernel),
            )
    except papermill.PapermillExecutionError as error:
        _html(done)
        said = escape(plain_text(f"{error.ename}: {error.evalue}"))
        console.print(
            f"[red]{notebook.stem} failed[/red] in cell {error.exec_count}: {said}\n"
            f"kept with its output: {done}\n"
            "what was computed is kept; the same command goes on from here"
        )
        raise
    _html(done)
    console.print(f"{notebook.stem:24} {time.monotonic() - began:6.0f} s")
    return True


def _code(notebook):
    """The code cells, without the one in which papermill puts its parameters."""
    return [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]


def finished(done: Path, notebook: Path, folder: Path, parameters: dict) -> bool:
    """Whether a notebook ran to its end in this folder.

    It must have run with the code that it has now and with these parameters.
    """
    stage = read_manifest(folder)["stages"].get(notebook.stem, {})
    # The page is made at the end.
    if not done.with_suffix(".html").exists() or "finished" not in stage:
        return False
    ran = nbformat.read(done, 4)
    made = ran.metadata.papermill
    return (
        # The folder may have been moved since.
        all(made.parameters.get(name) == of for name, of in parameters.items() if name != "RUN_DIR")
        and _code(ran) == _code(nbformat.read(notebook, 4))
        and not made.get("exception")
    )


def _html(done):
    """The executed notebook as a page."""
    shorten = [
        # Of a progress bar only the last state.
        CoalesceStreamsPreprocessor(enabled=True),
        # Solutions are left out, what they print too: a page does not fold.
        TagRemovePreprocessor(enabled=True, remove_cell_tags={"solution"}),
    ]
    exporter = HTMLExporter(embed_images=True, preprocessors=shorten)
    page, _ = exporter.from_notebook_node(nbformat.read(done, 4))
    page = page.replace("</head>", f"{PHONE}</head>")
    done.with_suffix(".html").write_text(page, encoding="utf-8")


class PeakMemory(threading.Thread):
    """Largest memory of this process and all its descendants, in GB, sampled every second.

    It is the sum of resident sizes. Shared pages count once for each process, so it errs on the
    high side. A process under a second old is left out: a fork of an engine that is about to
    become another program would count all of the engine twice.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.gb = 0.0
        self._ended = threading.Event()

    def run(self):
        while not self._ended.wait(1):
            this = psutil.Process()
            size = 0
            for process in (this, *this.children(recursive=True)):
                # A process may end while it is looked at.
                with contextlib.suppress(psutil.Error):
                    if time.time() - process.create_time() > 1:
                        size += process.memory_info().rss
            self.gb = max(self.gb, size / 1e9)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self._ended.set()
