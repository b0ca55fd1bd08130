"""What people look at. Each figure is a function of a frame; nothing here reads data or knows a run.

The ones of a single panel take `ax` and return it, the ones of several return a Figure. `label` goes into the title,
e.g. " (recorded data)". Frames without rows give a note instead of a figure. Palettes stand here, sizes and lines in
style.mplstyle: our choice.
"""

from pathlib import Path
from typing import get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kit.difficulty import BINS, LEVELS, ORDER
from kit.evaluation import interval
from kit.filters import OURS, REASONS
from kit.profile import EnvironmentName

# Induction, abduction, deduction, fuzzing; then two to spare (Okabe and Ito's colours).
ENVIRONMENTS = dict(
    zip(
        get_args(EnvironmentName),
        ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"),
    )
)
DIFFICULTY = dict(
    zip(ORDER, ("#C6DBEF", "#85B7DA", "#3B7EB8", "#0B3C6F"), strict=True)
)  # light to dark
ASKED = {"harder": "#B2182B", "vary": "#7F7F7F", "easier": "#4393C3"}
METHODS = {"multi": "#0B3C6F", "single": "#9DB7D5", "stones": "#C98B2B", "real": "#7A7A7A"}
CHANGES = {1: "#009E73", -1: "#D55E00", 0: "#AAAAAA"}  # by sign
NAMES = {
    "multi": "multi-turn",
    "single": "single-turn",
    "stones": "stepping stones",
    "real": "real",
}
INK, GREY, FAINT = "#222222", "#777777", "#EDEDED"
DOTS_BELOW = 50  # fewer values than this are drawn one by one
KEPT = (0.01, 0.97)  # paper: pass rates that are kept
HARDER_ABOVE, PAPER_RATIO = 0.65, 4  # paper


def style() -> None:
    """One look for all figures: `kit/style.mplstyle`."""
    plt.style.use(Path(__file__).with_name("style.mplstyle"))


style()


# ------------------------------------------------------------------ small helpers


def _axes(ax: Axes | None, width: float = 8, height: float = 4.2) -> Axes:
    return plt.subplots(figsize=(width, height), layout="constrained")[1] if ax is None else ax


def _panels(
    count: int, columns: int, width: float, height: float, title: str, **kw
) -> tuple[Figure, list[Axes]]:
    columns = max(1, min(columns, count))
    rows = -(-max(1, count) // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows + 0.5),
        layout="constrained",
        squeeze=False,
        **kw,
    )
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=12)
    for ax in grid.flat[count:]:
        ax.set_visible(False)
    return figure, list(grid.flat[:count])


def _title(ax: Axes, title: str, subtitle: str = "") -> None:
    ax.set_title(title, loc="left", weight="bold", size=12, pad=24 if subtitle else 10)
    ax.annotate(
        subtitle,
        (0, 1),
        (0, 8),
        xycoords="axes fraction",
        textcoords="offset points",
        size=9,
        color=GREY,
    )


def _note(ax: Axes, text: str) -> Axes:
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=GREY, size=11)
    ax.set(xticks=[], yticks=[])
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def _note_figure(title: str, text: str) -> Figure:
    figure, (ax,) = _panels(1, 1, 6, 2, title)
    _note(ax, text)
    return figure


def _legend(place: Axes | Figure, names) -> None:
    """Environments in their fixed order and colours, above the right end of the axes, or below the panels of a figure."""
    there = [n for n in ENVIRONMENTS if n in set(names)]
    marks = [plt.Line2D([], [], marker="o", ls="", color=ENVIRONMENTS[n]) for n in there]
    where = (
        {"loc": "outside lower left"}
        if isinstance(place, Figure)
        else {"loc": "lower right", "bbox_to_anchor": (1, 1)}
    )
    place.legend(marks, there, ncols=4, handletextpad=0.1, columnspacing=1.2, **where)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _on(difficulty: str) -> str:
    """The colour of text on the colour of a difficulty."""
    return "white" if difficulty in ("medium", "hard") else INK


def _grid(df: pd.DataFrame) -> int:
    """Attempts M, so that p is counted at k / M; 20 steps where the frame does not say."""
    return int(df["n"].max()) if "n" in df and df["n"].max() > 0 else 20


def _stacks(ax: Axes, df: pd.DataFrame, base: float, height: float, attempts: int) -> None:
    """Counts of p above `base`, stacked by environment: dots below DOTS_BELOW values, else bars; tallest = `height`."""
    k = (df["p"] * attempts).round()
    tallest, under = k.value_counts().max(), dict.fromkeys(k, 0)
    for name, colour in ENVIRONMENTS.items():
        for at, count in k[df["environment"] == name].value_counts().items():
            if len(df) < DOTS_BELOW:
                step = min(height / tallest, 0.15 * height)
                ys = base + step * (under[at] + np.arange(count) + 0.5)
                ax.scatter(
                    np.full(count, at / attempts),
                    ys,
                    s=34,
                    color=colour,
                    edgecolor="white",
                    lw=0.5,
                    zorder=3,
                )
            else:
                ax.bar(
                    at / attempts,
                    count / tallest * height,
                    0.8 / attempts,
                    base + under[at] / tallest * height,
                    color=colour,
                    zorder=3,
                    lw=0,
                )
            under[at] += count


def _links(df: pd.DataFrame) -> pd.DataFrame:
    """Children with their parent's turn and pass rate (`turn_parent`, `p_parent`), both graded, of one chain."""
    parents = (
        df[["chain_id", "id", "turn", "p"]].dropna(subset="p").drop_duplicates(["chain_id", "id"])
    )
    found = df.dropna(subset="p").merge(
        parents,
        left_on=["chain_id", "parent_id"],
        right_on=["chain_id", "id"],
        suffixes=("", "_parent"),
    )
    return found[found["turn_parent"] < found["turn"]]


# ------------------------------------------------------------------ seeds


