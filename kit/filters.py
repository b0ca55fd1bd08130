"""Which problems are kept, and why the others are not. Every problem stays in the record.

Paper: invalid, redundant and never solved problems go, and so do those outside 0.01 < p < 0.97.
How redundancy and contamination are judged is our choice: by the text of programs (`Twins`), and by
what they return on the same inputs (`behaviour`).
"""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH

from kit.environments import KINDS
from kit.profile import Filters
from kit.records import Problem, digest
from kit.sandbox import Job, Sandbox, arguments, canonical

# Our infrastructure's fault: in no share.
OURS = ("error", "ungraded")
REASONS = (*OURS, "invalid", "duplicate", "contaminated", "unsolved", "too easy", "kept")
# Our choices: tokens per shingle; permutations of MinHash; different values that a behaviour needs
# to identify a program.
SHINGLE = 5
PERMUTATIONS = 128
TELLING = 3
_TOKEN = re.compile(r"\d[\w.]*|\w+|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\w\s]")


@dataclass(frozen=True)
class Behaviour:
    """What programs return on a common set of inputs, as hashes.

    Args:
        of: hash by problem id.
        known: name of a reference program by hash.
    Source: our choice.
    """

    of: dict[str, str] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)


def _signature(text: str) -> tuple[str, ...]:
    """The types of an input's arguments."""
    return tuple(type(argument).__name__ for argument in arguments(text))


def behaviour(
    problems: list[Problem], probes: int, references: dict[str, str], box: Sandbox
) -> Behaviour:
    """Run every valid problem's program, and every reference, on inputs of the problems themselves.

    Programs are compared within one signature, the types of an input's arguments. A program's
    errors are part of its hash, and so is where it crashed or ran out of time. No hash: what the
    sandbox loses, and programs that return fewer than TELLING different values, as too many do.

    Args:
        problems: before the filters.
        probes: inputs per signature, the same for each program.
        references: programs with a function f, by name (`humaneval/HumanEval/0`).
        box: runs the programs.
    Returns:
        The hashes, for `apply`.
    Source: our choice.
    """
    valid = {problem.id: problem for problem in problems if problem.status == "valid"}

    # The common inputs of each signature, drawn by their hash from those of all its problems.
    pools: dict[tuple, set[str]] = defaultdict(set)
    for problem in valid.values():
        own = _signature(problem.inputs[0])
        pools[own].update(text for text in problem.inputs if _signature(text) == own)
    chosen = {own: sorted(pool, key=digest)[:probes] for own, pool in pools.items()}

    # What is run: (name, code, functions to call, signature).
    programs = [
        (name, *KINDS[problem.environment]().probe(problem), _signature(problem.inputs[0]))
        for name, problem in valid.items()
    ]
    programs += [(name, code, ("f",), own) for name, code in references.items() for own in chosen]
    jobs = (
        Job(code, tuple((name, arguments(text)) for text in chosen[own] for name in functions))
        for _, code, functions, own in programs
    )

    # The hash of everything a program returned tells it from others.
    of: dict[str, str] = {}
    known: dict[str, str] = {}
    for number, result in box.run(jobs):
        name, _, functions, own = programs[number]
        returned = {canonical(value) for kind, value in result.values if kind == "ok"}
        if result.no_verdict or len(returned) < TELLING:
            continue
        hashed = digest(own, functions, result.status, canonical(list(result.values)))
        if name in valid:
            of[name] = hashed
        else:
            known[hashed] = min(name, known.get(hashed, name))
    return Behaviour(of, known)


def apply(
    problems: list[Problem],
    filters: Filters,
    evaluation: dict[str, list[str]],
    behaviour: Behaviour = Behaviour(),
) -> list[Problem]:
    """Filter: the first of REASONS that holds decides.

    `multi`, `single` and `stones` are data sets that get compared, so duplicates are looked for
    within each method. A duplicate is the same or a similar program in the same environment, or
    one that returns the same, whatever its inputs and message. So a second input for the same
    function makes a duplicate too. Ungraded problems (our infrastructure lost every attempt) are
    set aside first: they cannot make a graded twin a duplicate.

    Args:
        problems: of a run, in order: the first of several twins stays.
        filters: the profile's section; p_min and p_max themselves are kept, p = 0 never is.
        evaluation: the texts of each evaluation set, by its name.
        behaviour: of these problems; without it programs are compared as texts only.
    Returns:
        All problems in order, with `kept`, `dropped_by`, `reason` and `behaviour` set.
    Source: paper (which problems go, 0.01 and 0.97); how twins are found is our choice.
    """
    grams = _grams_of_sets(evaluation, filters.contamination_ngram)
    seen: defaultdict[tuple[str, str], Twins] = defaultdict(
        lambda: Twins(filters.similarity, behaviour)
    )
    out = []
    for problem in problems:
        twins = seen[problem.method, problem.environment]
        why, detail = _dropped_by(problem, filters, grams, behaviour, twins)
        out.append(
            problem.with_(
                kept=not why,
                dropped_by=why,
                reason=detail or problem.reason,
                behaviour=behaviour.of.get(problem.id, ""),
            )
        )
    return out


