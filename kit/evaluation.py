"""One function evaluates anything: `evaluate(items, engine, box, n, sampling)`.

An `Item` is a prompt and a grader. Four sets of items need no hub: problems of held-out seeds,
real functions, HumanEval, procedural maths. Those of kit.benchmarks need it: LiveCodeBench,
MATH-500, AIME 2024. The statistics are pass@k (Chen et al. 2021), intervals over problems, and
paired differences between checkpoints. Every table has n and what our own infrastructure lost,
which never counts as wrong.

What an answer must look like (tags, fences) is the same here as in training, so a part of every
gain may be form rather than skill: `malformed` counts the samples without an answer in that form.
"""

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from kit.core.config import Role, Sampling
from kit.core.run import Run, progress
from kit.core.stats import mean_interval, pass_at_k
from kit.core.types import Item, Reason, clean, digest
from kit.sandbox import Sandbox
from kit.serving.engine import Engine, EngineDown, EngineError, NotRecorded

# Set -> in or out of the domain of the training (paper); smoke: a first look, no evidence.
DOMAINS = {
    "synthetic": "in",  # problems of held-out seeds, with the prompts and graders of the training
    "real": "in",  # held-out CodeI/O functions as induction problems: nothing of a teacher
    "livecodebench": "in",  # contests of 08.2024-05.2025 (paper)
    "livecodebench_v5": "in",  # release_v5, by difficulty (paper)
    "humaneval": "smoke",  # contaminated in every model
    "maths": "out",  # procedural tasks of reasoning-gym, exact answers
    "math500": "out",  # paper
    "aime24": "out",  # paper
}

MALFORMED = {Reason.EMPTY, Reason.NO_CODE, Reason.NO_ANSWER, Reason.SYNTAX, Reason.NO_FUNCTION}

# Of the table that `evaluate` gives; it explains them.
SCORE_COLUMNS = (
    "set problem_id group n solved malformed errors greedy cut_off tokens samples"
).split()

# What the column `samples` tells of each completion.
_SHOWN = ["mode", "answer", "outcome", "reason"]
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
        for step in sorted(int(path.name.partition("-")[2]) for path in kept):
            # The last checkpoint is the policy after training.
            if step < run.profile.grpo.steps:
                models[f"step {step}"] = str(run.path(f"checkpoints/checkpoint-{step}"))
    models["after"] = str(run.path("policy"))
    student = run.profile.student
    if student.engine != "replay":
        student = student.model_copy(update={"engine": "vllm"})
    return {name: student.model_copy(update={"model": path}) for name, path in models.items()}


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
    tasks = {item.id: item.data for item in items if item.set == "humaneval"}
    return {
        i: f"{task['prompt']}{task['canonical_solution']}\nf = {task['entry_point']}"
        for i, task in tasks.items()
    }


