"""The stored runs that the page shows: those that are shipped, and locally those of the user's own folder.

A run is read when it is first asked for, and again when its scores have changed. Safe to share between threads.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from sdsdemo.browsing import Catalogue, read_catalogue
from sdsdemo.errors import UserError
from sdsdemo.runs import EXAMPLES, SCORES, StoredRun, read_run
from sdsdemo.settings import ASSETS, Settings

SHIPPED = "mini/runs"


class Shelf:
    """Runs by name: the folder's, with the user's own below `runs/`."""

    def __init__(self, settings: Settings, assets: Path = ASSETS) -> None:
        self._shipped, self._own = assets / SHIPPED, settings.runs if settings.allow_specs else None
        self._read: dict[str, tuple[float, StoredRun]] = {}
        self._catalogues: dict[str, tuple[float, Catalogue]] = {}
        self._lent: dict[str, Path] = {}
        """Runs of visitors, by names that cannot be guessed; in no list."""
        self._lock = Lock()

    def names(self) -> list[str]:
        """The runs that are there now, the shipped ones first."""
        return list(self._folders())

    def lend(self, name: str, folder: Path) -> None:
        """Make a run known to whoever knows its name."""
        self._lent[name] = folder

    def has(self, name: str) -> bool:
        """Whether a run of this name can be asked for, listed or lent."""
        return name in self._lent or name in self._folders()

    def run(self, name: str) -> StoredRun:
        """Raises `UserError` for a run that is not there or cannot be read."""
        with self._lock:
            folder, age = self._found(name)
            if name not in self._read or self._read[name][0] != age:
                self._read[name] = age, read_run(folder)
            return self._read[name][1]

    def catalogue(self, name: str) -> Catalogue:
        """A run with its pictures. Raises `UserError` as `run` does, and where the benchmark is not at hand."""
        run = self.run(name)
        with self._lock:
            _, age = self._found(name)
            if name not in self._catalogues or self._catalogues[name][0] != age:
                self._catalogues[name] = age, read_catalogue(run)
            return self._catalogues[name][1]

    def _found(self, name: str) -> tuple[Path, float]:
        folder = self._lent.get(name) or self._folders().get(name)
        if folder is None:
            raise UserError(f"There is no run called '{name}': choose another one.")
        scores = folder / SCORES
        return folder, scores.stat().st_mtime if scores.is_file() else 0.0

    def _folders(self) -> dict[str, Path]:
        shipped = {path.parent.name: path.parent for path in sorted(self._shipped.glob(f"*/{EXAMPLES}"))}
        if self._own is None:
            return shipped
        own = {f"runs/{path.parent.name}": path.parent for path in sorted(self._own.glob(f"*/{EXAMPLES}"))}
        return shipped | own
