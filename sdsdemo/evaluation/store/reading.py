"""Reads a stored run, which may be unfinished or old."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sdsdemo.errors import UserError
from sdsdemo.evaluation.store.examples import EXAMPLES, StoredExample, read_examples
from sdsdemo.evaluation.store.header import FORMAT, HEADER, Header, Settings, read_header
from sdsdemo.evaluation.store.row_format import Key
from sdsdemo.evaluation.store.score_rows import Rows, score_files
from sdsdemo.runtime.files import whole_lines
from sdsdemo.types import Scores

BETWEEN_TWO_FILES = 0.1
"""Seconds in which a run that grows writes examples.jsonl and run.json."""


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run that was read back; it may be unfinished."""

    path: Path
    header: Header
    every: tuple[StoredExample, ...]
    """All examples of the run."""
    examples: tuple[StoredExample, ...]
    """Those that count: neither skipped nor changed since."""
    scores: Mapping[Key, Scores]
    skipped: Mapping[str, str]
    """Example id -> why its pictures could not be opened."""
    notes: tuple[str, ...] = ()
    """What was left out because it has changed since, in sentences."""

    @property
    def benchmark(self) -> str:
        return self.header["benchmark"]

    @property
    def settings(self) -> Settings:
        """What its scores depend on besides model and example, as from `settings_of`."""
        stored = self.header["settings"]
        return {"empty_prompt": False, "region": "own", **stored}

    @property
    def models(self) -> list[str]:
        """The models with scores for every example, in the order they were added."""
        return [m for m in self.header["models"] if all((m, e.id, "") in self.scores for e in self.examples)]

    def of(self, model: str, what: str = "") -> list[Scores] | None:
        """One model's scores in the order of the examples; None if any is missing."""
        found = [self.scores.get((model, example.id, what)) for example in self.examples]
        known = [scores for scores in found if scores is not None]
        return known if len(known) == len(found) else None


def read_run(path: Path) -> StoredRun:
    """A folder that `evaluate --out` wrote. Raises `UserError` naming file and line."""
    if not (path / HEADER).is_file():
        raise UserError(f"There is no {HEADER} in '{path}': name a folder that `evaluate --out` wrote.")
    read_header(path)  # first, so that the error for a folder of another kind says what it is
    lines = [(file, whole_lines(file)) for file in score_files(path)]
    examples, header = _examples_and_header(path)  # writers update these before they add lines
    if header["format"] != FORMAT:
        raise UserError(f"The run in '{path}' has another format: evaluate again with a new --out.")
    if header["examples"] != len(examples):
        raise UserError(
            f"{EXAMPLES} in '{path}' holds {len(examples)} examples where {HEADER} says {header['examples']}: "
            "copy the folder again, or evaluate again with a new --out."
        )
    known = {example.id: example for example in examples}
    rows = Rows(path, known, header["models"])
    for file, found in lines:
        rows.take(found, file.name)
    why = header.get("skipped", {})
    skipped = {id_: why[id_] for id_ in known if id_ in why}
    kept = tuple(example for example in examples if example.id not in skipped)
    return StoredRun(path=path, header=header, every=examples, examples=kept, scores=rows.scores, skipped=skipped)


def _examples_and_header(path: Path) -> tuple[tuple[StoredExample, ...], Header]:
    """Both, read once more if their counts differ, as they do for a moment while the run grows."""
    examples, header = read_examples(path), read_header(path)
    if header["examples"] != len(examples):
        time.sleep(BETWEEN_TWO_FILES)
        examples, header = read_examples(path), read_header(path)
    return examples, header
