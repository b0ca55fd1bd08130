"""Judges for the exercises: each takes the learner's function and says what it does wrong, never more than one thing at a time.

An exercise that is not begun (the function returns None or `...`) prints a line and passes, so headless runs go through.
"""
from collections.abc import Callable


def _judge(name: str, learner: Callable, cases: list[tuple], expected: Callable, same=lambda a, b: a == b) -> bool:
    for args in cases:
        try:
            got = learner(*args)
        except Exception as e:
            print(f"{name}{args}: your function raised {type(e).__name__}: {e}")
            return False
        if got is None or got is ...:
            print(f"{name}: not begun yet. Replace the `...` and run the cell again.")
            return False
        if not same(got, want := expected(*args)):
            print(f"{name}{args}: expected {want}, your function gives {got}")
            return False
    print(f"{name}: right on {len(cases)} cases. ✓")
    return True


def adapt(learner: Callable) -> None:
    """`learner(p) -> "harder" | "easier" | "vary"` by the paper's rule and our choice in between."""
    from kit import profile
    from kit.rounds import adapt as ours
    rule = profile.load("cpu").rounds
    _judge("adapt", learner, [(1.0,), (0.66,), (0.65,), (0.3,), (0.0,)], lambda p: ours(p, rule))


def advantages(learner: Callable) -> None:
    """`learner(rewards) -> list[float]`: reward less the group's mean."""
    from kit.grpo import advantages as ours
    cases = [([1, 0, 0, 1],), ([1, 1, 1, 1],), ([0, 0, 0],), ([1, 0],)]
    _judge("advantages", learner, cases, ours, lambda a, b: len(a) == len(b) and all(abs(x - y) < 1e-9 for x, y in zip(a, b)))


def pass_at_k(learner: Callable) -> None:
    """`learner(n, c, k) -> float`: probability that k of n samples, c of them right, hold a right one."""
    from kit.evaluation import pass_at_k as ours
    _judge("pass_at_k", learner, [(10, 3, 1), (10, 3, 5), (10, 0, 5), (10, 8, 5), (4, 4, 4)], ours, lambda a, b: abs(a - b) < 1e-9)


def bin_of(learner: Callable) -> None:
    """`learner(p) -> str`: the broad bin of a pass rate, "none" outside all of them."""
    from kit.difficulty import bin_of as ours
    _judge("bin_of", learner, [(0.9,), (0.7,), (0.5,), (0.2,), (0.05,), (1.0,)],
                  lambda p: ours(p, "broad") or "none")
