"""Ship a finished run as recorded data: small enough for git, with a card that says how it was made, and its numbers in README.md."""

import re
import shutil
from pathlib import Path

import pandas as pd

from kit import engine, records, report, rounds
from kit.captions import caption, order
from kit.run import RECORDED, ROOT, RunError, read_manifest

FIGURES = ROOT / "figures"
TABLES = (
    "seeds",
    "problems",
    "filtered",
    "yields",
    "difficulty",
    "plan",
    "train",
    "evaluation",
    "summary",
    "difference",
)
LIMIT = 20_000_000  # bytes: git is no place for more

CARD = """---
license: apache-2.0
pretty_name: One recorded run of the kit, profile {profile}
---
# A recorded run, profile `{profile}`

Made by `{command}` and copied by `python -m kit record RUN`, seed {seed}, kit {kit}.
Every notebook can start from these files; whatever it draws from them says so in its title.

| file | rows | what one row is |
|---|---|---|
{files}

`teachers.parquet` is `kit.rounds.quality` of other runs: `prompts` is "first" for the same profile at kit e337266, whose prompts asked for
"a property" and "a harder function" without saying what (notebook 02 draws it in grey), and "now" for the 0.5B model as its own teacher with
the present ones: a profile with `base: cpu`, `teacher: {{model: qwen2.5-coder-0.5b-instruct}}`, `seeds: {{wild: 16, real: 12, problems: 0}}`,
no baseline and no stones.

`completions.parquet` holds every answer of teacher and student under a hash of model, prompt and sampling: notebook 02 with
`REPLAY = True` runs on it without a model, from the recorded seeds.

**How.** Teacher {teacher} and student {student} ({attempts} attempts, {turns} turns), policy {policy}, on two CPU cores. Minutes per
notebook, of the last sitting where it took several: {minutes}. Versions: {versions}.

**Where the text comes from.** Seeds: source code of installed packages (column `licence` says whose) and CodeI/O functions of
reasoning-gym (Apache-2.0). Problems and answers were written by the models above (Apache-2.0). All programs were run in the sandbox only;
they are model-written and may be wrong or odd: run them nowhere else. `chain_id` and `parent_id` give a problem's ancestry; `p` is
`solved / n`; attempts lost to our own infrastructure are in `errors`, never in `n`.

**Limits.** A 1.5B teacher and a 0.5B student: the data shows how the method works, it does not test the paper's claims at their scale.
"""
GALLERY = """# What the recorded run drew

Made by `python -m kit record RUN` ([the run](../data/recorded/README.md)). Each figure lies beside the numbers in it; the colours of the
four environments and of the bins, from light to dark, are the same everywhere. A command draws its figure anew into `RUN/figures`: what `RUN`
lacks comes from `data/recorded`, and the title then says so. Those of 02, 05 and 06 run models, and models do not answer alike twice.

`report/` shows the page in which a `make run` ended, as a browser on a desk and one on a phone draw it:

```bash
chromium --headless --hide-scrollbars --window-size=1200,1250 --screenshot=figures/report/wide.png runs/cpu/report.html
chromium --headless --hide-scrollbars --window-size=390,1250 --blink-settings=preferredColorScheme=0 \\
    --screenshot=figures/report/phone.png runs/cpu/report.html
```
"""
STUDY = """# A recorded study, profile `{profile}`

Made by `python -m kit study --profile {profile} --arms {arms} --seeds {seeds} --out STUDY` and copied by
`python -m kit record STUDY`, kit {kit}; notebook 07 reads it.

`scores.parquet`: a row per arm, seed, checkpoint and problem (n samples, how many solved, the greedy answer, the problem's bin). `curves.parquet`: a
step of a training. `drawn.parquet`: how many prompts and different problems an arm's plan draws, per bin.

Policy {policy}, {steps} steps of {prompts} prompts and {group} rollouts each, learning rate {rate}. Minutes of a run, median of {runs} (longer
where several ran at once): 05 {train:.1f}, 06 {evaluate:.1f}. Versions: {versions}.
"""
ROWS = {
    "seeds": "a snippet",
    "problems": "a problem of a turn, valid or not",
    "filtered": "the same, kept or why not",
    "yields": "kept shares of multi- and single-turn",
    "difficulty": "a graded problem and its bin",
    "plan": "a prompt of the training",
    "train": "a step of GRPO",
    "evaluation": "a problem and a checkpoint",
    "summary": "a set and a pass@k",
    "difference": "a set, before to after",
}


