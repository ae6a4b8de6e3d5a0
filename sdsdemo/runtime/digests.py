"""The SHA-256 of a file's content, computed once while the file is unchanged. Knows nothing of what is in a file.

A large file counts as unchanged if its path, size, inode, modification time and change time (which neither a copy nor
`touch -d` can reset) are the same. A file written within the last seconds could be written again within the same clock
tick, so its digest is not cached ("racy git").
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from sdsdemo.runtime.files import append, from_json, to_json, whole_lines, write_whole
from sdsdemo.runtime.shapes import shaped

SMALL = 1_000_000
"""Files of up to so many bytes are always read: that takes a millisecond."""
YOUNG = 3.0
"""Seconds after a change during which a digest is not cached."""
MOST = 5_000
"""Lines of the cache file; a longer one is started afresh."""

Key = tuple[str, int, int, int, int]
"""Path, size, nanoseconds of the last change of content and of entry, inode."""


class Digests:
    """Digests of files, cached in memory and, if `kept` names a file, as JSON Lines there. Safe to share."""

    def __init__(self, kept: Path | None = None) -> None:
        self._kept = kept
        self._known: dict[Key, str] | None = None
        self._lock = Lock()

    def of(self, path: Path) -> str:
        """SHA-256 of a file's content, in hexadecimal. Raises `OSError`."""
        before = _key(path)
        if before[1] <= SMALL:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        with self._lock:
            found = self._table().get(before)
        return found or self._fresh(path, before)

    def _fresh(self, path: Path, before: Key) -> str:
        began = time.time()
        digest = digest_of([path])
        if _key(path) == before and began - max(before[2], before[3]) / 1e9 > YOUNG:
            with self._lock:
                self._table()[before] = digest
                self._write(before, digest)
        return digest

    def _table(self) -> dict[Key, str]:
        if self._known is None:
            self._known = {} if self._kept is None else _read(self._kept)
        return self._known

    def _write(self, key: Key, digest: str) -> None:
        """A cache that cannot be written costs time, nothing else."""
        if self._kept is None:
            return
        line = to_json([*key, digest])
        try:
            if len(self._table()) > MOST:
                self._known = {key: digest}
                write_whole(self._kept, f"{line}\n")
            else:
                self._kept.parent.mkdir(parents=True, exist_ok=True)
                append(self._kept, [line])
        except OSError:
            pass


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 over the content of files, one after the other. Raises `OSError`."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def digest_of_json(value: object) -> str:
    """SHA-256 of JSON content, whatever its whitespace and key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _key(path: Path) -> Key:
    found = path.stat()
    return os.path.realpath(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _read(path: Path) -> dict[Key, str]:
    """Digests that an earlier process cached; unreadable lines are ignored."""
    known: dict[Key, str] = {}
    try:
        lines = whole_lines(path)
    except OSError:
        return known
    for line in lines:
        try:
            *key, digest = shaped(from_json(line), list[str | int])
            known[str(key[0]), int(key[1]), int(key[2]), int(key[3]), int(key[4])] = str(digest)
        except (ValueError, IndexError):
            continue
    return known
