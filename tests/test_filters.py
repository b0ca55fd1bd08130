import math

import pytest

from kit import filters
from kit.core.config import FiltersConfig
from kit.core.types import Problem, digest
from kit.sandbox import Sandbox
from kit.yields import equal_budget, funnel_table, sensitivity_table, yield_table

LIMITS = FiltersConfig(p_min=0.01, p_max=0.97, similarity=0.85, probes=8, contamination_ngram=8)
PROGRAM = '''def f(words):
    """Counts long words."""
    total = 0
    for word in words:
        if len(word) > {n}:
            total += len(word) * {m}
    return total'''
RENAMED = """def f(items: list[str]) -> int:
    # another comment
    acc = 0
    for x in items:
        if len(x) > 3:
            acc += len(x) * 2
    return acc"""
OTHER = """def f(n):
    out = []
    while n:
        n, digit = divmod(n, 10)
        out.append(digit)
    return out[::-1]"""


def problem(program=None, **changes):
    base = {
        "environment": "deduction",
        "program": program or PROGRAM.format(n=3, m=2),
        "inputs": ["['a']"],
        "outputs": ["0"],
        "seed_id": "s",
        "n": 8,
        "solved": 4,
    }
    return Problem(**{**base, **changes})


def reasons(problems, limits=LIMITS, evaluation=None):
    return [x.dropped_by for x in filters.apply(problems, limits, evaluation or {})]


def test_a_problem_is_kept_and_the_input_is_left_alone():
    given = problem()
    (kept,) = filters.apply([given], LIMITS, {})
    assert kept.kept and kept.dropped_by == "" and not given.kept


@pytest.mark.parametrize(
    "solved, n, expected",
    [
        (0, 8, "unsolved"),
        (1, 8, ""),
        (7, 8, ""),
        (8, 8, "too easy"),
        (1, 32, ""),
        (31, 32, ""),
        (32, 32, "too easy"),
        (1, 200, "unsolved"),
        (1, 100, ""),
        (97, 100, ""),
        (98, 100, "too easy"),
        (0, 0, "ungraded"),
    ],
)
def test_pass_rate_edges(solved, n, expected):
    assert reasons([problem(solved=solved, n=n)]) == [expected]


def test_never_solved_goes_even_without_a_lower_limit():
    assert reasons([problem(solved=0)], LIMITS.model_copy(update={"p_min": 0.0})) == ["unsolved"]


def test_the_first_reason_counts_and_the_detail_stays():
    invalid = problem(status="invalid", reason="no code", n=0, solved=0)
    error = problem(status="error", reason="engine died", n=0, solved=0)
    unsolved_twin = problem(solved=0)
    out = filters.apply([problem(), invalid, error, unsolved_twin], LIMITS, {})
    assert [x.dropped_by for x in out] == ["", "invalid", "error", "duplicate"]
    assert [x.reason for x in out[1:3]] == ["no code", "engine died"]


def test_invalid_and_ungraded_problems_make_no_duplicates():
    assert reasons([problem(status="invalid"), problem(n=0, solved=0), problem()]) == [
        "invalid",
        "ungraded",
        "",
    ]


def test_renaming_comments_annotations_and_docstrings_do_not_make_a_new_problem():
    assert reasons([problem(), problem(RENAMED)]) == ["", "duplicate"]


def test_another_input_does_not_make_a_new_problem():
    assert reasons([problem(), problem(inputs=["['abcd']"], outputs=["8"], message="else")]) == [
        "",
        "duplicate",
    ]


def test_swapped_operands_and_other_constants_are_other_problems():
    programs = [
        "def f(a, b):\n    return a - b",
        "def f(a, b):\n    return b - a",
        "def f(a, b):\n    return a - b - 7",
    ]
    assert reasons([problem(x) for x in programs]) == ["", "", ""]


def test_similarity_is_the_exact_jaccard_of_the_shingles():
    a, b = problem(), problem(PROGRAM.format(n=3, m=9))
    one, two = filters.shingles(a), filters.shingles(b)
    jaccard = len(one & two) / len(one | two)
    assert 0.5 < jaccard < 1
    at, above = (LIMITS.model_copy(update={"similarity": s}) for s in (jaccard, jaccard + 1e-6))
    assert reasons([a, b], at) == ["", "duplicate"]
    assert reasons([a, b], above) == ["", ""]


