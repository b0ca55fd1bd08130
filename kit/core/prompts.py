"""Prompts as messages: the templates of kit/environments/prompts, filled in."""

import re
from pathlib import Path

import jinja2

from kit.core.types import digest

Messages = list[dict]

_prompts = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "environments" / "prompts"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def prompt(name: str, **values) -> Messages:
    """Render `prompts/<name>.md` as chat messages.

    A line `<!-- system -->`, `<!-- user -->` or `<!-- assistant -->` begins a message of that role.
    """
    rendered = _prompts.get_template(f"{name}.md").render(**values)
    # The split gives what stands before the first mark, and then roles and contents in turn.
    parts = re.split(r"^<!-- (system|user|assistant) -->\n", rendered, flags=re.M)
    return [
        {"role": role, "content": content.strip()}
        for role, content in zip(parts[1::2], parts[2::2])
    ]


def prompt_hash(messages: Messages) -> str:
    """Names a prompt in a problem's record: which of the kit's texts the teacher was given."""
    return digest(messages)
