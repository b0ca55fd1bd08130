import ast
import json
import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from kit import curriculum, difficulty, filters, findings
from kit.core import records
from kit.core.config import FiltersConfig
from kit.core.manifest import ROOT
from kit.core.stats import mean_interval, moved
from kit.core.types import Problem
from kit.display import figures
from kit.display.figures.common import BIN_COLOURS, DOTS_BELOW, ENVIRONMENT_COLOURS
from kit.schedules import schedule_table
from kit.teacher import teacher_quality
from kit.yields import funnel_table, sensitivity_table, yield_table

LIMITS = FiltersConfig(p_min=0.01, p_max=0.97, similarity=1.0, probes=8, contamination_ngram=20)


@pytest.fixture(autouse=True)
def styled_and_closed():
    figures.style()
    yield
    plt.close("all")


def problems(seeds=8, turns=3):
    rng, out = np.random.default_rng(0), []
    for s in range(seeds):
        for method in ("multi", "single"):
            parent = ""
            for t in range(1, turns + 1):
                x = Problem(
                    environment=list(ENVIRONMENT_COLOURS)[s % 4],
                    seed_id=f"s{s}",
                    chain_id=f"c{s}{method}",
                    method=method,
                    turn=t,
                    program=f"def f():\n    return {s}, {t}, {method!r}",
                    parent_id=parent,
                    n=8,
                    solved=int(rng.integers(0, 9)),
                    asked="new" if t == 1 else str(rng.choice(["harder", "easier", "vary"])),
                    **(
                        {"status": "invalid", "reason": "not deterministic: time"}
                        if s == 3 and t == 2
                        else {}
                    ),
                )
                out.append(x.with_(n=0, solved=0) if x.status == "invalid" else x)
                parent = x.id
    return filters.apply(out, LIMITS, {})


