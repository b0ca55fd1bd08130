"""Figures of notebooks 06 and 07: what the policy solves, the board of claims, the arms."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kit.core.bins import BIN_ORDER
from kit.core.stats import mean_interval
from kit.display.figures.common import (
    CHANGES,
    GREY,
    INK,
    arm_colours,
    axes_of,
    counted,
    empty_axes,
    empty_figure,
    facet_panels,
    interval_line,
    legend_marks,
    rows_of,
    text_at,
)

# ------------------------------------------------------------------ evaluation


def _checkpoints(figure, df):
    """Checkpoint -> colour, in order of appearance: grey, then ever deeper red; with a legend."""
    names = df.checkpoint.unique()
    colours = dict(zip(names, ["#9A9A9A", *sns.color_palette("flare", len(names)).as_hex()]))
    figure.legend(**legend_marks(colours, "-"), loc="outside lower left", ncols=6)
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
            title=f"{name}: {counted(int(part.n_problems.max()), 'problem')}",
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
    if len(df):
        df = df[(df.group != "all") & (df["mode"] == "sampled")].dropna(subset="value")
    if df.empty:
        return empty_figure(title, "no set has several levels or environments")
    figure, facets = facet_panels(df, "set", (3, 4.0, 2.6), title, sharex=True)
    colours = _checkpoints(figure, df)
    for ax, name, part in facets:
        counts = part.groupby("group", sort=False).n_problems.max()
        part["tick"] = part.group.map(counts.index.get_loc)
        for row, y, colour in _side_by_side(part, colours, 0.25):
            interval_line(ax, (row.low, row.value, row.high), y, colour, s=42, edgecolor="white")
        rows_of(ax, [f"{group} ({n})" for group, n in counts.items()], 0.4, length=6)
        ax.set(xlim=(0, 1), title=name, xlabel="pass@1")
        ax.tick_params(labelbottom=True)
    return figure


def draw_paired(df: pd.DataFrame, label: str = "") -> Figure:
    """Each problem before and after training, a panel per set, sorted by change; grey: no change.

    Args:
        df: `set`, `problem_id`, `before`, `after` (shares of samples solved, 0 to 1).
        label: end of the title.
    Returns:
        The figure, with the mean change and its interval in each title; a note if no problem was
        evaluated twice.
    Source: our choice.
    """
    title = f"Problem by problem, before and after{label}"
    note = "no problem has been evaluated twice yet"
    df = df.dropna(subset=["before", "after"]).assign(change=df.after - df.before)
    figure, facets = facet_panels(
        df, "set", (2, 4.6, 2.6), title, note, ylabel="share of samples solved", sharey=True
    )
    for ax, name, part in facets:
        n = len(part)
        width, size = (1.6, 24) if n < 100 else (0.8, 6)
        for x, row in enumerate(part.sort_values(["change", "before"]).itertuples()):
            colour = CHANGES[np.sign(row.change)]
            interval_line(ax, x, (row.before, row.after, row.after), colour, width, s=size)
        up, down = (part.change > 0).sum(), (part.change < 0).sum()
        mean, low, high = mean_interval(part.change, bounds=(-1, 1))
        ax.set(
            title=f"{name}: mean change {mean:+.2f} [{low:+.2f}, {high:+.2f}]\n"
            f"{up} up, {down} down, {n - up - down} unchanged",
            ylim=(-0.03, 1.03),
            xlim=(-1, n),
            xticks=[],
            xlabel=f"{counted(n, 'problem')}, by change (dot: after)",
        )
    return figure


# ------------------------------------------------------------------ study


VERDICT_COLOURS = {
    "supported": "#009E73",
    "contradicted": "#D55E00",
    "undecided": "#555555",
    "not tested at this scale": "#B5B5B5",
}


def _comparison(ax, y, row):
    """The effect on sampled answers with its verdict; hollow: on other answers, without a vote."""
    effect = (row.low, row.value, row.high)
    if row.mode != "sampled":
        interval_line(ax, effect, y + 0.2, GREY, 1.2, s=24, facecolor="white")
        return
    colour = VERDICT_COLOURS[row.part]
    interval_line(ax, effect, y - 0.1, colour, 2.2, s=44)
    ax.plot([row.null, row.null], [y - 0.45, y + 0.45], color=INK, lw=1)
    right = ax.get_yaxis_transform()
    text_at(ax, 1.01, y - 0.16, row.part, xycoords=right, color=colour, weight="bold")
    units = "snippet" if row.claim in ("F1a", "F1b", "F2") else "seed"
    numbers = f"{counted(row.seeds, units)}, n = {row.problems}; could find {row.smallest:.2f}"
    text_at(ax, 1.01, y + 0.22, row.why or numbers, xycoords=right, color=GREY)


def draw_board(df: pd.DataFrame, label: str = "") -> Figure:
    """The claim board: a row per comparison with its effect and 95% interval; hollow: no vote.

    Differences stand above, ratios below (log scale). The verdict at the right is of the sampled
    answers.

    Args:
        df: of `findings.board`.
        label: end of the title.
    Returns:
        The figure; a note if there is no claim.
    Source: paper (the claims); effects and verdicts are our choice.
    """
    if df.empty:
        return empty_figure(f"What holds?{label}", "no claim has been looked at yet")
    verdicts = df.drop_duplicates("claim").verdict.value_counts()
    words = ", ".join(f"{verdicts[word]} {word}" for word in VERDICT_COLOURS if word in verdicts)
    title = f"Of {counted(int(verdicts.sum()), 'claim')}: {words}{label}"
    df = df.assign(name=df.claim + "   " + df.comparison, ratio=df.null != 0)
    rows = df.groupby("ratio").name.nunique()
    layout = (1, 12, (0.9 + 0.46 * rows.sum()) / len(rows) + 0.5)
    df = df.sort_values("ratio", kind="stable")
    figure, facets = facet_panels(df, "ratio", layout, title, height_ratios=rows + 1)
    for ax, ratios, part in facets:
        names = list(part.name.unique())
        for row in part.itertuples():
            _comparison(ax, names.index(row.name), row)
        rows_of(ax, names, 0.4)
        low, high = part.low.min(), part.high.max()
        if ratios:
            ax.set(
                xscale="log",
                xticks=(0.01, 0.1, 0.25, 0.5, 1, 2, 4, 8, 100),
                xlabel="ratio; bar: what the claim needs",
            )
            ax.xaxis.set_major_formatter("{x:g}")
            ax.minorticks_off()
            ax.set_xlim(min(0.2, low * 0.8), max(8, high * 1.2))
        else:
            ax.set_xlabel("difference; bar: no effect")
            ax.set_xlim(min(-0.3, low * 1.05), max(0.3, high * 1.05))
    return figure


def draw_heat(df: pd.DataFrame, label: str = "") -> Axes:
    """pass@1 per arm (rows) and bin or set (columns), with the number of problems.

    Args:
        df: of `findings.by_difficulty`.
        label: end of the title.
    Returns:
        The axes; a note if no study was run.
    Source: our choice.
    """
    arms = df.arm.unique()
    seeds = df.seeds[df.arm != "before training"]
    mean = f"pass@1, mean over {counted(int(seeds.max()), 'seed')}" if len(seeds) else ""
    size = (9, 1.6 + 0.34 * max(4, len(arms)))
    ax = axes_of(None, size, f"What each arm solves after training{label}", mean)
    if df.empty:
        return empty_axes(ax, "no study has been run yet: python -m kit study")
    # Bins from easy to hard, then the sets.
    columns = sorted(df.of.unique(), key=lambda of: (*BIN_ORDER, of).index(of))
    tables = df.pivot(index="arm", columns="of").reindex(arms)
    value = tables.value[columns]
    text = value.map("{:.2f}\n".format) + tables.problems[columns].map("n = {:.0f}".format)
    sns.heatmap(
        value,
        annot=text.where(value.notna(), ""),
        fmt="",
        vmin=0,
        vmax=1,
        cmap="Blues",
        linewidths=1,
        linecolor="white",
        ax=ax,
        cbar_kws={"label": "pass@1"},
        annot_kws={"size": 7.5},
    )
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0)
    return ax


def draw_sharpening(df: pd.DataFrame, label: str = "") -> Figure:
    """Change of sampled (x) and greedy (y) answers by training; small: a seed, large: a mean.

    Args:
        df: of `findings.changes_by_arm`.
        label: end of the title.
    Returns:
        The figure, a panel per set; a note if no study was run.
    Source: our choice.
    """
    title = f"Learning, or only surer?{label}"
    if df.empty:
        return empty_figure(title, "no study has been run yet: python -m kit study")
    figure, facets = facet_panels(
        df, "set", (4, 3.4, 3.4), title, ylabel="greedy: change", sharex=True, sharey=True
    )
    colours = arm_colours(df)
    for ax, name, part in facets:
        # On the dotted line greedy answers change as much as sampled ones.
        ax.axhline(0, color=GREY, lw=0.8)
        ax.axvline(0, color=GREY, lw=0.8)
        ax.axline((0, 0), slope=1, color=GREY, lw=0.8, ls=":")
        for arm, seeds in part.groupby("arm", sort=False)[["sampled", "greedy"]]:
            colour = colours[arm]
            ax.scatter(seeds.sampled, seeds.greedy, s=14, marker="x", color=colour, lw=0.9)
            mean = seeds.mean()
            ax.scatter(mean.sampled, mean.greedy, s=52, color=colour, edgecolor="white", zorder=3)
        problems = counted(int(part.problems.max()), "problem")
        ax.set(xlabel="sampled: change", title=f"{name}\n{problems}")
        ax.xaxis.set_major_locator(MaxNLocator(4))
    figure.legend(**legend_marks(colours), loc="outside right upper")
    return figure
