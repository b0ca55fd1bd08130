"""`make render`: the notebooks with what they show, for a reader who runs nothing.

A tool of this repository, no part of the kit: it writes into `notebooks/`, never into a run.

Each notebook runs alone in an empty folder, so it shows recorded data: 00 to 03 those of language
models, 04 to 08 the miniature. Its outputs go back into the file; the same data give the same
bytes. A cell tagged `live` shows what a model sampled, a training computed or this machine has, or
what follows from these: it may differ elsewhere, and a check does not compare it. One tagged
`machine` shows only what this machine has: nothing of it is stored.

    python -m tests.render --only 03 --check
"""

import base64
import copy
import difflib
import io
import json
import os
import re
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import typer
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from PIL import Image

from kit.commands.runner import notebooks, run_notebooks
from kit.core.manifest import ROOT

# By number: the parameters that are not the notebook's own.
SHOWN: dict[str, dict] = {
    "02": {"REPLAY": True},
    "05": {"TRAIN": False},
    "07": {"STUDY": "recorded"},
    "08": {"STUDY": "recorded"},
}
# Only cells tagged `live` depend on these: a check can be short.
SHORT: dict[str, dict] = {"05": {"SCRATCH_STEPS": 3}, "08": {"STEPS": 2}}

# A bar of a library, as a widget or as its text.
BAR = re.compile(r"widget-view|\d%\|")

# What no two runs share: how long a stage took, and progress bars.
TIMES = re.compile(r"(?<= done) in \d+ s(?=:)|^.*%\|.*\n?", re.M)


def render_notebooks(only: list[str] | None = None, check: bool = False) -> None:
    """Run the notebooks (or those of the numbers `only`) and store what they show.

    `check`: store nothing, and end with a message at the first cell that shows something else.
    """
    # The kernels inherit it: sets have one order.
    os.environ["PYTHONHASHSEED"] = "0"
    with tempfile.TemporaryDirectory() as made:
        for path in notebooks():
            number = path.stem[:2]
            if only and number not in only:
                continue
            profile = "cpu" if number < "04" else "mini"
            shown = SHOWN.get(number, {})
            given = shown | SHORT.get(number, {}) if check else shown
            folder = run_notebooks(profile, f"{made}/{number}/{profile}", [number], given)
            text = (folder / "notebooks" / path.name).read_text(encoding="utf-8")
            for place, name in {f"{folder}": "RUN", f"{ROOT}/": "", f"{Path.home()}": "~"}.items():
                text = text.replace(place, name)
            before, ran = nbformat.read(path, 4), nbformat.reads(text, 4)
            after = _with_outputs(before, ran, f"shown here: profile {profile} {shown or ''}\n")
            if not check:
                nbformat.write(after, path)
            for old, new in zip(before.cells, after.cells):
                if check and "live" not in old.metadata.get("tags", []):
                    _compare(f"{path.name}, cell {old.id}", old, new)


def _with_outputs(notebook, ran, told):
    """The notebook with the outputs of the one that ran; a line says what is shown."""
    notebook = copy.deepcopy(notebook)
    found = {cell.id: cell for cell in ran.cells}
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            cell.outputs = _cleaned(found[cell.id])
        if "parameters" in tags:
            cell.outputs = [nbformat.v4.new_output("stream", text=told)]
        # A solution is folded, but not on every page; a page has no disk and no memory.
        if {"solution", "machine"} & {*tags}:
            cell.outputs = []
    return notebook


def _cleaned(cell):
    """The outputs of a cell, without what differs from run to run, or needs a kernel.

    Warnings of libraries go to stderr; what the kit shows in a widget it shows without one here.
    """
    cell.outputs = [
        output
        for output in cell.outputs
        if output.get("name") != "stderr" and not BAR.search(str(output.get("data")))
    ]
    # Of a line that was written over only the last state.
    CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, 0)
    for output in cell.outputs:
        if output.output_type == "stream":
            output.text = TIMES.sub("", output.text)
            continue
        if "execution_count" in output:
            output.execution_count = None
        if len(output.data) > 1:
            output.data.pop("text/plain", None)
        if png := output.data.get("image/png"):
            picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
            small = io.BytesIO()
            _few_colours(picture).save(small, "png", optimize=True)
            output.data["image/png"] = base64.b64encode(small.getvalue()).decode()
    return [output for output in cell.outputs if output.get("text", "shown").strip()]


def _few_colours(picture, most=48):
    """The picture in few colours: a third of the bytes.

    Half of them are its most frequent ones, mostly greys; half its most frequent other ones that
    are not grey, so that no line changes its own.
    """
    pixels = np.asarray(picture).reshape(-1, 3)
    colours, places, counts = np.unique(pixels, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    first, others = np.split(order, [most // 2])
    vivid = others[np.ptp(colours[others].astype(int), axis=1) > 40]
    kept = colours[[*first, *vivid[: most // 2]]]
    nearest = (np.subtract(colours[:, None], kept, dtype=int) ** 2).sum(axis=2).argmin(axis=1)
    few = Image.fromarray(nearest[places].reshape(picture.size[::-1]).astype(np.uint8))
    few.putpalette(kept.tobytes())
    return few


def _compare(place, *cells):
    before, after = (
        json.dumps(cell, indent=1, sort_keys=True).replace(r"\n", "\n").splitlines()
        for cell in cells
    )
    lines = [line[:160] for line in difflib.unified_diff(before, after, "stored", "now", n=1)]
    if lines:
        raise SystemExit(
            f"{place} shows something else than is stored: run `make render` and commit. The "
            "first lines of the difference:\n" + "\n".join(lines[:12])
        )


if __name__ == "__main__":
    typer.run(render_notebooks)