def seeds(df: pd.DataFrame, label: str = "") -> Figure:
    """Where seeds come from (bars), how long they are and which are held out (a dot each). df: source, split, package, lines."""
    title = f"{_count(len(df), 'seed')}: origin, and length with split{label}"
    if df.empty:
        return _note_figure(title, "no seed yet")
    figure, (left, right) = _panels(2, 2, 5, 3.4, title)
    counts = (
        df.groupby(["package", "source"])
        .size()
        .rename("seeds")
        .reset_index()
        .sort_values("seeds", ascending=False)
    )
    sns.barplot(
        counts,
        y="package",
        x="seeds",
        hue="source",
        hue_order=["wild", "real"],
        dodge=False,
        ax=left,
        palette=["#4C72B0", "#8C8C8C"],
    )
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
    left.set(ylabel="", xlabel="seeds")
    for bars in left.containers:
        left.bar_label(bars, padding=3, size=9)
    right.set(ylabel="", xlabel="lines", xlim=(0, None))
    right.legend(title="", loc="upper left")
    return figure


# ------------------------------------------------------------------ problems


def pass_rates(df: pd.DataFrame, label: str = "", ax: Axes | None = None) -> Axes:
    """Pass rates of the graded problems, a row per turn, one for the single-turn baseline and one per kind of stepping stone.
    df: p, environment, turn, method, asked (records.frame)."""
    graded = df.dropna(subset="p")
    rows = [(f"turn {t}", x) for t, x in graded[graded["method"] == "multi"].groupby("turn")]
    if len(single := graded[graded["method"] == "single"]):
        rows.append(("single-turn\nbaseline", single))
    rows += [
        (f"stone:\n{asked}", part)
        for asked in LEVELS
        if len(part := graded[graded["asked"] == asked])
    ]
    ax = _axes(ax, 8, 1.6 + 0.95 * max(1, len(rows)))
    _title(ax, f"Pass rate by turn{label}", "grey: dropped by the filter")
    if not rows:
        return _note(ax, "no problem has been graded yet")
    for k, (_, part) in enumerate(rows):
        _stacks(ax, part, -k, 0.85, _grid(graded))
        ax.axhline(-k, color=GREY, lw=0.6)
        ax.plot([part["p"].mean()] * 2, [-k - 0.06, -k + 0.06], color=INK, lw=2, zorder=4)
        ax.text(
            1.08,
            -k + 0.22,
            f"{_count(len(part), 'problem')}\nmean {part['p'].mean():.2f}",
            va="center",
            size=9,
        )
    for low, high in ((-0.06, KEPT[0]), (KEPT[1], 1.06)):
        ax.axvspan(low, high, color=FAINT, lw=0, zorder=0)
    ax.set(
        xlim=(-0.06, 1.06),
        ylim=(-len(rows) + 0.85, 1),
        xlabel="pass rate of the student (tick on the line: mean)",
        yticks=[-k + 0.22 for k in range(len(rows))],
        yticklabels=[name for name, _ in rows],
    )
    ax.tick_params(axis="y", length=0)
    sns.despine(ax=ax, left=True)
    _legend(ax, graded["environment"])
    return ax


def slopes(df: pd.DataFrame, label: str = "", ax: Axes | None = None) -> Axes:
    """p of each problem and of its successor, by what the teacher was asked. df: records.frame."""
    ax, links = _axes(ax, 8, 4.4), _links(df)
    _title(
        ax,
        f"From one turn to the next: what the teacher was asked, and what came{label}",
        f"{_count(len(links), 'pair')} of graded turns, {_count(links['chain_id'].nunique(), 'chain')}, bold: mean",
    )
    groups = [
        (name, links[links["asked"] == name]) for name in ASKED if (links["asked"] == name).any()
    ]
    if not groups:
        return _note(ax, "no chain has two graded turns in a row yet")
    for k, (name, part) in enumerate(groups):
        left, right = 1.6 * k, 1.6 * k + 1
        shift = np.linspace(-0.008, 0.008, len(part)) if len(part) > 1 else np.zeros(1)
        before, after = part["p_parent"].to_numpy(), part["p"].to_numpy()
        ax.plot(
            [[left], [right]] * np.ones(len(part)),
            [before + shift, after + shift],
            color=ASKED[name],
            alpha=max(0.12, min(0.5, 12 / len(part))),
            lw=1,
            marker="o",
            ms=3.5,
            mec="none",
        )
        ax.plot(
            [left, right],
            [before.mean(), after.mean()],
            color=ASKED[name],
            lw=3.5,
            marker="o",
            ms=8,
            mec="white",
            zorder=4,
        )
        ax.text(left + 0.5, 1.07, name, color=ASKED[name], weight="bold", ha="center", va="bottom")
        ax.text(
            left + 0.5,
            1.065,
            f"mean {after.mean() - before.mean():+.2f}, n = {len(part)}",
            ha="center",
            va="top",
            size=9,
        )
    end = 1.6 * len(groups) - 0.6
    for y, text in ((HARDER_ABOVE, "above 0.65:\nask for harder"), (0, "at 0:\nask for easier")):
        ax.axhline(y, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1)
        ax.text(end + 0.35, y, text, va="center", size=9, backgroundcolor="white")
    ax.set(
        xlim=(-0.3, end + 0.3),
        ylim=(-0.04, 1.14),
        ylabel="pass rate",
        yticks=np.linspace(0, 1, 5),
        xticks=[1.6 * k + d for k in range(len(groups)) for d in (0, 1)],
        xticklabels=["turn t", "t + 1"] * len(groups),
    )
    return ax


