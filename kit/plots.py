"""What people look at. Each figure is a function of a frame; nothing reads data or knows a run.

Figures of one panel take `ax` and return it, figures of several panels return a Figure. `label`
goes into the title, e.g. " (recorded data)". A frame without rows gives a note instead of a figure.
Palettes stand here, sizes and lines in style.mplstyle: our choice.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kit.difficulty import BINS, LEVELS, ORDER
from kit.evaluation import interval
from kit.filters import OURS, REASONS
from kit.profile import EnvironmentName

# Induction, abduction, deduction, fuzzing; then two to spare (Okabe and Ito's colours).
_OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
ENVIRONMENTS = dict(zip(get_args(EnvironmentName), _OKABE_ITO))
# From light to dark.
DIFFICULTY = dict(zip(ORDER, ("#C6DBEF", "#85B7DA", "#3B7EB8", "#0B3C6F"), strict=True))
ASKED = {"harder": "#B2182B", "vary": "#7F7F7F", "easier": "#4393C3"}
METHODS = {"multi": "#0B3C6F", "single": "#9DB7D5", "stones": "#C98B2B", "real": "#7A7A7A"}
# By the sign of the change.
CHANGES = {1: "#009E73", -1: "#D55E00", 0: "#AAAAAA"}
NAMES = {
    "multi": "multi-turn",
    "single": "single-turn",
    "stones": "stepping stones",
    "real": "real",
}
INK, GREY, FAINT = "#222222", "#777777", "#EDEDED"
# Fewer values than this are drawn one by one.
DOTS_BELOW = 50
# Paper: pass rates that are kept.
KEPT = (0.01, 0.97)
# Paper: above this pass rate the teacher is asked for a harder problem.
HARDER_ABOVE = 0.65
# Paper: multi-turn keeps more than this many times the share of single-turn.
PAPER_RATIO = 4
_DASHED: dict[str, Any] = {"lw": 0.9, "ls": (0, (4, 3)), "zorder": 1}


def style() -> None:
    """One look for all figures: `kit/style.mplstyle`, and small titles at the left of panels."""
    plt.style.use(Path(__file__).with_name("style.mplstyle"))
    plt.rcParams.update({"axes.titlelocation": "left", "axes.titlesize": 9})


# ------------------------------------------------------------------ small helpers


def _text_at(ax: Axes, x: float, y: float, text: str, ha: str = "left", **options) -> None:
    """Small text at a place in the data, also outside the axes; `xytext` moves it by points."""
    look: dict[str, Any] = {"ha": ha, "va": "center", "size": 9, "xytext": (0, 0)} | options
    ax.annotate(text, (x, y), textcoords="offset points", annotation_clip=False, **look)


def _axes(ax: Axes | None, size: tuple[float, float], title: str, subtitle: str = "") -> Axes:
    """The given axes, or those of a new figure, with a title and a line below it."""
    if ax is None:
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    ax.set_title(title, weight="bold", size=12, pad=24 if subtitle else 10)
    above: dict[str, Any] = {"xytext": (0, 8), "va": "baseline"}
    _text_at(ax, 0, 1, subtitle, "left", xycoords="axes fraction", color=GREY, **above)
    return ax


def _note(ax: Axes, text: str) -> Axes:
    """Empty axes that say why there is nothing to see."""
    _text_at(ax, 0.5, 0.5, text, "center", xycoords="axes fraction", color=GREY, size=11)
    ax.set(xticks=[], yticks=[])
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def _panels(
    count: int,
    layout: tuple[int, float, float],
    title: str,
    note: str = "",
    xlabel: str = "",
    ylabel: str = "",
    **options,
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, or a note if there are none. `layout`: columns at most, and the
    width and height of a panel. The lowest and the leftmost panels name the axes."""
    if not count:
        return _note_figure(title, note), []
    columns, width, height = layout
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (width * columns, height * rows + 0.5)
    options |= {"figsize": size, "layout": "constrained", "squeeze": False}
    figure, grid = plt.subplots(rows, columns, **options)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=12)
    for unused in grid.flat[count:]:
        unused.set_visible(False)
    axes = list(grid.flat[:count])
    for ax in axes[::columns]:
        ax.set_ylabel(ylabel)
    for ax in axes[-columns:]:
        ax.set_xlabel(xlabel)
        ax.tick_params(labelbottom=True)
    return figure, axes


def _facets(
    df: pd.DataFrame, by: str, *layout_and_texts, **options
) -> tuple[Figure, list[tuple[Axes, Any, pd.DataFrame]]]:
    """Panels for the values of the column `by`, in order of appearance: (axes, value, its rows)."""
    parts = df.groupby(by, sort=False)
    figure, axes = _panels(len(parts), *layout_and_texts, **options)
    return figure, [(ax, name, part) for ax, (name, part) in zip(axes, parts)]


def _note_figure(title: str, text: str) -> Figure:
    """A figure that only says why there is nothing to see."""
    figure, (ax,) = _panels(1, (1, 6, 2), title)
    _note(ax, text)
    return figure


def _rows_of(ax: Axes, names: Iterable[str], below: float, length: float = 0) -> None:
    """A named row for each name, the first on top, with so much room below the last."""
    names = list(names)
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - below, -0.6))
    ax.tick_params("y", length=length)


def _interval(ax: Axes, x: Any, y: Any, colour: str, lw: float = 2, **dot) -> None:
    """A line with a dot in it: one of x and y is (low, value, high), the other the line's place."""
    x, y = np.broadcast_arrays(x, y)
    ax.plot(x[::2], y[::2], color=colour, lw=lw)
    ax.scatter(x[1], y[1], color=colour, zorder=3, **dot)


def _marks(colours: dict[str, str], ls: str = "") -> dict[str, Any]:
    """A dot for each name in its colour, as a legend takes them."""
    marks = [plt.Line2D([], [], marker="o", ls=ls, color=colour) for colour in colours.values()]
    return {"handles": marks, "labels": list(map(str, colours))}


