"""The four environments: the names in kit.profile, each a file here with a class of that name. A fifth is one file and one line there."""

import importlib
from typing import get_args

from kit.environments.base import (
    Environment,
    InfrastructureError,
    Reason,
    Rejected,
    Verdict,
    grade_all,
)
from kit.profile import EnvironmentName, Rounds

KINDS: dict[str, type[Environment]] = {
    name: getattr(importlib.import_module(f"{__name__}.{name}"), name.title())
    for name in get_args(EnvironmentName)
}


def make(rounds: Rounds) -> dict[str, Environment]:
    """Every environment by name, with a profile's form of the ask, number of pairs, of visible pairs, and abduction's equality."""
    return {
        name: kind(rounds.form, rounds.inputs, rounds.visible, rounds.equality)
        for name, kind in KINDS.items()
    }


__all__ = [
    "KINDS",
    "Environment",
    "InfrastructureError",
    "Reason",
    "Rejected",
    "Verdict",
    "grade_all",
    "make",
]
