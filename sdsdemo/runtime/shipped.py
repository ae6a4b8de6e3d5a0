"""JSON files that come with the project or from one of our commands: each is validated when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdsdemo.errors import UserError
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped

DAMAGED = "{name} is damaged ({why}): restore it from the repository, or write it again with its command."


def shipped(path: Path, shape: Any) -> Any:
    """What a file holds, checked against a shape (see `runtime/shapes.py`).

    Raises `UserError` that names the file and the first mismatch.
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