def _legend(place: Axes | Figure, names: Iterable[str], **where) -> None:
    """The environments among `names`, in their fixed order and colours."""
    present = set(names)
    marks = _marks({name: ENVIRONMENTS[name] for name in ENVIRONMENTS if name in present})
    place.legend(**marks, ncols=4, handletextpad=0.1, columnspacing=1.2, **where)


def _count(n: int, what: str) -> str:
    """A number with its noun, in the plural where that is due."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _on(difficulty: str) -> str:
    """The colour of text on the colour of a difficulty."""
    return "white" if difficulty in ("medium", "hard") else INK


def _grid(df: pd.DataFrame) -> int:
    """Attempts M, so that p is counted at k / M; 20 steps where the frame does not say."""
    return int(df["n"].max()) if "n" in df and df["n"].max() > 0 else 20


def _arms(df: pd.DataFrame) -> dict[str, Any]:
    """Arm -> colour, in order of appearance."""
    arms = df["arm"].unique()
    palette = "colorblind" if len(arms) < 11 else "husl"
    return dict(zip(arms, sns.color_palette(palette, len(arms)), strict=True))


# ------------------------------------------------------------------ seeds


def seeds(df: pd.DataFrame, label: str = "") -> Figure:
    """Where seeds come from (bars), and how long they are and which are held out (a dot each).

    Args:
        df: a row per seed: `source` (wild or real), `split` (train or held_out), `package`,
            `lines` (how many it has).
        label: end of the title.
    Returns:
        A figure of two panels, or a note if there is no row.
    Source: our choice.
    """
    title = f"{_count(len(df), 'seed')}: origin, and length with split{label}"
    if df.empty:
        return _note_figure(title, "no seed yet")
    figure, (left, right) = _panels(2, (2, 5, 3.4), title)
    sources = ["wild", "real"]
    # Left: seeds per package, the largest on top.
    counts = df.groupby(["package", "source"], as_index=False).size()
    sns.barplot(
        counts.sort_values("size", ascending=False),
        y="package",
        x="size",
        hue="source",
        hue_order=sources,
        dodge=False,
        ax=left,
        palette=["#4C72B0", "#8C8C8C"],
    )
    left.set(ylabel="", xlabel="seeds")
    for bars in left.containers:
        assert isinstance(bars, BarContainer)
        left.bar_label(bars, padding=3, size=9)
    # Right: a dot per seed.
    sns.swarmplot(
        df,
        x="lines",
        y="source",
        order=sources,
        hue="split",
        hue_order=["train", "held_out"],
        ax=right,
        size=4,
        palette=[INK, "#D55E00"],
    )
    right.set(ylabel="", xlabel="lines", xlim=(0, None))
    right.legend(title="", loc="upper left")
    return figure


# ------------------------------------------------------------------ problems


def _stacks(ax: Axes, df: pd.DataFrame, base: float, height: float, attempts: int) -> int:
    """Counts of p above `base`, stacked by environment: dots below DOTS_BELOW values, else bars.

    The tallest stack is as high as `height`; returns its count."""
    df = df.assign(k=(df.p * attempts).round(), n=1)
    df = df.sort_values("environment", key=pd.Index(ENVIRONMENTS).get_indexer)
    tallest = df.k.value_counts().max()
    unit = height / tallest
    if few := len(df) < DOTS_BELOW:
        unit = min(unit, 0.15 * height)
    else:
        df = df.groupby(["k", "environment"], sort=False, as_index=False)["n"].sum()
    x = df.k / attempts
    under = base + (df.groupby("k").n.cumsum() - df.n) * unit
    colours = df.environment.map(ENVIRONMENTS).fillna(INK)
    if few:
        y = under + unit / 2
        ax.scatter(x, y, s=34, color=colours, edgecolor="white", lw=0.5, zorder=3)
    else:
        ax.bar(x, df.n * unit, 0.8 / attempts, under, color=colours, zorder=3, lw=0)
    return tallest


def _shade_dropped(span: Any, beyond: float) -> None:
    """Grey where the filter drops a pass rate. `span`: axvspan or axhspan of the axes."""
    for low, high in ((-beyond, KEPT[0]), (KEPT[1], 1 + beyond)):
        span(low, high, color=FAINT, lw=0, zorder=0)


def pass_rates(df: pd.DataFrame, label: str = "", ax: Axes | None = None) -> Axes:
    """Pass rates of the graded problems: a row per turn, for the baseline and per stepping stone.

    Args:
        df: `p`, `environment`, `turn`, `method`, `asked`, as `records.frame` gives them.
        label: end of the title.
        ax: where to draw; None: a new figure.
    Returns:
        The axes; a note if no problem is graded.
    Source: paper (the kept range); the figure is our choice.
    """
    graded = df.dropna(subset="p")
    turns = graded[graded.method == "multi"].groupby("turn")
    rows = {f"turn {turn}": part for turn, part in turns}
    rows["single-turn\nbaseline"] = graded[graded.method == "single"]
    rows |= {f"stone:\n{asked}": graded[graded.asked == asked] for asked in LEVELS}
    rows = {name: part for name, part in rows.items() if len(part)}
    size = (8, 1.6 + 0.95 * max(1, len(rows)))
    ax = _axes(ax, size, f"Pass rate by turn{label}", "grey: dropped by the filter")
    if not rows:
        return _note(ax, "no problem has been graded yet")
    # One histogram per row, with the mean as a tick on its line.
    for k, part in enumerate(rows.values()):
        _stacks(ax, part, -k, 0.85, _grid(graded))
        ax.axhline(-k, color=GREY, lw=0.6)
        mean = part.p.mean()
        ax.plot([mean, mean], [-k - 0.06, -k + 0.06], color=INK, lw=2, zorder=4)
        _text_at(ax, 1.08, -k + 0.22, f"{_count(len(part), 'problem')}\nmean {mean:.2f}")
    _shade_dropped(ax.axvspan, 0.06)
    ax.set(
        xlim=(-0.06, 1.06),
        ylim=(-len(rows) + 0.85, 1),
        xlabel="pass rate of the student (tick on the line: mean)",
        yticks=0.22 - np.arange(len(rows)),
        yticklabels=rows,
    )
    ax.tick_params("y", length=0)
    sns.despine(ax=ax, left=True)
    _legend(ax, graded.environment, loc="lower right", bbox_to_anchor=(1, 1))
    return ax


def _links(df: pd.DataFrame) -> pd.DataFrame:
    """Children with `turn_parent` and `p_parent` of their parent: both graded, of one chain."""
    graded = df.dropna(subset="p")
    parents = graded[["chain_id", "id", "turn", "p"]].drop_duplicates(["chain_id", "id"])
    found = graded.merge(
        parents,
        left_on=["chain_id", "parent_id"],
        right_on=["chain_id", "id"],
        suffixes=("", "_parent"),
    )
    return found[found["turn_parent"] < found["turn"]]


def _slope(ax: Axes, left: float, part: pd.DataFrame, asked: str) -> None:
    """A line from each problem to its successor, and a bold one from mean to mean."""
    pairs = part[["p_parent", "p"]].to_numpy().T
    means = pairs.mean(axis=1)
    n = len(part)
    ends = [left, left + 1]
    # Lines that would cover each other lie a little apart.
    pairs = pairs + np.linspace(-0.008, 0.008, n) * (n > 1)
    colour = ASKED[asked]
    ax.plot(ends, pairs, "o-", color=colour, alpha=np.clip(12 / n, 0.12, 0.5), lw=1, ms=3.5, mew=0)
    ax.plot(ends, means, "o-", color=colour, lw=3.5, ms=8, mec="white", zorder=4)
    middle = left + 0.5
    _text_at(ax, middle, 1.07, asked, "center", color=colour, weight="bold", va="bottom", size=10)
    change = f"mean {means[1] - means[0]:+.2f}, n = {n}"
    _text_at(ax, middle, 1.065, change, "center", va="top")


def slopes(df: pd.DataFrame, label: str = "", ax: Axes | None = None) -> Axes:
    """Pass rate of each problem and of its successor, by what the teacher was asked.

    Args:
        df: as `records.frame` gives it.
        label: end of the title.
        ax: where to draw; None: a new figure.
    Returns:
        The axes; a note if no chain has two graded turns in a row.
    Source: paper (the rule of 0.65 and 0); the figure is our choice.
    """
    links = _links(df)
    title = f"From one turn to the next: what the teacher was asked, and what came{label}"
    chains = _count(links.chain_id.nunique(), "chain")
    counts = f"{_count(len(links), 'pair')} of graded turns, {chains}, bold: mean"
    ax = _axes(ax, (8, 4.4), title, counts)
    groups = links.groupby(pd.Categorical(links["asked"], list(ASKED)), observed=True)
    if not len(groups):
        return _note(ax, "no chain has two graded turns in a row yet")
    lefts = 1.6 * np.arange(len(groups))
    for left, (asked, part) in zip(lefts, groups):
        _slope(ax, left, part, asked)
    # The paper's rule: what is asked for depends on the pass rate before.
    end = lefts[-1] + 1
    for y, text in ((HARDER_ABOVE, "above 0.65:\nask for harder"), (0, "at 0:\nask for easier")):
        ax.axhline(y, color=INK, **_DASHED)
        _text_at(ax, end + 0.35, y, text, backgroundcolor="white")
    ax.set(
        xlim=(-0.3, end + 0.3),
        ylim=(-0.04, 1.14),
        ylabel="pass rate",
        yticks=np.linspace(0, 1, 5),
        xticks=np.ravel([lefts, lefts + 1], "F"),
        xticklabels=["turn t", "t + 1"] * len(groups),
    )
    return ax


def _shares(ax: Axes, rows: pd.DataFrame, names: list[str], shift: float, colour: str = "") -> None:
    """An interval per environment that was counted; in its own colour if none is given."""
    for row in rows[(rows.of > 0) & rows.environment.isin(names)].itertuples():
        y = names.index(row.environment) + shift
        ink = colour or ENVIRONMENTS.get(row.environment, INK)
        _interval(ax, (row.low, row.share, row.high), y, ink, s=34)
        _text_at(ax, 1.04, y, f"{row.count} of {row.of}", color=colour or INK)


def quality(df: pd.DataFrame, before: pd.DataFrame | None = None, label: str = "") -> Figure:
    """How good the teacher is: a panel per measure, a row per environment, 95% intervals.

    Args:
        df: of `rounds.quality`.
        before: the same of an earlier run, drawn in grey; None: there is none.
        label: end of the title.
    Returns:
        The figure; a note if no problem has been written.
    Source: our choice.
    """
    names = list(df.environment.unique())
    layout = (3, 3.9, 0.6 + 0.42 * len(names))
    title = f"How good is the teacher?{label}"
    note = "no problem has been written yet"
    figure, facets = _facets(df, "measure", layout, title, note, sharey=True)
    for ax, measure, part in facets:
        shift = 0.0
        if before is not None:
            shift = 0.16
            _shares(ax, before[before.measure == measure], names, shift, "#AAAAAA")
        _shares(ax, part, names, -shift)
        _rows_of(ax, names, 0.5)
        ax.set(xlim=(0, 1), xticks=[0, 0.5, 1])
        ax.set_title(measure, size=11)
        ax.xaxis.set_major_formatter("{x:.0%}")
    return figure


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


def sensitivity(df: pd.DataFrame, label: str = "") -> Figure:
    """What our choices decide: problems kept, dropped as twins and as contaminated, per setting.

    Args:
        df: of `filters.sensitivity`.
        label: end of the title.
    Returns:
        A panel per choice, the chosen setting in bold; a note if no problem was filtered.
    Source: our choice.
    """
    title = f"How much do our own thresholds decide?{label}"
    note = "no problem has been filtered yet"
    options = {"ylabel": "problems", "sharey": True}
    figure, facets = _facets(df, "choice", (3, 3.6, 2.5), title, note, **options)
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
        ax.set(xticks=places, xticklabels=part.setting, title=_CHOICES.get(choice, choice))
        for tick, chosen in zip(ax.get_xticklabels(), part.chosen):
            tick.set_fontweight("bold" if chosen else "normal")
    # The legend is the same for all panels.
    if facets:
        handles, labels = ax.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=3)
    return figure


def _drawn_chains(ax: Axes, graded: pd.DataFrame, whole: set[str]) -> None:
    """A line per chain of stepping stones over the paper's bins; bold if all three are kept."""
    drift = np.random.default_rng(0)
    for chain, part in graded.groupby("chain_id", sort=False):
        part = part.assign(x=part.asked.map(LEVELS.index)).sort_values("x")
        # Dots that would cover each other lie a little apart.
        xs = part.x + drift.uniform(-0.08, 0.08)
        ys = part.p + drift.uniform(-0.012, 0.012)
        colour = ENVIRONMENTS[part.environment.iloc[0]]
        width, alpha = (2, 0.9) if chain in whole else (1, 0.4)
        ax.plot(xs, ys, color=colour, lw=width, alpha=alpha)
        fill = np.where(part.kept, colour, "white")
        ax.scatter(xs, ys, color=fill, edgecolor=colour, s=26, zorder=3)
    for k, level in enumerate(BINS["narrow"]):
        ends = ((k + 0.1) / 3, (k + 0.9) / 3)
        colour = DIFFICULTY[level.name]
        ax.axhspan(level.low, level.high, *ends, color=colour, alpha=0.35, lw=0, zorder=0)
    ax.set(
        xticks=range(3),
        xticklabels=[f"asked:\n{name}" for name in LEVELS],
        ylim=(-0.05, 1.05),
        xlim=(-0.4, 2.4),
        ylabel="pass rate",
    )


