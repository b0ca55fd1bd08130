"""Explorers for a person who steps through a notebook.

Answer a problem, design a curriculum, compare trainings. A headless run shows one example of each
instead, without a widget. The kit's numbers come from the stages; here is only what a person turns
and looks at.
"""

import json

import matplotlib.pyplot as plt
from IPython.core.pylabtools import print_figure
from IPython.display import HTML, display
from ipywidgets import HTML as Markup
from ipywidgets import BoundedIntText, Button, Dropdown, FloatSlider, HBox, Image, Textarea, VBox

from kit import curriculum
from kit.core.run import Run, headless
from kit.core.types import Problem, Verdict
from kit.display import browse, figures
from kit.environments.base import Environment
from kit.schedules import (
    HORIZON,
    PAPER_SCHEDULES,
    SCHEDULES,
    CurriculumError,
    phases,
    schedule_table,
)

WIDE = {"width": "95%"}
PICTURE = {"width": "100%", "max_width": "860px"}


def png(figure) -> bytes:
    """A figure as a picture, closed.

    An Image that changes neither flickers nor doubles, as a figure in an Output may.
    """
    picture = print_figure(figure, dpi=160)
    plt.close(figure)
    return picture


def page(*parts: str) -> str:
    """Parts, HTML already, in the colours of the theme."""
    return f"<div style='{browse.TEXT_COLOUR};line-height:1.4'>{''.join(parts)}</div>"


def paragraph(text: str) -> str:
    """A paragraph of text, escaped."""
    return f"<p>{browse.escaped(text)}</p>"


def html_table(rows) -> str:
    """Rows as a table, as HTML."""
    return browse.styled_table(rows).to_html()


def show_static(figure, *parts: str) -> None:
    """What a headless notebook shows."""
    display(figure)
    plt.close(figure)
    display(HTML(page(*parts)))


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
        display(browse.styled_table(rows))
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
        said.value = page(html_table(rows[::-1]) if rows else paragraph("nothing graded yet"))

    def grade(_):
        said.value = page(paragraph("grading …"))
        name = chosen.value
        graded = _graded(envs[name], problems[name], answer.value, run)
        tries[name].append({"try": len(tries[name]) + 1} | graded)
        show()

    chosen.observe(show, "value")
    button.on_click(grade)
    show()
    browse.live(VBox([chosen, question, answer, button, said]))


def _question(env, problem):
    """What the student reads, as HTML: the last message, those before it folded."""
    *before, last = env.solve_prompt(problem)
    folded = ""
    if before:
        example = "".join(browse.code(f"[{m['role']}]\n{m['content']}\n\n") for m in before)
        summary = f"before it: what is asked, and a worked example ({len(before)} messages)"
        folded = f"<details><summary>{summary}</summary>{example}</details>"
    return page(folded, "<b>what the student reads</b>", browse.code(last["content"]))


def _graded(env, problem, answer, run):
    """One answer, graded in a sandbox of its own, as a row of a table."""
    try:
        with run.box(workers=1) as box:
            (verdict,) = env.grade(problem, [answer], box)
    # An answer never raises: whatever does is a fault of the kit.
    except Exception as error:
        verdict = Verdict.of_fault(error)
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
OWN_SCHEDULE = "mine"
# Steps beyond which a plan takes long.
QUICK = 400


def _slider(name, step=0.05):
    """A slider from 0 to 1, four beside each other."""
    return FloatSlider(
        description=name,
        max=1,
        step=step,
        continuous_update=False,
        layout={"width": "24%"},
        style={"description_width": "90px"},
    )


def _phase_sliders():
    """For each phase the sliders of its start and of the weights of three bins."""
    phases = [
        [_slider(f"{k}. starts at", 1 / 80), *map(_slider, ("easy", "medium", "hard"))]
        for k in range(1, PHASES + 1)
    ]
    # The first phase always starts at 0.
    phases[0][0].disabled = True
    return phases


