"""LiveCodeBench: files of the true format are read and changed ones refused.

Verdicts are those of its published checker.
"""

import base64
import hashlib
import json
import pickle
import subprocess
import sys
import tracemalloc
import zlib

import pytest

from kit.benchmarks import FormatError, Unavailable, livecodebench
from kit.core.prompts import prompt
from kit.sandbox import Sandbox
from kit.serving import models
from tests.contest import CASES, DIFFERENT, row

SECONDS = 2  # instead of 6, for both
CHECKER = (
    "nvidia-livecodebench",
    "26.3",
    "d7d7cd2a5c3123b172ad138130abb53da9a81e8e47fb1e38ab66277030456fa8",
)


def write(folder, rows: dict[str, list[dict]]):
    there = folder / "code_generation_lite"
    there.mkdir(exist_ok=True)
    for name in livecodebench.RELEASE_FILES:
        (there / name).write_text("".join(json.dumps(r) + "\n" for r in rows.get(name, [])))
    return str(folder)


def task(function, tests, tmp_path):
    (path := tmp_path / "one.jsonl").write_text(json.dumps(row(0, function, tests)) + "\n")
    (found,) = livecodebench._read(path)
    return found


@pytest.fixture(scope="module")
def box():
    with Sandbox(**livecodebench.LIMITS | {"timeout": SECONDS}) as box:
        yield box


# ------------------------------------------------------------------ the files


def window() -> dict[str, list[dict]]:
    """A release_v6 of the right sizes: 454 problems in the window, others before and after it."""
    levels = ["easy"] * 110 + ["medium"] * 141 + ["hard"] * 203
    inside = [
        row(k, difficulty=level, contest_date=f"2024-{8 + k % 5:02}-01T00:00:00")
        for k, level in enumerate(levels)
    ]
    outside = [
        row(1000, contest_date="2024-07-31T23:59:00"),
        row(1001, contest_date="2025-06-01T00:00:00"),
    ]
    return {"test5.jsonl": inside[:200] + outside[:1], "test6.jsonl": inside[200:] + outside[1:]}


def test_the_window_is_asserted(tmp_path):
    found = livecodebench.contest_items("livecodebench", 454, folder=write(tmp_path, window()))
    assert len(found) == 454 and {i.group for i in found} == {"easy", "medium", "hard"}
    assert len(livecodebench.contest_items("livecodebench", 20, seed=1, folder=str(tmp_path))) == 20
    rows = window()
    rows["test6.jsonl"].pop(0)
    with pytest.raises(FormatError, match="should have 454 problems .* and 453 were found"):
        livecodebench.contest_items("livecodebench", 454, folder=write(tmp_path, rows))
    rows = window()
    rows["test6.jsonl"][0]["difficulty"] = (
        "easy" if rows["test6.jsonl"][0]["difficulty"] != "easy" else "hard"
    )
    with pytest.raises(FormatError, match="203"):
        livecodebench.contest_items("livecodebench", 454, folder=write(tmp_path, rows))


def test_release_v5_is_five_files(tmp_path):
    rows = {
        "test.jsonl": [row(k, contest_date="2023-05-07T00:00:00") for k in range(880)],
        "test6.jsonl": [row(9000)],
    }
    assert len(livecodebench.tasks("livecodebench_v5", write(tmp_path, rows))) == 880


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda r: r.pop("starter_code"), "starter_code: Field required"),
        (lambda r: r.update(difficulty="very hard"), "difficulty"),
        (lambda r: r.update(public_test_cases="[{}]"), "public_test_cases"),
        (lambda r: r.update(metadata="{"), "metadata"),
        (lambda r: r.update(contest_date="soon"), "contest_date"),
    ],
)
def test_a_changed_format_is_refused_by_name(tmp_path, change, said):
    rows = window()
    change(rows["test5.jsonl"][3])
    with pytest.raises(FormatError, match=rf"test5.jsonl, byte \d+: {said}"):
        livecodebench.contest_items("livecodebench", 454, folder=write(tmp_path, rows))


def test_a_torn_file_is_refused(tmp_path):
    write(tmp_path, window())
    (file := tmp_path / "code_generation_lite" / "test6.jsonl").write_text(file.read_text()[:-40])
    with pytest.raises(FormatError, match="test6.jsonl, byte"):
        livecodebench.contest_items("livecodebench", 454, folder=str(tmp_path))


def test_without_files_it_says_where_to_put_them(tmp_path, monkeypatch):
    with pytest.raises(
        Unavailable, match="put the files of livecodebench/code_generation_lite there"
    ):
        livecodebench.contest_items("livecodebench", 454, folder=str(tmp_path))
    monkeypatch.setattr(
        models.hub,
        "hf_hub_download",
        lambda *a, **k: (_ for _ in ()).throw(ConnectionError("no network")),
    )
    with pytest.raises(Unavailable, match="evaluation.folder"):
        livecodebench.contest_items("livecodebench", 1)


