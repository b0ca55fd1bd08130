"""Figures of notebooks 04 and 05: curricula, the health of a training, learning curves."""

from collections.abc import Iterable
from itertools import compress

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kit.core.bins import BIN_ORDER
from kit.display.figures.common import (
    BIN_COLOURS,
    DOTS_BELOW,
    MANY,
    METHODS,
    arm_colours,
    axes_of,
    counted,
    empty_axes,
    panels,
    text_at,
)

# ------------------------------------------------------------------ training


def draw_curriculum(
    df: pd.DataFrame, realised: pd.DataFrame | None = None, label: str = "", ax: Axes | None = None
) -> Axes:
    """Sampling weights over steps, stacked; broken lines: what the plan draws.

    Args:
        df: of `schedules.schedule_table`.
        realised: of `curriculum.realised`; None: no lines.
        label: end of the title.
        ax: where to draw; None: a new figure.
    Returns:
        The axes.
    Source: our choice.
    """
    drawn = pd.DataFrame() if realised is None else realised[realised["kind"] == "bin"]
    title = "Curriculum"
    subtitle = "sampling weight of each difficulty"
    if len(drawn):
        subtitle += "; broken lines: what the plan really draws"
        prompts = drawn.groupby("from_step").n.transform("sum")
        sums = drawn.assign(wanted=drawn.wanted * prompts).groupby("name", sort=False)
        found = [
            f"{row.n} are {row.Index} ({row.wanted:.0f} wanted)"
            for row in sums[["n", "wanted"]].sum().itertuples()
        ]
        title = f"Of {counted(drawn.n.sum(), 'prompt')} {', '.join(found)}; curriculum"
    ax = axes_of((8, 3.4), f"{title}{label}", subtitle, ax)
    wide = df.pivot_table(index="step", columns="bin", values="weight").filter(BIN_ORDER)
    colours = [BIN_COLOURS[name] for name in wide]
    ax.stackplot(wide.index, wide.to_numpy().T, colors=colours, labels=wide, step="post", lw=0)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4)
    if len(drawn):
        # Shares of a phase add up, in the order of the areas, to the height of each border.
        for (start, end), part in drawn.groupby(["from_step", "to_step"]):
            borders = part["realised"].cumsum().iloc[:-1]
            ax.hlines(borders, start, end, color="#E8590C", lw=1.8, ls=(0, (3, 2)))
    ax.set(
        xlim=(0, wide.index.max()),
        ylim=(0, 1),
        yticks=np.linspace(0, 1, 5),
        xlabel="step",
        ylabel="weight",
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_major_formatter("{x:,g}")
    return ax


# Column -> what it is.
HEALTH = {
    "reward": "reward",
    "entropy": "entropy of the policy (nats)",
    "frac_reward_zero_std": "share of dead groups: no update",
    "sandbox_error_share": "share of answers lost in the sandbox",
    "completion_length": "completion length (tokens)",
    "cut_off_share": "share of answers cut off",
    "clip_ratio": "share of tokens clipped",
    "step_time": "seconds per step",
}
# Of these the axis ends at 1, of others as high as needed.
SHARES = "reward frac_reward_zero_std cut_off_share".split()


def _health_panel(ax, df, column):
    """One measure over the steps: thin each step, bold the running median."""
    part = df[["step", column]].dropna().sort_values("step").astype(float)
    marker = "o" if len(part) < DOTS_BELOW else ""
    ax.plot(part.step, part[column], f"{marker}-", color=METHODS["single"], lw=1, ms=3.5)
    if len(part) >= 8:
        window = max(5, len(part) // 12)
        smooth = part[column].rolling(window, 1, center=True).median()
        ax.plot(part.step, smooth, color=METHODS["multi"], lw=2.2)
    top = 1 if column in SHARES else max(part[column].max() * 1.15, 0.05)
    ax.set(ylim=(-0.02 * top, 1.02 * top), title=HEALTH[column])


def draw_health(df: pd.DataFrame, switches: Iterable[float] = (), label: str = "") -> Figure:
    """Is training alive? A panel per measure; thin: each step, bold: running median.

    Args:
        df: `step` and those columns of HEALTH that were logged.
        switches: steps at which the curriculum changes, drawn as dotted lines.
        label: end of the title.
    Returns:
        The figure.
    Source: our choice.
    """
    found = list(df.dropna(axis=1, how="all").filter(HEALTH))
    title = f"Health of the training{label}"
    if "reward" in found and len(df) > 1:
        reward, half = df.sort_values("step").reward, len(df) // 2
        title = (
            f"Reward {reward.iloc[:half].mean():.2f} in the first half of {len(df)} steps, "
            f"{reward.iloc[half:].mean():.2f} in the second"
        )
        if "frac_reward_zero_std" in found:
            title += f"; {df.frac_reward_zero_std.mean():.0%} of the groups without a signal"
        title += label
    figure, axes = panels(len(found), (4, 3.2, 2.3), title, xlabel="step", sharex=True)
    for ax, column in zip(axes, found):
        _health_panel(ax, df, column)
        for step in switches:
            ax.axvline(step, color="#E8590C", lw=1, ls=":")
    return figure


def _first_and_last(df, ylabel):
    """Title: each arm's mean over the first and over the last quarter of the steps, with n."""
    start, end = df.step.min(), df.step.max()
    near = (end - start) / 4
    found = []
    for arm, part in df.groupby("arm", sort=False):
        early = part.value[part.step < start + near].mean()
        late = part.value[part.step > end - near].mean()
        n = part.n_problems.max()
        if np.isfinite(late - early):
            of = f" (n = {n:.0f})" if n else ""
            found.append((late, f"{arm} {early:.2f} → {late:.2f}{of}".lstrip()))
    if not found:
        return f"Learning curves: {ylabel}"
    texts = [text for _, text in found]
    if len(texts) > MANY:
        texts = [f"from {min(found)[1]} to {max(found)[1]}"]
    span = f"first → last quarter of steps {start:g} to {end:g}"
    return f"{ylabel}, {span}: {', '.join(texts)} (n = {counted(df.seed.nunique(), 'seed')})"


def draw_learning(
    df: pd.DataFrame,
    label: str = "",
    ylabel: str = "reward",
    window: int = 1,
    ax: Axes | None = None,
) -> Axes:
    """Curves over steps, a colour per arm: bold the median, band min to max; of few runs each one.

    Args:
        df: `step`, `value`; if there are, `arm` (one without values keeps its colour), `seed`,
            `n_problems` (of a value), and `low`, `high`: the band of a single seed.
        label: end of the title.
        ylabel: what `value` is; the axis of a "reward" reaches 1.
        window: each point is the mean of so many steps up to it.
        ax: where to draw; None: a new figure.
    Returns:
        The axes; a note if there is no value.
    Source: our choice.
    """
    df = df.reindex(columns="arm seed step value n_problems low high".split())
    df = df.astype({"arm": object}).fillna({"arm": "", "seed": 0, "n_problems": 0})
    colours = arm_colours(df)
    df = df.dropna(subset=["step", "value"])
    runs = df[["arm", "seed"]].drop_duplicates()
    several = runs.seed.nunique() > 1
    bands = "band: 95% interval of each point"
    if several:
        bands = f"{counted(len(runs), 'run')}; bold: median, band: min to max"
    known = several or df.low.notna().any()
    notes = compress([bands, f"mean of {window} steps"], [known, window > 1])
    ax = axes_of((8, 4), f"{_first_and_last(df, ylabel)}{label}", "; ".join(notes), ax)
    if df.empty:
        return empty_axes(ax, "no curve to draw yet")
    df["value"] = df.groupby(["arm", "seed"]).value.transform(lambda x: x.rolling(window, 1).mean())
    df = df.fillna({"low": df.value, "high": df.value})
    ends = []
    for arm, own in df.groupby("arm", sort=False):
        colour = colours[arm]
        wide = own.pivot_table(index="step", columns="seed", values="value")
        median = wide.median(axis=1)
        if len(runs) <= 2 * MANY:
            ax.plot(wide, color=colour, lw=0.8, alpha=0.6, marker="o" if len(wide) == 1 else "")
        ax.plot(median, color=colour, lw=2.4)
        band = (wide.min(axis=1), wide.max(axis=1))
        if not several:
            band = tuple(own.groupby("step")[["low", "high"]].mean().to_numpy().T)
        ax.fill_between(wide.index, *band, color=colour, alpha=0.12, lw=0)
        name = f"{arm} ({wide.shape[1]})" if arm and several else arm
        ends.append((median.iloc[-1], name, colour))
    highest = df.high.max()
    top = max(1.0, highest * 1.05) if ylabel == "reward" else max(highest * 1.1, 0.05)
    ax.set(ylim=(min(0, df.low.min()), top), xmargin=0.01, xlabel="step", ylabel=ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Names stand at the ends of the curves and do not overlap.
    last, right = -np.inf, ax.get_yaxis_transform()
    for y, name, colour in sorted(ends):
        last = max(y, last + 0.06 * top)
        text_at(ax, 1, last, name, color=colour, weight="bold", xycoords=right, xytext=(6, 0))
    return ax
