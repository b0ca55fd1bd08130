import ast
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import nbformat
import pandas as pd
import pytest

from kit.commands import record, report, runner
from kit.core.manifest import RunError, read_manifest
from kit.core.run import open_run
from kit.display.figures import captions

HOSTILE = "<script>alert('written by a model')</script>"
VOID = {"meta", "img", "br"}
# What a title's numbers rest on.
COUNT = r"n = \d|\bof \d|\bOf \d|\d settings"


class Page(HTMLParser):
    """Reads a page; AssertionError for a tag that is not closed."""

    def __init__(self, path: Path):
        super().__init__()
        self.open, self.links, self.ids, self.text, self.tags = [], [], set(), [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids |= {value for name, value in attrs if name == "id"}
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


def read(folder: Path) -> Page:
    """The report of a folder, whose links are all there and lead nowhere else."""
    path = report.write_report(folder)
    page = Page(path)
    assert "script" not in page.tags
    assert not re.search(
        r"(https?:)?//(?!-)", re.sub(r"data:image/[^\"]*", "", path.read_text(encoding="utf-8"))
    ), "nothing from a network"
    for link in page.links:
        assert link.startswith("data:image/") or link[1:] in page.ids or (folder / link).exists(), (
            link
        )
    return page


def stage(**facts) -> dict:
    return {
        "overrides": {},
        "started": "2026-01-01T10:00:00+00:00",
        "finished": "2026-01-01T11:00:00+00:00",
        "seconds": 90.0,
        "counts": {},
        "recorded": [],
        "programs": {},
        "sandbox": [],
    } | facts


def write(folder: Path, **stages) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(
        json.dumps(
            {
                "profile": {"name": "made-up", "seed": 7, "grpo": {"seed": None}},
                "versions": {"kit": "abc123"},
                "stages": stages,
            }
        )
    )
    return folder


def figure(folder: Path, name: str, frame: pd.DataFrame, size: int = 100, png: int = 0) -> None:
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / f"{name}.svg").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg'/>".ljust(size)
    )
    frame.to_csv(folder / "figures" / f"{name}.csv", index=False)
    if png:
        (folder / "figures" / f"{name}.png").write_bytes(b"0" * png)


def executed(folder: Path, stem: str, *outputs) -> None:
    cell = nbformat.v4.new_code_cell("1 / 0", outputs=list(outputs))
    (folder / "notebooks").mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "notebooks" / f"{stem}.ipynb")
    (folder / "notebooks" / f"{stem}.html").write_text("the notebook")


