"""Finds a file whose name is spelled a little differently: composed or decomposed accents, the case of the suffix.

macOS writes "é" as two characters (NFD), most tables as one (NFC); cameras write .JPG where tables have .jpg. A name
that exists as written is taken first; another one only if it is the only match.
"""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path


def alike(name: str) -> str:
    """A key that is equal for names that differ only in NFC or NFD and the case of the suffix."""
    stem, suffix = posixpath.splitext(unicodedata.normalize("NFC", name))
    return stem + suffix.lower()


class Names:
    """Names to search, such as those in a zip file."""

    def __init__(self, names: Iterable[str]) -> None:
        self._there = frozenset(names)
        self._like: dict[str, list[str]] = {}
        for name in sorted(self._there):
            self._like.setdefault(alike(name), []).append(name)

    def find(self, name: str) -> str | None:
        """The name as it exists; None if there is none, or two that match."""
        if name in self._there:
            return name
        found = self._like.get(alike(name), [])
        return found[0] if len(found) == 1 else None


class FilesBelow:
    """The files below a folder. Each folder is listed once, the first time a name does not exist as written."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._in = lru_cache(maxsize=None)(self._listed)

    def find(self, name: str) -> str | None:
        """The path, relative to the root and with /, of the file or folder with this relative name, or None."""
        if os.path.exists(os.path.join(self._root, name)):
            return name
        found = ""
        for part in name.split("/"):
            there = self._in(found).find(part)
            if there is None:
                return None
            found = posixpath.join(found, there)
        return found

    def named(self, folder: str, name: str) -> str | None:
        """What this name is called in a folder whose path exists, or None."""
        return self._in(folder).find(name)

    def _listed(self, folder: str) -> Names:
        try:
            return Names(os.listdir(os.path.join(self._root, folder)))
        except OSError:
            return Names(())