PASS = pd.DataFrame(
    [
        ("before", "maths", 1, 24, 0.2, 0.1, 0.3, "greedy"),
        ("before", "maths", 4, 24, 0.4, 0.3, 0.5, "sampled"),
        ("after", "maths", 4, 24, 0.5, 0.4, 0.6, "sampled"),
        ("after", "code", 1, 6, 0.5, 0.4, 0.6, "sampled"),
    ],
    columns=["checkpoint", "set", "k", "n_problems", "value", "low", "high", "mode"],
)
LOG = pd.DataFrame(
    {"step": range(10), "reward": np.linspace(0, 1, 10), "entropy": [np.nan] * 10, "step_time": 1.0}
)
PAIRED = pd.DataFrame(
    {"set": "maths", "problem_id": list("abc"), "before": [0, 0.5, 1], "after": [0.5, 0.5, 0.25]}
)
FORM = pd.DataFrame({"set": ["maths", "real"], "n": [12, 3], "change": [-0.02, 0.0]})
FORM = FORM.assign(
    by_form=[-0.05, 0], by_skill=[0.03, 0], malformed_before=0.1, malformed_after=0.2
)
FORM = FORM.assign(cut_off_before=0.0, cut_off_after=0.5)
CURVES = pd.DataFrame(
    {"step": [0, 1, 0, 1], "value": [0, 0.5, 0.1, 0.4], "arm": "a", "seed": [0, 0, 1, 1]}
)
STONES = pd.DataFrame(
    [
        ("c1", "fuzzing", "hard", 0.1, True),
        ("c1", "fuzzing", "medium", 0.5, True),
        ("c1", "fuzzing", "easy", 0.9, True),
        ("c2", "deduction", "hard", 0.5, False),
        ("c2", "deduction", "medium", np.nan, False),
    ],
    columns=["chain_id", "environment", "asked", "p", "kept"],
)
CLAIMS = pd.DataFrame(
    [
        {
            "claim": "F6",
            "comparison": "a − b",
            "mode": mode,
            **dict(value=0.1, low=-0.05, high=0.25, null=0.0, seeds=3, problems=40, smallest=0.2),
            "part": "undecided" if mode == "sampled" else "no vote",
            "verdict": "undecided",
            "why": "",
        }
        for mode in ("sampled", "greedy")
    ]
    + [
        {
            "claim": "F1b",
            "comparison": "multi / single",
            "mode": "sampled",
            **dict(value=0.9, low=0.5, high=1.6, null=4.0, seeds=40, problems=40, smallest=5.0),
            "part": "contradicted",
            "verdict": "contradicted",
            "why": "",
        },
        {
            "claim": "F8",
            "comparison": "variance",
            "mode": "sampled",
            **dict(null=1.0, seeds=2, problems=0),
            "part": "not tested at this scale",
            "verdict": "not tested at this scale",
            "why": "2 seeds, 8 are needed",
        },
    ],
    columns=findings.BOARD,
)
ARMS = pd.DataFrame(
    [
        ("before training", "easy", 0.5, 20, 1),
        ("uniform", "easy", 0.6, 20, 3),
        ("uniform", "maths", 0.2, 30, 3),
    ],
    columns=["arm", "of", "value", "problems", "seeds"],
)
MOVES = pd.DataFrame(
    [
        ("uniform", 0, "maths", 0.1, 0.0, 30),
        ("uniform", 1, "maths", 0.2, 0.1, 30),
        ("easy", 0, "synthetic", -0.1, 0.1, 20),
    ],
    columns=["arm", "seed", "set", "sampled", "greedy", "problems"],
)
SEEDS = pd.DataFrame(
    [
        ("wild", "train", "rich", 30),
        ("wild", "held_out", "rich", 25),
        ("real", "train", "codeio", 12),
    ],
    columns=["source", "split", "package", "lines"],
)
PLOTS = {
    "seeds": (figures.draw_seeds, lambda x: SEEDS[: len(x)]),
    "board": (figures.draw_board, lambda x: CLAIMS[: len(x)]),
    "heat": (figures.draw_heat, lambda x: ARMS[: len(x)]),
    "sharpening": (figures.draw_sharpening, lambda x: MOVES[: len(x)]),
    "pass_rates": (figures.draw_pass_rates, records.problems_frame),
    "slopes": (figures.draw_slopes, records.problems_frame),
    "lineage": (figures.draw_lineage, records.problems_frame),
    "funnel": (figures.draw_funnel, funnel_table),
    "ratio": (figures.draw_ratio, yield_table),
    "bins": (figures.draw_bins, lambda x: difficulty.assign(x, "broad")),
    "curriculum": (figures.draw_curriculum, lambda x: schedule_table("soft", 40)[: 3 * len(x) + 3]),
    "groups": (figures.draw_groups, lambda x: PASS.assign(group="easy")[: len(x)]),
    "health": (figures.draw_health, lambda x: LOG[: len(x)]),
    "pass_at_k": (figures.draw_pass_at_k, lambda x: PASS[: len(x)]),
    "quality": (figures.draw_teacher_quality, lambda x: teacher_quality(x)[: 5 * len(x)]),
    "sensitivity": (
        figures.draw_sensitivity,
        lambda x: sensitivity_table(x, LIMITS, {}, filters.Behaviour())[: 4 * len(x)],
    ),
    "stones": (
        lambda df, label: figures.draw_stepping_stones(df, STONES[:3], label),
        lambda x: STONES[: 2 * len(x)],
    ),
    "stones of no whole chain": (
        lambda df, label: figures.draw_stepping_stones(df, STONES[:0], label),
        lambda x: STONES[: 2 * len(x)],
    ),
    "form": (figures.draw_form_and_skill, lambda x: FORM[: len(x)]),
    "paired": (figures.draw_paired, lambda x: PAIRED[: len(x)]),
    "learning": (figures.draw_learning, lambda x: CURVES[: len(x)]),
}
# Of these there is always something: no note says that there is none.
NEVER_EMPTY = {"seeds", "board", "bins", "curriculum", "health", "quality", "sensitivity"}
SIZES = [
    (name, size) for name in PLOTS for size in (0, 1, 2, 12, 200) if size or name not in NEVER_EMPTY
]


def texts(drawn):
    figure = drawn.figure
    figure.canvas.draw()
    found = [t for t in figure.findobj(plt.Text) if t.get_text() and t.get_visible()]
    return [t.get_text().replace("\n", " ") for t in found]


def title(drawn) -> str:
    """Of the figure, in one line."""
    return (drawn.figure.get_suptitle() or drawn.get_title(loc="left")).replace("\n", " ")


