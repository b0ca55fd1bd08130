"""Trainings side by side: settings, curves, evaluations."""

from dataclasses import dataclass
from functools import partial

import pandas as pd
from ipywidgets import HTML as Markup
from ipywidgets import Dropdown, HBox, Image, VBox

from kit.core import records
from kit.core.manifest import RECORDED, ROOT, RunError, read_manifest, rests_on_recorded
from kit.core.run import LABEL, Run, headless
from kit.display import browse, figures
from kit.display.explore import PICTURE, WIDE, html_table, page, paragraph, png, show_static

# ------------------------------------------------------------------ compare trainings

# The curves to choose from, and their columns.
CURVES = {
    "reward": "reward",
    "share of dead groups": "frac_reward_zero_std",
    "entropy (nats)": "entropy",
    "completion length (tokens)": "completion_length",
}


@dataclass(frozen=True)
class Training:
    """What is known of one or several trainings (seeds) of one kind.

    Scores and values may be empty. A comment above a field explains it.
    """

    # Columns seed, step, and those of CURVES.
    curves: pd.DataFrame
    # Columns seed, checkpoint, set, problem_id, n, solved.
    scores: pd.DataFrame
    # The profile's values, by dotted key.
    values: dict[str, str]
    # For the figure's title.
    label: str


def compare(
    run: Run, study: dict[str, pd.DataFrame], arms: dict[str, dict], label: str = ""
) -> None:
    """Compare up to four trainings side by side.

    Shows a curve on one axis, headline numbers, and the values of profile or arm in which they
    differ. To choose from: the run folders that have a training, the recorded one, and the arms
    and seeds of a study. A headless notebook shows the study's first two arms, else the recorded
    run.

    Args:
        run: the run whose neighbour folders are offered.
        study: frames `curves` and `scores` of a study, see pooling.read_study.
        arms: what each arm of the study changes.
        label: the study's, for the figure's title.
    Source: our choice.
    """
    found = _trainings(run, study, arms, label)
    if not found:
        print("nothing to compare: no run folder has a training, and there is no study")
        return
    names = list(found)
    if headless():
        first = [f"arm {arm}" for arm in study["curves"].arm.unique()[:2]] or names[-1:]
        show_static(*_compared({name: found[name]() for name in first}, "share of dead groups"))
        return

    boxes = [
        Dropdown(description=letter, options=["–", *names], value=name)
        for letter, name in zip("ABCD", [*names[:2], *"–––"])
    ]
    curve = Dropdown(description="curve", options=list(CURVES))
    picture = Image(layout=PICTURE)
    said = Markup(layout=WIDE)

    def show(_=None):
        try:
            chosen = {box.value: found[box.value]() for box in boxes if box.value in found}
            figure, *facts = _compared(chosen, curve.value)
        # A folder that somebody else is writing, or an old one.
        except (RunError, records.RecordError, OSError, ValueError, KeyError) as error:
            said.value = page(paragraph(f"cannot be read: {error}"))
            return
        picture.value = png(figure)
        said.value = page(*facts)

    for control in (*boxes, curve):
        control.observe(show, "value")
    show()
    browse.live(VBox([HBox(boxes[:2]), HBox(boxes[2:]), curve, picture, said]))


def _trainings(run, study, arms, label):
    """What can be compared, by name, each with what reads it."""

    def arm(name, *seeds):
        """Some seeds of an arm of the study."""
        curves, scores = (
            frame[(frame.arm == name) & frame.seed.isin(seeds)]
            for frame in (study["curves"], study["scores"])
        )
        values = {"arm": name, "seeds": ", ".join(map(str, seeds))}
        values |= {f"arm.{key}": str(value) for key, value in arms.get(name, {}).items()}
        return Training(curves, scores, values, label)

    # The arms of the study, and each seed of those that have several.
    found: dict = {}
    for name, part in study["curves"].groupby("arm", sort=False):
        seeds = sorted(part.seed.unique())
        found[f"arm {name}"] = partial(arm, name, *seeds)
        if len(seeds) > 1:
            found |= {f"arm {name}, seed {seed}": partial(arm, name, seed) for seed in seeds}

    # The run folders that have a training.
    folders = {
        path.parent
        for root in (ROOT / "runs", run.folder.parent)
        for path in root.glob("*/manifest.json")
        if path.with_name("train.parquet").exists()
    }
    found |= {f"run {folder.name}": partial(_folder, folder) for folder in sorted(folders)}
    if (RECORDED / "train.parquet").exists():
        found["recorded run"] = partial(_folder, RECORDED)
    return found


