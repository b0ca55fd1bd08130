"""Figures of notebook 07: the board of claims, the arms."""

from textwrap import fill, shorten

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kit.core.bins import BIN_ORDER
from kit.display.figures.common import (
    GREY,
    INK,
    OF_THE_RUN,
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

NOT_RUN = "no study has been run yet: python -m kit study"

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
    units = "snippet" if row.claim in OF_THE_RUN else "seed"
    numbers = f"{counted(row.seeds, units)}, n = {row.problems}; could find {row.smallest:.2g}"
    # The solve rate in training has no held-out problems.
    told = shorten(row.why, 46, placeholder=" ...") or numbers.replace(", n = 0;", ";")
    text_at(ax, 1.01, y + 0.22, told, xycoords=right, color=GREY)


def draw_board(df: pd.DataFrame, label: str = "") -> Figure:
    """The claim board: a row per comparison with its effect and 95% interval; hollow: no vote.

    Differences stand above, ratios below (log scale). The verdict at the right is of the sampled
    answers.

    Args:
        df: of `findings.board`.
        label: end of the title.
    Returns:
        The figure.
    Source: paper (the claims); effects and verdicts are our choice.
    """
    verdicts = df.drop_duplicates("claim").verdict.value_counts()
    words = ", ".join(f"{verdicts[word]} {word}" for word in VERDICT_COLOURS if word in verdicts)
    title = f"Of {counted(verdicts.sum(), 'claim')}: {words}{label}"
    # An interval of a ratio may be open to the right.
    df = df.assign(high=df.high.clip(upper=100), ratio=df.null != 0)
    df["name"] = df.claim + "   " + df.comparison
    rows = df.groupby("ratio").name.nunique()
    layout = (1, 11, (0.9 + 0.46 * rows.sum()) / len(rows) + 0.5)
    df = df.sort_values("ratio", kind="stable")
    figure, facets = facet_panels(df, "ratio", layout, title, height_ratios=rows + 1)
    for ax, ratios, part in facets:
        names = list(part.name.unique())
        for row in part.itertuples():
            _comparison(ax, names.index(row.name), row)
        rows_of(ax, [fill(name, 62, break_on_hyphens=False) for name in names], 0.4)
        low, high = part.low.min(), part.high.max()
        if ratios:
            ax.set(
                xscale="log",
                xticks=(0.01, 0.1, 0.25, 0.5, 1, 2, 4, 8, 100),
                # Of an interval that begins at 0 the lower end is not shown.
                xlim=(max(0.01, min(0.2, low * 0.8)), max(8, high * 1.2)),
                xlabel="ratio; bar: what the claim needs",
            )
            ax.xaxis.set_major_formatter("{x:g}")
            ax.minorticks_off()
        else:
            limits = min(-0.1, low * 1.05), max(0.1, high * 1.05)
            ax.set(xlim=limits, xlabel="difference; bar: no effect")
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
    mean = f"pass@1, mean over at most {counted(seeds.max(), 'seed')}" if len(seeds) else ""
    size = (9, 2.4 + 0.26 * len(arms))
    title = f"What each arm solves after training{label}"
    if df.empty:
        return empty_axes(axes_of(size, title), NOT_RUN)
    # Bins from easy to hard, then the sets.
    columns = sorted(df.of.unique(), key=lambda of: (*BIN_ORDER, of).index(of))
    tables = df.pivot(index="arm", columns="of").reindex(arms)
    value = tables.value[columns]
    if "before training" in arms and len(arms) > 1:
        trained = value.drop("before training")
        # In the title those bins that the claims are about, if they were asked.
        named = ["medium", "hard"] if "hard" in value else columns
        found = [
            f"{of} {value[of]['before training']:.2f} → {trained[of].min():.2f} to "
            f"{trained[of].max():.2f} (n = {tables.problems[of].max():.0f})"
            for of in value.filter(named).dropna(axis=1)
        ]
        if found:
            title = f"pass@1 before → after, n = {len(trained)} arms: {'; '.join(found)}{label}"
    ax = axes_of(size, title, mean)
    counts = df.groupby("of").problems.max()
    sns.heatmap(
        value,
        annot=True,
        fmt=".2f",
        xticklabels=[f"{of}\nn = {counts[of]}" for of in columns],
        vmin=0,
        vmax=1,
        cmap="Blues",
        linewidths=1,
        linecolor="white",
        ax=ax,
        cbar=False,
        annot_kws={"size": 8},
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
    if df.empty:
        return empty_figure(f"Learning, or only surer?{label}", NOT_RUN)
    rose = df[["sampled", "greedy"]] > 0
    title = (
        f"Of n = {len(df)} changes (training x set) sampled pass@1 rose in {rose.sampled.sum()}, "
        f"greedy in {rose.greedy.sum()}, both in {rose.all(axis=1).sum()} "
        f"({counted(df.arm.nunique(), 'arm')}, {counted(df.seed.nunique(), 'seed')}){label}"
    )
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
        problems = counted(part.problems.max(), "problem")
        ax.set(xlabel="sampled: change", title=f"{name}\n{problems}")
        ax.xaxis.set_major_locator(MaxNLocator(4))
    figure.legend(**legend_marks(colours), loc="outside right center")
    return figure
