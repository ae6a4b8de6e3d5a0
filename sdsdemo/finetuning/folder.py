"""The files of a fine-tuning run. Writes and reads them; trains nothing.

    run.json             what was asked, what it is made of, its state, what it measured: the story of the weights
    log.jsonl            a line a step or look: losses, gradient norm, seconds, held-out accuracy, controls of L_SDS
    checkpoint.run       everything needed to go on; removed when the run has finished
    model.safetensors    what training changed, as `sds-clip:` loads it; written whenever the run stops
    STOP                 a file that asks the run to stop, from any process
    lock                 held by the process that trains: where nobody holds it, nothing is running

Every file but the log is written aside and then renamed. A cut last line of the log is dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdsdemo.errors import UserError

FORMAT = 1
KIND = "fine-tune"
HEADER, LOG, CHECKPOINT, MODEL, STOP, LOCK = (
    "run.json", "log.jsonl", "checkpoint.run", "model.safetensors", "STOP", "lock",
)  # fmt: skip
RUNNING = ("preparing", "running", "stopping")
INTERRUPTED = "interrupted"


class TuningFolder:
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
        """Whether a run was begun here."""
        return (self.path / HEADER).is_file()

    def read(self) -> dict[str, Any]:
        """The record; its state is `interrupted` where it says running and nobody runs it. Raises `UserError`."""
        try:
            record = json.loads((self.path / HEADER).read_text(encoding="utf-8"))
            if record["kind"] != KIND or record["format"] != FORMAT:
                raise ValueError
        except FileNotFoundError as error:
            raise UserError(
                f"There is no run in '{self.path.name}': name a folder that `finetune --out` wrote."
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"'{self.path.name}' holds something else than a fine-tuning run: name another --out."
            ) from error
        if record["state"] in RUNNING and not self.is_locked:
            record["state"] = INTERRUPTED
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        """The record, whole. Raises `UserError` where the disk does not take it."""
        self._put(HEADER, json.dumps({"format": FORMAT, "kind": KIND, **record}, indent=1, allow_nan=False) + "\n")

    def append(self, row: Mapping[str, Any]) -> None:
        """One line of the log. Raises `UserError` where the disk does not take it."""
        try:
            with (self.path / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise UserError(_full(self.path, error)) from error

    def log(self) -> list[dict[str, Any]]:
        """Every whole line; of a step that was made twice, after an interruption, the last."""
        path = self.path / LOG
        if not path.is_file():
            return []
        content = path.read_bytes()
        lines = content[: content.rfind(b"\n") + 1].decode(errors="replace").splitlines()
        rows = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return list({(row.get("what", "step"), row["step"]): row for row in rows}.values())

    def forget_after(self, step: int) -> None:
        """Drops lines of the log beyond a step, which will be made again."""
        kept = [row for row in self.log() if row["step"] <= step]
        self._put(LOG, "".join(json.dumps(row) + "\n" for row in kept))

    def ask_to_stop(self) -> None:
        """From any process; the run stops within a micro-batch."""
        (self.path / STOP).touch()

    @property
    def is_asked_to_stop(self) -> bool:
        return (self.path / STOP).exists()

    def clear_stop(self) -> None:
        (self.path / STOP).unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The lock, for as long as the run trains. Raises `UserError` where another process holds it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / LOCK).open("w")
        except OSError as error:
            raise UserError(f"The folder '{self.path.name}' cannot be written: name another one with --out.") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(
                    f"'{self.path.name}' is being trained right now: wait, or name another --out."
                ) from error
            with self._left_clean():
                yield

    @contextmanager
    def _left_clean(self) -> Iterator[None]:
        """A folder in which nothing was written is removed again."""
        try:
            yield
        finally:
            if not self.exists and {path.name for path in self.path.iterdir()} == {LOCK}:
                (self.path / LOCK).unlink()
                self.path.rmdir()

    @property
    def is_locked(self) -> bool:
        """Whether a living process trains here."""
        try:
            with (self.path / LOCK).open("r") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def _put(self, name: str, text: str) -> None:
        aside = self.path / f"{name}.part"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with aside.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self.path / name)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise UserError(_full(self.path, error)) from error


def _full(path: Path, error: OSError) -> str:
    return (
        f"The folder '{path.name}' cannot be written ({error.strerror}): make room on the disk, and run with --resume."
    )
