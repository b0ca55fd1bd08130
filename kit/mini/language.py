"""The language of the miniature: functions of one list of digits, one step a line.

A function is drawn with its inputs, so that its steps can be looked at on them: each step changes
the first list, and no list grows long. What is drawn here is a draft like any model's: the kit's
own path verifies it.
"""

import random
import re
from ast import literal_eval
from collections.abc import Callable
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

from kit.core.types import Problem, SeedSnippet, digest

# What a step makes of xs, what undoes it (any list that it turns into xs will do), its values of K,
# and what in a snippet of code suggests it.
_KINDS = (
    ("xs[::-1]", "xs[::-1]", "0", "revers|::-1|last"),
    ("sorted(xs)", "xs", "0", "sort|order|min"),
    ("sorted(xs, reverse=True)", "xs", "0", "sort|order|max"),
    ("xs[1:]", "xs[:1] + xs", "0", r"\[1:|pop|next|first"),
    ("xs[:-1]", "xs + xs[-1:]", "0", r":-1\]|strip|end|last"),
    ("xs[1:] + xs[:1]", "xs[-1:] + xs[:-1]", "0", "shift|rotat|move|swap|while "),
    ("xs + xs[:2]", "xs[:-2]", "0", r"append|extend|\+="),
    ("xs[::2]", "[x for x in xs for _ in 'ab']", "0", "range|step|slice|::"),
    ("list(dict.fromkeys(xs))", "xs", "0", r"dict|set\(|unique|seen|key"),
    ("xs + [len(xs)]", "xs[:-1]", "0", r"len\(|count|size"),
    (
        "[sum(xs[:i + 1]) for i in range(len(xs))]",
        "[b - a for a, b in zip([0] + xs, xs)]",
        "0",
        "sum|total|result|accum",
    ),
    ("[x + K for x in xs]", "[x - K for x in xs]", "12345", r" \+ |for |add|insert"),
    ("[x * K for x in xs]", "[x // K for x in xs]", "23", r" \*+ |mul|scale"),
    ("[abs(x - K) for x in xs]", "[x + K for x in xs]", "2345", r"abs| - |match |diff|dist"),
    ("[x for x in xs if x % 2 == K]", "xs", "01", r" % | == |if |odd|even"),
    ("[x for x in xs if x > K]", "xs", "2345", r" >=? | <=? |if |filter"),
)

# Each step of the language, and what undoes it.
SMALL_STEPS = {
    step.replace("K", k): undo.replace("K", k) for step, undo, values, _ in _KINDS for k in values
}

# Lists are no longer, and numbers no larger (our choice: short answers).
_LONGEST = 8
_LARGEST = 99

# Of what stands for real data: the shares of numbers of steps, and how inputs are made.
_REAL_DEPTHS = {1: 0.55, 2: 0.2, 3: 0.1, 4: 0.05, 5: 0.05, 6: 0.05}
_GENERATOR = """def generate_inputs(rng):
    return {'xs': [rng.randrange(10) for _ in range(rng.randint(3, 6))]}"""

# Of fuzzing: the precondition, and what is measured of the result.
_PRE_TEST = (
    f"def pre_test_f(xs):\n    return type(xs) is list and len(xs) <= {_LONGEST} and "
    f"all((type(x) is int and 0 <= x <= {_LARGEST} for x in xs))"
)
_MEASURES: dict[str, Callable] = {"len": len, "sum": sum, "max": max}

# Out of domain: steps that strings of digits know too, and sums.
_STRING_STEPS = ("xs[::-1]", "xs[1:]", "xs[:-1]", "xs[1:] + xs[:1]", "xs + xs[:2]", "xs[::2]")
_SUM = "State the final answer to the following arithmetic problem: {} ="


@cache
def _compiled(expression):
    return compile(expression, "step", "eval")


def apply_steps(steps: list[str], xs: Any) -> list:
    """The lists that steps of ours make of a list, one after the other; or the strings of one."""
    lists = []
    for step in steps:
        xs = eval(_compiled(step), {"xs": xs})
        lists.append(xs)
    return lists


def program_of(steps: list[str]) -> str:
    """The function f of some steps, in the kit's normal form."""
    return "\n".join(["def f(xs):", *(f"    xs = {step}" for step in steps), "    return xs"])


def steps_of(code: str) -> list[str]:
    """The steps of our language that stand in a code, in order."""
    return [step for step in re.findall(r"^\s*xs = (.+)$", code, re.M) if step in SMALL_STEPS]


def suggested_steps(snippet: str) -> list[str]:
    """The steps that a snippet of code suggests, each the more often the more does (at most 4)."""
    steps = []
    for step, _, values, words in _KINDS:
        often = min(4, len(re.findall(words, snippet)))
        steps += [step.replace("K", k) for k in values] * often
    return steps


def draw_input(rng: random.Random) -> list[int]:
    """A list of three to six digits."""
    return [rng.randrange(10) for _ in range(rng.randint(3, 6))]


def fits(steps: list[str], inputs: list[list[int]]) -> bool:
    """Whether each step changes the first input's list, and all lists stay short and small."""
    for number, xs in enumerate(inputs):
        before = xs
        for after in apply_steps(steps, xs):
            if not (1 <= len(after) <= _LONGEST and max(after) <= _LARGEST):
                return False
            if number == 0 and after == before:
                return False
            before = after
    return True


