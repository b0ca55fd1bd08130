"""Ways out, the data: kept problems as a data set that any library reads.

Each row has all that its grading needs. `train` holds the kept problems of training seeds, `test`
those of held-out seeds. Everyone can read rows; grading needs more: an answer is a program or
decides what a program is run on, so `grade` runs it in `kit.sandbox` (kit/ways offers it to TRL,
verifiers and OpenEnv).
"""

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import datasets
import pandas as pd

from kit import difficulty, models, profile, recording, records
from kit.environments import KINDS, Environment
from kit.records import Problem
from kit.run import RECORDED, read_manifest

SPLITS = {"train": "train", "test": "held_out"}
FILES = {"README.md", *(f"{split}.parquet" for split in SPLITS)}
# What of a problem `id` is the hash of, besides the environment.
VERIFIED = ("program", "inputs", "outputs", "message", "pre_test", "test")
# The columns, and what each of them is.
FIELDS = {
    "id": "hash of what is verified: environment, program, inputs, outputs, message, tests",
    "prompt": "chat messages, as the student saw them",
    "environment": "induction, abduction, deduction or fuzzing",
    "source": "where the seed came from: wild or real code",
    "method": "multi, single or stones: how the teacher was asked; real: no teacher, a real "
    "function as it is",
    "bin": "of the pass rate ({bins}); null in none",
    "p": "the student's pass rate, solved / n",
    "n": "graded attempts of the student",
    "solved": "how many of them were right",
    "program": "defines `f`",
    "inputs": "what stands inside `f(...)`, Python literals as text",
    "outputs": "what `f` returned, in the order of the inputs; fuzzing: whether an input fails "
    "the test",
    "message": "a hint (induction)",
    "pre_test": "defines `pre_test_f` (fuzzing)",
    "test": "defines `test_f` (fuzzing)",
    "visible": "pairs that the prompt shows (induction)",
    "equality": "what makes an input right (abduction): `output`, f gives the wanted output; "
    "`input`, it is the teacher's",
}
_STRING = datasets.Value("string")
_INTEGER = datasets.Value("int32")
# The columns that are no text.
_TYPES = {
    "prompt": datasets.List({"role": _STRING, "content": _STRING}),
    "p": datasets.Value("float32"),
    **dict.fromkeys(("n", "solved", "visible"), _INTEGER),
    **dict.fromkeys(("inputs", "outputs"), datasets.List(_STRING)),
}
FEATURES = datasets.Features({name: _TYPES.get(name, _STRING) for name in FIELDS})

CARD = """---
license: {licence}
pretty_name: {title}
language: [en]
task_categories: [text-generation]
tags: [code, reinforcement-learning, rlvr, grpo, synthetic]
configs:
- config_name: default
  data_files:
{files}
---
# {title}

Problems for reinforcement learning of code with verifiable rewards, after "A Deep Dive into \
Scaling RL for Code Generation with Synthetic
Data and Curricula" (arXiv 2603.24202); the method at a smaller scale, not the paper's data. \
Written by `python -m kit export`.

{counts}

**Grading needs the sandbox.** An answer is a program, or the input that a program is run on: \
`kit.ways.grade(row, answer)` runs it in
`kit/sandbox.py` and says passed, failed, or error, which is ours and no reward. Never `exec` an \
answer, and run the programs nowhere else.

| field | what |
|---|---|
{fields}

{made}

**Licences.** Problems were written by {teacher}; where `method` is real, they are functions of \
reasoning-gym (Apache-2.0) as they are. Seeds
that they grew from, by licence: {seeds}.
"""


class ExportError(RuntimeError):
    """There is nothing to export, no place for it, or the hub refused it; it says what to do."""


def rows(folder: str | Path = RECORDED) -> dict[str, list[dict]]:
    """The rows of each split of a run folder, sorted by id; a split without problems is left out.

    Raises ExportError if the filters kept no problem.
    """
    settings = _profile(Path(folder))
    kept = _kept(Path(folder))
    found = {}
    for split, name in SPLITS.items():
        some = [_row(problem, settings) for problem in kept if problem.split == name]
        # `datasets` reads no empty split.
        if some:
            found[split] = some
    return found


def _kept(folder: Path) -> list[Problem]:
    """Each content once, as it came first: the two methods share their first draw."""
    problems = records.load(folder / "filtered.parquet")
    kept = {problem.id: problem for problem in reversed(problems) if problem.kept}
    if not kept:
        raise ExportError(
            f"the filters kept no problem in {folder}: "
            "run notebooks 01 to 03 with more seeds, then export again"
        )
    return [kept[key] for key in sorted(kept)]


def _profile(folder: Path) -> profile.Profile:
    """The profile of a run; without a manifest, as in data/recorded, the default one."""
    made = read_manifest(folder)["profile"] or {}
    return profile.Profile.model_validate(profile.load("cpu").model_dump() | made)


