import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from kit import curriculum, difficulty, filters, findings
from kit.core import records
from kit.core.config import FiltersConfig
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
    "curriculum": (figures.draw_curriculum, lambda x: schedule_table("soft", 40)[: 3 * len(x)]),
    "groups": (figures.draw_groups, lambda x: PASS.assign(group="easy")[: len(x)]),
    "health": (figures.draw_health, lambda x: LOG[: len(x)]),
    "pass_at_k": (figures.draw_pass_at_k, lambda x: PASS[: len(x)]),
    "quality": (figures.draw_teacher_quality, lambda x: teacher_quality(x)[: 5 * len(x)]),
    "sensitivity": (
        figures.draw_sensitivity,
        lambda x: sensitivity_table(x, LIMITS, {}, filters.Behaviour())[: 4 * len(x)],
    ),
    "stones": (
        lambda df, label: figures.draw_stepping_stones(df, STONES[:3], STONES[:2], label),
        lambda x: STONES[: 2 * len(x)],
    ),
    "stones of no whole chain": (
        lambda df, label: figures.draw_stepping_stones(df, STONES[:0], STONES[:0], label),
        lambda x: STONES[: 2 * len(x)],
    ),
    "form": (figures.draw_form_and_skill, lambda x: FORM[: len(x)]),
    "paired": (figures.draw_paired, lambda x: PAIRED[: len(x)]),
    "learning": (figures.draw_learning, lambda x: CURVES[: len(x)]),
}


def texts(drawn):
    figure = drawn.figure
    figure.canvas.draw()
    found = [t for t in figure.findobj(plt.Text) if t.get_text() and t.get_visible()]
    return [t.get_text().replace("\n", " ") for t in found]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [0, 1, 2, 12, 200])
@pytest.mark.parametrize("name", PLOTS)
def test_every_figure_survives_every_size_and_carries_its_label(name, size):
    plot, frame = PLOTS[name]
    drawn = texts(plot(frame(problems(40)[:size]), label=" (recorded data)"))
    assert any(t.endswith(" (recorded data)") for t in drawn)
    if not size:
        assert any(t.startswith(("no ", "nothing ")) for t in drawn)


@pytest.mark.parametrize(
    "name", ["pass_rates", "slopes", "funnel", "ratio", "curriculum", "learning"]
)
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
    assert "mean -0.75, n = 1" in text and "1 pair of graded turns, 1 chain, bold: mean" in text


def test_lineage_marks_what_was_dropped_with_its_reason():
    given = [x for x in problems() if x.chain_id == "c3multi"]
    text = texts(figures.draw_lineage(records.problems_frame(given), ["c3multi"]))
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
    )
    ax = figures.draw_curriculum(schedule_table("soft", 24), curriculum.realised(plan))
    assert sum(type(c).__name__ == "LineCollection" for c in ax.collections) == 4
    assert {"easy", "medium", "hard"} <= set(texts(ax))


def test_difficulty_runs_from_light_to_dark():
    light = [
        sum(matplotlib.colors.to_rgb(BIN_COLOURS[b]))
        for b in ("easy", "easy-medium", "medium", "hard")
    ]
    assert light == sorted(light, reverse=True)
