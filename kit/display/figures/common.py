"""What all figures share: style, colours, panels, intervals, legends, notes."""

import re
from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap
from typing import Any, get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kit.core.bins import BIN_ORDER
from kit.core.config import EnvironmentName

# Induction, abduction, deduction, fuzzing; then two to spare (Okabe and Ito's colours).
_OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
ENVIRONMENT_COLOURS = dict(zip(get_args(EnvironmentName), _OKABE_ITO))
# From light to dark.
BIN_COLOURS = dict(zip(BIN_ORDER, ("#C6DBEF", "#85B7DA", "#3B7EB8", "#0B3C6F"), strict=True))
ASKED = {"harder": "#B2182B", "vary": "#7F7F7F", "easier": "#4393C3"}
METHODS = {"multi": "#0B3C6F", "single": "#9DB7D5", "stones": "#C98B2B", "real": "#7A7A7A"}
# By the sign of the change.
CHANGES = {1: "#009E73", -1: "#D55E00", 0: "#AAAAAA"}

# Sets of problems that stand for the whole, as far as there are any.
SETS = {"training": "problems of the training", "synthetic": "held-out problems"}

# Claims judged by the problems of the run itself; the others are by trainings of a study.
OF_THE_RUN = ("F1a", "F1b", "F2")

INK, GREY, FAINT = "#222222", "#777777", "#EDEDED"
# Fewer values than this are marked one by one.
DOTS_BELOW = 50
# Paper: multi-turn keeps more than this many times the share of single-turn.
PAPER_RATIO = 4
# Of more arms or sets than this, a title names the two at the ends (our choice).
MANY = 4
# Of a title, per inch.
LETTERS = 10.5
DASHED: dict[str, Any] = {"lw": 0.9, "ls": (0, (4, 3)), "zorder": 1}


def style() -> None:
    """One look for all figures: `style.mplstyle` beside this file."""
    plt.style.use(Path(__file__).with_name("style.mplstyle"))


# ------------------------------------------------------------------ small helpers


def text_at(ax: Axes, x: float, y: float, text: str, ha: str = "left", **options) -> None:
    """Small text at a place in the data, also outside the axes; `xytext` moves it by points."""
    look: dict[str, Any] = {"ha": ha, "va": "center", "size": 9, "xytext": (0, 0)} | options
    ax.annotate(text, (x, y), textcoords="offset points", annotation_clip=False, **look)


def _wrapped(title, inches):
    """The title in lines; what stands in brackets is not parted."""
    title = re.sub(r"(95% )?[\[(][^])]+", lambda part: part[0].replace(" ", "\xa0"), title)
    lines = wrap(title, int(LETTERS * inches), break_on_hyphens=False)
    return "\n".join(lines).replace("\xa0", " ")


def _titled(title, width, height, *grid, **options):
    """A new figure and its grid of axes, higher for each further line of its title."""
    title = _wrapped(title, width)
    size = (width, height + 0.2 * title.count("\n"))
    figure, axes = plt.subplots(*grid, figsize=size, layout="constrained", squeeze=False, **options)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=11)
    return figure, axes


def axes_of(
    size: tuple[float, float], title: str, subtitle: str = "", ax: Axes | None = None
) -> Axes:
    """Axes of a new figure, or the given ones, with a title and a line below it."""
    if ax is None:
        ax = _titled(title, *size)[1][0, 0]
    else:
        title = _wrapped(title, ax.get_window_extent().width / ax.figure.dpi)
        ax.set_title(title, weight="bold", size=11, pad=24 if subtitle else 10)
    text_at(ax, 0, 1, subtitle, va="baseline", color=GREY, xycoords="axes fraction", xytext=(0, 8))
    return ax


def empty_axes(ax: Axes, text: str) -> Axes:
    """Empty axes that say why there is nothing to see."""
    text_at(ax, 0.5, 0.5, text, "center", xycoords="axes fraction", color=GREY, size=11)
    ax.set_axis_off()
    return ax


