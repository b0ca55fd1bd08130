"""Browsers for a person who steps through a notebook; a headless run prints one example instead and never waits."""

import difflib
import html
from collections import Counter
from collections.abc import Iterable

import pandas as pd
from IPython.display import HTML, Javascript, display

from kit.records import Problem
from kit.run import headless

INK = "color:var(--jp-ui-font-color1,inherit)"  # of text in JupyterLab's light and dark themes
MONO = (
    "margin:0;white-space:pre-wrap;line-height:1.4;font-family:var(--jp-code-font-family,monospace)"
)
# JupyterLab takes arrows, Enter and letters for commands on cells even while a dropdown or a button has the focus; this attribute stops it.
KEYS = """window.kitKeys ??= e => {
    if (e.target.closest('.jp-OutputArea .jupyter-widgets')) e.target.setAttribute('data-lm-suppress-shortcuts', 'true') }
window.addEventListener('keydown', window.kitKeys, true)"""


def live(widget) -> None:
    """Display a widget so that it can be used by keyboard alone."""
    display(widget)
    display(Javascript(KEYS))


def card(problem: Problem, parent: Problem | None = None, among: Iterable[Problem] = ()) -> HTML:
    """One problem with its history, as a small table: its chain, if `among` holds one, what changed since its parent, its attempts.
    Everything a model wrote is escaped."""
    p = "–" if problem.p is None else f"{problem.solved} of {problem.n} attempts ({problem.p:.2f})"
    pairs = "\n".join(
        f"f({i})  →  {o}" for i, o in zip(problem.inputs, problem.outputs, strict=False)
    )
    some = (
        "attempts"
        if len(problem.samples) == problem.n
        else f"{len(problem.samples)} of the attempts"
    )
    rows = {
        "problem": code(
            f"{problem.environment}, turn {problem.turn}, asked: {problem.asked}, {problem.status} {problem.reason}"
        ),
        "lineage": lineage(problem, among),
        "program": code(problem.program),
        "changed": changes(parent.program, problem.program) if parent else "",
        "tests": code("\n\n".join(x for x in (problem.pre_test, problem.test) if x)),
        "pairs": code(pairs),
        "message": code(problem.message),
        "solved": code(p),
        some: attempts(problem),
        "filtered": code(state(problem) if problem.kept or problem.dropped_by else ""),
    }
    if problem.status == "invalid":
        rows["teacher wrote"] = code(problem.raw[:1500])
    cell = "text-align:left;vertical-align:top;padding:3px 8px;line-height:1.4"
    body = "".join(
        f"<tr><th style='{cell};width:15%'>{k}</th><td style='{cell}'>{v}</td></tr>"
        for k, v in rows.items()
        if v
    )
    return HTML(f"<table style='width:100%;{INK}'>{body}</table>")


def code(text: str) -> str:
    """Text as it is, escaped, in the colours of the theme; empty if there is none."""
    return (
        f"<pre style='{MONO};background:transparent;color:inherit'>{html.escape(text)}</pre>"
        if text
        else ""
    )


def changes(before: str, after: str) -> str:
    """The lines that went (red, -) and came (green, +) from one program to the next, as HTML."""
    colours = {
        "-": "color:#222;background:#FDE4E1",
        "+": "color:#222;background:#DDF3DF",
        " ": "color:inherit;background:transparent",
    }
    lines = [
        line
        for line in difflib.ndiff(before.splitlines(), after.splitlines())
        if line[0] in colours
    ]
    return "".join(f"<pre style='{MONO};{colours[x[0]]}'>{html.escape(x)}</pre>" for x in lines)


def state(problem: Problem) -> str:
    """What became of a problem: kept, dropped and why, or before the filters valid, or invalid and why."""
    if problem.kept or problem.dropped_by:
        return "kept" if problem.kept else f"dropped: {problem.dropped_by}"
    return problem.status if problem.status == "valid" else f"{problem.status}: {problem.reason}"


def lineage(problem: Problem, among: Iterable[Problem]) -> str:
    """The chain of a problem as a row of steps (turn, what was asked, p, what became of it), this one marked by ▶, as HTML. An arrow leads
    from parent to child; draws that are independent of each other have none. Empty for a problem without relatives."""
    chain = [
        x
        for x in among
        if problem.chain_id and (x.chain_id, x.method) == (problem.chain_id, problem.method)
    ]
    steps = []
    for x in sorted(chain, key=lambda x: x.turn) if len(chain) > 1 else ():
        here = (x.turn, x.id) == (problem.turn, problem.id)
        text = f"{'▶ ' * here}turn {x.turn}, {x.asked}<br>{'not graded' if x.p is None else f'p = {x.p:.2f}'}<br>{html.escape(state(x))}"
        look = "display:inline-block;vertical-align:middle;margin:2px;padding:2px 8px;border:"
        look += "3px solid;font-weight:bold" if here else "1px solid"
        steps.append(
            f"{' → ' if steps and x.parent_id else ''}<span style='{look}'{' aria-current=step' * here}>{text}</span>"
        )
    return "".join(steps)


