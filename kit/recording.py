"""Ship a finished run as recorded data: small enough for git, with a card that says how it was made."""
import shutil
from pathlib import Path

from kit import engine
from kit.run import RECORDED, ROOT, RunError, read_manifest

FIGURES = ROOT / "figures"
TABLES = ("seeds", "problems", "filtered", "yields", "difficulty", "plan", "train", "evaluation", "summary", "difference")
LIMIT = 20_000_000                                     # bytes: git is no place for more

CARD = """---
license: apache-2.0
pretty_name: One recorded run of the kit, profile {profile}
---
# A recorded run, profile `{profile}`

Made by `python -m kit run --profile {profile} --out RUN` and copied by `python -m kit record RUN`, seed {seed}, kit {kit}.
Every notebook can start from these files; whatever it draws from them says so in its title.

| file | rows | what one row is |
|---|---|---|
{files}

`completions.parquet` holds every answer of teacher and student under a hash of model, prompt and sampling: notebook 02 with
`REPLAY = True` runs on it without a model, from the recorded seeds.

**How.** Teacher {teacher} and student {student} ({attempts} attempts, {turns} turns), policy {policy}, on two CPU cores. Minutes per
notebook: {minutes}. Versions: {versions}.

**Where the text comes from.** Seeds: source code of installed packages (column `licence` says whose) and CodeI/O functions of
reasoning-gym (Apache-2.0). Problems and answers were written by the models above (Apache-2.0). All programs were run in the sandbox only;
they are model-written and may be wrong or odd: run them nowhere else. `chain_id` and `parent_id` give a problem's ancestry; `p` is
`solved / n`; attempts lost to our own infrastructure are in `errors`, never in `n`.

**Limits.** A 1.5B teacher and a 0.5B student: the data shows how the method works, it does not test the paper's claims at their scale.
"""
ROWS = {"seeds": "a snippet", "problems": "a problem of a turn, valid or not", "filtered": "the same, kept or why not",
        "yields": "kept shares of multi- and single-turn", "difficulty": "a graded problem and its bin", "plan": "a prompt of the training",
        "train": "a step of GRPO", "evaluation": "a problem and a checkpoint", "summary": "a set and a pass@k",
        "difference": "a set, before to after"}


def ship(run_dir: str | Path, out: Path = RECORDED) -> Path:
    """Copy a run's tables, completions and card to `out`, its figures to `figures/`. Raises RunError if the run lacks one or is too large for git."""
    folder, manifest = Path(run_dir), read_manifest(run_dir)
    missing = [t for t in TABLES if not (folder / f"{t}.parquet").exists()]
    if missing or not manifest["profile"]:
        raise RunError(f"{folder} lacks {', '.join(missing) or 'its manifest'}: finish the run first, the same command goes on")
    for place in (out, FIGURES):
        place.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        shutil.copyfile(folder / f"{table}.parquet", out / f"{table}.parquet")
    engine.write_recording(sorted((folder / "completions").glob("02_rounds-*.jsonl")), out / "completions.parquet")
    for figure in sorted((folder / "figures").glob("*.[pc][ns][gv]")):           # PNG and the CSV of its numbers
        shutil.copyfile(figure, FIGURES / figure.name)
    (out / "README.md").write_text(_card(manifest, out), encoding="utf-8")
    if (size := sum(f.stat().st_size for f in out.iterdir())) > LIMIT:
        raise RunError(f"{out} has {size / 1e6:.0f} MB, more than {LIMIT / 1e6:.0f}: record a smaller run")
    print(f"recorded {folder} in {out}: {size / 1e6:.1f} MB")
    return out


def _card(manifest: dict, out: Path) -> str:
    import pyarrow.parquet as pq
    profile = manifest["profile"]
    files = "\n".join(f"| `{t}.parquet` | {pq.read_metadata(out / f'{t}.parquet').num_rows} | {ROWS[t]} |" for t in TABLES)
    minutes = ", ".join(f"{name[:2]} {facts.get('seconds', 0) / 60:.1f}" for name, facts in sorted(manifest["stages"].items()))
    versions = ", ".join(f"{k} {v}" for k, v in manifest["versions"].items() if k != "kit")
    return CARD.format(profile=profile["name"], seed=profile["seed"], kit=manifest["versions"]["kit"], files=files, minutes=minutes,
                       versions=versions, teacher=profile["teacher"]["model"], student=profile["student"]["model"],
                       policy=profile["grpo"]["policy"], attempts=profile["rounds"]["attempts"], turns=profile["rounds"]["turns"])