def test_duplicates_stay_within_method_and_environment():
    given = [
        problem(),
        problem(method="single"),
        problem(environment="abduction"),
        problem(method="single"),
    ]
    assert reasons(given) == ["", "", "", "duplicate"]


def test_fuzzing_tests_are_part_of_the_problem():
    def fuzz(test):
        return problem(
            "def f(x):\n    return x",
            environment="fuzzing",
            pre_test="def pre_test_f(x):\n    return True",
            test=test,
        )

    a = "def test_f(x):\n    assert f(x) < 6"
    b = "def test_f(x):\n    assert sorted(f(x)) == list(reversed(x)) or not x"
    assert reasons([fuzz(a), fuzz(b), fuzz(a)]) == ["", "", "duplicate"]


def test_many_different_programs_are_no_duplicates_and_their_copies_all_are():
    programs = [
        PROGRAM.format(n=k, m=k + 1).replace("+=", op).replace(">", cmp)
        for k in range(3)
        for op in ("+=", "-=", "^=")
        for cmp in (">", "<")
    ]
    strict = LIMITS.model_copy(update={"similarity": 1.0})
    out = reasons([problem(x) for x in programs + programs], strict)
    assert out == [""] * len(programs) + ["duplicate"] * len(programs)


def test_code_that_this_python_cannot_parse_is_compared_as_text():
    assert reasons(
        [problem("def f(:"), problem("def f(:", inputs=["1"]), problem("match £ :")]
    ) == ["", "duplicate", ""]


def test_contaminated_by_one_shared_ngram_of_words_across_case_and_punctuation():
    text = "Return the SUM of all even numbers in the list, please."
    hit = problem(message="we return the sum of all even numbers; in no case odd")
    miss = problem(OTHER, message="return the sum of all even digits in the list")
    assert reasons([hit, miss], evaluation={"HumanEval": ["short", text]}) == ["contaminated", ""]
    (found,) = filters.apply([hit], LIMITS, {"maths": ["nothing"], "HumanEval": [text]})
    assert found.reason == "HumanEval: return the sum of all even numbers in"
    assert reasons(
        [hit], LIMITS.model_copy(update={"contamination_ngram": 9}), {"HumanEval": [text]}
    ) == [""]


def test_contamination_is_told_per_set():
    statement = (
        "def f(words): total = 0 for word in words: if len(word) > 3: total += len(word) * 2"
    )
    hit, other = problem(), problem(OTHER)
    dropped = filters.apply([hit, other], LIMITS, {"humaneval": [statement]})
    # As if the filter had not known the set.
    late = [p.with_(kept=True, dropped_by="") for p in dropped]
    found = filters.contamination(dropped, {"humaneval": [statement], "maths": ["1 + 1"]}, 8)
    assert found.values.tolist() == [["humaneval", 1, 1, 0], ["maths", 1, 0, 0]]
    assert filters.contamination(late, {"humaneval": [statement]}, 8).left.tolist() == [1]
    # A set whose name begins with another's.
    sets = {"humaneval": ["1 + 1"], "humaneval_v5": [statement]}
    dropped = filters.apply([hit], LIMITS, sets)
    acts = other.with_(dropped_by="contaminated", reason="returns the same as humaneval_v5/23")
    assert filters.contamination([*dropped, acts], sets, 8).dropped.tolist() == [0, 2]


