"""Ship a finished run as recorded data, and write its numbers into the pages that show them.

What is shipped is small enough for git and has a card that says how it was made.
"""

import shutil
from pathlib import Path

import pandas as pd

from kit import findings
from kit.arms import collect_study, recorded_folder, recorded_study, study_scale
from kit.commands import report, story
from kit.commands.cards import GALLERY, MINI_CARD, RUN_CARD, STUDY_CARD, WHAT_A_ROW_IS
from kit.commands.pages import board_markdown, minutes_of, update_pages, verdicts_markdown
from kit.commands.study import STUDY_STAGES, done
from kit.core import records
from kit.core.manifest import RECORDED, ROOT, RunError, read_manifest
from kit.core.run import MINIATURE, recorded_run, scale_of
from kit.display.figures.captions import caption, order
from kit.pooling import with_recorded
from kit.rollouts import rollout_summary
from kit.serving import engine

FIGURES = ROOT / "figures"

TABLES = tuple(WHAT_A_ROW_IS)

# Keys of a profile whose parameter in the notebook has another name.
PARAMETERS = {
    "evaluation.n": "SAMPLES",
    "grpo.seed": "TRAIN_SEED",
    "student.engine": "REPLAY",
    "teacher.engine": "REPLAY",
}


def record_run(run_dir: str | Path, timed: str | Path = "") -> Path:
    """Copy a run to the folder of its scale and `figures/`, and its numbers into RESULTS.md.

    Of a run in miniature only the tables are copied, with a card. `timed`: another run, of the
    profile as it is, from which the README takes the minutes of the notebooks. Returns the folder.
    Raises RunError if a table of the run is missing.
    """
    records.quiet()
    folder = Path(run_dir)
    manifest = read_manifest(folder)
    missing = [table for table in TABLES if not (folder / f"{table}.parquet").exists()]
    if missing or not manifest["profile"]:
        raise RunError(
            f"{folder} has no {', '.join(missing) or 'manifest'}: "
            "finish the run first, the same command goes on"
        )
    mini = scale_of(manifest["profile"])
    out = recorded_run(mini)
    out.mkdir(parents=True, exist_ok=True)
    for table in (*TABLES, "rollouts"):
        file = folder / f"{table}.parquet"
        if file.exists():
            shutil.copyfile(file, out / file.name)
    if not mini:
        _publish(folder, manifest, out, timed)
    (out / "README.md").write_text(
        _card(manifest, out, MINI_CARD if mini else RUN_CARD), encoding="utf-8"
    )
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"recorded {folder} in {out}: {size / 1e6:.1f} MB")
    return out


def _publish(folder, manifest, out, timed):
    """What a run of language models has besides its tables."""
    # The answers of teacher and student; a sharded run has these per shard.
    answers = "completions/02_rounds-*.jsonl"
    logs = sorted([*folder.glob(answers), *folder.glob(f"shards/rounds/*/{answers}")])
    engine.write_recording(logs, out / "completions.parquet")
    # Each figure beside its numbers, instead of an older one of that name.
    FIGURES.mkdir(parents=True, exist_ok=True)
    for svg in sorted((folder / "figures").glob("*.svg")):
        for old in FIGURES.glob(f"{svg.stem}.*"):
            old.unlink()
        for part in (report.picture(svg), svg.with_suffix(".csv")):
            shutil.copyfile(part, FIGURES / part.name)
    # The texts that tell about the run.
    (FIGURES / "README.md").write_text(gallery(manifest), encoding="utf-8")
    update_pages("results", results(manifest, out), read_manifest(timed or folder)["stages"])


def record_study(folder: str | Path) -> Path:
    """The tables of a study, small enough for git, for notebook 07, and its board into the pages.

    Or those of a study of loops, for notebook 08. Only finished runs count, and recorded ones that
    are not in the folder stay, so a study can be recorded as it grows. Returns the folder of its
    scale. Raises RunError if no run is finished, or the recorded ones are of another profile.
    """
    records.quiet()
    # It loads torch, which takes seconds.
    from kit.loop_findings import loop_tables

    folder = Path(folder)
    loops = any(folder.glob("*/*/segments.parquet"))
    tables = loop_tables(folder) if loops else collect_study(folder)
    if tables["scores"].empty:
        raise RunError(f"no run in {folder} is finished yet")
    answers = [path for path in sorted(folder.glob("*/*/rollouts.parquet")) if done(path.parent)]
    counted = [
        rollout_summary(records.read_parquet(path)).assign(arm=path.parts[-3], seed=path.parts[-2])
        for path in answers
    ]
    if counted:
        tables["rollouts"] = pd.concat(counted, ignore_index=True).astype({"seed": int})
    out = RECORDED / "loop-mini" if loops else recorded_folder(study_scale(folder))
    tables = with_recorded(tables, out)
    for name, table in tables.items():
        records.write_parquet(table, out / f"{name}.parquet")
    runs = tables["scores"].drop_duplicates(["arm", "seed"])
    kind = "loop" if loops else "study"
    (out / "README.md").write_text(_study_card(folder, runs, kind), encoding="utf-8")
    rejudge()
    print(f"recorded {len(runs)} runs of {runs.arm.nunique()} arms in {out}")
    return out


