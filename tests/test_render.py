"""`make render`: what is stored of an executed notebook, and what a check sees.

No notebook is executed here; `.ci/run` renders all of them.
"""

import base64
import io
import json
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from kit.core.manifest import ROOT
from tests import render


def png(colour: str) -> str:
    """A picture in base64, as Jupyter stores it."""
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


CODE = {
    "set": "PROFILE = 'cpu'",
    "text": "print('a')",
    "drawn": "figure",
    "sampled": "ask()",
    "bars": "load()",
    "solved": "1",
}
TAGS = {"set": ["parameters"], "sampled": ["live"], "solved": ["solution"]}


def outputs(folder: Path, text: str = "a", sampled: str = "b", colour: str = "red") -> dict:
    """What the cells give, with all that differs from run to run."""
    new = nbformat.v4.new_output
    bar = "seeds:  10%|#   | 1/10 [00:01<00:09]\rseeds: 100%|####| 10/10 [00:09<00:00]\n"
    rich = {"text/plain": "<Styler at 0x7f0011223344>", "text/html": "<table></table>"}
    return {
        "text": [
            new("stream", name="stderr", text="a warning"),
            new("stream", text=f"{text}\n{bar}"),
            new(
                "stream",
                text=f"{folder}/x {ROOT}/kit {Path.home()}/y\n"
                "02_rounds done in 12 s: n 1\nold\rnew\n",
            ),
            new("execute_result", rich, execution_count=7),
        ],
        "drawn": [new("display_data", {"image/png": png(colour), "text/plain": "<Figure>"})],
        "sampled": [new("stream", text=sampled)],
        "bars": [
            new("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}),
            new("display_data", {"text/plain": "Loading weights:   0%|          | 0/39"}),
            new("stream", text="\n"),
        ],
        "solved": [new("stream", text="✓")],
    }


def cells(found: dict) -> list:
    """Cells of code; those with an output have it."""
    return [
        nbformat.v4.new_code_cell(
            source, id=name, outputs=found.get(name, []), metadata={"tags": TAGS.get(name, [])}
        )
        for name, source in CODE.items()
    ]


@pytest.fixture
def stored(tmp_path, monkeypatch) -> Path:
    """A notebook without outputs, and a runner that only says what its cells give."""
    path = tmp_path / "02_rounds.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells({})), path)
    monkeypatch.setattr(render, "notebooks", lambda: [path])
    runs_give(monkeypatch)
    return path


def runs_give(monkeypatch, **found) -> None:
    def fake_run(profile, out, only, parameters):
        folder = Path(out)
        (folder / "notebooks").mkdir(parents=True)
        # As papermill does: a cell with the parameters, and how it went.
        ran = cells(outputs(folder, **found))
        ran.insert(1, nbformat.v4.new_code_cell("REPLAY = True", execution_count=2))
        notebook = nbformat.v4.new_notebook(cells=ran, metadata={"papermill": {"duration": 1.5}})
        nbformat.write(notebook, folder / "notebooks" / "02_rounds.ipynb")
        return folder

    monkeypatch.setattr(render, "run_notebooks", fake_run)


def test_nothing_that_differs_from_run_to_run_is_stored(stored):
    render.render_notebooks()
    once = stored.read_bytes()
    found = {cell.id: cell for cell in nbformat.read(stored, 4).cells}
    assert [cell.source for cell in found.values()] == [*CODE.values()]
    assert all(cell.execution_count is None for cell in found.values())
    assert found["set"].outputs[0].text == "shown here: profile cpu {'REPLAY': True}\n"
    text, table = found["text"].outputs
    assert text.text == "a\nRUN/x kit ~/y\n02_rounds done: n 1\nnew\n"
    assert table.data == {"text/html": "<table></table>"}
    assert [*found["drawn"].outputs[0].data] == ["image/png"]
    assert not found["solved"].outputs and not found["bars"].outputs
    assert "papermill" not in once.decode()
    render.render_notebooks(["02"])
    assert stored.read_bytes() == once
    render.render_notebooks(["03"])
    assert stored.read_bytes() == once


@pytest.mark.parametrize("change", [{"text": "c"}, {"colour": "blue"}])
def test_a_check_names_the_first_cell_that_shows_something_else(stored, monkeypatch, change):
    render.render_notebooks()
    before = stored.read_bytes()
    render.render_notebooks(check=True)
    runs_give(monkeypatch, **change)
    cell = "text" if "text" in change else "drawn"
    with pytest.raises(SystemExit, match=f"02_rounds.ipynb, cell {cell} .*`make render`"):
        render.render_notebooks(check=True)
    assert stored.read_bytes() == before


def test_a_check_compares_no_cell_tagged_live(stored, monkeypatch):
    render.render_notebooks()
    runs_give(monkeypatch, sampled="something else")
    render.render_notebooks(check=True)


def test_a_notebook_without_outputs_fails_a_check(stored):
    with pytest.raises(SystemExit, match="cell set "):
        render.render_notebooks(check=True)


def test_changed_parameters_are_those_of_the_notebooks():
    given = [*render.SHOWN.items(), *render.SHORT.items()]
    for number, parameters in given:
        (path,) = [path for path in render.notebooks() if path.stem[:2] == number]
        code = [
            "".join(cell["source"])
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
            if "parameters" in cell["metadata"].get("tags", [])
        ]
        assert all(f"\n{name}: " in code[0] for name in parameters), number
