"""Ship a finished run as recorded data, and write its numbers into README.md.

What is shipped is small enough for git and has a card that says how it was made.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from kit import engine, records, report, rounds
from kit.captions import caption, order
from kit.run import RECORDED, ROOT, RunError, read_manifest

FIGURES = ROOT / "figures"
# The tables that are shipped, and what one row of each is.
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
TABLES = tuple(ROWS)
# Bytes: git is no place for more.
LIMIT = 20_000_000

CARD = """---
license: apache-2.0
pretty_name: One recorded run of the kit, profile {profile[name]}
---
# A recorded run, profile `{profile[name]}`

Made by `{command}` and copied by `python -m kit record RUN`, seed {profile[seed]}, kit \
{versions[kit]}.
Every notebook can start from these files; whatever it draws from them says so in its title.

| file | rows | what one row is |
|---|---|---|
{files}

`teachers.parquet` is `kit.rounds.quality` of other runs: `prompts` is "first" for the same \
profile at kit e337266, whose prompts asked for
"a property" and "a harder function" without saying what (notebook 02 draws it in grey), and "now" \
for the 0.5B model as its own teacher with
the present ones: a profile with `base: cpu`, `teacher: {{model: qwen2.5-coder-0.5b-instruct}}`, \
`seeds: {{wild: 16, real: 12, problems: 0}}`,
no baseline and no stones.

`completions.parquet` holds every answer of teacher and student under a hash of model, prompt and \
sampling: notebook 02 with
`REPLAY = True` runs on it without a model, from the recorded seeds.

**How.** Teacher {profile[teacher][model]} and student {profile[student][model]} \
({profile[rounds][attempts]} attempts, {profile[rounds][turns]} turns), policy \
{profile[grpo][policy]}, on two CPU cores. Minutes per
notebook, of the last sitting where it took several: {minutes}. Versions: {packages}.

**Where the text comes from.** Seeds: source code of installed packages (column `licence` says \
whose) and CodeI/O functions of
reasoning-gym (Apache-2.0). Problems and answers were written by the models above (Apache-2.0). \
All programs were run in the sandbox only;
they are model-written and may be wrong or odd: run them nowhere else. `chain_id` and `parent_id` \
give a problem's ancestry; `p` is
`solved / n`; attempts lost to our own infrastructure are in `errors`, never in `n`.

**Limits.** A 1.5B teacher and a 0.5B student: the data shows how the method works, it does not \
test the paper's claims at their scale.
"""
GALLERY = """# What the recorded run drew

Made by `python -m kit record RUN` ([the run](../data/recorded/README.md)). Each figure lies \
beside the numbers in it; the colours of the
four environments and of the bins, from light to dark, are the same everywhere. A command draws \
its figure anew into `RUN/figures`: what `RUN`
lacks comes from `data/recorded`, and the title then says so. Those of 02, 05 and 06 run models, \
and models do not answer alike twice.

`report/` shows the page in which a `make run` ended, as a browser on a desk and one on a phone \
draw it:

```bash
chromium --headless --hide-scrollbars --window-size=1200,1250 --screenshot=figures/report/wide.png \
runs/cpu/report.html
chromium --headless --hide-scrollbars --window-size=390,1250 \
--blink-settings=preferredColorScheme=0 \\
    --screenshot=figures/report/phone.png runs/cpu/report.html
```
"""
STUDY = """# A recorded study, profile `{profile[name]}`

Made by `python -m kit study --profile {profile[name]} --arms {arms} --seeds {seeds} --out STUDY` \
and copied by
`python -m kit record STUDY`, kit {kit}; notebook 07 reads it.

