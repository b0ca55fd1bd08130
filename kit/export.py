"""Ways out, the data: kept problems as a data set that any library reads, each row with all that its grading needs.

`train` holds the kept problems of training seeds, `test` those of held-out seeds. Rows are for everyone, grading is not: an answer is a program
or decides what a program is run on, so `grade` runs it in `kit.sandbox` (kit/ways holds it out to TRL, verifiers and OpenEnv).
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
VERIFIED = (
    "program",
    "inputs",
    "outputs",
    "message",
    "pre_test",
    "test",
)  # of a problem: what `id` is the hash of
_text, _lists = datasets.Value("string"), datasets.List(datasets.Value("string"))
FEATURES = datasets.Features(
    {
        "id": _text,
        "prompt": datasets.List({"role": _text, "content": _text}),
        "environment": _text,
        "source": _text,
        "method": _text,
        "bin": _text,
        "p": datasets.Value("float32"),
        "n": datasets.Value("int32"),
        "solved": datasets.Value("int32"),
        **{name: _lists if name in ("inputs", "outputs") else _text for name in VERIFIED},
        "visible": datasets.Value("int32"),
        "equality": _text,
    }
)
FIELDS = {
    "id": "hash of what is verified: environment, program, inputs, outputs, message, tests",
    "prompt": "chat messages, as the student saw them",
    "environment": "induction, abduction, deduction or fuzzing",
    "source": "where the seed came from: wild or real code",
    "method": "multi, single or stones: how the teacher was asked; real: no teacher, a real function as it is",
    "bin": "of the pass rate ({bins}); null in none",
    "p": "the student's pass rate, solved / n",
    "n": "graded attempts of the student",
    "solved": "how many of them were right",
    "program": "defines `f`",
    "inputs": "what stands inside `f(...)`, Python literals as text",
    "outputs": "what `f` returned, in the order of the inputs; fuzzing: whether an input fails the test",
    "message": "a hint (induction)",
    "pre_test": "defines `pre_test_f` (fuzzing)",
    "test": "defines `test_f` (fuzzing)",
    "visible": "pairs that the prompt shows (induction)",
    "equality": "what makes an input right (abduction): `output`, f gives the wanted output; `input`, it is the teacher's",
}

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

Problems for reinforcement learning of code with verifiable rewards, after "A Deep Dive into Scaling RL for Code Generation with Synthetic
Data and Curricula" (arXiv 2603.24202); the method at a smaller scale, not the paper's data. Written by `python -m kit export`.

{counts}

**Grading needs the sandbox.** An answer is a program, or the input that a program is run on: `kit.ways.grade(row, answer)` runs it in
`kit/sandbox.py` and says passed, failed, or error, which is ours and no reward. Never `exec` an answer, and run the programs nowhere else.

| field | what |
|---|---|
{fields}

{made}

**Licences.** Problems were written by {teacher}; where `method` is real, they are functions of reasoning-gym (Apache-2.0) as they are. Seeds
that they grew from, by licence: {seeds}.
"""


class ExportError(RuntimeError):
    """There is nothing to export, no place for it, or the hub refused it; the message says what to do."""


def rows(folder: str | Path = RECORDED) -> dict[str, list[dict]]:
    """The rows of each split of a run folder, sorted by id. Raises ExportError if the filters kept no problem."""
    settings, kept = _profile(Path(folder)), _kept(Path(folder))
    found = {
        split: [_row(x, settings) for x in kept if x.split == ours]
        for split, ours in SPLITS.items()
    }
    return {split: some for split, some in found.items() if some}  # datasets reads no empty split


def _kept(folder: Path) -> list[Problem]:
    """Each content once, as it came first: the two methods share their first draw."""
    kept = {x.id: x for x in reversed(records.load(folder / "filtered.parquet")) if x.kept}
    if not kept:
        raise ExportError(
            f"the filters kept no problem in {folder}: run notebooks 01 to 03 with more seeds, then export again"
        )
    return [kept[i] for i in sorted(kept)]


def _profile(folder: Path) -> profile.Profile:
    """The profile of a run; of a folder without a manifest, such as data/recorded, the default one."""
    made = read_manifest(folder)["profile"]
    return (
        profile.Profile.model_validate(profile.load("cpu").model_dump() | made)
        if made
        else profile.load("cpu")
    )


def _row(x: Problem, settings: profile.Profile) -> dict:
    how = settings.rounds
    env = KINDS[x.environment](how.form, how.inputs, how.visible, how.equality)
    return {
        "id": x.id,
        "prompt": env.solve_prompt(x),
        "environment": x.environment,
        "source": x.source,
        "method": x.method,
        "bin": difficulty.bin_of(x.p, settings.difficulty.bins),
        "p": x.p,
        "n": x.n,
        "solved": x.solved,
        **{name: getattr(x, name) for name in VERIFIED},
        "visible": how.visible,
        "equality": how.equality,
    }