def quality(df: pd.DataFrame, before: pd.DataFrame | None = None, label: str = "") -> Figure:
    """How good the teacher is: a panel per measure, a row per environment, 95% intervals; grey: `before`. df: rounds.quality."""
    title = f"How good is the teacher?{label}"
    if df.empty:
        return _note_figure(title, "no problem has been written yet")
    measures, names = list(dict.fromkeys(df["measure"])), list(dict.fromkeys(df["environment"]))
    figure, axes = _panels(len(measures), 3, 3.9, 0.6 + 0.42 * len(names), title, sharey=True)
    for ax, measure in zip(axes, measures, strict=True):
        for frame, shift, colour in (
            (before, 0.16, "#AAAAAA"),
            (df, -0.16 if before is not None else 0, None),
        ):
            part = frame[frame["measure"] == measure] if frame is not None else ()
            for row in part.itertuples() if len(part) else ():
                if row.of and row.environment in names:
                    y, ink = (
                        names.index(row.environment) + shift,
                        colour or ENVIRONMENTS.get(row.environment, INK),
                    )
                    ax.plot([row.low, row.high], [y, y], color=ink, lw=2)
                    ax.scatter(row.share, y, color=ink, s=34, zorder=3)
                    ax.text(
                        1.04,
                        y,
                        f"{row.count} of {row.of}",
                        size=9,
                        va="center",
                        color=colour or INK,
                    )
        ax.set(
            xlim=(0, 1),
            ylim=(len(names) - 0.5, -0.6),
            yticks=range(len(names)),
            yticklabels=names,
            xticks=[0, 0.5, 1],
        )
        ax.set_title(measure, loc="left", size=11)
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
        ax.tick_params(axis="y", length=0)
    return figure


def sensitivity(df: pd.DataFrame, label: str = "") -> Figure:
    """What our choices decide: problems kept under each setting, dropped twins and contaminated beside them. df: filters.sensitivity."""
    title = f"How much do our own thresholds decide?{label}"
    if df.empty:
        return _note_figure(title, "no problem has been filtered yet")
    figure, axes = _panels(df["choice"].nunique(), 3, 3.6, 2.5, title, sharey=True)
    for ax, (choice, part) in zip(axes, df.groupby("choice", sort=False), strict=True):
        for k, row in enumerate(part.itertuples()):
            under = 0
            for name, colour in (
                ("kept", METHODS["multi"]),
                ("duplicate", "#BDBDBD"),
                ("contaminated", "#E8A33D"),
            ):
                count = getattr(row, name)
                ax.bar(k, count, 0.7, under, color=colour, edgecolor="white")
                if count >= 0.06 * (row.kept + row.duplicate + row.contaminated):
                    ax.text(
                        k,
                        under + count / 2,
                        count,
                        ha="center",
                        va="center",
                        size=9,
                        color="white" if name == "kept" else INK,
                    )
                under += count
            ax.text(k, under, f"F1 {row.ratio:.2f}", ha="center", va="bottom", size=9, color=GREY)
        ax.set(xticks=range(len(part)), xticklabels=part["setting"])
        for tick, chosen in zip(ax.get_xticklabels(), part["chosen"]):
            tick.set_weight("bold" if chosen else "normal")
        ax.set_title(
            {
                "similarity": "similarity of twins",
                "contamination_ngram": "words shared with a set",
                "behaviour": "compared by behaviour",
            }.get(choice, choice),
            loc="left",
            size=9,
        )
    axes[0].set_ylabel("problems")
    marks = [plt.Rectangle((0, 0), 1, 1, color=c) for c in (METHODS["multi"], "#BDBDBD", "#E8A33D")]
    figure.legend(
        marks,
        ["kept", "dropped as duplicate", "dropped as contaminated"],
        loc="outside lower left",
        ncols=3,
    )
    return figure


def stones(
    tried: pd.DataFrame, chosen: pd.DataFrame, apart: pd.DataFrame, label: str = ""
) -> Figure:
    """Stepping stones as they came, and the set without kinship that the whole chains are compared with. tried, chosen, apart: records.frame
    of all problems of stepping stones, of the chains of difficulty.stones, and of difficulty.disjoint."""
    title = f"Stepping stones: hard, then its medium and easy variants{label}"
    graded = tried.dropna(subset="p")
    if graded.empty:
        return _note_figure(title, "no stepping stone has a pass rate yet")
    figure, (left, *rest) = _panels(1 if chosen.empty else 2, 2, 5, 3.4, title)
    whole, drift = set(chosen["chain_id"]), np.random.default_rng(0)
    for chain, part in graded.groupby("chain_id", sort=False):
        part = part.assign(x=part["asked"].map(LEVELS.index)).sort_values("x")
        xs, ps, colour = (
            part["x"] + drift.uniform(-0.08, 0.08),
            part["p"] + drift.uniform(-0.012, 0.012),
            ENVIRONMENTS[part["environment"].iloc[0]],
        )
        left.plot(
            xs,
            ps,
            color=colour,
            lw=2 if chain in whole else 1,
            alpha=0.9 if chain in whole else 0.4,
        )
        left.scatter(
            xs,
            ps,
            color=[colour if k else "white" for k in part["kept"]],
            edgecolor=colour,
            s=26,
            zorder=3,
        )
    for k, name in enumerate(LEVELS):
        edges = next(b for b in BINS["narrow"] if b.name == name)
        left.axhspan(
            edges.low,
            edges.high,
            (k + 0.1) / 3,
            (k + 0.9) / 3,
            color=DIFFICULTY[name],
            alpha=0.35,
            lw=0,
            zorder=0,
        )
    left.set(
        xticks=range(3),
        xticklabels=[f"asked:\n{name}" for name in LEVELS],
        ylim=(-0.05, 1.05),
        xlim=(-0.4, 2.4),
        ylabel="pass rate",
    )
    _legend(figure, graded["environment"])
    left.set_title(
        f"{_count(tried['chain_id'].nunique(), 'chain')}, full: kept, bold: all three kept; shaded: the paper's bins",
        loc="left",
        size=9,
    )
    if chosen.empty:  # nothing to compare with a disjoint set
        return figure
    (right,), edges = rest, np.linspace(0, 1, 11)
    for k, (frame, name, colour) in enumerate(
        ((chosen, "chains", METHODS["stones"]), (apart, "disjoint", METHODS["single"]))
    ):
        counts, _ = np.histogram(frame["p"], edges)
        right.bar(
            edges[:-1] + 0.03 + 0.04 * k, counts, 0.04, color=colour, label=f"{name} ({len(frame)})"
        )
    right.set(xlabel="pass rate", ylabel="problems", xlim=(0, 1))
    right.yaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_title("the same pass rates, without kinship", loc="left", size=9)
    right.legend()
    return figure