`scores.parquet`: a row per arm, seed, checkpoint and problem (n samples, how many solved, the \
greedy answer, the problem's bin). `curves.parquet`: a
step of a training. `drawn.parquet`: how many prompts and different problems an arm's plan draws, \
per bin.

Policy {profile[grpo][policy]}, {profile[grpo][steps]} steps of {profile[grpo][prompts_per_step]} \
prompts and {profile[grpo][group_size]} rollouts each, learning rate \
{profile[grpo][learning_rate]}. Minutes of a run, median of {runs} (longer
where several ran at once): 05 {train:.1f}, 06 {evaluate:.1f}. Versions: {packages}.
"""


def ship(run_dir: str | Path, out: Path = RECORDED, timed: str | Path = "") -> Path:
    """Copy a run to `out` and `figures/`, and its numbers into README.md; returns `out`.

    `timed`: another run, of the profile as it is, from which the README takes the minutes of the
    notebooks. Raises RunError if a table of the run is missing, or it is too large for git.
    """
    records.quiet()
    folder = Path(run_dir)
    manifest = read_manifest(folder)
    missing = [table for table in TABLES if not (folder / f"{table}.parquet").exists()]
    if missing or not manifest["profile"]:
        raise RunError(
            f"{folder} lacks {', '.join(missing) or 'its manifest'}: "
            "finish the run first, the same command goes on"
        )
    # The tables, and the answers of teacher and student; a sharded run has these per shard.
    out.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        shutil.copyfile(folder / f"{table}.parquet", out / f"{table}.parquet")
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
    (out / "README.md").write_text(_card(manifest, out), encoding="utf-8")
    _update_readme("results", results(manifest, out), read_manifest(timed or folder)["stages"])
    size = sum(file.stat().st_size for file in out.iterdir())
    if size > LIMIT:
        raise RunError(
            f"{out} has {size / 1e6:.0f} MB, more than {LIMIT / 1e6:.0f}: record a smaller run"
        )
    print(f"recorded {folder} in {out}: {size / 1e6:.1f} MB")
    return out


def _update_readme(mark: str, lines: str, stages: dict | None = None) -> None:
    """Put `lines` between two comments of README.md, and minutes into its table of notebooks."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for stem, facts in (stages or {}).items():
        text = re.sub(rf"(\| \[{stem}\].*\| )[^|]*( \|)", rf"\g<1>{_minutes(facts)}\2", text)
    text = re.sub(
        rf"(<!-- {mark} -->\n).*(<!-- /{mark} -->)",
        lambda marks: f"{marks[1]}{lines}\n{marks[2]}",
        text,
        flags=re.S,
    )
    readme.write_text(text, encoding="utf-8")


def _minutes(facts: dict) -> str:
    return f"{facts.get('seconds', 0) / 60:.1f}"


def ship_study(folder: str | Path, out: Path = RECORDED / "study") -> Path:
    """The tables of a study, small enough for git, for notebook 07, and its board into README.md.

    Returns `out`. Raises RunError if no run is finished.
    """
    from kit import findings

    records.quiet()
    tables = findings.collect(Path(folder))
    if tables["scores"].empty:
        raise RunError(f"no run in {folder} is finished yet")
    for name, table in tables.items():
        records.write_parquet(table, out / f"{name}.parquet")
    (out / "README.md").write_text(_study_card(Path(folder)), encoding="utf-8")
    _update_readme("board", board(findings.board(tables)))
    runs = tables["scores"].groupby("arm").seed.nunique()
    print(f"recorded {runs.sum()} runs of {len(runs)} arms in {out}")
    return out


def _study_card(folder: Path) -> str:
    """README.md of a recorded study: how it was made, and how long a run took."""
    from kit import study

    runs = [note.parent for note in folder.glob("*/*/arm.json") if study.done(note.parent)]
    manifests = [read_manifest(run) for run in sorted(runs)]
    seconds = pd.DataFrame(
        [{stage: made["stages"][stage]["seconds"] for stage in study.STAGES} for made in manifests]
    )
    train, evaluate = seconds.median() / 60
    first = manifests[0]
    return STUDY.format(
        profile=first["profile"],
        kit=first["versions"].get("kit", "?"),
        arms=",".join(sorted({run.parent.name for run in runs})),
        seeds=",".join(sorted({run.name for run in runs})),
        train=train,
        evaluate=evaluate,
        runs=len(runs),
        packages=versions(first),
    )


def _span(row, form: str = ".2f") -> str:
    """A value with its 95% interval."""
    return f"{row.value:{form}} [{row.low:{form}}, {row.high:{form}}]"


def board(found: pd.DataFrame) -> str:
    """`findings.board` as a table in Markdown; greedy answers stand in notebook 07."""
    lines = [
        "| | the paper | here | effect, 95% | seeds | n | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found[found["mode"] == "sampled"].itertuples():
        effect = "–" if pd.isna(row.value) else _span(row, "+.2f")
        lines.append(
            f"| {row.claim} | {row.statement} | {row.comparison} | {effect} | {row.seeds} "
            f"| {row.problems} | {row.part} |"
        )
    return "\n".join(lines)


def command(manifest: dict) -> str:
    """The command that makes a run again."""
    options = _options(manifest["stages"].values())
    return f"python -m kit run --profile {manifest['profile']['name']} --out RUN{options}"


def _options(stages: Iterable[dict]) -> str:
    """What stages changed in the profile, as options of the command."""
    overrides: dict = {}
    for facts in stages:
        overrides |= facts["overrides"]
    return "".join(
        f" -p {key.rpartition('.')[2].upper()}={value}" for key, value in overrides.items()
    )


def versions(manifest: dict) -> str:
    """Of the packages that made a run."""
    packages = {name: version for name, version in manifest["versions"].items() if name != "kit"}
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def gallery(manifest: dict) -> str:
    """`figures/README.md`: every figure there with its caption, and the command that draws it."""
    profile = manifest["profile"]
    stages = manifest["stages"]
    parts = [GALLERY]
    for csv in sorted(FIGURES.glob("*.csv"), key=lambda path: order(path.stem)):
        seed = report.seed_of(csv.stem, stages, profile)
        question, read, count = caption(csv.stem, pd.read_csv(csv), seed)
        svg = csv.with_suffix(".svg")
        shown = svg if svg.exists() else csv.with_suffix(".png")
        # The notebook that draws it, with the values that this run gave to it.
        number = csv.stem[:2]
        changed = _options(facts for stem, facts in stages.items() if stem.startswith(number))
        parts.append(
            f"## {question}\n\n![{question}]({shown.name})\n\n"
            f"{read} {count}. [Numbers]({csv.name})\n\n"
            f"```bash\npython -m kit run --profile {profile['name']} --out RUN "
            f"--only {number}{changed}\n```\n"
        )
    return "\n".join(parts)


def _card(manifest: dict, out: Path) -> str:
    """README.md of a recorded run: its tables, how it was made, how long it took."""
    files = [
        f"| `{table}.parquet` | {len(pd.read_parquet(out / f'{table}.parquet'))} | {row} |"
        for table, row in ROWS.items()
    ]
    stages = sorted(manifest["stages"].items())
    return CARD.format(
        **manifest,
        command=command(manifest),
        files="\n".join(files),
        minutes=", ".join(f"{name[:2]} {_minutes(facts)}" for name, facts in stages),
        packages=versions(manifest),
    )


def _written(filtered: pd.DataFrame) -> pd.Series:
    """Which problems the teacher wrote; the first single draw of a seed is the chain's own."""
    shared = (filtered.method == "single") & (filtered.turn == 1)
    return (filtered.method != "real") & ~shared


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
    kept = usable[_written(usable)]
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
        before = scores.loc["before", row.set, row.mode]
        after = scores.loc["after", row.set, row.mode]
        lines.append(
            f"| 06 | {row.set}, {row.mode} pass@1 before → after | {_span(before)} → "
            f"{_span(after)}, n = {row.n}; paired {_span(row, '+.2f')} |"
        )
    return lines


def results(manifest: dict, out: Path) -> str:
    """The main numbers of a recorded run as a table in Markdown; each says its notebook."""
    tables = {name: pd.read_parquet(out / f"{name}.parquet") for name in TABLES}
    quality = rounds.quality(records.load(out / "filtered.parquet"))
    # What was lost is part of no number, and is said below the table.
    filtered = tables["filtered"]
    attempts = filtered[_written(filtered)].errors.sum()
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