def test_behaviour_finds_twins_that_are_written_differently_and_references():
    same = "def f(n):\n    return [int(c) for c in str(n)] if n else []"
    inputs = ["12", "305", "7", "44", "9"]
    given = [
        problem(OTHER, inputs=inputs),
        problem(same, inputs=["9", "1"]),
        problem("def f(n):\n    return n % 2", inputs=["1"]),
        problem("def f(n):\n    return 3 - n % 2 - 2", inputs=["2"]),
        problem("def f(n):\n    return n * n", inputs=["3"]),
    ]
    with Sandbox(workers=1) as box:
        found = filters.behaviour(
            given,
            8,
            {"set/square": "def f(n):\n    return n ** 2", "set/other": "def f(n): return -n"},
            box,
        )
    assert found.of[given[0].id] == found.of[given[1].id], "the same digits, written in two ways"
    assert given[2].id not in found.of, "too few different values to tell"
    out = filters.apply(given, LIMITS, {}, found)
    assert [x.dropped_by for x in out] == ["", "duplicate", "", "", "contaminated"]
    assert (
        out[1].reason == f"returns the same as {given[0].id}"
        and out[4].reason == "returns the same as set/square"
    )


def test_a_program_that_is_stopped_has_no_behaviour():
    """How far it came is a matter of the machine: two runs of one program would differ."""
    inputs = ["1", "2", "3", "4", "5", "6"]
    *_, last = sorted(inputs, key=digest)
    slow = problem(f"def f(n):\n    while n == {last}:\n        pass\n    return n", inputs=inputs)
    with Sandbox(workers=1, timeout=0.3) as box:
        assert not filters.behaviour([slow], 8, {}, box).of


def test_behaviour_of_fuzzing_problems_is_that_of_their_tests_too():
    def fuzz(limit):
        return problem(
            "def f(x):\n    return x % 7",
            environment="fuzzing",
            inputs=["1", "2", "3", "4", "5", "6"],
            pre_test="def pre_test_f(x):\n    return True",
            test=f"def test_f(x):\n    return f(x) < {limit}",
        )

    a = fuzz(3)
    b = fuzz(5)
    c = fuzz(3).with_(message="else")
    with Sandbox(workers=1) as box:
        found = filters.behaviour([a, b, c], 8, {}, box)
    assert found.of[a.id] != found.of[b.id] and found.of[a.id] == found.of[c.id]


def test_both_methods_get_the_same_budget_of_tokens_and_of_attempts():
    multi = [problem(turn=t, chain_id="m", teacher_tokens=100) for t in (1, 2, 3)]
    single = [
        problem(method="single", turn=t, chain_id="s", teacher_tokens=60)
        for t in (1, 2, 3, 4, 5, 6)
    ]
    lost = problem(method="single", status="error", dropped_by="error", teacher_tokens=900)
    stones = [problem(method="stones", turn=1, teacher_tokens=9000)]
    taken = equal_budget([*single, *multi, lost, *stones])
    assert taken.method.value_counts().to_dict() == {"multi": 3, "single": 3}, (
        "attempts run out first: three problems each"
    )
    assert taken.produced.sum() == 6 and taken.attempts.sum() == 48
    row = yield_table([*single, *multi, lost]).iloc[-1]
    assert (row.multi_tokens, row.single_tokens, row.multi_attempts, row.single_attempts) == (
        300,
        180,
        24,
        24,
    )
    cheap = equal_budget([*single[:2], *multi])
    assert sorted(zip(cheap.method, cheap.turn)) == [("multi", 1), ("single", 1), ("single", 2)], (
        "120 tokens are one turn of the chain"
    )
    alone = equal_budget(multi)
    assert alone.turn.tolist() == [1, 2, 3], "where only one method was run, nothing is cut"


def test_sensitivity_changes_one_choice_at_a_time():
    table = sensitivity_table(
        [problem(), problem(PROGRAM.format(n=3, m=9)), problem(OTHER)],
        LIMITS,
        {},
        filters.Behaviour(),
    )
    assert set(table.choice) == {"similarity", "contamination_ngram", "behaviour"}
    assert table[table.chosen].choice.tolist() == ["similarity", "contamination_ngram", "behaviour"]
    kept = table[table.choice == "similarity"].set_index("setting").kept
    assert kept["0.95"] == 3 and kept["0.7"] <= 3 and kept.is_monotonic_increasing


@pytest.mark.parametrize("given", [[], [problem(method="best_of")]])
def test_sensitivity_of_no_compared_method_has_no_ratio(given):
    table = sensitivity_table(given, LIMITS, {}, filters.Behaviour())
    assert len(table) > 6 and table.ratio.isna().all()


