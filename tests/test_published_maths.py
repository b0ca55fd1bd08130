"""MATH-500 and AIME 2024: a table of answers with the expected verdict, hostile ones, the files.

Also lm-eval's judgement of the same answers.
"""

import json
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from kit.benchmarks import FormatError, Unavailable, published_maths
from kit.core.types import Reason

BOX = r"So the answer is $\boxed{%s}$."
# (expected, answer, right?), by what math-verify can: it knows no degrees and no "dollars". An
# answer without "boxed" or a sentence around it is put into \boxed{}.
PAIRS = [
    # whole numbers and decimals
    ("42", "42", True),
    ("42", "43", False),
    ("42", "42.0", True),
    ("42", "+42", True),
    ("-42", "-42", True),
    ("-42", "42", False),
    ("1000", "1,000", True),
    ("1000", r"1{,}000", True),
    ("1234567", "1,234,567", True),
    ("0.5", ".5", True),
    ("0.5", "0.50", True),
    ("0.5", "0.51", False),
    ("0", "-0", True),
    ("10^6", "1000000", True),
    ("033", "33", True),
    ("7", "seven", False),
    # fractions and percentages
    (r"\frac{1}{2}", r"\frac{1}{2}", True),
    (r"\frac{1}{2}", r"\frac12", True),
    (r"\frac{1}{2}", r"\dfrac{1}{2}", True),
    (r"\frac{1}{2}", "1/2", True),
    (r"\frac{1}{2}", "0.5", True),
    (r"\frac{1}{2}", r"\frac{2}{4}", True),
    (r"\frac{1}{2}", r"\frac{1}{3}", False),
    (r"-\frac{2}{3}", r"\frac{-2}{3}", True),
    (r"-\frac{2}{3}", r"\frac{2}{-3}", True),
    (r"\frac{1}{3}", "0.3", False),
    ("50", r"50\%", True),
    (r"3\frac{1}{2}", r"\frac{7}{2}", True),
    # roots, powers, constants
    (r"\sqrt{2}", r"2^{1/2}", True),
    (r"2\sqrt{3}", r"\sqrt{12}", True),
    (r"\sqrt{2}", "1.414", False),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", True),
    (r"2\pi", r"2 \cdot \pi", True),
    (r"\pi", "3.14", False),
    ("e^2", "e*e", True),
    ("2^{10}", "1024", True),
    ("3+4i", "4i+3", True),
    ("3+4i", "3-4i", False),
    (r"\log_2 8", "3", True),
    (r"\sin 30^\circ", r"\frac12", False),
    ("5!", "120", True),
    # expressions and equations
    ("x^2+2x+1", "(x+1)^2", True),
    ("x^2+2x+1", "x^2+2x", False),
    ("2x", "x+x", True),
    ("y=2x+3", "2x+3", True),
    ("x=5", "5", True),
    ("5", "x=5", True),
    ("y=2x+3", "y=3+2x", True),
    ("x", "y", False),
    # tuples, sets, intervals, matrices
    ("(1,2)", "(1, 2)", True),
    ("(1,2)", "(2,1)", False),
    (r"\left(3,\frac{\pi}{2}\right)", r"(3,\pi/2)", True),
    (r"\{1,2,3\}", r"\{3,2,1\}", True),
    (r"\{1,2,3\}", r"\{1,2\}", False),
    ("1,2,3", "3,2,1", True),
    ("1,2", "1", False),
    (r"1 \text{ and } 2", "1, 2", True),
    ("[2,5)", "[2, 5)", True),
    ("[2,5)", "(2,5)", False),
    (r"(-\infty,3]", r"(-\infty, 3]", True),
    (r"(-\infty,1)\cup(2,\infty)", r"(2,\infty)\cup(-\infty,1)", True),
    (r"x \in [2,5)", "[2,5)", True),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", True),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}", False),
    (r"\emptyset", r"\{\}", True),
    # units and text
    ("5", r"5\text{ cm}", True),
    ("5", r"5\,\text{cm}^2", True),
    (r"90^\circ", "90", True),
    (r"\$18.90", "18.90", True),
    ("18", "18 dollars", False),
    (r"\text{Evelyn}", r"\text{Evelyn}", True),
    (r"\text{Evelyn}", "Evelyn", True),
    (r"\text{Evelyn}", r"\text{Carla}", False),
    (r"\text{(C)}", "C", True),
    (r"\text{even}", r"\text{odd}", False),
    # where the answer stands
    ("42", "The final answer is 42", True),
    ("42", "First $\\boxed{7}$, then corrected: $\\boxed{42}$", True),
    ("42", "I do not know.", False),
    ("42", "", False),
    ("42", r"\boxed{", False),
    ("42", r"$\boxed{\frac{}{}}$", False),
    ("42", "}{" * 50, False),
    ("42", r"\boxed{" * 200, False),
]