def lineage(df: pd.DataFrame, chain_ids=None, label: str = "", most: int = 6) -> Figure:
    """Chains turn by turn, one panel each (default: the longest, most varied); a cross and its reason where dropped.

    df: as records.frame gives it, filtered. Problems without a pass rate stand on the shelf below 0."""
    title = f"Chains, turn by turn{label}"
    df = (
        df[df["method"] == "multi"]
        if chain_ids is None
        else df[df["chain_id"].isin(list(chain_ids))]
    )
    lengths = df.groupby("chain_id", sort=False).agg(
        turns=("p", "count"), asked=("asked", "nunique")
    )
    order = lengths.sort_values(["turns", "asked"], ascending=False, kind="stable").index
    chosen = [c for c in (order if chain_ids is None else chain_ids) if c in set(order)][:most]
    if not chosen:
        return _note_figure(title, "no chain to draw yet")
    turns = int(df["turn"].max())
    figure, axes = _panels(len(chosen), 3, 3.5, 2.7, title, sharex=True, sharey=True)
    for ax, chain in zip(axes, chosen, strict=True):
        _chain(ax, df[df["chain_id"] == chain].sort_values("turn"))
        ax.set(
            ylim=(-0.3, 1.12),
            yticks=[0, 0.5, 1],
            xlim=(0.6, turns + 0.6),
            xticks=range(1, turns + 1),
        )
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel("pass rate")
        if axes.index(ax) + 3 >= len(axes):
            ax.set_xlabel("turn")
            ax.tick_params(labelbottom=True)
    return figure


def _chain(ax: Axes, chain: pd.DataFrame) -> None:
    name = chain["environment"].iloc[0]
    colour = ENVIRONMENTS.get(name, INK)
    ax.set_title(
        f"{name} · {chain['chain_id'].iloc[0][:10]}",
        loc="left",
        size=9,
        color=colour,
        weight="bold",
    )
    for low, high in ((-0.04, KEPT[0]), (KEPT[1], 1.04)):
        ax.axhspan(low, high, color=FAINT, lw=0, zorder=0)
    y = chain["p"].fillna(-0.17)
    at = dict(zip(chain["id"], zip(chain["turn"], y, strict=True), strict=True))
    for row, here in zip(chain.itertuples(), y, strict=True):
        if (there := at.get(row.parent_id)) and there[0] < row.turn:
            asked = ASKED.get(row.asked, GREY)
            ax.plot([there[0], row.turn], [there[1], here], color=asked, lw=1.6, zorder=2)
            ax.text(
                (there[0] + row.turn) / 2,
                (there[1] + here) / 2,
                row.asked,
                size=9,
                ha="center",
                va="center",
                color=asked,
                bbox={"fc": "white", "ec": "none", "pad": 0.8},
                zorder=3,
            )
        alive = row.kept or (
            not row.dropped_by and not row.reason
        )  # before the filters: what is valid
        ax.scatter(
            row.turn,
            here,
            s=46,
            marker="o" if alive else "X",
            zorder=4,
            edgecolor="white",
            lw=0.6,
            color=colour if alive else INK,
        )
        if not alive:
            why = row.reason if row.dropped_by in ("", "invalid") else row.dropped_by
            above = 0.02 <= here < 0.5
            ax.annotate(
                _short(why),
                (row.turn, here),
                (0, 7 if above else -7),
                textcoords="offset points",
                size=9,
                ha="center",
                va="bottom" if above else "top",
                bbox={"fc": "white", "ec": "none", "pad": 0.5, "alpha": 0.8},
            )


def _short(text: str, most: int = 18) -> str:
    text = str(text).split(":")[0]
    return text if len(text) <= most else text[: most - 1] + "…"


def funnel(df: pd.DataFrame, label: str = "", ax: Axes | None = None) -> Axes:
    """What became of the problems of each method, all environments together. df: filters.funnel."""
    ax = _axes(ax, 8, 5.4)
    counts = df.pivot_table(
        index="dropped_by", columns="method", values="count", aggfunc="sum", fill_value=0
    )
    counts = counts.reindex(
        [r for r in REASONS if r in counts.index], columns=[m for m in METHODS if m in counts]
    )
    ours, counts = counts[counts.index.isin(OURS)], counts[~counts.index.isin(OURS)]
    total = counts.sum()
    lost = ours.sum().map(lambda n: f" (and {int(n)} lost to our errors)" if n else "")
    subtitle = " · ".join(f"{m}: {_count(int(n), 'problem')}{lost[m]}" for m, n in total.items())
    _title(ax, f"What becomes of the problems{label}", subtitle)
    if not total.sum():
        return _note(ax, "no problem has been filtered yet")
    shares, tall = counts / total.where(total > 0), 0.8 / len(total)
    for k, method in enumerate(counts.columns):
        y = np.arange(len(counts)) + (k - (len(total) - 1) / 2) * tall
        ax.barh(y, shares[method].fillna(0), tall * 0.92, color=METHODS[method])
        for row, (at, share, n) in enumerate(
            zip(y, shares[method].fillna(0), counts[method], strict=True)
        ):
            ax.text(
                share,
                at,
                f"  {share:.0%} ({int(n)})" + ("" if row else f"   {NAMES[method]}"),
                va="center",
                size=9.5,
                color=INK if n else GREY,
                weight="normal" if row else "bold",
            )
    ax.set(
        yticks=range(len(counts)),
        yticklabels=counts.index,
        xlim=(0, shares.max().max() * 1.2),
        xlabel="share of the problems produced",
    )
    ax.get_yticklabels()[-1].set_weight("bold" if counts.index[-1] == "kept" else "normal")
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    return ax


