"""Which problems are kept, and why the others are not. Every problem stays in the record.

Paper: invalid, redundant and never solved problems go, and so do those outside 0.01 < p < 0.97.
How redundancy and contamination are judged is our choice: by the text of programs (`Twins`), and by
what they return on the same inputs (`behaviour`).
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd
from datasketch import MinHash, MinHashLSH

from kit.core.config import FiltersConfig
from kit.core.programs import program_tokens
from kit.core.types import Problem, digest
from kit.environments import KINDS
from kit.sandbox import Job, Sandbox, arguments, canonical

# Our infrastructure's fault: in no share.
INFRASTRUCTURE = ("error", "ungraded")
REASONS = (*INFRASTRUCTURE, "invalid", "duplicate", "contaminated", "unsolved", "too easy", "kept")
# Our choices: tokens per shingle; permutations of MinHash; different values that a behaviour needs
# to identify a program.
SHINGLE = 5
PERMUTATIONS = 128
TELLING = 3


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


def _signature(text):
    """The types of an input's arguments."""
    return tuple(type(argument).__name__ for argument in arguments(text))


def behaviour(
    problems: list[Problem],
    probes: int,
    references: dict[str, str],
    box: Sandbox,
    base: Iterable[Problem] = (),
) -> Behaviour:
    """Run every valid problem's program, and every reference, on inputs of the problems themselves.

    Programs are compared within one signature, the types of an input's arguments. No hash: what is
    lost or stopped (machines differ in speed), or returns fewer than TELLING different values.

    Args:
        problems: before the filters.
        probes: inputs per signature, the same for each program.
        references: programs with a function f, by name (`humaneval/HumanEval/0`).
        box: runs the programs.
        base: earlier problems, to take the same inputs as for these; else those of `problems`.
    Returns:
        The hashes, for `apply`.
    Source: our choice.
    """
    valid = {problem.id: problem for problem in problems if problem.status == "valid"}

    # The common inputs of each signature, drawn by their hash from those of all its problems.
    pools: dict[tuple, set[str]] = defaultdict(set)
    for problem in [x for x in base if x.status == "valid"] or valid.values():
        own = _signature(problem.inputs[0])
        pools[own].update(text for text in problem.inputs if _signature(text) == own)
    chosen = {own: sorted(pool, key=digest)[:probes] for own, pool in pools.items()}

    # (name, code, functions to call, signature).
    programs = [
        (name, *KINDS[problem.environment]().probe(problem), _signature(problem.inputs[0]))
        for name, problem in valid.items()
        if _signature(problem.inputs[0]) in chosen
    ]
    programs += [(name, code, ("f",), own) for name, code in references.items() for own in chosen]
    jobs = (
        Job(code, tuple((name, arguments(text)) for text in chosen[own] for name in functions))
        for _, code, functions, own in programs
    )
    of: dict[str, str] = {}
    known: dict[str, str] = {}
    for (name, _, functions, own), result in zip(programs, box.map(jobs)):
        try:
            returned = {canonical(value) for kind, value in result.values if kind == "ok"}
            everything = canonical(list(result.values))
        except ValueError:
            continue  # nested too deeply
        if result.status != "ok" or len(returned) < TELLING:
            continue
        # The "ok" keeps the hashes of recorded problems.
        hashed = digest(own, functions, "ok", everything)
        if name in valid:
            of[name] = hashed
        else:
            known[hashed] = min(name, known.get(hashed, name))
    return Behaviour(of, known)


def apply(
    problems: list[Problem],
    filters: FiltersConfig,
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
    # The name of the evaluation set by run of n words.
    n = filters.contamination_ngram
    grams = {gram: name for name, texts in evaluation.items() for gram in _ngrams(texts, n)}
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


def _dropped_by(problem, filters, grams, behaviour, twins):
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
        for other in sorted(self.index.query(sketch)):
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
    found = program_tokens(f"{x.program}\n{x.pre_test}\n{x.test}")
    starts = range(max(1, len(found) - SHINGLE + 1))
    return {" ".join(found[start : start + SHINGLE]) for start in starts}


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
        grams = {*_ngrams(texts, n)}
        left = {p.id for p in train if not grams.isdisjoint(_ngrams([_text(p)], n))}
        # The filter's reason names the set first, either way.
        prefixes = (f"{name}:", f"returns the same as {name}/")
        found = sum(problem.reason.startswith(prefixes) for problem in dropped)
        rows.append((name, len(texts), found, len(left)))
    return pd.DataFrame(rows, columns="set texts dropped left".split())


def _text(x):
    """What is compared with the evaluation sets."""
    return f"{x.message}\n{x.program}\n{x.pre_test}\n{x.test}"


def _ngrams(texts, n):
    """Runs of n words, lower case: letters, digits, underscores; a shorter text has none."""
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        yield from (tuple(words[start : start + n]) for start in range(len(words) - n + 1))
