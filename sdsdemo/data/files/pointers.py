"""Data files that were cloned without Git LFS: told as such, whatever their reader would have made of them."""

from __future__ import annotations

from pathlib import Path

from sdsdemo.errors import UserError
from sdsdemo.runtime.lfs import POINTER, START, is_pointer


def check_content(content: bytes, name: str) -> None:
    """Raises `UserError` for a Git LFS pointer. name: what the file is called."""
    if is_pointer(content):
        raise UserError(f"{POINTER.format(file=name)}.")


def check_file(path: Path) -> None:
    """As `check_content`, of a file of which only the start is read; one that cannot be read is left to its reader."""
    try:
        with path.open("rb") as file:
            check_content(file.read(len(START)), path.name)
    except OSError:
        return
