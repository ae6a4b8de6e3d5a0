"""Reads and writes the files of a fine-tuning run. Trains nothing.

    run.json             recipe, models, state, evaluation: how the weights were made
    log.jsonl            one line per step or evaluation: losses, gradient norm, seconds, accuracy, controls of L_SDS
    checkpoint.run       everything needed to resume, also for more steps; checkpoint.earlier.run is the previous one
    model.safetensors    the changed weights, as `sds-clip:` loads them; written whenever the run stops
    STOP                 a file that asks the run to stop, from any process
    lock                 held by the training process: if it is free, nothing is running

Every file but the log is written atomically. A truncated last line of the log is dropped. Files are checked against
`run_schema` when read: one of another shape is a `UserError`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from sdsdemo.errors import UserError
from sdsdemo.finetuning.run_schema import LogRow, Record
from sdsdemo.runtime import files
from sdsdemo.runtime.shapes import shaped

FORMAT = 1
KIND = "fine-tune"
HEADER, LOG, CHECKPOINT, MODEL, STOP, LOCK = (
    "run.json", "log.jsonl", "checkpoint.run", "model.safetensors", "STOP", "lock",
)  # fmt: skip
WAITING, INTERRUPTED = "waiting", "interrupted"
RUNNING = (WAITING, "preparing", "running", "stopping")
ENDED = ("finished", "stopped", "failed", INTERRUPTED)
NO_RUN = "There is no run in '{name}': name a folder that `finetune --out` wrote."
ANOTHER_KIND = "'{name}' holds something other than a fine-tuning run: name another --out. ({why})"
BUSY = "'{name}' is being trained right now: wait, or name another --out."
NO_FOLDER = "The folder '{name}' cannot be written: name another one with --out."
BAD_LINE = "Line {number} of log.jsonl in '{name}' is not a log entry ({why}): delete it; no weights depend on it."


class FineTuningFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoint(self) -> Path:
        return self.path / CHECKPOINT

    @property
    def model(self) -> Path:
        return self.path / MODEL

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return (self.path / HEADER).is_file()

    def read(self) -> dict[str, Any]:
        """The record; a run marked as running is `interrupted` if no process holds the lock. Raises `UserError`."""
        try:
            record: dict[str, Any] = shaped(files.from_json((self.path / HEADER).read_bytes()), Record)
            if record["kind"] != KIND or record["format"] != FORMAT or record["state"] not in (*RUNNING, *ENDED):
                raise ValueError("its kind or version is another")
            if any(len(pair) != 2 for pair in record.get("measured", {}).get("cosine", {}).values()):
                raise ValueError("measured.cosine must hold two values, before and after")
        except FileNotFoundError as error:
            raise UserError(NO_RUN.format(name=self.path)) from error
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UserError(ANOTHER_KIND.format(name=self.path, why=why)) from error
        if record["state"] in RUNNING and not self.is_locked:
            record["state"] = INTERRUPTED
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes the record. Raises `UserError` if it cannot be written."""
        whole = files.finite({"format": FORMAT, "kind": KIND, **record})
        self._put(HEADER, files.to_json(whole, indent=1) + "\n")

    def append(self, row: Mapping[str, Any]) -> None:
        """Appends a line to the log. Raises `UserError` if it cannot be written."""
        try:
            files.append(self.path / LOG, [files.to_json(files.finite(row))], sync=False)
        except OSError as error:
            raise UserError(_full(self.path, error)) from error

    def log(self) -> list[dict[str, Any]]:
        """Every complete line; for a step repeated after an interruption, the last one. Raises `UserError`."""
        rows = [self._row(number, line) for number, line in enumerate(self._lines(), start=1)]
        return list({(row.get("what", "step"), row["step"]): row for row in rows}.values())

    def _lines(self) -> list[str]:
        try:
            return files.whole_lines(self.path / LOG)
        except OSError as error:
            raise UserError(_full(self.path, error)) from error

    def _row(self, number: int, line: str) -> dict[str, Any]:
        try:
            row: dict[str, Any] = shaped(files.from_json(line, allow_nan=True), LogRow)
            return row
        except ValueError as error:
            raise UserError(BAD_LINE.format(number=number, name=self.path, why=error)) from error

    def forget_after(self, step: int) -> None:
        """Drops log lines beyond a step, since those steps will be repeated. Raises `UserError`."""
        kept = [row for row in self.log() if row["step"] <= step]
        self._put(LOG, "".join(files.to_json(files.finite(row)) + "\n" for row in kept))

    def ask_to_stop(self) -> None:
        """Asks the run to stop, from any process; it stops within moments. Raises `UserError` if the disk is full."""
        try:
            (self.path / STOP).touch()
        except OSError as error:
            raise UserError(_full(self.path, error)) from error

    @property
    def is_asked_to_stop(self) -> bool:
        return (self.path / STOP).exists()

    def clear_stop(self) -> None:
        (self.path / STOP).unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock while the run trains, once what a killed process left half written is gone.

        Raises `UserError` if another process holds it. Removes the folder again if nothing was written to it.
        """
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(files.hold(self.path / LOCK))
                files.forget_unfinished(self.path)
                files.cut_unfinished_line(self.path / LOG)
            except files.BusyError as error:
                raise UserError(BUSY.format(name=self.path)) from error
            except OSError as error:
                raise UserError(NO_FOLDER.format(name=self.path)) from error
            try:
                yield
            finally:
                self._remove_if_empty()
        if os.name == "nt":  # Windows cannot remove an open file
            self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        with suppress(OSError):
            if not self.exists and {path.name for path in self.path.iterdir()} <= {LOCK}:
                (self.path / LOCK).unlink(missing_ok=True)
                self.path.rmdir()

    @property
    def is_locked(self) -> bool:
        """Whether a living process trains here."""
        try:
            return files.is_held(self.path / LOCK)
        except OSError:  # not writable: it belongs to another user
            return True

    def _put(self, name: str, text: str) -> None:
        try:
            files.write_whole(self.path / name, text)
        except OSError as error:
            raise UserError(_full(self.path, error)) from error


def _full(path: Path, error: OSError) -> str:
    return f"The folder '{path}' cannot be written ({error.strerror}): free disk space, then run with --resume."