def ratio(df: pd.DataFrame, label: str = "", ax: Axes | None = None) -> Axes:
    """Kept share multi / single with its bootstrap interval. df: filters.yields."""
    ax = _axes(ax, 8.5, 1.7 + 0.5 * max(1, len(df)))
    _title(
        ax,
        f"Multi-turn keeps how many times the share of single-turn?{label}",
        "kept share multi / single; 95% bootstrap over seeds",
    )
    if df.empty:
        return _note(ax, "no problem has been filtered yet")
    values = df[["ratio", "low", "high"]].to_numpy(float)
    end = 1.12 * max([PAPER_RATIO * 1.1, *values[np.isfinite(values)]])
    for y, row in enumerate(df.itertuples()):
        colour, whole = ENVIRONMENTS.get(row.environment, INK), np.isfinite(row.ratio)
        if whole:
            ax.scatter(
                row.ratio,
                y,
                s=70,
                color=colour,
                zorder=3,
                marker="D" if row.environment == "all" else "o",
            )
        if pd.notna(row.low):
            ax.plot([row.low, min(row.high, end)], [y, y], color=colour, lw=2)
            if np.isinf(row.high):
                ax.annotate(
                    "",
                    (end, y),
                    (end * 0.98, y),
                    arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2},
                )
        elif whole:
            ax.annotate(
                "no interval: one seed",
                (row.ratio, y),
                (10, 0),
                textcoords="offset points",
                size=9.5,
                va="center",
                color=GREY,
            )
        else:
            why = (
                "∞: single-turn kept none" if np.isinf(row.ratio) else "no ratio: nothing to divide"
            )
            ax.text(
                end * 0.5,
                y,
                why,
                size=9,
                va="center",
                ha="center",
                color=colour,
                backgroundcolor="white",
            )
        ax.text(
            end * 1.02,
            y,
            f"{row.multi_kept}/{row.multi_produced} : {row.single_kept}/{row.single_produced}"
            f"   {_count(row.seeds, 'seed')}",
            va="center",
            size=9,
        )
    for x, text in ((1, "1"), (PAPER_RATIO, "paper: > 4")):
        ax.axvline(x, color=GREY, lw=0.9, ls=(0, (4, 3)), zorder=1)
        ax.text(
            x,
            len(df) - 0.35,
            text,
            ha="center",
            va="center",
            size=9.5,
            color=GREY,
            backgroundcolor="white",
        )
    ax.set(
        xlim=(0, end),
        ylim=(len(df), -0.6),
        yticks=range(len(df)),
        yticklabels=df["environment"],
        xlabel="ratio   (right: kept / produced, multi : single)",
    )
    ax.tick_params(axis="y", length=0)
    return ax


def bins(df: pd.DataFrame, label: str = "", scheme: str = "broad") -> Figure:
    """Pass rates with the edges of both kinds of bins, and the size of each bin of `scheme`. df: difficulty.assign."""
    graded, title = df.dropna(subset="p"), f"How hard are the problems?{label}"
    if graded.empty:
        return _note_figure(title, "no problem has been graded yet")
    figure, (left, right) = _panels(2, 2, 5, 3.6, title, width_ratios=(1.35, 1))
    _stacks(left, graded, 0, 1, _grid(graded))
    for y, name in ((-0.14, "broad"), (-0.27, "narrow")):
        for b in BINS[name]:
            left.barh(y, b.high - b.low, 0.1, b.low, color=DIFFICULTY[b.name], edgecolor="white")
            left.text(
                (b.low + b.high) / 2,
                y,
                b.name.replace("easy-medium", "easy-med."),
                ha="center",
                va="center",
                size=9,
                color=_on(b.name),
            )
            if name == scheme:
                left.vlines([b.low, b.high], -0.08, 1.04, color=GREY, lw=0.6, ls=":", zorder=1)
        left.text(-0.08, y, name, ha="right", va="center", size=9.5)
    left.axhline(0, color=GREY, lw=0.8)
    left.set(xlim=(-0.07, 1.07), ylim=(-0.34, 1.06), yticks=[], xlabel="pass rate of the student")
    tallest = (graded["p"] * _grid(graded)).round().value_counts().max()
    left.set_title(
        f"{_count(len(graded), 'problem')}, tallest column {tallest}",
        loc="left",
        size=9,
        color=GREY,
    )
    sns.despine(ax=left, left=True)
    names = [b.name for b in reversed(BINS[scheme])] + ["in no bin"]
    counts = pd.crosstab(
        graded["bin"].astype(object).where(graded["bin"].notna(), "in no bin"),
        graded["environment"],
    )
    counts = counts.reindex(index=names, columns=list(ENVIRONMENTS), fill_value=0)
    sns.heatmap(
        counts.rename_axis(index=None, columns=None),
        annot=True,
        fmt="d",
        cbar=False,
        ax=right,
        linewidths=1.5,
        cmap="Greys",
        vmax=max(1, counts.to_numpy().max()) * 1.6,
        annot_kws={"size": 10},
    )
    right.set_title(f"problems per {scheme} bin", loc="left", size=9, color=GREY)
    right.tick_params(length=0, axis="both", rotation=0)
    for tick in right.get_xticklabels():
        tick.set(color=ENVIRONMENTS[tick.get_text()], weight="bold")
    return figure


# ------------------------------------------------------------------ training and evaluation