def stones(
    tried: pd.DataFrame, chosen: pd.DataFrame, apart: pd.DataFrame, label: str = ""
) -> Figure:
    """Stepping stones as they came, and the set without kinship that is compared with whole chains.

    Args:
        tried: `records.frame` of all problems of stepping stones.
        chosen: the same of the chains of `difficulty.stones`.
        apart: the same of `difficulty.disjoint`.
        label: end of the title.
    Returns:
        A figure of two panels; of one if `chosen` is empty; a note if nothing is graded.
    Source: paper (stepping stones, the disjoint set, narrow bins); the figure is our choice.
    """
    title = f"Stepping stones: hard, then its medium and easy variants{label}"
    graded = tried.dropna(subset="p")
    if graded.empty:
        return _note_figure(title, "no stepping stone has a pass rate yet")
    figure, (left, *rest) = _panels(1 if chosen.empty else 2, (2, 5, 3.4), title)
    _drawn_chains(left, graded, set(chosen.chain_id))
    _legend(figure, graded.environment, loc="outside lower left")
    chains = _count(tried.chain_id.nunique(), "chain")
    left.set_title(f"{chains}, full: kept, bold: all three kept; shaded: the paper's bins")
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
        right.set_title("the same pass rates, without kinship")
        right.legend()
    return figure


