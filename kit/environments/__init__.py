"""The four environments: each name in kit.core.config is a file here with a class of that name.

A fifth one is one more file, and its name in kit.core.config.
"""

import importlib
from typing import get_args

from kit.core.config import EnvironmentName, RoundsConfig
from kit.environments.base import Environment

KINDS: dict[str, type[Environment]] = {
    name: getattr(importlib.import_module(f"{__name__}.{name}"), name.title())
    for name in get_args(EnvironmentName)
}


def make(rounds: RoundsConfig) -> dict[str, Environment]:
    """Every environment, with the settings of a profile.

    Args:
        rounds: the profile's section: form of the dialogue, pairs, visible pairs, equality.
    Returns:
        Environments by name.
    Source: paper (the four environments).
    """
    settings = (rounds.form, rounds.inputs, rounds.visible, rounds.equality)
    return {name: kind(*settings) for name, kind in KINDS.items()}