def evaluate(
    items: list[Item], engine: Engine, box: Sandbox, n: int, sampling: Sampling, key: str = "eval"
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
        key: tells apart equal prompts that are meant as separate draws.
    Returns:
        One row per item, SCORE_COLUMNS: `set`, `problem_id` (the item's id), `group`; `n`: graded
        samples of the n asked for, `solved` and `malformed`: how many of these; `errors`:
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

    # Ask for everything at once: the engine decides what it does side by side.
    greedy = sampling.model_copy(update={"temperature": 0.0, "top_p": 1.0})
    asked = {}
    for item in items:
        for mode, count, how in (("sampled", n, sampling), ("greedy", 1, greedy)):
            future = engine.submit(item.messages, count, f"{key}/{item.id}/{mode}", how)
            asked[future] = item, mode

    # Grade what is finished.
    graded = {}
    with (
        ThreadPoolExecutor(GRADERS) as pool,
        progress(total=len(asked), desc=f"evaluating {engine.name}") as bar,
    ):
        for future in as_completed(asked):
            item, mode = asked[future]
            grading = pool.submit(_graded, item, mode, _completions(future), box)
            grading.add_done_callback(lambda _: bar.update())
            graded[item.id, mode] = grading
        rows = []
        for item in items:
            answers = graded[item.id, "greedy"].result() + graded[item.id, "sampled"].result()
            rows.append(_row(item, n, answers))
    return pd.DataFrame(rows, columns=SCORE_COLUMNS).astype({"greedy": float})


def _completions(future):
    """None at all where the engine lost the request. An engine that is gone ends the stage."""
    try:
        return future.result()
    except (EngineDown, NotRecorded):
        raise
    except EngineError:
        return []


def _graded(item, mode, completions, box):
    """Each completion with its verdict: _SHOWN, whether it was cut off, tokens."""
    verdicts = item.grade([completion.text for completion in completions], box)
    return [
        (
            mode,
            clean(completion.text),
            verdict.outcome,
            str(verdict.reason),
            completion.finish == "length",
            completion.tokens,
        )
        for completion, verdict in zip(completions, verdicts, strict=True)
    ]


def _row(item, n, answers):
    """The row of one item, from all its graded completions."""
    every = pd.DataFrame(answers, columns=[*_SHOWN, "cut_off", "tokens"])
    known = every[every.outcome != "error"]
    sampled = known[known["mode"] == "sampled"]
    greedy = known[known["mode"] == "greedy"]
    return {
        "set": item.set,
        "problem_id": item.id,
        "group": item.group,
        "n": len(sampled),
        "solved": (sampled.outcome == "passed").sum(),
        "malformed": sampled.reason.isin(MALFORMED).sum(),
        "errors": n + 1 - len(known),
        "greedy": (greedy.outcome == "passed").mean(),
        "cut_off": every.cut_off.sum(),
        "tokens": every.tokens.sum(),
        "samples": every[_SHOWN].to_dict("records"),
    }


def _groups(frame, by):
    """For each combination of the columns `by`: all its rows, then its groups if it has several."""
    for key, whole in frame.groupby(by, sort=False):
        yield (*key, "all"), whole
        if whole["group"].nunique() > 1:
            for group, part in whole.groupby("group", sort=False):
                yield (*key, group), part


def summary(
    frame: pd.DataFrame, ks: Iterable[int], resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Mean pass@k over problems with its interval.

    Args:
        frame: rows of `evaluate`, with a column `checkpoint` if there are several.
        ks: the k of each pass@k; one above n gives NaN.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    Returns:
        One row per checkpoint, set, group, mode and k: columns `checkpoint`, `set`, `group` (`all`
        is the whole set: take only those rows for `figures.draw_pass_at_k`), `mode` (sampled |
        greedy), `k`, `n_problems`, `errors` (completions lost), `value`, `low`, `high` (0 to 1).
    Raises:
        ValueError: impossible counts.
    Source: paper, evaluation (pass@k); the interval is our choice.
    """
    if "checkpoint" not in frame:
        frame = frame.assign(checkpoint="")
    rows = []
    for key, part in _groups(frame, ["checkpoint", "set"]):
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
            rows.append(
                (*key, mode, k, counted, gone.sum(), *mean_interval(scores, resamples, seed))
            )
    return pd.DataFrame(
        rows, columns=["checkpoint", "set", "group", "mode", "k", "n_problems", "errors", *MEAN]
    )


def paired_scores(before: pd.DataFrame, after: pd.DataFrame, mode: str = "sampled") -> pd.DataFrame:
    """The score of each problem before and after, for problems graded both times.

    Args:
        before: rows of `evaluate` of one checkpoint.
        after: of another one.
        mode: sampled (share of samples solved) or greedy (0 or 1).
    Returns:
        One row per problem: columns `set`, `problem_id`, `group`, `before`, `after` (0 to 1).
    Source: our choice.
    """
    key = ["set", "problem_id", "group"]
    rates = []
    for name, frame in (("before", before), ("after", after)):
        # Without a graded sample there is no rate: 0 / 0 is NaN.
        rate = frame["greedy"] if mode == "greedy" else frame["solved"] / frame["n"]
        rates.append(frame[key].assign(**{name: rate}))
    return pd.merge(*rates, on=key, validate="1:1").dropna().reset_index(drop=True)


def paired_difference(
    before: pd.DataFrame, after: pd.DataFrame, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """after - before, paired by problem.

    Args:
        before: rows of `evaluate` of one checkpoint.
        after: of another one.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    Returns:
        One row per set, group and mode: columns `set`, `group` (`all`: the whole set), `mode`
        (sampled | greedy), `n` (problems), `up`, `down` (how many got better and worse), `value`
        (mean difference, -1 to 1), `low`, `high`, and `p`: exact two-sided sign test over the
        problems that changed, 1 if none did; not corrected for several rows.
    Source: our choice.
    """
    rows = []
    for mode in ("sampled", "greedy"):
        for key, part in _groups(paired_scores(before, after, mode), ["set"]):
            change = (part["after"] - part["before"]).to_numpy()
            up = (change > 0).sum()
            down = (change < 0).sum()
            p = binomtest(up, up + down).pvalue if up + down else 1.0
            mean = mean_interval(change, resamples, seed, (-1, 1))
            rows.append((*key, mode, len(part), up, down, *mean, p))
    return pd.DataFrame(rows, columns=["set", "group", "mode", "n", "up", "down", *MEAN, "p"])
