"""The page at the end of a run: one HTML file that needs no server and no network. It shows what the run folder holds, whole, partial or failed."""

import base64
from collections import Counter
from datetime import datetime
from pathlib import Path

import jinja2
import nbformat
import pandas as pd

from kit.captions import caption, order
from kit.run import read_manifest

LIMIT = 5_000_000  # bytes of the page
ROOM = LIMIT - 500_000  # of it for pictures; what does not fit is linked
LARGE = 150_000  # bytes: a larger SVG (many points) gives way to its PNG
# Step of the pipeline, its notebook, and the counts of it to show: (format, names in the manifest)
STEPS = (
    ("seeds", "01_seeds", ("{seeds} snippets", "{wild} wild, {real} real")),
    ("rounds", "02_rounds", ("{problems} problems", "{valid} valid")),
    ("filters", "03_filters", ("{kept} kept", "{kept_held_out} of them held out")),
    (
        "difficulty",
        "04_difficulty",
        ("{hard} hard, {medium} medium", "{easy_medium} easy-medium", "{easy} easy"),
    ),
    ("curriculum", "04_difficulty", ("{prompts} prompts", "{different} different problems")),
    (
        "GRPO",
        "05_grpo",
        ("{steps} steps", "reward {reward_first_half:.2f} → {reward_second_half:.2f}"),
    ),
    (
        "evaluation",
        "06_evaluation",
        ("{problems} problems", "held-out pass@1 {synthetic sampled:+.2f}"),
    ),
    (
        "findings",
        "07_findings",
        ("{supported} supported, {contradicted} contradicted", "{open} undecided or not tested"),
    ),
)
# What is taken from data/recorded -> the notebook that would have made it
MAKERS = {
    "seeds": "01_seeds",
    "problems": "02_rounds",
    "completions": "02_rounds",
    "filtered": "03_filters",
    "yields": "03_filters",
    "plan": "04_difficulty",
    "difficulty": "04_difficulty",
    "train": "05_grpo",
    "policy": "05_grpo",
    "evaluation": "06_evaluation",
}
HEADINGS = {
    "01": "Seeds",
    "02": "Rounds: problems and their pass rates",
    "03": "Filters: the funnel",
    "04": "Difficulty and curriculum",
    "05": "Training",
    "06": "Evaluation",
    "07": "Findings: the claim board",
}


def write(folder: str | Path) -> Path:
    """`report.html` of a run folder, below LIMIT bytes. Raises RunError if its manifest is damaged."""
    folder, manifest = Path(folder), read_manifest(folder)
    profile, stages = manifest["profile"] or {"name": "not loaded"}, _stages(folder, manifest)
    recorded = {name: stem for stem, stage in stages.items() for name in stage["recorded"]}
    programs = sum((Counter(stage["programs"]) for stage in stages.values()), Counter())
    dates = [
        stage[key] for stage in stages.values() for key in ("started", "finished") if stage.get(key)
    ]
    page = _template().render(
        name=folder.name,
        profile=profile,
        stages=stages,
        steps=_steps(stages, recorded),
        recorded=recorded,
        sections=_sections(folder, stages, profile),
        failed={stem: stage["error"] for stem, stage in stages.items() if stage["error"]},
        date=f"{datetime.fromisoformat(max(dates)):%Y-%m-%d %H:%M} UTC" if dates else "–",
        minutes=sum(stage.get("seconds", 0) for stage in stages.values()) / 60,
        peak=max((s.get("peak_gb", 0) for s in stages.values()), default=0),
        programs=programs.most_common(),
        total=programs.total(),
        lost=programs["sandbox_error"] + programs["unsupported"],
        boxes=sorted({mode for stage in stages.values() for mode in stage["sandbox"]}),
        versions=manifest.get("versions", {}),
        errors={
            stem: stage["counts"]["errors"]
            for stem, stage in stages.items()
            if "errors" in stage["counts"]
        },
        evaluation=_evaluation(folder),
        board=_board(folder),
    )
    (out := folder / "report.html").write_text(page, encoding="utf-8")
    return out


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("report.html")


def _stages(folder: Path, manifest: dict) -> dict[str, dict]:
    """Facts of the manifest per notebook, and what the executed notebook tells: its error, its page."""
    empty = {
        "counts": {},
        "programs": {},
        "sandbox": [],
        "recorded": [],
        "overrides": {},
        "error": "",
        "html": "",
    }
    ran = {path.stem: path for path in sorted((folder / "notebooks").glob("*.ipynb"))}
    stages = {
        stem: empty | manifest["stages"].get(stem, {})
        for stem in sorted({*ran, *manifest["stages"]})
    }
    for stem, stage in stages.items():
        outputs = _outputs(ran[stem]) if stem in ran else []
        stage["error"] = next(
            (f"{x.get('ename')}: {x.get('evalue')}" for x in outputs if x.output_type == "error"),
            "",
        )
        stage["html"] = (
            f"notebooks/{stem}.html" if (folder / "notebooks" / f"{stem}.html").exists() else ""
        )
        stage["state"] = (
            "failed" if stage["error"] else "done" if stage.get("finished") else "not finished"
        )
    return stages