def attempts(problem: Problem) -> str:
    """Each different attempt with its verdict and how often it came, as HTML; one of several lines is folded."""
    marks, found = {"passed": "✓", "failed": "✗", "error": "!"}, []
    for s, times in Counter(problem.samples).items():
        verdict, answer = (
            f"{marks[s.outcome]} {s.outcome} {s.reason}".strip()
            + (f" × {times}" if times > 1 else ""),
            s.answer.strip(),
        )
        if "\n" in answer or len(answer) > 80:
            found.append(
                f"<details><summary>{html.escape(verdict)}</summary>{code(answer)}</details>"
            )
        else:
            found.append(code(f"{verdict}: {answer}"))
    return "".join(found)


FILTERS = {"environment": lambda p: p.environment, "method": lambda p: p.method, "state": state}


def browse(problems: list[Problem], among: Iterable[Problem] | None = None) -> None:
    """Choose a problem, by filters and one after the other, and look at it, its chain, attempts and verdicts; in a headless notebook the
    first problem that has a parent, else the first. `among`: where chains are looked up, if `problems` are only some of them."""
    if not problems:
        print("nothing to look at")
        return
    among = problems if among is None else list(among)
    known = {(p.chain_id, p.id): p for p in among if p.program}

    def page(problem):
        return card(
            problem,
            known.get((problem.chain_id, problem.parent_id)) if problem.program else None,
            among,
        )

    if headless():
        display(
            page(
                next(
                    (p for p in problems if (p.chain_id, p.parent_id) in known and p.program),
                    problems[0],
                )
            )
        )
        return
    import ipywidgets

    values = {name: sorted({of(p) for p in problems}) for name, of in FILTERS.items()}
    choosers = {
        name: ipywidgets.Dropdown(
            description=name, options=["all", *v], style={"description_width": "initial"}
        )
        for name, v in values.items()
        if len(v) > 1
    }
    chosen = ipywidgets.Dropdown(description="problem", layout={"width": "60%"})
    left, shown = ipywidgets.Label(), ipywidgets.HTML()
    names = [
        f"{k}: {p.environment} turn {p.turn} {p.asked} {'' if p.p is None else f'p={p.p:.2f}'} {p.reason}"
        for k, p in enumerate(problems)
    ]

    def narrow(_=None):
        kept = [
            k
            for k, p in enumerate(problems)
            if all(c.value in ("all", FILTERS[name](p)) for name, c in choosers.items())
        ]
        chosen.options = [(names[k], k) for k in kept]
        chosen.index = 0 if kept else None
        show()

    def show(_=None):
        left.value = f"{0 if chosen.index is None else chosen.index + 1} of {len(chosen.options)}"
        shown.value = (
            "no problem is like that" if chosen.value is None else page(problems[chosen.value]).data
        )

    def move(by):
        if (
            chosen.options
        ):  # round and round: a button that goes grey would lose the keyboard's focus
            chosen.index = (chosen.index + by) % len(chosen.options)

    buttons = []
    for text, by in (("◀ previous", -1), ("next ▶", 1)):
        buttons.append(ipywidgets.Button(description=text))
        buttons[-1].on_click(lambda _, by=by: move(by))
    for chooser in choosers.values():
        chooser.observe(narrow, "value")
    chosen.observe(show, "value")
    narrow()
    live(
        ipywidgets.VBox(
            [
                ipywidgets.HBox(list(choosers.values())),
                ipywidgets.HBox([chosen, *buttons, left]),
                shown,
            ]
        )
    )


def answers(scores: pd.DataFrame, problem_ids: list[str]) -> None:
    """Every answer to a problem with its verdict, checkpoint by checkpoint: a dropdown in a live notebook, the first problem in a headless one.
    scores: rows of `evaluation.evaluate` with a column checkpoint."""
    if not problem_ids:
        print("nothing to look at")
        return

    def show(problem):
        for x in scores[scores.problem_id == problem].itertuples():
            for s in x.samples:
                print(
                    f"── {x.checkpoint}, {s['mode']}: {s['outcome']} {s['reason']}\n{s['answer']}\n"
                )

    if headless():
        show(problem_ids[0])
        return
    import ipywidgets

    ipywidgets.interact(show, problem=ipywidgets.Dropdown(options=problem_ids))
    display(Javascript(KEYS))


def read(texts: list[str]) -> None:
    """One text after the other, by a slider; the last one in a headless notebook."""
    if headless():
        print(texts[-1])
        return
    import ipywidgets

    ipywidgets.interact(
        lambda number: print(texts[number]), number=ipywidgets.IntSlider(max=len(texts) - 1)
    )
    display(Javascript(KEYS))


def table(rows) -> pd.DataFrame:
    """Records or a mapping as a frame without an index, for display."""
    left = [
        {
            "selector": "th, td",
            "props": "text-align: left; white-space: pre-wrap; padding: 0.25em 0.6em",
        }
    ]
    return (
        pd.DataFrame(rows)
        .style.hide(axis="index")
        .format(escape="html", precision=3)
        .set_table_styles(left)
    )