def problem(row: dict) -> tuple[Environment, Problem]:
    """A row of the data set as what the kit grades. Raises ExportError for a row that lacks something."""
    try:
        env = KINDS[row["environment"]](visible=row["visible"], equality=row["equality"])
        return env, Problem(environment=env.name, **{name: row[name] for name in VERIFIED})
    except KeyError as e:
        raise ExportError(f"this row has no {e}: it is no row of `python -m kit export`") from None


def load(data: str = "") -> dict[str, list[dict]]:
    """Rows of each split of an export: `data` is its folder, its name on the hub, or '' for the problems recorded in data/recorded."""
    return (
        {split: some.to_list() for split, some in datasets.load_dataset(data).items()}
        if data
        else rows()
    )


def write(folder: str | Path, out: str | Path) -> dict[str, int]:
    """Export a run folder to `out`, whole or not at all; an older export there is replaced. Returns the rows of each split. Raises ExportError."""
    folder, out = Path(folder), Path(out)
    if out.exists() and (not out.is_dir() or {x.name for x in out.iterdir()} - FILES):
        raise ExportError(f"{out} holds other things than an export: name another folder")
    found, part = rows(folder), Path(f"{out}.part")
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
    settings, teacher = _profile(folder), _profile(folder).teacher.model
    bins = [b.name for b in reversed(difficulty.BINS[settings.difficulty.bins])]
    columns, counts = ["split", "problems", *KINDS, *bins, "in no bin"], []
    for split, some in found.items():
        environments, binned = (
            Counter(x["environment"] for x in some),
            Counter(x["bin"] for x in some),
        )
        counts.append(
            [
                split,
                len(some),
                *(environments[kind] for kind in KINDS),
                *(binned[b] for b in (*bins, None)),
            ]
        )
    open_ = teacher not in models.MODELS or models.MODELS[teacher].licence != "Apache-2.0"
    return CARD.format(
        title=f"RL code problems, profile {settings.name}",
        licence="other" if open_ else "apache-2.0",
        teacher=teacher,
        files="\n".join(f"  - split: {split}\n    path: {split}.parquet" for split in found),
        counts="\n".join(
            f"| {' | '.join(map(str, line))} |"
            for line in (columns, ["---"] * len(columns), *counts)
        ),
        fields="\n".join(
            f"| `{name}` | {FIELDS[name].format(bins=settings.difficulty.bins)} |"
            for name in FEATURES
        ),
        made=_made(folder),
        seeds=_licences(folder),
    )


def _made(folder: Path) -> str:
    """How the run was made, from its manifest; of data/recorded, from the card there."""
    manifest, card = read_manifest(folder), folder / "README.md"
    if given := manifest["profile"]:
        how = given["rounds"]
        return (
            f"**How.** Made by `{recording.command(manifest)}`, seed {given['seed']}, kit {manifest['versions'].get('kit', '?')}: teacher "
            f"{given['teacher']['model']}, student {given['student']['model']} ({how['attempts']} attempts, {how['turns']} turns). "
            f"Versions: {recording.versions(manifest)}."
        )
    text = card.read_text(encoding="utf-8") if card.exists() else ""
    return (
        "\n\n".join(re.findall(r"^Made by .*$|^\*\*How\.\*\*(?:.|\n)*?(?=\n\n)", text, flags=re.M))
        or f"Of {folder.name} nothing is known."
    )


def _licences(folder: Path) -> str:
    """How many seeds of the kept problems stand under which licence."""
    seeds = pd.read_parquet(folder / "seeds.parquet", columns=["id", "licence"])
    found = seeds[seeds.id.isin({x.seed_id for x in _kept(folder)})].licence.value_counts()
    return ", ".join(f"{licence}: {n}" for licence, n in found.items()) or "unknown"


def push(out: str | Path, name: str, private: bool = False) -> str:
    """Upload an export to the Hugging Face hub as the data set OWNER/NAME; returns its address. Raises ExportError."""
    import httpx
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise ExportError(
            f"there is no login at the Hugging Face hub: run `hf auth login`, or set HF_TOKEN, and push again; the export is in {out}"
        )
    try:
        repo = HfApi().create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        HfApi().upload_folder(
            repo_id=repo.repo_id,
            repo_type="dataset",
            folder_path=out,
            commit_message="python -m kit export",
        )
    except (httpx.HTTPError, OSError, ValueError) as e:  # refused, unreachable, or not a name
        raise ExportError(
            f"the hub did not take {name} ({str(e).strip().splitlines()[0]}); the export itself is in {out}"
        ) from None
    return str(repo)