def draw_function(
    rng: random.Random, depth: int, count: int, atoms: list[str], begun: list[str]
) -> tuple[list[str], list[list[int]]]:
    """A function of `depth` steps and `count` inputs: `begun`, others of `atoms` at random places.

    Where nothing fits, it is shorter.
    """
    best: tuple[list[str], list[list[int]]] = ([], [])
    for _ in range(20):
        inputs = [draw_input(rng) for _ in range(count)]
        steps = begun
        while len(steps) < depth:
            place = rng.randint(0, len(steps))
            longer = (
                [*steps[:place], atom, *steps[place:]] for atom in rng.sample(atoms, len(atoms))
            )
            found = next((found for found in longer if fits(found, inputs)), None)
            if found is None:
                break
            steps = found
        if len(steps) == depth:
            return steps, inputs
        if len(steps) > max(len(best[0]), len(begun)):
            best = steps, inputs
    return best


def draw_problem(rng: random.Random, environment: str, steps: list[str], inputs: list) -> Problem:
    """A problem about a function: its inputs, for induction a hint, for fuzzing a test.

    The test says which length, sum or maximum the result never has: that of the first input.
    """
    facts: dict[str, Any] = {}
    if environment == "induction":
        facts["message"] = f"number of steps: {len(steps)}"
    if environment == "fuzzing":
        name = rng.choice([*_MEASURES])
        value = _MEASURES[name](apply_steps(steps, inputs[0])[-1])
        measured = "max(f(xs), default=0)" if name == "max" else f"{name}(f(xs))"
        test = f"def test_f(xs):\n    return {measured} != {value}"
        facts |= {"pre_test": _PRE_TEST, "test": test}
    return Problem(
        environment=environment,
        program=program_of(steps),
        inputs=[repr(xs) for xs in inputs],
        outputs=[repr(apply_steps(steps, xs)[-1]) for xs in inputs],
        **facts,
    )


def draw_string_problem(rng: random.Random, depth: int) -> Problem:
    """A deduction problem about a string of digits, with steps that lists know too."""
    while True:
        text = "".join(map(str, draw_input(rng)))
        steps = rng.choices(_STRING_STEPS, k=depth)
        texts = [text, *apply_steps(steps, text)]
        changed = all(a != b for a, b in pairwise(texts))
        if changed and all(1 <= len(text) <= _LONGEST for text in texts):
            return draw_problem(rng, "deduction", steps, [text])


def draw_sum(rng: random.Random, terms: int) -> tuple[str, str]:
    """A question of reasoning-gym's kind `chain_sum` with digits, and its worked answer."""
    digits = [rng.randint(1, 9) for _ in range(terms)]
    signed = [digits[0], *(rng.choice((-1, 1)) * digit for digit in digits[1:])]
    text = " ".join([str(digits[0]), *(f"{'+-'[x < 0]} {abs(x)}" for x in signed[1:])])
    *way, last = list(accumulate(signed))[1:]
    return _SUM.format(text), "\n".join([*map(str, way), f"<answer>{last}</answer>"])


def drawn_functions(n: int, seed: int = 0) -> list[SeedSnippet]:
    """Functions that stand for real data in the miniature: most are easy, a few very hard.

    They are drawn without feedback from any student, which is what the paper says of real sets.

    Args:
        n: how many different ones.
        seed: number of the draw; the first ones of a larger draw are those of a smaller one.
    Returns:
        Functions `main_solution` with a generator of inputs, as those of CodeI/O are.
    Source: our choice.
    """
    rng = random.Random(f"functions {seed}")
    found: dict[str, SeedSnippet] = {}
    while len(found) < n:
        (depth,) = rng.choices([*_REAL_DEPTHS], [*_REAL_DEPTHS.values()])
        steps, _ = draw_function(rng, depth, 3, [*SMALL_STEPS], [])
        text = program_of(steps).replace("def f", "def main_solution")
        snippet = SeedSnippet(
            id=digest(text),
            text=text,
            source="real",
            origin=f"miniature:{len(found)}",
            task=f"number of steps: {len(steps)}",
            generator=_GENERATOR,
        )
        found.setdefault(text, snippet)
    return [*found.values()]


def worked_answer(problem: Problem) -> str:
    """A right answer with its way to it: the list after each step; backwards to an input."""
    if problem.environment == "induction":
        return problem.program
    steps = steps_of(problem.program)
    xs = literal_eval(problem.inputs[0])
    lists = apply_steps(steps, xs)
    if problem.environment in ("abduction", "fuzzing"):
        # Undo step by step; where that leads elsewhere, the way of the problem's own input.
        output = lists[-1]
        undone = apply_steps([SMALL_STEPS[step] for step in reversed(steps)], output)
        back = undone[-1]
        valid = 1 <= len(back) <= _LONGEST and all(0 <= x <= _LARGEST for x in back)
        right = valid and apply_steps(steps, back)[-1] == output
        lists = undone if right else [xs, *lists[:-1]][::-1]
        # In fuzzing the output is part of the answer's way: the test leaves it open.
        if problem.environment == "fuzzing":
            lists.insert(0, output)
    *way, last = lists
    return "\n".join([*map(repr, way), f"<answer>{last!r}</answer>"])
