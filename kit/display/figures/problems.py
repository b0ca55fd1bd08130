"""Figures of notebooks 01 and 02: seeds, the teacher, chains of problems."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kit.core.bins import STEPPING_STONE_LEVELS
from kit.core.stats import mean_interval, moved
from kit.display.figures.common import (
    ASKED,
    DASHED,
    ENVIRONMENT_COLOURS,
    FAINT,
    GREY,
    INK,
    _legend,
    axes_of,
    counted,
    empty_axes,
    facet_panels,
    interval_line,
    panels,
    rows_of,
    stacks,
    text_at,
)
from kit.teacher import turn_changes

# Paper: pass rates that are kept.
KEPT = (0.01, 0.97)
# Paper: above this pass rate the teacher is asked for a harder problem.
HARDER_ABOVE = 0.65


# ------------------------------------------------------------------ seeds


def draw_seeds(df: pd.DataFrame, label: str = "") -> Figure:
    """Where seeds come from (bars), and how long they are and which are held out (a dot each).

    Args:
        df: a row per seed: `source` (wild or real), `split` (train or held_out), `package`,
            `lines` (how many it has).
        label: end of the title.
    Returns:
        A figure of two panels.
    Source: our choice.
    """
    title = (
        f"Of {len(df)} seed snippets {(df.source == 'wild').sum()} are wild and "
        f"{(df.split == 'held_out').sum()} held out; median length {df.lines.median():.0f} "
        f"lines{label}"
    )
    figure, (left, right) = panels(2, (2, 5, 3.4), title)
    # Left: seeds per package, the largest on top.
    counts = pd.crosstab(df.package, df.source)
    counts = counts.loc[counts.sum(axis=1).sort_values().index]
    counts.plot.barh(stacked=True, ax=left, color={"wild": "#4C72B0", "real": "#8C8C8C"})
    left.set(ylabel="", xlabel="seeds")
    # Right: a dot per seed.
    sns.swarmplot(
        df,
        x="lines",
        y="source",
        order=["wild", "real"],
        hue="split",
        hue_order=["train", "held_out"],
        ax=right,
        size=4,
        palette=[INK, "#D55E00"],
    )
    right.set(ylabel="", xlabel="lines", xlim=(0, None))
    right.legend(title="", loc="upper left")
    return figure


def _shade_dropped(span, beyond):
    """Grey where the filter drops a pass rate. `span`: axvspan or axhspan of the axes."""
    for low, high in ((-beyond, KEPT[0]), (KEPT[1], 1 + beyond)):
        span(low, high, color=FAINT, lw=0, zorder=0)


def draw_pass_rates(df: pd.DataFrame, label: str = "") -> Axes:
    """Pass rates of the graded problems: a row per turn, for the baseline and per stepping stone.

    Args:
        df: as `records.problems_frame` gives it.
        label: end of the title.
    Returns:
        The axes; a note if no problem is graded.
    Source: paper (the kept range); the figure is our choice.
    """
    graded = df.dropna(subset="p")
    turns = graded[graded.method == "multi"].groupby("turn")
    rows = {f"turn {turn}": part for turn, part in turns}
    rows["single-turn\nbaseline"] = graded[graded.method == "single"]
    rows |= {f"stone:\n{asked}": graded[graded.asked == asked] for asked in STEPPING_STONE_LEVELS}
    rows = {name: part for name, part in rows.items() if len(part)}
    size = (8, 1.6 + 0.95 * max(1, len(rows)))
    title = "Pass rate by turn"
    if rows:
        p = pd.concat(rows.values()).p
        title = (
            f"Of {len(p)} graded problems {1 - p.between(*KEPT).mean():.0%} lie in the grey "
            f"zones; mean pass rate {p.mean():.2f}"
        )
    ax = axes_of(size, f"{title}{label}", "grey: dropped by the filter")
    if not rows:
        return empty_axes(ax, "no problem has been graded yet")
    # One histogram per row, with the mean as a tick on its line.
    for k, part in enumerate(rows.values()):
        stacks(ax, part, -k, 0.85, graded.n.max())
        ax.axhline(-k, color=GREY, lw=0.6)
        mean = part.p.mean()
        ax.plot([mean, mean], [-k - 0.06, -k + 0.06], color=INK, lw=2, zorder=4)
        text_at(ax, 1.08, -k + 0.22, f"{counted(len(part), 'problem')}\nmean {mean:.2f}")
    _shade_dropped(ax.axvspan, 0.06)
    ax.set(
        xlim=(-0.06, 1.06),
        ylim=(0.85 - len(rows), 1),
        xlabel="pass rate of the student (tick on the line: mean)",
        yticks=0.22 - np.arange(len(rows)),
        yticklabels=rows,
    )
    ax.tick_params("y", length=0)
    sns.despine(ax=ax, left=True)
    _legend(ax, graded.environment, loc="lower right", bbox_to_anchor=(1, 1))
    return ax


def _slope(ax, left, part, asked):
    """A line from each problem to its successor, and a bold one from mean to mean."""
    pairs = part[["before", "after"]].to_numpy().T
    means = pairs.mean(axis=1)
    n = len(part)
    ends = [left, left + 1]
    colour = ASKED[asked]
    ax.plot(ends, pairs, "o-", color=colour, alpha=np.clip(12 / n, 0.12, 0.5), lw=1, ms=3.5, mew=0)
    ax.plot(ends, means, "o-", color=colour, lw=3.5, ms=8, mec="white", zorder=4)
    told = f"{asked}\nmean {means[1] - means[0]:+.2f}, n = {n}"
    text_at(ax, left + 0.5, 1.07, told, "center", color=colour)


def draw_slopes(df: pd.DataFrame, label: str = "") -> Axes:
    """Pass rate of each multi-turn problem and of its successor, by what the teacher was asked.

    Args:
        df: as `records.problems_frame` gives it.
        label: end of the title.
    Returns:
        The axes; a note if no chain has two graded turns in a row.
    Source: paper (the rule of 0.65 and 0); the figure is our choice.
    """
    # The rows of the frame have the fields of a problem.
    links = turn_changes(df.dropna(subset="p").itertuples())
    groups = links.groupby(pd.Categorical(links["asked"], list(ASKED)), observed=True)
    changes = [
        f"asked {asked}, it "
        f"{moved(*mean_interval(part.change, bounds=(-1, 1), clusters=part.seed_id))} "
        f"(n = {counted(len(part), 'turn')})"
        for asked, part in groups
    ]
    title = f"Pass rate from turn to turn: {'; '.join(changes) or 'no pair yet'}{label}"
    chains = counted(links.chain_id.nunique(), "chain")
    counts = f"{counted(len(links), 'pair')} of graded turns, {chains}, bold: mean"
    ax = axes_of((8, 4.4), title, counts)
    if not len(groups):
        return empty_axes(ax, "no chain has two graded turns in a row yet")
    lefts = 1.6 * np.arange(len(groups))
    for left, (asked, part) in zip(lefts, groups):
        _slope(ax, left, part, asked)
    # The paper's rule: what is asked for depends on the pass rate before.
    end = lefts[-1] + 1
    for y, text in ((HARDER_ABOVE, "above 0.65:\nask for harder"), (0, "at 0:\nask for easier")):
        ax.axhline(y, color=INK, **DASHED)
        text_at(ax, end + 0.35, y, text, backgroundcolor="white")
    ax.set(
        xlim=(-0.3, end + 0.3),
        ylim=(-0.04, 1.14),
        ylabel="pass rate",
        yticks=np.linspace(0, 1, 5),
        xticks=np.ravel([lefts, lefts + 1], "F"),
        xticklabels=["turn t", "t + 1"] * len(groups),
    )
    return ax


def _shares(ax, rows, names, shift, colour=""):
    """An interval per environment that was counted; in its own colour if none is given."""
    for row in rows[(rows.of > 0) & rows.environment.isin(names)].itertuples():
        y = names.index(row.environment) + shift
        ink = colour or ENVIRONMENT_COLOURS.get(row.environment, INK)
        interval_line(ax, (row.low, row.share, row.high), y, ink, s=34)
        text_at(ax, 1.04, y, f"{row.count} of {row.of}", color=colour or INK)


def draw_teacher_quality(
    df: pd.DataFrame, before: pd.DataFrame | None = None, label: str = ""
) -> Figure:
    """How good the teacher is: a panel per measure, a row per environment, 95% intervals.

    Args:
        df: of `teacher.teacher_quality`.
        before: the same of an earlier run, drawn in grey; None: there is none.
        label: end of the title.
    Returns:
        The figure.
    Source: our choice.
    """
    names = list(df.environment.unique())
    layout = (3, 3.9, 0.6 + 0.42 * len(names))
    found = [
        f"{row.measure} {row.share:.0%} [{row.low:.0%}, {row.high:.0%}] of {row.of}"
        for row in df[(df.environment == "all") & (df.of > 0)].itertuples()
    ]
    title = f"How good is the teacher? {'; '.join(found)}".strip() + label
    figure, facets = facet_panels(df, "measure", layout, title, sharey=True)
    for ax, measure, part in facets:
        if before is not None:
            _shares(ax, before[before.measure == measure], names, 0.16, "#AAAAAA")
        _shares(ax, part, names, -0.16)
        rows_of(ax, names, 0.5)
        ax.set(xlim=(0, 1), xticks=[0, 0.5, 1])
        ax.set_title(measure, size=11)
        ax.xaxis.set_major_formatter("{x:.0%}")
    return figure


def draw_lineage(df: pd.DataFrame, label: str = "", most: int = 6) -> Figure:
    """The longest, most varied chains turn by turn; a cross with its reason where a turn failed.

    Problems without a pass rate stand below 0.

    Args:
        df: as `records.problems_frame` gives it, filtered or not; multi-turn problems are drawn.
        label: end of the title.
        most: at most so many chains.
    Returns:
        The figure; a note if there is no chain.
    Source: our choice.
    """
    df = df[df.method == "multi"].sort_values("turn", kind="stable")
    # Before the filters nothing is kept: what is valid counts as alive.
    df = df.assign(alive=df.kept | (df.dropped_by + df.reason == ""))
    chains = df.groupby("chain_id")
    lengths = chains.agg({"p": "count", "asked": "nunique"})
    order = lengths.sort_values(["p", "asked"], ascending=False, kind="stable").index
    chosen = [chains.get_group(chain) for chain in order[:most]]
    title = f"Chains, turn by turn{label}"
    if chosen:
        drawn = pd.concat(chosen)
        title = (
            f"The {len(chosen)} longest of {len(order)} chains: {len(drawn) - drawn.alive.sum()} "
            f"of {len(drawn)} turns invalid, or dropped by a filter (crosses){label}"
        )
    note = "no chain to draw yet"
    layout = (3, 3.5, 2.7)
    figure, axes = panels(
        len(chosen), layout, title, note, "turn", "pass rate", sharex=True, sharey=True
    )
    # All panels share their limits.
    last = df.turn.max()
    for ax, chain in zip(axes, chosen):
        _chain(ax, chain)
        ax.set(
            xlim=(0.6, last + 0.6), ylim=(-0.3, 1.12), xticks=range(1, last + 1), yticks=[0, 0.5, 1]
        )
    return figure


def _chain(ax, chain):
    """The turns of one chain, joined by what the teacher was asked."""
    name = chain.environment.iloc[0]
    colour = ENVIRONMENT_COLOURS.get(name, INK)
    ax.set_title(f"{name} · {chain.chain_id.iloc[0][:10]}", color=colour, weight="bold")
    _shade_dropped(ax.axhspan, 0.04)
    turns = {turn.id: turn for turn in chain.assign(y=chain.p.fillna(-0.17)).itertuples()}
    box = {"fc": "white", "ec": "none", "pad": 0.8}
    for turn in turns.values():
        parent = turns.get(turn.parent_id)
        if parent and parent.turn < turn.turn:
            ink = ASKED.get(turn.asked, GREY)
            xs, ys = [parent.turn, turn.turn], [parent.y, turn.y]
            ax.plot(xs, ys, color=ink, lw=1.6, zorder=2)
            x, y = np.mean([xs, ys], axis=1)
            text_at(ax, x, y, turn.asked, "center", color=ink, bbox=box, zorder=3)
        look = {"marker": "o", "color": colour} if turn.alive else {"marker": "X", "color": INK}
        ax.scatter(turn.turn, turn.y, s=46, zorder=4, edgecolor="white", lw=0.6, **look)
        if not turn.alive:
            _dropped(ax, turn)


def _dropped(ax, turn):
    """Why a turn was dropped, shortened, beside its cross where there is room."""
    why = turn.reason if turn.dropped_by in ("", "invalid") else turn.dropped_by
    why = why.partition(":")[0]
    if len(why) > 18:
        why = f"{why[:17]}…"
    va, offset = ("bottom", 7) if 0.02 <= turn.y < 0.5 else ("top", -7)
    box = {"fc": "white", "ec": "none", "pad": 0.5, "alpha": 0.8}
    text_at(ax, turn.turn, turn.y, why, "center", xytext=(0, offset), va=va, bbox=box)
