"""Explorers for a person who steps through a notebook: answer a problem, design a curriculum, compare trainings. A headless run shows one
example of each instead, without a widget. The kit's numbers come from the stages; here is only what one turns and looks at."""

import html
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, display

from kit import curricula, plots, widgets
from kit.environments import Environment, Verdict
from kit.records import Problem
from kit.run import LABEL, RECORDED, ROOT, Run, RunError, headless, read_manifest, rests_on_recorded

WIDE, PICTURE = {"width": "95%"}, {"width": "100%", "max_width": "860px"}


def _png(figure) -> bytes:
    """A figure as a picture, closed: an Image that changes neither flickers nor doubles, as a figure in an Output may."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def _page(*parts: str) -> str:
    return f"<div style='{widgets.INK};line-height:1.4'>{''.join(parts)}</div>"


def _text(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _static(figure, *parts: str) -> None:
    """What a headless notebook shows."""
    display(figure)
    plt.close(figure)
    display(HTML(_page(*parts)))


# ------------------------------------------------------------------ be the student

NONSENSE = {
    "induction": "```python\ndef f(*given):\n    return 'nonsense'\n```"
}  # every other environment reads an <answer>


def playground(
    problems: dict[str, Problem], envs: dict[str, Environment], run: Run, answers: dict[str, str]
) -> None:
    """Answer a problem by hand and have it graded by the real sandbox, as often as one likes. A headless notebook grades one answer of
    `answers` (a right one by environment) and one wrong one each. A failure of ours is shown as such, never as a wrong answer."""
    if headless():
        tried = [
            (name, a)
            for name in problems
            for a in (answers[name], NONSENSE.get(name, "<answer>'nonsense'</answer>"))
        ]
        display(
            widgets.table(
                [
                    {"problem": name} | _graded(envs[name], problems[name], a, run)
                    for name, a in tried
                ]
            )
        )
        return
    import ipywidgets

    chosen = ipywidgets.Dropdown(description="problem", options=list(problems))
    question, said = ipywidgets.HTML(layout=WIDE), ipywidgets.HTML(layout=WIDE)
    answer = ipywidgets.Textarea(
        description="answer", placeholder="write here what a model would write", rows=5, layout=WIDE
    )
    button = ipywidgets.Button(description="grade")
    tries: dict[str, list[dict]] = {name: [] for name in problems}

    def show(_=None):
        *before, last = envs[chosen.value].solve_prompt(problems[chosen.value])
        example = "".join(widgets.code(f"[{m['role']}]\n{m['content']}\n\n") for m in before)
        folded = f"<details><summary>before it: what is asked, and a worked example ({len(before)} messages)</summary>{example}</details>"
        question.value = _page(
            folded * bool(before), "<b>what the student reads</b>", widgets.code(last["content"])
        )
        rows = tries[chosen.value]
        said.value = (
            _page(widgets.table(rows[::-1]).to_html())
            if rows
            else _page(_text("nothing graded yet"))
        )

    def grade(_):
        said.value = _page(_text("grading …"))
        rows = tries[chosen.value]
        rows.append(
            {"try": len(rows) + 1}
            | _graded(envs[chosen.value], problems[chosen.value], answer.value, run)
        )
        show()

    chosen.observe(show, "value")
    button.on_click(grade)
    show()
    widgets.live(ipywidgets.VBox([chosen, question, answer, button, said]))


def _graded(env: Environment, problem: Problem, answer: str, run: Run) -> dict:
    try:
        with run.box(workers=1) as box:
            (verdict,) = env.grade(problem, [answer], box)
    except Exception as e:  # an answer never raises: whatever does is a fault of ours
        verdict = Verdict("error", f"{type(e).__name__}: {e}")
    return {
        "answer": answer,
        "verdict": "our error, no reward" if verdict.outcome == "error" else verdict.outcome,
        "reason": verdict.reason,
        "reward": str(verdict.reward),
    }


# ------------------------------------------------------------------ design a curriculum

PHASES, MINE, QUICK = (
    5,
    "mine",
    400,
)  # phases at most, as the paper's classic has; steps beyond which a plan takes long


def design(problems: list[Problem], run: Run) -> None:
    """Turn a schedule by hand, or start from one of the paper's, and see what plan it gives with these problems and the run's profile. The
    schedule is known as "mine" in this process, see curricula.define. A headless notebook shows the profile's own."""
    if headless():
        _static(*_planned(problems, run, run.profile.curriculum.schedule))
        return
    import ipywidgets

    def slider(name, step=0.05):
        return ipywidgets.FloatSlider(
            description=name,
            min=0,
            max=1,
            step=step,
            continuous_update=False,
            readout_format=".2f",
            layout={"width": "24%"},
            style={"description_width": "90px"},
        )

    own = run.profile.curriculum.schedule
    preset = ipywidgets.Dropdown(
        description="begin with",
        options=curricula.SIX,
        value=own if own in curricula.SIX else curricula.SIX[0],
    )
    count = ipywidgets.BoundedIntText(
        description="phases", min=1, max=PHASES, layout={"width": "160px"}
    )
    phases = [
        [slider(f"{k + 1}. starts at", 1 / 80), *map(slider, ("easy", "medium", "hard"))]
        for k in range(PHASES)
    ]
    phases[0][0].disabled = True
    lines = [ipywidgets.HBox(row) for row in phases]
    rows, picture, said = (
        ipywidgets.VBox(),
        ipywidgets.Image(layout=PICTURE),
        ipywidgets.HTML(layout=WIDE),
    )
    setting = False  # while many sliders move at once nothing is drawn

    def begin(_=None):
        nonlocal setting
        parts = curricula.SCHEDULES[preset.value]
        setting, count.value, at = True, len(parts), 0.0
        for k, (start, *boxes) in enumerate(phases):
            at = (
                parts[k][0] / curricula.HORIZON if k < len(parts) else (1 + at) / 2
            )  # one more phase is in the middle of the last
            start.value = at
            for box, (name, weight) in zip(
                boxes, parts[min(k, len(parts) - 1)][1].items(), strict=True
            ):
                box.description, box.value = (
                    name,
                    weight,
                )  # medium-first has easy-medium problems in the place of easy ones
        setting = False
        show()

    def show(_=None):
        if setting:
            return
        if (
            len(rows.children) != count.value
        ):  # else they would be drawn anew, and a slider lose the keyboard's focus
            rows.children = lines[: count.value]
        parts = [
            (start.value, {box.description: box.value for box in boxes})
            for start, *boxes in phases[: count.value]
        ]
        try:
            curricula.define(MINE, parts)
            figure, *facts = _planned(problems, run, MINE)
        except curricula.CurriculumError as e:
            picture.layout.display, said.value = "none", _page(_text(f"No plan: {e}"))
            return
        picture.value, picture.layout.display, said.value = (
            _png(figure),
            "",
            _page(*facts, _how(preset.value, run)),
        )

    preset.observe(begin, "value")
    for box in (count, *sum(phases, [])):
        box.observe(show, "value")
    begin()
    widgets.live(ipywidgets.VBox([ipywidgets.HBox([preset, count]), rows, picture, said]))


