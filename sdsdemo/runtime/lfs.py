"""Git LFS pointers: the few lines that a clone without LFS has in place of a large file."""

from __future__ import annotations

START = b"version https://git-lfs."
POINTER = "{file} is a Git LFS pointer in place of the file itself: run `git lfs pull` where it was cloned"
"""The beginning of a sentence."""


def is_pointer(content: bytes) -> bool:
    """Whether a file that begins so is a pointer."""
    return content.startswith(START)
