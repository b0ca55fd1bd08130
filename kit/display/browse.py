"""Browsers for a person who steps through a notebook.

A headless run prints one example instead and never waits.
"""

import difflib
import html
from collections import Counter
from collections.abc import Iterable

import pandas as pd
from IPython.display import HTML, Javascript, display
from ipywidgets import HTML as Markup
from ipywidgets import Dropdown, HBox, Select, VBox, Widget, interactive
from pandas.io.formats.style import Styler

from kit.core.run import headless
from kit.core.types import Problem, Sample, clean

# The colour of text in JupyterLab's light and dark themes.
TEXT_COLOUR = "color:var(--jp-ui-font-color1,inherit)"
# One of two; on a narrow page the second comes below the first.
COLUMN = "<div style='flex:1 1 20em;min-width:0'>{}</div>"

MONO = (
    "margin:0;white-space:pre-wrap;line-height:1.4;font-family:var(--jp-code-font-family,monospace)"
)

# JupyterLab takes arrows, Enter and letters for commands on cells even while a dropdown or a button
# has the focus; this attribute stops it.
KEYS = """window.kitKeys ??= e => {
    if (e.target.closest('.jp-OutputArea .jupyter-widgets'))
        e.target.setAttribute('data-lm-suppress-shortcuts', 'true') }
window.addEventListener('keydown', window.kitKeys, true)"""


def live(widget: Widget) -> None:
    """Display a widget so that it can be used by keyboard alone."""
    display(widget)
    display(Javascript(KEYS))


def card(problem: Problem, among: list[Problem]) -> HTML:
    """One problem with its history, as a small table; what a model wrote is escaped.

    Args:
        problem: what is shown, with its attempts.
        among: where its chain is looked up, and its parent: the card says what changed since.
    Returns:
        The table; a row without content is left out.
    Source: our choice.
    """
    tried = problem.samples
    kin = (x for x in among if x.chain_id == problem.chain_id)
    before = next((x.program for x in kin if x.id == problem.parent_id), "")
    rows = {
        "problem": code(
            f"{problem.environment}, turn {problem.turn}, asked: {problem.asked}, "
            f"{problem.status} {problem.reason}"
        ),
        "lineage": chain_html(problem, among),
        "program": code(problem.program),
        "changed": program_diff(before, problem.program) if before and problem.program else "",
        "tests": code("\n\n".join(filter(None, (problem.pre_test, problem.test)))),
        "pairs": code(
            "\n".join(f"f({i})  →  {o}" for i, o in zip(problem.inputs, problem.outputs))
        ),
        "message": code(problem.message),
        "solved": code(
            "–"
            if problem.p is None
            else f"{problem.solved} of {problem.n} attempts ({problem.p:.2f})"
        ),
        "attempts" if len(tried) == problem.n else f"{len(tried)} of the attempts": attempts(tried),
        "filtered": code(state(problem) if problem.kept or problem.dropped_by else ""),
        "teacher wrote": code(problem.raw[:1500] if problem.status == "invalid" else ""),
    }
    cell = "text-align:left;vertical-align:top;padding:3px 8px;line-height:1.4"
    body = "".join(
        f"<tr><th style='{cell};width:15%'>{name}</th><td style='{cell}'>{content}</td></tr>"
        for name, content in rows.items()
        if content
    )
    return HTML(f"<table style='width:100%;{TEXT_COLOUR}'>{body}</table>")


def escaped(text: str) -> str:
    """Text as HTML that any page can hold. All that is shown of a record passes here."""
    return html.escape(clean(text))


def code(text: str) -> str:
    """Text as it is, escaped, in the colours of the theme; empty if there is none."""
    style = f"{MONO};background:transparent;color:inherit"
    return f"<pre style='{style}'>{escaped(text)}</pre>" if text else ""


