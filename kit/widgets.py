"""Browsers for a person who steps through a notebook; a headless run prints one example instead and never waits."""
import difflib
import html
import os

import pandas as pd
from IPython.display import HTML, display

from kit.records import Problem


def headless() -> bool:
    """Whether papermill executes this notebook (the runner says so)."""
    return os.environ.get("KIT_HEADLESS") == "1"


def card(problem: Problem, parent: Problem | None = None) -> HTML:
    """One problem with its history, as a small table, and what changed since its parent: everything a model wrote is escaped."""
    def code(text):
        return f"<pre style='margin:0;white-space:pre-wrap'>{html.escape(text)}</pre>" if text else ""
    p = "–" if problem.p is None else f"{problem.solved} of {problem.n} attempts ({problem.p:.2f})"
    pairs = "\n".join(f"f({i})  →  {o}" for i, o in zip(problem.inputs, problem.outputs, strict=False))
    rows = {"problem": code(f"{problem.environment}, turn {problem.turn}, asked: {problem.asked}, {problem.status} {problem.reason}"),
            "program": code(problem.program), "changed": changes(parent.program, problem.program) if parent else "",
            "tests": code("\n\n".join(x for x in (problem.pre_test, problem.test) if x)),
            "pairs": code(pairs), "message": code(problem.message), "solved": code(p),
            "answers": code("\n".join(f"{s.outcome:7} {s.reason:10} {s.answer}" for s in problem.samples)),
            "filtered": code("kept" if problem.kept else f"dropped: {problem.dropped_by}" if problem.dropped_by else "")}
    if problem.status == "invalid":
        rows["teacher wrote"] = code(problem.raw[:1500])
    head = "text-align:left;vertical-align:top;width:15%"
    body = "".join(f"<tr><th style='{head}'>{k}</th><td style='text-align:left'>{v}</td></tr>" for k, v in rows.items() if v)
    return HTML(f"<table style='width:100%'>{body}</table>")


def changes(before: str, after: str) -> str:
    """The lines that went (red, -) and came (green, +) from one program to the next, as HTML."""
    colours = {"-": "#FDE4E1", "+": "#DDF3DF", " ": "transparent"}
    lines = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in colours]
    return "".join(f"<pre style='margin:0;color:#222;background:{colours[x[0]]};white-space:pre-wrap'>{html.escape(x)}</pre>" for x in lines)


def browse(problems: list[Problem]) -> None:
    """Choose a problem and look at it, its attempts, verdicts and ancestry: a dropdown in a live notebook, the first problem that
    has a parent (else the first) in a headless one."""
    if not problems:
        print("nothing to look at")
        return
    known = {p.id: p for p in problems if p.program}
    if headless():
        shown = next((p for p in problems if p.parent_id in known and p.program), problems[0])
        display(card(shown, known.get(shown.parent_id)))
        return
    import ipywidgets

    def show(problem):
        display(card(chosen := problems[problem], known.get(chosen.parent_id) if chosen.program else None))
    names = [(f"{k}: {p.environment} turn {p.turn} {p.asked} {'' if p.p is None else f'p={p.p:.2f}'} {p.reason}", k) for k, p in enumerate(problems)]
    ipywidgets.interact(show, problem=ipywidgets.Dropdown(options=names, value=0))


def answers(scores: pd.DataFrame, problem_ids: list[str]) -> None:
    """Every answer to a problem with its verdict, checkpoint by checkpoint: a dropdown in a live notebook, the first problem in a headless one.
    scores: rows of `evaluation.evaluate` with a column checkpoint."""
    if not problem_ids:
        print("nothing to look at")
        return

    def show(problem):
        for x in scores[scores.problem_id == problem].itertuples():
            for s in x.samples:
                print(f"── {x.checkpoint}, {s['mode']}: {s['outcome']} {s['reason']}\n{s['answer']}\n")
    if headless():
        show(problem_ids[0])
        return
    import ipywidgets
    ipywidgets.interact(show, problem=ipywidgets.Dropdown(options=problem_ids))


def table(rows) -> pd.DataFrame:
    """Records or a mapping as a frame without an index, for display."""
    left = [{"selector": "th, td", "props": "text-align: left; white-space: pre-wrap"}]
    return pd.DataFrame(rows).style.hide(axis="index").format(escape="html", precision=3).set_table_styles(left)
