"""One function evaluates anything: `evaluate(items, engine, box, n, sampling)`.

An `Item` is a prompt and a grader. Five sets of items need no download: problems of the training,
of held-out seeds, real functions, HumanEval, procedural maths. Those of kit.benchmarks need it:
LiveCodeBench, MATH-500, AIME 2024. The statistics are pass@k (Chen et al. 2021), intervals over
problems, and paired differences between checkpoints (kit.gains). Every table has n and what our own
infrastructure lost, which never counts as wrong.

What an answer must look like (tags, fences) is the same here as in training, so a part of every
gain may be form rather than skill: `malformed` counts the samples without an answer in that form,
`lenient` those that are right in whatever form.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

import numpy as np
import pandas as pd

from kit.core.config import Role, Sampling
from kit.core.run import Run
from kit.core.stats import mean_interval, pass_at_k
from kit.core.tells import Watch, progress
from kit.core.types import MALFORMED, Item, clean, digest
from kit.sandbox import Sandbox
from kit.serving.engine import Engine, EngineDown, EngineError, NotRecorded

# Set -> in or out of the domain of the training (paper); seen, smoke: no evidence of a skill.
DOMAINS = {
    "training": "seen",  # problems that the training drew: it says nothing about other ones
    "synthetic": "in",  # problems of held-out seeds, with the prompts and graders of the training
    "unsolved": "in",  # problems of held-out seeds that no attempt of the student solved
    "real": "in",  # held-out CodeI/O functions as induction problems: nothing of a teacher
    "livecodebench": "in",  # contests of 08.2024-05.2025 (paper)
    "livecodebench_v5": "in",  # release_v5, by difficulty (paper)
    "humaneval": "smoke",  # contaminated in every model
    "maths": "out",  # procedural tasks of reasoning-gym, exact answers
    "strings": "out",  # in miniature: another type of argument
    "math500": "out",  # paper
    "aime24": "out",  # paper
}

# Of the table that `evaluate` gives; it explains them.
SCORE_COLUMNS = (
    "set problem_id group seed_id n solved lenient malformed errors greedy cut_off tokens samples"
).split()

# What the column `samples` tells of each completion.
_SHOWN = "mode answer outcome reason".split()
# A mean with its 95% interval.
MEAN = ["value", "low", "high"]
# Threads that wait for the sandbox.
GRADERS = 8


def splits(items: Iterable[Item]) -> dict[str, str]:
    """A name for the problems of each set: equal names mean equal problems.

    Args:
        items: of any sets, in any order.
    Returns:
        By set: its name with a digest of ids and prompts, such as `maths-7be4d743`.
    Source: our choice.
    """
    asked = defaultdict(list)
    for item in items:
        asked[item.set].append((item.id, item.messages[-1]["content"]))
    return {name: f"{name}-{digest(*sorted(some))[:8]}" for name, some in asked.items()}


def checkpoints(run: Run, every: bool = False) -> dict[str, Role]:
    """The policy before and after training, as the roles of an engine.

    They are loaded on this machine, wherever the student is.

    Args:
        run: with a finished training.
        every: also the checkpoints in between that were kept.
    Returns:
        The student's role with that policy as its model, by name in order: `before`, `step <k>`
        with `every`, `after`.
    Source: our choice.
    """
    models = {"before": run.profile.grpo.policy}
    if every:
        kept = run.folder.glob("checkpoints/checkpoint-*")
        steps = sorted(int(path.name.partition("-")[2]) for path in kept)
        # The last checkpoint is the policy after training.
        for step in steps[:-1]:
            models[f"step {step}"] = str(run.path(f"checkpoints/checkpoint-{step}"))
    models["after"] = str(run.path("policy"))
    student = run.profile.student
    if student.engine not in ("replay", "transformers"):
        student = student.model_copy(update={"engine": "vllm"})
    # One engine on this machine: a fleet's number of requests would take its memory.
    one = {"concurrency": min(student.concurrency, 256)}
    return {name: student.model_copy(update=one | {"model": path}) for name, path in models.items()}


def texts(items: Iterable[Item]) -> dict[str, list[str]]:
    """Statements and reference solutions, for the contamination filter; no model is needed.

    Args:
        items: whole sets (`humaneval_items() + procedural_items(...)`), not `synthetic`: those
            problems are in the same records and would meet themselves.
    Returns:
        The texts of each set.
    Source: our choice.
    """
    found = defaultdict(list)
    for item in items:
        found[item.set].append(item.data["text"])
    return dict(found)


def programs(items: Iterable[Item]) -> dict[str, str]:
    """Reference solutions, for the behaviour filter.

    Args:
        items: of any sets; only HumanEval has reference solutions.
    Returns:
        Item id -> a program with a function `f`.
    Source: our choice.
    """
    whole = "{prompt}{canonical_solution}\nf = {entry_point}"
    return {item.id: whole.format_map(item.data) for item in items if item.set == "humaneval"}


def evaluate(
    items: list[Item],
    engine: Engine,
    box: Sandbox,
    n: int,
    sampling: Sampling,
    known: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Ask a model n times per problem, and once more at temperature 0; grade all answers.

    Grading goes on while the engine generates. When it is run again, finished completions come
    from the engine's log: give the engine of each checkpoint its own name.

    Args:
        items: with different ids.
        engine: what is asked.
        box: where programs run.
        n: samples per problem.
        sampling: how they are drawn.
        known: rows of an earlier call for the same model: what they have n answers to is not asked.
    Returns:
        One row per item (the known ones first), SCORE_COLUMNS: `set`, `problem_id` (the item's id),
        `group`, `seed_id` (its snippet, '' if there is none); `n`: graded samples of the n asked
        for, `solved`, `lenient` (right in whatever form), `malformed`: how many of these; `errors`:
        completions that engine or sandbox lost; `greedy`: the one at temperature 0, 1 or 0, NaN if
        it was lost; `cut_off`: completions that were too long for max_tokens; `tokens`: written;
        `samples`: all completions as {mode, answer, outcome, reason}.
    Raises:
        ValueError: items share an id.
        EngineDown: the engine is gone; run the stage again to go on.
        NotRecorded: a replay does not hold this.
    Source: our choice.
    """
    if len({item.id for item in items}) < len(items):
        raise ValueError("several items have the same id")
    if known is not None:
        known = known[known.problem_id.isin([item.id for item in items]) & (known.n == n)]
        there = set(known.problem_id)
        items = [item for item in items if item.id not in there]

    # Grade what is finished.
    asked = _asked(items, engine, n, sampling)
    graded = {}
    watch = Watch()
    with (
        ThreadPoolExecutor(GRADERS) as pool,
        progress(total=len(asked), desc=f"evaluating {engine.name}") as bar,
    ):
        for future in as_completed(asked):
            item, mode = asked[future]
            grading = pool.submit(_graded, item, mode, _completions(future), box)
            wanted = n if mode == "sampled" else 1
            grading.add_done_callback(partial(_count, wanted, watch, bar))
            graded[item.id, mode] = grading
        rows = []
        for item in items:
            answers = graded[item.id, "greedy"].result() + graded[item.id, "sampled"].result()
            rows.append(_row(item, n, answers))
    found = pd.DataFrame(rows, columns=SCORE_COLUMNS).astype({"greedy": float})
    return found if known is None else pd.concat([known, found]) if rows else known


