"""Data files cloned without Git LFS: reported as such, whatever their reader would have made of them."""

from __future__ import annotations

from pathlib import Path

from sdsdemo.errors import UserError
from sdsdemo.runtime.lfs import POINTER, START, is_pointer


def check_content(content: bytes, name: str) -> None:
    """Raises `UserError` for a Git LFS pointer. name: how to call the file in the message."""
    if is_pointer(content):
        raise UserError(f"{POINTER.format(file=name)}.")


def check_file(path: Path) -> None:
    """Like `check_content`, reading only the start of a file; an unreadable file is left to its reader."""
    try:
        with path.open("rb") as file:
            check_content(file.read(len(START)), path.name)
    except OSError:
        return
