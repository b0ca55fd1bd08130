"""Procedural maths of reasoning-gym: exact answers, fresh questions for every seed."""

import re
import warnings
from functools import partial
from itertools import chain, zip_longest

from kit.core.programs import last_tag
from kit.core.prompts import prompt
from kit.core.types import Item, Reason, Rejected, Verdict

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

# In the miniature: so many digits.
SUMS = {
    "chain_sum": tuple(
        {"min_terms": terms, "max_terms": terms, "max_digits": 1} for terms in (2, 3, 4)
    )
}

MATHS_LEVELS = ("easy", "medium", "hard")


def in_turn(queues: list[list]) -> list:
    """The first of each queue, then the second of each, and so on; short ones end early."""
    return [*filter(None, chain.from_iterable(zip_longest(*queues)))]


def procedural_items(n: int, seed: int = 0, sums: bool = False) -> list[Item]:
    """Distinct questions of the kinds and levels in MATHS, or of SUMS without zeros, in turn.

    Args:
        n: so many.
        seed: the same seed gives the same questions, another seed gives others.
        sums: ask nothing but sums of digits.
    Returns:
        The items; `data` has question and answer.
    Source: our choice.
    """
    with warnings.catch_warnings():
        # One of its dependencies warns.
        warnings.simplefilter("ignore", SyntaxWarning)
        import reasoning_gym

    queues = []
    kinds = SUMS if sums else MATHS
    for kind, levels in kinds.items():
        for level, settings in zip(MATHS_LEVELS, levels, strict=True):
            # Question k of a data set is made from seed + k: keep the seeds far apart.
            made = reasoning_gym.create_dataset(
                kind, size=n // len(kinds) + 20, seed=1_000_003 * (seed + 1), **settings
            )
            answers = {entry["question"]: entry["answer"] for entry in made}
            if sums:
                # The small policy knows the digits from 1.
                answers = {asked: told for asked, told in answers.items() if "0" not in asked}
            queues.append([(kind, level, *both) for both in answers.items()])
    return [
        Item(
            f"maths/{kind}/{level}/{seed}/{number}",
            "maths",
            level,
            prompt("evaluate_maths", question=question),
            partial(_grade_maths, answer),
            {"question": question, "answer": answer, "text": question},
            lenient=partial(last_number_is_right, answer),
        )
        for number, (kind, level, question, answer) in enumerate(in_turn(queues)[:n])
    ]


def _grade_maths(answer, completions, box=None):
    """Right iff the numbers in the last <answer> are the expected ones; nothing is computed."""
    verdicts = []
    for completion in completions:
        try:
            verdict = Verdict.of(_numbers(last_tag(completion)) == _numbers(answer))
        except Rejected as error:
            verdict = Verdict("failed", error.reason)
        verdicts.append(verdict)
    return verdicts


# A number, or a product of such. Each part is read once, so it takes linear time on any text.
_WHOLE = r"(?:(?<!\w)[+-])?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?"
_LAST = re.compile(rf"{_WHOLE}(?:\s*[×*·]\s*{_WHOLE})*")


def last_number_is_right(answer: str, completion: str) -> bool:
    """Whether the last number of a text, or the last product, is the expected one.

    Marks do not matter, nor where the text was cut off: a number on the way counts if it is last.

    Args:
        answer: the expected one.
        completion: what a model wrote, as it came.
    Returns:
        Whether they are equal, as in the strict grading.
    Source: our choice.
    """
    text = completion.replace("\N{MINUS SIGN}", "-").replace(r"\times", "×")
    found = _LAST.findall(text)
    try:
        return bool(found) and _numbers(found[-1]) == _numbers(answer)
    except Rejected:
        return False


def _numbers(text):
    """`2 × 3 × 2` -> [2, 2, 3]; `k = -1,200.0` -> [-1200]. Raises Rejected for anything else.

    More lenient than reasoning-gym, which wants the very text: marks of thousands, `k =`, `*`, `.0`
    (our choice).
    """
    value = re.sub(r"^[a-z]\s*=\s*", "", text.strip()).replace("\N{MINUS SIGN}", "-")
    factors = [factor.strip() for factor in re.split("[×*·]", value)]
    whole = r"[+-]?([0-9]{1,30}|[0-9]{1,3}(,[0-9]{3}){1,9})(\.0+)?"
    if not all(re.fullmatch(whole, factor) for factor in factors):
        raise Rejected(Reason.NO_ANSWER, "not a whole number or a product of such")
    return sorted(int(factor.replace(",", "").partition(".")[0]) for factor in factors)
