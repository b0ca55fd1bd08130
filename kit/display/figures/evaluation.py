"""Figures of notebook 06: what the policy solves, before and after."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kit.core.stats import mean_interval, moved, value_in_interval
from kit.display.figures.common import (
    CHANGES,
    GREY,
    INK,
    MANY,
    axes_of,
    counted,
    empty_axes,
    empty_figure,
    facet_panels,
    in_set,
    interval_line,
    legend_marks,
    of_whole,
    rows_of,
    text_at,
)

# Fewer snippets than this give no interval of their problems' change (our choice).
FEW = 5


def _checkpoints(figure, df):
    """Checkpoint -> colour, in order of appearance: grey, then ever deeper red; with a legend."""
    names = df.checkpoint.unique()
    colours = dict(zip(names, ["#9A9A9A", *sns.color_palette("flare", len(names)).as_hex()]))
    figure.legend(**legend_marks(colours), loc="outside lower left", ncols=6)
    return colours


def _side_by_side(part, colours, gap):
    """(row, its place, its colour): around its number `tick`, the checkpoints in their order."""
    names = list(colours)
    gap = min(gap, 0.75 / len(names))
    for row in part.itertuples():
        shift = names.index(row.checkpoint) - (len(names) - 1) / 2
        yield row, row.tick + shift * gap, colours[row.checkpoint]


def draw_pass_at_k(df: pd.DataFrame, label: str = "") -> Figure:
    """Solved shares with intervals: a panel per set, a colour per checkpoint, a diamond for greedy.

    Args:
        df: `checkpoint`, `set`, `k`, `n_problems`, `value`, `low`, `high`, `mode` (sampled or
            greedy), as `evaluation.summary` gives them; only group `all`.
        label: end of the title.
    Returns:
        The figure; a note if nothing was evaluated.
    Source: paper, evaluation (pass@k); the figure is our choice.
    """
    title = f"What the policy solves{label}"
    df = df.dropna(subset="value")
    if df.empty:
        return empty_figure(title, "nothing has been evaluated yet")
    # Sampled answers, checkpoint after checkpoint.
    sampled = df[df["mode"] == "sampled"]
    sampled = of_whole(sampled[sampled.k == sampled.k.min()])
    found = [
        f"{' → '.join(map(value_in_interval, part.itertuples()))} on "
        f"{in_set(name, part.n_problems.max())}"
        for name, part in sampled.groupby("set", sort=False)
    ]
    if found:
        title = f"pass@{sampled.k.min():.0f} {'; '.join(found)}{label}"
    figure, facets = facet_panels(
        df, "set", (2, 4.8, 2.8), title, ylabel="share solved", sharey=True
    )
    colours = _checkpoints(figure, df)
    for ax, name, part in facets:
        # Greedy answers stand first, then the sampled ones by k.
        k = part.k.where(part["mode"] == "sampled", 0)
        ticks, part["tick"] = np.unique(k, return_inverse=True)
        for row, x, colour in _side_by_side(part, colours, 0.3):
            marker = "o" if row.mode == "sampled" else "D"
            value = row.value
            span = (row.low, value, row.high)
            interval_line(ax, x, span, colour, s=42, edgecolor="white", marker=marker)
            # Two checkpoints leave room for numbers, one on each side.
            if len(colours) < 3:
                ha, shift = ("right", -6) if colour == "#9A9A9A" else ("left", 6)
                text_at(ax, x, value, f"{value:.2f}", ha, xytext=(shift, 0), color=colour)
        ax.set(
            xlim=(-0.8, len(ticks) - 0.2),
            ylim=(-0.04, 1.04),
            xticks=range(len(ticks)),
            xticklabels=[f"pass@{int(tick)}" if tick else "greedy" for tick in ticks],
            title=f"{name}: {counted(part.n_problems.max(), 'problem')}",
        )
    return figure


def draw_groups(df: pd.DataFrame, label: str = "") -> Figure:
    """pass@1 of sampled answers per level or environment, with intervals; a colour per checkpoint.

    Args:
        df: `checkpoint`, `set`, `group`, `n_problems`, `value`, `low`, `high`, `mode`, as
            `evaluation.summary` gives them; only k = 1.
        label: end of the title.
    Returns:
        A panel for each set that has several groups; a note if none has.
    Source: our choice.
    """
    title = f"Where the policy solves more{label}"
    df = df[(df.group != "all") & (df["mode"] == "sampled")].dropna(subset="value")
    if df.empty:
        return empty_figure(title, "no set has several levels or environments")
    first, last = df.checkpoint.unique()[[0, -1]]
    wide = df.pivot_table("value", ["set", "group"], "checkpoint")
    change = (wide[last] - wide[first]).dropna()
    if first != last and len(change):
        n = df.groupby(["set", "group"]).n_problems.max()[change.index].sum()
        title = (
            f"From {first} to {last} pass@1 rose in {(change > 0).sum()} of "
            f"{len(change)} groups, fell in {(change < 0).sum()} "
            f"(n = {n} problems){label}"
        )
    figure, facets = facet_panels(df, "set", (3, 4.0, 2.6), title, xlabel="pass@1", sharex=True)
    colours = _checkpoints(figure, df)
    for ax, name, part in facets:
        counts = part.groupby("group", sort=False).n_problems.max()
        part["tick"] = part.group.map(counts.index.get_loc)
        for row, y, colour in _side_by_side(part, colours, 0.25):
            interval_line(ax, (row.low, row.value, row.high), y, colour, s=42, edgecolor="white")
        rows_of(ax, [f"{group} ({n})" for group, n in counts.items()], 0.4)
        ax.set(xlim=(0, 1), title=name)
    return figure


def _mean_change(part):
    """The mean change of a set's problems with its interval: in short, and for a title."""
    clusters = part.get("seed_id", part.problem_id)
    mean, low, high = mean_interval(part.change, bounds=(-1, 1), clusters=clusters)
    if clusters.nunique() < FEW:
        few = f"{mean:+.2f}, too few for an interval"
        return few, f"moved by {few}"
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]", moved(mean, low, high)


