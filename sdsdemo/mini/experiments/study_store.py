"""What studies have made so far: a line a run in a file a study, and a folder a run. Measures nothing.

Each file of lines is read once by a process, and what the process adds itself is there at once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sdsdemo.mini.experiments.shapes import Line
from sdsdemo.runtime.shipped import shipped_lines


class Lines:
    """A file of lines, which processes may share: each sees its own lines, and those that were there when it began."""

    def __init__(self, path: Path) -> None:
        """Raises `UserError` for a line of another shape."""
        self.path, self.rows = path, read_rows(path)

    def has(self, key: str, value: object) -> bool:
        """Whether there is a line in which `key` is `value`."""
        return any(row.get(key) == value for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """Add a line, in one write, so that processes which share the file never mix their lines."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = (json.dumps(row) + "\n").encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        self.rows.append(row)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a file so far; one that was cut off is left out. Raises `UserError` for one of another shape."""
    return shipped_lines(path, Line) if path.exists() else []


class StudyStore:
    """The lines of every study, and where its runs are trained: one object for all studies of a process."""

    def __init__(self, lines: Path, work: Path) -> None:
        """lines: a folder with a file a study. work: a folder a study, with a folder a run."""
        self.work, self._folder = work, lines
        self._lines: dict[str, Lines] = {}

    def lines(self, name: str) -> Lines:
        """Those of a study, or of the bases. Raises `UserError` for a line of another shape."""
        if name not in self._lines:
            self._lines[name] = Lines(self._folder / f"{name}.jsonl")
        return self._lines[name]

    def run_folder(self, name: str, run: str) -> Path:
        """Where a study's run is trained."""
        return self.work / name / run.replace(" ", "_")
