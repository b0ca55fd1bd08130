import ast
import re
from pathlib import Path

import pandas as pd
import pytest

from kit import seeds
from kit.core import profile
from kit.core.types import SeedSnippet


@pytest.fixture(scope="module")
def found():
    return seeds.sample_seeds(profile.load_profile("cpu"))


def write(folder, name, text):
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder that takes the place of the standard library and the packages."""
    monkeypatch.setattr(seeds, "_installed", lambda: ((tmp_path, tmp_path, ""),))
    return tmp_path


LOGIC = (
    "def f(xs):\n    total = 0\n"
    + "".join(f"    if xs[0] > {k}:\n        total += {k}\n" for k in range(30))
    + "    return total\n"
)


def test_as_many_as_asked_and_all_distinct(found):
    asked = profile.load_profile("cpu").seeds
    assert [s.source for s in found] == ["wild"] * asked.wild + ["real"] * (
        asked.real + asked.problems
    )
    assert [s.as_is for s in found] == [False] * (asked.wild + asked.real) + [True] * asked.problems
    assert all(bool(s.task) == bool(s.generator) == (s.source == "real") for s in found)
    assert len({s.id for s in found}) == len(found)


def test_the_same_number_gives_the_same_seeds(found):
    seeds._files.cache_clear()
    seeds._read.cache_clear()
    assert seeds.sample_seeds(profile.load_profile("cpu")) == found
    assert seeds.sample_seeds(profile.load_profile("cpu", {"seed": 1})) != found


def test_wild_seeds_are_consecutive_lines(found):
    for s in found:
        if s.source == "wild":
            path, first, last = re.fullmatch(r"(.+\.py):(\d+)-(\d+)", s.origin).groups()
            assert 25 <= len(s.text.split("\n")) == int(last) - int(first) + 1 <= 50
            base = next(b for _, b, _ in seeds._installed() if (b / path).exists())
            lines = (
                (base / path).read_text(encoding="utf-8").split("\n")[int(first) - 1 : int(last)]
            )
            assert [x.strip() for x in lines] == [x.strip() for x in s.text.split("\n")]


def test_origins_tell_nothing_about_the_machine(found):
    for s in found:
        assert (
            not s.origin.startswith(("/", ".."))
            and "site-packages" not in s.origin
            and str(Path.home()) not in s.origin
        )
        assert s.licence and "unknown" not in s.licence
    assert {s.licence for s in found if s.source == "real"} == {"Apache-2.0 (reasoning-gym 0.1.25)"}


def test_real_seeds_parse_and_solve(found):
    for s in found:
        if s.source == "real":
            assert any(getattr(n, "name", "") == "main_solution" for n in ast.parse(s.text).body)
            assert 5 <= len(s.text.split("\n")) <= 50


def test_the_split_is_stratified_and_keeps_files_together(found):
    share = profile.load_profile("cpu").seeds.held_out
    for source in ("wild", "real"):
        some = [s for s in found if s.source == source]
        assert abs(sum(s.split == "held_out" for s in some) - share * len(some)) <= 1
    many = [
        SeedSnippet(id=str(k), text=str(k), source="wild", origin=f"a/{k % 10}.py:{k}-{k}")
        for k in range(50)
    ]
    parted = seeds.split_seeds(many, 0.3)
    files = {
        half: {s.origin.split(":")[0] for s in parted if s.split == half}
        for half in ("train", "held_out")
    }
    assert not files["train"] & files["held_out"] and len(files["held_out"]) == 3
    assert {s.split for s in seeds.split_seeds(many, 0.0)} == {"train"}


def test_windows_without_logic_and_odd_files_are_passed_over(installed):
    write(installed, "good.py", LOGIC)
    write(installed, "table.py", "X = [\n" + "    1,\n" * 60 + "]\n")
    write(installed, "flat.py", "def f():\n" + "    x = 1\n" * 60)
    write(
        installed,
        "docs.py",
        'def f(x):\n    """\n' + "    if words\n" * 60 + '    """\n    return x\n',
    )
    write(installed, "broken.py", LOGIC + "def (:\n")
    write(installed, "fence.py", LOGIC + "# ```\n")
    write(installed, "made.py", "# Auto-generated, do not edit\n" + LOGIC)
    write(installed, "wide.py", f"X = '{'x' * 300}'\n" + LOGIC)
    write(installed, "tests/inner.py", LOGIC)
    write(installed, "_vendor/inner.py", LOGIC)
    write(installed, "test_it.py", LOGIC)
    (installed / "latin.py").write_bytes(LOGIC.encode() + b"# \xe9\n")
    few = seeds.wild_seeds(5, (25, 30))
    assert {s.origin.split(":")[0] for s in few} == {"good.py"}


def test_too_few_seeds_are_said_to_be(installed):
    with pytest.raises(
        seeds.SeedError, match="3 asked for, but there are only 0 wild seeds in 0 files"
    ):
        seeds.wild_seeds(3)
    with pytest.raises(seeds.SeedError, match="lower seeds.real"):
        seeds.real_seeds(5000)
    assert seeds.wild_seeds(0) == [] and seeds.real_seeds(0) == []


def test_the_table_gives_the_seeds_back(found, tmp_path):
    seeds.seeds_frame(found).to_parquet(tmp_path / "seeds.parquet")
    assert seeds.seeds_from_frame(pd.read_parquet(tmp_path / "seeds.parquet")) == found
    assert seeds.seeds_from_frame(seeds.seeds_frame([])) == []
