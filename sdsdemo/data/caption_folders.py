"""Captions of a folder: a table beside the images, or COCO's annotations. All rows are read at once, no image is."""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sdsdemo.data.caption_items import (
    BadRowError,
    BadRows,
    Captioned,
    Item,
    Tally,
    all_tried,
    captions_in,
    check_columns,
    check_draw,
    digest_of,
    hash_of,
)
from sdsdemo.errors import UserError

TABLES = ("metadata.csv", "metadata.jsonl")
FILE_COLUMN = "file_name"
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
HELD_BYTES = 2_000_000_000
"""Drawn images are kept decoded up to this many bytes a draw; larger ones are decoded again when they are opened."""


class _Row(NamedTuple):
    """A row of a table before it is checked."""

    where: str
    name: object
    """Of the image, relative to `folder`."""
    folder: str
    """Relative to the source's folder."""
    caption: object
    problem: str = ""


class Listed:
    """A folder of images whose names and captions are in memory."""

    def __init__(self, kind: str, name: str, root: Path, rows: Iterable[_Row], held_out: int) -> None:
        self.name, self._kind, self._tally = name, kind, Tally(name)
        items = _gathered(root, rows, self._tally)
        self._tally.check()
        if not items:
            raise UserError(f"There is no row in {name}: its table is empty.")
        if held_out >= len(items):
            raise UserError(f"{held_out} images are to be held out, but {name} has {len(items)}: hold out fewer.")
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

    def draw(self, step: int, size: int, seed: int) -> list[Captioned]:
        """Without repeats in an epoch; a step that reaches into the next epoch may meet an item twice."""
        check_draw(step, size)
        place, drawn = step * size, list[Captioned]()
        while len(drawn) < size:
            after = place + size - len(drawn)
            items = [self._item(p, seed) for p in range(place, after)]
            drawn += self._good(items, HELD_BYTES // size)
            if not drawn and after - step * size >= len(self._items):
                raise UserError(f"No image of {self.name} can be opened besides those held out: hold out fewer.")
            place = after
        return drawn

    def describe(self) -> dict[str, object]:
        return {
            "kind": self._kind,
            "name": self.name,
            "items": len(self._items) + len(self._held_out),
            "held_out": len(self._held_out),
            "bad_rows": asdict(self.bad),
            "sha256": self._sha256,
        }

    def _item(self, place: int, seed: int) -> Item:
        epoch, within = divmod(place, len(self._items))
        index = self._permutation(seed, epoch)[within]
        before = self._items[self._before(seed)[index]]
        return self._items[index]._replace(beside=before.captions)

    def _new_permutation(self, seed: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(len(self._items))

    def _new_before(self, seed: int) -> np.ndarray:
        """Which item comes before each in the first epoch; before the first one, the last."""
        order = self._permutation(seed, 0)
        before = np.empty_like(order)
        before[order] = np.roll(order, 1)
        return before

    def _good(self, items: Sequence[Item], most_bytes: int) -> list[Captioned]:
        """Those that can be opened; the others are counted, each once."""
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


def _gathered(root: Path, rows: Iterable[_Row], tally: Tally) -> list[Item]:
    """One item an image: rows of the same image are put together."""
    found: dict[str, Item] = {}
    read, source = partial(_file_bytes, root), str(root)
    for row in rows:
        tally.of += 1
        try:
            name, captions = _checked(root, row, found)
        except BadRowError as bad:
            tally.add(f"{row.where}: {bad}")
            continue
        old = found.get(name) or Item(name, (), row.where, 0, read, source)
        together = tuple(dict.fromkeys((*old.captions, *captions)))
        found[name] = old._replace(captions=together, rows=old.rows + 1)
    return list(found.values())


def _checked(root: Path, row: _Row, known: Mapping[str, Item]) -> tuple[str, tuple[str, ...]]:
    """Name, relative to root, and captions of a row whose file is there."""
    if row.problem:
        raise BadRowError(row.problem)
    if not isinstance(row.name, str) or not row.name:
        raise BadRowError(f"no {FILE_COLUMN}")
    name = posixpath.normpath(posixpath.join(row.folder, row.name.replace("\\", "/")))
    if name.startswith(("/", "../")):
        raise BadRowError("the image is outside the folder")
    captions = captions_in(row.caption)
    if name not in known:
        _check_file(root, name)
    return name, captions


def _file_bytes(root: Path, name: str) -> bytes:
    return (root / name).read_bytes()


def _check_file(root: Path, name: str) -> None:
    try:
        status = os.stat(os.path.join(root, name))
    except (OSError, ValueError) as error:
        raise BadRowError(f"{name} is missing") from error
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        raise BadRowError(f"{name} is empty")


def folder_rows(root: Path, columns: Sequence[str]) -> Iterator[_Row]:
    tables, has_images = _found_below(root)
    if not has_images:
        raise UserError(f"There is no image in '{root.name}' or below it: put PNG, JPEG or WebP files there.")
    if not tables:
        raise UserError(
            f"There is no {' or '.join(TABLES)} in '{root.name}': write one with the columns {FILE_COLUMN} and caption."
        )
    for table in tables:
        yield from _table_rows(root / table, table, columns)


def _found_below(root: Path) -> tuple[list[str], bool]:
    """The tables, relative to root, and whether there is an image. Follows links, but each folder is read once."""
    tables, has_images, seen = [], False, set()
    for folder, below, files in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            below.clear()
            continue
        seen.add(place)
        relative = os.path.relpath(folder, root)
        tables += [posixpath.normpath(posixpath.join(relative, name)) for name in files if name in TABLES]
        has_images = has_images or any(name.lower().endswith(IMAGE_ENDINGS) for name in files)
    return sorted(tables), has_images


def _table_rows(path: Path, name: str, columns: Sequence[str]) -> Iterator[_Row]:
    """Rows of one table; name: what the user reads. Raises `UserError` for a column that no row has."""
    folder, seen = posixpath.dirname(name), dict[str, None]()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, content in _csv_rows(file, seen) if path.suffix == ".csv" else _json_rows(file):
                where = f"line {number} of {name}"
                if content is None:
                    yield _Row(where, None, folder, None, "not a JSON object")
                    continue
                seen.update(dict.fromkeys(content))
                column = next((column for column in columns if column in content), "")
                yield _Row(where, content.get(FILE_COLUMN), folder, content.get(column))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} cannot be read as UTF-8 text: save it again.") from error
    check_columns(name, list(seen), (FILE_COLUMN,), "the images' names")
    check_columns(name, list(seen), columns, "the captions")


def _csv_rows(file: io.TextIOBase, seen: dict[str, None]) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    reader = csv.DictReader(file)
    seen.update(dict.fromkeys(reader.fieldnames or ()))
    for row in reader:
        yield reader.line_num, {column: cell for column, cell in row.items() if column is not None}


def _json_rows(file: io.TextIOBase) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield number, row if isinstance(row, dict) else None


def coco_rows(root: Path) -> Iterator[_Row]:
    path, folder = _coco_files(root)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: image["file_name"] for image in content["images"]}
        annotations = [(a["id"], names.get(a["image_id"]), a.get("caption")) for a in content["annotations"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path.name} cannot be read: copy it again from where COCO is published.") from error
    for number, name, caption in annotations:
        problem = "" if name else "its image is not in the list of images"
        yield _Row(f"annotation {number} of {path.name}", name, folder, caption, problem)


def _coco_files(root: Path) -> tuple[Path, str]:
    """The annotations, those to train on first, and the folder of their images, relative to root."""
    found = [*root.glob("captions_*.json"), *(root / "annotations").glob("captions_*.json")]
    files = sorted(found, key=lambda path: (path.stem != "captions_train2017", "train" not in path.stem, path.name))
    if not files:
        raise UserError(f"There is no captions_train2017.json in '{root.name}' or its folder annotations.")
    for path in files:
        images = path.stem.removeprefix("captions_")
        for folder in (images, f"images/{images}"):
            if (root / folder).is_dir():
                return path, folder
    images = files[0].stem.removeprefix("captions_")
    raise UserError(f"The images of {files[0].name} are missing: put them in a folder {images} in '{root.name}'.")