def _outputs(notebook: Path) -> list:
    try:
        return [
            x
            for cell in nbformat.read(notebook, 4).cells
            if cell.cell_type == "code"
            for x in cell.outputs
        ]
    except (OSError, ValueError):  # papermill was killed while it wrote
        return []


def _steps(stages: dict, recorded: dict) -> list[dict]:
    """The boxes of the pipeline: name, notebook, state (done | failed | not finished | recorded | absent), lines."""
    made, out, upstream = {MAKERS.get(name.partition(".")[0]) for name in recorded}, [], False
    for name, stem, texts in STEPS:
        stage = stages.get(stem)
        state = stage["state"] if stage else "recorded" if stem in made else "absent"
        counts = (stage or {"counts": {}})["counts"]
        if name == "findings" and counts:
            verdicts = Counter(v for k, v in counts.items() if k.startswith("F"))
            counts = verdicts | {
                "open": verdicts["undecided"] + verdicts["not tested at this scale"],
                "supported": verdicts["supported"],
                "contradicted": verdicts["contradicted"],
            }
        upstream = upstream or bool(stage and stage["recorded"])  # what follows rests on it
        out.append(
            {
                "name": name,
                "stem": stem,
                "state": state,
                "recorded": upstream,
                "lines": [text for t in texts if (text := _filled(t, counts))],
            }
        )
    return out


def _filled(text: str, counts: dict) -> str:
    """The text with a run's counts, empty where it lacks one."""
    try:
        return text.format(**counts)
    except (KeyError, ValueError):
        return ""


def _sections(folder: Path, stages: dict, profile: dict) -> list[dict]:
    """The figures of each notebook with captions; SVG or PNG inside the page while there is room."""
    sections, room = (
        {
            number: []
            for number, table in (("06", "summary"), ("07", "board"))
            if (folder / f"{table}.parquet").exists()
        },
        ROOM,
    )
    for svg in sorted((folder / "figures").glob("*.svg"), key=lambda path: order(path.stem)):
        shown = picture(svg)
        kind, source = {".svg": "svg+xml", ".png": "png"}[shown.suffix], f"figures/{shown.name}"
        if (size := shown.stat().st_size * 4 // 3 + 100) <= room:
            source, room = (
                f"data:image/{kind};base64,{base64.b64encode(shown.read_bytes()).decode()}",
                room - size,
            )
        csv = svg.with_suffix(".csv")
        question, read, n = caption(svg.stem, _frame(csv), seed_of(svg.stem, stages, profile))
        sections.setdefault(svg.stem[:2], []).append(
            {
                "name": svg.stem,
                "source": source,
                "question": question,
                "read": read,
                "n": n,
                "csv": f"figures/{csv.name}" if csv.exists() else "",
            }
        )
    return [
        {"number": number, "title": HEADINGS.get(number, number), "figures": figures}
        for number, figures in sorted(sections.items())
    ]


def picture(svg: Path) -> Path:
    """The SVG of a figure, or its PNG where many points make the SVG large."""
    png = svg.with_suffix(".png")
    return png if svg.stat().st_size >= LARGE and png.exists() else svg


def seed_of(figure: str, stages: dict, profile: dict) -> int | None:
    """The seed of a figure's notebook: the training and what follows it may have its own."""
    training = [
        (profile.get("grpo") or {}).get("seed"),
        stages.get("05_grpo", {}).get("overrides", {}).get("grpo.seed"),
    ]
    return next(
        (s for s in reversed(training) if s is not None and figure[:2] in ("05", "06")),
        profile.get("seed"),
    )


def _frame(csv: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(csv)
    except (OSError, ValueError):  # none, empty or torn
        return pd.DataFrame()


def _table(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.exists() else pd.DataFrame()


def _span(row, form: str) -> str:
    return (
        f"{row.value:{form}} [{row.low:{form}}, {row.high:{form}}]"
        if row.value == row.value
        else "–"
    )


def _evaluation(folder: Path) -> dict:
    """checkpoints, and a row per set, mode and k: share solved at each, n, the paired change where there is one."""
    summary, difference = _table(folder / "summary.parquet"), _table(folder / "difference.parquet")
    if summary.empty:
        return {}
    changes = (
        {(x.set, x.mode): x for x in difference[difference.group == "all"].itertuples()}
        if len(difference)
        else {}
    )
    rows, whole = [], summary[summary.group == "all"]
    for (name, mode, k), part in whole.groupby(["set", "mode", "k"], sort=False):
        rows.append(
            {
                "set": name,
                "what": "greedy" if mode == "greedy" else f"pass@{k}",
                "n": part.n_problems.max(),
                "errors": part.errors.sum(),
                "at": {x.checkpoint: _span(x, ".2f") for x in part.itertuples()},
                "change": _span(changes[name, mode], "+.2f")
                if k == 1 and (name, mode) in changes
                else "",
            }
        )
    return {"checkpoints": list(dict.fromkeys(whole.checkpoint)), "rows": rows}


def _board(folder: Path) -> list[dict]:
    """The claims with the effect on sampled answers; greedy ones stand in the figure."""
    board = _table(folder / "board.parquet")
    return [
        {**x._asdict(), "effect": _span(x, ".2f" if x.null else "+.2f")}
        for x in board.itertuples()
        if x.mode == "sampled"
    ]
