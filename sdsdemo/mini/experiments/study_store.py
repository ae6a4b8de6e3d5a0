"""The studies' results so far: one file per study with one line per run, and the trained runs. Measures nothing.

A process reads each file once, and sees the lines that it adds itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdsdemo.finetuning.recipe import Recipe, with_defaults
from sdsdemo.finetuning.run_folder import HEADER, FineTuningFolder
from sdsdemo.finetuning.setup import Models
from sdsdemo.mini.experiments.shapes import Line
from sdsdemo.models import cards
from sdsdemo.runtime import files
from sdsdemo.runtime.shipped import shipped_lines


class Lines:
    """A file of lines that processes may share: each sees its own lines, and those there when it opened the file."""

    def __init__(self, path: Path) -> None:
        """Raises `UserError` for a damaged line."""
        self.path, self.rows = path, read_rows(path)

    def has(self, key: str, value: object) -> bool:
        """Whether there is a line in which `key` is `value`."""
        return any(row.get(key) == value for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """Add a line, in place of one that a killed process left unfinished. Raises `OSError`."""
        with files.hold(self.path.with_suffix(".lock"), wait=-1):
            files.cut_unfinished_line(self.path)
            files.append(self.path, [json.dumps(row)])
        self.rows.append(row)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a file so far, without an unfinished last one. Raises `UserError` for a damaged line."""
    return shipped_lines(path, Line)


class TrainedRuns:
    """The finished runs in the folders of all studies. Records of finished runs are cached."""

    def __init__(self, work: Path) -> None:
        """work: a folder per study, with a folder per run."""
        self._work = work
        self._finished: dict[Path, dict[str, Any]] = {}

    def like(self, recipe: Recipe, workbench: Models) -> tuple[FineTuningFolder, Mapping[str, Any]] | None:
        """The first finished run of these models with this recipe, or this recipe without WiSE-FT; and its record.

        Includes runs that another process has finished meanwhile. Raises `UserError` for a damaged record.
        """
        wanted = [recipe.as_dict(), replace(recipe, wise_ft=1.0).as_dict()]
        base = cards.fingerprint(workbench.card(recipe.base))
        teacher = cards.fingerprint(workbench.card(recipe.teacher)) if recipe.uses_teacher else None
        for path in sorted(self._work.glob(f"*/*/{HEADER}")):
            record = self._record(path.parent)
            models = record["base_fingerprint"], record["teacher_fingerprint"]
            same = models == (base, teacher) and with_defaults(record["recipe"]) in wanted
            if same and record["state"] == "finished":
                return FineTuningFolder(path.parent), record
        return None

    def _record(self, path: Path) -> dict[str, Any]:
        if path not in self._finished:
            record = FineTuningFolder(path).read()
            if record["state"] != "finished":
                return record
            self._finished[path] = record
        return self._finished[path]


class StudyStore:
    """The lines of every study, and the trained runs: one object for all studies of a process."""

    def __init__(self, lines: Path, work: Path) -> None:
        """lines: a folder with a file per study. work: a folder per study, with a folder per run."""
        self.trained = TrainedRuns(work)
        self._folder, self._work = lines, work
        self._lines: dict[str, Lines] = {}

    def lines(self, name: str) -> Lines:
        """The lines of a study, or of the bases. Raises `UserError` for a damaged line."""
        if name not in self._lines:
            self._lines[name] = Lines(self._folder / f"{name}.jsonl")
        return self._lines[name]

    def run_folder(self, name: str, run: str) -> Path:
        """Where a study's run is trained."""
        return self._work / name / run.replace(" ", "_")
