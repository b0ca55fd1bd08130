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
from kit.core.run import MINIATURE, scale_of
from kit.core.stats import value_in_interval
from kit.display.figures.captions import caption, order
from kit.pooling import with_recorded
from kit.rollouts import rollout_summary
from kit.serving import engine
from kit.teacher import teacher_quality

FIGURES = ROOT / "figures"

TABLES = tuple(WHAT_A_ROW_IS)

# Keys of a profile whose parameter in the notebook has another name.
PARAMETERS = {
    "evaluation.n": "SAMPLES",
    "grpo.seed": "TRAIN_SEED",
    "student.engine": "REPLAY",
    "teacher.engine": "REPLAY",
}

# Bytes: git is no place for more.
RECORD_LIMIT = 20_000_000


def record_run(run_dir: str | Path, timed: str | Path = "") -> Path:
    """Copy a run to the folder of its scale and `figures/`, and its numbers into RESULTS.md.

    Of a run in miniature only the tables are copied, with a card. `timed`: another run, of the
    profile as it is, from which the README takes the minutes of the notebooks. Returns the folder.
    Raises RunError if a table of the run is missing, or it is too large for git.
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
    out = RECORDED / ("run-mini" if mini else "")
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
    if size > RECORD_LIMIT:
        raise RunError(
            f"{out} has {size / 1e6:.0f} MB, more than {RECORD_LIMIT / 1e6:.0f}: record a "
            "smaller run"
        )
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

    Only finished runs count, and recorded ones that are not in the folder stay, so a study can be
    recorded as it grows. Returns the folder of its scale. Raises RunError if no run is finished, or
    the recorded ones are of another profile.
    """
    records.quiet()
    folder = Path(folder)
    tables = collect_study(folder)
    if tables["scores"].empty:
        raise RunError(f"no run in {folder} is finished yet")
    answers = [path for path in sorted(folder.glob("*/*/rollouts.parquet")) if done(path.parent)]
    counted = [
        rollout_summary(records.read_parquet(path)).assign(arm=path.parts[-3], seed=path.parts[-2])
        for path in answers
    ]
    if counted:
        tables["rollouts"] = pd.concat(counted, ignore_index=True).astype({"seed": int})
    out = recorded_folder(study_scale(folder))
    tables = with_recorded(tables, out)
    for name, table in tables.items():
        records.write_parquet(table, out / f"{name}.parquet")
    runs = tables["scores"].groupby("arm").seed.nunique()
    (out / "README.md").write_text(_study_card(folder, runs), encoding="utf-8")
    rejudge()
    print(f"recorded {runs.sum()} runs of {len(runs)} arms in {out}")
    return out


def recorded_board(scale: str = "") -> pd.DataFrame:
    """`findings.board` of a recorded study and, for F1 and F2, of the recorded run.

    `scale`: MINIATURE, where F1 and F2 are not judged, or empty.
    """
    folder = recorded_folder(scale)
    study = recorded_study(folder)
    if study is None:
        raise RunError(f"no study is recorded in {folder}: python -m kit record STUDY")
    problems = [] if scale else records.load_problems(RECORDED / "filtered.parquet")
    yields = records.read_parquet(RECORDED / "yields.parquet")
    return findings.board(study | findings.round_tables(yields[:0] if scale else yields, problems))


def rejudge() -> None:
    """Put the verdicts on the recorded studies, by the rules of today, into the pages."""
    boards = recorded_board(), miniature_board()
    update_pages("board", board_markdown(*boards))
    update_pages("verdicts", verdicts_markdown(*boards))


def miniature_board() -> pd.DataFrame | None:
    """The board of the recorded study in miniature, for the board of the language models.

    Returns:
        As `findings.board`; None if no such study is recorded.
    Source: our choice.
    """
    return recorded_board(MINIATURE) if recorded_folder(MINIATURE).exists() else None