def _asked(items, engine, n, sampling):
    """Future -> (item, mode). All are asked at once: the engine decides what it does together."""
    greedy = sampling.model_copy(update={"temperature": 0.0, "top_p": 1.0})
    asked = {}
    for item in items:
        for mode, count, how in (("sampled", n, sampling), ("greedy", 1, greedy)):
            future = engine.submit(item.messages, count, f"eval/{item.id}/{mode}", how)
            asked[future] = item, mode
    return asked


def _completions(future):
    """None at all where the engine lost the request. An engine that is gone ends the stage."""
    try:
        return future.result()
    except (EngineDown, NotRecorded):
        raise
    except EngineError:
        return []


def _count(wanted, watch, bar, grading):
    """Moves the bar, and counts what engine or sandbox lost of so many answers."""
    if not grading.exception():
        known = sum(answer["outcome"] != "error" for answer in grading.result())
        watch.count(wanted - known, wanted)
    bar.update()


def _graded(item, mode, completions, box):
    """Each completion with its verdict: _SHOWN, and what `_row` counts."""
    verdicts = item.grade([completion.text for completion in completions], box)
    return [
        {
            "mode": mode,
            "answer": clean(completion.text),
            "outcome": verdict.outcome,
            "reason": str(verdict.reason),
            "lenient": verdict.outcome == "passed"
            or bool(item.lenient and item.lenient(completion.text)),
            "cut_off": completion.finish == "length",
            "tokens": completion.tokens,
        }
        for completion, verdict in zip(completions, verdicts, strict=True)
    ]


