"""Pair-of-pairs benchmarks from a folder: Winoground's layout, and others through a map of columns. Opens no image.

A folder holds one table, examples.jsonl, .csv or .json or Parquet files, with the columns id, caption_0, caption_1,
image_0, image_1 and tags; `columns.json` beside it may say how they are called there, as {"caption_0": "caption_1"}.
An image is a name, with or without its ending, in `images.zip` or the folder `images/`; or its bytes in a Parquet file.
Every fault is one sentence that names file and line.
"""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from PIL import Image

from sdsdemo.data import contents
from sdsdemo.errors import UserError
from sdsdemo.models.images import plain
from sdsdemo.types import Example, Picture

TABLES = ("examples.jsonl", "examples.csv", "examples.json")
COLUMNS = ("id", "caption_0", "caption_1", "image_0", "image_1")
TAG_COLUMNS = ("tag", "secondary_tag", "collapsed_tag", "num_main_preds", "category")
ENDINGS = ("", ".png", ".jpg", ".jpeg", ".webp")
MAP = "columns.json"

Opener = Callable[[str], Image.Image]


def read_pairs(folder: Path, columns: Mapping[str, str] | None = None) -> list[Example]:
    """The examples of a folder. columns: ours to theirs, where they differ; `columns.json` goes before it.

    Raises `UserError` naming file and line for a table that is missing or broken, a column or a caption that is
    missing, and an id that comes twice.
    """
    theirs = {name: name for name in (*COLUMNS, *TAG_COLUMNS)} | dict(columns or {}) | _column_map(folder)
    opener = lru_cache(maxsize=1)(partial(_images_of, folder))
    examples: list[Example] = []
    seen: dict[str, str] = {}
    for where, row in _rows(folder):
        example = _example(where, row, theirs, opener, folder)
        if example.id in seen:
            raise UserError(f"{where} has the id {example.id}, which {seen[example.id]} has already: ids must differ.")
        seen[example.id] = where
        examples.append(example)
    if not examples:
        raise UserError(f"There is no example in '{folder.name}': its table is empty.")
    return examples


