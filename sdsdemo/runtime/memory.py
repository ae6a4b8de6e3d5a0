"""Gives memory that was freed back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any


def give_back() -> None:
    """Lets the C library return what it keeps of freed memory. Does nothing where it is not glibc.

    glibc keeps freed blocks of up to 32 MB, in an arena for each thread; Pillow's are of 16 MB. Without this, a server
    that has decoded twelve large pictures at once holds two gigabytes that nobody uses.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], Any] | None:
    """`malloc_trim(3)`; None where there is none."""
    try:
        found: Any = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    found.argtypes, found.restype = [ctypes.c_size_t], ctypes.c_int
    return found  # type: ignore[no-any-return]
