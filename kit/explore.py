"""Explorers for a person who steps through a notebook.

Answer a problem, design a curriculum, compare trainings. A headless run shows one example of each
instead, without a widget. The kit's numbers come from the stages; here is only what a person turns
and looks at.
"""

import html
import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, display
from ipywidgets import HTML as Markup
from ipywidgets import (
    BoundedIntText,
    Button,
    Dropdown,
    FloatSlider,
    HBox,
    Image,
    IntSlider,
    Textarea,
    VBox,
)

from kit import curricula, plots, widgets
from kit.environments import Environment, Verdict
from kit.records import Problem
from kit.run import LABEL, RECORDED, ROOT, Run, RunError, headless, read_manifest, rests_on_recorded

WIDE = {"width": "95%"}
PICTURE = {"width": "100%", "max_width": "860px"}


def _png(figure) -> bytes:
    """A figure as a picture, closed.

    An Image that changes neither flickers nor doubles, as a figure in an Output may.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def _page(*parts: str) -> str:
    """Parts, HTML already, in the colours of the theme."""
    return f"<div style='{widgets.INK};line-height:1.4'>{''.join(parts)}</div>"


def _text(text: str) -> str:
    """A paragraph of text, escaped."""
    return f"<p>{html.escape(text)}</p>"


def _html_table(rows) -> str:
    """Rows as a table, as HTML."""
    return widgets.table(rows).to_html()


def _static(figure, *parts: str) -> None:
    """What a headless notebook shows."""
    display(figure)
    plt.close(figure)
    display(HTML(_page(*parts)))


# ------------------------------------------------------------------ be the student

# Wrong in every environment: this one reads a program, every other an <answer>.
NONSENSE = {"induction": "```python\ndef f(*given):\n    return 'nonsense'\n```"}


def playground(
    problems: dict[str, Problem], envs: dict[str, Environment], run: Run, answers: dict[str, str]
) -> None:
    """Answer a problem by hand and have it graded by the real sandbox, as often as one likes.

    A headless notebook grades a right and a wrong answer to each problem. A failure of the kit is
    shown as such, never as a wrong answer.

    Args:
        problems: one problem for each environment, by its name.
        envs: the environments by name.
        run: the run whose sandbox grades.
        answers: a right answer to each problem; only a headless notebook needs it.
    Source: our choice.
    """
    if headless():
        rows = [
            {"problem": name} | _graded(envs[name], problem, answer, run)
            for name, problem in problems.items()
            for answer in (answers[name], NONSENSE.get(name, "<answer>'nonsense'</answer>"))
        ]
        display(widgets.table(rows))
        return

    chosen = Dropdown(description="problem", options=list(problems))
    question = Markup(layout=WIDE)
    answer = Textarea(
        description="answer", placeholder="write here what a model would write", rows=5, layout=WIDE
    )
    button = Button(description="grade")
    said = Markup(layout=WIDE)
    tries: dict[str, list] = {name: [] for name in problems}

    def show(_=None):
        question.value = _question(envs[chosen.value], problems[chosen.value])
        rows = tries[chosen.value]
        # The latest try comes first.
        said.value = _page(_html_table(rows[::-1]) if rows else _text("nothing graded yet"))

    def grade(_):
        said.value = _page(_text("grading …"))
        name = chosen.value
        graded = _graded(envs[name], problems[name], answer.value, run)
        tries[name].append({"try": len(tries[name]) + 1} | graded)
        show()

    chosen.observe(show, "value")
    button.on_click(grade)
    show()
    widgets.live(VBox([chosen, question, answer, button, said]))


def _question(env: Environment, problem: Problem) -> str:
    """What the student reads, as HTML: the last message, those before it folded."""
    *before, last = env.solve_prompt(problem)
    folded = ""
    if before:
        example = "".join(widgets.code(f"[{m['role']}]\n{m['content']}\n\n") for m in before)
        summary = f"before it: what is asked, and a worked example ({len(before)} messages)"
        folded = f"<details><summary>{summary}</summary>{example}</details>"
    return _page(folded, "<b>what the student reads</b>", widgets.code(last["content"]))


def _graded(env: Environment, problem: Problem, answer: str, run: Run) -> dict:
    """One answer, graded in a sandbox of its own, as a row of a table."""
    try:
        with run.box(workers=1) as box:
            (verdict,) = env.grade(problem, [answer], box)
    # An answer never raises: whatever does is a fault of the kit.
    except Exception as error:
        verdict = Verdict("error", f"{type(error).__name__}: {error}")
    return {
        "answer": answer,
        "verdict": "our error, no reward" if verdict.outcome == "error" else verdict.outcome,
        "reason": verdict.reason,
        "reward": str(verdict.reward),
    }


# ------------------------------------------------------------------ design a curriculum

# Phases at most, as many as the paper's classic has.
PHASES = 5
# The name of the schedule that is designed here.
MINE = "mine"
# Steps beyond which a plan takes long.
QUICK = 400


def _slider(name: str, step: float = 0.05) -> FloatSlider:
    """A slider from 0 to 1, four beside each other."""
    return FloatSlider(
        description=name,
        max=1,
        step=step,
        continuous_update=False,
        layout={"width": "24%"},
        style={"description_width": "90px"},
    )


def _phase_sliders() -> list[list[FloatSlider]]:
    """For each phase the sliders of its start and of the weights of three bins."""
    phases = [
        [_slider(f"{k}. starts at", 1 / 80), *map(_slider, ("easy", "medium", "hard"))]
        for k in range(1, PHASES + 1)
    ]
    # The first phase always starts at 0.
    phases[0][0].disabled = True
    return phases


def _set_sliders(phases: list[list[FloatSlider]], schedule: list) -> None:
    """Move the sliders of all phases to a schedule."""
    for k, (slider, *boxes) in enumerate(phases):
        start, weights = schedule[min(k, len(schedule) - 1)]
        slider.value = start / curricula.HORIZON
        # A phase that the schedule does not have starts in the middle of the last.
        if k >= len(schedule):
            slider.value = (1 + phases[k - 1][0].value) / 2
        # medium-first has easy-medium problems instead of easy ones.
        for box, (name, weight) in zip(boxes, weights.items(), strict=True):
            box.description = name
            box.value = weight


def _define(phases: list[list[FloatSlider]]) -> None:
    """Make what the sliders say the schedule MINE."""
    parts = [
        (start.value, {box.description: box.value for box in boxes}) for start, *boxes in phases
    ]
    curricula.define(MINE, parts)


def design(problems: list[Problem], run: Run) -> None:
    """Design a schedule by sliders, or start from one of the paper's, and see its plan.

    The plan is that of these problems and the run's profile. The schedule is known as "mine" in
    this process, see curricula.define. A headless notebook shows the profile's own.

    Args:
        problems: those that a plan may draw from: kept, of the train split.
        run: its profile gives the mixture, the bins and the number of steps.
    Source: our choice; the six schedules to begin with are the paper's.
    """
    own = run.profile.curriculum.schedule
    if headless():
        _static(*_planned(problems, run, own))
        return

    preset = Dropdown(description="begin with", options=curricula.SIX)
    if own in curricula.SIX:
        preset.value = own
    count = BoundedIntText(description="phases", min=1, max=PHASES, layout={"width": "160px"})
    phases = _phase_sliders()
    lines = list(map(HBox, phases))
    rows = VBox()
    picture = Image(layout=PICTURE)
    said = Markup(layout=WIDE)
    # While many sliders move at once nothing is drawn.
    setting = False

    def begin(_=None):
        nonlocal setting
        setting = True
        schedule = curricula.SCHEDULES[preset.value]
        count.value = len(schedule)
        _set_sliders(phases, schedule)
        setting = False
        show()

    def show(_=None):
        if setting:
            return
        # Rows that stay are not drawn anew: a slider would lose the keyboard's focus.
        if len(rows.children) != count.value:
            rows.children = lines[: count.value]
        try:
            _define(phases[: count.value])
            figure, *facts = _planned(problems, run, MINE)
        except curricula.CurriculumError as error:
            # No stale picture beside the message.
            picture.layout.display = "none"
            said.value = _page(_text(f"No plan: {error}"))
            return
        picture.value = _png(figure)
        picture.layout.display = ""
        said.value = _page(*facts, _how(preset.value, run))

    preset.observe(begin, "value")
    for control in (count, *sum(phases, [])):
        control.observe(show, "value")
    begin()
    widgets.live(VBox([HBox([preset, count]), rows, picture, said]))


def _planned(problems: list[Problem], run: Run, schedule: str) -> tuple:
    """The figure of a schedule with its plan, and what there is to say of it, as HTML."""
    profile = run.profile
    steps = min(profile.grpo.steps, QUICK)
    plan = curricula.plan(
        problems,
        schedule,
        steps,
        profile.grpo.prompts_per_step,
        dict(profile.curriculum.environments.items()),
        profile.difficulty.bins,
        run.seed,
        dict(profile.curriculum.sources.items()),
    )
    ax = plots.curriculum(
        curricula.table(schedule, steps), curricula.realised(plan), label=f": {schedule}{run.label}"
    )

    # How much of the stock is used, and how often the wish could not be met.
    uses = plan.problem_id.value_counts()
    facts = (
        f"{len(uses)} different problems of {len(problems)} in {len(plan)} prompts; "
        f"{(plan.wanted != plan.bin).mean():.0%} of the prompts come from another bin than wanted."
    )
    if steps < profile.grpo.steps:
        facts += f" Drawn for {steps} steps instead of {profile.grpo.steps:,}, to be quick."

    # The problems that come most often.
    by_id = {problem.id: problem for problem in problems}
    bins = plan.drop_duplicates("problem_id").set_index("problem_id").bin
    rows = []
    for problem_id, times in uses.head(5).items():
        problem = by_id[problem_id]
        rows.append(
            {
                "times": times,
                "bin": bins[problem_id],
                "p": problem.p,
                "environment": problem.environment,
                "what": " ".join((problem.message or problem.program).split())[:100],
            }
        )
    return ax.figure, _text(f"{facts} The most used problems:"), _html_table(rows)


def _how(preset: str, run: Run) -> str:
    """What to write where, so that a run trains on the schedule, as HTML."""
    phases = curricula.SCHEDULES[MINE]
    known = phases == curricula.SCHEDULES[preset]
    name = preset if known else MINE

    # A run of its own that starts from these problems, if there are any yet.
    own = run.path("filtered.parquet")
    command = f"mkdir -p runs/{name} && cp {own} runs/{name}/\n" * own.exists() + (
        f"python -m kit run --profile {run.profile.name} --out runs/{name} "
        f"--only 04 --only 05 -p SCHEDULE={name}"
    )
    if known:
        return _text("This is the paper's. To train on it:") + widgets.code(command)

    rounded = [
        (start, {b: float(f"{weight:.12g}") for b, weight in weights.items()})
        for start, weights in phases
    ]
    profile = f"base: {run.profile.name}\nname: {MINE}\ncurriculum: {{schedule: {MINE}}}"
    return (
        _text(
            "To train on it, give it a name: a line of SCHEDULES in kit/curricula.py (steps of "
            "40,000) …"
        )
        + widgets.code(f'    "{MINE}": {rounded},')
        + _text("… and that name on the command line, or in a profile of your own:")
        + widgets.code(f"{command}\n\n{profile}")
    )


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
        study: frames `curves` and `scores` of a study, see findings.read.
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
        _static(*_compared({name: found[name]() for name in first}, "share of dead groups", 5))
        return

    boxes = [
        Dropdown(description=letter, options=["–", *names], value=name)
        for letter, name in zip("ABCD", [*names[:2], *"–––"])
    ]
    curve = Dropdown(description="curve", options=list(CURVES))
    window = IntSlider(
        description="mean of steps",
        value=5,
        min=1,
        max=20,
        continuous_update=False,
        style={"description_width": "initial"},
    )
    picture = Image(layout=PICTURE)
    said = Markup(layout=WIDE)

    def show(_=None):
        try:
            chosen = {box.value: found[box.value]() for box in boxes if box.value in found}
            figure, *facts = _compared(chosen, curve.value, window.value)
        # A folder that somebody else is writing, or an old one.
        except (RunError, OSError, ValueError, KeyError) as error:
            said.value = _page(_text(f"cannot be read: {error}"))
            return
        picture.value = _png(figure)
        said.value = _page(*facts)

    for control in (*boxes, curve, window):
        control.observe(show, "value")
    show()
    widgets.live(VBox([HBox(boxes[:2]), HBox(boxes[2:]), HBox([curve, window]), picture, said]))


def _trainings(
    run: Run, study: dict[str, pd.DataFrame], arms: dict[str, dict], label: str
) -> dict[str, partial[Training]]:
    """What can be compared, by name, each with what reads it."""

    def arm(name: str, *seeds: int) -> Training:
        """Some seeds of an arm of the study."""
        curves, scores = (
            frame[(frame.arm == name) & frame.seed.isin(seeds)]
            for frame in (study["curves"], study["scores"])
        )
        values = {"arm": name, "seeds": ", ".join(map(str, seeds))}
        values |= {f"arm.{key}": str(value) for key, value in arms.get(name, {}).items()}
        return Training(curves, scores, values, label)

    # The arms of the study, and each seed of those that have several.
    found: dict[str, partial[Training]] = {}
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


def _folder(folder: Path) -> Training:
    """The training of a run folder, with the values of its profile and what was changed."""
    manifest = read_manifest(folder)
    values = _flat(manifest["profile"] or {})
    for stage in manifest["stages"].values():
        values |= _flat(stage.get("overrides", {}))

    # A run of its own is one seed; it may not be evaluated yet.
    curves = pd.read_parquet(folder / "train.parquet").assign(seed=0)
    path = folder / "evaluation.parquet"
    scores = pd.read_parquet(path).assign(seed=0) if path.exists() else pd.DataFrame()
    recorded = folder == RECORDED or rests_on_recorded(manifest, before="06")
    return Training(curves, scores, values, LABEL if recorded else "")


def _flat(values: dict, prefix: str = "") -> dict[str, str]:
    """Nested values as text, by dotted key."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def _compared(chosen: dict[str, Training], curve: str, window: int) -> tuple:
    """The figure of a curve, and the tables, as HTML."""
    lines = [training.curves.assign(arm=name) for name, training in chosen.items()]
    curves = pd.concat(lines) if lines else pd.DataFrame()
    # A training without this column has no value, and so no curve.
    curves = curves.assign(value=curves.get(CURVES[curve]))
    label = max((training.label for training in chosen.values()), default="")
    ax = plots.learning(curves, f": {curve}{label}", curve, window)

    parts = [_html_table(_beside("", {name: _headline(x) for name, x in chosen.items()}))]
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
            parts += [_text(title), _html_table(differing)]
        elif len(alike) > 1:
            same = f"The {what} have the same values: what differs is chance, and the code."
            parts.append(_text(same))
    unknown = [name for name, training in chosen.items() if not training.values]
    if unknown:
        parts.append(
            _text(
                f"{', '.join(unknown)}: no manifest, so its values are not compared; "
                "data/recorded/README.md tells them."
            )
        )
    return ax.figure, *parts


def _beside(
    title: str, columns: dict[str, dict[str, str]], differing: bool = False
) -> pd.DataFrame:
    """Named values side by side, a column each; `differing`: only those that are not all alike."""
    frame = pd.DataFrame({html.escape(name): values for name, values in columns.items()})
    frame = frame.fillna("–").rename_axis(title)
    if differing:
        frame = frame[frame.nunique(axis=1) > 1]
    return frame.reset_index()


def _headline(training: Training) -> dict[str, str]:
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


def _change(values: pd.Series, groups: pd.Series, order: list) -> str:
    """The mean of one group of values, an arrow, the mean of another."""
    first, second = values.groupby(groups).mean().reindex(order)
    return f"{first:.2f} → {second:.2f}"
