"""The page at the end of a run: one HTML file that needs no server and no network.

It shows what the run folder holds, whether the run is whole, partial or failed.
"""

import base64
import mimetypes
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import yaml

from kit.commands.story import found_here, optional_table, tell_story, voting_rows
from kit.core.manifest import read_manifest
from kit.core.stats import value_in_interval
from kit.display.figures.captions import caption, order

# Bytes: of a larger SVG (many points) the PNG is shown instead.
LARGE = 200_000

# Its texts: steps of the pipeline, headings.
TEXTS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def write_report(folder: str | Path) -> Path:
    """Writes `report.html` of a run folder.

    Raises RunError if its manifest is damaged."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    stages = _stages(folder, manifest)
    recorded = {name: stem for stem, stage in stages.items() for name in stage["recorded"]}
    # Programs in the sandbox, by outcome: those without a verdict are our failure.
    programs = sum((Counter(stage["programs"]) for stage in stages.values()), Counter())
    # The run is as old as the last time that it noted.
    times = [stage.get(key, "") for stage in stages.values() for key in ("started", "finished")]
    # What a model wrote becomes text, never markup.
    blank = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    template = jinja2.Template(blank, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = template.render(
        name=folder.name,
        profile=manifest["profile"] or {"name": "not loaded"},
        stages=stages,
        steps=_steps(stages),
        recorded=recorded,
        sections=_sections(folder),
        last=max(times, default=""),
        programs=programs,
        boxes=sorted({mode for stage in stages.values() for mode in stage["sandbox"]}),
        versions=manifest.get("versions", {}),
        evaluation=evaluation_table(folder),
        board=_board(folder),
        story=tell_story(folder, manifest),
    )
    out = folder / "report.html"
    out.write_text(page, encoding="utf-8")
    return out


def _stages(folder: Path, manifest: dict) -> dict[str, dict]:
    """Facts of the manifest per notebook, and what the executed notebook tells: error and page."""
    empty: dict[str, Any] = {
        "counts": {},
        "programs": {},
        "sandbox": [],
        "recorded": [],
        "overrides": {},
    }
    executed = folder / "notebooks"
    stems = {path.stem for path in executed.glob("*.ipynb")} | set(manifest["stages"])
    stages = {stem: empty | manifest["stages"].get(stem, {}) for stem in sorted(stems)}
    for stem, stage in stages.items():
        stage["error"] = _error_of(executed / f"{stem}.ipynb")
        page = executed / f"{stem}.html"
        stage["html"] = f"notebooks/{page.name}" if page.exists() else ""
        stage["state"] = "done" if stage.get("finished") else "not finished"
        if stage["error"]:
            stage["state"] = "failed"
    return stages


def _error_of(notebook):
    """The first error in the outputs of an executed notebook, empty if there is none."""
    try:
        cells = nbformat.read(notebook, 4).cells
    except (OSError, ValueError):
        # It was never executed, or papermill was killed while it wrote.
        return ""
    for cell in cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"{output.get('ename')}: {output.get('evalue')}"
    return ""


def _steps(stages: dict[str, dict]) -> list[dict]:
    """The boxes of the pipeline: name, notebook, state, whether they rest on recorded data, lines.

    States: done, failed, not finished, absent."""
    steps = []
    upstream = False
    for name, stem, texts in TEXTS["steps"]:
        stage = stages.get(stem) or {"state": "absent", "counts": {}}
        # What follows a step that read recorded data rests on these data too.
        upstream |= bool(stage.get("recorded"))
        counts = stage["counts"]
        if name == "findings" and counts:
            counts = _verdicts(counts)
        steps.append(
            {
                "name": name,
                "stem": stem,
                "state": stage["state"],
                "recorded": upstream,
                "lines": list(filter(None, (_filled(text, counts) for text in texts))),
            }
        )
    return steps


def _verdicts(counts):
    """How many claims (F1, F2, ...) are supported, contradicted and open."""
    found = Counter(verdict for claim, verdict in counts.items() if claim.startswith("F"))
    return {
        "supported": found["supported"],
        "contradicted": found["contradicted"],
        "open": found["undecided"] + found["not tested at this scale"],
    }


def _filled(text, counts):
    """The text with a run's counts, empty if one of them is missing."""
    try:
        return text.format(**counts)
    except (KeyError, ValueError):
        return ""


def _sections(folder: Path) -> list[dict]:
    """The figures of each notebook with their captions."""
    # Evaluation and findings have a table, so they have a section even without a figure.
    tables = {"06": "summary", "07": "board"}
    sections: dict[str, list[dict]] = {
        number: [] for number, name in tables.items() if (folder / f"{name}.parquet").exists()
    }
    for svg in sorted((folder / "figures").glob("*.svg"), key=order):
        csv = svg.with_suffix(".csv")
        question, read = caption(svg.stem)
        shown = picture(svg)
        kind, _ = mimetypes.guess_type(shown)
        data = base64.b64encode(shown.read_bytes()).decode()
        sections.setdefault(svg.stem[:2], []).append(
            {
                "name": svg.stem,
                "source": f"data:{kind};base64,{data}",
                "question": question,
                "read": read,
                "csv": f"figures/{csv.name}" if csv.exists() else "",
            }
        )
    return [
        {"number": number, "title": TEXTS["headings"].get(number, number), "figures": figures}
        for number, figures in sorted(sections.items())
    ]


def picture(svg: Path) -> Path:
    """The SVG of a figure, or its PNG if many points make the SVG large."""
    png = svg.with_suffix(".png")
    return png if svg.stat().st_size >= LARGE and png.exists() else svg


def evaluation_table(folder: Path) -> dict:
    """The checkpoints, and a row per set, mode and k.

    A row: the share solved at each checkpoint, n, and the paired change if there is one. Then a
    row per set of `gains.form_and_skill`."""
    summary = optional_table(folder, "summary", "set mode k group checkpoint")
    if summary.empty:
        return {}
    # Changes are of one answer per problem: they stand beside pass@1 and greedy.
    changes = {
        (row.set, row.mode, 1): value_in_interval(row, "+.2f")
        for row in optional_table(folder, "difference", "set group").itertuples()
        if row.group == "all"
    }
    whole = summary[summary.group == "all"]
    rows = [
        {
            "set": name,
            "what": "greedy" if mode == "greedy" else f"pass@{k}",
            "n": part.n_problems.max(),
            "errors": part.errors.sum(),
            "at": {row.checkpoint: value_in_interval(row) for row in part.itertuples()},
            "change": changes.get((name, mode, k), ""),
        }
        for (name, mode, k), part in whole.groupby(["set", "mode", "k"], sort=False)
    ]
    # Shares of malformed and cut-off answers before and after, and what of the gain is form.
    forms = list(optional_table(folder, "form", "set").itertuples())
    return {"checkpoints": list(whole.checkpoint.unique()), "rows": rows, "forms": forms}


def _board(folder):
    """The comparisons with the effect on sampled answers; other modes stand in the figure."""
    board = optional_table(folder, "board", "claim mode elsewhere why")
    return [{**row._asdict(), "here": found_here(row)} for row in voting_rows(board).itertuples()]
