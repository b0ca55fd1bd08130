import errno
import os
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from kit.core import records
from kit.core.records import Log, RecordError
from kit.core.types import Problem, Sample

PROBLEM = Problem(
    environment="induction",
    program="def f(x):\n    return 'é\\u2028\\0' + x",
    inputs=["'a'", "'b'"],
    outputs=["1", "None"],
    message="line\nline \u2028 é",
    n=8,
    solved=3,
    samples=[Sample(answer="{'a': 1}", outcome="failed", reason="wrong")],
)


def test_the_id_is_of_the_content_alone():
    assert PROBLEM.id == PROBLEM.with_(seed_id="other", turn=4, solved=8, kept=True).id
    changed = {
        "environment": "fuzzing",
        "program": "x",
        "inputs": ["'a'"],
        "outputs": ["1"],
        "message": "",
        "pre_test": "x",
        "test": "x",
    }
    assert len({PROBLEM.id, *(PROBLEM.with_(**{k: v}).id for k, v in changed.items())}) == 8
    one = Problem(environment="a", inputs=["1", "2"])
    other = Problem(environment="a", inputs=["1"], outputs=["2"])
    assert one.id != other.id


def test_parquet_gives_back_the_same_problems(tmp_path):
    given = [PROBLEM, Problem(environment="fuzzing", status="invalid", reason="no code")]
    records.save_problems(given, tmp_path / "p.parquet")
    assert records.load_problems(tmp_path / "p.parquet") == given
    frame = records.problems_frame(given)
    assert frame["p"].tolist()[0] == 0.375
    assert pd.isna(frame["p"][1])
    assert frame["id"].tolist() == [x.id for x in given]


def test_no_problems_are_a_table_too(tmp_path):
    records.save_problems([], tmp_path / "p.parquet")
    assert records.load_problems(tmp_path / "p.parquet") == []
    assert list(pd.read_parquet(tmp_path / "p.parquet").columns) == list(records.PROBLEM_FEATURES)
    assert records.problems_frame([])["p"].dtype == float


def test_a_frame_keeps_its_columns_and_gaps(tmp_path):
    frame = pd.DataFrame({"bin": [None, "easy"], "low": [0.5, float("nan")], "ids": [["a"], []]})
    for rows in (frame, frame[:0]):
        records.write_parquet(rows, tmp_path / "t.parquet")
        back = pd.read_parquet(tmp_path / "t.parquet")
        assert list(back.columns) == list(frame.columns) and len(back) == len(rows)
        assert (
            back.isna()[["bin", "low"]].values.tolist()
            == rows.isna()[["bin", "low"]].values.tolist()
        )


def test_text_that_no_file_can_hold_does_not_lose_the_stage(tmp_path):
    records.save_problems([PROBLEM, PROBLEM.with_(raw="a\ud800b")], tmp_path / "p.parquet")
    assert records.load_problems(tmp_path / "p.parquet")[1].raw == "a\ufffdb"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: None, "run the notebook that writes it first"),
        (lambda p: p.write_bytes(b"PAR1 torn"), "not a readable parquet"),
        (lambda p: pd.DataFrame({"a": [1]}).to_parquet(p), "does not hold problems"),
        (
            lambda p: pd.DataFrame({"id": ["x"], "p": [0.5], "colour": ["red"]}).to_parquet(p),
            "does not hold problems",
        ),
    ],
)
def test_load_refuses_kindly(tmp_path, make, message):
    make(tmp_path / "p.parquet")
    with pytest.raises(RecordError, match=message):
        records.load_problems(tmp_path / "p.parquet")


def test_a_torn_last_line_is_cut_and_the_log_goes_on(tmp_path):
    path = tmp_path / "a" / "log.jsonl"
    log = Log(path)
    log.append({"n": 1, "text": "é\nline"})
    log.append({"n": 2})
    log.close()
    whole = path.read_bytes()
    # Killed after any byte of the last line.
    for end in range(len(whole) - len(b'{"n": 2}\n') + 1, len(whole)):
        path.write_bytes(whole[:end])
        again = Log(path)
        assert [r["n"] for r in again] == [1]
        again.append({"n": 2})
        again.close()
        assert path.read_bytes() == whole
    Log(path)
    assert path.read_bytes() == whole, "a whole file stays as it is"


