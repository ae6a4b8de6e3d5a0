"""The stored runs that the page shows: the shipped ones, those published with the page and, locally, the user's own.

A published run (`results/`) was computed elsewhere. Where its benchmark is not here, its numbers are shown alone; so
are, on a page that others can reach, those of a gated set.

A run is read on first use, and again when one of its files changes. On each use, scores that no longer fit its models
or its benchmark are left out (`freshness`); a slow check runs less often. Safe to share between threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from sdsdemo.app.sharing import GONE, is_shared
from sdsdemo.data.benchmarks import is_gated
from sdsdemo.errors import UserError, calling
from sdsdemo.evaluation.catalogue import Catalogue, read_catalogue
from sdsdemo.evaluation.freshness import Stale, nothing_here, stale, without
from sdsdemo.evaluation.store import EXAMPLES, HEADER, SCORES, StoredRun, read_run
from sdsdemo.runtime.files import state_of
from sdsdemo.settings import ASSETS, ROOT, Settings

SHIPPED = "mini/runs"
PUBLISHED = ROOT / "results"
"""Folder of runs that are published with the page."""


QUICK, SHARE = 0.25, 0.05
"""A freshness check up to QUICK seconds runs on each use; a slower one takes at most this SHARE of the time."""


@dataclass
class _CachedRun:
    """A run as last read and checked."""

    stamp: tuple[Any, ...]
    raw: StoredRun
    stale: Stale | None = None
    run: StoredRun | None = None
    catalogue: Catalogue | None = None
    checked_at: float = 0.0
    check_seconds: float = 0.0


class RunRegistry:
    """Runs by name: the folder's name, with `results/` before a published one and `runs/` before the user's own."""

    def __init__(self, settings: Settings, assets: Path = ASSETS, published: Path = PUBLISHED) -> None:
        self._is_public = not settings.allow_specs
        self._published = published
        self._shipped, self._own = assets / SHIPPED, settings.runs if settings.allow_specs else None
        self._read: dict[str, _CachedRun] = {}
        self._lent: dict[str, Path] = {}
        """Visitors' runs, by unguessable names; never listed."""
        self.find_shared: Callable[[str], Path | None] = lambda name: None
        """Finds the folder of a visitor's run that is not lent yet."""
        self._lock = Lock()

    def names(self) -> list[str]:
        """The names of the runs, the shipped ones first."""
        return list(self._folders())

    def lend(self, name: str, folder: Path) -> None:
        """Make a run available to whoever knows its name."""
        self._lent[name] = folder

    def forget(self, name: str) -> None:
        """Forget a lent run, whose files are deleted, with all that was read of it."""
        self._lent.pop(name, None)
        self._read.pop(name, None)

    def has(self, name: str) -> bool:
        """Whether a run of this name exists, listed or lent."""
        if self._lent_folder(name) is None and is_shared(name) and (folder := self.find_shared(name)):
            self.lend(name, folder)
        return name in self._lent or name in self._folders()

    def run(self, name: str) -> StoredRun:
        """The run without its stale scores. Raises `UserError` if it is missing or unreadable."""
        with self._lock, calling(self._folder(name), self._called(name)):
            return self._current(self._cached(name))

    def catalogue(self, name: str) -> Catalogue:
        """The run with its pictures. Raises `UserError` as `run` does, and if the benchmark is missing."""
        with self._lock, calling(self._folder(name), self._called(name)):
            cached = self._cached(name)
            run = self._current(cached)
            if cached.catalogue is None:
                cached.catalogue = self._catalogue(name, run)
            return cached.catalogue

    def _is_withheld(self, run: StoredRun) -> bool:
        return self._is_public and is_gated(run.benchmark)

    def _catalogue(self, name: str, run: StoredRun) -> Catalogue:
        if self._is_withheld(run):
            return read_catalogue(run, numbers_alone=True)
        try:
            return read_catalogue(run)
        except UserError:
            if not name.startswith(f"{PUBLISHED.name}/"):
                raise
            return read_catalogue(run, numbers_alone=True)

    def _folder(self, name: str) -> Path:
        folder = self._lent_folder(name) or self._folders().get(name)
        if folder is None:
            raise UserError(GONE if is_shared(name) else f"There is no run called '{name}': choose another one.")
        return folder

    def _lent_folder(self, name: str) -> Path | None:
        """The folder of a lent run; None once its files are deleted."""
        folder = self._lent.get(name)
        if folder is None or folder.is_dir():
            return folder
        self.forget(name)
        return None

    def _called(self, name: str) -> str:
        """A run's name in messages; a visitor's own stays unnamed, so that nobody else can use it."""
        return "the tuned run" if name in self._lent else name

    def _cached(self, name: str) -> _CachedRun:
        folder = self._folder(name)
        stamp = folder, *(_state(folder / file) for file in (HEADER, EXAMPLES, SCORES))
        if name not in self._read or self._read[name].stamp != stamp:
            self._read[name] = _CachedRun(stamp=stamp, raw=read_run(folder))
        return self._read[name]

    def _current(self, cached: _CachedRun) -> StoredRun:
        """The run without its stale scores; the same object as long as nothing changes."""
        began = time.monotonic()
        is_due = cached.check_seconds < QUICK or began - cached.checked_at > cached.check_seconds / SHARE
        if cached.run is None or is_due:
            found = stale(cached.raw, nothing_here if self._is_withheld(cached.raw) else None)
            cached.checked_at = time.monotonic()
            cached.check_seconds = cached.checked_at - began
            if cached.run is None or found != cached.stale:
                cached.stale, cached.run, cached.catalogue = found, None, None
                cached.run = without(cached.raw, found)
        return cached.run

    def _folders(self) -> dict[str, Path]:
        shipped = {path.parent.name: path.parent for path in sorted(self._shipped.glob(f"*/{EXAMPLES}"))}
        return shipped | _runs_in(PUBLISHED.name, self._published) | _runs_in("runs", self._own)


def _runs_in(before: str, folder: Path | None) -> dict[str, Path]:
    """The runs in a folder by their names, which begin with `before/`."""
    found = sorted(folder.glob(f"*/{EXAMPLES}")) if folder is not None else ()
    return {f"{before}/{path.parent.name}": path.parent for path in found}


def _state(path: Path) -> tuple[int, ...]:
    """A stamp that changes with every change of a file; empty if it is missing."""
    try:
        return state_of(path)
    except OSError:
        return ()
