"""The judges of notebooks 04 to 08."""

import json
from collections.abc import Callable
from statistics import mean

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import beta, sem

from kit import schedules
from kit.core import profile
from kit.display.exercises.judge import cases_of, follows, has_begun, judge_cases, numbers_of


def hard_set(chosen: tuple[int, float] | None) -> None:
    """Notebook 04: judge how a learner makes a set of hard problems out of 20,000 attempts.

    True pass rates lie evenly between 0 and 1. Hard is what was solved in 0.1 of its attempts or
    more, up to an edge.

    Args:
        chosen: attempts at each problem, and the edge (0 to 1).
    Source: our choice (paper: 32 attempts, a broad bin up to 0.26).
    """
    found = numbers_of("hard_set", chosen, "(8, 0.26)")
    if not found:
        return
    tried, edge = max(1, round(found[0])), found[1]

    # Each count of right answers is as likely as any other, and leaves a beta distribution.
    solved = np.arange(1, min(tried, 20_000) + 1)
    solved = solved[(solved / tried >= 0.1) & (solved / tried <= edge)]
    hard = 20_000 // tried * len(solved) / (tried + 1)
    wrong = beta.sf(0.4, solved + 1, tried - solved + 1).mean() if len(solved) else 0
    told = f"{hard:.0f} problems are called hard, and {wrong:.1%} of them have a true pass rate "
    told += "above 0.4"
    rules = {
        f"{told}. At most 5% are wanted, or the arm trains on what it is compared with": (
            wrong <= 0.05
        ),
        f"{told}. At least 150 problems are wanted, or the policy learns them by heart": (
            hard >= 150
        ),
    }
    follows("hard_set", rules, f"{told}. ✓")


def weights_at(learner: Callable) -> None:
    """Notebook 04: judge `learner(schedule, step, horizon) -> dict`, the weights at a step.

    Args:
        learner: takes a schedule, a list of (from step, weights) for 40,000 steps that is to be
            scaled to `horizon` steps; gives the weight of each bin. A phase holds from its first
            step on, without transition.
    Source: paper (the schedules and that they are piecewise constant).
    """
    lessons = {
        "'sharp', 0, 40_000": "Step 0 belongs to the first phase",
        "'sharp', 20_000, 40_000": "The last phase that has begun holds",
        "'soft', 8_000, 40_000": "Weights jump from phase to phase, nothing is blended",
        "'sharp', 10, 40": "Break points are for 40,000 steps: at a horizon of 40 they come a "
        "thousand times earlier",
        "'classic', 10, 40": "A phase holds from its first step on, that step included",
        "'sharp', 13, 30": "Break points need not be whole steps: 17,500 of 40,000 is 13.125 of 30",
    }
    # The learner gets the phases, not the name.
    cases = cases_of(schedules.weights, lessons)
    judge_cases(
        "weights_at", learner, [(schedules.SCHEDULES[name], *rest) for name, *rest in cases]
    )


def clipped(learner: Callable) -> None:
    """Notebook 05: judge `learner(ratio, advantage, low, high) -> float`, a token's term.

    Args:
        learner: takes the ratio of new to old probability, the advantage and the two clip widths;
            gives the term that GRPO makes as large as it can.
    Source: our choice (the paper does not state its clip).
    """

    def reference(ratio, advantage, low, high):
        limited = min(max(ratio, 1 - low), 1 + high)
        return min(ratio * advantage, limited * advantage)

    worse = (
        "Of the two products the smaller counts: a step that made things worse is never hidden by "
        "the clip"
    )
    lessons = {
        "1.0, 0.5, 0.2, 0.25": "",
        "1.1, -0.5, 0.2, 0.25": "Inside the limits it is ratio times advantage",
        "1.22, 1.0, 0.2, 0.25": "The upper limit is 1 + high, not 1 + low",
        "1.5, 1.0, 0.2, 0.25": "A good token's gain ends at 1 + high: no reason to push it further",
        "0.5, -1.0, 0.3, 0.25": "A bad token's gain ends at 1 − low",
        "1.5, -1.0, 0.2, 0.25": worse,
        "0.5, 1.0, 0.2, 0.25": worse,
    }
    judge_cases("clipped", learner, cases_of(reference, lessons))