def _planned(problems: list[Problem], run: Run, schedule: str) -> tuple:
    """The figure of a schedule with its plan, and what there is to say of it, as HTML."""
    c, numbers = run.profile.curriculum, run.profile.grpo
    steps = min(numbers.steps, QUICK)
    plan = curricula.plan(
        problems,
        schedule,
        steps,
        numbers.prompts_per_step,
        c.environments,
        run.profile.difficulty.bins,
        run.seed,
        c.sources,
    )
    ax = plots.curriculum(
        curricula.table(schedule, steps), curricula.realised(plan), label=f": {schedule}{run.label}"
    )
    uses, by_id = plan.problem_id.value_counts(), {p.id: p for p in problems}
    other, quick = (
        (plan.wanted != plan.bin).mean(),
        f" Drawn for {steps} steps instead of {numbers.steps:,}, to be quick."
        * (steps < numbers.steps),
    )
    facts = (
        f"{len(uses)} different problems of {len(problems)} in {len(plan)} prompts; {other:.0%} of the prompts come from another bin than "
        f"wanted.{quick} The most used problems:"
    )
    most = plan.drop_duplicates("problem_id").set_index("problem_id").loc[uses.index[:5]]
    rows = [
        {
            "times": uses[i],
            "bin": x.bin,
            "p": by_id[i].p,
            "environment": x.environment,
            "what": " ".join((by_id[i].message or by_id[i].program).split())[:100],
        }
        for i, x in most.iterrows()
    ]
    return ax.figure, _text(facts), widgets.table(rows).to_html()


