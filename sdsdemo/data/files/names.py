"""Finding a file by a name that is written a little differently: accents in one or two characters, the suffix's case.

macOS writes "é" as two characters (NFD), most tables as one (NFC); cameras write .JPG where tables say .jpg. A name
that is there as it is written is taken first; another one only where it alone is like it.
"""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path


def alike(name: str) -> str:
    """Equal for names that differ in nothing but NFC or NFD and the case of the suffix."""
    stem, suffix = posixpath.splitext(unicodedata.normalize("NFC", name))
    return stem + suffix.lower()


class Names:
    """Names among which others are looked for, such as those of a zip file."""

    def __init__(self, names: Iterable[str]) -> None:
        self._there = frozenset(names)
        self._like: dict[str, list[str]] = {}
        for name in sorted(self._there):
            self._like.setdefault(alike(name), []).append(name)

    def find(self, name: str) -> str | None:
        """The name as it is there; None where it is not, or where two are like it."""
        if name in self._there:
            return name
        found = self._like.get(alike(name), [])
        return found[0] if len(found) == 1 else None


class FilesBelow:
    """Files below a folder. Each folder is listed once, when a name is not there as it is written."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._in = lru_cache(maxsize=None)(self._listed)

    def find(self, name: str) -> str | None:
        """The path, relative to the root and with /, of the file or folder of this relative name; None for none."""
        if os.path.exists(os.path.join(self._root, name)):
            return name
        found = ""
        for part in name.split("/"):
            there = self._in(found).find(part)
            if there is None:
                return None
            found = posixpath.join(found, there)
        return found

    def _listed(self, folder: str) -> Names:
        try:
            return Names(os.listdir(os.path.join(self._root, folder)))
        except OSError:
            return Names(())
