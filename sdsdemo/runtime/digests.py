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

from sdsdemo.runtime.files import State, append, from_json, is_settled, state_of, to_json, whole_lines, write_whole
from sdsdemo.runtime.shapes import shaped

SMALL = 1_000_000
"""Files of up to so many bytes are always read: that takes a millisecond."""
MOST = 5_000
"""Lines of the cache file; a longer one is started afresh."""

Key = tuple[str, State]
"""Resolved path and `state_of`."""


class Digests:
    """Digests of files, cached in memory and, if `kept` names a file, as JSON Lines there. Safe to share."""

    def __init__(self, kept: Path | None = None) -> None:
        self._kept = kept
        self._known: dict[Key, str] | None = None
        self._lock = Lock()

    def of(self, path: Path) -> str:
        """SHA-256 of a file's content, in hexadecimal. Raises `OSError`."""
        before = _key(path)
        if before[1][0] <= SMALL:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        with self._lock:
            found = self._table().get(before)
        return found or self._fresh(path, before)

    def _fresh(self, path: Path, before: Key) -> str:
        began = time.time_ns()
        digest = digest_of([path])
        if _key(path) == before and is_settled(before[1], began):
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
        line = to_json([key[0], *key[1], digest])
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
    return os.path.realpath(path), state_of(path)


def _read(path: Path) -> dict[Key, str]:
    """Digests that an earlier process cached; unreadable lines are ignored."""
    known: dict[Key, str] = {}
    try:
        lines = whole_lines(path)
    except OSError:
        return known
    for line in lines:
        try:
            place, *state, digest = shaped(from_json(line), list[str | int])
            known[str(place), (int(state[0]), int(state[1]), int(state[2]), int(state[3]))] = str(digest)
        except (ValueError, IndexError):
            continue
    return known
