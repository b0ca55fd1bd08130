"""What a stage tells while it works: a progress bar, and a warning as soon as something is wrong.

The runner of a headless notebook names a file in the environment. Bars and warnings are lines of it
then, which the runner shows in its terminal (kit/commands/live.py).
"""

import contextlib
import json
import os
import sys
import time
from collections import defaultdict
from typing import Any

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
    return _ToldBar(file=sys.stdout, mininterval=10, **options)


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
    """A plain bar that tells its state whenever that has changed, and when it ends."""

    def __init__(self, **options):
        super().__init__(**options)
        self.started = time.time()
        self.told = None
        self._say()

    def update(self, n=1):
        shown = super().update(n)
        self._say()
        return shown

    def set_postfix(self, *counts, **options):
        super().set_postfix(*counts, **options)
        self._say()

    def close(self):
        if not self.disable:
            _tell(bar=None)
        super().close()

    def _say(self):
        if self.told == (self.n, self.postfix):
            return
        self.told = self.n, self.postfix
        state = self.format_dict
        names = ("n", "total", "initial", "prefix", "postfix", "unit", "rate")
        _tell(bar={name: state[name] for name in names} | {"started": self.started})


class Watch:
    """Warns at once, and only once, of each thing that goes wrong in a stage.

    Source: our choice.
    """

    def __init__(self):
        self.told: set[str] = set()
        # A pair (how many, of how many): of the answers; of the groups and the answers by step.
        self.lost: list[tuple[int, int]] = []
        self.dead: list[tuple[int, int]] = []
        self.malformed: list[tuple[int, int]] = []

    def count(self, lost: int, of: int) -> None:
        """Counts answers, and those that our own infrastructure lost.

        Args:
            lost: how many of them.
            of: the answers that were asked for.
        Source: our choice.
        """
        self.lost.append((lost, of))
        errors, answers, share = _shares(self.lost)
        if errors >= LOST_LEAST and share > LOST_SHARE:
            self._once(
                "lost",
                f"engine or sandbox lost {errors} of {answers} answers ({share:.0%}); they are in "
                "no pass rate: look into the logs",
            )

    def step(self, rows: list[dict[str, Any]]) -> None:
        """Looks at all answers of a training's step.

        Args:
            rows: of `rollouts.rollout_rows`.
        Source: our choice.
        """
        groups = defaultdict(set)
        for row in rows:
            groups[row["slot"]].add(row["reward"])
        dead = sum(len(rewards - {None}) < 2 for rewards in groups.values())
        self.dead.append((dead, len(groups)))
        graded = [row["malformed"] for row in rows if row["reward"] is not None]
        self.malformed.append((sum(graded), len(graded)))
        self.count(sum(row["reward"] is None for row in rows), len(rows))
        self._look()

    def _look(self):
        """At the last steps, and at how the first ones were."""
        dead, groups, share = _shares(self.dead[-DEAD_STEPS:])
        if len(self.dead) >= DEAD_STEPS and share >= DEAD_SHARE:
            self._once(
                "dead",
                f"{dead} of the last {groups} groups have equal rewards: the training learns "
                "nothing from them; problems of medium difficulty or larger groups help",
            )
        *_, before = _shares(self.malformed[:MALFORMED_STEPS])
        bad, answers, now = _shares(self.malformed[-MALFORMED_STEPS:])
        late = len(self.malformed) >= 2 * MALFORMED_STEPS
        if late and now >= MALFORMED_SHARE and now > MALFORMED_RISE * before:
            self._once(
                "malformed",
                f"the form collapses: {bad} of the last {answers} answers are malformed "
                f"({now:.0%}; {before:.0%} in the first steps); a lower learning rate helps",
            )

    def _once(self, kind, text):
        if kind not in self.told:
            self.told.add(kind)
            warn_at_once(text)


def _shares(pairs):
    """(how many, of how many, the share) of all pairs together."""
    some, every = (sum(column) for column in zip(*pairs, strict=True))
    return some, every, some / every if every else 0.0
