"""Deletes what a server no longer needs: at its start, and by a clock, whether or not anyone is there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sdsdemo.app.jobs import Jobs
from sdsdemo.runtime import computed_once, homes
from sdsdemo.runtime.ages import Ages
from sdsdemo.settings import LIMITS

log = logging.getLogger(__name__)

EVERY = 600.0
"""Seconds between two rounds."""
IN_USE = 600.0
"""Seconds for which a picture that was scored stays, however full the temporary folder is."""
Duty = Callable[[], object]


class Janitor:
    """Runs its duties in a thread of its own; one that fails is logged, and does not keep the others from running."""

    def __init__(self, duties: Sequence[Duty], every: float = EVERY) -> None:
        self._duties = duties
        self._every = every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """The first round begins now."""
        self._thread.start()

    def stop(self) -> None:
        """Returns when the current round has ended."""
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        while True:
            for duty in self._duties:
                try:
                    duty()
                except Exception:  # the next round may succeed: a disk that was full, a folder that was away
                    log.exception("tidying up failed")
            if self._stopped.wait(self._every):
                return


def janitor_of(jobs: Jobs, temporary: Path, *first: Duty) -> Janitor:
    """For the files of ended runs, for the pictures that visitors uploaded into a folder, and for what is kept of them
    in memory.

    first: duties before these, such as to renew what shall stay.
    """
    seconds, most = 3600 * LIMITS.temporary_hours, LIMITS.temporary_bytes
    uploads = partial(homes.trim, temporary, seconds=seconds, most_bytes=most, spared=IN_USE, ages=Ages())
    return Janitor([*first, jobs.tidy, uploads, partial(computed_once.forget, seconds)])
