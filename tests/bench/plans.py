"""The prompts of the benches that train: two ways of a step take turns on the same ones."""

import pandas as pd

from kit import curriculum
from kit.core import records
from kit.core.config import Profile
from kit.core.manifest import RECORDED
from kit.core.types import Problem


def turns(settings: Profile, pairs: int) -> tuple[list[Problem], pd.DataFrame]:
    """Recorded problems, and a uniform plan of them in which each step stands twice.

    `pairs`: pairs of steps after a first pair, which is a warm-up.
    """
    problems = [
        p
        for p in records.load_problems(RECORDED / "filtered.parquet")
        if p.kept and p.split == "train"
    ]
    plan = curriculum.plan(
        problems,
        "uniform",
        pairs + 1,
        settings.grpo.prompts_per_step,
        settings.curriculum.environments,
        settings.difficulty.bins,
        0,
        settings.curriculum.sources,
    )
    twice = pd.concat([plan.assign(step=2 * plan.step + k) for k in (0, 1)]).sort_values(
        ["step", "slot"], ignore_index=True
    )
    return problems, twice