def program_diff(before: str, after: str) -> str:
    """The lines that went (red, -) and came (green, +) from one program to the next, as HTML."""
    colours = {
        "-": "color:#222;background:#FDE4E1",
        "+": "color:#222;background:#DDF3DF",
        " ": "color:inherit;background:transparent",
    }
    # Lines of hints, which begin with a question mark, are left out.
    return "".join(
        f"<pre style='{MONO};{colours[line[0]]}'>{escaped(line)}</pre>"
        for line in difflib.ndiff(before.splitlines(), after.splitlines())
        if line[0] in colours
    )


def state(problem: Problem) -> str:
    """Kept, or dropped and why; before the filters valid, or invalid and why."""
    if problem.kept:
        return "kept"
    if problem.dropped_by:
        return f"dropped: {problem.dropped_by}"
    return problem.status if problem.status == "valid" else f"{problem.status}: {problem.reason}"


def chain_html(problem: Problem, among: Iterable[Problem]) -> str:
    """The chain of a problem as a row of steps, as HTML.

    A step says its turn, what was asked, p and what became of it; this problem's is marked by ▶. An
    arrow leads from parent to child; draws that are independent of each other have none. Empty for
    a problem without relatives.
    """
    kin = (problem.chain_id, problem.method)
    chain = [x for x in among if problem.chain_id and (x.chain_id, x.method) == kin]
    if len(chain) < 2:
        return ""

    row = ""
    for step in sorted(chain, key=lambda step: step.turn):
        arrow = " → " if row and step.parent_id else ""
        rate = "not graded" if step.p is None else f"p = {step.p:.2f}"
        here = step == problem
        look = "display:inline-block;vertical-align:middle;margin:2px;padding:2px 8px;border:"
        look += "3px solid;font-weight:bold" if here else "1px solid"
        said = (f"{'▶ ' * here}turn {step.turn}, {step.asked}", rate, state(step))
        text = "<br>".join(map(escaped, said))
        row += f"{arrow}<span style='{look}'{' aria-current=step' * here}>{text}</span>"
    return row


def attempts(samples: Iterable[Sample]) -> str:
    """Each different attempt, its verdict and how often it came, as HTML; long ones are folded."""
    marks = {"passed": "✓", "failed": "✗", "error": "!"}
    found = ""
    for sample, times in Counter(samples).items():
        verdict = f"{marks[sample.outcome]} {sample.outcome} {sample.reason}".strip()
        if times > 1:
            verdict += f" × {times}"
        answer = sample.answer.strip()
        if "\n" in answer or len(answer) > 80:
            summary = f"<summary>{escaped(verdict)}</summary>"
            found += f"<details>{summary}{code(answer)}</details>"
        else:
            found += code(f"{verdict}: {answer}")
    return found


UNKNOWN = "This run does not have the question."

# What problems can be narrowed by.
FILTERS = {"environment": lambda p: p.environment, "method": lambda p: p.method, "state": state}


def browse(problems: list[Problem], among: list[Problem] | None = None) -> None:
    """Choose a problem from a list, which filters narrow, and look at its card.

    A headless notebook shows the first problem that has a parent, else the first.

    Args:
        problems: those to choose from.
        among: where chains are looked up, if `problems` are only some of them.
    Source: our choice.
    """
    if not problems:
        return print("nothing to look at")
    if headless():
        first = next((problem for problem in problems if problem.parent_id), problems[0])
        display(card(first, among or problems))
        return

    # A filter is offered only where there is something to choose.
    choosers = {}
    for name, of in FILTERS.items():
        values = sorted({of(problem) for problem in problems})
        if len(values) > 1:
            choosers[name] = Dropdown(description=name, options=["all", *values])
    chosen = Select(description="problem", rows=8, layout={"width": "95%"})
    shown = Markup()

    def narrow(_=None):
        # What the list says of each problem, with its number.
        chosen.options = [
            (clean(f"{k}: {x.environment} turn {x.turn} {x.asked} {x.solved}/{x.n} {x.reason}"), k)
            for k, x in enumerate(problems)
            if all(box.value in ("all", FILTERS[name](x)) for name, box in choosers.items())
        ]
        chosen.index = 0 if chosen.options else None

    def show(_=None):
        shown.value = "no problem is like that"
        if chosen.value is not None:
            shown.value = card(problems[chosen.value], among or problems).data

    for chooser in choosers.values():
        chooser.observe(narrow, "value")
    chosen.observe(show, "value")
    narrow()
    live(VBox([HBox(list(choosers.values())), chosen, shown]))