def test_a_whole_run(tmp_path):
    programs = {"ok": 1000, "timeout": 5, "sandbox_error": 2, "unsupported": 1}
    folder = write(
        tmp_path / "run",
        **{
            "01_seeds": stage(
                counts={"seeds": 26, "wild": 10, "real": 16}, overrides={"seeds.wild": 10}
            ),
            "02_rounds": stage(programs=programs, sandbox=["root"]),
            "03_filters": stage(counts={"kept": 17, "kept_held_out": 4, "errors": 3}, peak_gb=2.5),
            "07_findings": stage(
                counts={
                    "F1": "contradicted",
                    "F2": "supported",
                    "F3": "undecided",
                    "F4": "not tested at this scale",
                }
            ),
        },
    )
    figure(folder, "01_seeds", pd.DataFrame({"source": ["wild"] * 26}))
    figure(folder, "03_mine", pd.DataFrame({"x": [1, 2]}))
    executed(folder, "01_seeds")
    columns = [
        "checkpoint",
        "set",
        "group",
        "mode",
        "k",
        "n_problems",
        "errors",
        "value",
        "low",
        "high",
    ]
    pd.DataFrame(
        [
            ("before", "maths", "all", "sampled", 1, 12, 0, 0.25, 0.1, 0.4),
            ("after", "maths", "all", "sampled", 1, 12, 1, 0.5, 0.3, 0.7),
            ("after", "maths", "level 1", "sampled", 1, 3, 0, 0.9, 0.8, 1.0),
        ],
        columns=columns,
    ).to_parquet(folder / "summary.parquet")
    pd.DataFrame(
        [("maths", "all", "sampled", 0.25, -0.05, 0.55)],
        columns=["set", "group", "mode", "value", "low", "high"],
    ).to_parquet(folder / "difference.parquet")
    form = {"set": "maths", "n": 12, "change": 0.25, "by_form": -0.05, "by_skill": 0.3}
    form |= {"malformed_before": 0.1, "malformed_after": 0.2}
    form |= {"cut_off_before": 0.0, "cut_off_after": 0.05}
    pd.DataFrame([form]).to_parquet(folder / "form.parquet")
    pd.DataFrame(
        [
            (
                "F6",
                "medium is best",
                "medium - easy",
                mode,
                value,
                -0.1,
                0.2,
                0.0,
                3,
                36,
                "undecided",
            )
            for mode, value in (("sampled", 0.04), ("greedy", 0.77))
        ]
        + [("F3", "more", "real", "sampled", float("nan"), None, None, 0.0, 0, 0, "not tested")],
        columns="claim statement comparison mode value low high null seeds problems part".split(),
    ).assign(why=["", "", "no training of real"], smallest=0.13, elsewhere="others").to_parquet(
        folder / "board.parquet"
    )
    page = read(folder)
    for text in (
        "profile made-up",
        "seed 7",
        "kit abc123",
        "2026-01-01 11:00 UTC",
        "26 snippets 10 wild, 16 real",
        "17 kept 4 of them held out",
        "1 supported, 1 contradicted 2 undecided or not tested",
        "asked for: seeds.wild = 10",
        "Where do the seeds come from? Left: snippets per package.",
        "0.25 [0.10, 0.40] 0.50 [0.30, 0.70] +0.25 [-0.05, +0.55] 12 1",
        "maths 10% → 20% 0% → 5% +0.25 -0.05 +0.30 12",
        "medium - easy: +0.04 [-0.10, +0.20], 3 seeds, n = 36, could find 0.13 undecided",
        "real: no training of real not tested",
        "1,008 programs in the sandbox (mode root)",
        "3 got no verdict",
        "03_filters 3",
    ):
        assert text in page.said, text
    assert "0.77" not in page.said and "0.90" not in page.said, (
        "greedy and grouped values stand in the figures"
    )
    assert "notebooks/01_seeds.html" in page.links and "figures/03_mine.csv" in page.links
    assert " failed:" not in page.said and "Not all of it" not in page.said


def test_a_folder_in_which_nothing_has_begun(tmp_path):
    assert "No notebook has begun" in read(tmp_path).said


def test_a_failed_and_a_stopped_notebook(tmp_path):
    stopped = {"overrides": {}, "started": "2026-01-01T10:00:00+00:00"}
    folder = write(
        tmp_path / "run", **{"01_seeds": stage(), "02_rounds": stopped, "03_filters": stage()}
    )
    executed(
        folder,
        "03_filters",
        nbformat.v4.new_output("error", ename="DiskError", evalue="full & <b>lost</b>"),
    )
    (folder / "notebooks" / "02_rounds.ipynb").write_text(
        '{"cells": ['
    )  # killed while it was written
    (folder / "figures").mkdir()
    (folder / "figures" / "02_slopes.svg").write_text("<svg/>")  # and before its numbers were
    page = read(folder)
    assert (
        "03_filters failed: DiskError: full & <b>lost</b>" in page.said
        and "the same command goes on" in page.said
    )
    assert (
        "02_rounds not finished" in page.said
        and "03_filters failed" in page.said
        and "01_seeds done" in page.said
    )
    assert "b" in page.tags and "evaluation not in this run" in page.said


def test_recorded_data_are_said_to_be(tmp_path):
    folder = write(
        tmp_path / "run",
        **{
            "03_filters": stage(recorded=["problems.parquet"], counts={"kept": 1}),
            "04_difficulty": stage(),
            "07_findings": stage(recorded=["study"]),
        },
    )
    page = read(folder)
    assert "problems.parquet (read by 03_filters), study (read by 07_findings)" in page.said
    assert "filters 1 kept from recorded data" in page.said
    assert "difficulty from recorded data" in page.said, "what rests on it too"
    assert "seeds not in this run" in page.said