def _dropped_by(
    problem: Problem, filters: Filters, grams: dict, behaviour: Behaviour, twins: "Twins"
) -> tuple[str, str]:
    """(reason, detail): both empty for a problem that is kept."""
    # Invalid, or lost by our own error; the detail is in problem.reason.
    if problem.status != "valid":
        return problem.status, ""
    if problem.p is None:
        return "ungraded", ""
    # Redundant.
    if twin := twins.find_or_add(problem):
        return "duplicate", twin
    # Contaminated: a run of words of an evaluation set, or a program that acts like a reference.
    for gram in _ngrams([_text(problem)], filters.contamination_ngram):
        if gram in grams:
            return "contaminated", f"{grams[gram]}: {' '.join(gram)}"
    if found := behaviour.known.get(behaviour.of.get(problem.id, "")):
        return "contaminated", f"returns the same as {found}"
    # Problems that the student never or nearly always solves teach nothing (paper).
    if problem.p == 0 or problem.p < filters.p_min:
        return "unsolved", ""
    if problem.p > filters.p_max:
        return "too easy", ""
    return "", ""


class Twins:
    """Deduplication: the programs seen so far, of one method and environment.

    Args:
        similarity: Jaccard similarity of shingles from which on two programs are duplicates.
        behaviour: what the programs return.
    Source: our choice.
    """

    def __init__(self, similarity: float, behaviour: Behaviour):
        self.similarity = similarity
        self.behaviour = behaviour
        self.shingles: dict[str, set[str]] = {}
        self.first_with: dict[str, str] = {}
        # A lower threshold than `similarity`, so that few twins are missed: step 4 decides.
        self.index = MinHashLSH(
            threshold=0.8 * similarity, num_perm=PERMUTATIONS, weights=(0.2, 0.8)
        )

    def find_or_add(self, problem: Problem) -> str:
        """How a problem repeats an earlier one, with that one's id; '' after adding a new one."""
        # Step 1: the same content.
        if problem.id in self.shingles:
            return f"the same as {problem.id}"
        # Step 2: the same values on the same inputs, however the program is written.
        hashed = self.behaviour.of.get(problem.id)
        if hashed in self.first_with:
            return f"returns the same as {self.first_with[hashed]}"
        # Step 3: MinHash proposes programs that may be similar, without comparing with all.
        own = shingles(problem)
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([shingle.encode() for shingle in own])
        # Step 4: the exact Jaccard similarity of the shingles decides.
        for other in self.index.query(sketch):
            known = self.shingles[other]
            if len(own & known) >= self.similarity * len(own | known):
                return f"written like {other}"
        # A new program: later ones are compared with it.
        self.shingles[problem.id] = own
        if hashed:
            self.first_with[hashed] = problem.id
        self.index.insert(problem.id, sketch)
        return ""


def shingles(x: Problem) -> set[str]:
    """Deduplication by text, second step: runs of SHINGLE tokens of a program and its tests.

    Args:
        x: a valid problem.
    Returns:
        The different runs, each as its tokens with spaces between; a shorter program is one run.
    Source: our choice.
    """
    found = tokens(f"{x.program}\n{x.pre_test}\n{x.test}")
    starts = range(max(1, len(found) - SHINGLE + 1))
    return {" ".join(found[start : start + SHINGLE]) for start in starts}


def _own_names(tree: ast.Module) -> set[str]:
    """The names that a program defines; its docstrings and annotations are taken out."""
    own: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                own.add(node.name)
                if ast.get_docstring(node) is not None:
                    node.body = node.body[1:] or [ast.Pass()]
                if isinstance(node, ast.FunctionDef):
                    node.returns = None
            case ast.arg():
                own.add(node.arg)
                node.annotation = None
            case ast.Name(ctx=ast.Store()):
                own.add(node.id)
    return own


def tokens(code: str) -> list[str]:
    """Deduplication by text, first step: the tokens of a program, whatever its names and layout.

    Comments, docstrings and annotations are left out, and its own names are numbered as they
    come, so two programs that differ only in those give the same tokens.

    Args:
        code: a program; code that is no Python is split as it stands.
    Returns:
        The tokens in order; names of its own are v0, v1, ...
    Source: our choice.
    """
    own = {"f", "pre_test_f", "test_f"}
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        pass
    else:
        own |= _own_names(tree)
        code = ast.unparse(tree)
    names: dict[str, str] = {}
    return [
        names.setdefault(token, f"v{len(names)}") if token in own else token
        for token in _TOKEN.findall(code)
    ]


