"""Shared by all caption sources: items, safe image opening, the tally of bad rows. Reads no table."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from sdsdemo.captions.cleaning import is_blank
from sdsdemo.data.files.tables import list_in
from sdsdemo.errors import UserError
from sdsdemo.models.images import decoded
from sdsdemo.settings import LEAST_HELD_OUT
from sdsdemo.types import Picture

WRITE_SO = "Name the captions as folder:PATH, coco:PATH or hub:ORG/NAME[@SPLIT]."
MOST_BAD = 0.05
NAMED_ROWS = 5
"""Rows and files named in a message."""
KEPT_NAMES = 50
"""Rows and files named in the record."""
MOST_COLUMNS = 20
"""Columns named in a message."""
THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """An image with its captions."""

    picture: Picture
    captions: tuple[str, ...]
    """One or more, none empty, without spaces at their ends."""
    beside: tuple[str, ...] = ()
    """Captions of its predecessor in the first epoch, whatever the current epoch; empty if it has none."""


@dataclass(frozen=True, kw_only=True)
class BadRows:
    """What was skipped."""

    count: int
    of: int
    """Rows checked: table lines, COCO annotations, stream rows."""
    first: tuple[str, ...]
    """Some by name, as "line 17 of metadata.csv: no caption"."""


class Captions(Protocol):
    """A source of training data."""

    name: str
    """As the user wrote it, but only the last part of a path."""

    @property
    def held_out(self) -> list[Captioned]:
        """What `draw` never gives."""
        ...

    @property
    def bad(self) -> BadRows: ...

    @property
    def notes(self) -> list[str]:
        """Sentences shown before a run: how much data there is, and what is skipped."""
        ...

    def sample(self, count: int) -> list[tuple[str, tuple[str, ...]]]:
        """Name and captions of up to `count` images, to estimate shares; reads nothing new."""
        ...

    def draw(self, step: int, size: int, seed: int, pool: int = 0) -> list[Captioned]:
        """`size` items whose images open; depends only on these numbers. pool: draw again and again from so many."""
        ...

    def describe(self) -> dict[str, object]:
        """Plain values for the record of a run."""
        ...


def fewer_words(count: int) -> str:
    """What to do where all of so many images are to be held out."""
    least = LEAST_HELD_OUT
    return f"hold out fewer with --held-out, {least} or more" if count > least else f"add more, as {least} have to be"


class BadRowError(Exception):
    """Why one row cannot be used, in a few words."""


class Tally:
    """Counts rows and bad rows."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.of = self.count = 0
        self.first: list[str] = []
        self.files = set[str]()
        """Images that a row names, good or bad."""

    def add(self, row: str, rows: int = 1) -> None:
        self.count += rows
        if len(self.first) < KEPT_NAMES:
            self.first.append(row)

    def check(self, least: int = 0) -> None:
        """Raises `UserError` when more than `MOST_BAD` of the rows, of `least` at least, are bad."""
        if self.count <= MOST_BAD * max(self.of, least):
            return
        share, most = 100 * self.count / max(self.of, 1), f"{100 * MOST_BAD:.0f} %"
        raise UserError(
            f"{self.count} of {self.of} rows of {self.name} cannot be used, {share:.1f} %; the limit is {most}: "
            f"{named_in(self.first, self.count)}. "
            "Fix or remove these rows, then start again."
        )

    def record(self) -> BadRows:
        return BadRows(count=self.count, of=self.of, first=tuple(self.first))


def named_in(rows: Sequence[str], count: int) -> str:
    """The first few rows, for a message."""
    return "; ".join(rows[:NAMED_ROWS]) + ("; ..." if count > NAMED_ROWS else "")


def captions_in(value: object) -> tuple[str, ...]:
    """The non-blank captions of a cell: a text, a list of texts, or a list written as text.

    Raises `BadRowError` for anything else.
    """
    texts = value if isinstance(value, list | tuple | np.ndarray) else _split(value)
    if any(not isinstance(text, str) for text in texts if text is not None):
        raise BadRowError("the caption is not text")
    captions = tuple(dict.fromkeys(str(text).strip() for text in texts if text and not is_blank(str(text))))
    if not captions:
        raise BadRowError("no caption")
    return captions


def _split(value: object) -> list[object]:
    try:
        listed = list_in(value) if isinstance(value, str) else None
    except ValueError as error:
        raise BadRowError(str(error)) from error
    return [value] if listed is None else list(listed)


def open_safely(name: str, read: Callable[[str], bytes]) -> Image.Image:
    """RGB, upright, on white, as all pictures here."""
    try:
        data = read(name)
    except Exception as error:  # the file is gone, or the stream broke off
        raise UserError(f"{name} cannot be read.") from error
    return decoded(data, name)


class Item(NamedTuple):
    """An image whose row is good."""

    name: str
    captions: tuple[str, ...]
    where: str
    """Its (first) row, in words."""
    rows: int
    read: Callable[[str], bytes]
    """The file's bytes by the name; one function for all items of a folder."""
    source: str
    beside: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.source}/{self.name}"


@dataclass(frozen=True, eq=False)
class Decoded:
    """Opens a picture that is held in memory."""

    image: Image.Image
    again: Callable[[], Image.Image]
    """Decodes its file anew."""

    def __call__(self) -> Image.Image:
        return self.image.copy()


def let_go(picture: Picture) -> Picture:
    """The picture without its image in memory: opening it decodes its file. For whoever keeps many for long."""
    return replace(picture, open=picture.open.again) if isinstance(picture.open, Decoded) else picture


def captioned(item: Item) -> Captioned:
    picture = Picture(name=item.name, open=partial(open_safely, item.name, item.read), key=item.key)
    return Captioned(picture=picture, captions=item.captions, beside=item.beside)


def _tried(item: Item, most_bytes: int) -> Captioned | str:
    """The item with its image decoded, or why it failed. Larger images are dropped and opened again later."""
    whole = captioned(item)
    try:
        image = whole.picture.open()
    except UserError as error:
        return f"{item.where}: {str(error).removesuffix('.')}"
    if 3 * image.width * image.height > most_bytes:
        return whole
    return replace(whole, picture=replace(whole.picture, open=Decoded(image, whole.picture.open)))


def all_tried(items: Sequence[Item], most_bytes: int) -> list[Captioned | str]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(partial(_tried, most_bytes=most_bytes), items))


def check_draw(step: int, size: int) -> None:
    if step < 0 or size < 1:
        raise ValueError(f"step must be 0 or more and size 1 or more; they were {step} and {size}")


def digest_of(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogatepass")).digest()


def hash_of(named: Iterable[tuple[str, tuple[str, ...]]]) -> str:
    """Of names and captions in their order."""
    digest = hashlib.sha256()
    for pair in named:
        digest.update(json.dumps(pair).encode() + b"\n")
    return digest.hexdigest()


def check_columns(name: str, there: Sequence[str], wanted: Sequence[str], meaning: str, cure: str) -> None:
    """Raises `UserError` where none of the wanted columns is there. cure: what to do, in words."""
    if there and not set(wanted) & set(there):
        shown = ", ".join(map(str, there[:MOST_COLUMNS])) + (", ..." if len(there) > MOST_COLUMNS else "")
        raise UserError(f"{name} has no column {' or '.join(wanted)} for {meaning}: its columns are {shown}; {cure}.")