def lineage(
    df: pd.DataFrame, chain_ids: Iterable[str] | None = None, label: str = "", most: int = 6
) -> Figure:
    """Chains turn by turn, a panel each; a cross with its reason where a turn was dropped.

    Problems without a pass rate stand below 0.

    Args:
        df: as `records.frame` gives it, filtered or not.
        chain_ids: chains to draw; None: the longest and most varied multi-turn ones.
        label: end of the title.
        most: at most so many chains.
    Returns:
        The figure; a note if there is no chain.
    Source: our choice.
    """
    if chain_ids is None:
        df = df[df.method == "multi"]
        lengths = df.groupby("chain_id", sort=False).agg({"p": "count", "asked": "nunique"})
        chain_ids = lengths.sort_values(["p", "asked"], ascending=False, kind="stable").index
    chain_ids = list(chain_ids)
    df = df[df.chain_id.isin(chain_ids)].sort_values("turn")
    chains = dict(list(df.groupby("chain_id")))
    chosen = [chains[chain] for chain in chain_ids if chain in chains][:most]
    texts = (f"Chains, turn by turn{label}", "no chain to draw yet", "turn", "pass rate")
    figure, axes = _panels(len(chosen), (3, 3.5, 2.7), *texts, sharex=True, sharey=True)
    for ax, chain in zip(axes, chosen):
        _chain(ax, chain)
        turns = df.turn.max()
        ax.set(ylim=(-0.3, 1.12), yticks=[0, 0.5, 1])
        ax.set(xlim=(0.6, turns + 0.6), xticks=range(1, turns + 1))
    return figure


def _chain(ax: Axes, chain: pd.DataFrame) -> None:
    """The turns of one chain, joined by what the teacher was asked."""
    name = chain.environment.iloc[0]
    colour = ENVIRONMENTS.get(name, INK)
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
            _text_at(ax, x, y, turn.asked, "center", color=ink, bbox=box, zorder=3)
        # Before the filters nothing is kept: what is valid counts as alive.
        alive = turn.kept or not (turn.dropped_by or turn.reason)
        look = {"marker": "o", "color": colour} if alive else {"marker": "X", "color": INK}
        ax.scatter(turn.turn, turn.y, s=46, zorder=4, edgecolor="white", lw=0.6, **look)
        if not alive:
            _dropped(ax, turn)


def _dropped(ax: Axes, turn: Any) -> None:
    """Why a turn was dropped, shortened, beside its cross where there is room."""
    why = turn.reason if turn.dropped_by in ("", "invalid") else turn.dropped_by
    why = why.partition(":")[0]
    if len(why) > 18:
        why = f"{why[:17]}…"
    va, offset = ("bottom", 7) if 0.02 <= turn.y < 0.5 else ("top", -7)
    box = {"fc": "white", "ec": "none", "pad": 0.5, "alpha": 0.8}
    _text_at(ax, turn.turn, turn.y, why, "center", xytext=(0, offset), va=va, bbox=box)


