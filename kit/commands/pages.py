"""Numbers of recorded data in the pages that show them: README.md and the page of results."""

import re

import pandas as pd

from kit.commands import story
from kit.core.manifest import ROOT

# The pages with numbers of recorded data: between comments that name what stands there.
PAGES = ("README.md", "data/recorded/RESULTS.md")


def update_pages(mark: str, lines: str, stages: dict | None = None) -> None:
    """Put `lines` between the comments of that name, and minutes into the table of notebooks.

    `stages`: of a manifest, whose minutes these are.
    """
    for page in (ROOT / name for name in PAGES):
        text = page.read_text(encoding="utf-8")
        for stem, facts in (stages or {}).items():
            text = re.sub(rf"(\| \[{stem}\].*\| )[^|]*( \|)", rf"\g<1>{minutes_of(facts)}\2", text)
        text = re.sub(
            rf"(<!-- {mark} -->\n).*(<!-- /{mark} -->)",
            lambda marks: f"{marks[1]}{lines}\n{marks[2]}",
            text,
            flags=re.S,
        )
        page.write_text(text, encoding="utf-8")


def minutes_of(facts: dict) -> str:
    """How long a stage took; `facts`: of a manifest."""
    return f"{facts.get('seconds', 0) / 60:.1f}"


def board_markdown(found: pd.DataFrame, mini: pd.DataFrame) -> str:
    """`findings.board` as a table in Markdown; other modes stand in notebook 07.

    `mini`: that of the study in miniature.
    """
    lines = [
        "| | the paper | here | verdict | in miniature | elsewhere |",
        "|---|---|---|---|---|---|",
    ]
    small = story.in_miniature(mini)
    for row in story.voting_rows(found).itertuples():
        here = f"{row.comparison}: {story.found_here(row)}"
        beside = small.get((row.claim, row.comparison), "not run")
        lines.append(
            f"| {row.claim} | {row.statement} | {here} | {row.part} | {beside} | {row.elsewhere} |"
        )
    return "\n".join(lines)


def verdicts_markdown(found: pd.DataFrame, mini: pd.DataFrame) -> str:
    """The same in short: a row per claim, with the effects in miniature.

    `found`, `mini`: as for `board_markdown`.
    """
    small = dict.fromkeys(story.OF_THE_RUN, "built in, not judged")
    for claim, part in story.voting_rows(mini[~mini.claim.isin(small)]).groupby("claim"):
        # More than two have no place in a short table.
        few = part[(part.why == "") & (len(part) < 3)]
        effects = ", ".join(map(story.effect_of, few.itertuples()))
        small[claim] = ": ".join(filter(None, (part.verdict.iloc[0], effects)))
    lines = ["| | claim | language models | in miniature |", "|---|---|---|---|"]
    for row in story.voting_rows(found).drop_duplicates("claim").itertuples():
        beside = small.get(row.claim, "not run")
        lines.append(f"| {row.claim} | {row.statement} | {row.verdict} | {beside} |")
    return "\n".join(lines).replace(" at this scale", "")
