"""Short digests of pictures, to notice a replaced one. Decodes nothing.

    a file            SHA-256 of its bytes; read again only if size, times or inode have changed
    in a zip file     CRC-32 and size, from its table of contents
    in Parquet        SHA-256 of the cell's bytes; read again only if the file has changed
    drawn             the key that it is drawn from

A missing file has a digest of its own, so that a picture that comes back is noticed too.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from PIL.Image import Image

from sdsdemo.types import Example, Picture

LETTERS = 16
"""64 bits: enough to tell the pictures of a benchmark apart."""
MISSING = "missing"
YOUNG = 3_000_000_000
"""Nanoseconds after a change within which a file may change again in the same tick of the clock."""
State = tuple[int, int, int, int]
"""Size, nanoseconds of the last change of content and of entry, inode."""


def content_of(picture: Picture) -> str:
    """A picture's content; from its pixels if nothing cheaper is known; `MISSING` if it cannot be opened."""
    try:
        return picture.content() if picture.content is not None else of_pixels(picture.open())[:LETTERS]
    except Exception:  # whatever is wrong with a picture is said where it is opened to be scored
        return MISSING


def of_text(text: str) -> str:
    """Digest of something that a text identifies: a key, a caption."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:LETTERS]


def of_file(path: Path, part: str = "") -> str:
    """Digest of a picture file. part: the cropped region, in words."""
    state = state_of(path)
    found = _read(path) if time.time_ns() - max(state[1:3]) < YOUNG else _hashed(path, state)
    return _part_of(found, part)


def of_member(archive: Path, name: str, part: str = "") -> str:
    """Digest of a picture in a zip file, by its full name there or the last part of it; part as in `of_file`."""
    found = _members(archive, state_of(archive)).get(name, MISSING)
    return found if found == MISSING else _part_of(found, part)


def of_cell(path: Path, place: str, read: Callable[[], bytes]) -> str:
    """Digest of a picture in a table file. place: which cell, in words. read: gives its bytes."""
    return _cell(path, place, state_of(path), read)


def _part_of(content: str, part: str) -> str:
    return f"{content}-{of_text(part)}" if part else content


def state_of(path: Path) -> State:
    """What changes whenever a file does: a copy or `touch -d` cannot reset the third value. Raises `OSError`."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@lru_cache(maxsize=200_000)
def _hashed(path: Path, state: State) -> str:
    return _read(path)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:LETTERS]


@lru_cache(maxsize=8)
def _members(archive: Path, state: State) -> dict[str, str]:
    try:
        with ZipFile(archive) as opened:
            found = {member.filename: f"{member.CRC:08x}-{member.file_size}" for member in opened.infolist()}
    except BadZipFile:
        return {}
    return {name.rpartition("/")[2]: content for name, content in found.items()} | found


_cells: dict[tuple[Path, str], tuple[State, str]] = {}


def _cell(path: Path, place: str, state: State, read: Callable[[], bytes]) -> str:
    kept = _cells.get((path, place))
    if kept is None or kept[0] != state:
        kept = _cells[path, place] = state, hashlib.sha256(read()).hexdigest()[:LETTERS]
    return kept[1]


def of_pixels(image: Image) -> str:
    """The whole digest of a decoded picture."""
    found = hashlib.sha256(f"{image.mode} {image.size}".encode())
    found.update(image.tobytes())
    return found.hexdigest()


def made_of(example: Example) -> str:
    """What an example's scores depend on: a digest of its captions and one of its pictures. The second is absent if a
    picture is missing."""
    return digest(example.captions, [content_of(picture) for picture in example.images])


def digest(captions: Sequence[str], pictures: Sequence[str]) -> str:
    """pictures: their contents."""
    shown = "" if MISSING in pictures else of_text(json.dumps(list(pictures)))
    return f"{of_text(json.dumps(list(captions)))}-{shown}"
