"""Figures of notebooks 03 and 04: what the filters leave, and how hard it is."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kit.core.bins import BINS, STEPPING_STONE_LEVELS
from kit.display.figures.common import (
    BIN_COLOURS,
    DASHED,
    ENVIRONMENT_COLOURS,
    GREY,
    INK,
    METHODS,
    PAPER_RATIO,
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
from kit.filters import INFRASTRUCTURE, REASONS

_FATES = {"kept": METHODS["single"], "duplicate": "#BDBDBD", "contaminated": "#E8A33D"}

_CHOICES = {
    "similarity": "similarity of twins",
    "contamination_ngram": "words shared with a set",
    "behaviour": "compared by behaviour",
}


def draw_sensitivity(df: pd.DataFrame, label: str = "") -> Figure:
    """What our choices decide: problems kept, dropped as twins and as contaminated, per setting.

    Args:
        df: of `yields.sensitivity_table`.
        label: end of the title.
    Returns:
        A panel per choice, the chosen setting in bold.
    Source: our choice.
    """
    title = (
        f"The chosen thresholds keep {df.kept[df.chosen].iloc[0]} problems, the {len(df)} settings "
        f"shown {df.kept.min()} to {df.kept.max()}{label}"
    )
    figure, facets = facet_panels(
        df, "choice", (3, 3.6, 2.5), title, ylabel="problems", sharey=True
    )
    for ax, choice, part in facets:
        # A bar per setting, stacked, with F1's ratio on top.
        part.plot.bar(
            "setting", list(_FATES), stacked=True, ax=ax, color=_FATES, rot=0, legend=False
        )
        for bars, fate in zip(ax.containers, _FATES):
            numbers = [n or "" for n in part[fate]]
            ax.bar_label(bars, numbers, label_type="center", size=9)  # type: ignore[arg-type]
        ax.bar_label(bars, part.ratio.map("ratio {:.2f}".format), size=9)  # type: ignore[arg-type]
        ax.set(xlabel="", title=_CHOICES[choice])
        for tick, chosen in zip(ax.get_xticklabels(), part.chosen):
            tick.set_fontweight("bold" if chosen else "normal")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


def draw_stepping_stones(tried: pd.DataFrame, chosen: pd.DataFrame, label: str = "") -> Axes:
    """Stepping stones as they came: a line per chain over the paper's bins.

    Args:
        tried: `records.problems_frame` of all problems of stepping stones.
        chosen: the same of the chains of `difficulty.stepping_stones`, which are drawn bold.
        label: end of the title.
    Returns:
        The axes; a note if nothing is graded.
    Source: paper (stepping stones, narrow bins); the figure is our choice.
    """
    graded = tried.dropna(subset="p")
    means = [
        f"asked {level} {p.mean():.2f} (n = {len(p)})"
        for level, p in graded.groupby("asked", sort=False).p
    ]
    title = f"Mean pass rate of stepping stones: {', '.join(means)}{label}"
    chains = counted(tried.chain_id.nunique(), "chain")
    ax = axes_of((8, 3.8), title, f"{chains}; bold: each in its bin; shaded: the paper's bins")
    if graded.empty:
        return empty_axes(ax, "no stepping stone has a pass rate yet")
    for (chain, name), part in graded.groupby(["chain_id", "environment"], sort=False):
        width, alpha = (2, 0.9) if chain in set(chosen.chain_id) else (1, 0.4)
        x = part.asked.map(STEPPING_STONE_LEVELS.index)
        ax.plot(x, part.p, "o-", color=ENVIRONMENT_COLOURS[name], lw=width, alpha=alpha)
    for k, level in enumerate(BINS["narrow"]):
        ends = ((k + 0.1) / 3, (k + 0.9) / 3)
        colour = BIN_COLOURS[level.name]
        ax.axhspan(level.low, level.high, *ends, color=colour, alpha=0.35, lw=0, zorder=0)
    ax.set(
        xticks=range(3),
        xticklabels=[f"asked:\n{name}" for name in STEPPING_STONE_LEVELS],
        ylim=(-0.05, 1.05),
        xlim=(-0.4, 2.4),
        ylabel="pass rate",
    )
    _legend(ax.figure, graded.environment, loc="outside lower left")
    return ax


def draw_funnel(df: pd.DataFrame, label: str = "") -> Axes:
    """What became of the problems of each method, all environments together.

    Args:
        df: of `yields.funnel_table`.
        label: end of the title.
    Returns:
        The axes; a note if no problem was filtered.
    Source: our choice.
    """
    counts = df.pivot_table("count", "dropped_by", "method", "sum", 0)
    counts = counts.filter(REASONS, axis=0).filter(METHODS)
    # What our infrastructure lost is in no share.
    ours = counts.index.isin(INFRASTRUCTURE)
    lost = counts[ours].sum()
    counts = counts[~ours]
    total = counts.sum()
    parts = [
        f"{method}: {counted(n, 'problem')}"
        + (f" (and {int(lost[method])} lost to our errors)" if lost[method] else "")
        for method, n in total.items()
    ]
    title = "What becomes of the problems"
    n = int(total.sum())
    if n:
        kept = counts[counts.index == "kept"].to_numpy().sum()
        title = f"Of {counted(n, 'problem')} the filters kept {kept:.0f} ({kept / n:.0%})"
    ax = axes_of((8, 5.4), f"{title}{label}", " · ".join(parts))
    if not n:
        return empty_axes(ax, "no problem has been filtered yet")
    # Per reason a bar for each method.
    shares = (counts / total).fillna(0)
    shares.plot.barh(ax=ax, width=0.8, color=METHODS)
    for bars, method in zip(ax.containers, shares):
        numbers = zip(shares[method], counts[method])
        told = [f" {share:.0%} ({n:.0f})" for share, n in numbers]
        ax.bar_label(bars, told, size=9.5)  # type: ignore[arg-type]
    ax.set(xlim=(0, shares.max().max() * 1.2), xlabel="share of the problems produced", ylabel="")
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.invert_yaxis()
    ax.tick_params("y", length=0)
    return ax


def _ratio_row(ax, y, row, end):
    """One environment: its ratio and interval, or why there is none; its counts at the right."""
    colour = ENVIRONMENT_COLOURS.get(row.environment, INK)
    marker = "D" if row.environment == "all" else "o"
    interval_line(ax, (row.low, row.ratio, min(row.high, end)), y, colour, s=70, marker=marker)
    if np.isinf(row.high):
        ax.plot(end, y, ">", color=colour, clip_on=False)
    if not np.isfinite(row.ratio):
        why = "no ratio: nothing to divide"
        if row.ratio > 0:
            why = "∞: single-turn kept none"
        text_at(ax, end * 0.5, y, why, "center", color=colour, backgroundcolor="white")
    elif pd.isna(row.low):
        why = "no interval: one seed"
        text_at(ax, row.ratio, y, why, xytext=(10, 0), size=9.5, color=GREY)
    counts = f"{row.multi_kept}/{row.multi_produced} : {row.single_kept}/{row.single_produced}"
    text_at(ax, end * 1.02, y, f"{counts}   {counted(row.seeds, 'seed')}")


def draw_ratio(df: pd.DataFrame, label: str = "") -> Axes:
    """Kept share of multi-turn over that of single-turn, with its bootstrap interval.

    Args:
        df: of `yields.yield_table`.
        label: end of the title.
    Returns:
        The axes, a row per environment; a note if no problem was filtered.
    Source: paper, sec. 4.2 (the ratio, more than 4); the interval is our choice.
    """
    title = f"Multi-turn keeps how many times the share of single-turn?{label}"
    for row in df[(df.environment == "all") & df.ratio.notna()].itertuples():
        title = (
            f"At equal budget multi-turn kept {row.multi_share:.0%} of {row.multi_produced} "
            f"problems, single-turn {row.single_share:.0%} of {row.single_produced}"
        )
        if np.isfinite([row.low, row.high]).all():
            title += f": ratio {row.ratio:.2f}, 95% [{row.low:.2f}, {row.high:.2f}]"
            title += ", which may be chance" * (row.low <= 1 <= row.high)
        title += f" (n = {counted(row.seeds, 'snippet')}){label}"
    size = (8.5, 1.7 + 0.5 * max(1, len(df)))
    ax = axes_of(size, title, "kept share multi / single; 95% bootstrap over seeds")
    if df.empty:
        return empty_axes(ax, "no problem has been filtered yet")
    values = df[["ratio", "low", "high"]].to_numpy(float)
    end = 1.12 * max([PAPER_RATIO * 1.1, *values[np.isfinite(values)]])
    for y, row in enumerate(df.itertuples()):
        _ratio_row(ax, y, row, end)
    for x, text in ((1, "1"), (PAPER_RATIO, "paper: > 4")):
        ax.axvline(x, color=GREY, **DASHED)
        below = len(df) - 0.35
        text_at(ax, x, below, text, "center", color=GREY, backgroundcolor="white", size=9.5)
    rows_of(ax, df.environment, 0)
    ax.set(xlim=(0, end), xlabel="ratio   (right: kept / produced, multi : single)")
    return ax


def draw_bins(df: pd.DataFrame, label: str = "", scheme: str = "broad") -> Figure:
    """Pass rates over the bins of `scheme`, and the size of each bin.

    Args:
        df: of `difficulty.assign`.
        label: end of the title.
        scheme: broad or narrow.
    Returns:
        A figure of two panels.
    Source: paper, filters and bins (the edges); the figure is our choice.
    """
    # How many problems each bin has, per environment.
    graded = df.dropna(subset="p")
    names = [part.name for part in reversed(BINS[scheme])] + ["in no bin"]
    counts = pd.crosstab(graded.bin.fillna("in no bin"), graded.environment)
    counts = counts.reindex(index=names, columns=list(ENVIRONMENT_COLOURS), fill_value=0)
    found = ", ".join(f"{n} {name}" for name, n in counts.sum(axis=1).items())
    title = f"{found}, of {len(graded)} graded problems{label}"
    figure, (left, right) = panels(2, (2, 5, 3.6), title, width_ratios=(1.35, 1))
    # Left: the pass rates over the bins.
    tallest = stacks(left, graded, 0, 1, graded.n.max())
    for part in BINS[scheme]:
        left.axvspan(part.low, part.high, color=BIN_COLOURS[part.name], alpha=0.35, lw=0, zorder=0)
        text_at(left, (part.low + part.high) / 2, 1.05, part.name, "center")
    left.set(xlim=(-0.07, 1.07), ylim=(0, 1.1), yticks=[], xlabel="pass rate of the student")
    left.set_title(f"{counted(len(graded), 'problem')}, tallest column {tallest}", color=GREY)
    sns.despine(ax=left, left=True)
    _legend(figure, graded.environment, loc="outside lower left")
    # Right: the counts.
    sns.heatmap(
        counts,
        ax=right,
        cbar=False,
        cmap="Greys",
        vmax=counts.to_numpy().max() * 1.6,
        linewidths=1.5,
        annot=True,
        fmt="d",
    )
    right.set(xlabel="", ylabel="")
    right.set_title(f"problems per {scheme} bin", color=GREY)
    right.tick_params(length=0, rotation=0)
    return figure