def test_hidden_tests_are_read_and_never_loaded():
    cases = [{"input": "1", "output": "é" * 300, "testtype": "stdin"}]
    for protocol in range(6):
        packed = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases), protocol))).decode()
        assert livecodebench.hidden(packed)[0].output == "é" * 300
    assert livecodebench.hidden(json.dumps(cases))[0].input == "1"

    class Bomb:
        def __reduce__(self):
            return exec, ("raise SystemExit('loaded')",)

    for bad in (Bomb(), [json.dumps(cases)], 7):
        with pytest.raises(FormatError, match="not only a text|not base64"):
            livecodebench.hidden(base64.b64encode(zlib.compress(pickle.dumps(bad))).decode())
    for bad in (
        "",
        "%%%",
        base64.b64encode(b"no zlib").decode(),
        base64.b64encode(zlib.compress(pickle.dumps("no json"))).decode(),
    ):
        with pytest.raises(FormatError):
            livecodebench.hidden(bad)


def test_hidden_tests_that_unpack_without_end_are_refused(monkeypatch):
    monkeypatch.setattr(livecodebench, "TESTS_LIMIT", 1 << 20)
    with pytest.raises(FormatError, match="too large"):
        livecodebench.hidden(base64.b64encode(zlib.compress(bytes(1 << 24))).decode())


def test_a_flood_of_opcodes_is_not_read():
    flood = b"\x80\x04" + b"\x94" * (1 << 22) + b"."
    packed = base64.b64encode(zlib.compress(flood)).decode()
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="abc123: no base64"):
            livecodebench.hidden(packed, "abc123")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_deep_json_is_an_error_of_its_problem(tmp_path):
    deep = "[" * 100_000
    (path := tmp_path / "one.jsonl").write_text(json.dumps(row(7) | {"private_test_cases": deep}))
    (found,) = livecodebench._read(path)
    with pytest.raises(FormatError, match=rf"{found.id}: .*recursion"):
        found.tests()
    packed = base64.b64encode(zlib.compress(pickle.dumps(deep))).decode()
    with pytest.raises(FormatError, match="recursion"):
        livecodebench.hidden(packed)


# ------------------------------------------------------------------ verdicts


@pytest.mark.parametrize(
    "name, function, tests, code, passes",
    CASES,
    ids=[f"{'function' if c[1] else 'stdin'}: {c[0]}" for c in CASES],
)
def test_verdicts(name, function, tests, code, passes, tmp_path, box):
    (verdict,) = livecodebench.grade_contest(
        task(function, tests, tmp_path), [f"Here it is.\n```python\n{code}\n```"], box
    )
    assert verdict.outcome == ("passed" if passes else "failed"), verdict


def test_our_own_differences(tmp_path, box):
    for name, function, tests, code, _, ours in DIFFERENT:
        (verdict,) = livecodebench.grade_contest(
            task(function, tests, tmp_path), [f"```python\n{code}\n```"], box
        )
        assert (verdict.outcome == "passed") == ours, (name, verdict)


@pytest.mark.parametrize("value", ["null", "7", "[1]", '{"t": []}', '{"f": "nan"}'])
def test_a_forged_report_is_wrong_and_its_neighbour_is_judged(value, tmp_path, box):
    """A program sprays values that are no text over all descriptors and ends at once."""
    lines = f'["ok", {value}]\n' * 3
    forged = (
        f"import os\nfor fd in range(40):\n    try:\n        os.write(fd, {lines.encode()!r})\n"
    )
    forged += "    except OSError:\n        pass\nos._exit(0)"
    texts = [f"```python\n{code}\n```" for code in (forged, "print(1)")]
    verdicts = livecodebench.grade_contest(task("", (("1", "1"), ("2", "1")), tmp_path), texts, box)
    assert [verdict.outcome for verdict in verdicts] == ["failed", "passed"]
    assert not livecodebench.same_lines(None, "1")


def test_the_last_block_is_the_answer(tmp_path, box):
    one = task("", (("1", "1"),), tmp_path)
    right, wrong = "```python\nprint(1)\n```", "```python\nprint(2)\n```"
    asked = [
        f"{wrong}\n{right}",
        f"{right}\n{wrong}",
        right + "\n```",
        "print(1)",
        "```python\nprint(1)",
        "",
    ]
    assert [v.outcome for v in livecodebench.grade_contest(one, asked, box)] == [
        "passed",
        "failed",
        "failed",
        "failed",
        "failed",
        "failed",
    ]