def full(answer: str) -> str:
    whole = any(word in answer for word in ("boxed", "answer", "know"))
    return answer if whole or not answer or answer.startswith("}") else BOX % answer


def test_the_table_is_large_enough():
    assert len(PAIRS) >= 80 and sum(not right for *_, right in PAIRS) > 20


def test_table():
    wrong = [
        (gold, answer, verdict)
        for gold, answer, right in PAIRS
        for verdict in published_maths.grade_maths(gold, [full(answer)])
        if (verdict.outcome == "passed") != right or verdict.outcome == "error"
    ]
    assert not wrong


HOSTILE = [
    r"\boxed{9^{9^{9^{9}}}}",
    r"\boxed{" + "9" * 6000 + "}",
    r"\boxed{10^{10^{10}}}",
    r"\boxed{100000000!}",
    r"\boxed{\binom{10^9}{5*10^8}}",
    r"\boxed{" + "(" * 3000 + ")" * 3000 + "}",
    r"\boxed{__import__('os').system('touch /tmp/kit-was-here')}",
    "the answer is: __import__('os').abort()",
    r"\boxed{\int_0^1 x^{x^{x^x}} dx}",
    r"\boxed{\sum_{n=1}^{10^{9}} n^n}",
]


@pytest.mark.slow
def test_no_answer_blocks_the_run_or_runs_code(monkeypatch):
    monkeypatch.setattr(published_maths, "SECONDS", 1.0)
    began = time.monotonic()
    verdicts = published_maths.grade_maths("42", [*HOSTILE, r"\boxed{42}"])
    assert [v.outcome for v in verdicts[:-1]] == ["failed"] * len(HOSTILE), verdicts
    assert verdicts[-1].outcome == "passed"
    # Each costs its limit and a new worker.
    assert time.monotonic() - began < 300
    assert not Path("/tmp/kit-was-here").exists()


def test_what_takes_too_long_is_killed_and_the_next_is_judged(monkeypatch):
    monkeypatch.setattr(published_maths, "SECONDS", 1.0)
    monkeypatch.setattr(published_maths, "_compare", spins)
    (verdict,) = published_maths.grade_maths("1", ["x"])
    assert (verdict.outcome, verdict.reason) == ("failed", Reason.TIMEOUT)
    monkeypatch.undo()
    assert published_maths.grade_maths("1", [r"\boxed{1}"])[0].outcome == "passed"


def test_an_answer_that_got_no_cpu_is_an_error_not_a_zero(monkeypatch):
    monkeypatch.setattr(published_maths, "SECONDS", 0.2)
    monkeypatch.setattr(published_maths, "_compare", starves)
    (verdict,) = published_maths.grade_maths("1", ["x"])
    assert verdict.outcome == "error" and "too busy" in verdict.reason


def test_a_worker_that_dies_twice_is_an_error_not_a_zero(monkeypatch):
    monkeypatch.setattr(published_maths, "_compare", dies)
    assert published_maths.grade_maths("1", ["x"])[0].outcome == "error"


def test_an_expected_answer_that_cannot_be_read_is_an_error():
    assert published_maths.grade_maths("", [r"\boxed{1}"])[0].outcome == "error"


def spins(gold, completion, seconds):  # fakes, for a worker process
    signal.setitimer(signal.ITIMER_PROF, seconds)
    while True:
        pass


def starves(gold, completion, seconds):
    signal.setitimer(signal.ITIMER_PROF, seconds)
    time.sleep(60)


def dies(gold, completion, seconds):
    import os

    os._exit(3)


# ------------------------------------------------------------------ the files