def test_a_log_knows_the_place_of_every_row(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    places = [log.append({"k": k, "text": "ü€" * k}) for k in range(5)]
    log.close()
    again = Log(tmp_path / "log.jsonl")
    places.append(again.append({"k": 5}))
    assert [place for place, _ in again.places()] == places
    assert [again.at(place)["k"] for place in reversed(places)] == [5, 4, 3, 2, 1, 0]


def test_a_line_that_another_process_is_writing_is_neither_read_nor_cut(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"n": 1}\n{"n":')
    reader = Log(path)
    assert [row["n"] for row in reader] == [1]
    with path.open("a") as writer:
        writer.write(" 2}\n")
    assert [row["n"] for row in reader] == [1, 2]


def test_a_log_that_is_one_torn_line_becomes_empty(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"n": ')
    log = Log(tmp_path / "log.jsonl")
    assert list(log) == []


def test_damage_in_the_middle_is_named_and_not_guessed_at(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"n": 1}\n{"n": \n{"n": 3}\n')
    with pytest.raises(RecordError, match="log.jsonl line 2 is not JSON"):
        list(Log(tmp_path / "log.jsonl"))


class Full:
    """A file on a disk with room for so many bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self.file.write(data[: self.room])
        self.room -= taken
        return taken

    def close(self):
        self.file.close()


@pytest.mark.parametrize("room", [0, 4])
def test_a_full_disk_keeps_what_was_written_and_the_log_can_go_on(tmp_path, room):
    log = Log(tmp_path / "log.jsonl")
    log.append({"n": 1})
    log._file = Full(log._file, room)
    with pytest.raises(
        RecordError, match="disk is full.*free some space and run the same command again"
    ):
        log.append({"n": 2})
    assert [r["n"] for r in log] == [1]
    log.append({"n": 2})
    assert (tmp_path / "log.jsonl").read_text() == '{"n": 1}\n{"n": 2}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_the_systems_own_full_device():
    with pytest.raises(RecordError, match="disk is full"):
        Log(Path("/dev/full")).append({"n": 1})


@pytest.fixture
def tiny_disk(tmp_path):
    disk = tmp_path / "tiny"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_small_disk_filled_for_real(tiny_disk):
    log = Log(tiny_disk / "log.jsonl")
    with pytest.raises(RecordError, match="disk is full"):
        for n in range(1000):
            log.append({"n": n, "text": "x" * 1000})
    kept = [r["n"] for r in Log(tiny_disk / "log.jsonl")]
    assert kept == list(range(len(kept))) and len(kept) > 10


def test_a_table_is_written_whole_or_not_at_all_on_a_small_disk(tiny_disk):
    records.save_problems([PROBLEM], tiny_disk / "p.parquet")
    with pytest.raises(RecordError, match="disk is full"):
        records.save_problems(
            [PROBLEM.with_(raw=os.urandom(50_000).hex()) for _ in range(3)], tiny_disk / "p.parquet"
        )
    assert records.load_problems(tiny_disk / "p.parquet") == [PROBLEM]
    assert [x.name for x in tiny_disk.iterdir()] == ["p.parquet"]


def test_a_table_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "p.parquet"
    records.save_problems([PROBLEM], path)

    def full(_, part, **options):
        Path(part).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records.datasets.Dataset, "to_parquet", full)
    with pytest.raises(RecordError, match="disk is full"):
        records.save_problems([], path)
    assert records.load_problems(path) == [PROBLEM] and [x.name for x in tmp_path.iterdir()] == [
        "p.parquet"
    ]


def test_other_errors_of_the_disk_are_passed_on(tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(records.os, "replace", denied)
    with pytest.raises(PermissionError):
        records.save_problems([PROBLEM], tmp_path / "p.parquet")


@pytest.mark.parametrize(
    "line",
    [
        "3",
        "[]",
        "null",
        '"x"',
        '{"id": 5}',
        "{",
        "[" * 100_000,
        '{"environment": []}',
        '{"n": NaN}',
    ],
)
def test_a_line_of_another_form_is_named(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text(PROBLEM.model_dump_json() + "\n" + line + "\n")
    with pytest.raises(RecordError, match="log.jsonl line 2 is not JSON of the right form"):
        list(Log(path, Problem))


ODD = ["half \ud83d", "\x00", "\u2028", "\u202e", "\x1b[31m", "\U0001f600"]


@pytest.mark.parametrize("text", ODD)
def test_odd_text_goes_through_records_and_tables(tmp_path, text):
    problem = PROBLEM.with_(raw=text, samples=[Sample(answer=text, outcome="failed")])
    log = Log(tmp_path / "log.jsonl")
    log.append(problem.model_dump())
    log.close()
    (row,) = Log(tmp_path / "log.jsonl", Problem)
    records.save_problems([problem], tmp_path / "p.parquet")
    (loaded,) = records.load_problems(tmp_path / "p.parquet")
    assert Problem.model_validate(row) == loaded == problem
    assert loaded.raw == text.replace("\ud83d", "\ufffd")
    records.write_parquet(pd.DataFrame({"texts": [[text]]}), tmp_path / "t.parquet")


def test_a_flipped_bit_in_a_page_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"n": range(500), "text": [f"{k * k}" for k in range(500)]})
    records.write_parquet(frame, path)
    assert records.read_parquet(path).equals(frame)
    whole = path.read_bytes()
    # From the first page to the pages' end: the page's own heading is not under its checksum.
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    refused = 0
    for bit in range(4 * 8, footer * 8, 97):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert records.read_parquet(path).equals(frame)
        except RecordError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 20


def test_tables_without_checksums_are_read_and_a_missing_one_is_missing(tmp_path):
    frame = pd.DataFrame({"a": [1, 2]})
    frame.to_parquet(tmp_path / "old.parquet")
    assert records.read_parquet(tmp_path / "old.parquet").equals(frame)
    assert list(records.read_parquet(tmp_path / "old.parquet", ["a"])) == ["a"]
    with pytest.raises(FileNotFoundError):
        records.read_parquet(tmp_path / "none.parquet")


def test_the_kit_reads_its_own_tables_in_one_place_only():
    kit = Path(records.__file__).parents[1]
    direct = {
        path.relative_to(kit).as_posix()
        for path in kit.rglob("*.py")
        if re.search(r"pd\.read_parquet|from_parquet", path.read_text(encoding="utf-8"))
    }
    # A published data set is not the kit's own.
    assert direct == {"core/records.py", "benchmarks/published_maths.py"}
