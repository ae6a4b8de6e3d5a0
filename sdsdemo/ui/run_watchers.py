"""Who watches fine-tuning runs on the page: how many may, and how often each is told something.

A watcher is told of every change, which costs the server up to 15 ms; each also keeps a stream open. So the more watch,
the more rarely each is told, and where too many do, the one that has watched longest ends: it may be a forgotten tab.
Lives in the server's event loop: a watcher takes none of its threads while it waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sdsdemo.settings import FINETUNING

LEAST_PAUSE = 0.5
"""Seconds between two looks at a run; the page is never updated more often."""
TOLD_IN_ALL = 20.0
"""Watchers told something in a second, all together."""
SILENCE = 10.0
"""Seconds after which a watcher is told that nothing changed. Gradio learns only then that a tab has been closed."""
OF_OWNER = 4
"""Pages on which a run's owner may watch it at once."""
ENDING = 50
"""Watchers that are about to end, beside those that may watch."""


def at_most_watching() -> int:
    """How many places watchers need in the line of requests: none of them waits there for one that is about to end."""
    return FINETUNING.page_watchers + ENDING


class Watcher:
    """A page that shows a run. holder: who may have a few: the run's owner, or else an address."""

    def __init__(self, watchers: Watchers, holder: str) -> None:
        self.holder = holder
        self._end = asyncio.Event()
        self._watchers = watchers
        self._told_at = watchers.clock()

    def is_due(self, is_news: bool) -> bool:
        """Whether to tell it something now: news, or after a long silence that there are none."""
        now = self._watchers.clock()
        if not is_news and now - self._told_at < SILENCE:
            return False
        self._told_at = now
        return True

    async def rest(self) -> None:
        """Until its next look, or until it has to end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._end.wait(), self._watchers.pause)

    @property
    def has_ended(self) -> bool:
        """Whether its place is another's now."""
        return self._end.is_set()

    def end(self) -> None:
        """Its next look is the last, and comes now."""
        self._end.set()


class Watchers:
    """All watchers of one page."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._here: list[Watcher] = []

    @contextmanager
    def watching(self, *, owner: str = "", address: str = "") -> Iterator[Watcher]:
        """While this context is open, somebody watches a run. owner: the run's id, where it is the visitor's own."""
        watcher = Watcher(self, owner or address)
        self._here.append(watcher)
        self._end_beyond(watcher.holder, OF_OWNER if owner else FINETUNING.page_watchers // 2)
        try:
            yield watcher
        finally:
            self._end(watcher)

    @property
    def pause(self) -> float:
        """Seconds between two looks of a watcher: longer, the more there are."""
        return max(LEAST_PAUSE, len(self._here) / TOLD_IN_ALL)

    def _end_beyond(self, holder: str, most: int) -> None:
        """Ends the oldest of a holder that has too many; if there are too many in all, of the holder with most."""
        own = [watcher for watcher in self._here if watcher.holder == holder]
        if len(own) > most:
            self._end(own[0])
        if len(self._here) > FINETUNING.page_watchers:
            [(largest, _)] = Counter(watcher.holder for watcher in self._here).most_common(1)
            self._end(next(watcher for watcher in self._here if watcher.holder == largest))

    def _end(self, watcher: Watcher) -> None:
        watcher.end()
        if watcher in self._here:
            self._here.remove(watcher)