def test_every_figure_of_a_notebook_says_its_scale_and_where_its_data_come_from():
    """A call that draws gets a label: of the run, a study, recorded data or the miniature."""
    said = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        drawn = code.count("figures.draw_")
        calls = [
            text
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Call)
            and (text := ast.unparse(node)).startswith(
                ("figures.draw_", "functools.partial(figures")
            )
        ]
        assert len(calls) == drawn, path.name
        said += calls
    wanted = re.compile(r"run\.(label|scale)|label=(label|note|LABEL|MINIATURE)\b")
    assert len(said) > 20 and [text for text in said if not wanted.search(text)] == []


@pytest.mark.filterwarnings("error", "default::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("name", "size"), SIZES)
def test_every_figure_survives_every_size_and_carries_its_label(name, size):
    plot, frame = PLOTS[name]
    drawn = plot(frame(problems(40)[:size]), label=" (recorded data)")
    said = texts(drawn)
    assert title(drawn).endswith(" (recorded data)")
    if not size:
        assert any(t.startswith(("no ", "nothing ")) for t in said)
        assert not re.search(r"\d", title(drawn)), "no finding without data"
    # The whole title is in the picture, above what is drawn.
    figure = drawn.figure
    (head,) = [t for t in figure.texts if t.get_text() == figure.get_suptitle()]
    box = head.get_window_extent()
    assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    assert box.y0 >= max(ax.get_window_extent().y1 for ax in figure.axes)


@pytest.mark.parametrize("name", sorted(PLOTS.keys() - {"curriculum"}))
def test_a_title_has_its_n_and_follows_the_data(name):
    plot, frame = PLOTS[name]
    few, many = (title(plot(frame(problems(40)[:size]), label="")) for size in (1, 200))
    assert re.search(r"n = \d|\b[Oo]f \d|\d settings", many) and few != many


@pytest.mark.parametrize("name", ["curriculum", "learning"])
def test_a_given_axis_is_used(name):
    plot, frame = PLOTS[name]
    ax = plt.subplots()[1]
    assert plot(frame(problems()), ax=ax) is ax and len(plt.get_fignums()) == 1


def test_every_graded_problem_is_a_dot_and_bars_keep_the_counts():
    few = [x for x in problems() if x.method == "single" and x.n]
    ax = figures.draw_pass_rates(records.problems_frame(few))
    assert sum(len(c.get_offsets()) for c in ax.collections) == len(few) < DOTS_BELOW
    many = [x for x in problems(40) if x.method == "single" and x.n]
    ax = figures.draw_pass_rates(records.problems_frame(many))
    heights = sum(
        p.get_height() for p in ax.patches if p.get_width() < 0.11 and p.get_height() < 0.9
    )
    tallest = pd.Series([x.solved for x in many]).value_counts().max()
    assert heights == pytest.approx(0.85 * len(many) / tallest)


def test_slopes_link_a_problem_to_the_one_before_it_in_its_own_chain():
    a = Problem(environment="fuzzing", program="a", chain_id="1", n=8, solved=8)
    b = Problem(
        environment="fuzzing",
        program="b",
        chain_id="1",
        turn=2,
        asked="harder",
        parent_id=a.id,
        n=8,
        solved=2,
    )
    stranger = b.with_(chain_id="2", program="c")
    ungraded = b.with_(program="d", n=0, solved=0)
    text = texts(figures.draw_slopes(records.problems_frame([a, b, stranger, ungraded])))
    assert (
        "harder mean -0.75, n = 1" in text and "1 pair of graded turns, 1 chain, bold: mean" in text
    )


def test_lineage_marks_what_was_dropped_with_its_reason():
    given = [x for x in problems() if x.chain_id == "c3multi"]
    text = texts(figures.draw_lineage(records.problems_frame(given)))
    assert "not deterministic" in text and "fuzzing · c3multi" in text
    assert (
        len(figures.draw_lineage(records.problems_frame(problems(20)), most=4).axes) == 6
    )  # 4 in a grid of 2 x 3


def test_ratio_says_why_there_is_no_interval():
    frame = yield_table([])
    rows = [
        ("fuzzing", 5, 9, 3, 1 / 3, 9, 0, 0, np.inf, np.nan, np.nan),
        ("induction", 1, 9, 3, 1 / 3, 9, 1, 1 / 9, 3, np.nan, np.nan),
        ("deduction", 5, 9, 0, 0, 9, 0, 0, np.nan, np.nan, np.nan),
        ("all", 9, 27, 6, 2 / 9, 27, 1, 1 / 27, 6, 1, np.inf),
    ]
    text = texts(figures.draw_ratio(pd.DataFrame(rows, columns=frame.columns[:11])))
    assert {
        "∞: single-turn kept none",
        "no interval: one seed",
        "no ratio: nothing to divide",
        "6/27 : 1/27   9 seeds",
    } <= set(text)


def test_funnel_does_not_count_our_errors():
    given = [
        x.with_(dropped_by="error", kept=False) if x.seed_id == "s0" and x.method == "multi" else x
        for x in problems()
    ]
    text = texts(figures.draw_funnel(funnel_table(given)))
    assert (
        "multi: 21 problems (and 3 lost to our errors) · single: 24 problems" in text
        and "error" not in text
    )


def test_health_skips_what_was_not_logged_and_rates_start_at_zero():
    figure = figures.draw_health(LOG, switches=(3, 6))
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in shown] == ["reward", "seconds per step"]
    assert all(ax.get_ylim()[0] <= 0 <= ax.get_ylim()[1] for ax in shown)
    assert all(sum(line.get_linestyle() == ":" for line in ax.lines) == 2 for ax in shown)