def panels(
    count: int,
    layout: tuple[int, float, float],
    title: str,
    note: str = "",
    xlabel: str = "",
    ylabel: str = "",
    **options,
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, or a note if there are none.

    `layout`: columns at most, and the width and height of a panel. The lowest and the leftmost
    panels name the axes.
    """
    if not count:
        return empty_figure(title, note), []
    columns, width, height = layout
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (width * columns, height * rows + 0.5)
    figure, grid = _titled(title, *size, rows, columns, **options)
    for unused in grid.flat[count:]:
        unused.set_visible(False)
    axes = list(grid.flat[:count])
    for ax in axes[::columns]:
        ax.set_ylabel(ylabel)
    for ax in axes[-columns:]:
        ax.set_xlabel(xlabel)
        ax.tick_params(labelbottom=True)
    return figure, axes


def facet_panels(
    df: pd.DataFrame, by: str, *layout_and_texts, **options
) -> tuple[Figure, list[tuple[Axes, Any, pd.DataFrame]]]:
    """Panels for the values of the column `by`, in order of appearance: (axes, value, its rows)."""
    parts = df.groupby(by, sort=False)
    figure, axes = panels(len(parts), *layout_and_texts, **options)
    return figure, [(ax, name, part) for ax, (name, part) in zip(axes, parts)]


def empty_figure(title: str, text: str) -> Figure:
    """A figure that only says why there is nothing to see."""
    figure, (ax,) = panels(1, (1, 6, 2), title)
    empty_axes(ax, text)
    return figure


def rows_of(ax: Axes, names: Iterable[str], below: float) -> None:
    """A named row for each name, the first on top, with so much room below the last."""
    names = list(names)
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - below, -0.6))
    ax.tick_params("y", length=0)


def interval_line(ax: Axes, x: Any, y: Any, colour: str, lw: float = 2, **dot) -> None:
    """A line with a dot in it: one of x and y is (low, value, high), the other the line's place."""
    x, y = np.broadcast_arrays(x, y)
    ax.plot(x[::2], y[::2], color=colour, lw=lw)
    ax.scatter(x[1], y[1], color=colour, zorder=3, **dot)


def legend_marks(colours: dict[str, str]) -> dict[str, Any]:
    """A dot for each name in its colour, as a legend takes them."""
    marks = [plt.Line2D([], [], marker="o", ls="", color=colour) for colour in colours.values()]
    return {"handles": marks, "labels": list(colours)}


def _legend(place, names, **where):
    """The environments among `names`, in their fixed order and colours."""
    names = set(names)
    colours = {name: colour for name, colour in ENVIRONMENT_COLOURS.items() if name in names}
    place.legend(**legend_marks(colours), ncols=4, handletextpad=0.1, columnspacing=1.2, **where)


def in_set(name: str, n: int, snippets: pd.Series | None = None) -> str:
    """A set of problems in words, with its n and, where each one's is known, its snippets."""
    of = "" if snippets is None else f" of {counted(snippets.nunique(), 'snippet')}"
    return f"{SETS.get(name, name)} (n = {n}{of})"


def of_whole(df: pd.DataFrame) -> pd.DataFrame:
    """The rows of the sets that stand for the whole (column `set`); all where there are none."""
    whole = df[df["set"].isin(list(SETS))]
    return whole if len(whole) else df


def counted(n: int, what: str) -> str:
    """A number with its noun, in the plural where that is due."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def arm_colours(df: pd.DataFrame) -> dict[str, Any]:
    """Arm -> colour, in order of appearance."""
    arms = df["arm"].unique()
    palette = "colorblind" if len(arms) < 11 else "husl"
    return dict(zip(arms, sns.color_palette(palette, len(arms)), strict=True))


# ------------------------------------------------------------------ problems


def stacks(ax: Axes, df: pd.DataFrame, base: float, height: float, attempts: int) -> int:
    """Counts of p above `base`, stacked by environment: dots below DOTS_BELOW values, else bars.

    p is counted at k / `attempts`. The tallest stack is as high as `height`; returns its count."""
    df = df.assign(k=(df.p * attempts).round(), n=1)
    df = df.sort_values("environment", key=pd.Index(ENVIRONMENT_COLOURS).get_indexer)
    tallest = df.k.value_counts().max()
    unit = height / tallest
    if few := len(df) < DOTS_BELOW:
        unit = min(unit, 0.15 * height)
    else:
        df = df.groupby(["k", "environment"], sort=False, as_index=False)["n"].sum()
    x = df.k / attempts
    under = base + (df.groupby("k").n.cumsum() - df.n) * unit
    colours = df.environment.map(ENVIRONMENT_COLOURS).fillna(INK)
    if few:
        y = under + unit / 2
        ax.scatter(x, y, s=34, color=colours, edgecolor="white", lw=0.5, zorder=3)
    else:
        ax.bar(x, df.n * unit, 0.8 / attempts, under, color=colours, zorder=3, lw=0)
    return tallest