def test_funnel_counts_all_and_leaves_our_errors_out_of_the_shares():
    given = [
        problem(),
        problem(),
        problem(OTHER, solved=0),
        problem(status="error"),
        problem(method="single", solved=8),
    ]
    out = funnel_table(filters.apply(given, LIMITS, {}))
    assert out["count"].sum() == 5
    multi = out[out["method"] == "multi"].set_index("dropped_by")
    assert list(multi.index) == ["error", "duplicate", "unsolved", "kept"]
    assert multi["share"].drop("error").tolist() == pytest.approx([1 / 3] * 3) and math.isnan(
        multi["share"]["error"]
    )
    assert funnel_table([]).columns.tolist() == [
        "method",
        "environment",
        "dropped_by",
        "count",
        "share",
    ]


def made(seeds, kept_multi, kept_single, each=4, environment="deduction"):
    """`each` problems per seed and method, of which the first so many are kept."""
    return [
        problem(
            environment=environment,
            seed_id=f"s{s}",
            method=m,
            kept=k < kept,
            dropped_by="" if k < kept else "too easy",
        )
        for s in range(seeds)
        for m, kept in (("multi", kept_multi), ("single", kept_single))
        for k in range(each)
    ]


def test_yields_of_equal_seeds_have_no_spread():
    row = yield_table(made(6, 4, 1)).set_index("environment").loc["all"]
    assert (row["seeds"], row["multi_produced"], row["multi_kept"], row["single_kept"]) == (
        6,
        24,
        24,
        6,
    )
    assert (row["multi_share"], row["single_share"]) == (1.0, 0.25)
    assert (row["ratio"], row["low"], row["high"]) == (4.0, 4.0, 4.0)


def test_errors_are_in_no_share():
    lost = [
        problem(seed_id="s0", method="single", status="error", dropped_by="error")
        for _ in range(50)
    ]
    assert yield_table(made(6, 4, 1) + lost)["single_share"].tolist() == [0.25, 0.25]


def test_the_bootstrap_draws_seeds_and_not_problems():
    good = made(1, 4, 1, each=40)
    bad = [x.with_(seed_id="bad") for x in made(1, 4, 1, each=40)]
    bad = [x.with_(kept=False, dropped_by="too easy") if x.method == "multi" else x for x in bad]
    row = yield_table(good + bad).iloc[-1]
    assert row["ratio"] == 2.0 and (row["low"], row["high"]) == (0.0, 4.0)


def test_few_kept_single_problems_open_the_interval_upwards():
    few = made(1, 2, 1) + [x.with_(seed_id=x.seed_id + "b") for x in made(5, 2, 0)]
    row = yield_table(few).iloc[-1]
    assert row["ratio"] == pytest.approx(12.0) and math.isinf(row["high"]) and row["low"] < 12


def test_a_resample_without_a_ratio_is_the_worst_case_on_both_sides():
    row = yield_table(made(1, 2, 1) + [x.with_(seed_id="none") for x in made(1, 0, 0)]).iloc[-1]
    assert row["ratio"] == 2.0 and row["low"] == 0 and math.isinf(row["high"])


def test_a_ratio_that_does_not_exist_has_no_interval():
    none_single, neither, one_seed = made(5, 2, 0), made(5, 0, 0), made(1, 2, 1)
    only_multi = [x for x in made(5, 2, 1) if x.method == "multi"]
    rows = [yield_table(x).iloc[-1] for x in (none_single, neither, only_multi, one_seed)]
    assert (
        math.isinf(rows[0]["ratio"])
        and math.isnan(rows[1]["ratio"])
        and math.isnan(rows[2]["ratio"])
        and rows[3]["ratio"] == 2
    )
    assert all(math.isnan(r["low"]) and math.isnan(r["high"]) for r in rows)


def test_yields_are_per_environment_and_repeatable():
    given = made(4, 3, 1) + made(4, 1, 1, environment="fuzzing")
    out = yield_table(given, seed=3)
    assert out["environment"].tolist() == ["deduction", "fuzzing", "all"] and out[
        "ratio"
    ].tolist() == [3, 1, 2]
    assert out.equals(yield_table(given, seed=3))
    assert yield_table([]).empty