def test_curriculum_draws_what_the_plan_realised():
    plan = curriculum.plan(
        [x for x in problems(40) if x.kept],
        "soft",
        24,
        3,
        dict.fromkeys(ENVIRONMENT_COLOURS, 1.0),
        "broad",
        0,
        {"synthetic": 1.0},
    )
    ax = figures.draw_curriculum(schedule_table("soft", 24), curriculum.realised(plan))
    assert sum(type(c).__name__ == "LineCollection" for c in ax.collections) == 4
    assert {"easy", "medium", "hard"} <= set(texts(ax))


def test_stepping_stones_are_a_line_per_chain_and_whole_chains_are_bold():
    ax = figures.draw_stepping_stones(STONES, STONES[:3])
    whole, broken = ax.lines
    assert whole.get_xydata().tolist() == [[0, 0.1], [1, 0.5], [2, 0.9]]
    assert broken.get_xydata().tolist() == [[0, 0.5]]
    assert whole.get_linewidth() > broken.get_linewidth()
    assert "2 chains; bold: each in its bin; shaded: the paper's bins" in texts(ax)


def test_difficulty_runs_from_light_to_dark():
    light = [
        sum(matplotlib.colors.to_rgb(BIN_COLOURS[b]))
        for b in ("easy", "easy-medium", "medium", "hard")
    ]
    assert light == sorted(light, reverse=True)


# ------------------------------------------------------------------ what titles say


def test_titles_of_problems_count_what_is_drawn():
    given = problems(40)
    df = records.problems_frame(given)
    dropped = [x.p < 0.01 or x.p > 0.97 for x in given if x.n]
    mean = np.mean([x.p for x in given if x.n])
    said = f"Of {len(dropped)} graded problems {np.mean(dropped):.0%} lie in the grey zones; "
    assert title(figures.draw_pass_rates(df)) == f"{said}mean pass rate {mean:.2f}"
    kept = sum(x.kept for x in given)
    said = f"Of {len(given)} problems the filters kept {kept} ({kept / len(given):.0%})"
    assert title(figures.draw_funnel(funnel_table(given))) == said
    crosses = sum(x.seed_id in ("s1", "s3") and x.method == "multi" and not x.kept for x in given)
    said = (
        f"The 2 longest of 2 chains: {crosses} of 6 turns invalid, or dropped by a filter (crosses)"
    )
    some = df[df.chain_id.isin(["c1multi", "c3multi"])]
    assert title(figures.draw_lineage(some)) == said
    bins = difficulty.assign(given, "broad")
    said = title(figures.draw_bins(bins, label=" before the filters"))
    assert f", {(bins.bin == 'hard').sum()} hard, " in said
    assert said.endswith(f"of {len(dropped)} graded problems before the filters")
    assert title(figures.draw_seeds(SEEDS)) == (
        "Of 3 seed snippets 2 are wild and 1 held out; median length 25 lines"
    )
    assert title(figures.draw_stepping_stones(STONES, STONES[:0])) == (
        "Mean pass rate of stepping stones: asked hard 0.30 (n = 2), asked medium 0.50 (n = 1), "
        "asked easy 0.90 (n = 1)"
    )


