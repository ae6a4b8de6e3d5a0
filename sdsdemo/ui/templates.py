"""The page's HTML: autoescaping templates in `ui/templates`, and scripts in `ui/scripts`.

A template is a file of macros; a macro is a view or part of one. Python selects and formats plain values, and macros
place them. A newline between two tags, with the spaces after it, adds no text.
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

from sdsdemo.evaluation.model_marks import mark_of
from sdsdemo.ui.documents import is_document
from sdsdemo.ui.glossary import gloss

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = Path(__file__).with_name("scripts")


class _TagsTouch(Extension):
    """Puts a newline between two tags into a comment, so that it adds no space and line numbers stay the same."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        return re.sub(r"(?<=[>}])\n[ \t]*(?=[<{])", "{#\n#}", source)


def render(name: str, /, **values: Any) -> Markup:
    """A view as HTML. name: `file.macro`; values: the macro's arguments, all of them.

    Other templates insert the returned `str` as it is; all other text is escaped.
    """
    file, _, macro = name.partition(".")
    made: Markup = getattr(environment().get_template(f"{file}.html").module, macro)(**values)
    return made


@cache
def script(name: str) -> str:
    """A script of the page, by its file name without the extension."""
    return (SCRIPTS / f"{name}.js").read_text(encoding="utf-8")


def script_with(name: str, /, *values: Any) -> str:
    """A script that is a function, with its first arguments bound; the page's event supplies the rest."""
    return f"({script(name)}).bind(null, {', '.join(map(json.dumps, values))})"


def script_element(name: str) -> Markup:
    """A script as an element of the page's head."""
    return render("page.script", source=Markup(script(name)))


@cache
def environment() -> Environment:
    """Templates that escape text and reject missing values."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=[_TagsTouch],
    )
    made.filters |= {"prose_parts": prose_parts, "mark": mark_of, "gloss": gloss, "is_document": is_document}
    return made


def prose_parts(sentence: str) -> list[tuple[bool, list[tuple[bool, str]]]]:
    """A sentence split into (was it between backticks, its parts); a part is (is it a command-line option, text)."""
    pieces = re.split(r"`([^`]+)`", sentence)
    return [(k % 2 == 1, _flags(piece)) for k, piece in enumerate(pieces) if piece]


def _flags(text: str) -> list[tuple[bool, str]]:
    """A text split into (is it a command-line option, text)."""
    pieces = re.split(r"((?<![\w-])--[\w-]+)", text)
    return [(k % 2 == 1, piece) for k, piece in enumerate(pieces) if piece]
