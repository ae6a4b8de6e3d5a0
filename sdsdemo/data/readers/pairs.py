"""Benchmarks from a table in a folder: Winoground's layout, or others through a column map. Opens no image.

A folder, or its subfolder data/, holds one table (examples.jsonl, .json, .csv, .tsv or Parquet files) with the columns
id, caption_0, caption_1, image_0, image_1 and tags, or id, image, caption_0, caption_1 and so on, of which caption_0
alone is true of the image; `columns.json` beside it, or in a folder above it up to PATH, may
map them to other names, such as {"caption_0": "caption_1"}. Without a column id, rows are numbered. Cells may be
separated by commas, semicolons, tabs or bars, in any encoding that can be recognised reliably. An image is a file name
(see `image_files`), or its bytes in a Parquet file. Every error is one sentence that names file and line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sdsdemo.captions.cleaning import is_blank
from sdsdemo.data.files.folders import files_in
from sdsdemo.data.files.image_files import ImageFiles, Note, images_beside, silent
from sdsdemo.data.files.parquet import Cell, parquet_rows
from sdsdemo.data.files.pointers import check_file
from sdsdemo.data.files.quoting import is_whole, listed, shown
from sdsdemo.data.files.shards import one_split
from sdsdemo.data.files.tables import cells_of, json_rows, list_in, read_text
from sdsdemo.errors import UserError
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped
from sdsdemo.types import Example, Picture

COLUMNS = ("id", "caption_0", "caption_1", "image_0", "image_1")
ONE_IMAGE = ("id", "image", "caption_0", "caption_1")
"""Of a table with one image a row: caption_0 is true, and caption_1, caption_2 and so on are false."""
ONE_PICTURE = "If a row has one picture, call its column image, and write its true caption into caption_0."
FURTHER = re.compile(r"caption_(?:[2-9]|[1-9]\d+)")
TAG_COLUMNS = ("tag", "secondary_tag", "collapsed_tag", "num_main_preds", "category")
KNOWN = (*COLUMNS, "image", *TAG_COLUMNS)
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
"""File types of tables; of several side by side, the first in this order counts."""
STEMS = ("examples",)
MAP = "columns.json"

Row = tuple[str, Mapping[str, Any]]
"""A row's location, in words, and its contents."""


def read_pairs(
    folder: Path, note: Note = silent, *, columns: Mapping[str, str] | None = None, stems: Sequence[str] = STEMS
) -> list[Example]:
    """The examples of a folder. columns: our names to theirs, where they differ; `columns.json` overrides them.

    stems: possible names of the table, the likeliest first. note: called with remarks on which of several tables was
    read, on its encoding, and on missing images.
    Raises `UserError` naming file and line for a missing or broken table, a missing column or caption, and a duplicate
    id.
    """
    tables = _tables(folder, stems, note)
    home = tables[0].parent
    theirs = {name: name for name in KNOWN} | dict(columns or {}) | _column_map(home, folder)
    rows = _read(tables, theirs, note)
    first = next(rows, None)
    needed = _columns(first[1] if first else (), theirs)
    of = _Rows(theirs=theirs, files=images_beside(home, folder), columns=needed)
    return of.examples(chain([first] if first else [], rows), folder.name, note)