def test_slopes_say_which_changes_may_be_chance():
    def chain(s, asked, first, second):
        a = Problem(environment="fuzzing", program=f"a{s}", chain_id=s, seed_id=s, n=8)
        a = a.with_(solved=first)
        later = {"program": f"b{s}", "turn": 2, "asked": asked, "parent_id": a.id}
        return [a, a.with_(solved=second, **later)]

    moves = [("harder", 8, 2), ("harder", 7, 2), ("easier", 0, 4), ("easier", 4, 2)]
    given = [x for k, move in enumerate(moves) for x in chain(str(k), *move)]
    low, high = mean_interval([-6 / 8, -5 / 8], bounds=(-1, 1))[1:]
    wide = mean_interval([4 / 8, -2 / 8], bounds=(-1, 1))[1:]
    assert title(figures.draw_slopes(records.problems_frame(given))) == (
        f"Pass rate from turn to turn: asked harder, it fell by 0.69, 95% [{-high:.2f}, {-low:.2f}]"
        f" (n = 2 turns); asked easier, it moved by +0.12, 95% [{wide[0]:+.2f}, {wide[1]:+.2f}], "
        "which may be chance (n = 2 turns)"
    )


def test_titles_of_tables_say_their_numbers():
    quality = teacher_quality(problems())
    row = quality.set_index(["environment", "measure"]).loc["all", "valid"]
    assert f"valid {row.share:.0%} [{row.low:.0%}, {row.high:.0%}] of {row.of:.0f};" in title(
        figures.draw_teacher_quality(quality)
    )
    table = sensitivity_table(problems(), LIMITS, {}, filters.Behaviour()).assign(kept=range(9))
    said = title(figures.draw_sensitivity(table))
    chosen = table.kept[table.chosen].iloc[0]
    assert f"keep {chosen} problems, the 9 settings shown 0 to 8" in said
    ratio = yield_table(problems(40))
    for low, high in ((0.9, 2.0), (1.1, 2.0)):
        every = ratio.assign(low=low, high=high, ratio=1.5, multi_share=0.75, multi_produced=120)
        said = title(figures.draw_ratio(every))
        assert "multi-turn kept 75% of 120 problems" in said and "(n = 40 snippets)" in said
        assert f"ratio 1.50, 95% [{low:.2f}, 2.00]" in said
        assert ("may be chance" in said) == (low < 1)
    assert "ratio" not in title(figures.draw_ratio(ratio.assign(high=np.inf)))


def test_titles_of_the_training_say_its_halves_and_the_plans_shares():
    assert title(figures.draw_health(LOG.assign(frac_reward_zero_std=0.25), label=" so far")) == (
        f"Reward {np.linspace(0, 1, 10)[:5].mean():.2f} in the first half of 10 steps, "
        f"{np.linspace(0, 1, 10)[5:].mean():.2f} in the second; 25% of the groups without a signal "
        "so far"
    )
    drawn = [(0, 10, "easy", 0.5, 9), (0, 10, "hard", 0.5, 3), (10, 20, "easy", 0.25, 4)]
    plan = pd.DataFrame(drawn, columns=["from_step", "to_step", "name", "wanted", "n"])
    plan = plan.assign(kind="bin", realised=0.5)
    assert title(figures.draw_curriculum(schedule_table("soft", 20), plan, label=": soft")) == (
        "Of 16 prompts 13 are easy (7 wanted), 3 are hard (6 wanted); curriculum: soft"
    )
    steps = pd.DataFrame({"step": range(1, 9), "value": [4, 2, 0, 0, 0, 0, 1, 2], "arm": "a"})
    said = "entropy, first → last quarter of steps 1 to 8: a 3.00 → 1.50 (n = 1 seed)"
    assert title(figures.draw_learning(steps, ylabel="entropy")) == said
    alone = title(figures.draw_learning(steps.drop(columns="arm"), ylabel="entropy"))
    assert alone == said.replace("a 3.00", "3.00")
    of = steps[::7].assign(n_problems=24)
    said = title(figures.draw_learning(of, ylabel="pass@1"))
    assert (
        said == "pass@1, first → last quarter of steps 1 to 8: a 4.00 → 2.00 (n = 24) (n = 1 seed)"
    )
    assert not re.search(r"\d", title(figures.draw_learning(steps[:1])))


