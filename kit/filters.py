"""Which problems are kept, and why the others are not. Every problem stays in the record with its reason.

Paper: invalid, redundant and never solved problems go, and so do those outside 0.01 < p < 0.97. How redundancy and
contamination are judged is our choice: by the text of programs, and by what they return on the same inputs.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH

from kit.environments import KINDS
from kit.profile import Filters
from kit.records import Problem, digest
from kit.sandbox import Job, Sandbox, arguments, canonical

OURS = ("error", "ungraded")  # our infrastructure's fault: in no share
REASONS = (*OURS, "invalid", "duplicate", "contaminated", "unsolved", "too easy", "kept")
SHINGLE = 5  # tokens; our choice
PERMUTATIONS = 128  # of MinHash; our choice
TELLING = 3  # different values that a behaviour needs to identify a program; our choice
_TOKEN = re.compile(r"\d[\w.]*|\w+|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\w\s]")


@dataclass(frozen=True)
class Behaviour:
    """What programs return on a common set of inputs, as hashes: of problems by id, of evaluation sets by hash."""

    of: dict[str, str] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)


def behaviour(
    problems: list[Problem], probes: int, references: dict[str, str], box: Sandbox
) -> Behaviour:
    """Run every valid problem's program, and every reference, on inputs of the problems themselves.

    Programs are compared within one signature, the types of an input's arguments: on `probes` of all inputs that the
    problems with this signature have, the same for each. A problem whose program returns fewer than TELLING different
    values has no hash: too many programs do that. `references` maps a name, `humaneval/HumanEval/0`, to a program
    with a function f. A program's errors are part of its hash, and so is where it crashed or ran out of time; what the sandbox loses has none."""
    valid = {x.id: x for x in problems if x.status == "valid"}
    pools: dict[tuple, set[str]] = defaultdict(set)
    for x in valid.values():
        pools[_signature(x.inputs[0])] |= {
            i for i in x.inputs if _signature(i) == _signature(x.inputs[0])
        }
    chosen = {s: sorted(pool, key=digest)[:probes] for s, pool in pools.items()}

    programs = [
        (x.id, *KINDS[x.environment]().probe(x), _signature(x.inputs[0])) for x in valid.values()
    ]
    programs += [(name, code, ("f",), s) for name, code in references.items() for s in chosen]
    jobs = (
        Job(code, tuple((name, arguments(i)) for i in chosen[s] for name in names))
        for _, code, names, s in programs
    )
    of, known = {}, {}
    for k, result in box.run(jobs):
        name, _, names, signature = programs[k]
        if (
            result.no_verdict
            or len({canonical(v) for kind, v in result.values if kind == "ok"}) < TELLING
        ):
            continue
        hashed = digest(signature, names, result.status, canonical(list(result.values)))
        if name in valid:
            of[name] = hashed
        else:
            known[hashed] = min(name, known.get(hashed, name))
    return Behaviour(of, known)


def _signature(text: str) -> tuple[str, ...]:
    return tuple(type(a).__name__ for a in arguments(text))


def apply(
    problems: list[Problem],
    filters: Filters,
    evaluation: dict[str, list[str]],
    behaviour: Behaviour = Behaviour(),
) -> list[Problem]:
    """All problems in order, with `kept`, `dropped_by` and `reason` set; the first of REASONS that holds counts.

    `evaluation` maps the name of an evaluation set to its texts. `multi`, `single` and `stones` are data sets that get
    compared, so duplicates are looked for within each method. A duplicate is the same or a similar program in the same
    environment, or one that returns the same, whatever its inputs and message: a second input for the same function is
    one too (our choice). Ungraded problems (every attempt lost by our infrastructure) are set aside first: they cannot
    make a graded twin a duplicate. p_min and p_max themselves are kept; p = 0 never is."""
    grams = _grams_of_sets(evaluation, filters.contamination_ngram)
    seen, out = defaultdict(lambda: Twins(filters.similarity, behaviour)), []
    for x in problems:
        why, detail = _dropped_by(x, filters, grams, behaviour, seen[x.method, x.environment])
        out.append(
            x.with_(
                kept=not why,
                dropped_by=why,
                reason=detail or x.reason,
                behaviour=behaviour.of.get(x.id, ""),
            )
        )
    return out


