"""Figures of notebooks 03 and 04: what the filters leave, and how hard it is."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kit.core.bins import BINS, STEPPING_STONE_LEVELS
from kit.display.figures.common import (
    BIN_COLOURS,
    DASHED,
    ENVIRONMENT_COLOURS,
    GREY,
    INK,
    METHODS,
    NAMES,
    PAPER_RATIO,
    _legend,
    _on,
    axes_of,
    counted,
    empty_axes,
    empty_figure,
    facet_panels,
    interval_line,
    panels,
    rows_of,
    stacks,
    text_at,
)
from kit.filters import INFRASTRUCTURE, REASONS

# Colour of the bar, colour of its number, and name in the legend.
_FATES = {
    "kept": (METHODS["multi"], "white", "kept"),
    "duplicate": ("#BDBDBD", INK, "dropped as duplicate"),
    "contaminated": ("#E8A33D", INK, "dropped as contaminated"),
}

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
        A panel per choice, the chosen setting in bold; a note if no problem was filtered.
    Source: our choice.
    """
    title = f"How much do our own thresholds decide?{label}"
    chosen = df.kept[df.chosen]
    if len(chosen):
        title = (
            f"The chosen thresholds keep {chosen.iloc[0]} problems, the {len(df)} settings shown "
            f"{df.kept.min()} to {df.kept.max()}{label}"
        )
    note = "no problem has been filtered yet"
    figure, facets = facet_panels(
        df, "choice", (3, 3.6, 2.5), title, note, ylabel="problems", sharey=True
    )
    for ax, choice, part in facets:
        # A bar per setting, stacked; a number stands only where it has room.
        places = range(len(part))
        under = np.zeros(len(part))
        room = 0.06 * part[list(_FATES)].sum(axis=1)
        for fate, (colour, ink, name) in _FATES.items():
            count = part[fate]
            bars = ax.bar(places, count, 0.7, under, color=colour, edgecolor="white", label=name)
            numbers = count.astype(object).where(count >= room, "")
            ax.bar_label(bars, numbers, label_type="center", size=9, color=ink)
            under += count.to_numpy()
        ax.bar_label(bars, part.ratio.map("F1 {:.2f}".format), size=9, color=GREY)
        ax.set(xticks=places, xticklabels=part.setting, title=_CHOICES[choice])
        for tick, chosen in zip(ax.get_xticklabels(), part.chosen):
            tick.set_fontweight("bold" if chosen else "normal")
    # The legend is the same for all panels.
    if facets:
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


def _drawn_chains(ax, graded, whole):
    """A line per chain of stepping stones over the paper's bins; bold if all three are kept."""
    drift = np.random.default_rng(0)
    for chain, part in graded.groupby("chain_id", sort=False):
        part = part.assign(x=part.asked.map(STEPPING_STONE_LEVELS.index)).sort_values("x")
        # Dots that would cover each other lie a little apart.
        xs = part.x + drift.uniform(-0.08, 0.08)
        ys = part.p + drift.uniform(-0.012, 0.012)
        colour = ENVIRONMENT_COLOURS[part.environment.iloc[0]]
        width, alpha = (2, 0.9) if chain in whole else (1, 0.4)
        ax.plot(xs, ys, color=colour, lw=width, alpha=alpha)
        fill = np.where(part.kept, colour, "white")
        ax.scatter(xs, ys, color=fill, edgecolor=colour, s=26, zorder=3)
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