def draw_paired(df: pd.DataFrame, label: str = "") -> Figure:
    """Each problem before and after training, a panel per set, sorted by change; grey: no change.

    Args:
        df: `set`, `problem_id`, `before`, `after` (shares of samples solved, 0 to 1), and `seed_id`
            (snippets, that are drawn whole for the interval) if it is known.
        label: end of the title.
    Returns:
        The figure, with the mean change and its interval in each title; a note if no problem was
        evaluated twice.
    Source: our choice.
    """
    title = f"Problem by problem, before and after{label}"
    note = "no problem has been evaluated twice yet"
    df = df.dropna(subset=["before", "after"]).assign(change=df.after - df.before)
    found = [
        f"on {in_set(name, len(part), part.get('seed_id'))} {_mean_change(part)[1]}"
        for name, part in of_whole(df).groupby("set", sort=False)
    ]
    if found:
        title = f"pass@1 {'; '.join(found)}{label}"
    figure, facets = facet_panels(
        df, "set", (2, 4.6, 2.6), title, note, ylabel="share of samples solved", sharey=True
    )
    for ax, name, part in facets:
        n, mean = len(part), _mean_change(part)[0]
        part = part.sort_values(["change", "before"])
        colours = np.sign(part.change).map(CHANGES)
        ax.vlines(range(n), part.before, part.after, colours, lw=1.2)
        ax.scatter(range(n), part.after, 12, colours, zorder=3)
        up, down = (part.change > 0).sum(), (part.change < 0).sum()
        ax.set(
            title=f"{name}: mean change {mean}\n{up} up, {down} down, {n - up - down} unchanged",
            ylim=(-0.03, 1.03),
            xlim=(-1, max(n, 2 * FEW)),
            xticks=[],
            xlabel=f"{counted(n, 'problem')}, by change (line: from before, dot: after)",
        )
    return figure


def draw_form_and_skill(df: pd.DataFrame, label: str = "") -> Axes:
    """The gain on each set (diamond) and its two parts, with malformed and cut-off shares beside.

    Args:
        df: of `gains.form_and_skill`.
        label: end of the title.
    Returns:
        The axes; a note if no problem was evaluated twice.
    Source: our choice.
    """
    whole = of_whole(df)
    if len(whole) > MANY:
        whole = whole.sort_values("change").iloc[[0, -1]]
    found = [
        f"{in_set(row.set, row.n)} {row.change:+.2f} ({row.by_form:+.2f} form, "
        f"{row.by_skill:+.2f} skill)"
        for row in whole.itertuples()
    ]
    title = (
        f"Change of the share solved: {'; '.join(found)}" if found else "More form, or more skill?"
    )
    ax = axes_of((9, 1.6 + 0.55 * len(df)), f"{title}{label}")
    if df.empty:
        return empty_axes(ax, "no problem has been evaluated twice yet")
    places = np.arange(len(df))
    ax.barh(places - 0.17, df.by_form, 0.3, color="#56B4E9", label="form: more is well-formed")
    ax.barh(places + 0.17, df.by_skill, 0.3, color="#0B3C6F", label="skill: of that more is right")
    ax.plot(df.change, places, "D", color=INK, ms=5, label="both: change of the share solved")
    right = ax.get_yaxis_transform()
    for y, row in enumerate(df.itertuples()):
        form = f"malformed {row.malformed_before:.0%} → {row.malformed_after:.0%}"
        cut = f"cut off {row.cut_off_before:.0%} → {row.cut_off_after:.0%}"
        text_at(ax, 1.01, y, f"{form}\n{cut}", xycoords=right)
    ax.axvline(0, color=GREY, lw=0.8)
    names = df["set"] + df.n.map(" (n = {})".format)
    rows_of(ax, names, 0.4)
    ax.set_xlabel("change, before → after")
    ax.figure.legend(loc="outside lower left", ncols=3)
    return ax