def curriculum(
    df: pd.DataFrame, realised: pd.DataFrame | None = None, label: str = "", ax: Axes | None = None
) -> Axes:
    """Sampling weights over steps, stacked; broken lines: what the plan draws. df: curricula.table,
    curricula.realised."""
    ax = _axes(ax, 8, 3.4)
    drawn = (
        pd.DataFrame(columns=["kind"]) if realised is None else realised[realised["kind"] == "bin"]
    )
    _title(
        ax,
        f"Curriculum{label}",
        "sampling weight of each difficulty"
        + ("; broken lines: what the plan really draws" if len(drawn) else ""),
    )
    if df.empty:
        return _note(ax, "no schedule given")
    wide = df.pivot_table(index="step", columns="bin", values="weight")
    wide = wide[[b for b in ORDER if b in wide]]
    steps, under = wide.index.to_numpy(float), np.zeros(len(wide))
    for name in wide:
        over = under + wide[name].to_numpy()
        ax.fill_between(steps, under, over, step="post", color=DIFFICULTY[name], lw=0)
        areas = np.diff(steps) * (over - under)[:-1] * ((over - under)[:-1] > 0.12)
        if areas.size and areas.max() > 0:  # the name stands where it has most room
            k = int(areas.argmax())
            ax.text(
                (steps[k] + steps[k + 1]) / 2,
                (under[k] + over[k]) / 2,
                name,
                ha="center",
                va="center",
                weight="bold",
                color=_on(name),
            )
        under = over
    for (start, end), part in drawn.groupby(["from_step", "to_step"]) if len(drawn) else ():
        edges = (
            part.assign(at=part["name"].map(ORDER.index))
            .sort_values("at")["realised"]
            .cumsum()
            .iloc[:-1]
        )
        ax.hlines(edges, start, end, color="#E8590C", lw=1.8, ls=(0, (3, 2)))
    ax.set(
        xlim=(0, max(steps.max(), 1)),
        ylim=(0, 1),
        xlabel="step",
        ylabel="weight",
        yticks=np.linspace(0, 1, 5),
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,g}")
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


