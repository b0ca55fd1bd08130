"""A profile holds every number of a run, in one commented YAML file of `kit/profiles/`.

Each value there is marked `# paper` or `# our choice`. Unknown keys and numbers that YAML reads as
text are refused.
"""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kit.core.config import Profile
from kit.core.types import clean

FOLDER = Path(__file__).parents[1] / "profiles"


class ProfileError(ValueError):
    """A profile or an override is wrong; the message names the key and the fix."""


class _Loader(yaml.SafeLoader):
    """YAML without repeated keys."""

    def construct_mapping(self, node, deep=False):
        keys = [str(key.value) for key, _ in node.value]
        if len(keys) > len({*keys}):
            raise yaml.YAMLError(f"one of the keys {', '.join(keys)} stands there twice")
        return super().construct_mapping(node, deep)


def profile_names() -> list[str]:
    """The profiles of the kit, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_profile(name: str, overrides: dict[str, Any] | None = None) -> Profile:
    """The profile of that name, with overrides.

    Args:
        name: a file of kit/profiles without its ending, or the path of a YAML file.
        overrides: value by dotted key, such as `{"rounds.turns": 2}`; None is skipped.
    Returns:
        The profile, checked.
    Raises:
        ProfileError: every wrong key, in one message.
    Source: our choice.
    """
    path, values = read_profile(name)
    for key, value in (overrides or {}).items():
        if value is not None:
            for part in reversed(key.split(".")):
                value = {part: value}
            values = _merged(values, value)
    try:
        return Profile.model_validate(clean(values))
    except RecursionError:
        raise ProfileError(f"{path.name}: a value is nested too deeply, or holds itself") from None
    except ValidationError as error:
        raise ProfileError("\n".join([f"{path.name}:", *map(_explain, error.errors())])) from None


def read_profile(name: str, above: tuple = ()) -> tuple[Path, dict]:
    """Path and values of a file, not checked yet.

    With `base: NAME` the values are those of that profile, except where the file says otherwise;
    `above` are the files that named this one so.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ProfileError(
            f"no profile {name!r}; there are {', '.join(profile_names())}, or give the path of a "
            ".yaml file"
        ) from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ProfileError(f"{path.name} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ProfileError(
            f"{path.name} should be a mapping of keys to values; "
            "copy kit/profiles/cpu.yaml and edit it"
        )
    if base := values.pop("base", ""):
        if not isinstance(base, str) or path in above:
            raise ProfileError(f"{path.name}: base: name another profile, which leads not back")
        values = _merged(read_profile(base, (*above, path))[1], values)
    return path, values


def _merged(old, new):
    """Two nested mappings as one; `new` counts where both have a value."""
    merged = dict(old)
    for key, value in new.items():
        nested = isinstance(value, dict) and isinstance(old.get(key), dict)
        merged[key] = _merged(old[key], value) if nested else value
    return merged


def _explain(error: ErrorDetails) -> str:
    """One line for one wrong key: where it is, what is wrong, what to do."""
    *front, last = map(str, error["loc"])
    where = ".".join([*front, last])
    got = error["input"]
    match error["type"]:
        case "extra_forbidden":
            # Only sections refuse unknown keys: go down to the one that did.
            section: Any = Profile
            for key in front:
                section = section.model_fields[key].annotation
            known = list(section.model_fields)
            near = difflib.get_close_matches(last, known, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            return f"  {where}: unknown key{meant}; known here: {', '.join(known)}"
        case "value_error":
            # A rule over several keys begins with the key to change.
            return f"  {where}.{error['msg'].removeprefix('Value error, ')}"
        case "float_type" | "int_type" if isinstance(got, str):
            return (
                f"  {where}: {got!r} is text to YAML, a number is needed: "
                "write 1.0e-6 rather than 1e-6, and no quotes"
            )
        case _:
            return f"  {where}: {error['msg']} (got {repr(got):.200})"
