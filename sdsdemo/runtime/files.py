"""Files that survive a kill, and locks that end with their process: the one place that writes, appends and locks.

    write_whole   replaces a file or leaves it as it was: written beside it, synced, renamed
    write_json    the same, with plain values as strict JSON
    append        adds lines, which are on the disk when this returns
    whole_lines   reads every complete line; a truncated last one is left out
    hold          locks between processes (`filelock`): released when the process ends, however it ends
    state_of      what changes whenever a file does
    forget_unfinished, put_folder    clear up after a kill; put a folder in another's place

A line ends at a line feed and nowhere else: captions may contain U+2028 and other characters that `str.splitlines`
splits at.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

YOUNG = 3_000_000_000
"""Nanoseconds after a change within which a file may change again in the same tick of the clock ("racy git")."""
State = tuple[int, int, int, int]
"""Size, nanoseconds of the last change of content and of entry, inode."""
MOST_DIGITS = 400
"""Digits of an integer in JSON: more than any float has, and few enough to parse at once."""


class BusyError(Exception):
    """Another process holds the lock."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, creating its folders. On failure raises `OSError` and leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(path) as aside:
        aside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def write_json(path: Path, value: Any, *, indent: int = 1) -> None:
    """Write strict JSON as `write_whole` writes. Raises `ValueError` for NaN and infinities, and `OSError`."""
    write_whole(path, to_json(value, indent=indent) + "\n")


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`: renamed to it when the block ends, removed if the block fails."""
    aside = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(3)}.part")
    try:
        yield aside
        _sync(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def append(path: Path, lines: Iterable[str], *, sync: bool = True) -> None:
    """Append lines, given without their ends. They are on the disk when this returns. Raises `OSError`.

    sync: False for lines that may be lost with the machine's power, though not with the process: a log of many steps.
    """
    with path.open("ab") as file:
        file.write("".join(f"{line}\n" for line in lines).encode("utf-8"))
        file.flush()
        if sync:
            os.fsync(file.fileno())


def state_of(path: Path) -> State:
    """What changes whenever a file does: a copy or `touch -d` cannot reset the third value. Raises `OSError`."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def settled_state_of(path: Path) -> State | None:
    """`state_of`; None if the file is missing, or so young that it may change once more without changing its state."""
    try:
        state = state_of(path)
    except OSError:
        return None
    return state if is_settled(state, time.time_ns()) else None


def is_settled(state: State, now: int) -> bool:
    """Whether a file can no longer change without changing its state. now: nanoseconds, as `time.time_ns` has them."""
    return now - max(state[1:3]) >= YOUNG


def forget_unfinished(folder: Path) -> None:
    """Delete what killed processes left half written in a folder. Only with the folder's lock held."""
    for unfinished in folder.glob("*.*-??????.part"):
        unfinished.unlink(missing_ok=True)


def put_folder(aside: Path, folder: Path) -> None:
    """Put a folder in another's place. Until it is there the other one is kept, if need be as `NAME.old`."""
    old = folder.with_name(f"{folder.name}.old")
    if folder.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    aside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def whole_lines(path: Path) -> list[str]:
    """Every line that ends in a line feed; none if there is no file. Bytes that are not UTF-8 become U+FFFD."""
    if not path.is_file():
        return []
    return path.read_bytes().decode("utf-8", errors="replace").split("\n")[:-1]


def cut_unfinished_line(path: Path) -> None:
    """Remove an unterminated last line, so that the next one starts afresh. Only with the file's lock held."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def to_json(value: Any, **options: Any) -> str:
    """Strict JSON. Raises `ValueError` for NaN and infinities: use None for a missing number."""
    return json.dumps(value, allow_nan=False, **options)


def finite(value: Any) -> Any:
    """Plain values, with None for NaN and infinities, ready for `to_json`."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(text: str | bytes, *, allow_nan: bool = False) -> Any:
    """The content of JSON text. Raises `ValueError` for anything that cannot be used as data:

    malformed text, text that is not UTF-8, nesting too deep to read, a number of more than 400 digits or beyond the
    range of a float, and NaN or an infinity unless `allow_nan`, since our older files have them.
    """
    special = float if allow_nan else _refuse_constant
    try:
        return json.loads(text, parse_constant=special, parse_float=_finite_float, parse_int=_short_int)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@contextmanager
def hold(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of the file `path` during the block. The file itself stays, empty.

    wait: seconds to wait for another process; a negative number waits for ever.
    Raises `BusyError` if it is still held then, and `OSError` if the file cannot be created.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=wait)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(str(path)) from error
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock of this file."""
    if not path.is_file():
        return False
    try:
        with hold(path):
            return False
    except BusyError:
        return True


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _finite_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _short_int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number has {len(text):,} digits")
    return int(text)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number in JSON")