def _dropped_by(
    x: Problem, filters: Filters, grams: dict, behaviour: Behaviour, twins: "Twins"
) -> tuple[str, str]:
    """(reason, detail): both empty for a problem that is kept."""
    if x.status != "valid":
        return x.status, ""  # error | invalid; the detail is in x.reason
    if not x.n:
        return "ungraded", ""
    if twin := twins.find_or_add(x):
        return "duplicate", twin
    if found := next(
        (g for g in _ngrams(_text(x), filters.contamination_ngram) if g in grams), None
    ):
        return "contaminated", f"{grams[found]}: {' '.join(found)}"
    if found := behaviour.known.get(behaviour.of.get(x.id, "")):
        return "contaminated", f"returns the same as {found}"
    if x.p == 0 or x.p < filters.p_min:
        return "unsolved", ""
    return ("too easy", "") if x.p > filters.p_max else ("", "")


class Twins:
    """The programs seen so far. MinHash proposes candidates, the exact Jaccard similarity of their shingles decides."""

    def __init__(self, similarity: float, behaviour: Behaviour):
        self.similarity, self.behaviour, self.sets, self.acts = similarity, behaviour, {}, {}
        self.index = MinHashLSH(
            threshold=0.8 * similarity, num_perm=PERMUTATIONS, weights=(0.2, 0.8)
        )

    def find_or_add(self, x: Problem) -> str:
        """How `x` repeats an earlier problem, with that problem's id, or '' after adding it."""
        if x.id in self.sets:
            return f"the same as {x.id}"
        acts = self.behaviour.of.get(x.id)
        if acts in self.acts:
            return f"returns the same as {self.acts[acts]}"
        own, sketch = shingles(x), MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([s.encode() for s in own])
        for other in self.index.query(sketch):
            if len(own & self.sets[other]) >= self.similarity * len(own | self.sets[other]):
                return f"written like {other}"
        self.sets[x.id] = own
        if acts:
            self.acts[acts] = x.id
        self.index.insert(x.id, sketch)
        return ""


def shingles(x: Problem) -> set[str]:
    """Runs of SHINGLE tokens of the program and its tests."""
    found = tokens(f"{x.program}\n{x.pre_test}\n{x.test}")
    return {" ".join(found[k : k + SHINGLE]) for k in range(max(1, len(found) - SHINGLE + 1))}


def tokens(code: str) -> list[str]:
    """The tokens of a program without comments, docstrings and annotations, its own names numbered as they come.

    So two programs that differ only in those give the same tokens. Code that is no Python is split as it stands."""
    own = {"f", "pre_test_f", "test_f"}
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        tree = None
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
            node.body, node.returns = (
                node.body[ast.get_docstring(node) is not None :] or [ast.Pass()],
                None,
            )
        elif isinstance(node, ast.arg):
            own.add(node.arg)
            node.annotation = None
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    names: dict[str, str] = {}
    found = _TOKEN.findall(ast.unparse(tree) if tree else code)
    return [names.setdefault(t, f"v{len(names)}") if t in own else t for t in found]