def _set_sliders(phases, schedule):
    """Move the sliders of all phases to a schedule."""
    for k, (slider, *boxes) in enumerate(phases):
        start, weights = schedule[min(k, len(schedule) - 1)]
        slider.value = start / HORIZON
        # A phase that the schedule does not have starts in the middle of the last.
        if k >= len(schedule):
            slider.value = (1 + phases[k - 1][0].value) / 2
        # medium-first has easy-medium problems instead of easy ones.
        for box, (name, weight) in zip(boxes, weights.items(), strict=True):
            box.description = name
            box.value = weight


def _designed(phases):
    """What the sliders say, as a schedule."""
    return json.dumps(
        [(start.value, {box.description: box.value for box in boxes}) for start, *boxes in phases]
    )


def design(problems: list[Problem], run: Run) -> None:
    """Design a schedule by sliders, or start from one of the paper's, and see its plan.

    The plan is that of these problems and the run's profile. A headless notebook shows
    the profile's own.

    Args:
        problems: those that a plan may draw from: kept, of the train split.
        run: its profile gives the mixture, the bins and the number of steps.
    Source: our choice; the six schedules to begin with are the paper's.
    """
    own = run.profile.curriculum.schedule
    if headless():
        show_static(*_planned(problems, run, own, own))
        return

    preset = Dropdown(description="begin with", options=PAPER_SCHEDULES)
    if own in PAPER_SCHEDULES:
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
        schedule = SCHEDULES[preset.value]
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
            schedule = _designed(phases[: count.value])
            figure, *facts = _planned(problems, run, schedule, OWN_SCHEDULE)
        except CurriculumError as error:
            # No stale picture beside the message.
            picture.layout.display = "none"
            said.value = page(paragraph(f"No plan: {error}"))
            return
        picture.value = png(figure)
        picture.layout.display = ""
        said.value = page(*facts, _how(schedule, preset.value, run))

    preset.observe(begin, "value")
    for control in (count, *sum(phases, [])):
        control.observe(show, "value")
    begin()
    browse.live(VBox([HBox([preset, count]), rows, picture, said]))


def _planned(problems, run, schedule, name):
    """The figure of a schedule with its plan, and what there is to say of it, as HTML."""
    profile = run.profile
    steps = min(profile.grpo.steps, QUICK)
    plan = curriculum.plan(
        problems,
        schedule,
        steps,
        profile.grpo.prompts_per_step,
        profile.curriculum.environments,
        profile.difficulty.bins,
        run.seed,
        profile.curriculum.sources,
    )
    ax = figures.draw_curriculum(
        schedule_table(schedule, steps), curriculum.realised(plan), label=f": {name}{run.label}"
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
    return ax.figure, paragraph(f"{facts} The most used problems:"), html_table(rows)


def _how(schedule, preset, run):
    """What to write where, so that a run trains on the schedule, as HTML."""
    found = phases(schedule, HORIZON)
    if found == phases(preset, HORIZON):
        # A run of its own that starts from these problems, if there are any yet.
        own = run.path("filtered.parquet")
        command = f"mkdir -p runs/{preset} && cp {own} runs/{preset}/\n" * own.exists() + (
            f"python -m kit run --profile {run.profile.name} --out runs/{preset} "
            f"--only 04 --only 05 -p SCHEDULE={preset}"
        )
        return paragraph("This is the paper's. To train on it:") + browse.code(command)

    rounded = json.dumps(
        [
            (start / HORIZON, {b: float(f"{weight:.12g}") for b, weight in weights.items()})
            for start, _, weights in found
        ]
    )
    profile = run.profile.name
    return (
        paragraph(
            f"To train on it in a study, write this line into a file, {OWN_SCHEDULE}.yaml (in the "
            f"place of {OWN_SCHEDULE} a name that nobody else has), and take seeds of your own:"
        )
        + browse.code(
            f"{OWN_SCHEDULE}: {{schedule: {rounded}}}\n\n"
            f"python -m kit study --profile {profile} --arms-file {OWN_SCHEDULE}.yaml "
            "--seeds 101,102"
        )
        + paragraph("For a single training it stands in a profile of your own:")
        + browse.code(
            f"base: {profile}\nname: {OWN_SCHEDULE}\ncurriculum: {{schedule: '{rounded}'}}"
        )
    )