def test_a_second_of_each_test_counts_for_itself(tmp_path, box):
    code = (
        "import time\nn = input()\nend = time.process_time() + 1.2\n"
        "while time.process_time() < end:\n    pass\nprint(n)"
    )
    # 4.8 s together, a limit of 2 s each.
    tests = [(str(k), str(k)) for k in range(4)]
    (verdict,) = livecodebench.grade_contest(task("", tests, tmp_path), [f"```\n{code}\n```"], box)
    assert verdict.outcome == "passed"


def test_lines_of_its_own_gain_a_program_no_endless_time(tmp_path, box):
    write = (
        "for fd in range(3, 20):\n        try:\n            os.write(fd, b'\\n')\n"
        "        except OSError:\n            pass"
    )
    code = f"import os, time\nwhile True:\n    time.sleep(.3)\n    {write}"
    (verdict,) = livecodebench.grade_contest(
        task("", [("1", "1")] * 3, tmp_path), [f"```\n{code}\n```"], box
    )
    assert verdict.outcome == "failed"


IN_THE_CHECKER = """
import json, sys, types
sys.path.insert(0, sys.argv[1])
for name in ("anthropic", "livecodebench.lm_styles"):
    sys.modules.setdefault(name, types.ModuleType(name))
sys.modules["anthropic"].HUMAN_PROMPT = sys.modules["anthropic"].AI_PROMPT = ""
del sys.modules["livecodebench.lm_styles"]
from livecodebench.evaluation.compute_code_generation_metrics import check_correctness
from livecodebench.lm_styles import LMStyle
from livecodebench.utils.extraction_utils import extract_code
out = []
for function, tests, completion in json.load(sys.stdin):
    inputs, outputs = [i for i, _ in tests], [o for _, o in tests]
    given = {"inputs": inputs, "outputs": outputs, "fn_name": function or None}
    sample = {"input_output": json.dumps(given)}
    code = extract_code(completion, LMStyle.OpenAIChat)
    try:
        result = check_correctness(sample, code, timeout=%d, debug=False)[0]
        out.append(all(x is True or not isinstance(x, bool) and x > 0 for x in result))
    except Exception as e:
        out.append(False)
print()
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def checker(tmp_path_factory):
    """The published package as a folder, by digest, without the vendors' clients that it needs."""
    name, version, digest = CHECKER
    folder = tmp_path_factory.mktemp("checker")
    pip = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            folder,
            f"{name}=={version}",
        ],
        capture_output=True,
        text=True,
    )
    if pip.returncode:
        pytest.skip(f"the registry does not give {name}=={version}: {pip.stderr[-200:]}")
    (wheel,) = folder.glob("*.whl")
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == digest
    import zipfile

    zipfile.ZipFile(wheel).extractall(folder / "package")
    return folder / "package"


@pytest.mark.slow
def test_verdicts_are_those_of_the_published_checker(checker):
    asked = [(f, t, f"```python\n{code}\n```") for _, f, t, code, *_ in [*CASES, *DIFFERENT]]
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_CHECKER % SECONDS, str(checker)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.strip().splitlines()[-1])
    wanted = [c[4] for c in CASES] + [d[4] for d in DIFFERENT]
    assert not [
        (c[0], c[1], them)
        for c, them, want in zip([*CASES, *DIFFERENT], theirs, wanted)
        if them != want
    ]


@pytest.mark.slow
def test_prompts_are_the_published_ones(checker):
    script = (
        IN_THE_CHECKER.split("from livecodebench.evaluation")[0]
        + """
from types import SimpleNamespace
from livecodebench.prompts import code_generation
system = code_generation.PromptConstants.SYSTEM_MESSAGE_GENERIC
question = code_generation.get_generic_question_template_answer
given = json.load(sys.stdin)
print(json.dumps([[system, question(SimpleNamespace(**g))] for g in given]))
"""
    )
    given = [
        {"question_content": "Add two numbers.\n\nInput:\n1 2", "starter_code": s}
        for s in ("", "class Solution:\n    def add(self, a):")
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, str(checker)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for g, (system, user) in zip(given, json.loads(done.stdout.strip().splitlines()[-1])):
        ours = prompt(
            "evaluate_livecodebench", question=g["question_content"], starter=g["starter_code"]
        )
        assert [m["content"] for m in ours] == [system, user.rstrip()]


def test_a_line_of_many_words_is_read_no_further_than_the_wanted_one():
    assert livecodebench.same_lines("1.0 2 ", "1 2.00") and not livecodebench.same_lines(
        "1 2 3", "1 2"
    )
    assert not livecodebench.same_lines("1", "1 2") and not livecodebench.same_lines("1 2", "")
    tracemalloc.start()
    assert not livecodebench.same_lines("1 " * 3_000_000, "1 1")
    assert tracemalloc.get_traced_memory()[1] < 40e6
    tracemalloc.stop()
