"""How long files have been unused, whatever becomes of the computer's clock. Deletes nothing.

A clock may be set back, or years ahead, while files carry the times of the clock before. It is believed once, when a
process first looks; from then on an age grows by a clock that nobody sets.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path


class Ages:
    """Ages of files that are looked at in rounds."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._seen: dict[Path, tuple[float, float]] = {}
        """When a file said that it was changed, and when that was by the steady clock."""
        self._last = -math.inf
        """The round before, by the steady clock."""

    def of(self, changed: Mapping[Path, float]) -> dict[Path, float]:
        """Seconds since each change. changed: of all files, when they say they were changed.

        What has changed since the round before is no older than that round; what says that it was changed in the future
        was changed now.
        """
        now, wall = self._steady(), self._wall()
        seen = {}
        for path, when in changed.items():
            known = self._seen.get(path)
            fresh = max(min(now, now - (wall - when)), self._last)
            seen[path] = known if known is not None and known[0] == when else (when, fresh)
        self._seen, self._last = seen, now
        return {path: now - at for path, (_, at) in seen.items()}