def _columns(there: Iterable[Any], theirs: Mapping[str, str]) -> tuple[str, ...]:
    """The columns that a table with these must have: one image a row, or two."""
    names = {str(column).strip().casefold() for column in there}
    has = {name: theirs[name].strip().casefold() in names for name in ("image", "image_0", "image_1")}
    return ONE_IMAGE if has["image"] and not (has["image_0"] or has["image_1"]) else COLUMNS


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Turns rows into examples."""

    theirs: Mapping[str, str]
    """Our column names -> theirs."""
    files: ImageFiles
    columns: tuple[str, ...] = COLUMNS
    """Those that a row must have."""

    def examples(self, rows: Iterator[Row], name: str, note: Note) -> list[Example]:
        found: dict[str, tuple[str, Example]] = {}
        is_numbered = False
        for number, (where, row) in enumerate(rows):
            ours = self._renamed(row)
            if number == 0 and self._lacks_only_an_id(row, ours):
                is_numbered = True
                note(f"'{name}' has no column id: its examples are numbered from 0.")
            if is_numbered and not _empty(ours["id"]):
                raise UserError(f"{where} has an id, and the rows before it have none: give an id to all, or to none.")
            example = self._example(where, ours | {"id": number} if is_numbered else ours)
            if example.id in found:
                raise UserError(
                    f"{where} has the same id {shown(example.id)} as {found[example.id][0]}: ids must be unique."
                )
            found[example.id] = where, example
        if not found:
            raise UserError(f"'{name}' has no examples: its table is empty.")
        examples = [example for _, example in found.values()]
        if self.columns == COLUMNS and all(e.images[0].key == e.images[1].key != "" for e in examples):
            note(f"Every row of '{name}' names one picture twice, so no example can be right. {ONE_PICTURE}")
        self.files.note_places(note)
        return examples

    def _lacks_only_an_id(self, row: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
        """Whether a row, as read and by our names, is whole but for a column id that nothing maps."""
        has_id = self.theirs["id"] != "id" or any(str(key).strip().casefold() == "id" for key in row)
        return not has_id and not any(_empty(ours[name]) for name in self.columns if name != "id")

    def _renamed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row by our names. Case and surrounding spaces in a column name are ignored if that is unambiguous."""
        if all(self.theirs[name] in row for name in self.columns):
            return {ours: row.get(name) for ours, name in self.theirs.items()} | self._further(row)
        like: dict[str, list[str]] = {}
        for key in row:
            like.setdefault(str(key).strip().casefold(), []).append(key)
        keys = {
            ours: found[0] if len(found := like.get(name.strip().casefold(), [])) == 1 else name
            for ours, name in self.theirs.items()
        }
        return {ours: row.get(name, row.get(self.theirs[ours])) for ours, name in keys.items()} | {
            "": list(row),
            **self._further(row),
        }

    def _further(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """caption_2 and so on of a table with one image a row, as far as they are filled in."""
        if self.columns != ONE_IMAGE:
            return {}
        found = {str(key).strip().casefold(): value for key, value in row.items() if not _empty(value)}
        return {key: found[key] for key in sorted(found, key=_number) if FURTHER.fullmatch(key)}

    def _example(self, where: str, row: Mapping[str, Any]) -> Example:
        missing = [self.theirs[name] for name in self.columns if _empty(row[name])]
        if missing:
            there = row.get("", [])
            if self.theirs["id"] == "id" and "id" not in there:
                missing = [name for name in missing if name != "id"] or missing  # without ids, rows are numbered
            has = f" It has {listed(there)}: rename these, or map them in {MAP}." if there else ""
            raise UserError(f"{where} has no {' and no '.join(map(shown, missing))}.{has}")
        said = ["caption_0", "caption_1", *(name for name in row if FURTHER.fullmatch(name))]
        captions = tuple(_caption(row[name], where, self.theirs.get(name, name)) for name in said)
        if self.columns == ONE_IMAGE and captions[0] in captions[1:]:
            raise UserError(f"{where} has its true caption, caption_0, among the false ones: fix or remove the line.")
        shown_in = [name for name in self.columns if name.startswith("image")]
        pictures = tuple(self._picture(row[name], where, self.theirs[name]) for name in shown_in)
        tags = {name: tag for name in TAG_COLUMNS if (tag := _tag(row.get(name), where, self.theirs[name]))}
        identity = _plain(row["id"])
        if identity is None or not is_whole(identity):
            raise UserError(f"{where} has an {shown(self.theirs['id'])} that is neither text nor number.")
        return Example(id=identity, images=pictures, captions=captions, tags=tags)

    def _picture(self, value: Any, where: str, column: str) -> Picture:
        if isinstance(value, Cell):
            return value.picture(self.files)
        if isinstance(value, dict):
            value = value.get("path")
        value = str(value) if type(value) is int else value
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where} has an {shown(column)} that is not a file name.")
        return self.files.picture(value, where)


def _tables(folder: Path, stems: Sequence[str], note: Note) -> list[Path]:
    """The table of a benchmark, or its Parquet files. Raises `UserError` if there is none."""
    for home in (folder, folder / "data"):
        there = files_in(home)
        tables = [
            path for stem in stems for suffix in SUFFIXES for path in there if path.name.lower() == f"{stem}{suffix}"
        ]
        if tables:
            parquet = [path for path in there if path.suffix.lower() == ".parquet"]
            _note_others(tables[0], [*tables[1:], *parquet], note)
            return tables[:1]
        if parquet := _one_split([path for path in there if path.suffix.lower() == ".parquet"], folder, note):
            return parquet
    parquet = _one_split(files_in(folder, "*/*.parquet") or files_in(folder, "*/*/*.parquet"), folder, note)
    if parquet:
        return parquet
    if any(folder.glob("**/*.arrow")):
        raise UserError(f"'{folder.name}' was written by save_to_disk: write it as Parquet, with `to_parquet`.")
    raise UserError(
        f"{stems[0]}.jsonl is missing in the benchmark's folder '{folder.name}'; .json, .csv, .tsv and Parquet will do."
    )


def _one_split(files: Sequence[Path], folder: Path, note: Note) -> list[Path]:
    chosen = one_split(files, folder)
    if chosen:
        _note_others(chosen[0], [path for path in files if path not in chosen], note)
    return chosen


def _note_others(read: Path, others: Sequence[Path], note: Note) -> None:
    if others:
        names = listed((path.name for path in others), 3)
        note(f"Read {read.name}; ignored {names} beside it.")


