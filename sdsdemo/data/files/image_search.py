"""Which files may be meant by a name: pictures anywhere below some folders, by every trailing part of their paths.

Opens none. Links to folders are followed, and each folder is listed once, whatever leads to it.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sdsdemo.data.files.folders import folders_below
from sdsdemo.data.files.names import alike

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2")
"""Of every image format that is read."""
SUFFIXES = (*IMAGE_SUFFIXES, ".npy")
"""Of every kind of file that is read as a picture of a benchmark, where some are stored as arrays."""


def pictures_below(roots: Sequence[Path]) -> Iterator[str]:
    """The path of every picture below some folders."""
    for folder, names in folders_below(*roots):
        pictures = (name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES)
        yield from (os.path.normpath(os.path.join(folder, name)) for name in pictures)


def tails(names: Iterable[str]) -> dict[str, list[str]]:
    """Every trailing part of a path, and the paths that end in it."""
    found: dict[str, list[str]] = {}
    for name in names:
        for tail in ends(alike(name.replace(os.sep, "/")).split("/")):
            found.setdefault(tail, []).append(name)
    return found


def ends(parts: Sequence[str]) -> Iterator[str]:
    """The whole path, then without its first folder, and so on."""
    yield from ("/".join(parts[start:]) for start in range(len(parts)))


def the_one(paths: Sequence[str]) -> str | None:
    """The one file that all these paths lead to, if it is one."""
    return paths[0] if paths and (len(paths) == 1 or len(set(map(os.path.realpath, paths))) == 1) else None


def stem_of(name: str) -> tuple[str, str]:
    """A name without the suffix of a picture, and that suffix; "" for another one."""
    stem, suffix = posixpath.splitext(name)
    return (stem, suffix) if suffix.lower() in SUFFIXES else (name, "")


class Claims:
    """How many names could mean the same file, if their first folders were dropped."""

    def __init__(self, names: Iterable[Sequence[str]], *, any_suffix: bool) -> None:
        """names: their parts; any_suffix: whether x.jpg may be meant by x.png."""
        self._any_suffix = any_suffix
        self._tails = Counter(alike(tail) for parts in names for tail in ends(parts))
        self._stems: Counter[str] = Counter()
        for tail, count in self._tails.items():
            self._stems[stem_of(tail)[0]] += count

    def on(self, tail: str) -> int:
        """How many names may mean a file that ends this way. One without suffix may mean a file of any."""
        stem, suffix = stem_of(alike(tail))
        return self._stems[stem] if self._any_suffix or not suffix else self._tails[stem + suffix] + self._tails[stem]