def _how(preset: str, run: Run) -> str:
    """What to write where, so that a run trains on the schedule, as HTML."""
    mine = curricula.SCHEDULES[MINE]
    name = preset if mine == curricula.SCHEDULES[preset] else MINE
    own = run.path("filtered.parquet")
    command = (f"mkdir -p runs/{name} && cp {own} runs/{name}/\n" if own.exists() else "") + (
        f"python -m kit run --profile {run.profile.name} --out runs/{name} --only 04 --only 05 -p SCHEDULE={name}"
    )
    if name == preset:
        return _text("This is the paper's. To train on it:") + widgets.code(command)
    phases = [(start, {b: float(f"{x:.12g}") for b, x in w.items()}) for start, w in mine]
    return (
        _text(
            "To train on it, give it a name: a line of SCHEDULES in kit/curricula.py (steps of 40,000) …"
        )
        + widgets.code(f'    "{MINE}": {phases},')
        + _text("… and that name on the command line, or in a profile of your own:")
        + widgets.code(
            f"{command}\n\nbase: {run.profile.name}\nname: {MINE}\ncurriculum: {{schedule: {MINE}}}"
        )
    )


# ------------------------------------------------------------------ compare trainings

CURVES = {
    "reward": "reward",
    "share of dead groups": "frac_reward_zero_std",
    "entropy (nats)": "entropy",
    "completion length (tokens)": "completion_length",
}


@dataclass(frozen=True)
class Training:
    """What is known of one or several trainings (seeds) of one kind. Scores and values may be empty."""

    curves: pd.DataFrame  # seed, step, and the columns of CURVES
    scores: pd.DataFrame = field(
        default_factory=pd.DataFrame
    )  # seed, checkpoint, set, problem_id, n, solved
    values: dict[str, str] = field(default_factory=dict)  # the profile's, by dotted key
    label: str = ""  # for the figure's title


def compare(
    run: Run, study: dict[str, pd.DataFrame], arms: dict[str, dict], label: str = ""
) -> None:
    """Up to four trainings side by side: a curve on one axis, headline numbers, and the values of profile or arm in which they differ. They
    are the run folders that have a training, the recorded one, and the arms and seeds of a study (with its label, findings.read) as `arms`
    describes them. A headless notebook shows the study's first two arms, else the recorded run."""
    found = _trainings(run, study, arms, label)
    if not found:
        print("nothing to compare: no run folder has a training, and there is no study")
        return
    names = list(found)
    if headless():
        first = [f"arm {arm}" for arm in study["curves"].arm.unique()[:2]] or names[-1:]
        _static(*_compared({name: found[name]() for name in first}, "share of dead groups", 5))
        return
    import ipywidgets

    boxes = [
        ipywidgets.Dropdown(
            description=letter,
            options=["–", *names],
            value=names[k] if k < min(2, len(names)) else "–",
        )
        for k, letter in enumerate("ABCD")
    ]
    curve = ipywidgets.Dropdown(description="curve", options=list(CURVES))
    window = ipywidgets.IntSlider(
        description="mean of steps",
        value=5,
        min=1,
        max=20,
        continuous_update=False,
        style={"description_width": "initial"},
    )
    picture, said = ipywidgets.Image(layout=PICTURE), ipywidgets.HTML(layout=WIDE)

    def show(_=None):
        chosen = dict.fromkeys(box.value for box in boxes if box.value != "–")
        try:
            figure, *facts = _compared(
                {name: found[name]() for name in chosen}, curve.value, window.value
            )
        except (
            RunError,
            OSError,
            ValueError,
            KeyError,
        ) as e:  # a folder that somebody else is writing, or an old one
            said.value = _page(_text(f"cannot be read: {e}"))
            return
        picture.value, said.value = _png(figure), _page(*facts)

    for box in (*boxes, curve, window):
        box.observe(show, "value")
    show()
    widgets.live(
        ipywidgets.VBox(
            [
                ipywidgets.HBox(boxes[:2]),
                ipywidgets.HBox(boxes[2:]),
                ipywidgets.HBox([curve, window]),
                picture,
                said,
            ]
        )
    )


def _trainings(
    run: Run, study: dict[str, pd.DataFrame], arms: dict[str, dict], label: str
) -> dict[str, Callable[[], Training]]:
    found, curves = {}, study["curves"]
    for arm in curves.arm.unique():
        seeds = sorted(curves[curves.arm == arm].seed.unique())
        found[f"arm {arm}"] = partial(_arm, study, arm, seeds, arms, label)
        found |= {
            f"arm {arm}, seed {seed}": partial(_arm, study, arm, [seed], arms, label)
            for seed in seeds
            if len(seeds) > 1
        }
    folders = {
        path.parent
        for root in (ROOT / "runs", run.folder.parent)
        for path in root.glob("*/manifest.json")
    }
    found |= {
        f"run {folder.name}": partial(_folder, folder)
        for folder in sorted(folders)
        if (folder / "train.parquet").exists()
    }
    if (RECORDED / "train.parquet").exists():
        found["recorded run"] = partial(_folder, RECORDED)
    return found


