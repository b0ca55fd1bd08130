"""What happened in a run, in three sentences with numbers: the report opens with them.

What the teacher did, what the training did, and what cannot be said. All come from the run's own
tables; where one is missing its sentence says so.
"""

import contextlib
from pathlib import Path
from typing import Any

import pandas as pd

from kit.core import records
from kit.core.manifest import rests_on_recorded
from kit.core.run import LABEL
from kit.core.stats import mean_interval, moved, value_in_interval
from kit.display.figures.common import OF_THE_RUN, SETS
from kit.display.figures.evaluation import FEW
from kit.power import detectable
from kit.rollouts import first_and_second_half, pass_rates_over_training

# Standard errors from one end of a 95% interval to the other.
WIDTH = 2 * 1.96


class _Missing(Exception):
    """A table that a sentence needs is missing or damaged, or is that of an older kit."""


def tell_story(folder: Path, manifest: dict) -> dict[str, str]:
    """The sentences of a run.

    Args:
        folder: of the run.
        manifest: its manifest.
    Returns:
        Title -> sentence; none if no notebook has begun.
    Source: our choice.
    """
    if not manifest["stages"]:
        return {}
    # The last stage that each one rests on is earlier than `before`.
    found = {}
    for title, teller, before in (
        ("The teacher", _of_teacher, "04"),
        ("The training", _of_training, "07"),
        ("What cannot be said", _of_limits, ""),
    ):
        try:
            label = LABEL if rests_on_recorded(manifest, before) else ""
            found[title] = f"{teller(folder, manifest)}{label}."
        except _Missing as missing:
            found[title] = f"Nothing is told here: this run has no {missing} yet."
    return found


def _table(folder, name, columns):
    """A table of the run with at least these columns and a row."""
    with contextlib.suppress(FileNotFoundError, records.RecordError):
        frame = records.read_parquet(folder / f"{name}.parquet")
        if len(frame) and {*columns.split()} <= {*frame}:
            return frame
    raise _Missing(f"{name}.parquet")


def optional_table(folder: Path, name: str, columns: str) -> pd.DataFrame:
    """The same, without rows where there is none or it is damaged."""
    try:
        return _table(folder, name, columns)
    except _Missing:
        return pd.DataFrame(columns=columns.split())


def _of_teacher(folder, manifest):
    """From the filtered problems; how the two methods compare, from the yields."""
    every = _table(folder, "filtered", "method turn status seed_id kept")
    # The first single draw of a seed is the chain's own first turn; real data are nobody's.
    shared = (every.method == "single") & (every.turn == 1)
    written = every[(every.method != "real") & ~shared & (every.status != "error")]
    if written.empty:
        raise _Missing("problem of a teacher")
    valid = written.status == "valid"
    share, low, high = mean_interval(valid, clusters=written.seed_id)
    said = (
        f"It wrote {len(written)} problems from {written.seed_id.nunique()} snippets; "
        f"{valid.sum()} were valid ({share:.0%}, 95% [{low:.0%}, {high:.0%}]), and the filters "
        f"kept {written.kept.sum()} of them"
    )
    names = "environment ratio low high seeds multi_share single_share"
    yields = optional_table(folder, "yields", names)
    for row in yields[yields.environment == "all"].dropna(subset=["ratio", "low"]).itertuples():
        said += (
            f". At equal cost, {row.multi_share:.0%} of the multi-turn and {row.single_share:.0%} "
            f"of the single-turn problems were kept: ratio {row.ratio:.2f}, "
            f"95% [{row.low:.2f}, {row.high:.2f}], n = {row.seeds:.0f} snippets"
        )
    return said


def _of_training(folder, manifest):
    """From the log and the answers of the training, and the paired differences."""
    train = _table(folder, "train", "step frac_reward_zero_std")
    dead = train.frac_reward_zero_std.mean()
    parts = [f"{len(train)} steps of GRPO, {dead:.0%} of the groups without a signal"]
    parts += _of_rollouts(folder)
    difference = _voting(folder)
    form = optional_table(folder, "form", "set by_form by_skill").set_index("set")
    for row in difference:
        change = moved(row.value, row.low, row.high)
        if row.snippets < FEW:
            change = f"moved by {row.value:+.2f}, too few for an interval"
        said = f"on {_whole(row)} the share solved {change}"
        if row.set in form.index:
            split = form.loc[row.set]
            said += f" ({split.by_form:+.2f} by form, {split.by_skill:+.2f} by skill)"
        parts.append(said)
    if not difference:
        parts.append("nothing was evaluated before and after it")
    return "; ".join(parts)