def health(df: pd.DataFrame, switches=(), label: str = "") -> Figure:
    """Is training alive? A panel per column of HEALTH that df has; thin: each step, bold: running median; dotted lines:
    switches of the curriculum (steps); seconds are stacked where they were split. df: step and those columns."""
    title = f"Health of the training{label}"
    found = [c for c in HEALTH if c in df and df[c].notna().any()] if "step" in df else []
    if not found:
        return _note_figure(title, "no step has been logged yet")
    figure, axes = _panels(len(found), 4, 3.2, 2.3, title, sharex=True)
    for ax, column in zip(axes, found, strict=True):
        part = df[["step", column]].dropna().sort_values("step").astype(float)
        few = len(part) < DOTS_BELOW
        split = (
            df[["step", "rollout_time", "reward_time", "step_time"]].dropna().sort_values("step")
            if "rollout_time" in df
            else ()
        )
        if column == "step_time" and len(split):
            update = split.step_time - split.rollout_time - split.reward_time
            ax.stackplot(
                split.step,
                split.rollout_time,
                split.reward_time,
                update.clip(lower=0),
                colors=SPLIT.values(),
                labels=SPLIT,
                lw=0,
            )
            ax.legend(loc="upper left", ncols=3, fontsize=9, handlelength=1, columnspacing=0.8)
        else:
            ax.plot(
                part["step"],
                part[column],
                color=METHODS["single"],
                lw=1,
                marker="o" if few else "",
                ms=3.5,
            )
        if len(part) >= 8 and column != "step_time":
            window = max(5, len(part) // 12)
            smooth = part[column].rolling(window, center=True, min_periods=1).median()
            ax.plot(part["step"], smooth, color=METHODS["multi"], lw=2.2)
        for step in switches:
            ax.axvline(step, color="#E8590C", lw=1, ls=":")
        name, (low, high) = HEALTH[column]
        top = high or max(part[column].max() * 1.15, 0.05 if "share" in name else 1e-9)
        ax.set_ylim(low - 0.02 * top, top * 1.02)
        ax.set_title(name, loc="left", size=9)
        if axes.index(ax) + 4 >= len(axes):
            ax.set_xlabel("step")
            ax.tick_params(labelbottom=True)
    return figure


def _checkpoints(figure: Figure, df: pd.DataFrame) -> dict[str, str]:
    """Checkpoint -> colour, in order of appearance: grey, then ever deeper red; with their legend below the panels."""
    names = list(dict.fromkeys(df["checkpoint"]))
    colours = dict(zip(names, ["#9A9A9A", *sns.color_palette("flare", len(names)).as_hex()]))
    figure.legend(
        [plt.Line2D([], [], marker="o", color=c) for c in colours.values()],
        map(str, names),
        loc="outside lower left",
        ncols=6,
    )
    return colours


def pass_at_k(df: pd.DataFrame, label: str = "") -> Figure:
    """Solved shares with intervals, a panel per set, a colour per checkpoint in order of appearance. df: checkpoint,
    set, k, n_problems, value, low, high, mode (sampled | greedy)."""
    title = f"What the policy solves{label}"
    df = df.dropna(subset="value") if len(df) else df
    if df.empty:
        return _note_figure(title, "nothing has been evaluated yet")
    sets = list(dict.fromkeys(df["set"]))
    figure, axes = _panels(len(sets), 2, 4.8, 2.8, title, sharey=True)
    colours = _checkpoints(figure, df)
    for ax, name in zip(axes, sets, strict=True):
        part = df[df["set"] == name]
        ticks = sorted({_tick(row) for row in part.itertuples()})
        for j, (checkpoint, colour) in enumerate(colours.items()):
            for row in part[part["checkpoint"] == checkpoint].itertuples():
                x = ticks.index(_tick(row)) + (j - (len(colours) - 1) / 2) * min(
                    0.3, 0.75 / len(colours)
                )
                ax.plot([x, x], [row.low, row.high], color=colour, lw=2)
                ax.scatter(
                    x,
                    row.value,
                    color=colour,
                    s=42,
                    zorder=3,
                    edgecolor="white",
                    marker="D" if row.mode == "greedy" else "o",
                )
                if len(colours) < 3:
                    ax.annotate(
                        f"{row.value:.2f}",
                        (x, row.value),
                        (6 if j else -6, 0),
                        textcoords="offset points",
                        size=9,
                        va="center",
                        ha="left" if j else "right",
                        color=colour,
                    )
        ax.set(
            xlim=(-0.8, len(ticks) - 0.2),
            ylim=(-0.04, 1.04),
            xticks=range(len(ticks)),
            xticklabels=[f"pass@{k}" if sampled else "greedy" for sampled, k in ticks],
        )
        ax.set_title(
            f"{name}: {_count(int(part['n_problems'].max()), 'problem')}", loc="left", size=9
        )
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel("share solved")
    return figure


def _tick(row) -> tuple[bool, int]:
    """Where a row of pass_at_k stands: greedy first, then by k."""
    return (False, 1) if row.mode == "greedy" else (True, int(row.k))


def groups(df: pd.DataFrame, label: str = "") -> Figure:
    """pass@1 per level or environment with intervals, a panel for each set that has several, a colour per checkpoint; sampled answers.

    df: checkpoint, set, group, n_problems, value, low, high, mode."""
    title = f"Where the policy solves more{label}"
    df = (
        df[(df["group"] != "all") & (df["mode"] == "sampled")].dropna(subset="value")
        if len(df)
        else df
    )
    if df.empty:
        return _note_figure(title, "no set has several levels or environments")
    sets = list(dict.fromkeys(df["set"]))
    figure, axes = _panels(len(sets), 3, 4.0, 2.6, title, sharex=True)
    colours = _checkpoints(figure, df)
    for ax, name in zip(axes, sets, strict=True):
        part = df[df["set"] == name]
        names = list(dict.fromkeys(part["group"]))
        for j, (checkpoint, colour) in enumerate(colours.items()):
            for row in part[part["checkpoint"] == checkpoint].itertuples():
                y = names.index(row.group) + (j - (len(colours) - 1) / 2) * min(
                    0.25, 0.75 / len(colours)
                )
                ax.plot([row.low, row.high], [y, y], color=colour, lw=2)
                ax.scatter(row.value, y, color=colour, s=42, zorder=3, edgecolor="white")
        counts = part.groupby("group", sort=False)["n_problems"].max()
        ax.set(
            xlim=(0, 1),
            ylim=(len(names) - 0.4, -0.6),
            yticks=range(len(names)),
            yticklabels=[f"{g} ({counts[g]})" for g in names],
        )
        ax.set_title(name, loc="left", size=9)
        ax.set_xlabel("pass@1")
        ax.tick_params(labelbottom=True)
    return figure


def paired(df: pd.DataFrame, label: str = "") -> Figure:
    """Each problem before -> after, a panel per set, sorted by change, grey where there is none; the mean change with evaluation.interval.

    df: set, problem_id, before, after (shares of samples solved)."""
    title = f"Problem by problem, before and after{label}"
    df = df.dropna(subset=["before", "after"]) if len(df) else df
    if df.empty:
        return _note_figure(title, "no problem has been evaluated twice yet")
    sets = list(dict.fromkeys(df["set"]))
    figure, axes = _panels(len(sets), 2, 4.6, 2.6, title, sharey=True)
    for ax, name in zip(axes, sets, strict=True):
        part = df[df["set"] == name]
        part = part.assign(change=part["after"] - part["before"]).sort_values(["change", "before"])
        for x, row in enumerate(part.itertuples()):
            colour = CHANGES[np.sign(row.change)]
            ax.plot(
                [x, x], [row.before, row.after], color=colour, lw=1.6 if len(part) < 100 else 0.8
            )
            ax.scatter(x, row.after, s=24 if len(part) < 100 else 6, color=colour, zorder=3)
        up, down, n = (part["change"] > 0).sum(), (part["change"] < 0).sum(), len(part)
        mean, low, high = interval(part["change"], bounds=(-1, 1))
        ax.set_title(
            f"{name}: mean change {mean:+.2f} [{low:+.2f}, {high:+.2f}]\n"
            f"{up} up, {down} down, {n - up - down} unchanged",
            loc="left",
            size=9,
        )
        ax.set(
            ylim=(-0.03, 1.03),
            xlim=(-1, n),
            xticks=[],
            xlabel=f"{_count(n, 'problem')}, by change (dot: after)",
        )
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel("share of samples solved")
    return figure


VERDICTS = {
    "supported": "#009E73",
    "contradicted": "#D55E00",
    "undecided": "#555555",
    "not tested at this scale": "#B5B5B5",
}


def board(df: pd.DataFrame, label: str = "") -> Figure:
    """The claim board: a row per comparison with its effect and 95% interval, hollow for greedy; the verdict at the right is of the sampled
    ones. Above differences, below ratios (log scale). df: findings.board, findings.of_rounds."""
    title = f"What holds?{label}"
    if df.empty:
        return _note_figure(title, "no claim has been looked at yet")
    parts = [part for part in (df[df.null == 0], df[df.null != 0]) if len(part)]
    rows = [part[["claim", "comparison"]].drop_duplicates() for part in parts]
    figure, axes = plt.subplots(
        len(parts),
        1,
        figsize=(12, 1.4 + 0.46 * sum(map(len, rows)) + 0.5 * len(parts)),
        layout="constrained",
        squeeze=False,
        height_ratios=[len(r) + 1 for r in rows],
    )
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=12)
    for ax, part, names in zip(axes.flat, parts, rows, strict=True):
        for y, name in enumerate(names.itertuples()):
            for row in part[
                (part.claim == name.claim) & (part.comparison == name.comparison)
            ].itertuples():
                sampled, colour = row.mode == "sampled", VERDICTS[row.part]
                at = y - 0.1 if sampled else y + 0.2
                ax.plot([row.low, row.high], [at, at], color=colour, lw=2.2 if sampled else 1.2)
                ax.scatter(
                    row.value,
                    at,
                    s=44 if sampled else 24,
                    zorder=3,
                    edgecolor=colour,
                    facecolor=colour if sampled else "white",
                )
                if sampled:
                    ax.plot([row.null] * 2, [y - 0.45, y + 0.45], color=INK, lw=1)
                    beside = {"transform": ax.get_yaxis_transform(), "va": "center"}
                    ax.text(1.01, y - 0.16, row.part, size=9, color=colour, weight="bold", **beside)
                    ax.text(
                        1.01,
                        y + 0.22,
                        f"{_count(row.seeds, 'seed')}, n = {row.problems}",
                        size=9,
                        color=GREY,
                        **beside,
                    )
        ax.set(
            yticks=range(len(names)),
            yticklabels=[f"{x.claim}   {x.comparison}" for x in names.itertuples()],
            ylim=(len(names) - 0.4, -0.6),
        )
        if part.null.any():
            ax.set(xscale="log", xlabel="ratio; bar: what the claim needs")
            ax.set_xlim(min(0.2, part.low.min() * 0.8), max(8, part.high.max() * 1.2))
            ax.set_xticks(
                [
                    x
                    for x in (0.01, 0.1, 0.25, 0.5, 1, 2, 4, 8, 100)
                    if ax.get_xlim()[0] <= x <= ax.get_xlim()[1]
                ]
            )
            ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
            ax.minorticks_off()
        else:
            ax.set(
                xlabel="difference; bar: no effect",
                xlim=(min(-0.3, part.low.min() * 1.05), max(0.3, part.high.max() * 1.05)),
            )
        ax.tick_params(axis="y", length=0, labelsize=9)
    return figure


