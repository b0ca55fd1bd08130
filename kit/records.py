"""What flows through a run: problems with their history, as append-only JSON lines and, when a stage is done, parquet."""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import datasets
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

datasets.disable_progress_bars()


class RecordError(RuntimeError):
    """A file of records cannot be read or written; the message says what to do."""


class Sample(BaseModel):
    """One student answer: the text between the answer marks and what became of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    answer: str
    outcome: Literal["passed", "failed", "error"]
    reason: str = ""


class Problem(BaseModel):
    """A problem and its history. Inputs and outputs are Python literals as text; an input is what stands inside `f(...)`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: str
    program: str = ""
    inputs: list[str] = []
    outputs: list[str] = []
    message: str = ""
    pre_test: str = ""
    test: str = ""

    seed_id: str = ""
    source: str = ""  # wild | real: where the seed came from
    split: str = "train"  # train | held_out, decided by the seed
    method: str = "multi"  # multi (turn by turn) | single (independent samples of the same seed) | stones | real (no teacher)
    chain_id: str = ""
    parent_id: str = ""
    turn: int = 1
    asked: str = "new"  # new | harder | easier | vary

    status: str = "valid"  # valid | invalid | error (ours: never counted against anybody)
    reason: str = ""
    n: int = 0  # graded attempts
    solved: int = 0
    errors: int = 0  # attempts that our own infrastructure lost; not part of n
    samples: list[Sample] = []

    kept: bool = False
    dropped_by: str = ""
    behaviour: str = ""  # hash of what the program returns on the run's probes (filters); '' if that tells too little
    teacher: str = ""
    student: str = ""
    prompt: str = ""  # hash of the teacher's first prompt of this turn
    raw: str = ""  # the teacher's last answer, as it came
    teacher_tokens: int = 0
    student_tokens: int = 0

    @property
    def id(self) -> str:
        """Hash of the content alone, so the same problem has the same id wherever it came from."""
        return digest(
            self.environment,
            self.program,
            self.inputs,
            self.outputs,
            self.message,
            self.pre_test,
            self.test,
        )

    @property
    def p(self) -> float | None:
        """Pass rate: solved / graded attempts; None before any attempt was graded."""
        return self.solved / self.n if self.n else None

    def with_(self, **changes) -> "Problem":
        """A changed copy; nothing is validated anew."""
        return self.model_copy(update=changes)


_str, _int, _list = (
    datasets.Value("string"),
    datasets.Value("int32"),
    datasets.List(datasets.Value("string")),
)
_types = {
    str: _str,
    int: _int,
    bool: datasets.Value("bool"),
    list[str]: _list,
    list[Sample]: datasets.List({"answer": _str, "outcome": _str, "reason": _str}),
}
FEATURES = datasets.Features(
    {
        "id": _str,
        "p": datasets.Value("float32"),
        **{name: _types[f.annotation] for name, f in Problem.model_fields.items()},
    }
)


def digest(*parts, length: int = 16) -> str:
    """Hash of JSON-able parts, stable over processes and machines."""
    return hashlib.sha256(
        json.dumps(parts, sort_keys=True, ensure_ascii=True).encode()
    ).hexdigest()[:length]


def disk_error(error: OSError, path: Path) -> Exception:
    """What to raise for a failed write: a RecordError that says what to do if the disk is full."""
    if error.errno == errno.ENOSPC:
        return RecordError(
            f"the disk is full at {path.parent}: free some space and run the same command again; "
            "everything written before this line is kept"
        )
    return error


class Log:
    """An append-only file of JSON lines. A torn last line (the process was killed while writing) is cut off on opening."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.repaired = self._repair()
        self._file = None

    def _repair(self) -> bool:
        if not self.path.exists() or not self.path.stat().st_size:
            return False
        with self.path.open("rb+") as f:
            f.seek(-1, os.SEEK_END)
            if f.read(1) == b"\n":
                return False
            f.seek(0)
            f.truncate(f.read().rfind(b"\n") + 1)
        return True

    def append(self, row: dict) -> int:
        """Returns the row's place in the file, for `at`. Raises RecordError when the disk is full."""
        try:
            self._file = self._file or self.path.open("ab", buffering=0)
            line = json.dumps(row, ensure_ascii=True).encode() + b"\n"
            place = self.path.stat().st_size
            done = self._file.write(line)
            if done != len(line):  # a full disk can take half a line
                raise OSError(errno.ENOSPC, "short write")
        except OSError as e:
            self.close()
            self._repair()
            raise disk_error(e, self.path) from e
        return place

    def __iter__(self) -> Iterator[dict]:
        return (row for _, row in self.places())

    def at(self, place: int) -> dict:
        """The row at a place that `append` or `places` gave."""
        with self.path.open("rb") as f:
            f.seek(place)
            return json.loads(f.readline())

    def places(self) -> Iterator[tuple[int, dict]]:
        """(place, row) for every row: who keeps places instead of rows needs little memory for a large file."""
        if not self.path.exists():
            return
        with self.path.open("rb") as f:
            place = 0
            for number, line in enumerate(f, 1):
                try:
                    yield place, json.loads(line)
                    place += len(line)
                except ValueError:
                    raise RecordError(
                        f"{self.path} line {number} is not JSON: restore the file, or delete that line; "
                        "the stage will make the record anew"
                    ) from None

    def close(self) -> None:
        """The next `append` opens the file again."""
        if self._file:
            self._file.close()
            self._file = None


def write_parquet(
    rows: Iterable[dict] | pd.DataFrame, path: Path, features: datasets.Features | None = None
) -> None:
    """Write at once or not at all: a reader never sees half a table. An empty one keeps its columns."""
    path, part = Path(path), Path(f"{path}.part")
    if isinstance(rows, pd.DataFrame):
        table = datasets.Dataset.from_pandas(rows, preserve_index=False)
    elif rows := list(rows):
        table = datasets.Dataset.from_list(rows, features=features)
    else:
        table = datasets.Dataset.from_dict({name: [] for name in features or ()}, features=features)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        table.to_parquet(part)
        os.replace(part, path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise disk_error(e, path) from e


def save(problems: Iterable[Problem], path: Path) -> None:
    """Problems as parquet, with id and pass rate; `load` reads them back."""
    write_parquet(
        ({"id": x.id, "p": x.p, **x.model_dump()} for x in map(_writable, problems)), path, FEATURES
    )


def _writable(x: Problem) -> Problem:
    """Lone surrogates, which a model's string escapes can make and no file can hold, become question marks."""
    return Problem.model_validate_json(
        json.dumps(x.model_dump(), ensure_ascii=False).encode("utf-8", "replace")
    )


def load(path: Path) -> list[Problem]:
    """Raises RecordError if the file is missing or does not hold problems."""
    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError:
        raise RecordError(f"{path} is not there: run the notebook that writes it first") from None
    except Exception as e:
        raise RecordError(
            f"{path} is not a readable parquet file ({e}): delete it and run its notebook again"
        ) from None
    try:
        rows = json.loads(frame.drop(columns=["id", "p"]).to_json(orient="records"))
        return [Problem.model_validate(row) for row in rows]
    except (KeyError, ValidationError) as e:
        raise RecordError(
            f"{path} does not hold problems ({str(e).splitlines()[0]}): "
            "delete it and run its notebook again"
        ) from None


def frame(problems: Iterable[Problem]) -> pd.DataFrame:
    """One row per problem with `id` and `p`: what the plots and the notebooks read."""
    rows = [{"id": x.id, "p": x.p, **x.model_dump()} for x in problems]
    return pd.DataFrame(rows, columns=list(FEATURES)).astype({"p": float})
