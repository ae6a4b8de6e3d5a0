"""The folders below others, whatever links lead to them. Opens no file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def folders_below(*roots: Path) -> Iterator[tuple[str, list[str]]]:
    """Each of these folders and every folder below, once, with the names of its files. Follows links."""
    seen: set[str] = set()
    for root in roots:
        for folder, below, files in os.walk(root, followlinks=True):
            place = os.path.realpath(folder)
            if place in seen:
                below.clear()
                continue
            seen.add(place)
            below.sort()
            yield folder, files