def heat(df: pd.DataFrame, label: str = "") -> Axes:
    """pass@1 per arm (rows) and bin or set (columns), with the number of problems. df: findings.by_difficulty."""
    ax = _axes(None, 9, 1.6 + 0.34 * max(4, df["arm"].nunique()))
    seeds = df[df["arm"] != "before training"]["seeds"]
    _title(
        ax,
        f"What each arm solves after training{label}",
        f"pass@1, mean over {_count(int(seeds.max()), 'seed')}" if len(seeds) else "",
    )
    if df.empty:
        return _note(ax, "no study has been run yet: python -m kit study")
    columns = [
        *(b for b in ORDER if b in {*df["of"]}),
        *(x for x in dict.fromkeys(df["of"]) if x not in ORDER),
    ]
    value, n = (
        df.pivot(index="arm", columns="of", values=v).reindex(
            index=df["arm"].unique(), columns=columns
        )
        for v in ("value", "problems")
    )
    text = value.map("{:.2f}".format) + "\n" + n.map("n = {:.0f}".format)
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


def _arms(df: pd.DataFrame) -> dict[str, tuple]:
    """Arm -> colour, in order of appearance."""
    arms = list(dict.fromkeys(df["arm"]))
    return dict(
        zip(
            arms,
            sns.color_palette("colorblind" if len(arms) < 11 else "husl", len(arms)),
            strict=True,
        )
    )


def sharpening(df: pd.DataFrame, label: str = "") -> Figure:
    """Change of sampled (x) and greedy (y) answers by training, a panel per set; small: a seed, large: the mean of an arm. df: findings.changes."""
    title = f"Learning, or only surer?{label}"
    if df.empty:
        return _note_figure(title, "no study has been run yet: python -m kit study")
    colours = _arms(df)
    figure, axes = _panels(df["set"].nunique(), 4, 3.4, 3.4, title, sharex=True, sharey=True)
    for ax, (name, part) in zip(axes, df.groupby("set", sort=False), strict=True):
        ax.axhline(0, color=GREY, lw=0.8)
        ax.axvline(0, color=GREY, lw=0.8)
        ax.axline((0, 0), slope=1, color=GREY, lw=0.8, ls=":")
        for arm, mine in part.groupby("arm", sort=False):
            ax.scatter(mine.sampled, mine.greedy, s=14, marker="x", color=colours[arm], lw=0.9)
            ax.scatter(
                mine.sampled.mean(),
                mine.greedy.mean(),
                s=52,
                color=colours[arm],
                edgecolor="white",
                zorder=3,
            )
        ax.set(xlabel="sampled: change")
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.set_title(
            f"{name}\n{_count(int(part['problems'].max()), 'problem')}", loc="left", size=9
        )
    axes[0].set_ylabel("greedy: change")
    figure.legend(
        [plt.Line2D([], [], marker="o", ls="", color=c) for c in colours.values()],
        list(colours),
        loc="outside right upper",
    )
    return figure


def learning(
    df: pd.DataFrame,
    label: str = "",
    ylabel: str = "reward",
    window: int = 1,
    ax: Axes | None = None,
) -> Axes:
    """Curves over steps: thin a seed, bold the median, band min to max; each point the mean of the last `window` steps. df: step, value and, if
    several, arm and seed."""
    ax, seeds = _axes(ax, 8, 4), ""
    if len(df):
        df = df.assign(arm=df.get("arm", ""), seed=df.get("seed", 0)).dropna(
            subset=["step", "value"]
        )
        df["value"] = df.groupby(["arm", "seed"])["value"].transform(
            lambda x: x.rolling(window, 1).mean()
        )
        if df["seed"].nunique() > 1:
            seeds = f"{_count(len(df[['arm', 'seed']].drop_duplicates()), 'run')}; thin: one seed, bold: median, band: min to max"
    _title(
        ax,
        f"Learning curves{label}",
        "; ".join(filter(None, (seeds, f"mean of {window} steps" * (window > 1)))),
    )
    if df.empty:
        return _note(ax, "no curve to draw yet")
    ends = []
    for arm, colour in _arms(df).items():
        wide = df[df["arm"] == arm].pivot_table(index="step", columns="seed", values="value")
        ax.plot(wide, color=colour, lw=0.8, alpha=0.6, marker="o" if len(wide) == 1 else "")
        ax.plot(wide.median(axis=1), color=colour, lw=2.4)
        ax.fill_between(
            wide.index, wide.min(axis=1), wide.max(axis=1), color=colour, alpha=0.12, lw=0
        )
        ends.append(
            [
                wide.median(axis=1).iloc[-1],
                f"{arm} ({wide.shape[1]})" if arm and seeds else arm,
                colour,
            ]
        )
    top = max(1.0, df["value"].max() * 1.05) if ylabel == "reward" else df["value"].max() * 1.1 or 1
    ax.set(ylim=(min(0, df["value"].min()), top), xlabel="step", ylabel=ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(x=0.01)
    last = -np.inf
    for y, text, colour in sorted(ends, key=lambda x: x[0]):
        last = max(y, last + 0.06 * top)  # labels do not overlap
        ax.annotate(
            text,
            (1, last),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            color=colour,
            weight="bold",
            size=9,
        )
    return ax
