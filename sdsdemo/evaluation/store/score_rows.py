"""scores.jsonl: rows by key, without those of examples that have changed. Writes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from sdsdemo.errors import UserError
from sdsdemo.evaluation.store.examples import EXAMPLES, StoredExample, fits
from sdsdemo.evaluation.store.header import HEADER
from sdsdemo.evaluation.store.row_format import Key, key_of, measured_how, parsed, scores_of
from sdsdemo.types import Scores

SCORES = "scores.jsonl"
PARTS = "scores.*.jsonl"
"""Files of a run's single processes, from versions before they shared one."""
MARK = 64
"""Last bytes read, remembered to recognise a file that has been rewritten."""


class Rows:
    """Rows of scores.jsonl by key, without those of examples that have changed."""

    def __init__(self, path: Path, examples: Mapping[str, StoredExample], models: Mapping[str, str]) -> None:
        self.examples, self.models = examples, models
        self.scores: dict[Key, Scores] = {}
        self.made_of: dict[Key, str] = {}
        self.lines: dict[Key, int] = {}
        """Line number by key."""
        self._path = path
        self._how: dict[tuple[str, str], tuple[Any, ...]] = {}
        self._count = 0
        self._end, self._inode, self._mark = 0, -1, b""

    def take(self, lines: Sequence[str], file: str, first: int = 0) -> None:
        """Add lines. Raises `UserError` naming the first bad one. first: number of lines before these."""
        for number, line in enumerate(lines, start=first):
            try:
                self._take(line, number)
            except ValueError as error:
                raise UserError(
                    f"Line {number + 1} of {file} in '{self._path}' cannot be read ({error}): delete that line and run "
                    "again."
                ) from error

    def follow(self, file: Path) -> None:
        """Add lines written to the file since the last call. The caller holds its lock."""
        if not file.is_file():
            return
        with file.open("r+b") as stream:
            if not self._is_continued(stream):
                self.scores.clear()
                self.made_of.clear()
                self.lines.clear()
                self._how.clear()
                self._count = self._end = 0
            stream.seek(self._end)
            content = stream.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                stream.truncate(self._end + whole)
            self._end += whole
            self._mark = (self._mark + content[:whole])[-MARK:]
            self._inode = os.fstat(stream.fileno()).st_ino
        lines = content[:whole].decode("utf-8", errors="replace").split("\n")[:-1]
        self._count += len(lines)
        self.take(lines, file.name, self._count - len(lines))

    def _is_continued(self, stream: BinaryIO) -> bool:
        """Whether the file is the one read before, possibly longer."""
        if os.fstat(stream.fileno()).st_ino != self._inode:
            self._mark = b""
            return False
        stream.seek(max(0, self._end - len(self._mark)))
        same = stream.read(len(self._mark)) == self._mark
        self._mark = self._mark if same else b""
        return same

    def _take(self, line: str, number: int) -> None:
        row = parsed(line)
        example = self.examples.get(row["example"])
        if example is None:
            raise ValueError(f"it names the example {row['example']}, which {EXAMPLES} does not list")
        if row["model"] not in self.models:
            raise ValueError(f"it names the model {row['model']}, which {HEADER} does not list")
        what = row.get("what", "")
        if not fits(row.get("made_of", ""), example.made_of, captions_only=bool(what)):
            return
        scores = scores_of(row)
        if scores.score_IC.shape != (1 if what else example.images, example.captions):
            raise ValueError("score: it must have one list per image, with one number per caption")
        how = measured_how(scores)
        if self._how.setdefault((row["model"], what), how) != how:
            raise ValueError(f"it was measured differently from earlier lines of {row['model']}")
        key = key_of(row)
        self.scores[key], self.made_of[key], self.lines[key] = scores, row.get("made_of", ""), number


def score_files(path: Path) -> list[Path]:
    return [file for file in (path / SCORES, *sorted(path.glob(PARTS))) if file.is_file()]