def funnel(df: pd.DataFrame, label: str = "", ax: Axes | None = None) -> Axes:
    """What became of the problems of each method, all environments together.

    Args:
        df: of `filters.funnel`.
        label: end of the title.
        ax: where to draw; None: a new figure.
    Returns:
        The axes; a note if no problem was filtered.
    Source: our choice.
    """
    sums = {"values": "count", "aggfunc": "sum", "fill_value": 0}
    counts = df.pivot_table(index="dropped_by", columns="method", **sums)
    reasons = [reason for reason in REASONS if reason in counts.index]
    counts = counts.reindex(reasons, columns=[method for method in METHODS if method in counts])
    # What our infrastructure lost is in no share.
    ours = counts.index.isin(OURS)
    lost = counts[ours].sum()
    counts = counts[~ours]
    total = counts.sum()
    parts = [
        f"{method}: {_count(int(n), 'problem')}"
        + (f" (and {int(lost[method])} lost to our errors)" if lost[method] else "")
        for method, n in total.items()
    ]
    ax = _axes(ax, (8, 5.4), f"What becomes of the problems{label}", " · ".join(parts))
    if not total.sum():
        return _note(ax, "no problem has been filtered yet")
    # Per reason a bar for each method; the bars of the first reason name the methods.
    shares = (counts / total.where(total > 0)).fillna(0)
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
    ax.get_yticklabels()[-1].set_fontweight("bold" if counts.index[-1] == "kept" else "normal")
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    return ax


def _ratio_row(ax: Axes, y: int, row: Any, end: float) -> None:
    """One environment: its ratio and interval, or why there is none; its counts at the right."""
    colour = ENVIRONMENTS.get(row.environment, INK)
    marker = "D" if row.environment == "all" else "o"
    _interval(ax, (row.low, row.ratio, min(row.high, end)), y, colour, s=70, marker=marker)
    if np.isinf(row.high):
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 2}
        ax.annotate("", (end, y), (end * 0.98, y), arrowprops=arrow)
    if not np.isfinite(row.ratio):
        why = "no ratio: nothing to divide"
        if row.ratio > 0:
            why = "∞: single-turn kept none"
        _text_at(ax, end * 0.5, y, why, "center", color=colour, backgroundcolor="white")
    elif pd.isna(row.low):
        why = "no interval: one seed"
        _text_at(ax, row.ratio, y, why, xytext=(10, 0), size=9.5, color=GREY)
    counts = f"{row.multi_kept}/{row.multi_produced} : {row.single_kept}/{row.single_produced}"
    _text_at(ax, end * 1.02, y, f"{counts}   {_count(row.seeds, 'seed')}")


def ratio(df: pd.DataFrame, label: str = "", ax: Axes | None = None) -> Axes:
    """Kept share of multi-turn over that of single-turn, with its bootstrap interval.

    Args:
        df: of `filters.yields`.
        label: end of the title.
        ax: where to draw; None: a new figure.
    Returns:
        The axes, a row per environment; a note if no problem was filtered.
    Source: paper, sec. 4.2 (the ratio, more than 4); the interval is our choice.
    """
    title = f"Multi-turn keeps how many times the share of single-turn?{label}"
    size = (8.5, 1.7 + 0.5 * max(1, len(df)))
    ax = _axes(ax, size, title, "kept share multi / single; 95% bootstrap over seeds")
    if df.empty:
        return _note(ax, "no problem has been filtered yet")
    values = df[["ratio", "low", "high"]].to_numpy(float)
    end = 1.12 * max([PAPER_RATIO * 1.1, *values[np.isfinite(values)]])
    for y, row in enumerate(df.itertuples()):
        _ratio_row(ax, y, row, end)
    for x, text in ((1, "1"), (PAPER_RATIO, "paper: > 4")):
        ax.axvline(x, color=GREY, **_DASHED)
        below = len(df) - 0.35
        _text_at(ax, x, below, text, "center", color=GREY, backgroundcolor="white", size=9.5)
    _rows_of(ax, df.environment, 0)
    ax.set(xlim=(0, end), xlabel="ratio   (right: kept / produced, multi : single)")
    return ax


def bins(df: pd.DataFrame, label: str = "", scheme: str = "broad") -> Figure:
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
        return _note_figure(title, "no problem has been graded yet")
    figure, (left, right) = _panels(2, (2, 5, 3.6), title, width_ratios=(1.35, 1))
    # Left: the pass rates above a strip of bins per scheme.
    tallest = _stacks(left, graded, 0, 1, _grid(graded))
    for y, name in ((-0.14, "broad"), (-0.27, "narrow")):
        for part in BINS[name]:
            width = part.high - part.low
            colour = DIFFICULTY[part.name]
            left.barh(y, width, 0.1, part.low, color=colour, edgecolor="white")
            short = part.name.replace("easy-medium", "easy-med.")
            _text_at(left, part.low + width / 2, y, short, "center", color=_on(part.name))
        _text_at(left, -0.08, y, name, "right", size=9.5)
    edges = [edge for part in BINS[scheme] for edge in (part.low, part.high)]
    left.vlines(edges, -0.08, 1.04, color=GREY, lw=0.6, ls=":", zorder=1)
    left.axhline(0, color=GREY, lw=0.8)
    left.set(xlim=(-0.07, 1.07), ylim=(-0.34, 1.06), yticks=[], xlabel="pass rate of the student")
    left.set_title(f"{_count(len(graded), 'problem')}, tallest column {tallest}", color=GREY)
    sns.despine(ax=left, left=True)
    # Right: how many problems each bin has, per environment.
    names = [part.name for part in reversed(BINS[scheme])] + ["in no bin"]
    counts = pd.crosstab(graded.bin.astype(object).fillna("in no bin"), graded.environment)
    counts = counts.reindex(index=names, columns=list(ENVIRONMENTS), fill_value=0)
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
        tick.set(color=ENVIRONMENTS[tick.get_text()], weight="bold")
    return figure