def ship(run_dir: str | Path, out: Path = RECORDED, timed: str | Path = "") -> Path:
    """Copy a run's tables, completions and card to `out`, its figures with a gallery to `figures/`, its numbers into README.md.

    `timed`: another run, of the profile as it is, from which the README takes the minutes of the notebooks.
    Raises RunError if the run lacks a table or is too large for git."""
    folder, manifest = Path(run_dir), read_manifest(run_dir)
    missing = [t for t in TABLES if not (folder / f"{t}.parquet").exists()]
    if missing or not manifest["profile"]:
        raise RunError(
            f"{folder} lacks {', '.join(missing) or 'its manifest'}: finish the run first, the same command goes on"
        )
    for place in (out, FIGURES):
        place.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        shutil.copyfile(folder / f"{table}.parquet", out / f"{table}.parquet")
    logs = sorted(
        path
        for here in ("", "shards/rounds/*/")
        for path in folder.glob(f"{here}completions/02_rounds-*.jsonl")
    )
    engine.write_recording(logs, out / "completions.parquet")
    for svg in sorted((folder / "figures").glob("*.svg")):
        for old in FIGURES.glob(f"{svg.stem}.*"):
            old.unlink()
        for part in (report.picture(svg), svg.with_suffix(".csv")):
            shutil.copyfile(part, FIGURES / part.name)
    (FIGURES / "README.md").write_text(gallery(manifest), encoding="utf-8")
    (out / "README.md").write_text(_card(manifest, out), encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(
        _with_numbers(
            readme.read_text(encoding="utf-8"), manifest, read_manifest(timed or run_dir), out
        ),
        encoding="utf-8",
    )
    if (size := sum(f.stat().st_size for f in out.iterdir())) > LIMIT:
        raise RunError(
            f"{out} has {size / 1e6:.0f} MB, more than {LIMIT / 1e6:.0f}: record a smaller run"
        )
    print(f"recorded {folder} in {out}: {size / 1e6:.1f} MB")
    return out


def ship_study(folder: str | Path, out: Path = RECORDED / "study") -> Path:
    """The tables of a study, small enough for git, for notebook 07, and its board into README.md. Raises RunError if no run is finished."""
    from kit import findings

    tables = findings.collect(Path(folder))
    if tables["scores"].empty:
        raise RunError(f"no run in {folder} is finished yet")
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        records.write_parquet(table, out / f"{name}.parquet")
    (out / "README.md").write_text(_study_card(Path(folder)), encoding="utf-8")
    readme = ROOT / "README.md"
    text = re.sub(
        r"(<!-- board -->\n).*(<!-- /board -->)",
        lambda m: m[1] + board(findings.board(tables)) + "\n" + m[2],
        readme.read_text(encoding="utf-8"),
        flags=re.S,
    )
    readme.write_text(text, encoding="utf-8")
    runs = tables["scores"].groupby("arm").seed.nunique()
    print(f"recorded {runs.sum()} runs of {len(runs)} arms in {out}")
    return out


def _study_card(folder: Path) -> str:
    from kit import study

    runs = [note.parent for note in sorted(folder.glob("*/*/arm.json")) if study.done(note.parent)]
    manifests = [read_manifest(run) for run in runs]
    profile, minutes = (
        manifests[0]["profile"],
        pd.DataFrame(
            [{s: m["stages"][s]["seconds"] / 60 for s in study.STAGES} for m in manifests]
        ).median(),
    )
    arms, seeds = (
        ",".join(dict.fromkeys(part)) for part in zip(*sorted(run.parts[-2:] for run in runs))
    )
    g = profile["grpo"]
    return STUDY.format(
        profile=profile["name"],
        kit=manifests[0]["versions"].get("kit", "?"),
        arms=arms,
        seeds=seeds,
        policy=g["policy"],
        steps=g["steps"],
        prompts=g["prompts_per_step"],
        group=g["group_size"],
        rate=g["learning_rate"],
        train=minutes["05_grpo"],
        evaluate=minutes["06_evaluation"],
        runs=len(runs),
        versions=versions(manifests[0]),
    )


def board(found: pd.DataFrame) -> str:
    """`findings.board` as a table in Markdown; greedy answers stand in notebook 07."""
    rows = [
        f"| {x.claim} | {x.statement} | {x.comparison} | "
        + (f"{x.value:+.2f} [{x.low:+.2f}, {x.high:+.2f}]" if x.value == x.value else "–")
        + f" | {x.seeds} | {x.problems} | {x.part} |"
        for x in found[found["mode"] == "sampled"].itertuples()
    ]
    return "\n".join(
        [
            "| | the paper | here | effect, 95% | seeds | n | verdict |",
            "|---|---|---|---|---|---|---|",
            *rows,
        ]
    )


def command(manifest: dict) -> str:
    """The command that makes a run again."""
    overrides = {
        k: v for facts in manifest["stages"].values() for k, v in facts["overrides"].items()
    }
    return f"python -m kit run --profile {manifest['profile']['name']} --out RUN{_parameters(overrides)}"


def versions(manifest: dict) -> str:
    """Of the packages that made a run."""
    return ", ".join(
        f"{name} {version}" for name, version in manifest["versions"].items() if name != "kit"
    )


def gallery(manifest: dict) -> str:
    """`figures/README.md`: every figure there with its caption, n and seeds, and the command that draws it."""
    profile, stages, parts = manifest["profile"], manifest["stages"], [GALLERY]
    for csv in sorted(FIGURES.glob("*.csv"), key=lambda path: order(path.stem)):
        question, read, n = caption(
            csv.stem, pd.read_csv(csv), report.seed_of(csv.stem, stages, profile)
        )
        shown = next(x for x in (csv.with_suffix(".svg"), csv.with_suffix(".png")) if x.exists())
        number = csv.stem[:2]
        changed = "".join(
            _parameters(facts["overrides"])
            for stem, facts in stages.items()
            if stem.startswith(number)
        )
        parts.append(
            f"## {question}\n\n![{question}]({shown.name})\n\n{read} {n}. [Numbers]({csv.name})\n\n"
            f"```bash\npython -m kit run --profile {profile['name']} --out RUN --only {number}{changed}\n```\n"
        )
    return "\n".join(parts)


def _parameters(overrides: dict) -> str:
    """Overrides of a run as options of its command."""
    return "".join(
        f" -p {key.rpartition('.')[2].upper()}={value}" for key, value in overrides.items()
    )


def _card(manifest: dict, out: Path) -> str:
    import pyarrow.parquet as pq

    profile = manifest["profile"]
    files = "\n".join(
        f"| `{t}.parquet` | {pq.read_metadata(out / f'{t}.parquet').num_rows} | {ROWS[t]} |"
        for t in TABLES
    )
    minutes = ", ".join(
        f"{name[:2]} {facts.get('seconds', 0) / 60:.1f}"
        for name, facts in sorted(manifest["stages"].items())
    )
    return CARD.format(
        profile=profile["name"],
        command=command(manifest),
        seed=profile["seed"],
        kit=manifest["versions"]["kit"],
        files=files,
        minutes=minutes,
        versions=versions(manifest),
        teacher=profile["teacher"]["model"],
        student=profile["student"]["model"],
        policy=profile["grpo"]["policy"],
        attempts=profile["rounds"]["attempts"],
        turns=profile["rounds"]["turns"],
    )


def _with_numbers(readme: str, manifest: dict, timed: dict, out: Path) -> str:
    """The README with the minutes of `timed` in the table of notebooks and this run's results between the two marks."""
    for stem, facts in timed["stages"].items():
        readme = re.sub(
            rf"(\| \[{stem}\].*\| )[^|]*( \|)",
            rf"\g<1>{facts.get('seconds', 0) / 60:.1f}\2",
            readme,
        )
    return re.sub(
        r"(<!-- results -->\n).*(<!-- /results -->)",
        lambda m: m[1] + results(manifest, out) + "\n" + m[2],
        readme,
        flags=re.S,
    )


def results(manifest: dict, out: Path) -> str:
    """The main numbers of a recorded run as a table in Markdown; each says which notebook made it."""
    filtered, train, summary, difference, yields, evaluation = (
        pd.read_parquet(out / f"{name}.parquet")
        for name in ("filtered", "train", "summary", "difference", "yields", "evaluation")
    )
    shared = (filtered.method == "single") & (filtered.turn == 1)  # is the chain's own first draw
    real, filtered = (
        filtered[filtered.method == "real"],
        filtered[(filtered.method != "real") & ~shared],
    )
    both, half = yields.set_index("environment").loc["all"], len(train) // 2
    kept = filtered[filtered.kept & filtered.p.between(0, 1, inclusive="neither")]
    usable = real[real.kept & real.p.between(0, 1, inclusive="neither")]
    quality = {
        (m.environment, m.measure): m._asdict()
        for m in rounds.quality(records.load(out / "filtered.parquet")).itertuples()
    }
    counts = ", ".join(
        f"{name} {m['count']} of {m['of']}"
        for (name, measure), m in sorted(quality.items(), key=lambda x: x[0])
        if measure == "valid" and name != "all"
    )
    valid, copies, _, *moves = (quality["all", measure] for measure in rounds.QUALITY)
    moved = [
        f"{m['count']} of {m['of']} = {m['share']:.0%}, 95% [{m['low']:.0%}, {m['high']:.0%}]"
        for m in moves
    ]
    rows = [
        (
            "02",
            "problems written by the teacher",
            f"{valid['of']}, of these valid {valid['count']} ({counts}), copies {copies['count']}",
        ),
        (
            "02",
            "turns asked *harder* that lowered the pass rate, *easier* that raised it (F2)",
            "; ".join(moved),
        ),
        (
            "03",
            "kept by the filters, pass rate strictly between 0 and 1",
            f"{len(kept)}, {(kept.split == 'held_out').sum()} of them held out",
        ),
        ("03", "real functions as induction problems, kept alike", f"{len(usable)} of {len(real)}"),
        (
            "03",
            "kept share at equal budget, multi-turn / single-turn (F1; the paper: > 4)",
            f"{both.multi_share:.2f} / {both.single_share:.2f} = {both.ratio:.2f}, 95% [{both.low:.2f}, {both.high:.2f}], {both.seeds:.0f} seeds",
        ),
        (
            "05",
            f"GRPO, {len(train)} steps: first half → second half",
            f"reward {train.reward[:half].mean():.2f} → {train.reward[half:].mean():.2f}, entropy {train.entropy[:half].mean():.2f} → "
            f"{train.entropy[half:].mean():.2f}; groups without a signal {train.frac_reward_zero_std.mean():.0%}",
        ),
    ]
    overall = summary[(summary.group == "all") & (summary.k == 1)].set_index(
        ["checkpoint", "set", "mode"]
    )
    for change in (
        difference[difference.group == "all"]
        .sort_values(["set", "mode"], ascending=False)
        .itertuples()
    ):
        before, after = (
            overall.loc[checkpoint, change.set, change.mode] for checkpoint in ("before", "after")
        )
        rows.append(
            (
                "06",
                f"{change.set}, {change.mode} pass@1 before → after",
                f"{before.value:.2f} [{before.low:.2f}, {before.high:.2f}] → {after.value:.2f} [{after.low:.2f}, {after.high:.2f}], "
                f"n = {change.n}; paired {change.value:+.2f} [{change.low:+.2f}, {change.high:+.2f}]",
            )
        )
    lost = sum(
        facts.get("programs", {}).get("sandbox_error", 0) for facts in manifest["stages"].values()
    )
    lines = [
        "| notebook | what | value |",
        "|---|---|---|",
        *(f"| {number} | {what} | {value} |" for number, what, value in rows),
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"Lost by engine or sandbox, in no number above: {filtered.errors.sum()} attempts, "
            f"{evaluation.errors.sum()} samples of the evaluation, {lost} programs.",
        ]
    )
