"""What a stage tells while it works: a progress bar, and a warning as soon as something is wrong.

The runner of a headless notebook names a file in the environment. Bars and warnings are lines of it
then, which the runner shows in its terminal (kit/commands/live.py).
"""

import contextlib
import json
import os
import sys
import time
from typing import Any

import pandas as pd
import tqdm.auto

from kit.core.run import headless

# The variable that names the file.
TELLS = "KIT_TELLS"

# When a stage warns (our choice). Share of answers that engine or sandbox lost, and the fewest.
LOST_SHARE = 0.05
LOST_LEAST = 3
# Share of groups whose rewards are all equal, in so many last steps of a training.
DEAD_SHARE = 0.9
DEAD_STEPS = 10
# Share of malformed answers in the last steps, and how many times that of the first ones it is.
MALFORMED_SHARE = 0.2
MALFORMED_RISE = 2
MALFORMED_STEPS = 5


def progress(**options):
    """A tqdm bar: a widget for a person.

    Where papermill executes it is plain text, so that the saved page shows how it ended, and it
    moves the line in the runner's terminal.

    Args:
        options: of tqdm, such as `iterable`, `total` and `desc`.
    Returns:
        The bar.
    Source: our choice.
    """
    if not headless():
        return tqdm.auto.tqdm(**options)
    return _ToldBar(file=sys.stdout, mininterval=0.5, miniters=1, **options)


def warn_at_once(text: str) -> None:
    """Print a warning where the stage prints, and in the runner's terminal.

    Args:
        text: what is wrong, and what to do.
    Source: our choice.
    """
    # A bar may stand in the last line.
    print(f"\nwarning: {text}", flush=True)
    _tell(warning=text)


def _tell(**line):
    """Write a line for the runner, if there is one."""
    path = os.environ.get(TELLS)
    if not path:
        return
    # A full disk ends a stage where its records are written, not here.
    with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:
        file.write(f"{json.dumps(line)}\n")


class _ToldBar(tqdm.std.tqdm):
    """A plain bar that tells its state whenever it is drawn; only how it ended is printed."""

    def display(self, msg=None, pos=None):
        state = self.format_dict
        names = "n total initial prefix postfix unit rate".split()
        began = time.time() - state["elapsed"]
        _tell(bar={name: state[name] for name in names} | {"started": began})
        if pos is not None:
            super().display(msg, pos)

    def close(self):
        if not self.disable:
            super().close()
            _tell(bar=None)


class Watch:
    """Warns at once, and only once, of each thing that goes wrong in a stage.

    Source: our choice.
    """

    def __init__(self):
        self.told: set[str] = set()
        # Answers that were lost, and all; shares by step.
        self.lost = 0
        self.answers = 0
        self.dead: list[float] = []
        self.malformed: list[float] = []

    def count(self, lost: int, of: int) -> None:
        """Counts answers, and those that our own infrastructure lost.

        Args:
            lost: how many of them.
            of: the answers that were asked for.
        Source: our choice.
        """
        self.lost += lost
        self.answers += of
        if self.lost >= LOST_LEAST and self.lost > LOST_SHARE * self.answers:
            self._once(
                "lost",
                f"engine or sandbox lost {self.lost} of {self.answers} answers; they are in "
                "no pass rate: look into the logs",
            )

    def step(self, rows: list[dict[str, Any]]) -> None:
        """Looks at all answers of a training's step.

        Args:
            rows: of `rollouts.rollout_rows`.
        Source: our choice.
        """
        answers = pd.DataFrame(rows, columns=["slot", "reward", "malformed"])
        self.count(int(answers.reward.isna().sum()), len(rows))
        self.dead.append((answers.groupby("slot").reward.nunique() < 2).mean())
        self.malformed.append(answers[answers.reward.notna()].malformed.mean())
        # At the last steps, and at how the first ones were.
        dead = pd.Series(self.dead[-DEAD_STEPS:]).mean()
        if len(self.dead) >= DEAD_STEPS and dead >= DEAD_SHARE:
            self._once(
                "dead",
                f"{dead:.0%} of the groups of the last {DEAD_STEPS} steps have equal rewards: the "
                "training learns nothing from them; problems of medium difficulty or larger "
                "groups help",
            )
        before = pd.Series(self.malformed[:MALFORMED_STEPS]).mean()
        now = pd.Series(self.malformed[-MALFORMED_STEPS:]).mean()
        rose = now >= MALFORMED_SHARE and now > MALFORMED_RISE * before
        if rose and len(self.malformed) >= 2 * MALFORMED_STEPS:
            self._once(
                "malformed",
                f"the form collapses: {now:.0%} of the last answers are malformed, "
                f"{before:.0%} of the first ones; a lower learning rate helps",
            )

    def _once(self, kind, text):
        if kind not in self.told:
            self.told.add(kind)
            warn_at_once(text)
