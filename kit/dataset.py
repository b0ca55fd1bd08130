"""A problem as a row: the kept problems of a run as a data set that any library reads."""

from pathlib import Path

import datasets
from pydantic import ValidationError

from kit import environments
from kit.core import profile, records
from kit.core.bins import bin_of
from kit.core.config import Profile
from kit.core.manifest import RECORDED, read_manifest
from kit.core.types import Problem
from kit.grading import ExportError

SPLITS = {"train": "train", "test": "held_out"}

# The columns, and what each of them is.
ROW_FIELDS = {
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

# The types of a problem's own columns, and of those that are no text.
_TYPES = records.PROBLEM_FEATURES | {
    "prompt": datasets.List({"role": _STRING, "content": _STRING}),
    "visible": datasets.Value("int32"),
}

ROW_FEATURES = datasets.Features({name: _TYPES.get(name, _STRING) for name in ROW_FIELDS})


def problem_rows(folder: Path = RECORDED) -> dict[str, list[dict]]:
    """The rows of each split of a run folder, sorted by id; a split without problems is left out.

    Raises ExportError if the filters kept no problem.
    """
    settings = profile_of_run(folder)
    envs = environments.make(settings.rounds)
    kept = kept_problems(folder)
    found = {}
    for split, name in SPLITS.items():
        some = [_row(problem, settings, envs) for problem in kept if problem.split == name]
        # `datasets` reads no empty split.
        if some:
            found[split] = some
    return found


def kept_problems(folder: Path) -> list[Problem]:
    """Each content once, as it came first: the two methods share their first draw."""
    problems = records.load_problems(folder / "filtered.parquet")
    kept = {problem.id: problem for problem in reversed(problems) if problem.kept}
    if not kept:
        raise ExportError(
            f"the filters kept no problem in {folder}: "
            "run notebooks 01 to 03 with more seeds, then export again"
        )
    return [kept[key] for key in sorted(kept)]


def profile_of_run(folder: Path) -> Profile:
    """The profile of a run; without a manifest, as in data/recorded, the default one.

    Raises ExportError for a profile that this version of the kit cannot read.
    """
    made = read_manifest(folder)["profile"] or {}
    try:
        return Profile.model_validate(profile.load_profile("cpu").model_dump() | made)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise ExportError(
            f"this kit cannot read the profile in {folder / 'manifest.json'} ({where}): "
            "use the version of the kit that made the run, or make it again"
        ) from None


def _row(problem, settings, envs):
    """What ROW_FIELDS says of a problem."""
    made = {
        "prompt": envs[problem.environment].solve_prompt(problem),
        "bin": bin_of(problem.p, settings.difficulty.bins),
        "visible": settings.rounds.visible,
        "equality": settings.rounds.equality,
    }
    return {name: made[name] if name in made else getattr(problem, name) for name in ROW_FIELDS}


def load_rows(data: str = "") -> dict[str, list[dict]]:
    """Rows of each split of an export.

    `data` is its folder, its name on Hugging Face, or '' for the problems in data/recorded.
    """
    if not data:
        return problem_rows()
    return {split: some.to_list() for split, some in datasets.load_dataset(data).items()}


def rows_of_split(rows: dict[str, list[dict]], split: str) -> list[dict]:
    """Those of one split, as `load_rows` gives all. Raises ValueError if it has none."""
    if not rows.get(split):
        full = ", ".join(name for name, some in rows.items() if some)
        raise ValueError(f"there is no problem in a split {split!r}: there are {full}")
    return rows[split]
