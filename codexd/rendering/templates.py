"""Finding and filling templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_PACKAGE = Path(__file__).resolve().parent.parent


def render(name: str, **values: Any) -> str:
    """The template ``name`` filled with ``values``; nothing in them is escaped here."""
    # In a wheel the templates are inside the package, in a checkout beside it.
    environment = Environment(
        loader=FileSystemLoader([_PACKAGE / "templates", _PACKAGE.parent / "templates"]),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(values)


def describe_character(character: str) -> str:
    """A character that cannot be printed, as a message shows it."""
    if 0xDC80 <= ord(character) <= 0xDCFF:
        return "a byte that is not UTF-8"
    return f"the character U+{ord(character):04X}"