def _arm(
    study: dict[str, pd.DataFrame], arm: str, seeds: list[int], arms: dict[str, dict], label: str
) -> Training:
    curves, scores = (
        study[name][(study[name].arm == arm) & study[name].seed.isin(seeds)]
        for name in ("curves", "scores")
    )
    values = {f"arm.{k}": str(v) for k, v in arms.get(arm, {}).items()}
    return Training(
        curves, scores, {"arm": arm, "seeds": ", ".join(map(str, seeds))} | values, label
    )


def _folder(folder: Path) -> Training:
    manifest, values = read_manifest(folder), {}
    for part in (
        manifest["profile"] or {},
        *(stage.get("overrides", {}) for stage in manifest["stages"].values()),
    ):
        values |= _flat(part)
    scores = folder / "evaluation.parquet"
    return Training(
        pd.read_parquet(folder / "train.parquet").assign(seed=0),
        pd.read_parquet(scores).assign(seed=0) if scores.exists() else pd.DataFrame(),
        values,
        LABEL if folder == RECORDED or rests_on_recorded(manifest, before="06") else "",
    )


def _flat(values: dict, prefix: str = "") -> dict[str, str]:
    found = {}
    for key, value in values.items():
        found |= (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, dict) and value
            else {f"{prefix}{key}": str(value)}
        )
    return found


def _compared(chosen: dict[str, Training], curve: str, window: int) -> tuple:
    """The figure of a curve, and the tables, as HTML."""
    column = CURVES[curve]
    lines = [
        x.curves[["seed", "step"]].assign(arm=name, value=x.curves[column])
        for name, x in chosen.items()
        if column in x.curves
    ]
    lines, label = (
        pd.concat(lines) if lines else pd.DataFrame(),
        max((x.label for x in chosen.values()), default=""),
    )
    ax = plots.learning(
        lines,
        label=f": {curve}{label}",
        ylabel="reward" if curve == "reward" else curve,
        window=window,
    )
    parts = [_beside("", {name: _headline(x) for name, x in chosen.items()}).to_html()]
    known = {name: x.values for name, x in chosen.items() if x.values}
    for what, arms in (
        ("arms", True),
        ("runs", False),
    ):  # of an arm only what makes it one is known, of a run the whole profile
        alike = {name: values for name, values in known.items() if ("arm" in values) == arms}
        values = _beside("value", alike, differing=True)
        if len(values.data):
            parts += [
                _text(f"The {what} differ in these values (–: not given, so the default):"),
                values.to_html(),
            ]
        elif len(alike) > 1:
            parts.append(
                _text(f"The {what} have the same values: what differs is chance, and the code.")
            )
    if unknown := [name for name in chosen if name not in known]:
        parts.append(
            _text(
                f"{', '.join(unknown)}: no manifest, so its values are not compared; data/recorded/README.md tells them."
            )
        )
    return ax.figure, *parts


def _beside(title: str, columns: dict[str, dict[str, str]], differing: bool = False):
    """Named values side by side, a column each; `differing`: only those in which the columns differ."""
    keys = dict.fromkeys(key for values in columns.values() for key in values)
    rows = [(key, [values.get(key, "–") for values in columns.values()]) for key in keys]
    return widgets.table(
        pd.DataFrame(
            [[key, *cells] for key, cells in rows if len({*cells}) > 1 or not differing],
            columns=[title, *map(html.escape, columns)],
        )
    )


def _headline(x: Training) -> dict[str, str]:
    """Headline numbers as text: means over steps and seeds; pass@1 of sampled answers per set, means over seeds and problems."""
    c = x.curves
    late = c.step > c.step.max() / 2
    halves = {
        name: f"{c[~late][column].mean():.2f} → {c[late][column].mean():.2f}"
        for name, column in (
            ("reward, first → second half", "reward"),
            ("entropy", "entropy"),
            ("dead groups", "frac_reward_zero_std"),
        )
        if column in c
    }
    found = {"seeds": str(c.seed.nunique()), "steps": str(int(c.step.max()))} | halves
    s = x.scores[x.scores.n > 0] if len(x.scores) else x.scores
    for name, part in s.assign(value=s.solved / s.n).groupby("set", sort=False) if len(s) else ():
        mean = part.groupby("checkpoint").value.mean()
        found[f"pass@1 {name}"] = (
            f"{mean.get('before', float('nan')):.2f} → {mean.get('after', float('nan')):.2f} (n = {part.problem_id.nunique()})"
        )
    return found