def sensitivity(
    problems: list[Problem],
    filters: Filters,
    evaluation: dict[str, list[str]],
    behaviour: Behaviour,
) -> pd.DataFrame:
    """How much our choices decide: one row per setting, (choice, setting, chosen, duplicate, contaminated, kept, ratio).

    One choice at a time is changed, the others stay as they are. `ratio` is F1's kept share, multi / single."""
    grid = [
        ("similarity", s, {"similarity": s}, behaviour)
        for s in sorted({0.7, 0.85, 0.95, filters.similarity})
    ]
    grid += [
        ("contamination_ngram", n, {"contamination_ngram": n}, behaviour)
        for n in sorted({10, 20, 30, filters.contamination_ngram})
    ]
    grid += [("behaviour", word, {}, b) for word, b in (("off", Behaviour()), ("on", behaviour))]
    rows = []
    for choice, setting, change, acts in grid:
        found = apply(problems, filters.model_copy(update=change), evaluation, acts)
        counts = pd.Series([x.dropped_by or "kept" for x in found]).value_counts()
        ratio = yields(found, resamples=1).iloc[-1].ratio if found else np.nan
        rows.append(
            (
                choice,
                str(setting),
                setting in (getattr(filters, choice, None), "on"),
                *(int(counts.get(name, 0)) for name in ("duplicate", "contaminated", "kept")),
                ratio,
            )
        )
    return pd.DataFrame(
        rows, columns=["choice", "setting", "chosen", "duplicate", "contaminated", "kept", "ratio"]
    )


def contamination(
    problems: list[Problem], evaluation: dict[str, list[str]], n: int
) -> pd.DataFrame:
    """What the training problems share with each evaluation set: set, texts, dropped (by the filter, for that set), left (kept ones of the
    train split with a run of n words in common; 0 where the filter knew the set)."""
    rows = []
    for name, texts in evaluation.items():
        grams = _grams_of_sets({name: texts}, n)
        left = [
            p
            for p in problems
            if p.kept and p.split == "train" and any(g in grams for g in _ngrams(_text(p), n))
        ]
        dropped = sum(
            p.dropped_by == "contaminated"
            and p.reason.removeprefix("returns the same as ").startswith(name)
            for p in problems
        )
        rows.append((name, len(texts), dropped, len({p.id for p in left})))
    return pd.DataFrame(rows, columns=["set", "texts", "dropped", "left"])


def _text(x: Problem) -> str:
    return f"{x.message}\n{x.program}\n{x.pre_test}\n{x.test}"


def _ngrams(text: str, n: int) -> Iterator[tuple[str, ...]]:
    """Runs of n words, lower case, letters, digits and underscores only; a shorter text has none."""
    words = re.findall(r"\w+", text.lower())
    return (tuple(words[k : k + n]) for k in range(len(words) - n + 1))


def _grams_of_sets(evaluation: dict[str, list[str]], n: int) -> dict[tuple[str, ...], str]:
    return {
        gram: name
        for name, texts in evaluation.items()
        for text in texts
        for gram in _ngrams(text, n)
    }


def funnel(problems: list[Problem]) -> pd.DataFrame:
    """Filtered problems counted by method, environment and reason ('kept' for kept), in the order of REASONS.

    `share` is of the problems produced by that method in that environment; NaN for OURS, which are not part of it."""
    rows = pd.DataFrame(
        [(x.method, x.environment, "kept" if x.kept else x.dropped_by) for x in problems],
        columns=["method", "environment", "dropped_by"],
    )
    rows = rows.astype({"dropped_by": pd.CategoricalDtype(REASONS, ordered=True)})
    out = (
        rows.groupby(["method", "environment", "dropped_by"], observed=True)
        .size()
        .reset_index(name="count")
    )
    theirs = out["count"].where(~out["dropped_by"].isin(OURS))
    out["share"] = theirs / theirs.groupby([out["method"], out["environment"]]).transform("sum")
    return out.astype({"dropped_by": str, "share": float})


