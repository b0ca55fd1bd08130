"""What a study of loops found: its claims, and the bill of each run.

The claims (F11) and their rule were written before any run.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from kit.arms import collect_study, recorded_study
from kit.claims import TOUGH, Claim, Comparison
from kit.core import records
from kit.core.bins import bin_of
from kit.core.run import LABEL, MINIATURE, Run
from kit.core.types import Problem
from kit.loop import LOOP_ARMS


def _against_all(claim, statement, **where):
    """The closed loop against each control, all of which it must beat."""
    rivals = [name for name in LOOP_ARMS if name != "closed-loop"]
    parts = tuple(Comparison("closed-loop", rival, **where) for rival in rivals)
    return Claim(claim, f"a teacher inside the loop {statement}", parts)


# The rule: better, by `effects.better`, than each control; Holm over all comparisons of these.
LOOP_CLAIMS = (
    _against_all("F11a", "is best on held-out medium and hard problems", bins=TOUGH),
    _against_all("F11b", "solves more of what was never solved", set="unsolved"),
    _against_all("F11c", "is best out of domain", set="maths"),
    _against_all("F11d", "is best at k = 8, medium and hard", bins=TOUGH, k=8),
)


def segment_table(
    problems: Iterable[Problem], plan: pd.DataFrame, segments: int, bins: str
) -> pd.DataFrame:
    """The bill of a loop: what was made for each segment, beyond the first problems.

    Args:
        problems: of the run, filtered.
        plan: of the run, of all segments.
        segments: how many there are.
        bins: a key of bins.BINS.
    Returns:
        One row per segment: columns `segment` (from 1), `made`, `kept`, `in_bin` (problems; the
        last: kept and in a bin), `teacher_tokens`, `attempts`, `p` (mean pass rate of the new ones
        as they came, 0 to 1), `harder`, `easier` (share of the turns that were asked for that),
        and `on_new`: share of the prompts that ask a problem which was made for some segment.
    Source: our choice.
    """
    new = [x for x in problems if x.segment]
    table = records.problems_frame(new)
    table["attempts"] = table.n + table.errors
    table["in_bin"] = [x.kept and bin_of(x.p, bins) is not None for x in new]
    bill = table.groupby("segment").agg(
        made=("id", "size"),
        kept=("kept", "sum"),
        in_bin=("in_bin", "sum"),
        teacher_tokens=("teacher_tokens", "sum"),
        attempts=("attempts", "sum"),
        p=("p", "mean"),
        harder=("asked", lambda asked: (asked == "harder").mean()),
        easier=("asked", lambda asked: (asked == "easier").mean()),
    )
    every = pd.RangeIndex(1, segments + 1, name="segment")
    counts = "made kept in_bin teacher_tokens attempts".split()
    bill = bill.reindex(every).fillna(dict.fromkeys(counts, 0))
    # Steps count from 0.
    of_segment = plan.step // max(1, plan.step.nunique() // segments) + 1
    known = {x.id for x in new if x.dropped_by != "duplicate"}
    bill["on_new"] = plan.problem_id.isin(known).groupby(of_segment).mean()
    return bill.reset_index()


def loop_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of a folder of loops.

    Args:
        folder: of `python -m kit loop`.
    Returns:
        The tables of `arms.collect_study`, and `segments`: of `segment_table`, with `rollouts`,
        `seconds` (of making problems), `arm` and `seed`. Without rows if no run is finished.
    Source: our choice.
    """
    runs = sorted(path.parent for path in folder.glob("*/*/evaluation.parquet"))
    parts = [records.read_parquet(run / "segments.parquet") for run in runs]
    plan = pd.DataFrame({"step": [0], "problem_id": [""]})
    empty = segment_table([], plan, 1, "broad")[:0].assign(
        rollouts=0, seconds=0.0, again=0, arm="", seed=0
    )
    return collect_study(folder) | {"segments": pd.concat(parts or [empty], ignore_index=True)}


def read_loops(run: Run, folder: Path, recorded: Path) -> tuple[dict[str, pd.DataFrame], str]:
    """The tables of a study of loops, and what a figure's title says of them.

    Args:
        run: of stage 08; it notes what is recorded.
        folder: of the study.
        recorded: of one in miniature; taken if the folder has no finished run.
    Returns:
        Those of `loop_tables`, and a label.
    Source: our choice.
    """
    found = loop_tables(folder)
    if found["scores"].empty and (shipped := recorded_study(recorded)):
        run.recorded.add(recorded.name)
        table = records.read_parquet(recorded / "segments.parquet")
        return shipped | {"segments": table}, MINIATURE + LABEL
    return found, run.scale
