"""What stands around a figure in the report and the gallery: the question, and how to read it.

What was found, and n, stand in its title.
"""

from pathlib import Path

import yaml

_FILE = Path(__file__).with_suffix(".yaml")
CAPTIONS = yaml.safe_load(_FILE.read_text(encoding="utf-8"))


def order(file: Path) -> tuple[str, int, str]:
    """Sorts files of figures: by notebook, then as in CAPTIONS, unknown ones last."""
    name = file.stem
    return name[:2], [*CAPTIONS, name].index(name), name


def caption(name: str) -> tuple[str, str]:
    """The question and how to read the figure; an unknown figure asks its name."""
    return CAPTIONS.get(name, (name, ""))
