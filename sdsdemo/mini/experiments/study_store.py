"""What studies have made so far: a line a run in a file a study, and the runs that were trained. Measures nothing.

Each file is read once by a process, and what the process adds itself is there at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdsdemo.finetuning.recipe import Recipe, with_defaults
from sdsdemo.finetuning.run_folder import HEADER, TuningFolder
from sdsdemo.finetuning.setup import Models
from sdsdemo.mini.experiments.shapes import Line
from sdsdemo.models import cards
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


class TrainedRuns:
    """The finished runs in the folders of all studies. The record of a run is read until it says that it finished."""

    def __init__(self, work: Path) -> None:
        """work: a folder a study, with a folder a run."""
        self._work = work
        self._finished: dict[Path, dict[str, Any]] = {}

    def like(self, recipe: Recipe, workbench: Models) -> tuple[TuningFolder, Mapping[str, Any]] | None:
        """The first finished run of these models and this recipe, or of it with all of the way kept; with its record.

        Runs that another process has finished meanwhile are among them. Raises `UserError` for a damaged record.
        """
        wanted = [recipe.as_dict(), replace(recipe, wise_ft=1.0).as_dict()]
        base = cards.fingerprint(workbench.card(recipe.base))
        teacher = cards.fingerprint(workbench.card(recipe.teacher)) if recipe.uses_teacher else None
        for path in sorted(self._work.glob(f"*/*/{HEADER}")):
            record = self._record(path.parent)
            models = record["base_fingerprint"], record["teacher_fingerprint"]
            same = models == (base, teacher) and with_defaults(record["recipe"]) in wanted
            if same and record["state"] == "finished":
                return TuningFolder(path.parent), record
        return None

    def _record(self, path: Path) -> dict[str, Any]:
        if path not in self._finished:
            record = TuningFolder(path).read()
            if record["state"] != "finished":
                return record
            self._finished[path] = record
        return self._finished[path]


class StudyStore:
    """The lines of every study, and their trained runs: one object for all studies of a process."""

    def __init__(self, lines: Path, work: Path) -> None:
        """lines: a folder with a file a study. work: a folder a study, with a folder a run."""
        self.trained = TrainedRuns(work)
        self._folder, self._work = lines, work
        self._lines: dict[str, Lines] = {}

    def lines(self, name: str) -> Lines:
        """Those of a study, or of the bases. Raises `UserError` for a line of another shape."""
        if name not in self._lines:
            self._lines[name] = Lines(self._folder / f"{name}.jsonl")
        return self._lines[name]

    def run_folder(self, name: str, run: str) -> Path:
        """Where a study's run is trained."""
        return self._work / name / run.replace(" ", "_")