# ------------------------------------------------------------------ training


def curriculum(
    df: pd.DataFrame, realised: pd.DataFrame | None = None, label: str = "", ax: Axes | None = None
) -> Axes:
    """Sampling weights over steps, stacked; broken lines: what the plan draws.

    Args:
        df: of `curricula.table`.
        realised: of `curricula.realised`; None: no lines.
        label: end of the title.
        ax: where to draw; None: a new figure.
    Returns:
        The axes; a note if there is no schedule.
    Source: our choice.
    """
    drawn = pd.DataFrame() if realised is None else realised[realised["kind"] == "bin"]
    subtitle = "sampling weight of each difficulty"
    if len(drawn):
        subtitle += "; broken lines: what the plan really draws"
    ax = _axes(ax, (8, 3.4), f"Curriculum{label}", subtitle)
    if df.empty:
        return _note(ax, "no schedule given")
    wide = df.pivot_table(index="step", columns="bin", values="weight")
    wide = wide[[name for name in ORDER if name in wide]]
    steps = wide.index.to_numpy(float)
    colours = [DIFFICULTY[name] for name in wide]
    ax.stackplot(steps, wide.to_numpy().T, colors=colours, step="post", lw=0)
    # The name of a bin stands where its area has most room.
    middles = wide.cumsum(axis=1) - wide / 2
    for name in wide:
        areas = np.diff(steps) * wide[name].where(wide[name] > 0.12, 0).to_numpy()[:-1]
        if areas.any():
            k = int(areas.argmax())
            x = (steps[k] + steps[k + 1]) / 2
            y = middles[name].iloc[k]
            _text_at(ax, x, y, name, "center", weight="bold", color=_on(name), size=10)
    if len(drawn):
        # Shares of a phase add up, in the order of the areas, to the height of each border.
        drawn = drawn.sort_values("name", key=lambda names: names.map(ORDER.index))
        for (start, end), part in drawn.groupby(["from_step", "to_step"]):
            borders = part["realised"].cumsum().iloc[:-1]
            ax.hlines(borders, start, end, color="#E8590C", lw=1.8, ls=(0, (3, 2)))
    ax.set(xlim=(0, max(steps.max(), 1)), ylim=(0, 1), yticks=np.linspace(0, 1, 5))
    ax.set(xlabel="step", ylabel="weight")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_major_formatter("{x:,g}")
    return ax


HEALTH = {
    "reward": ("reward", (0, 1)),
    "entropy": ("entropy of the policy (nats)", (0, None)),
    "frac_reward_zero_std": ("share of dead groups: no update", (0, 1)),
    "sandbox_error_share": ("share of answers lost in the sandbox", (0, None)),
    "completion_length": ("completion length (tokens)", (0, None)),
    "cut_off_share": ("share of answers cut off", (0, 1)),
    "clip_ratio": ("share of tokens clipped", (0, None)),
    "step_time": ("seconds per step", (0, None)),
}
SPLIT = {"rollouts": "#9DB7D5", "rewards": "#C98B2B", "update": "#0B3C6F"}


