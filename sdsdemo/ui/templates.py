"""The page's HTML: templates in `ui/templates`, escaped as they are filled, and scripts in `ui/scripts`.

A template is a file of macros, and a macro is a view or a part of one. Views prepare plain values in Python, formatted
and chosen; macros place them. Between two tags, a line's end and the spaces after it are no text.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = Path(__file__).with_name("scripts")


class _TagsTouch(Extension):
    """Puts the line's end between two tags into a comment: no space is seen there, and lines keep their numbers."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        return re.sub(r"(?<=[>}])\n[ \t]*(?=[<{])", "{#\n#}", source)


def render(name: str, /, **values: Any) -> Markup:
    """A view as HTML. name: `file.macro`; values: what the macro takes, of which it may lack nothing.

    What it returns is a `str` that another template places as it is. Every other text is escaped.
    """
    file, _, macro = name.partition(".")
    made: Markup = getattr(environment().get_template(f"{file}.html").module, macro)(**values)
    return made


@cache
def script(name: str) -> str:
    """A script of the page, by the name of its file without the ending."""
    return (SCRIPTS / f"{name}.js").read_text(encoding="utf-8")


def script_with(name: str, /, *values: Any) -> str:
    """A script that is a function, whose first arguments are these; the page's event gives the others."""
    return f"({script(name)}).bind(null, {', '.join(map(json.dumps, values))})"


def script_element(name: str) -> Markup:
    """A script of the page as an element of its head."""
    return render("page.script", source=Markup(script(name)))


@cache
def environment() -> Environment:
    """Templates that escape, and that refuse a value that is not there."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=[_TagsTouch],
    )
    made.filters["prose_parts"] = prose_parts
    return made


def prose_parts(sentence: str) -> list[tuple[bool, list[tuple[bool, str]]]]:
    """The pieces of a sentence: whether each stood between backticks, and its own pieces: whether each is a flag."""
    pieces = re.split(r"`([^`]+)`", sentence)
    return [(k % 2 == 1, _flags(piece)) for k, piece in enumerate(pieces) if piece]


def _flags(text: str) -> list[tuple[bool, str]]:
    """A text in pieces, and which of them are options of the command line."""
    pieces = re.split(r"((?<![\w-])--[\w-]+)", text)
    return [(k % 2 == 1, piece) for k, piece in enumerate(pieces) if piece]