def _voting(folder):
    """The rows of the paired differences of sampled answers: a list, in the order of SETS."""
    rows = optional_table(folder, "difference", "set group mode n snippets value low high")
    rows = rows[(rows.group == "all") & (rows["mode"] == "sampled")]
    return list(rows.set_index("set", drop=False).filter(SETS, axis=0).itertuples())


def _whole(row):
    """What a difference is about."""
    return f"{row.n} {SETS[row.set]} (of {row.snippets} snippets)"


def _of_rollouts(folder):
    """The pass rate on the training's own problems and the malformed answers, early and late."""
    names = "step slot problem_id environment bin reward malformed cut_off"
    rollouts = optional_table(folder, "rollouts", names)
    if rollouts.empty:
        return []
    parts = []
    own = first_and_second_half(pass_rates_over_training(rollouts))
    if len(own):
        snippet = optional_table(folder, "filtered", "id seed_id").set_index("id").seed_id.to_dict()
        clusters = [snippet.get(name, name) for name in own.problem_id]
        change = mean_interval(own.after - own.before, bounds=(-1, 1), clusters=clusters)
        parts.append(
            f"on the {len(own)} problems drawn in both halves the pass rate {moved(*change)}"
        )
    graded = rollouts.dropna(subset="reward")
    late = graded.step > graded.step.max() / 2
    early, now = (graded.malformed[half].mean() for half in (~late, late))
    parts.append(f"malformed answers: {early:.0%} → {now:.0%} of n = {len(graded)}")
    return parts


def _of_limits(folder, manifest):
    """One training, what it could have shown, and the claims without a verdict."""
    board = optional_table(folder, "board", "claim verdict mode")
    board = board[board["mode"] == "sampled"].drop_duplicates("claim").astype({"claim": str})
    parts = []
    for row in _voting(folder):
        if row.snippets > 1:
            least = detectable((row.high - row.low) / WIDTH, row.snippets - 1)
            parts.append(
                f"80% of such runs would find a true change of {least:.2f} on {_whole(row)}, and "
                "fewer a smaller one"
            )
    if optional_table(folder, "train", "step").size:
        parts.append("this is one training with one seed, another may go otherwise")
    for verdict in ("undecided", "not tested at this scale"):
        if claims := board.claim[board.verdict == verdict].tolist():
            parts.append(
                f"{len(claims)} of {len(board)} claims are {verdict} ({', '.join(claims)})"
            )
    others = board.claim[~board.claim.isin(OF_THE_RUN)]
    if manifest["stages"].get("07_findings", {}).get("recorded") and len(others):
        parts.append("those after F2 are judged by recorded trainings, not by this run's")
    if board.empty:
        parts.append("no claim is judged yet: this run has no board.parquet")
    text = "; ".join(parts) or f"all {len(board)} claims have a verdict"
    return text[0].upper() + text[1:]


# ------------------------------------------------------------------ values and rows in words


def found_here(row: Any) -> str:
    """A comparison of the board in words: effect, what it rests on, and what it could have found.

    `row`: of `findings.board`, as `itertuples` gives it.
    """
    if row.why:
        return row.why
    units = "snippets" if row.claim in OF_THE_RUN else "seeds"
    n = f", n = {row.problems}" if row.problems else ""
    return f"{effect_of(row)}, {row.seeds} {units}{n}, could find {row.smallest:.2g}"


def effect_of(row: Any) -> str:
    """The effect of such a row, with its interval; a short one needs a third digit."""
    digits = 3 if row.high - row.low < 0.04 else 2
    return value_in_interval(row, f"{'' if row.null else '+'}.{digits}f")


def in_miniature(board: pd.DataFrame) -> dict[tuple[str, str], str]:
    """What the miniature says of each comparison, with its verdict and what of it is modelled.

    Args:
        board: `record.recorded_board`, in miniature.
    Returns:
        By claim and comparison. F1 and F2 are built in, so they are not judged.
    Source: our choice.
    """
    found = {}
    for row in voting_rows(board).itertuples():
        said = f"{found_here(row)}: {row.part}" + (f" ({row.modelled})" if row.modelled else "")
        built_in = row.claim in OF_THE_RUN
        found[row.claim, row.comparison] = f"{row.modelled}, not judged" if built_in else said
    return found


def voting_rows(board: pd.DataFrame) -> pd.DataFrame:
    """The rows that decide; what others report stands beside the first one of a claim.

    `board`: of `findings.board`.
    """
    rows = board[board["mode"] == "sampled"]
    return rows.assign(elsewhere=rows.elsewhere.where(~rows.claim.duplicated(), ""))