def schedule(phases: list | None) -> pd.DataFrame | None:
    """Notebook 05: judge a schedule of the learner's own.

    The brief: begin with nothing hard, never draw more than half of the prompts from the easy
    ones, spend at least a third of all prompts on medium ones, and let at least half of the last
    phase be hard.

    Args:
        phases: a list of (from step of 100, {"easy", "medium", "hard": weight}).
    Returns:
        A frame for `figures.draw_curriculum` (columns `step`, `bin`, `weight`); None, after a line
        is printed that says why, if the schedule does not fit the brief.
    Source: our choice.
    """
    if not has_begun("schedule", [phases]):
        return None
    try:
        given = [(start / 100, weights) for start, weights in phases or ()]
        table = schedules.schedule_table(json.dumps(given), 100)
    except (TypeError, ValueError) as error:
        print(f"schedule: {error}; a list of (step, {{'easy': ..., 'hard': ...}}) is wanted")
        return None

    # The weights of each phase, which lasts until the next one starts.
    bins = ["easy", "medium", "hard"]
    wide = table.pivot_table("weight", "step", "bin").reindex(columns=bins).fillna(0)
    easy, medium, hard = wide[:-1].to_numpy().T
    prompts = np.diff(wide.index) @ medium
    rules = {
        "nothing hard in the first phase: an untrained policy seldom solves it, so many of its "
        "groups are all wrong, and dead": hard[0] == 0,
        "never more than half easy: what is always solved teaches as little as what never is": (
            max(easy) <= 0.5
        ),
        f"medium gets {prompts:.0f} of 100 prompts, at least 33 are wanted": prompts >= 33,
        "at least half of the last phase is hard": hard[-1] >= 0.5,
    }
    return table if follows("schedule", rules, "fits the brief. ✓") else None


def budget(chosen: tuple[int, int] | None) -> None:
    """Notebook 06: judge how a learner spends 600 answers per checkpoint on 150 problems.

    Args:
        chosen: number of problems, and of samples of each.
    Source: our choice: gains differ between problems by a deviation of 0.2, samples of one problem
        have a variance of 0.15.
    """
    found = numbers_of("budget", chosen, "(30, 20)")
    if not found:
        return
    problems, samples = map(round, found)
    some = min(problems, samples) > 0
    error = ((0.2**2 + 2 * 0.15 / samples) / problems) ** 0.5 if some else 1
    told = (
        f"{problems} problems, samples of each: {samples}. Standard error {error:.3f}, so four of "
    )
    told += f"five such evaluations find a true gain of {2.8 * error:.3f}"
    rules = {
        "at least one problem and one sample": some,
        "there are 150 held-out problems": problems <= 150,
        f"{problems * samples} answers, and you can pay 600": problems * samples <= 600,
        f"{told}. A gain of 0.085 is to be found": 2.8 * error <= 0.085,
    }
    follows("budget", rules, f"{told}. ✓")


def paired_error(learner: Callable) -> None:
    """Notebook 06: judge `learner(before, after) -> (float, float)`, a paired comparison.

    Args:
        learner: takes two lists of scores of the same problems in the same order; gives the mean
            of after minus before, and its standard error: the deviation of the differences over √n.
    Source: our choice.
    """

    def reference(before, after):
        differences = np.subtract(after, before).tolist()
        return mean(differences), float(sem(differences))

    lessons = {
        "[0.0, 0.5, 0.75], [0.25, 0.75, 1.0]": "Every problem moved by the same, so nothing is "
        "uncertain: it is the differences that vary, not the problems",
        "[0.1, 0.5, 0.9, 0.3], [0.2, 0.7, 0.9, 0.4]": "The deviation of the differences, with "
        "n − 1 below it, over the root of n",
        "[0.5, 0.5], [0.0, 0.5]": "After minus before: a loss is negative",
    }
    judge_cases("paired_error", learner, cases_of(reference, lessons))


def verdict(learner: Callable) -> None:
    """Notebook 07: judge `learner(low, high, seeds, problems) -> str`, a verdict.

    Args:
        learner: of the claim that arm a beats arm b, takes the ends of the interval of the
            difference and the numbers of seeds and problems; gives "supported", "contradicted",
            "undecided" or "not tested at this scale".
    Source: our choice.
    """
    from kit.effects import PROBLEMS, SEEDS

    def reference(low, high, seeds, problems):
        if seeds < SEEDS or problems < PROBLEMS:
            return "not tested at this scale"
        return "supported" if low > 0 else "contradicted" if high < 0 else "undecided"

    few = "Too few seeds or problems: not tested, whatever the interval looks like"
    whole = "The whole interval decides, not its middle"
    lessons = {
        "0.05, 0.30, 3, 40": "",
        "-0.02, 0.30, 3, 40": whole,
        "-0.30, -0.05, 3, 40": "The interval is on the other side: the claim is contradicted",
        "0.05, 0.30, 2, 40": few,
        "-0.30, 0.05, 3, 29": few,
        "0.05, 0.30, 8, 30": "30 problems are enough",
        "-0.30, 0.02, 3, 40": whole,
    }
    judge_cases("verdict", learner, cases_of(reference, lessons))