def sensitivity(
    problems: list[Problem],
    filters: Filters,
    evaluation: dict[str, list[str]],
    behaviour: Behaviour,
) -> pd.DataFrame:
    """How much our choices decide: one choice at a time is changed, the others stay as they are.

    Args:
        problems: before the filters, at least one of multi- or single-turn generation.
        filters: the profile's section.
        evaluation: the texts of each evaluation set, by its name.
        behaviour: of these problems.
    Returns:
        One row per setting: columns `choice`, `setting`, `chosen` (it is the profile's),
        `duplicate`, `contaminated`, `kept` (problems) and `ratio` (F1's kept share, multi /
        single).
    Source: our choice.
    """
    similarities = sorted({0.7, 0.85, 0.95, filters.similarity})
    lengths = sorted({10, 20, 30, filters.contamination_ngram})
    grid: list[tuple[str, float | str]] = [("similarity", value) for value in similarities]
    grid += [("contamination_ngram", value) for value in lengths]
    grid += [("behaviour", "off"), ("behaviour", "on")]
    rows = []
    for choice, setting in grid:
        # A copy with this one choice changed; `behaviour` is no field of the profile.
        changed = filters
        if choice != "behaviour":
            changed = filters.model_copy(update={choice: setting})
        chosen = setting in (getattr(filters, choice, None), "on")
        acts = Behaviour() if setting == "off" else behaviour
        found = apply(problems, changed, evaluation, acts)
        counts = Counter(problem.dropped_by or "kept" for problem in found)
        ratio = yields(found, resamples=1).iloc[-1].ratio if found else np.nan
        outcome = [counts[name] for name in ("duplicate", "contaminated", "kept")]
        rows.append((choice, str(setting), chosen, *outcome, ratio))
    return pd.DataFrame(
        rows, columns=["choice", "setting", "chosen", "duplicate", "contaminated", "kept", "ratio"]
    )


def contamination(
    problems: list[Problem], evaluation: dict[str, list[str]], n: int
) -> pd.DataFrame:
    """What the training problems share with each evaluation set.

    Args:
        problems: filtered problems (`kept` is set).
        evaluation: the texts of each evaluation set, by its name.
        n: words in a run that counts as shared.
    Returns:
        One row per set: columns `set`, `texts`, `dropped` (by the filter, for that set) and
        `left`: kept problems of the train split that share a run of n words with it; 0 where the
        filter knew the set.
    Source: our choice.
    """
    train = [problem for problem in problems if problem.kept and problem.split == "train"]
    dropped = [problem for problem in problems if problem.dropped_by == "contaminated"]
    rows = []
    for name, texts in evaluation.items():
        grams = _grams_of_sets({name: texts}, n)
        left = {p.id for p in train if any(gram in grams for gram in _ngrams([_text(p)], n))}
        # The filter's reason names the set first, either way.
        prefixes = (name, f"returns the same as {name}")
        found = sum(problem.reason.startswith(prefixes) for problem in dropped)
        rows.append((name, len(texts), found, len(left)))
    return pd.DataFrame(rows, columns=["set", "texts", "dropped", "left"])


def _text(x: Problem) -> str:
    """What is compared with the evaluation sets."""
    return f"{x.message}\n{x.program}\n{x.pre_test}\n{x.test}"


def _ngrams(texts: list[str], n: int) -> Iterator[tuple[str, ...]]:
    """Runs of n words, lower case: letters, digits, underscores; a shorter text has none."""
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        yield from (tuple(words[start : start + n]) for start in range(len(words) - n + 1))


def _grams_of_sets(evaluation: dict[str, list[str]], n: int) -> dict[tuple[str, ...], str]:
    """The name of the evaluation set by run of n words."""
    return {gram: name for name, texts in evaluation.items() for gram in _ngrams(texts, n)}


def funnel(problems: list[Problem]) -> pd.DataFrame:
    """What became of the problems.

    Args:
        problems: filtered problems (`kept` is set).
    Returns:
        One row per method, environment and reason, in the order of REASONS: columns `method`,
        `environment`, `dropped_by` ('kept' for kept), `count`, and `share` (0 to 1) of what that
        method produced in that environment; NaN for OURS, which are not part of it.
    Source: our choice.
    """
    keys = ["method", "environment", "dropped_by"]
    rows = [(x.method, x.environment, "kept" if x.kept else x.dropped_by) for x in problems]
    order = pd.CategoricalDtype(REASONS, ordered=True)
    table = pd.DataFrame(rows, columns=keys).astype({"dropped_by": order})
    out = table.groupby(keys, observed=True).size().reset_index(name="count")
    # Problems lost by our own errors count for and against nobody.
    produced = out["count"].where(~out["dropped_by"].isin(OURS))
    out["share"] = produced / produced.groupby([out["method"], out["environment"]]).transform("sum")
    return out.astype({"dropped_by": str, "share": float})