def _rows(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where a row is, in words, and the row."""
    table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if table is None:
        parquet = sorted(folder.glob("*.parquet"))
        if not parquet:
            raise UserError(f"{TABLES[0]} is missing in the benchmark's folder '{folder.name}'.")
        yield from _parquet_rows(parquet)
        return
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{table.name} cannot be read as UTF-8 text: save it again.") from error
    if table.suffix == ".csv":
        yield from ((f"Line {n} of {table.name}", row) for n, row in enumerate(csv.DictReader(io.StringIO(text)), 2))
    elif table.suffix == ".json":
        for number, row in enumerate(_parsed(text, table.name)):
            yield f"Entry {number} of {table.name}", row
    else:
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                yield f"Line {number} of {table.name}", _parsed(line, f"Line {number} of {table.name}")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{where} is not JSON.") from error


def _parquet_rows(files: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of Parquet files without their images, which are read when they are opened, a row group at a time."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    for path in files:
        try:
            file = ParquetFile(path)
            nested = [field.name for field in file.schema_arrow if field.type.num_fields]
            plain_columns = [field.name for field in file.schema_arrow if not field.type.num_fields]
            number = 0
            for group in range(file.num_row_groups):
                for place, row in enumerate(file.read_row_group(group, columns=plain_columns).to_pylist()):
                    images = {name: partial(_parquet_image, path, group, name, place) for name in nested}
                    yield f"Row {number} of {path.name}", {**row, **images}
                    number += 1
        except (OSError, ArrowException) as error:
            raise UserError(f"{path.name} cannot be read: copy that file again.") from error


def _parquet_column(path: Path, group: int, name: str) -> Any:
    return _column_of(path, contents.state_of(path), group, name)


@lru_cache(maxsize=2)
def _column_of(path: Path, state: contents.State, group: int, name: str) -> Any:
    from pyarrow.parquet import ParquetFile

    return ParquetFile(path).read_row_group(group, columns=[name]).column(name)


def _parquet_image(path: Path, group: int, name: str, place: int) -> Image.Image:
    cell = _parquet_column(path, group, name)[place].as_py()
    try:
        return plain(Image.open(io.BytesIO(cell["bytes"])))
    except (OSError, KeyError, TypeError) as error:
        raise UserError(f"The image {name} in row {place} of {path.name} is broken.") from error


def _column_map(folder: Path) -> dict[str, str]:
    path = folder / MAP
    if not path.is_file():
        return {}
    found = _parsed(path.read_text(encoding="utf-8"), MAP)
    known = (*COLUMNS, *TAG_COLUMNS)
    if not isinstance(found, dict) or not set(found) <= set(known):
        raise UserError(f"{MAP} must be an object from some of {', '.join(known)} to the names of your columns.")
    return {ours: str(theirs) for ours, theirs in found.items()}


def _example(where: str, row: Any, theirs: Mapping[str, str], opener: Callable[[], Opener], folder: Path) -> Example:
    missing = [theirs[name] for name in COLUMNS if not isinstance(row, dict) or row.get(theirs[name]) in (None, "")]
    if missing:
        raise UserError(f"{where} has no {' and no '.join(missing)}.")
    captions = tuple(row[theirs[name]] for name in ("caption_0", "caption_1"))
    if not all(isinstance(caption, str) and caption.strip() for caption in captions):
        raise UserError(f"{where} has a caption that is no text.")
    pictures = tuple(_picture(row[theirs[name]], where, opener, folder) for name in ("image_0", "image_1"))
    tags = {name: str(row[theirs[name]]) for name in TAG_COLUMNS if row.get(theirs[name]) not in (None, "")}
    return Example(id=str(row[theirs["id"]]), images=pictures, captions=(captions[0], captions[1]), tags=tags)


def _picture(value: Any, where: str, opener: Callable[[], Opener], folder: Path) -> Picture:
    """value: a name, or what opens the image."""
    if callable(value):
        return Picture(
            name=f"image of {where[0].lower()}{where[1:]}",
            open=value,
            key=f"{folder}/{where}/{value.args[2]}",
            content=partial(_parquet_content, *value.args),
        )
    name = str(value)
    return Picture(
        name=name,
        open=lambda: opener()(name),
        key=f"{folder}/{name}",
        content=partial(_content, folder, name),
    )


def _content(folder: Path, name: str) -> str:
    """What the picture of a name is made of, found as `_images_of` finds it."""
    packed = folder / "images.zip"
    inside = folder / "images" if (folder / "images").is_dir() else folder
    for ending in ENDINGS:
        if packed.is_file():
            found = contents.of_member(packed, f"{name}{ending}")
            if found != contents.MISSING:
                return found
        elif (inside / f"{name}{ending}").is_file():
            return contents.of_file(inside / f"{name}{ending}")
    return contents.MISSING


def _parquet_content(path: Path, group: int, name: str, place: int) -> str:
    return contents.of_cell(
        path, f"{group} {name} {place}", lambda: _parquet_column(path, group, name)[place].as_py()["bytes"]
    )


def _images_of(folder: Path) -> Opener:
    """What opens the images of a folder by name; looked for when the first is asked for."""
    packed = folder / "images.zip"
    if packed.is_file():
        return _packed(packed)
    return _unpacked(folder / "images" if (folder / "images").is_dir() else folder)


def _packed(path: Path) -> Opener:
    """Opens pictures of a zip file, whose table of contents is read once."""
    try:
        archive = ZipFile(path)
    except (BadZipFile, OSError) as error:
        raise UserError(f"{path.name} cannot be read: copy it again, it may end early.") from error
    names = {name.rpartition("/")[2]: name for name in archive.namelist()}

    def open_image(name: str) -> Image.Image:
        found = next((names[name + ending] for ending in ENDINGS if name + ending in names), None)
        if found is None:
            raise UserError(f"{name} is missing in {path.name}.")
        try:
            return plain(Image.open(io.BytesIO(archive.read(found))))
        except (BadZipFile, zlib.error, OSError, EOFError) as error:
            raise UserError(f"{name} cannot be read from {path.name}: copy it again, it may end early.") from error

    return open_image


def _unpacked(folder: Path) -> Opener:
    def open_image(name: str) -> Image.Image:
        paths = [(folder / f"{name}{ending}").resolve() for ending in ENDINGS]
        found = next((p for p in paths if p.is_relative_to(folder.resolve()) and p.is_file()), None)
        if found is None:
            raise UserError(f"{name} is missing in the folder {folder.name}.")
        try:
            with Image.open(found) as opened:
                return plain(opened)
        except OSError as error:
            raise UserError(f"{name} in the folder {folder.name} is no picture, or it is broken.") from error

    return open_image
