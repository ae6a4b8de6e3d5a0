"""JSON files that come with the project or from one of our commands: each is validated when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdsdemo.errors import UserError
from sdsdemo.runtime.files import from_json, whole_lines
from sdsdemo.runtime.shapes import shaped

DAMAGED = "{name} is damaged ({why}): restore it from the repository, or write it again with its command."
UNREADABLE = "{name} cannot be read ({why}): check the file."


def shipped(path: Path, shape: Any) -> Any:
    """What a file holds, checked against a shape (see `runtime/shapes.py`).

    Raises `UserError` that names the file and the first mismatch.
    """
    try:
        return shaped(from_json(path.read_bytes()), shape)
    except OSError as error:
        raise UserError(UNREADABLE.format(name=path.name, why=error.strerror)) from error
    except ValueError as error:
        raise UserError(DAMAGED.format(name=path.name, why=error)) from error


def shipped_lines(path: Path, shape: Any) -> list[Any]:
    """The lines of a JSON Lines file, each checked against a shape; none if there is no file.

    An unfinished last line is left out, as whoever wrote it was killed. NaN may be in them. Raises `UserError` for a
    file that cannot be read, and for any other line that is damaged, with its number and the first mismatch.
    """
    try:
        lines = whole_lines(path)
    except OSError as error:
        raise UserError(UNREADABLE.format(name=path.name, why=error.strerror)) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(shaped(from_json(line, allow_nan=True), shape))
        except ValueError as error:
            raise UserError(DAMAGED.format(name=f"Line {number} of {path.name}", why=error)) from error
    return rows