# Two currencies: tokens of the teacher, attempts of the student.
_CURRENCIES = ["tokens", "attempts"]
_COMPARED = ["multi", "single"]


def _bill(problems: list[Problem]) -> pd.DataFrame:
    """One row per problem: where it comes from, whether it was kept, and what it cost."""
    columns = ["environment", "seed_id", "method", "turn", "dropped_by", "kept"]
    rows = [
        (*(getattr(x, name) for name in columns), 1, x.teacher_tokens, x.n + x.errors)
        for x in problems
    ]
    return pd.DataFrame(rows, columns=[*columns, "produced", *_CURRENCIES])


def equal_budget(problems: list[Problem]) -> list[Problem]:
    """The problems that multi- and single-turn generation make of one budget.

    The budget is counted in teacher tokens and student attempts. Per environment it is the smaller
    of what either method has cost in all, each currency by itself. Each method takes its problems
    in order, first all first turns, then all second ones, until the next would pass one of the two
    limits (our choice). Problems lost by our errors cost nothing here. Of other methods, and where
    only one was run, nothing is cut.
    """
    if not problems:
        return []
    bill = _bill(problems)
    bill = bill[~bill.dropped_by.isin(OURS)].sort_values(["turn", "seed_id"])
    # The budget of each environment: the smaller of the two methods' totals.
    groups = bill.groupby(["environment", "method"])[_CURRENCIES]
    totals = groups.sum().reset_index()
    limits = totals[totals.method.isin(_COMPARED)].groupby("environment")[_CURRENCIES].min()
    # What a method has spent when it has made this problem too.
    spent = groups.cumsum()
    inside = (spent <= limits.reindex(bill.environment).to_numpy()).all(axis=1)
    taken = bill.index[inside | ~bill.method.isin(_COMPARED)]
    return [problems[place] for place in sorted(taken)]


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
    """What each method makes of the same budget (`equal_budget`): finding F1.

    The interval is a percentile bootstrap over seeds, each drawn with the problems of both
    methods. A resample without a ratio (0 / 0) counts as the worst case on either side, so few
    data give a wide interval, up to inf.

    Args:
        problems: filtered problems (`kept` is set).
        resamples: of the bootstrap.
        seed: of its draws.
    Returns:
        One row per environment and for `all`, columns YIELDS: `seeds`; of each method the problems
        it `produced` and `kept`, its `share` (kept / produced, 0 to 1) and what it cost;
        `ratio`: multi's share / single's, with `low` and `high` (95%); `per_token`: the ratio of
        kept problems per teacher token. No interval (NaN) where the ratio is inf (single kept
        nothing) or NaN (neither did, or one was not run), or with under two seeds.
    Source: paper, sec. 4.2 (the ratio is more than 4); budget and bootstrap are our choice.
    """
    rows = _bill(equal_budget(problems))
    rows = rows[rows.method.isin(_COMPARED)]
    groups = [*rows.groupby("environment"), ("all", rows)] if len(rows) else []
    return pd.DataFrame(
        [_yield(name, part, resamples, np.random.default_rng(seed)) for name, part in groups],
        columns=YIELDS,
    )


def _yield(name: str, rows: pd.DataFrame, resamples: int, rng: np.random.Generator) -> tuple:
    """One row of `yields`."""
    # Of each seed: problems produced and kept, tokens and attempts, each of multi and of single.
    values = ["produced", "kept", *_CURRENCIES]
    by_seed = rows.pivot_table(index="seed_id", columns="method", values=values, aggfunc="sum")
    columns = pd.MultiIndex.from_product([values, _COMPARED])
    counts = by_seed.reindex(columns=columns).fillna(0).to_numpy(int)
    totals = counts.sum(axis=0).reshape(4, 2)
    produced, kept, paid, _ = totals
    seeds = len(counts)
    low = high = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = kept / produced
        per_token = kept / paid
        ratio = shares[0] / shares[1]
        if np.isfinite(ratio) and seeds > 1:
            # The bootstrap: as many seeds again, drawn with replacement.
            drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) @ counts
            multi, single = (drawn[:, [2, 3]] / drawn[:, [0, 1]]).T
            ratios = multi / single
            low, high = (
                np.quantile(np.where(np.isnan(ratios), worst, ratios), q, method="inverted_cdf")
                for worst, q in ((0, 0.025), (np.inf, 0.975))
            )
        sizes = (produced[0], kept[0], shares[0], produced[1], kept[1], shares[1])
        costs = (*totals[2:].flat, per_token[0] / per_token[1])
        return (name, seeds, *sizes, ratio, low, high, *costs)
