"""Git LFS pointers: the few lines that a clone without LFS has instead of a large file."""

from __future__ import annotations

START = b"version https://git-lfs."
POINTER = "{file} is a Git LFS pointer instead of the file itself: run `git lfs pull` where it was cloned"
"""The start of a sentence."""


def is_pointer(content: bytes) -> bool:
    """Whether a file with this beginning is a pointer."""
    return content.startswith(START)