def _folder(folder):
    """The training of a run folder, with the values of its profile and what was changed."""
    manifest = read_manifest(folder)
    values = pd.json_normalize(manifest["profile"] or {}).iloc[0].to_dict()
    for stage in manifest["stages"].values():
        values |= stage.get("overrides", {})
    texts = {key: str(value) for key, value in values.items()}

    # A run of its own is one seed; it may not be evaluated yet.
    seed = values.get("grpo.seed") or 0
    curves = records.read_parquet(folder / "train.parquet").assign(seed=seed)
    path = folder / "evaluation.parquet"
    scores = records.read_parquet(path).assign(seed=seed) if path.exists() else pd.DataFrame()
    recorded = folder == RECORDED or rests_on_recorded(manifest, before="06")
    return Training(curves, scores, texts, LABEL if recorded else "")


def _compared(chosen, curve):
    """The figure of a curve, and the tables, as HTML."""
    lines = [training.curves.assign(arm=name) for name, training in chosen.items()]
    curves = pd.concat(lines) if lines else pd.DataFrame()
    # A training without this column has no value, and so no curve.
    curves = curves.assign(value=curves.get(CURVES[curve]))
    label = max((training.label for training in chosen.values()), default="")
    # Each point is the mean of so many steps (our choice).
    ax = figures.draw_learning(curves, label, curve, 15)

    parts = [html_table(_beside("", {name: _headline(x) for name, x in chosen.items()}))]
    # Of an arm only what makes it one is known, of a run the whole profile: two tables.
    for what in ("arms", "runs"):
        alike = {
            name: training.values
            for name, training in chosen.items()
            if training.values and ("arm" in training.values) == (what == "arms")
        }
        differing = _beside("value", alike, differing=True)
        if len(differing):
            title = f"The {what} differ in these values (–: not given, so the default):"
            parts += [paragraph(title), html_table(differing)]
        elif len(alike) > 1:
            same = f"The {what} have the same values: what differs is chance, and the code."
            parts.append(paragraph(same))
    unknown = [name for name, training in chosen.items() if not training.values]
    if unknown:
        parts.append(
            paragraph(
                f"{', '.join(unknown)}: no manifest, so its values are not compared; "
                "data/recorded/README.md tells them."
            )
        )
    return ax.figure, *parts


def _beside(title, columns, differing=False):
    """Named values side by side, a column each; `differing`: only those that are not all alike."""
    frame = pd.DataFrame(columns)
    frame = frame.fillna("–").rename_axis(title)
    if differing:
        frame = frame[frame.nunique(axis=1) > 1]
    return frame.reset_index()


def _headline(training):
    """Headline numbers as text: means over steps and seeds; pass@1 of sampled answers per set."""
    curves = training.curves
    found = {"seeds": str(curves.seed.nunique()), "steps": str(int(curves.step.max()))}
    late = curves.step > curves.step.max() / 2
    for name, column in (
        ("reward, first → second half", "reward"),
        ("entropy", "entropy"),
        ("dead groups", "frac_reward_zero_std"),
    ):
        if column in curves:
            found[name] = _change(curves[column], late, [False, True])

    if training.scores.empty:
        return found
    sampled = training.scores[training.scores.n > 0]
    for name, part in sampled.groupby("set", sort=False):
        change = _change(part.solved / part.n, part.checkpoint, ["before", "after"])
        found[f"pass@1 {name}"] = f"{change} (n = {part.problem_id.nunique()})"
    return found


def _change(values, groups, order):
    """The mean of one group of values, an arrow, the mean of another."""
    first, second = values.groupby(groups).mean().reindex(order)
    return f"{first:.2f} → {second:.2f}"
