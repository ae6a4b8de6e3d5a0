"""The error that a visitor may read.

`UserError` carries one or two sentences that say what is wrong and what to do next. The page shows it as it is, the
shell prints it and exits with 2. Anything else that escapes is our own bug: `ValueError` for a wrong argument in code,
`assert` for a broken promise of ours.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

ENDLESS = re.compile(r"(\d{12})\d{36,}|([^\s/\\]{40})[^\s/\\]{216,}?(?=\W{0,3}(?:[\s/\\]|$))")
"""A number of 48 digits or more, and a run of characters that is longer than any name of a file may be."""
REQUIRED = ("PIL", "diffusers", "filelock", "gradio", "open_clip", "torch")
"""Packages of which a Python that was not set up lacks one."""
MOST_BITS = 1_000
"""Of a whole number beyond which Python may refuse to write it out."""


class UserError(Exception):
    """What the user must change, in words for the user: no path of the server, no class name, no traceback.

    Of a value that is quoted and has no end, the beginning is shown.
    """

    def __init__(self, sentence: str = "") -> None:
        super().__init__(ENDLESS.sub(r"\1\2…", sentence))


class ProcessFailedError(UserError):
    """One process of several cannot go on: it must end, so that the launcher ends the others, which wait for it."""


def quoted(value: object) -> str:
    """A value as a sentence can hold it, whatever it is."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return "a number of many digits"
    if isinstance(value, float):
        return f"{value:g}"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # it holds such a number, or too much of anything
        return f"a {type(value).__name__} that cannot be written out"
    return text if len(text) <= 60 else f"{text[:60]}…"


def no_package_words(error: ModuleNotFoundError) -> str:
    """What to do in a Python without the packages; empty in one that has them, where a missing module is a bug."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "sdsdemo") or all(find_spec(name) for name in REQUIRED):
        return ""
    return (
        f"{sys.executable} has no package {package}: run `make run` once, which installs all of them, and then write "
        ".venv/bin/python instead of python."
    )


@contextmanager
def calling(path: Path, name: str) -> Iterator[None]:
    """In here a `UserError` says `name` for that path: the page shows no path of the server."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(path), name)) from error
