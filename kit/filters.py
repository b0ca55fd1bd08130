"""Which problems are kept, and why the others are not. Every problem stays in the record with its reason.

Paper: invalid, redundant and never solved problems go, and so do those outside 0.01 < p < 0.97. How redundancy and
contamination are judged is our choice.
"""
import ast
import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH

from kit.profile import Filters
from kit.records import Problem

OURS = ("error", "ungraded")                       # our infrastructure's fault: in no share
REASONS = (*OURS, "invalid", "duplicate", "contaminated", "unsolved", "too easy", "kept")
SHINGLE = 5                                        # tokens; our choice
PERMUTATIONS = 128                                 # of MinHash; our choice
_TOKEN = re.compile(r"\d[\w.]*|\w+|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\w\s]")


def apply(problems: list[Problem], filters: Filters, evaluation: dict[str, list[str]]) -> list[Problem]:
    """All problems in order, with `kept` and `dropped_by` set; the first reason of REASONS that holds counts.

    `evaluation` maps the name of an evaluation set to its texts. `multi` and `single` are two data sets that get
    compared, so duplicates are looked for within each method. A duplicate is the same or a similar program in the same
    environment, whatever its inputs and message: a second input for the same function is one too (our choice).
    Ungraded problems (every attempt lost by our infrastructure) are set aside first: they cannot make a graded twin a
    duplicate. p_min and p_max themselves are kept; p = 0 never is."""
    grams = _grams_of_sets(evaluation, filters.contamination_ngram)
    seen, out = defaultdict(lambda: Twins(filters.similarity)), []
    for x in problems:
        why = _dropped_by(x, filters, grams, seen[x.method, x.environment])
        out.append(x.with_(kept=not why, dropped_by=why))
    return out


def _dropped_by(x: Problem, filters: Filters, grams: dict, twins: "Twins") -> str:
    if x.status != "valid":
        return x.status                            # error | invalid; the detail is in x.reason
    if not x.n:
        return "ungraded"
    if twins.find_or_add(x):
        return "duplicate"
    if any(gram in grams for gram in _ngrams(_text(x), filters.contamination_ngram)):
        return "contaminated"
    if x.p == 0 or x.p < filters.p_min:
        return "unsolved"
    return "too easy" if x.p > filters.p_max else ""


class Twins:
    """The programs seen so far. MinHash proposes candidates, the exact Jaccard similarity of their shingles decides."""

    def __init__(self, similarity: float):
        self.similarity, self.sets = similarity, {}
        self.index = MinHashLSH(threshold=0.8 * similarity, num_perm=PERMUTATIONS, weights=(0.2, 0.8))

    def find_or_add(self, x: Problem) -> str:
        """The id of the first problem that `x` repeats, or '' after adding it."""
        if x.id in self.sets:
            return x.id
        own, sketch = shingles(x), MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([s.encode() for s in own])
        for other in self.index.query(sketch):
            if len(own & self.sets[other]) >= self.similarity * len(own | self.sets[other]):
                return other
        self.sets[x.id] = own
        self.index.insert(x.id, sketch)
        return ""


def shingles(x: Problem) -> set[str]:
    """Runs of SHINGLE tokens of the program and its tests."""
    found = tokens(f"{x.program}\n{x.pre_test}\n{x.test}")
    return {" ".join(found[k:k + SHINGLE]) for k in range(max(1, len(found) - SHINGLE + 1))}


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
            node.body, node.returns = node.body[ast.get_docstring(node) is not None:] or [ast.Pass()], None
        elif isinstance(node, ast.arg):
            own.add(node.arg)
            node.annotation = None
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    names: dict[str, str] = {}
    found = _TOKEN.findall(ast.unparse(tree) if tree else code)
    return [names.setdefault(t, f"v{len(names)}") if t in own else t for t in found]


