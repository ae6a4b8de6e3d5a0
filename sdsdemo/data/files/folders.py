"""The files of a folder, and the folders below others, whatever links lead to them. Opens no file.

Hidden files are passed over, such as the `._NAME` that macOS writes beside a file, and so are hidden folders.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SPLITS = ("test", "validation", "valid", "val", "dev", "train")
"""Names of a published set's splits, the preferred one for evaluation first."""
OF_A_MAC = "__MACOSX"
"""The folder of a zip file in which macOS keeps the `._NAME` of each file."""


def files_in(folder: Path, pattern: str = "*") -> list[Path]:
    """The files of a folder that match a pattern such as `*.json` or `*/*.parquet`, in order; none without a folder."""
    found = (path for path in folder.glob(pattern) if all(map(_is_shown, path.relative_to(folder).parts)))
    return sorted(path for path in found if path.is_file())


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
            below[:] = sorted(filter(_is_shown, below))
            yield folder, list(filter(_is_shown, files))


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name != OF_A_MAC