def _curves(**arms):
    """The values of `dead` by arm, apart by spaces, as rows: arm, step, dead."""
    return pd.DataFrame(
        [(arm, *row) for arm, line in arms.items() for row in enumerate(map(float, line.split()))],
        columns=["arm", "step", "dead"],
    )


def collapses_first(learner: Callable) -> None:
    """Notebook 07: judge `learner(curves) -> str`, which arm of a study collapses first.

    Args:
        learner: takes a frame with the columns `arm`, `step` and `dead` (share of groups without a
            signal, 0 to 1); gives the arm that collapses first: from some step on its `dead` never
            falls below 0.9 again.
    Source: our choice.
    """
    cases = [
        (
            _curves(late="0.2 0.3 0.4 0.5 0.9 1", early="0.9 1 0.9 0.95 0.9 1"),
            "early",
            "One arm is dead from the first step on, the other at the end",
        ),
        (
            _curves(dying="0.8 0.8 0.8 0.9 0.95 0.95", shaken="0.9 0.9 0.9 0.9 0 0"),
            "dying",
            "One arm touches 0.9 and comes back: that is bad luck with the draw, no collapse",
        ),
        (
            _curves(high="0.8 0.8 0.8 0.8 0.8 0.95", sudden="0 0 0 0.9 0.9 0.9"),
            "sudden",
            "The arm with the highest mean collapses later than the other",
        ),
        (
            _curves(back="0.9 0.95 0 0 0 0.95", steady="0 0 0 0.9 0.95 0.95"),
            "steady",
            "An arm that came back collapses only after its last return",
        ),
    ]
    judge_cases("collapses_first", learner, cases)


def arm(line: dict | None) -> None:
    """Notebook 07: judge an arm of the learner's own: can it be read, and does it change one thing?

    Args:
        line: a line of arms.yaml as a dictionary. It must differ in one thing from `uniform` there.
    Source: our choice.
    """
    from kit.arms import Arm, load_arms

    if not has_begun("arm", [line]):
        return
    try:
        arm = Arm.model_validate(line)
        schedules.phases(arm.schedule or "uniform", 1)
    except ValueError as error:
        print(f"arm: {error}\nan arm has {', '.join(Arm.model_fields)}")
        return

    # What an arm does not say is the profile's.
    study = profile.load_profile("study")

    def values(one):
        own = one.model_dump(include={"set", "share", "reward", "advantage"})
        own["bins"] = one.bins or study.difficulty.bins
        return one.curriculum(study).model_dump() | own

    known = {name: values(other) for name, other in load_arms().items()}
    own = values(arm)
    changed = [key for key in own if own[key] != known["uniform"][key]]
    twins = [name for name in known if known[name] == own]
    rules = {
        "it is the arm uniform once more: change one thing": changed,
        f"it differs from uniform in {' and '.join(changed)}: whatever comes out, nobody can say "
        "which of them did it": len(changed) < 2,
        f"kit/arms.yaml has this one already: {', '.join(twins[:1])}": not twins,
    }
    praise = (
        f"one change against uniform, {', '.join(changed)}. ✓ Write it into a file, mine.yaml, "
        "and try `python -m kit study --profile mini-study --arms-file mine.yaml --dry`"
    )
    follows("arm", rules, praise)


def segments(chosen: int | None) -> None:
    """Notebook 08: judge into how many segments a learner cuts a training of 300 steps.

    New problems are half solved by the policy of their first step, and each further step makes them
    easier by 0.02 logits. A group of eight rollouts that are all right or all wrong is dead.

    Args:
        chosen: number of segments.
    Source: our choice.
    """
    found = numbers_of("segments", chosen, "3")
    if not found:
        return
    count = min(max(1, round(found[0])), 300)
    rates = expit(0.02 * (np.arange(300) % (300 / count)))
    dead = np.mean(rates**8 + (1 - rates) ** 8)
    minutes = 60 + 10 * (count - 1)
    told = f"segments: {count}, dead groups: {dead:.0%}, minutes: {minutes}"
    rules = {
        f"{told}. At most 10% dead groups are wanted: ask the policy again sooner": dead <= 0.1,
        f"{told}. You can pay 120: while the teacher writes, the training waits": minutes <= 120,
    }
    follows("segments", rules, f"{told}. ✓")
