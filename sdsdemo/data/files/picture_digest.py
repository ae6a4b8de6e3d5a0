"""Short digests of pictures, to notice a replaced one. Decodes nothing.

    a file            SHA-256 of its bytes; read again only if size, times or inode have changed
    in a zip file     the same of the member's bytes; read again only if the zip file has changed
    in Parquet        the same of the cell's bytes; read again only if the table has changed
    drawn             the key that it is drawn from

So a picture has the same digest in a zip file, unpacked and in Parquet. Earlier versions kept CRC-32 and size of one in
a zip file; `made_of` adds a digest of these, so that scores of those versions stay valid. A missing file has a digest
of its own, so that a picture that comes back is noticed too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

from PIL.Image import Image

from sdsdemo.runtime.files import State, settled_state_of, state_of
from sdsdemo.types import Example, Picture

LETTERS = 16
"""64 bits: enough to tell the pictures of a benchmark apart."""
MISSING = "missing"


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
    state = settled_state_of(path)
    found = _read(path) if state is None else _hashed(path, state)
    return _part_of(found, part)


def of_member(archive: Path, name: str, opened: Callable[[], IO[bytes]], part: str = "") -> str:
    """Digest of a picture in a zip file, by its full name there. opened: opens it; part as in `of_file`."""

    def read() -> str:
        with opened() as file:
            return _digest_of(file)

    return _part_of(_once(archive, name, read), part)


def of_member_before(archive: Path, name: str, part: str = "") -> str:
    """As earlier versions had it: CRC-32 and size, from the zip file's table of contents."""
    return _part_of(_members(archive, state_of(archive))[name], part)


def of_cell(path: Path, place: str, read: Callable[[], bytes]) -> str:
    """Digest of a picture in a table file. place: which cell, in words. read: gives its bytes."""
    return _once(path, place, lambda: hashlib.sha256(read()).hexdigest()[:LETTERS])


def _part_of(content: str, part: str) -> str:
    return f"{content}-{of_text(part)}" if part else content


@lru_cache(maxsize=200_000)
def _hashed(path: Path, state: State) -> str:
    return _read(path)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return _digest_of(file)


def _digest_of(file: IO[bytes]) -> str:
    # both kinds of file read into a buffer, as `file_digest` needs; their type does not say so
    return hashlib.file_digest(file, "sha256").hexdigest()[:LETTERS]  # type: ignore[arg-type]


@lru_cache(maxsize=8)
def _members(archive: Path, state: State) -> dict[str, str]:
    try:
        with ZipFile(archive) as opened:
            return {member.filename: f"{member.CRC:08x}-{member.file_size}" for member in opened.infolist()}
    except BadZipFile:
        return {}


_kept: dict[tuple[Path, str], tuple[State, str]] = {}


def _once(path: Path, place: str, digested: Callable[[], str]) -> str:
    """A digest of one place in a file, computed again only if the file has changed."""
    state = state_of(path)
    kept = _kept.get((path, place))
    if kept is None or kept[0] != state:
        kept = _kept[path, place] = state, digested()
    return kept[1]


def of_pixels(image: Image) -> str:
    """The whole digest of a decoded picture."""
    found = hashlib.sha256(f"{image.mode} {image.size}".encode())
    found.update(image.tobytes())
    return found.hexdigest()


def made_of(example: Example) -> str:
    """What an example's scores depend on: "captions-pictures", a digest of each. The second is absent if a picture is
    missing; a third, "-before", is the second as earlier versions had it, if that was another."""
    contents = [content_of(picture) for picture in example.images]
    captions = of_text(json.dumps(list(example.captions)))
    if MISSING in contents:
        return f"{captions}-"
    before = [
        content if picture.content_before is None else picture.content_before() or content
        for picture, content in zip(example.images, contents, strict=True)
    ]
    third = "" if before == contents else f"-{of_text(json.dumps(before))}"
    return f"{captions}-{of_text(json.dumps(contents))}{third}"
