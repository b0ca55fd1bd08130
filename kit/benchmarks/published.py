"""The published sets that a profile asks for."""

from kit.core.config import EvaluationConfig
from kit.core.types import Item


def published_items(numbers: EvaluationConfig, seed: int = 0) -> tuple[list[Item], dict[str, str]]:
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
    from kit.benchmarks import Unavailable, livecodebench, published_maths

    found, skipped = [], {}
    for name in (*livecodebench.CONTEST_WINDOWS, *published_maths.SOURCES):
        contest = name in livecodebench.CONTEST_WINDOWS
        draw = livecodebench.contest_items if contest else published_maths.published_maths_items
        wanted = getattr(numbers, name)
        if not wanted:
            skipped[name] = "the profile asks for none of its problems"
            continue
        try:
            found += draw(name, wanted, seed, numbers.folder)
        except Unavailable as error:
            skipped[name] = str(error)
    return found, skipped