def _study_card(folder: Path, counts: pd.Series) -> str:
    """README.md of a recorded study: how it was made, how long a run took, its trainings by arm."""
    runs = [note.parent for note in folder.glob("*/*/arm.json") if done(note.parent)]
    manifests = [read_manifest(run) for run in sorted(runs)]
    train, evaluate = (
        pd.Series(made["stages"][stage]["seconds"] for made in manifests).median() / 60
        for stage in STUDY_STAGES
    )
    first = manifests[0]
    return STUDY_CARD.format(
        profile=first["profile"],
        kit=first["versions"].get("kit", "?"),
        arms=",".join(sorted({run.parent.name for run in runs})),
        seeds=",".join(sorted({run.name for run in runs})),
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


def _of_problems(tables: dict[str, pd.DataFrame], quality: pd.DataFrame) -> list[str]:
    """Notebooks 02 and 03: what the teacher wrote and the filters kept (F1, F2)."""
    # How good the teacher's problems are, and whether a turn moves the pass rate as asked.
    overall = quality[quality.environment == "all"].set_index("measure")
    valid = quality[quality.measure == "valid"].set_index("environment").drop("all").sort_index()
    counts = ", ".join(f"{row.Index} {row.count} of {row.of}" for row in valid.itertuples())
    moved = "; ".join(
        f"{row.count} of {row.of} = {row.share:.0%}, 95% [{row.low:.0%}, {row.high:.0%}]"
        for row in overall.loc[["harder lowers p", "easier raises p"]].itertuples()
    )
    made = overall["count"]
    # What is left of them, and of the real functions; the yields of the two methods.
    filtered = tables["filtered"]
    real = filtered.method == "real"
    usable = filtered[filtered.kept & filtered.p.between(0, 1, inclusive="neither")]
    kept = usable[story.written_by_teacher(usable)]
    both = tables["yields"].set_index("environment").loc["all"]
    return [
        f"| 02 | problems written by the teacher | {overall.of['valid']}, of these valid "
        f"{made['valid']} ({counts}), copies {made['copies']} |",
        "| 02 | turns asked *harder* that lowered the pass rate, *easier* that raised it (F2) "
        f"| {moved} |",
        f"| 03 | kept by the filters, pass rate strictly between 0 and 1 | {len(kept)}, "
        f"{(kept.split == 'held_out').sum()} of them held out |",
        "| 03 | real functions as induction problems, kept alike "
        f"| {(usable.method == 'real').sum()} of {real.sum()} |",
        "| 03 | kept share at equal budget, multi-turn / single-turn (F1; the paper: > 4) "
        f"| {both.multi_share:.2f} / {both.single_share:.2f} = {both.ratio:.2f}, "
        f"95% [{both.low:.2f}, {both.high:.2f}], {both.seeds:.0f} seeds |",
    ]


def _of_policy(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Notebooks 05 and 06: the training, and pass@1 of each set before and after it."""
    train = tables["train"]
    half = len(train) // 2
    early = train[:half].mean(numeric_only=True)
    late = train[half:].mean(numeric_only=True)
    lines = [
        f"| 05 | GRPO, {len(train)} steps: first half → second half "
        f"| reward {early.reward:.2f} → {late.reward:.2f}, "
        f"entropy {early.entropy:.2f} → {late.entropy:.2f}; "
        f"groups without a signal {train.frac_reward_zero_std.mean():.0%} |"
    ]
    scores = tables["summary"].query("group == 'all' and k == 1")
    scores = scores.set_index(["checkpoint", "set", "mode"])
    changes = tables["difference"].query("group == 'all'")
    for row in changes.sort_values(["set", "mode"], ascending=False).itertuples():
        before, after = (
            value_in_interval(scores.loc[checkpoint, row.set, row.mode])
            for checkpoint in ("before", "after")
        )
        lines.append(
            f"| 06 | {row.set}, {row.mode} pass@1 before → after | {before} → {after}, "
            f"n = {row.n}; paired {value_in_interval(row, '+.2f')} |"
        )
    return lines


def results(manifest: dict, out: Path) -> str:
    """The main numbers of a recorded run as a table in Markdown; each says its notebook."""
    tables = {name: records.read_parquet(out / f"{name}.parquet") for name in TABLES}
    quality = teacher_quality(records.load_problems(out / "filtered.parquet"))
    # What was lost is part of no number, and is said below the table.
    filtered = tables["filtered"]
    attempts = filtered[story.written_by_teacher(filtered)].errors.sum()
    samples = tables["evaluation"].errors.sum()
    stages = manifest["stages"].values()
    programs = sum(facts.get("programs", {}).get("sandbox_error", 0) for facts in stages)
    lines = [
        "| notebook | what | value |",
        "|---|---|---|",
        *_of_problems(tables, quality),
        *_of_policy(tables),
        "",
        f"Lost by engine or sandbox, in no number above: {attempts} attempts, {samples} samples "
        f"of the evaluation, {programs} programs.",
    ]
    return "\n".join(lines)