def draw_stepping_stones(
    tried: pd.DataFrame, chosen: pd.DataFrame, apart: pd.DataFrame, label: str = ""
) -> Figure:
    """Stepping stones as they came, and the set that is compared with whole chains.

    Args:
        tried: `records.problems_frame` of all problems of stepping stones.
        chosen: the same of the chains of `difficulty.stepping_stones`.
        apart: the same of `difficulty.disjoint`.
        label: end of the title.
    Returns:
        A figure of two panels; of one if `chosen` is empty; a note if nothing is graded.
    Source: paper (stepping stones, the disjoint set, narrow bins); the figure is our choice.
    """
    title = f"Stepping stones: hard, then its medium and easy variants{label}"
    graded = tried.dropna(subset="p")
    if graded.empty:
        return empty_figure(title, "no stepping stone has a pass rate yet")
    means = [
        f"asked {level} {p.mean():.2f} (n = {len(p)})"
        for level, p in graded.groupby("asked", sort=False).p
    ]
    title = f"Mean pass rate of stepping stones: {', '.join(means)}{label}"
    # One panel is as wide as two: pages show all figures at one width, and letters at one size.
    count = 1 if chosen.empty else 2
    figure, (left, *rest) = panels(count, (2, 10 / count, 3.4), title)
    _drawn_chains(left, graded, set(chosen.chain_id))
    _legend(figure, graded.environment, loc="outside lower left")
    chains = counted(tried.chain_id.nunique(), "chain")
    left.set_title(f"{chains}; full dot: kept; bold: each in its bin; shaded: the paper's bins")
    # Without a whole chain there is nothing to compare with a disjoint set.
    for right in rest:
        right.hist(
            [chosen.p, apart.p],
            bins=10,
            range=(0, 1),
            rwidth=0.8,
            color=[METHODS["stones"], METHODS["single"]],
            label=[f"chains ({len(chosen)})", f"disjoint ({len(apart)})"],
        )
        right.set(xlabel="pass rate", ylabel="problems", xlim=(0, 1))
        right.yaxis.set_major_locator(MaxNLocator(integer=True))
        right.set_title("the same pass rates, no relatives")
        right.legend()
    return figure


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
    # Per reason a bar for each method; the bars of the first reason name the methods.
    shares = (counts / total).fillna(0)
    tall = 0.8 / len(total)
    for k, method in enumerate(total.index):
        y = np.arange(len(counts)) + (k - (len(total) - 1) / 2) * tall
        bars = ax.barh(y, shares[method], tall * 0.92, color=METHODS[method])
        numbers = zip(shares[method], counts[method], strict=True)
        texts = ax.bar_label(bars, [f"  {share:.0%} ({int(n)})" for share, n in numbers], size=9.5)
        for text, n in zip(texts, counts[method], strict=True):
            text.set_color(INK if n else GREY)
        texts[0].set(text=f"{texts[0].get_text()}   {NAMES[method]}", weight="bold")
    ax.set(
        yticks=range(len(counts)),
        yticklabels=counts.index,
        xlim=(0, shares.max().max() * 1.2),
        xlabel="share of the problems produced",
    )
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    return ax


def _ratio_row(ax, y, row, end):
    """One environment: its ratio and interval, or why there is none; its counts at the right."""
    colour = ENVIRONMENT_COLOURS.get(row.environment, INK)
    marker = "D" if row.environment == "all" else "o"
    interval_line(ax, (row.low, row.ratio, min(row.high, end)), y, colour, s=70, marker=marker)
    if np.isinf(row.high):
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 2}
        ax.annotate("", (end, y), (end * 0.98, y), arrowprops=arrow)
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
    """Pass rates with the edges of both kinds of bins, and the size of each bin of `scheme`.

    Args:
        df: of `difficulty.assign`.
        label: end of the title.
        scheme: broad or narrow.
    Returns:
        A figure of two panels; a note if no problem is graded.
    Source: paper, filters and bins (the edges); the figure is our choice.
    """
    title = f"How hard are the problems?{label}"
    graded = df.dropna(subset="p")
    if graded.empty:
        return empty_figure(title, "no problem has been graded yet")
    # How many problems each bin has, per environment.
    names = [part.name for part in reversed(BINS[scheme])] + ["in no bin"]
    counts = pd.crosstab(graded.bin.astype(object).fillna("in no bin"), graded.environment)
    counts = counts.reindex(index=names, columns=list(ENVIRONMENT_COLOURS), fill_value=0)
    found = ", ".join(f"{n} {name}" for name, n in counts.sum(axis=1).items())
    title = f"{found}, of {len(graded)} graded problems{label}"
    figure, (left, right) = panels(2, (2, 5, 3.6), title, width_ratios=(1.35, 1))
    # Left: the pass rates above a strip of bins per scheme.
    tallest = stacks(left, graded, 0, 1, graded.n.max())
    for y, name in ((-0.14, "broad"), (-0.27, "narrow")):
        for part in BINS[name]:
            width = part.high - part.low
            colour = BIN_COLOURS[part.name]
            left.barh(y, width, 0.1, part.low, color=colour, edgecolor="white")
            short = part.name.replace("easy-medium", "easy-med.")
            text_at(left, part.low + width / 2, y, short, "center", color=_on(part.name))
        text_at(left, -0.08, y, name, "right", size=9.5)
    edges = [edge for part in BINS[scheme] for edge in (part.low, part.high)]
    left.vlines(edges, -0.08, 1.04, color=GREY, lw=0.6, ls=":", zorder=1)
    left.axhline(0, color=GREY, lw=0.8)
    left.set(xlim=(-0.07, 1.07), ylim=(-0.34, 1.06), yticks=[], xlabel="pass rate of the student")
    left.set_title(f"{counted(len(graded), 'problem')}, tallest column {tallest}", color=GREY)
    sns.despine(ax=left, left=True)
    # Right: the counts.
    sns.heatmap(
        counts,
        ax=right,
        cbar=False,
        cmap="Greys",
        vmax=max(1, counts.to_numpy().max()) * 1.6,
        linewidths=1.5,
        annot=True,
        fmt="d",
        annot_kws={"size": 10},
    )
    right.set(xlabel="", ylabel="")
    right.set_title(f"problems per {scheme} bin", color=GREY)
    right.tick_params(length=0, rotation=0)
    for tick in right.get_xticklabels():
        tick.set(color=ENVIRONMENT_COLOURS[tick.get_text()], weight="bold")
    return figure