def _row(problem: Problem, settings: profile.Profile) -> dict:
    """What FIELDS says of a problem."""
    how = settings.rounds
    env = KINDS[problem.environment](how.form, how.inputs, how.visible, how.equality)
    made = {
        "prompt": env.solve_prompt(problem),
        "bin": difficulty.bin_of(problem.p, settings.difficulty.bins),
        "visible": how.visible,
        "equality": how.equality,
    }
    return {name: made[name] if name in made else getattr(problem, name) for name in FIELDS}


def problem(row: dict) -> tuple[Environment, Problem]:
    """A row of the data set as what the kit grades.

    Raises ExportError for a row in which something is missing.
    """
    try:
        env = KINDS[row["environment"]](visible=row["visible"], equality=row["equality"])
        return env, Problem(environment=env.name, **{name: row[name] for name in VERIFIED})
    except KeyError as error:
        raise ExportError(
            f"this row has no {error}: it is no row of `python -m kit export`"
        ) from None


def load(data: str = "") -> dict[str, list[dict]]:
    """Rows of each split of an export.

    `data` is its folder, its name on the hub, or '' for the problems in data/recorded.
    """
    if not data:
        return rows()
    return {split: some.to_list() for split, some in datasets.load_dataset(data).items()}


def write(folder: str | Path, out: str | Path) -> dict[str, int]:
    """Export a run folder to `out`, whole or not at all; an older export there is replaced.

    Returns the number of rows of each split. Raises ExportError.
    """
    records.quiet()
    folder = Path(folder)
    out = Path(out)
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - FILES):
        raise ExportError(f"{out} holds other things than an export: name another folder")
    found = rows(folder)
    # Write beside the target, then put the whole folder in its place.
    part = Path(f"{out}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for split, some in found.items():
            records.write_parquet(some, part / f"{split}.parquet", FEATURES)
        (part / "README.md").write_text(_card(folder, found), encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {split: len(some) for split, some in found.items()}


def _card(folder: Path, found: dict[str, list[dict]]) -> str:
    """README.md of an export: counts, columns, how it was made, licences."""
    settings = _profile(folder)
    scheme = settings.difficulty.bins
    bins = [one.name for one in reversed(difficulty.BINS[scheme])]
    # Problems per environment and per bin; no environment has the name of a bin.
    columns = ["split", "problems", *KINDS, *bins, "in no bin"]
    lines = [columns, ["---"] * len(columns)]
    for split, some in found.items():
        counts = Counter(row[key] for row in some for key in ("environment", "bin"))
        numbers = [len(some), *(counts[name] for name in (*KINDS, *bins, None))]
        lines.append([split, *map(str, numbers)])
    # A model that is not in the kit's table may have any licence.
    teacher = settings.teacher.model
    known = models.MODELS.get(teacher)
    return CARD.format(
        title=f"RL code problems, profile {settings.name}",
        licence="apache-2.0" if known and known.licence == "Apache-2.0" else "other",
        teacher=teacher,
        files="\n".join(f"  - split: {split}\n    path: {split}.parquet" for split in found),
        counts="\n".join(f"| {' | '.join(line)} |" for line in lines),
        fields="\n".join(
            f"| `{name}` | {what.format(bins=scheme)} |" for name, what in FIELDS.items()
        ),
        made=_made(folder),
        seeds=_licences(folder),
    )


def _made(folder: Path) -> str:
    """How the run was made, from its manifest; of data/recorded, from the card there."""
    manifest = read_manifest(folder)
    if given := manifest["profile"]:
        how = given["rounds"]
        return (
            f"**How.** Made by `{recording.command(manifest)}`, seed {given['seed']}, "
            f"kit {manifest['versions'].get('kit', '?')}: "
            f"teacher {given['teacher']['model']}, student {given['student']['model']} "
            f"({how['attempts']} attempts, {how['turns']} turns). "
            f"Versions: {recording.versions(manifest)}."
        )
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else ""
    told = re.findall(r"^Made by .*$|^\*\*How\.\*\*(?:.|\n)*?(?=\n\n)", text, flags=re.M)
    return "\n\n".join(told) or f"Of {folder.name} nothing is known."


def _licences(folder: Path) -> str:
    """How many seeds of the kept problems stand under which licence."""
    seeds = pd.read_parquet(folder / "seeds.parquet", columns=["id", "licence"])
    used = {problem.seed_id for problem in _kept(folder)}
    found = seeds[seeds.id.isin(used)].licence.value_counts()
    return ", ".join(f"{licence}: {count}" for licence, count in found.items()) or "unknown"


def push(out: str | Path, name: str, private: bool = False) -> str:
    """Upload an export to the Hugging Face hub as the data set OWNER/NAME; returns its address.

    Raises ExportError.
    """
    import httpx
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise ExportError(
            "there is no login at the Hugging Face hub: run `hf auth login`, or set HF_TOKEN, "
            f"and push again; the export is in {out}"
        )
    hub = HfApi()
    try:
        repo = hub.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=repo.repo_id,
            repo_type="dataset",
            folder_path=out,
            commit_message="python -m kit export",
        )
    # The hub refused it, or cannot be reached, or this is not a name.
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise ExportError(
            f"the hub did not take {name} ({str(error).strip().splitlines()[0]}); "
            f"the export itself is in {out}"
        ) from None
    return str(repo)
