"""JSON files that come with the project, or that a command of ours left: each checked as data when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdsdemo.errors import UserError
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped

DAMAGED = "{name} is damaged ({why}): put it back as it was, from the repository or by the command that wrote it."


def shipped(path: Path, shape: Any) -> Any:
    """What a file holds, checked against a shape (see `runtime/shapes.py`).

    Raises `UserError` that names the file and the first place that does not fit.
    """
    try:
        return shaped(from_json(path.read_bytes()), shape)
    except OSError as error:
        raise UserError(f"{path.name} cannot be read ({error.strerror}): check the file.") from error
    except ValueError as error:
        raise UserError(DAMAGED.format(name=path.name, why=error)) from error


def shipped_lines(path: Path, shape: Any) -> list[Any]:
    """The lines of a JSON Lines file, each checked against a shape. A line that was cut off is left out.

    NaN may be in them. Raises `UserError` that names the line and the first place that does not fit.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = from_json(line, allow_nan=True)
        except ValueError:
            continue
        try:
            rows.append(shaped(row, shape))
        except ValueError as error:
            raise UserError(DAMAGED.format(name=f"Line {number} of {path.name}", why=error)) from error
    return rows
