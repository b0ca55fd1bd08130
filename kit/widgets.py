"""Browsers for a person who steps through a notebook; a headless run prints one example instead and never waits."""
import html
import os

import pandas as pd
from IPython.display import HTML, display

from kit.records import Problem


def headless() -> bool:
    """Whether papermill executes this notebook (the runner says so)."""
    return os.environ.get("KIT_HEADLESS") == "1"


def card(problem: Problem) -> HTML:
    """One problem with its history, as a small table: everything a model wrote is escaped."""
    def code(text):
        return f"<pre style='margin:0;white-space:pre-wrap'>{html.escape(text)}</pre>" if text else "–"
    p = "–" if problem.p is None else f"{problem.solved} of {problem.n} attempts ({problem.p:.2f})"
    pairs = "\n".join(f"f({i})  →  {o}" for i, o in zip(problem.inputs, problem.outputs, strict=False))
    rows = {"problem": code(f"{problem.environment}, turn {problem.turn}, asked: {problem.asked}, {problem.status} {problem.reason}"),
            "program": code(problem.program), "tests": code("\n\n".join(x for x in (problem.pre_test, problem.test) if x)),
            "pairs": code(pairs), "message": code(problem.message), "solved": code(p),
            "answers": code("\n".join(f"{s.outcome:7} {s.reason:10} {s.answer}" for s in problem.samples))}
    if problem.status == "invalid":
        rows["teacher wrote"] = code(problem.raw[:1500])
    head = "text-align:left;vertical-align:top;width:15%"
    body = "".join(f"<tr><th style='{head}'>{k}</th><td style='text-align:left'>{v}</td></tr>" for k, v in rows.items())
    return HTML(f"<table style='width:100%'>{body}</table>")


def browse(problems: list[Problem]) -> None:
    """Choose a problem and look at it: a dropdown in a live notebook, the first problem in a headless one."""
    if not problems:
        print("nothing to look at")
        return
    if headless():
        display(card(problems[0]))
        return
    import ipywidgets
    names = [(f"{k}: {p.environment} turn {p.turn} {p.asked} {'' if p.p is None else f'p={p.p:.2f}'} {p.reason}", k) for k, p in enumerate(problems)]
    ipywidgets.interact(lambda problem: display(card(problems[problem])), problem=ipywidgets.Dropdown(options=names, value=0))


def table(rows) -> pd.DataFrame:
    """Records or a mapping as a frame without an index, for display."""
    left = [{"selector": "th, td", "props": "text-align: left; white-space: pre-wrap"}]
    return pd.DataFrame(rows).style.hide(axis="index").format(escape="html", precision=3).set_table_styles(left)