def write(folder):
    (there := folder / "MATH-500").mkdir()
    rows = [
        {
            "problem": f"What is {k}+{k}?",
            "solution": "",
            "answer": str(2 * k),
            "subject": "Algebra",
            "level": k % 5 + 1,
            "unique_id": f"test/algebra/{k}.json",
        }
        for k in range(500)
    ]
    (there / "test.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (there := folder / "aime_2024" / "data").mkdir(parents=True)
    pd.DataFrame(
        [
            {
                "id": k,
                "problem": f"Find {k}.",
                "solution": "",
                "answer": f"{k:03}",
                "url": "",
                "year": "2024",
            }
            for k in range(30)
        ]
    ).to_parquet(there / "train-00000-of-00001.parquet")
    return str(folder)


def test_a_training_problem_that_repeats_a_published_one_is_contaminated(tmp_path):
    """As notebook 03 does it: with the sets that are here, and the others named."""
    from kit import evaluation, filters
    from kit.benchmarks.published import published_items
    from kit.core import profile
    from kit.core.manifest import ROOT
    from kit.core.types import Problem

    asked = {"evaluation.math500": 500, "evaluation.aime24": 30, "evaluation.livecodebench": 5}
    loaded = profile.load_profile("cpu", {**asked, "evaluation.folder": write(tmp_path)})
    items, skipped = published_items(loaded.evaluation)
    assert {item.set for item in items} == {"math500", "aime24"}
    assert "livecodebench" in skipped
    known = evaluation.texts(items)["math500"][0]
    limits = loaded.filters.model_copy(update={"contamination_ngram": 4})
    facts = {"environment": "deduction", "n": 8, "solved": 4}
    copied = Problem(program="def f(x):\n    return x", message=f"So: {known}", **facts)
    own = Problem(program="def f(x):\n    return -x", message="Turn the sign", **facts)
    out = filters.apply([copied, own], limits, evaluation.texts(items))
    assert [problem.dropped_by for problem in out] == ["contaminated", ""]
    assert out[0].reason.startswith("math500: ")
    code = (ROOT / "notebooks" / "03_filters.ipynb").read_text(encoding="utf-8")
    assert 0 < code.index("items += published") < code.index("evaluation.texts(items)")


def test_the_files_are_read(tmp_path):
    folder = write(tmp_path)
    found = published_maths.published_maths_items("math500", 500, folder=folder)
    assert len(found) == 500 and {i.group for i in found} == {f"level {k}" for k in range(1, 6)}
    some = published_maths.published_maths_items("math500", 7, seed=1, folder=folder)
    again = published_maths.published_maths_items("math500", 7, seed=1, folder=folder)
    assert [i.id for i in some] == [i.id for i in again]
    assert len(some) == 7
    assert r"\boxed{}" in some[0].messages[-1]["content"]
    drawn = published_maths.published_maths_items("aime24", 30, folder=folder)
    aime = {item.id: item for item in drawn}
    assert len(aime) == 30
    assert aime["aime24/7"].grade([r"\boxed{7}", r"\boxed{8}"], None)[0].outcome == "passed"


def test_changed_files_are_refused_by_what_changed(tmp_path):
    folder = write(tmp_path)
    file = tmp_path / "MATH-500" / "test.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:499]))
    with pytest.raises(FormatError, match="has 499 problems, not 500"):
        published_maths.published_maths_items("math500", 500, folder=folder)
    file.write_text("\n".join(lines).replace('"answer"', '"final"'))
    with pytest.raises(FormatError, match="has no answer; it has problem, solution, final"):
        published_maths.published_maths_items("math500", 500, folder=folder)
    file.write_text("\n".join(lines)[:-9])
    with pytest.raises(FormatError, match="cannot be read"):
        published_maths.published_maths_items("math500", 500, folder=folder)
    with pytest.raises(Unavailable, match="put the files of HuggingFaceH4/aime_2024 there"):
        published_maths.published_maths_items("aime24", 30, folder=str(tmp_path / "nowhere"))


# ------------------------------------------------------------------ lm-eval


@pytest.mark.slow
def test_lm_eval_judges_the_same_answers_alike(tmp_path):
    """Its `math_verify` score of minerva_math, read out of the published wheel.

    That file is run on our own table only.
    """
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
            tmp_path,
            "lm-eval==0.4.13",
        ],
        capture_output=True,
        text=True,
    )
    if pip.returncode:
        pytest.skip(f"the registry does not give lm-eval: {pip.stderr[-200:]}")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        text = wheel.read("lm_eval/tasks/minerva_math/utils.py").decode()
    (tmp_path / "theirs.py").write_text(re.sub(r'    assert version\("antlr4.*\n', "", text))
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import theirs\n"
        "theirs.is_equiv = lambda a, b: False\n"
        "out = []\n"
        "for g, c in json.load(sys.stdin):\n"
        "    row = {'solution': '$\\\\boxed{' + g + '}$', 'answer': g}\n"
        "    out.append(theirs.process_results(row, [c])['math_verify'])\n"
        "print(json.dumps(out))"
    )
    asked = [(gold, full(answer)) for gold, answer, _ in PAIRS]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.strip().splitlines()[-1])
    assert not [(p, them) for p, them in zip(PAIRS, theirs) if bool(them) != p[2]]
