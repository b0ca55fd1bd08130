"""Which TRL the kit's trainer was compared with; asked before hours are spent on problems."""

from importlib.metadata import version

from kit.core.manifest import RunError

# Those whose trainer `kit.prefix` knows: a test compares the two for the installed one.
TRL_VERSIONS = ("1.16.0",)


def check_trainer() -> None:
    """Refuse a TRL that the kit does not know.

    Raises:
        RunError: TRL has another version than those of TRL_VERSIONS.
    Source: our choice.
    """
    if version("trl") not in TRL_VERSIONS:
        raise RunError(
            f"TRL {version('trl')} is installed, but the kit's trainer was compared with TRL "
            f"{' and '.join(TRL_VERSIONS)} alone: install that one (constraints.txt names it)"
        )
