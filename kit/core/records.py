"""What flows through a run: problems with their history.

They are append-only JSON lines while a stage works, and parquet when it is done.
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from kit.core.types import Problem, Sample, clean


class RecordError(RuntimeError):
    """A file of records cannot be read or written; the message says what to do.

    Source: our choice.
    """


_TEXT = datasets.Value("string")

_COLUMNS: dict[object, object] = {
    str: _TEXT,
    int: datasets.Value("int32"),
    bool: datasets.Value("bool"),
    list[str]: datasets.List(_TEXT),
    list[Sample]: datasets.List(dict.fromkeys(Sample.model_fields, _TEXT)),
}

PROBLEM_FEATURES = datasets.Features(
    {
        "id": _TEXT,
        "p": datasets.Value("float32"),
        **{name: _COLUMNS[field.annotation] for name, field in Problem.model_fields.items()},
    }
)


def quiet() -> None:
    """Switch off the progress bars of `datasets` in this process.

    A notebook and a terminal would otherwise show one for every table that is written.
    """
    datasets.disable_progress_bars()


def disk_error(error: OSError, path: Path) -> Exception:
    """What to raise for a failed write: a RecordError that says what to do if the disk is full."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RecordError(
            f"the disk is full at {path.parent}: free some space and run the same command again; "
            "everything written before this line is kept"
        )
    return error


class Log:
    """An append-only file of JSON lines, each an object.

    A torn last line (the process was killed while writing) is no row, and the next row replaces it.

    Args:
        path: of the file.
        row: what each line must hold, as pydantic knows types.
    """

    def __init__(self, path: Path, row: Any = dict):
        self.path = Path(path)
        self._row = TypeAdapter(row)
        self._file: FileIO | None = None

    def _repair(self):
        """Make the folder, and cut off a last line without its end."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # No device, such as the null one.
        if self.path.is_file():
            with self.path.open("rb+") as file:
                size = sum(len(line) for line in file if line.endswith(b"\n"))
                if size < file.tell():
                    file.truncate(size)

    def append(self, row: dict) -> int:
        """Returns the row's place in the file, for `at`.

        Raises RecordError when the disk is full.
        """
        line = json.dumps(row).encode() + b"\n"
        try:
            if self._file is None:
                self._repair()
                self._file = self.path.open("ab", buffering=0)
            place = self.path.stat().st_size
            # A full disk can take half a line.
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, "short write")
        except OSError as error:
            self.close()
            raise disk_error(error, self.path) from error
        return place

    def __iter__(self) -> Iterator[dict]:
        return (row for _, row in self.places())

    def at(self, place: int) -> dict:
        """The row at a place that `append` or `places` gave."""
        with self.path.open("rb") as file:
            file.seek(place)
            return clean(json.loads(file.readline()))

    def places(self) -> Iterator[tuple[int, dict]]:
        """(place, row) for every row.

        A caller that keeps the places instead of the rows needs little memory for a large file.
        Raises RecordError for a line that does not hold what it should.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            place = 0
            for number, line in enumerate(file, 1):
                # It is being written, or its writer was killed.
                if not line.endswith(b"\n"):
                    return
                try:
                    row = clean(json.loads(line))
                    self._row.validate_python(row)
                except (ValueError, RecursionError) as error:
                    why = " ".join(str(error).split())[:200]
                    raise RecordError(
                        f"{self.path} line {number} is not JSON of the right form ({why}): restore "
                        "the file, or delete that line; the stage will make the record again"
                    ) from None
                yield place, row
                place += len(line)

    def close(self) -> None:
        """The next `append` opens the file again."""
        if self._file:
            self._file.close()
            self._file = None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The place beside `path` where a file is written, which then becomes `path`.

    So a reader never sees half of it, and a failed write leaves what was there before.
    Raises RecordError when the disk is full.
    """
    part = Path(f"{path}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_error(error, part) from error


def write_parquet(
    rows: Iterable[dict] | pd.DataFrame, path: Path, features: datasets.Features | None = None
) -> None:
    """Write a table at once or not at all.

    A table without rows keeps the columns of the frame or of `features`.
    Raises RecordError when the disk is full.
    """
    if isinstance(rows, pd.DataFrame):
        texts = {name: rows[name].map(clean) for name in rows if rows[name].dtype == object}
        table = datasets.Dataset.from_pandas(rows.assign(**texts), preserve_index=False)
    else:
        rows = clean(list(rows))
        names = features or next(iter(rows), ())
        columns = {name: [row.get(name) for row in rows] for name in names}
        table = datasets.Dataset.from_dict(columns, features=features)
    with whole_file(path) as part:
        table.to_parquet(part, write_page_checksum=True)


def read_parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table that `write_parquet` wrote; older ones have no checksums.

    Raises FileNotFoundError, and RecordError for a damaged file.
    """
    try:
        return pd.read_parquet(path, columns=columns, page_checksum_verification=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise RecordError(
            f"{path} is not a readable parquet file ({error}): delete it and run its notebook again"
        ) from None


def _as_row(problem):
    return {"id": problem.id, "p": problem.p, **problem.model_dump()}


def save_problems(problems: Iterable[Problem], path: Path) -> None:
    """Write problems as parquet, with id and pass rate; `load_problems` reads them back."""
    write_parquet(map(_as_row, problems), path, PROBLEM_FEATURES)


def load_problems(path: Path) -> list[Problem]:
    """Read the problems that `save_problems` wrote.

    Args:
        path: of the parquet file.
    Returns:
        The problems in the order of the file.
    Raises:
        RecordError: the file is missing, is not parquet, or does not hold problems.
    Source: our choice.
    """
    try:
        # `id` and `p` follow from the other columns.
        table = read_parquet(path).drop(columns=["id", "p"])
        return TypeAdapter(list[Problem]).validate_json(table.to_json(orient="records"))
    except FileNotFoundError:
        raise RecordError(f"{path} is not there: run the notebook that writes it first") from None
    except (KeyError, ValidationError) as error:
        raise RecordError(
            f"{path} does not hold problems ({str(error).splitlines()[0]}): delete it and run its "
            "notebook again"
        ) from None


def problems_frame(problems: Iterable[Problem]) -> pd.DataFrame:
    """Problems as a table: what the plots and the notebooks read.

    Args:
        problems: any, graded or not.
    Returns:
        One row per problem: column `id`, column `p` (pass rate from 0 to 1, NaN before grading),
        then the fields of Problem.
    Source: our choice.
    """
    rows = map(_as_row, problems)
    return pd.DataFrame(rows, columns=list(PROBLEM_FEATURES)).astype({"p": float})