def _read(tables: Sequence[Path], theirs: Mapping[str, str], note: Note) -> Iterator[Row]:
    if tables[0].suffix.lower() == ".parquet":
        return parquet_rows(tables)
    table = tables[0]
    read = read_text(table, table.name)
    if not read.encoding.startswith("UTF"):
        note(f"{table.name} is not UTF-8: it was read as {read.encoding}.")
    if table.suffix.lower() in (".csv", ".tsv"):
        return _cells(read.text, table.name, theirs)
    if table.suffix.lower() == ".jsonl" and not read.text.lstrip().startswith("["):
        return _lines(read.text, table.name)
    return _entries(read.text, table.name)


def _cells(text: str, name: str, theirs: Mapping[str, str]) -> Iterator[Row]:
    table = cells_of(text, name, [*theirs.values()])
    there = {column.casefold() for column in table.columns}
    wanted = _columns(table.columns, theirs)
    # without ids, its rows are numbered
    missing = [theirs[ours] for ours in wanted if theirs[ours].casefold() not in there and theirs[ours] != "id"]
    if missing and any(table.columns):
        lacks, has = " and no ".join(map(shown, missing)), listed(table.columns)
        raise UserError(f"{name} has no column {lacks}; its header has {has}: rename them, or map them in {MAP}.")
    twice = [column for column in there if column and sum(column == c.casefold() for c in table.columns) > 1]
    if twice:
        raise UserError(f"{name} has the column {listed(sorted(twice))} twice: remove one.")
    for line, row in table.rows:
        yield f"Line {line} of {name}", _sound(row, f"Line {line} of {name} has")


def _lines(text: str, name: str) -> Iterator[Row]:
    for line, row in json_rows(text):
        verb = " is" if isinstance(row, str) and row.startswith("not") else ":"
        yield f"Line {line} of {name}", _sound(row, f"Line {line} of {name}{verb}")


def _entries(text: str, name: str) -> Iterator[Row]:
    """Rows of a JSON list, or of an object keyed by id; JSON Lines with another suffix are accepted too."""
    try:
        content = from_json(text)
    except ValueError as error:
        if text.lstrip().startswith("{") and "\n{" in text:
            yield from _lines(text, name)
            return
        raise UserError(f"{name} is not JSON ({shown(error)}): save it again.") from error
    try:
        shaped(content, list[Any] | dict[str, Any])
    except ValueError as error:
        raise UserError(f"{name} must hold a list of examples.") from error
    rows = [{"id": key, **_object(row)} for key, row in content.items()] if isinstance(content, dict) else content
    for number, row in enumerate(rows):
        where = f"Entry {number} of {name}"
        if not isinstance(row, dict):
            raise UserError(f"{where} is not an object with {', '.join(COLUMNS)}.")
        yield where, row


def _object(row: Any) -> dict[str, Any]:
    return row if isinstance(row, dict) else {}


def _sound(row: Mapping[str, Any] | str, where: str) -> Mapping[str, Any]:
    if isinstance(row, str):
        raise UserError(f"{where} {row}.")
    return row


def _column_map(table: Path, folder: Path) -> dict[str, str]:
    """The map in the table's folder, or in the first one above it that has one, up to the benchmark's folder."""
    homes = [home for home in (table, *table.parents) if home.is_relative_to(folder)]
    path = next((path for home in homes if (path := home / MAP).is_file()), None)
    if path is None:
        return {}
    check_file(path)
    try:
        found: dict[str, str] = shaped(from_json(path.read_bytes()), dict[str, str])
    except (OSError, ValueError):
        found = {"": ""}
    if not set(found) <= set(KNOWN):
        raise UserError(f"{MAP} must be an object from some of {', '.join(KNOWN)} to the names of your columns.")
    return found


def _number(name: str) -> tuple[int, str]:
    """Sorts caption_10 behind caption_9."""
    return len(name), name


def _empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _plain(value: Any) -> str | None:
    """Text or a number as text; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else None


def _caption(value: Any, where: str, column: str) -> str:
    """A caption, or the only one in a list (as JSON or written into a cell). Raises `UserError`."""
    found = _listed(value, where, column)
    if found is not None and len(found) != 1:
        raise UserError(f"{where} has a list of {len(found)} captions in {shown(column)}: write one caption per cell.")
    caption = found[0] if found else value
    if not isinstance(caption, str) or not is_whole(caption):
        raise UserError(f"{where} has a caption that is not text.")
    if is_blank(caption):
        raise UserError(f"{where} has a blank caption in {shown(column)}: fill it in or remove the line.")
    return caption


def _tag(value: Any, where: str, column: str) -> str:
    """One tag, or several separated by commas; empty if there is none."""
    if _empty(value):
        return ""
    found = _listed(value, where, column)
    parts = [_plain(part) for part in (found if found is not None else [value])]
    if any(part is None or not is_whole(part) for part in parts):
        raise UserError(f"{where} has a {shown(column)} that is neither text nor a list of texts.")
    return ", ".join(part for part in parts if part)


def _listed(value: Any, where: str, column: str) -> list[Any] | None:
    """The items of a list, or of a list written into a cell as text; None for anything else."""
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str):
        return None
    try:
        return list_in(value)
    except ValueError as error:
        raise UserError(f"{where} has {error} ({shown(column)}).") from error