def test_text_of_a_model_is_text(tmp_path):
    folder = write(
        tmp_path / "run",
        **{
            "02_rounds": stage(
                counts={HOSTILE: HOSTILE}, overrides={"x": HOSTILE}, recorded=[HOSTILE]
            )
        },
    )
    executed(folder, "02_rounds", nbformat.v4.new_output("error", ename="E", evalue=HOSTILE))
    pd.DataFrame(
        [("F1", HOSTILE, '" onload="x', "sampled", 1.0, 1.0, 1.0, 0.0, 1, 1, HOSTILE)],
        columns="claim statement comparison mode value low high null seeds problems part".split(),
    ).assign(why="", smallest=0.13, elsewhere="others").to_parquet(folder / "board.parquet")
    assert read(folder).said.count(HOSTILE) >= 6


def test_of_a_large_picture_the_smaller_form_is_in_the_page(tmp_path):
    folder = write(tmp_path / "run")
    figure(folder, "03_mine", pd.DataFrame({"x": [1]}), size=140_000)
    figure(folder, "01_seeds", pd.DataFrame({"x": [1]}), size=9_000_000, png=1000)
    links = read(folder).links
    assert sum(link.startswith("data:image/svg") for link in links) == 1
    assert sum(link.startswith("data:image/png") for link in links) == 1, (
        "an SVG of many points gives way to its PNG"
    )


def test_a_damaged_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(RunError, match="manifest.json is damaged"):
        report.write_report(tmp_path)


def _overrides(notebook: Path) -> dict[str, str]:
    """Key of the profile -> parameter, as the notebook's `kit.start(...)` says."""
    cells = nbformat.read(notebook, 4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    start = next(call for call in calls if ast.unparse(call.func) == "kit.start")
    return {
        word.arg.replace("__", "."): word.value.id for word in start.keywords if "__" in word.arg
    }


@pytest.mark.parametrize("notebook", runner.notebooks(), ids=lambda path: path.stem)
def test_the_command_of_a_run_names_the_notebooks_parameters(notebook):
    overrides = _overrides(notebook)
    manifest = {"profile": {"name": "cpu"}, "stages": {notebook.stem: {"overrides": overrides}}}
    given = re.findall(r" -p (\w+)=(\w+)", record.command_of(manifest))
    assert given == [(name, name) for name in overrides.values()]
    assert {name for name, _ in given} <= runner.parameters_of(notebook).keys()


def test_the_command_of_a_replay(tmp_path):
    open_run("02_rounds", "cpu", str(tmp_path), replay=True, rounds__turns=2)
    command = record.command_of(read_manifest(tmp_path))
    assert command == "python -m kit run --profile cpu --out RUN -p TURNS=2 -p REPLAY=True"
    assert "REPLAY" in runner.parameters_of(runner.NOTEBOOKS / "02_rounds.ipynb")


def test_every_figure_of_the_notebooks_has_a_caption():
    texts = [notebook.read_text(encoding="utf-8") for notebook in runner.notebooks()]
    names = {
        name for text in texts for name in re.findall(r'run\.figure\(.*?\\"(\d\d_\w+)\\"', text)
    }
    assert len(names) >= 18 and names <= set(captions.CAPTIONS)


def test_every_shipped_figure_has_a_caption_and_its_title_has_n():
    """matplotlib notes each line of a text beside its letters; no data stand in a schedule."""
    for csv in record.FIGURES.glob("*.csv"):
        svg = csv.with_suffix(".svg").read_text(encoding="utf-8")
        notes = " ".join(line.strip() for line in re.findall(r"<!-- (.*?) -->", svg, re.S))
        assert csv.stem in captions.CAPTIONS
        assert re.search(COUNT, notes) or csv.stem == "04_schedules", csv.stem


def test_the_gallery_shows_every_shipped_figure():
    text = (record.FIGURES / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([\w.]+)\)", text)
    assert {path.name for path in record.FIGURES.iterdir() if path.is_file()} - {
        "README.md"
    } == set(links)
    assert text.count("python -m kit run ") == len(links) // 2


def test_an_unknown_figure_asks_its_name():
    assert captions.caption("08_mine") == ("08_mine", "")
