"""Kept problems as a data set that any library reads: `python -m kit export`.

Each row has all that its grading needs. `train` holds the kept problems of training seeds, `test`
those of held-out seeds. Everyone can read rows; grading needs more: an answer is a program or
decides what a program is run on, so `kit.grading` runs it in `kit.sandbox` (kit/integrations offers
that to TRL, verifiers and OpenEnv).
"""

import os
import re
import shutil
from pathlib import Path

import pandas as pd

from kit.commands import record
from kit.commands.cards import DATASET_CARD
from kit.core import records
from kit.core.manifest import read_manifest
from kit.dataset import (
    ROW_FEATURES,
    ROW_FIELDS,
    SPLITS,
    kept_problems,
    problem_rows,
    profile_of_run,
)
from kit.grading import ExportError
from kit.serving.weights import MODELS

EXPORT_FILES = {"README.md", *(f"{split}.parquet" for split in SPLITS)}


def write_export(folder: str | Path, out: str | Path) -> dict[str, int]:
    """Export a run folder to `out`, whole or not at all; an older export there is replaced.

    Returns the number of rows of each split. Raises ExportError.
    """
    records.quiet()
    folder = Path(folder)
    out = Path(out)
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - EXPORT_FILES):
        raise ExportError(f"{out} holds other things than an export: name another folder")
    found = problem_rows(folder)
    # Write beside the target, then put the whole folder in its place.
    part = Path(f"{out}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for split, some in found.items():
            records.write_parquet(some, part / f"{split}.parquet", ROW_FEATURES)
        (part / "README.md").write_text(_card(folder, found), encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {split: len(some) for split, some in found.items()}


def _card(folder: Path, found: dict[str, list[dict]]) -> str:
    """README.md of an export: counts, columns, how it was made, licences."""
    settings = profile_of_run(folder)
    # Problems per environment and per bin.
    rows = pd.DataFrame(row | {"split": split} for split, some in found.items() for row in some)
    counts = [
        pd.crosstab(rows.split, rows[key].fillna("in no bin")) for key in ("environment", "bin")
    ]
    # A model that is not in the kit's table may have any licence.
    teacher = settings.teacher.model
    known = MODELS.get(teacher)
    return DATASET_CARD.format(
        title=f"RL code problems, profile {settings.name}",
        licence="apache-2.0" if known and known.licence == "Apache-2.0" else "other",
        teacher=teacher,
        files="\n".join(f"  - split: {split}\n    path: {split}.parquet" for split in found),
        counts=pd.concat(counts, axis=1).to_markdown(),
        fields="\n".join(
            f"| `{name}` | {what.format(bins=settings.difficulty.bins)} |"
            for name, what in ROW_FIELDS.items()
        ),
        made=_made(folder),
        seeds=_licences(folder),
    )


def _made(folder):
    """How the run was made, from its manifest; of data/recorded, from the card there."""
    manifest = read_manifest(folder)
    if given := manifest["profile"]:
        how = given["rounds"]
        return (
            f"**How.** Made by `{record.command_of(manifest)}`, seed {given['seed']}, "
            f"kit {manifest['versions'].get('kit', '?')}: "
            f"teacher {given['teacher']['model']}, student {given['student']['model']} "
            f"({how['attempts']} attempts, {how['turns']} turns). "
            f"Versions: {record.versions(manifest)}."
        )
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else ""
    told = re.findall(r"^Made by .*$|^\*\*How\.\*\*(?:.|\n)*?(?=\n\n)", text, flags=re.M)
    return "\n\n".join(told) or f"Of {folder.name} nothing is known."


def _licences(folder):
    """How many seeds of the kept problems stand under which licence."""
    seeds = records.read_parquet(folder / "seeds.parquet", columns=["id", "licence"])
    used = {problem.seed_id for problem in kept_problems(folder)}
    found = seeds[seeds.id.isin(used)].licence.value_counts()
    return ", ".join(f"{licence}: {count}" for licence, count in found.items()) or "unknown"