def answers(scores: pd.DataFrame, problem_ids: list[str], questions: dict[str, str]) -> None:
    """Show a question, and beside it every answer with its verdict, checkpoint by checkpoint.

    Args:
        scores: rows of `evaluation.evaluate` with a column `checkpoint`.
        problem_ids: the problems to choose from.
        questions: what the policy was asked, by problem id, as far as this run knows it.
    Source: our choice.
    """
    if not problem_ids:
        return print("nothing to look at")

    def show(problem):
        asked, said = code(questions.get(problem, UNKNOWN)), ""
        for row in scores[scores.problem_id == problem].itertuples():
            tried = [
                Sample(
                    outcome=x["outcome"],
                    answer=x["answer"],
                    reason=f"{x['reason']}, {x['mode']}".strip(", "),
                )
                for x in row.samples
            ]
            said += f"<h4>{escaped(row.checkpoint)}</h4>{attempts(tried)}"
        look = f"display:flex;flex-wrap:wrap;gap:1.5em;{TEXT_COLOUR}"
        return HTML(f"<div style='{look}'>{COLUMN.format(asked)}{COLUMN.format(said)}</div>")

    _choose(problem_ids, show)


def _choose(names, page):
    """The page of the first name; in a live notebook a dropdown of all."""
    if headless():
        display(page(names[0]))
    else:
        live(interactive(lambda x: display(page(x)), x=names))


def show_rollouts(rollouts: pd.DataFrame, questions: dict[str, str]) -> None:
    """Show an early and a late group of a problem: what the policy wrote, with the verdicts.

    First comes the problem whose draws lie furthest apart; if none was drawn twice, the first and
    the last group of the training.

    Args:
        rollouts: of `rollouts.read_rollouts`.
        questions: what the policy was asked, by problem id.
    Source: our choice.
    """
    if rollouts.empty:
        return print("no answers were kept: this training was recorded without them")
    steps = rollouts.groupby("problem_id").step
    apart = (steps.max() - steps.min()).sort_values(ascending=False, kind="stable")
    choices = {x: rollouts[rollouts.problem_id == x] for x in apart.index[apart > 0]}
    choices["first and last"] = rollouts

    def show(problem):
        groups = [rows for _, rows in choices[problem].groupby(["step", "slot"])]
        page = ""
        for rows in groups[:1] + groups[1:][-1:]:
            row = rows.iloc[0]
            title = f"step {row.step}: {row.environment}, {row.bin}, {rows.reward.sum():g} right"
            page += f"<h4>{escaped(title)}</h4>{code(questions.get(row.problem_id, UNKNOWN))}<hr>"
            samples = rows[["answer", "outcome", "reason"]].to_dict("records")
            page += attempts(map(Sample.model_validate, samples))
        return HTML(f"<div style='{TEXT_COLOUR}'>{page}</div>")

    _choose(list(choices), show)


def read_texts(texts: list[str]) -> None:
    """Show one text after the other, chosen by its first line; the first in a headless notebook.

    Args:
        texts: at least one; their first lines differ.
    Source: our choice.
    """
    by_title = {text.partition("\n")[0]: text for text in texts}
    _choose(list(by_title), lambda title: HTML(code(by_title[title])))


def styled_table(rows) -> Styler:
    """A table for display, without an index.

    Args:
        rows: records, or a mapping of columns, or a frame.
    Returns:
        The table; its cells and headings are escaped, its numbers have three decimals.
    Source: our choice.
    """
    left = "text-align: left; white-space: pre-wrap; padding: 0.25em 0.6em"
    return (
        Styler(pd.DataFrame(clean(rows)), uuid_len=0, cell_ids=False)
        .hide(axis="index")
        .format(escape="html", precision=3)
        .format_index(escape="html", axis="columns")
        .set_table_styles([{"selector": "th, td", "props": left}])
    )