def test_an_arm_without_values_keeps_its_colour_and_is_not_drawn():
    both = pd.DataFrame({"step": [1, 2] * 2, "value": [0.1, 0.2, 0.3, 0.4], "arm": [*"aabb"]})
    all_drawn = figures.draw_learning(both)
    one = figures.draw_learning(both.assign(value=both.value.where(both.arm == "b")))
    colour = {text.get_text(): text.get_color() for text in all_drawn.texts}
    assert {text.get_text(): text.get_color() for text in one.texts} == {
        text: colour[text] for text in colour if text != "a"
    }


def test_titles_of_the_evaluation_tell_the_sets_that_stand_for_the_whole():
    scores = PASS[1:3].assign(k=1)
    every = pd.concat([scores.assign(set=name) for name in ("training", "maths")])
    assert title(figures.draw_pass_at_k(every)) == (
        "pass@1 0.40 [0.30, 0.50] → 0.50 [0.40, 0.60] on problems of the training (n = 24)"
    )
    groups = pd.concat(scores.assign(group=name, n_problems=5) for name in ("easy", "hard"))
    groups["value"] = [0.1, 0.5, 0.4, 0.3]
    said = "From before to after pass@1 rose in 1 of 2 groups, fell in 1 (n = 10 problems)"
    assert title(figures.draw_groups(groups)) == said
    pairs = pd.concat(PAIRED.assign(set=name) for name in ("synthetic", "maths"))
    said = "pass@1 on held-out problems (n = 3) moved by -0.08, too few for an interval"
    assert title(figures.draw_paired(pairs)) == said
    more = pd.concat([pairs] * 2, ignore_index=True).assign(seed_id=list("abcdeffedcba"))
    more["problem_id"] = list("abcabcghighi")
    said = "pass@1 on held-out problems (n = 6 of 6 snippets) "
    changes = more[more.set == "synthetic"].eval("after - before")
    change = moved(*mean_interval(changes, bounds=(-1, 1), clusters=range(6)))
    assert title(figures.draw_paired(more)) == said + change and "may be chance" in change
    better = more.assign(before=0.25, after=[0.5, 0.75, 1] * 4)
    assert "snippets) rose by 0.50, 95% [0." in title(figures.draw_paired(better))
    twins = better.assign(seed_id=list("abcd") * 3)
    assert title(figures.draw_paired(twins)).endswith("too few for an interval")
    assert title(figures.draw_form_and_skill(FORM)) == (
        "Change of the share solved: maths (n = 12) -0.02 (-0.05 form, +0.03 skill); "
        "real (n = 3) +0.00 (+0.00 form, +0.00 skill)"
    )


def test_titles_of_the_study_say_arms_and_seeds():
    more = [("easy", "easy", 0.4, 20, 3)]
    arms = pd.concat([ARMS, pd.DataFrame(more, columns=ARMS.columns)])
    arms = arms.replace({"of": {"easy": "hard"}})
    said = "pass@1 before → after, n = 2 arms: hard 0.50 → 0.40 to 0.60 (n = 20)"
    assert title(figures.draw_heat(arms)) == said
    assert title(figures.draw_sharpening(MOVES)) == (
        "Of n = 3 changes (training x set) sampled pass@1 rose in 2, greedy in 2, both in 1 "
        "(2 arms, 2 seeds)"
    )


@pytest.mark.parametrize("width", [3, 5, 14])
def test_a_long_title_is_parted_into_lines_but_not_within_brackets(width):
    figure, ax = plt.subplots(figsize=(width, 3), layout="constrained")
    label = " and so on (n = 2 turns), 95% [-0.10, +0.20]" * 3
    figures.draw_curriculum(schedule_table("soft", 20), label=label, ax=ax)
    head = ax.get_title(loc="left")
    assert head.replace("\n", " ") == f"Curriculum{label}"
    assert head.count("(n = 2 turns)") == head.count("[-0.10, +0.20]") == 3
    figure.canvas.draw()
    assert max(t.get_window_extent().x1 for t in ax.findobj(plt.Text)) <= figure.bbox.x1 + 5
