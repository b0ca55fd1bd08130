"""`python -m kit render`: the notebooks with what they show, for a reader who runs nothing.

Each notebook runs alone in an empty folder, so it shows recorded data: 00 to 03 those of language
models, 04 to 08 the miniature. Its outputs go back into the file. Run again, the same data give the
same bytes. A cell tagged `live` shows what a model sampled, a training computed or this machine
has, or what follows from these: it may differ elsewhere, and `--check` does not compare it.
"""

import base64
import difflib
import io
import json
import os
import re
import tempfile

from PIL import Image

from kit.commands.runner import notebooks, run_notebooks
from kit.core.manifest import ROOT

# By number: the parameters that are not the notebook's own.
CHANGED = {
    "02": {"REPLAY": True},
    "05": {"TRAIN": False},
    "07": {"STUDY": "recorded"},
    "08": {"STUDY": "recorded"},
}

# Of these only cells tagged `live` depend: a check can be short.
SHORT = {"05": {"SCRATCH_STEPS": 3}, "08": {"STEPS": 2}}

# What no two runs share: how long a stage took, and progress bars.
_TIMES = re.compile(r"(?<= done) in \d+ s(?=:)|^.*%\|.*\n?", re.M)


class RenderError(RuntimeError):
    """A stored notebook does not show what it shows when it runs; the message says where."""


def render_notebooks(only: list[str] | None = None, check: bool = False) -> None:
    """Run the notebooks (or those of the numbers `only`) and store what they show.

    `check`: store nothing, and raise RenderError at the first cell that shows something else.
    """
    # The kernels inherit it: sets have one order.
    os.environ["PYTHONHASHSEED"] = "0"
    with tempfile.TemporaryDirectory() as place:
        for path in notebooks():
            number = path.stem[:2]
            if only and number not in only:
                continue
            profile = "cpu" if number < "04" else "mini"
            given = CHANGED.get(number, {})
            asked = given | SHORT.get(number, {}) if check else given
            folder = run_notebooks(profile, f"{place}/{number}/{profile}", [number], asked)
            ran = json.loads((folder / "notebooks" / path.name).read_text(encoding="utf-8"))
            before = json.loads(path.read_text(encoding="utf-8"))
            told = "".join(f", {name} = {value}" for name, value in given.items())
            after = _rendered(before, ran, f"shown here: profile {profile}{told}\n", str(folder))
            if check:
                _compare(path.name, before, after)
            else:
                text = json.dumps(after, indent=1, ensure_ascii=False)
                path.write_text(text + "\n", encoding="utf-8")


def _rendered(notebook, ran, told, folder):
    """The notebook as it is stored, with the outputs of the one that ran."""
    found = {cell["id"]: cell for cell in ran["cells"]}
    cells = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            tags = cell["metadata"].get("tags", [])
            outputs = _cleaned(found[cell["id"]]["outputs"], folder)
            if "parameters" in tags:
                outputs = [_stream(told)]
            # A solution is folded, but not on every page.
            cell = cell | {"execution_count": None, "outputs": outputs}
            if "solution" in tags:
                cell["outputs"] = []
        cells.append(cell)
    return notebook | {"cells": cells}


def _stream(text):
    return {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}


def _cleaned(outputs, folder):
    """Outputs without what differs from run to run: times, paths, counts, warnings of libraries."""
    kept: list[dict] = []
    for output in outputs:
        if output["output_type"] == "stream":
            if output["name"] == "stderr":
                continue
            text = "".join(output["text"]).replace(folder, "RUN").replace(f"{ROOT}/", "")
            # Of a line that was written over only the last state.
            text = _TIMES.sub("", re.sub(r"^.*\r(?!\n)", "", text, flags=re.M))
            if kept and kept[-1]["output_type"] == "stream":
                text = "".join(kept.pop()["text"]) + text
            kept.append(_stream(text))
            continue
        data = output["data"]
        if len(data) > 1:
            data.pop("text/plain", None)
        if "image/png" in data:
            data["image/png"] = _small(data["image/png"])
        kept.append({"output_type": "display_data", "data": data, "metadata": {}})
    return kept


def _small(png):
    """A picture of 64 colours, in base64: a third of the bytes."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(64, Image.Quantize.FASTOCTREE).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _compare(name, before, after):
    for old, new in zip(before["cells"], after["cells"], strict=True):
        if "live" in old["metadata"].get("tags", []) or old == new:
            continue
        texts = (json.dumps(x["outputs"], indent=1).splitlines() for x in (old, new))
        lines = [line[:160] for line in difflib.unified_diff(*texts, "stored", "now", n=1)]
        raise RenderError(
            f"{name}, cell {old['id']} shows something else than is stored: run `make render` and "
            "commit. The first lines of the difference:\n" + "\n".join(lines[:12])
        )