def contaminations(problems: list[Problem], evaluation: dict[str, list[str]], ngram: int) -> pd.DataFrame:
    """Examples to look at: one row (id, environment, set, words) per valid problem that shares `ngram` words with a
    set."""
    grams, rows = _grams_of_sets(evaluation, ngram), []
    for x in problems:
        found = next((g for g in _ngrams(_text(x), ngram) if g in grams), None) if x.status == "valid" else None
        if found:
            rows.append((x.id, x.environment, grams[found], " ".join(found)))
    return pd.DataFrame(rows, columns=["id", "environment", "set", "words"])


def _text(x: Problem) -> str:
    return f"{x.message}\n{x.program}\n{x.pre_test}\n{x.test}"


def _ngrams(text: str, n: int) -> Iterator[tuple[str, ...]]:
    """Runs of n words, lower case, letters, digits and underscores only; a shorter text has none."""
    words = re.findall(r"\w+", text.lower())
    return (tuple(words[k:k + n]) for k in range(len(words) - n + 1))


def _grams_of_sets(evaluation: dict[str, list[str]], n: int) -> dict[tuple[str, ...], str]:
    return {gram: name for name, texts in evaluation.items() for text in texts for gram in _ngrams(text, n)}


def funnel(problems: list[Problem]) -> pd.DataFrame:
    """Filtered problems counted by method, environment and reason ('kept' for kept), in the order of REASONS.

    `share` is of the problems produced by that method in that environment; NaN for OURS, which are not part of it."""
    rows = pd.DataFrame([(x.method, x.environment, "kept" if x.kept else x.dropped_by) for x in problems],
                        columns=["method", "environment", "dropped_by"])
    rows = rows.astype({"dropped_by": pd.CategoricalDtype(REASONS, ordered=True)})
    out = rows.groupby(["method", "environment", "dropped_by"], observed=True).size().reset_index(name="count")
    theirs = out["count"].where(~out["dropped_by"].isin(OURS))
    out["share"] = theirs / theirs.groupby([out["method"], out["environment"]]).transform("sum")
    return out.astype({"dropped_by": str, "share": float})


YIELDS = ["environment", "seeds", "multi_produced", "multi_kept", "multi_share", "single_produced", "single_kept",
          "single_share", "ratio", "low", "high"]


def yields(problems: list[Problem], resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """The kept share of each method and multi / single (paper, sec. 4.2: more than 4), per environment and for `all`.

    `low` and `high`: 95% percentile bootstrap over seeds, each drawn with the problems of both methods. A resample
    without a ratio (0 / 0) counts as the worst case on either side, so few data give a wide interval, up to inf. No
    interval (NaN) where the ratio is inf (single kept nothing) or NaN (neither did, or one was not run), or with under
    two seeds."""
    rows = pd.DataFrame([(x.environment, x.seed_id, x.method, x.kept) for x in problems if x.dropped_by not in OURS],
                        columns=["environment", "seed_id", "method", "kept"])
    groups = [*rows.groupby("environment"), ("all", rows)] if len(rows) else []
    return pd.DataFrame([_yield(name, part, resamples, np.random.default_rng(seed)) for name, part in groups],
                        columns=YIELDS)


def _yield(name: str, rows: pd.DataFrame, resamples: int, rng: np.random.Generator) -> tuple:
    by_seed = rows.pivot_table(index="seed_id", columns="method", values="kept", aggfunc=["count", "sum"], fill_value=0)
    columns = pd.MultiIndex.from_product([["count", "sum"], ["multi", "single"]])
    counts = by_seed.reindex(columns=columns, fill_value=0).to_numpy(int)               # seeds x 4
    seeds, total, low, high = len(counts), counts.sum(0), np.nan, np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = total[2:] / total[:2]
        ratio = shares[0] / shares[1]
        if np.isfinite(ratio) and seeds > 1:
            drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) @ counts
            ratios = (drawn[:, 2] / drawn[:, 0]) / (drawn[:, 3] / drawn[:, 1])
            low, high = (np.quantile(np.where(np.isnan(ratios), worst, ratios), q, method="inverted_cdf")
                         for worst, q in ((0, 0.025), (np.inf, 0.975)))
    return name, seeds, total[0], total[2], shares[0], total[1], total[3], shares[1], ratio, low, high
