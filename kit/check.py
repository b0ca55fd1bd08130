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


def collapses_first(learner: Callable) -> None:
    """`learner(curves) -> str`: of a frame (arm, step, dead: share of groups without a signal), the arm that collapses first: from some step
    on `dead` never falls below 0.9 again."""
    import pandas as pd

    def curves(**arms):
        return pd.DataFrame([(arm, step, x) for arm, line in arms.items() for step, x in enumerate(line)], columns=["arm", "step", "dead"])
    cases = (("one arm dies in the middle, the other at the end", curves(late=[.2, .3, .4, .5, .9, 1], early=[.2, .5, .9, .95, .9, 1]), "early"),
             ("one arm touches 0.9 and comes back: that is bad luck with the draw, no collapse",
              curves(shaken=[.2, .95, .3, .2, .3, .4], dying=[.1, .2, .3, .9, .95, .95]), "dying"),
             ("the arm with the highest mean collapses later than the other",
              curves(high=[.8, .8, .8, .8, .8, .95], sudden=[0, 0, 0, .9, .9, .9]), "sudden"))
    for what, frame, right in cases:
        try:
            got = learner(frame)
        except Exception as e:
            print(f"collapses_first: your function raised {type(e).__name__}: {e}")
            return
        if got is None or got is ...:
            print("collapses_first: not begun yet. Replace the `...` and run the cell again.")
            return
        if got != right:
            print(f"collapses_first: {what}. Expected {right}, your function gives {got}",
                  frame.pivot(index="arm", columns="step", values="dead"), sep="\n")
            return
    print(f"collapses_first: right on {len(cases)} cases. ✓")


def schedule(phases: list | None):
    """[(from step of 100, {easy, medium, hard: weight})] -> a frame for `plots.curriculum`, or None and what is wrong with it.

    The brief: begin with nothing hard, never draw more than half of the prompts from the easy ones, spend at least a third of all prompts
    on medium ones, and let at least half of the last phase be hard."""
    import pandas as pd
    if not phases or phases is ...:
        return print("schedule: not begun yet. Replace the `...` and run the cell again.")
    try:
        starts = [float(start) for start, _ in phases]
        weights = [{b: float(w.get(b, 0)) for b in ("easy", "medium", "hard")} for _, w in phases]
    except (TypeError, ValueError, AttributeError):
        return print("schedule: a list of (step, {'easy': ..., 'medium': ..., 'hard': ...}) is wanted")
    lengths = [b - a for a, b in zip(starts, [*starts[1:], 100.0], strict=True)]
    medium = sum(n * w["medium"] for n, w in zip(lengths, weights))
    rules = {"the first phase begins at step 0": starts[0] == 0, "phases come in order, all before step 100": min(lengths) > 0,
             "the weights of a phase add up to 1": all(abs(sum(w.values()) - 1) < 1e-6 for w in weights),
             "no weight is below 0": min(min(w.values()) for w in weights) >= 0,
             "nothing hard in the first phase: an untrained policy solves none of it, and such groups are dead": not weights[0]["hard"],
             "never more than half easy: what is always solved teaches as little as what never is": max(w["easy"] for w in weights) <= 0.5,
             f"medium gets {medium:.0f} of 100 prompts, at least 33 are wanted": medium >= 33,
             "at least half of the last phase is hard": weights[-1]["hard"] >= 0.5}
    wrong = next((rule for rule, kept in rules.items() if not kept), "")
    if wrong:
        return print(f"schedule: {wrong}")
    print("schedule: fits the brief. ✓")
    points = [*zip(starts, weights, strict=True), (100.0, weights[-1])]
    return pd.DataFrame([(step, b, x) for step, w in points for b, x in w.items()], columns=["step", "bin", "weight"])
