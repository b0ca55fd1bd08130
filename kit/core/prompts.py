"""Prompts as messages: the templates of kit/environments/prompts, filled in."""

import re
from functools import cache
from pathlib import Path

import jinja2

from kit.core.types import clean

Messages = list[dict]

_loader = jinja2.FileSystemLoader(Path(__file__).parents[1] / "environments" / "prompts")

_prompts = jinja2.Environment(
    loader=_loader, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
)

_template = cache(_prompts.from_string)


def prompt(name: str, **values) -> Messages:
    """Render `prompts/<name>.md` as chat messages.

    In the file a line `<!-- system -->`, `<!-- user -->` or `<!-- assistant -->` begins a message
    of that role. The messages are told apart before the values come in, so no value, whatever a
    model wrote, begins one (tests/test_prompts.py).
    """
    source = _loader.get_source(_prompts, f"{name}.md")[0]
    # The split gives what stands before the first mark, and then roles and contents in turn.
    parts = re.split(r"^<!-- (system|user|assistant) -->\n", source, flags=re.M)
    return [
        {"role": role, "content": clean(_template(content).render(**values)).strip()}
        for role, content in zip(parts[1::2], parts[2::2])
    ]
