"""Captions of a folder, read at once: each row checked, its image found. Opens an image only when it is drawn."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np

from sdsdemo.core.wording import count_of
from sdsdemo.data.captions.items import (
    KEPT_NAMES,
    BadRowError,
    BadRows,
    Captioned,
    Item,
    Tally,
    all_tried,
    captions_in,
    check_draw,
    digest_of,
    fewer_words,
    hash_of,
    named_in,
)
from sdsdemo.data.captions.tables import FILE_COLUMN, NAMED, Found, Row
from sdsdemo.data.files.bounded import at_most
from sdsdemo.data.files.names import FilesBelow
from sdsdemo.errors import UserError
from sdsdemo.settings import LIMITS

HELD_BYTES = 2_000_000_000
"""Bytes of decoded images kept per draw; beyond it, images are decoded again when opened."""

POOL_SALT = 8

DRIVE = re.compile("[A-Za-z]:/")
"""How an absolute path begins on Windows."""


class Listed:
    """A folder of images; their names and captions are in memory."""

    def __init__(self, kind: str, name: str, root: Path, found: Found, held_out: int) -> None:
        self.name, self._kind, self._tally, self._found = name, kind, Tally(name), found
        items = _ItemBuilder(root, self._tally).items(found)
        self._tally.check()
        if not items:
            raise UserError(f"{name} has no rows: its table is empty.")
        if held_out >= len(items):
            raise UserError(
                f"{held_out} images are to be held out, but {name} has {len(items)}: {fewer_words(len(items))}."
            )
        self._rows, self._captions = self._tally.of, sum(len(item.captions) for item in items)
        self._skipped = self._tally.record()
        self._unlisted = sorted(found.images - {item.name for item in items} - self._tally.files)
        self._sha256 = hash_of((item.name, item.captions) for item in items)
        by_hash = sorted(range(len(items)), key=lambda index: digest_of(items[index].name))
        kept_out = set(by_hash[len(items) - held_out :])
        self._items = [item for index, item in enumerate(items) if index not in kept_out]
        self._held_out = [item for index, item in enumerate(items) if index in kept_out]
        self._broken: set[str] = set()
        self._permutation = lru_cache(maxsize=2)(self._new_permutation)
        self._before = lru_cache(maxsize=1)(self._new_before)

    @property
    def bad(self) -> BadRows:
        return self._tally.record()

    @cached_property
    def held_out(self) -> list[Captioned]:
        """In the table's order. Each image is opened once here, so that broken ones are left out."""
        return self._good(self._held_out, 0)

    def draw(self, step: int, size: int, seed: int, pool: int = 0) -> list[Captioned]:
        """Without repeats in an epoch; a step that reaches into the next epoch may meet an item twice.

        pool: only the first so many of the first epoch, in another order in every later one; 0: all.
        """
        check_draw(step, size)
        place, drawn = step * size, list[Captioned]()
        while len(drawn) < size:
            after = place + size - len(drawn)
            items = [self._item(self._in_pool(p, seed, pool), seed) for p in range(place, after)]
            drawn += self._good(items, HELD_BYTES // size)
            if not drawn and after - step * size >= (pool or len(self._items)):
                raise UserError(f"No image of {self.name} can be opened except those held out: hold out fewer.")
            place = after
        return drawn

    @property
    def notes(self) -> list[str]:
        """Four counts, then what is skipped."""
        skipped = self._skipped
        images = len(self._items) + len(self._held_out)
        said = f": {named_in(skipped.first, skipped.count)}" if skipped.count else ""
        counts = (
            f"{self.name}: {count_of(self._rows, 'row')}, {count_of(images, 'image')}, "
            f"{count_of(self._captions, 'caption')}; {skipped.count or 'none'} skipped"
        )
        return [f"{counts}{said}.", *self._unlisted_words(), *self._found.notes]

    def _unlisted_words(self) -> list[str]:
        if not self._unlisted:
            return []
        more = ", ..." if len(self._unlisted) > NAMED else ""
        verb = "is" if len(self._unlisted) == 1 else "are"
        names = ", ".join(self._unlisted[:NAMED])
        return [f"{count_of(len(self._unlisted), 'image')} {verb} in no row and not read: {names}{more}."]

    def sample(self, count: int) -> list[tuple[str, tuple[str, ...]]]:
        """Name and captions of up to `count` images, the same each time, without opening one."""
        step = max(1, len(self._items) // count)
        return [(item.name, item.captions) for item in self._items[::step][:count]]

    def describe(self) -> dict[str, object]:
        """Counts from before the first image was opened; `bad_rows` grows as images are opened."""
        return {
            "kind": self._kind,
            "name": self.name,
            "rows": self._rows,
            "captions": self._captions,
            "skipped": asdict(self._skipped),
            "unlisted": {"count": len(self._unlisted), "first": self._unlisted[:KEPT_NAMES]},
            **self._found.facts,
            "notes": self.notes,
            "items": len(self._items) + len(self._held_out),
            "held_out": len(self._held_out),
            "bad_rows": asdict(self.bad),
            "sha256": self._sha256,
        }

    def _item(self, place: int, seed: int) -> Item:
        epoch, within = divmod(place, len(self._items))
        index = int(self._permutation(seed, epoch)[within])
        before = self._items[self._before(seed)[index]]
        return self._items[index]._replace(beside=before.captions)

    def _in_pool(self, place: int, seed: int, pool: int) -> int:
        """The place in the first epoch of what a run with a pool draws at this place; without one, the place itself."""
        epoch, within = divmod(place, pool) if pool else (0, place)
        return int(_order_of_pool(seed, epoch, pool)[within]) if epoch else within

    def _new_permutation(self, seed: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(len(self._items))

    def _new_before(self, seed: int) -> np.ndarray:
        """Which item comes before each in the first epoch; before the first one, the last."""
        order = self._permutation(seed, 0)
        before = np.empty_like(order)
        before[order] = np.roll(order, 1)
        return before

    def _good(self, items: Sequence[Item], most_bytes: int) -> list[Captioned]:
        """Those that open; each failure is counted once."""
        items = [item for item in items if item.name not in self._broken]
        good = []
        for item, answer in zip(items, all_tried(items, most_bytes), strict=True):
            if isinstance(answer, Captioned):
                good.append(answer)
            elif item.name not in self._broken:
                self._broken.add(item.name)
                self._tally.add(answer, item.rows)
        self._tally.check()
        return good


class _ItemBuilder:
    """Merges rows into one item per image."""

    def __init__(self, root: Path, tally: Tally) -> None:
        self._root, self._tally = root, tally
        self._there = FilesBelow(root)
        self._roots = sorted(
            {path.replace(os.sep, "/") + "/" for path in (os.path.abspath(root), os.path.realpath(root))}
        )
        self._table: dict[str, str] = {}
        """By image, the table that names it."""
        self._name: dict[str, str] = {}
        """By a name as it is written, the file's own."""

    def items(self, found: Found) -> list[Item]:
        """One item per image, in the order in which rows first name them; bad rows are counted.

        Raises `UserError` for an image that two tables name.
        """
        items: dict[str, Item] = {}
        read, source = partial(_file_bytes, self._root), str(self._root)
        for row in found.rows:
            self._tally.of += 1
            try:
                name, captions = self._checked(row)
            except BadRowError as bad:
                self._tally.add(f"{row.where}: {bad}")
                continue
            if self._table.setdefault(name, row.table) != row.table:
                raise UserError(
                    f"{name} is in both {self._table[name]} and {row.table}, and only one can be used: "
                    "remove the other."
                )
            old = items.get(name) or Item(name, (), row.where, 0, read, source)
            together = tuple(dict.fromkeys((*old.captions, *captions)))
            items[name] = old._replace(captions=together, rows=old.rows + 1)
        return list(items.values())

    def _checked(self, row: Row) -> tuple[str, tuple[str, ...]]:
        """Name, relative to the root, and captions of a row whose file is there."""
        if row.problem:
            raise BadRowError(row.problem)
        if not isinstance(row.name, str) or not row.name.strip():
            raise BadRowError(f"no {FILE_COLUMN}")
        written = posixpath.join(row.folder, row.name) if row.folder else row.name
        if written not in self._name:
            self._name[written] = self._file(row.folder, row.name)
        self._tally.files.add(self._name[written])
        return self._name[written], captions_in(row.caption)

    def _file(self, folder: str, written: str) -> str:
        """The file that a table in this folder names, relative to the root. Raises `BadRowError`."""
        name = self._inside(folder, written.strip().replace("\\", "/"))
        there = self._there.find(name)
        if there is None:
            raise BadRowError(f"{name} is missing")
        try:
            status = os.stat(os.path.join(self._root, there))
        except (OSError, ValueError) as error:
            raise BadRowError(f"{name} is missing") from error
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            raise BadRowError(f"{name} is empty")
        return there

    def _inside(self, folder: str, written: str) -> str:
        """The name relative to the root, also for an absolute path."""
        if not written.startswith("/") and not DRIVE.match(written):
            name = posixpath.normpath(posixpath.join(folder, written))
        else:
            name = next(
                (found for path in _ways_to(written) for root in self._roots if (found := _below(path, root))), ""
            )
        if not name or name == ".." or name.startswith("../"):
            raise BadRowError("the image is outside the folder")
        return name


@lru_cache(maxsize=2)
def _order_of_pool(seed: int, epoch: int, pool: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch, POOL_SALT)).permutation(pool)


def _ways_to(written: str) -> list[str]:
    """An absolute path as written, and with its folder's links resolved."""
    folder, name = posixpath.split(posixpath.normpath(written))
    return [posixpath.join(place.replace(os.sep, "/"), name) for place in (folder, os.path.realpath(folder))]


def _below(path: str, root: str) -> str:
    return path.removeprefix(root) if path.startswith(root) else ""


def _file_bytes(root: Path, name: str) -> bytes:
    return at_most((root / name).open("rb"), LIMITS.image_bytes)