def recorded_board(scale: str = "") -> pd.DataFrame:
    """The board of a recorded study; for F1 and F2 of the recorded run, for F11 of the loops.

    Args:
        scale: MINIATURE, where F1 and F2 are not judged, or empty: without loops.
    Returns:
        As `findings.board`.
    Raises:
        RunError: no study of that scale is recorded.
    Source: our choice.
    """
    # It loads torch, which takes seconds.
    from kit.loop_findings import LOOP_CLAIMS

    folder = recorded_folder(scale)
    study = recorded_study(folder)
    if study is None:
        raise RunError(f"no study is recorded in {folder}: python -m kit record STUDY")
    problems = [] if scale else records.load_problems(RECORDED / "filtered.parquet")
    yields = records.read_parquet(RECORDED / "yields.parquet")
    rounds = findings.round_tables(yields[:0] if scale else yields, problems)
    loops = recorded_study(RECORDED / "loop-mini") if scale else study
    boards = findings.board(study | rounds), findings.board(loops or study, LOOP_CLAIMS)
    return pd.concat(boards)


def rejudge() -> None:
    """Put the verdicts on the recorded studies, by the rules of today, into the pages."""
    boards = recorded_board(), recorded_board(MINIATURE)
    update_pages("board", board_markdown(*boards))
    update_pages("verdicts", verdicts_markdown(*boards))


def _study_card(folder: Path, trained: pd.DataFrame, kind: str) -> str:
    """README.md of a recorded study: how it was made, how long a run took, its trainings by arm.

    `trained`: arm and seed of all that are recorded; those of `folder` are the last of them.
    `kind`: the command, study or loop.
    """
    counts = trained.groupby("arm").size()
    runs = [note.parent for note in folder.glob("*/*/arm.json") if done(note.parent)]
    manifests = [read_manifest(run) for run in sorted(runs)]
    train, evaluate = (
        pd.Series(made["stages"][stage]["seconds"] for made in manifests).median() / 60
        for stage in STUDY_STAGES
    )
    first = manifests[0]
    return STUDY_CARD.format(
        kind=kind,
        notebook={"study": "07", "loop": "08"}[kind],
        profile=first["profile"],
        kit=first["versions"].get("kit", "?"),
        arms=",".join(counts.index),
        seeds=",".join(map(str, sorted(trained.seed.unique()))),
        train=train,
        evaluate=evaluate,
        runs=len(runs),
        counts=", ".join(f"{arm} {n}" for arm, n in counts.items()),
        packages=versions(first),
    )


def command_of(manifest: dict) -> str:
    """The command that makes a run again."""
    options = _options(manifest["stages"].values())
    return f"python -m kit run --profile {manifest['profile']['name']} --out RUN{options}"


def _options(stages):
    """What stages changed in the profile, as options of the command."""
    given = {}
    for facts in stages:
        for key, value in facts["overrides"].items():
            name = PARAMETERS.get(key, key.rpartition(".")[2].upper())
            given[name] = value == "replay" if name == "REPLAY" else value
    return "".join(f" -p {name}={value}" for name, value in given.items())


def versions(manifest: dict) -> str:
    """Of the packages that made a run."""
    return ", ".join(f"{name} {of}" for name, of in manifest["versions"].items() if name != "kit")


def gallery(manifest: dict) -> str:
    """`figures/README.md`: every figure there with its question, and the command that draws it."""
    parts = [GALLERY]
    for csv in sorted(FIGURES.glob("*.csv"), key=order):
        question, read = caption(csv.stem)
        svg = csv.with_suffix(".svg")
        shown = svg if svg.exists() else csv.with_suffix(".png")
        # The notebook that draws it, with the values that this run gave to it.
        number = csv.stem[:2]
        stages = manifest["stages"].items()
        changed = _options(facts for stem, facts in stages if stem.startswith(number))
        parts.append(
            f"## {question}\n\n![{question}]({shown.name})\n\n"
            f"{read} [Numbers]({csv.name})\n\n"
            f"```bash\npython -m kit run --profile {manifest['profile']['name']} --out RUN "
            f"--only {number}{changed}\n```\n"
        )
    return "\n".join(parts)


def _card(manifest, out, card):
    """README.md of a recorded run: its tables, how it was made, how long it took."""
    files = [
        f"| `{table}.parquet` | {len(records.read_parquet(out / f'{table}.parquet'))} | {row} |"
        for table, row in WHAT_A_ROW_IS.items()
    ]
    stages = sorted(manifest["stages"].items())
    return card.format(
        **manifest,
        command=command_of(manifest),
        files="\n".join(files),
        minutes=", ".join(f"{name[:2]} {minutes_of(facts)}" for name, facts in stages),
        packages=versions(manifest),
    )


def results(manifest: dict, out: Path) -> str:
    """The main numbers of a recorded run in Markdown: its story, and the evaluation's table."""
    # The recorded study's board is no part of the run.
    said = list(story.tell_story(out, manifest).items())[:2]
    table = report.evaluation_table(out)
    names = table["checkpoints"]
    lines = [f"**{title}.** {text}\n" for title, text in said]
    lines.append(f"| set | answers | {' | '.join(names)} | change, paired | n | errors |")
    lines.append("|---" * (len(names) + 5) + "|")
    for row in table["rows"]:
        at = [row["at"].get(name, "–") for name in names]
        cells = [row["set"], row["what"], *at, row["change"], row["n"], row["errors"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