def equal_budget(problems: list[Problem]) -> list[Problem]:
    """The problems that multi- and single-turn generation make of one budget of teacher tokens and student attempts, both equal for
    the two (our choice): per environment the smaller of what either has cost in all, each currency by itself.

    Each method takes its problems in order, first all first turns, then all second ones, until the next would pass one of the two
    limits. Problems lost by our errors cost nothing here. Of other methods, and where only one was run, nothing is cut."""
    groups = defaultdict(list)
    for k in sorted(range(len(problems)), key=lambda k: (problems[k].turn, problems[k].seed_id)):
        if problems[k].dropped_by not in OURS:
            groups[problems[k].environment, problems[k].method].append(k)
    taken: set[int] = set()
    for (environment, method), mine in groups.items():
        pair = [groups[environment, m] for m in ("multi", "single") if (environment, m) in groups]
        limit = (
            np.minimum.reduce([sum(_price(problems[k]) for k in group) for group in pair])
            if method in ("multi", "single")
            else np.inf
        )
        inside = (np.cumsum([_price(problems[k]) for k in mine], axis=0) <= limit).all(axis=1)
        taken |= {k for k, fits in zip(mine, inside, strict=True) if fits}
    return [problems[k] for k in sorted(taken)]


def _price(x: Problem) -> np.ndarray:
    """(teacher tokens, attempts of the student)."""
    return np.array([x.teacher_tokens, x.n + x.errors])


YIELDS = [
    "environment",
    "seeds",
    "multi_produced",
    "multi_kept",
    "multi_share",
    "single_produced",
    "single_kept",
    "single_share",
    "ratio",
    "low",
    "high",
    "multi_tokens",
    "single_tokens",
    "multi_attempts",
    "single_attempts",
    "per_token",
]


def yields(problems: list[Problem], resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """What each method makes of the same budget (`equal_budget`), per environment and for `all`: the share it keeps of what it
    produced, multi / single (`ratio`; paper, sec. 4.2: more than 4), and kept problems per teacher token, multi / single
    (`per_token`).

    `low` and `high`: 95% percentile bootstrap of `ratio` over seeds, each drawn with the problems of both methods. A resample
    without a ratio (0 / 0) counts as the worst case on either side, so few data give a wide interval, up to inf. No
    interval (NaN) where the ratio is inf (single kept nothing) or NaN (neither did, or one was not run), or with under
    two seeds."""
    rows = pd.DataFrame(
        [(x.environment, x.seed_id, x.method, x.kept, *_price(x)) for x in equal_budget(problems)],
        columns=["environment", "seed_id", "method", "kept", "tokens", "attempts"],
    )
    rows = rows[rows.method.isin(["multi", "single"])]
    groups = [*rows.groupby("environment"), ("all", rows)] if len(rows) else []
    return pd.DataFrame(
        [_yield(name, part, resamples, np.random.default_rng(seed)) for name, part in groups],
        columns=YIELDS,
    )


def _yield(name: str, rows: pd.DataFrame, resamples: int, rng: np.random.Generator) -> tuple:
    by_seed = rows.pivot_table(
        index="seed_id", columns="method", values="kept", aggfunc=["count", "sum"], fill_value=0
    )
    columns = pd.MultiIndex.from_product([["count", "sum"], ["multi", "single"]])
    counts = by_seed.reindex(columns=columns, fill_value=0).to_numpy(int)  # seeds x 4
    seeds, total, low, high = len(counts), counts.sum(0), np.nan, np.nan
    price = (
        rows.groupby("method")[["tokens", "attempts"]]
        .sum()
        .reindex(["multi", "single"], fill_value=0)
        .to_numpy()
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        shares, per_token = total[2:] / total[:2], total[2:] / price[:, 0]
        ratio = shares[0] / shares[1]
        if np.isfinite(ratio) and seeds > 1:
            drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) @ counts
            ratios = (drawn[:, 2] / drawn[:, 0]) / (drawn[:, 3] / drawn[:, 1])
            low, high = (
                np.quantile(np.where(np.isnan(ratios), worst, ratios), q, method="inverted_cdf")
                for worst, q in ((0, 0.025), (np.inf, 0.975))
            )
        return (
            name,
            seeds,
            total[0],
            total[2],
            shares[0],
            total[1],
            total[3],
            shares[1],
            ratio,
            low,
            high,
            *price[:, 0],
            *price[:, 1],
            per_token[0] / per_token[1],
        )
