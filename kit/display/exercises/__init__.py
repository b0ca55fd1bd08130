"""Judges of the exercises: each takes the learner's function and says what it does wrong.

A judge says one thing at a time: the first case that fails, with the sentence that puts it right.
The cases are chosen so that the usual mistakes fail. An exercise that is not begun (it returns None
or `...`) prints a line and passes, so that a headless run goes through. No judge raises.
"""

# What notebooks call; nothing here is used in this file.
# ruff: noqa: F401
from kit.display.exercises.problems import (
    advantages,
    enough_attempts,
    limits,
    logic,
    mean_fall,
    picks,
    sides,
    similarity,
    summary,
)
from kit.display.exercises.training import (
    arm,
    budget,
    clipped,
    collapses_first,
    hard_set,
    paired_error,
    schedule,
    segments,
    verdict,
    weights_at,
)