def _row(item, n, answers):
    """The row of one item, from all its graded completions: errors are neither right nor wrong."""
    known = [answer for answer in answers if answer["outcome"] != "error"]
    sampled = [answer for answer in known if answer["mode"] == "sampled"]
    greedy = (answer["outcome"] == "passed" for answer in known if answer["mode"] == "greedy")
    return {
        "set": item.set,
        "problem_id": item.id,
        "group": item.group,
        "seed_id": item.seed_id,
        "n": len(sampled),
        "solved": sum(answer["outcome"] == "passed" for answer in sampled),
        "lenient": sum(answer["lenient"] for answer in sampled),
        "malformed": sum(answer["reason"] in MALFORMED for answer in sampled),
        # Of the n that were asked for, and the greedy one.
        "errors": n + 1 - len(known),
        "greedy": float(next(greedy, np.nan)),
        "samples": [{name: answer[name] for name in _SHOWN} for answer in answers],
        "cut_off": sum(answer["cut_off"] for answer in answers),
        "tokens": sum(answer["tokens"] for answer in answers),
    }


def snippets(frame: pd.DataFrame) -> pd.Series:
    """The cluster of each row: its snippet; a problem without one is a cluster of its own.

    Args:
        frame: rows of `evaluate`; older tables have no column `seed_id`.
    Returns:
        One name per row, with the frame's index.
    Source: our choice.
    """
    if "seed_id" not in frame:
        return frame["problem_id"]
    return frame["seed_id"].where(frame["seed_id"].fillna("") != "", frame["problem_id"])


def by_group(frame: pd.DataFrame, by: list[str]) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """For each combination of the columns `by`: all its rows, then its groups if it has several."""
    for key, whole in frame.groupby(by, sort=False):
        yield (*key, "all"), whole
        if whole["group"].nunique() > 1:
            for group, part in whole.groupby("group", sort=False):
                yield (*key, group), part


def summary(frame: pd.DataFrame, ks: Iterable[int]) -> pd.DataFrame:
    """Mean pass@k over problems with its interval, by draws of whole snippets.

    Args:
        frame: rows of `evaluate`, with a column `checkpoint` if there are several.
        ks: the k of each pass@k; one above n gives NaN.
    Returns:
        One row per checkpoint, set, group, mode and k: columns `checkpoint`, `set`, `group` (`all`
        is the whole set: take only those rows for `figures.draw_pass_at_k`), `mode` (sampled |
        greedy), `k`, `n_problems`, `errors` (completions lost), `value`, `low`, `high` (0 to 1).
    Raises:
        ValueError: impossible counts.
    Source: paper, evaluation (pass@k); the interval is our choice.
    """
    rows = []
    for key, part in by_group(frame, ["checkpoint", "set"]):
        # pass@k of the samples for each k, then the greedy completions: pass@1.
        no_greedy = part["greedy"].isna()
        lost = part["errors"] - no_greedy
        found = [
            ("sampled", k, [pass_at_k(row.n, row.solved, k) for row in part.itertuples()], lost)
            for k in ks
        ]
        found.append(("greedy", 1, part["greedy"], no_greedy))
        for mode, k, scores, gone in found:
            counted = int(np.isfinite(scores).sum())
            mean = mean_interval(scores, clusters=snippets(part))
            rows.append((*key, mode, k, counted, gone.sum(), *mean))
    return pd.DataFrame(
        rows, columns=["checkpoint", "set", "group", "mode", "k", "n_problems", "errors", *MEAN]
    )