def _health_panel(ax: Axes, df: pd.DataFrame, column: str) -> None:
    """One measure over the steps: thin each step, bold the running median; seconds are stacked."""
    part = df[["step", column]].dropna().sort_values("step").astype(float)
    times = ["step", "rollout_time", "reward_time", "step_time"]
    split = df.reindex(columns=times).dropna().sort_values("step")
    if column == "step_time" and len(split):
        # What is left of a step's time is the update.
        rest = (split.step_time - split.rollout_time - split.reward_time).clip(lower=0)
        parts = (split.rollout_time, split.reward_time, rest)
        ax.stackplot(split.step, *parts, colors=SPLIT.values(), labels=SPLIT, lw=0)
        ax.legend(loc="upper left", ncols=3, fontsize=9, handlelength=1, columnspacing=0.8)
    else:
        marker = "o" if len(part) < DOTS_BELOW else ""
        ax.plot(part.step, part[column], f"{marker}-", color=METHODS["single"], lw=1, ms=3.5)
    if len(part) >= 8 and column != "step_time":
        window = max(5, len(part) // 12)
        smooth = part[column].rolling(window, center=True, min_periods=1).median()
        ax.plot(part.step, smooth, color=METHODS["multi"], lw=2.2)
    name, (low, high) = HEALTH[column]
    least = 0.05 if "share" in name else 1e-9
    top = high or max(part[column].max() * 1.15, least)
    ax.set(ylim=(low - 0.02 * top, top * 1.02), title=name)


def health(df: pd.DataFrame, switches: Iterable[float] = (), label: str = "") -> Figure:
    """Is training alive? A panel per measure; thin: each step, bold: running median.

    Args:
        df: `step` and those columns of HEALTH that were logged; seconds are stacked where
            `rollout_time` and `reward_time` were logged too.
        switches: steps at which the curriculum changes, drawn as dotted lines.
        label: end of the title.
    Returns:
        The figure; a note if no step was logged.
    Source: our choice.
    """
    logged = df.dropna(axis=1, how="all")
    found = [column for column in HEALTH if column in logged and "step" in logged]
    texts = (f"Health of the training{label}", "no step has been logged yet", "step")
    figure, axes = _panels(len(found), (4, 3.2, 2.3), *texts, sharex=True)
    for ax, column in zip(axes, found):
        _health_panel(ax, df, column)
        for step in switches:
            ax.axvline(step, color="#E8590C", lw=1, ls=":")
    return figure


def learning(
    df: pd.DataFrame,
    label: str = "",
    ylabel: str = "reward",
    window: int = 1,
    ax: Axes | None = None,
) -> Axes:
    """Curves over steps, a colour per arm: thin a seed, bold the median, band min to max.

    Args:
        df: `step`, `value` and, if there are several, `arm` and `seed`.
        label: end of the title.
        ylabel: what `value` is; the axis of a "reward" reaches 1.
        window: each point is the mean of so many steps up to it.
        ax: where to draw; None: a new figure.
    Returns:
        The axes; a note if there is no value.
    Source: our choice.
    """
    df = df.reindex(columns=["arm", "seed", "step", "value"])
    df = df.fillna({"arm": "", "seed": 0}).dropna()
    runs = df[["arm", "seed"]].drop_duplicates()
    several = runs.seed.nunique() > 1
    notes = []
    if several:
        notes.append(f"{_count(len(runs), 'run')}; thin: one seed, bold: median, band: min to max")
    if window > 1:
        notes.append(f"mean of {window} steps")
    ax = _axes(ax, (8, 4), f"Learning curves{label}", "; ".join(notes))
    if df.empty:
        return _note(ax, "no curve to draw yet")
    curves = df.groupby(["arm", "seed"]).value
    df["value"] = curves.transform(lambda curve: curve.rolling(window, 1).mean())
    ends = []
    for arm, colour in _arms(df).items():
        wide = df[df.arm == arm].pivot_table(index="step", columns="seed", values="value")
        median = wide.median(axis=1)
        ax.plot(wide, color=colour, lw=0.8, alpha=0.6, marker="o" if len(wide) == 1 else "")
        ax.plot(median, color=colour, lw=2.4)
        band = (wide.min(axis=1), wide.max(axis=1))
        ax.fill_between(wide.index, *band, color=colour, alpha=0.12, lw=0)
        name = f"{arm} ({wide.shape[1]})" if arm and several else arm
        ends.append((median.iloc[-1], name, colour))
    highest = df.value.max()
    top = max(1.0, highest * 1.05) if ylabel == "reward" else highest * 1.1 or 1
    ax.set(ylim=(min(0, df.value.min()), top), xlabel="step", ylabel=ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(x=0.01)
    # Names stand at the ends of the curves and do not overlap.
    last = -np.inf
    beside: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "xytext": (6, 0)}
    for y, name, colour in sorted(ends, key=lambda end: end[0]):
        last = max(y, last + 0.06 * top)
        _text_at(ax, 1, last, name, color=colour, weight="bold", **beside)
    return ax


# ------------------------------------------------------------------ evaluation


def _checkpoints(figure: Figure, df: pd.DataFrame) -> dict[str, str]:
    """Checkpoint -> colour, in order of appearance: grey, then ever deeper red; with a legend."""
    names = df.checkpoint.unique()
    colours = dict(zip(names, ["#9A9A9A", *sns.color_palette("flare", len(names)).as_hex()]))
    figure.legend(**_marks(colours, "-"), loc="outside lower left", ncols=6)
    return colours


def _side_by_side(part: pd.DataFrame, colours: dict[str, str], gap: float) -> Iterable[tuple]:
    """(row, its place, its colour): around its number `tick`, the checkpoints in their order."""
    names = list(colours)
    gap = min(gap, 0.75 / len(names))
    for row in part.itertuples():
        shift = names.index(row.checkpoint) - (len(names) - 1) / 2
        yield row, row.tick + shift * gap, colours[row.checkpoint]


def pass_at_k(df: pd.DataFrame, label: str = "") -> Figure:
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
        return _note_figure(title, "nothing has been evaluated yet")
    options = {"ylabel": "share solved", "sharey": True}
    figure, facets = _facets(df, "set", (2, 4.8, 2.8), title, **options)
    colours = _checkpoints(figure, df)
    for ax, name, part in facets:
        # Greedy answers stand first, then the sampled ones by k.
        k = part.k.where(part["mode"] == "sampled", 0)
        ticks, part["tick"] = np.unique(k, return_inverse=True)
        for row, x, colour in _side_by_side(part, colours, 0.3):
            marker = "o" if row.mode == "sampled" else "D"
            value = row.value
            span = (row.low, value, row.high)
            _interval(ax, x, span, colour, s=42, edgecolor="white", marker=marker)
            # Two checkpoints leave room for numbers, one on each side.
            if len(colours) < 3:
                ha, shift = ("right", -6) if colour == "#9A9A9A" else ("left", 6)
                _text_at(ax, x, value, f"{value:.2f}", ha, xytext=(shift, 0), color=colour)
        ax.set(
            xlim=(-0.8, len(ticks) - 0.2),
            ylim=(-0.04, 1.04),
            xticks=range(len(ticks)),
            xticklabels=[f"pass@{int(tick)}" if tick else "greedy" for tick in ticks],
            title=f"{name}: {_count(int(part.n_problems.max()), 'problem')}",
        )
    return figure


def groups(df: pd.DataFrame, label: str = "") -> Figure:
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
        return _note_figure(title, "no set has several levels or environments")
    figure, facets = _facets(df, "set", (3, 4.0, 2.6), title, sharex=True)
    colours = _checkpoints(figure, df)
    for ax, name, part in facets:
        counts = part.groupby("group", sort=False).n_problems.max()
        part["tick"] = part.group.map(counts.index.get_loc)
        for row, y, colour in _side_by_side(part, colours, 0.25):
            _interval(ax, (row.low, row.value, row.high), y, colour, s=42, edgecolor="white")
        _rows_of(ax, [f"{group} ({n})" for group, n in counts.items()], 0.4, length=6)
        ax.set(xlim=(0, 1), title=name, xlabel="pass@1")
        ax.tick_params(labelbottom=True)
    return figure


def paired(df: pd.DataFrame, label: str = "") -> Figure:
    """Each problem before and after training, a panel per set, sorted by change; grey: no change.

    Args:
        df: `set`, `problem_id`, `before`, `after` (shares of samples solved, 0 to 1).
        label: end of the title.
    Returns:
        The figure, with the mean change and its interval in each title; a note if no problem was
        evaluated twice.
    Source: our choice.
    """
    texts = (
        f"Problem by problem, before and after{label}",
        "no problem has been evaluated twice yet",
        "",
        "share of samples solved",
    )
    df = df.dropna(subset=["before", "after"]).assign(change=df.after - df.before)
    figure, facets = _facets(df, "set", (2, 4.6, 2.6), *texts, sharey=True)
    for ax, name, part in facets:
        n = len(part)
        width, size = (1.6, 24) if n < 100 else (0.8, 6)
        for x, row in enumerate(part.sort_values(["change", "before"]).itertuples()):
            colour = CHANGES[np.sign(row.change)]
            _interval(ax, x, (row.before, row.after, row.after), colour, width, s=size)
        up, down = (part.change > 0).sum(), (part.change < 0).sum()
        mean, low, high = interval(part.change, bounds=(-1, 1))
        ax.set(
            title=f"{name}: mean change {mean:+.2f} [{low:+.2f}, {high:+.2f}]\n"
            f"{up} up, {down} down, {n - up - down} unchanged",
            ylim=(-0.03, 1.03),
            xlim=(-1, n),
            xticks=[],
            xlabel=f"{_count(n, 'problem')}, by change (dot: after)",
        )
    return figure


# ------------------------------------------------------------------ study


VERDICTS = {
    "supported": "#009E73",
    "contradicted": "#D55E00",
    "undecided": "#555555",
    "not tested at this scale": "#B5B5B5",
}


def _comparison(ax: Axes, y: int, row: Any) -> None:
    """The effect on sampled answers with its verdict, or a hollow one on greedy answers."""
    colour = VERDICTS[row.part]
    effect = (row.low, row.value, row.high)
    if row.mode != "sampled":
        _interval(ax, effect, y + 0.2, colour, 1.2, s=24, facecolor="white")
        return
    _interval(ax, effect, y - 0.1, colour, 2.2, s=44)
    ax.plot([row.null, row.null], [y - 0.45, y + 0.45], color=INK, lw=1)
    right = ax.get_yaxis_transform()
    _text_at(ax, 1.01, y - 0.16, row.part, xycoords=right, color=colour, weight="bold")
    numbers = f"{_count(row.seeds, 'seed')}, n = {row.problems}"
    _text_at(ax, 1.01, y + 0.22, numbers, xycoords=right, color=GREY)


def board(df: pd.DataFrame, label: str = "") -> Figure:
    """The claim board: a row per comparison with its effect and 95% interval; hollow: greedy.

    Differences stand above, ratios below (log scale). The verdict at the right is of the sampled
    answers.

    Args:
        df: of `findings.board` and `findings.of_rounds`.
        label: end of the title.
    Returns:
        The figure; a note if there is no claim.
    Source: paper (the claims); effects and verdicts are our choice.
    """
    title = f"What holds?{label}"
    if df.empty:
        return _note_figure(title, "no claim has been looked at yet")
    df = df.assign(name=df.claim + "   " + df.comparison, ratio=df.null != 0)
    rows = df.groupby("ratio").name.nunique()
    layout = (1, 12, (0.9 + 0.46 * rows.sum()) / len(rows) + 0.5)
    df = df.sort_values("ratio", kind="stable")
    figure, facets = _facets(df, "ratio", layout, title, height_ratios=rows + 1)
    for ax, ratios, part in facets:
        names = list(part.name.unique())
        for row in part.itertuples():
            _comparison(ax, names.index(row.name), row)
        _rows_of(ax, names, 0.4)
        low, high = part.low.min(), part.high.max()
        if ratios:
            ax.set(xscale="log", xticks=(0.01, 0.1, 0.25, 0.5, 1, 2, 4, 8, 100))
            ax.set(xlabel="ratio; bar: what the claim needs")
            ax.xaxis.set_major_formatter("{x:g}")
            ax.minorticks_off()
            ax.set_xlim(min(0.2, low * 0.8), max(8, high * 1.2))
        else:
            limits = (min(-0.3, low * 1.05), max(0.3, high * 1.05))
            ax.set(xlabel="difference; bar: no effect", xlim=limits)
    return figure


def heat(df: pd.DataFrame, label: str = "") -> Axes:
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
    mean = f"pass@1, mean over {_count(int(seeds.max()), 'seed')}" if len(seeds) else ""
    size = (9, 1.6 + 0.34 * max(4, len(arms)))
    ax = _axes(None, size, f"What each arm solves after training{label}", mean)
    if df.empty:
        return _note(ax, "no study has been run yet: python -m kit study")
    # Bins from easy to hard, then the sets.
    columns = sorted(df.of.unique(), key=lambda of: (*ORDER, of).index(of))
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


def sharpening(df: pd.DataFrame, label: str = "") -> Figure:
    """Change of sampled (x) and greedy (y) answers by training; small: a seed, large: a mean.

    Args:
        df: of `findings.changes`.
        label: end of the title.
    Returns:
        The figure, a panel per set; a note if no study was run.
    Source: our choice.
    """
    title = f"Learning, or only surer?{label}"
    if df.empty:
        return _note_figure(title, "no study has been run yet: python -m kit study")
    options = {"ylabel": "greedy: change", "sharex": True, "sharey": True}
    figure, facets = _facets(df, "set", (4, 3.4, 3.4), title, **options)
    colours = _arms(df)
    for ax, name, part in facets:
        # On the dotted line greedy answers change as much as sampled ones.
        ax.axhline(0, color=GREY, lw=0.8)
        ax.axvline(0, color=GREY, lw=0.8)
        ax.axline((0, 0), slope=1, color=GREY, lw=0.8, ls=":")
        for arm, seeds in part.groupby("arm", sort=False):
            colour = colours[arm]
            ax.scatter(seeds.sampled, seeds.greedy, s=14, marker="x", color=colour, lw=0.9)
            mean = (seeds.sampled.mean(), seeds.greedy.mean())
            ax.scatter(*mean, s=52, color=colour, edgecolor="white", zorder=3)
        problems = _count(int(part.problems.max()), "problem")
        ax.set(xlabel="sampled: change", title=f"{name}\n{problems}")
        ax.xaxis.set_major_locator(MaxNLocator(4))
    figure.legend(**_marks(colours), loc="outside right upper")
    return figure


style()  # moved to kit.start by the script
