"""The error that a visitor may read.

`UserError` carries one or two sentences that say what is wrong and what to do next. The page shows it as it is, the
shell prints it and exits with 2. Anything else that escapes is our own bug: `ValueError` for a wrong argument in code,
`assert` for a broken promise of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """What the user must change, in words for the user: no path of the server, no class name, no traceback."""


@contextmanager
def calling(path: Path, name: str) -> Iterator[None]:
    """In here a `UserError` says `name` for that path: the page shows no path of the server."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(path), name)) from error
