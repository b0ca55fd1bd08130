"""Trainings of a study side by side: a curve, what they solve, what their arms change."""

import pandas as pd
from ipywidgets import Dropdown, interactive

from kit.core.run import headless
from kit.display import browse, figures
from kit.display.explore import html_table, show_static

# The curves to choose from, and their columns.
CURVES = {
    "share of dead groups": "frac_reward_zero_std",
    "reward": "reward",
    "entropy (nats)": "entropy",
    "completion length (tokens)": "completion_length",
}


def compare(study: dict[str, pd.DataFrame], arms: dict[str, dict], label: str = "") -> None:
    """Compare up to four arms of a study, or single seeds of them, side by side.

    Shows a curve on one axis, pass@1 of each set before and after, and what the arms change. A
    headless notebook shows the first two arms.

    Args:
        study: frames `curves` and `scores` of a study, see pooling.read_study.
        arms: what each arm of the study changes.
        label: the study's, for the figure's title.
    Source: our choice.
    """
    # Each arm, and each seed of it.
    found: dict = {}
    for name, part in study["curves"].groupby("arm", sort=False):
        seeds = sorted(part.seed.unique())
        found[name] = (name, seeds)
        found |= {f"{name}, seed {seed}": (name, [seed]) for seed in seeds}
    if not found:
        return print("nothing to compare: there is no study")

    def show(curve, **chosen):
        titles = [title for title in dict.fromkeys(chosen.values()) if title in found]

        def rows(table):
            parts = [table[:0]]
            for title in titles:
                name, seeds = found[title]
                part = table[(table.arm == name) & table.seed.isin(seeds)]
                parts.append(part.assign(arm=title))
            return pd.concat(parts)

        curves = rows(study["curves"])
        # Each point is the mean of so many steps (our choice).
        ax = figures.draw_learning(curves.assign(value=curves.get(CURVES[curve])), label, curve, 15)
        scores = rows(study["scores"])
        scores["pass@1"] = scores.solved / scores.n
        solved = scores.pivot_table("pass@1", ["set", "checkpoint"], "arm", sort=False)
        changes = {title: arms.get(found[title][0], {}) for title in titles}
        changed = pd.DataFrame(changes, dtype=object).rename_axis("key").fillna("–")
        show_static(ax.figure, html_table(solved.reset_index()), html_table(changed.reset_index()))

    names = list(dict.fromkeys(name for name, _ in found.values()))[:2]
    if headless():
        return show("share of dead groups", **dict(zip("AB", names)))
    boxes = {
        letter: Dropdown(description=letter, options=["–", *found], value=value)
        for letter, value in zip("ABCD", [*names, *"–––"])
    }
    browse.live(interactive(show, curve=list(CURVES), **boxes))
