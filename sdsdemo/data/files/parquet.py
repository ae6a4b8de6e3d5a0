"""Rows of Parquet files without their pictures, which are read when opened, one row group at a time.

A picture column holds bytes, {"bytes", "path"} as on the Hub, or names; where all bytes of a row group are missing, the
paths are names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from sdsdemo.data.files import picture_digest
from sdsdemo.data.files.bounded import check_group
from sdsdemo.data.files.image_files import ImageFiles
from sdsdemo.data.files.pointers import check_file
from sdsdemo.errors import UserError
from sdsdemo.models.images import decoded
from sdsdemo.runtime.files import State, state_of
from sdsdemo.types import Picture


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Where a picture's bytes are."""

    path: Path
    group: int
    column: str
    place: int
    """Within the row group."""
    where: str
    name: str = ""
    """The file that it names, if its row group holds names only."""

    def picture(self, files: ImageFiles) -> Picture:
        """files: where to look if the cell holds only a name."""
        if self.name:
            found = files.picture(self.name, self.where)
            return replace(found, content_before=partial(_content_before, found))
        return Picture(
            name=f"{self.column} of {self.where[0].lower()}{self.where[1:]}",
            open=partial(self._open, files),
            key=f"{self.path}/{self.group}/{self.place}/{self.column}",
            content=partial(self._content, files),
        )

    def _open(self, files: ImageFiles) -> Image.Image:
        data = self._held()
        if isinstance(data, str):
            return files.picture(data, self.where).open()
        return decoded(data, f"The image {self.column} in {self.where[0].lower()}{self.where[1:]}")

    def _content(self, files: ImageFiles) -> str:
        def read() -> bytes:
            data = self._held()
            return picture_digest.content_of(files.picture(data)).encode() if isinstance(data, str) else data

        return picture_digest.of_cell(self.path, f"{self.group} {self.column} {self.place}", read)

    def _held(self) -> bytes | str:
        """The picture's bytes, or its name. Raises `UserError` for a cell with neither."""
        cell = _column(self.path, self.group, self.column)[self.place].as_py()
        if isinstance(cell, dict):
            cell = cell.get("bytes") or cell.get("path")
        if not isinstance(cell, bytes | str) or not cell:
            raise UserError(f"{self.where} has no {self.column}.")
        return cell


def parquet_rows(files: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row's place, in words, and the row; pictures are `Cell`s. Raises `UserError` for a broken file."""
    from pyarrow.parquet import ParquetFile

    for path in files:
        check_file(path)
        try:
            file = ParquetFile(path)
            pictures = [field.name for field in file.schema_arrow if _holds_pictures(field.type)]
            others = [name for name in file.schema_arrow.names if name not in pictures]
            number = 0
            for group in range(file.num_row_groups):
                check_group(file.metadata.row_group(group).total_byte_size, path.name)
                rows = file.read_row_group(group, columns=others).to_pylist()
                if not others:
                    rows = [{} for _ in range(file.metadata.row_group(group).num_rows)]
                names = {name: _names(file, group, name) for name in pictures}
                for place, row in enumerate(rows):
                    where = f"Row {number} of {path.name}"
                    cells = {
                        column: Cell(
                            path=path, group=group, column=column, place=place, where=where, name=names[column][place]
                        )
                        for column in pictures
                    }
                    yield where, {**row, **cells}
                    number += 1
        except UserError:
            raise
        except Exception as error:  # Arrow answers a damaged file with errors of every kind
            raise UserError(f"{path.name} cannot be read: copy that file again.") from error


def _content_before(picture: Picture) -> str:
    """Earlier versions kept a digest of the digest of a picture that a cell names."""
    before = "" if picture.content_before is None else picture.content_before()
    return picture_digest.of_text(before or picture_digest.content_of(picture))


def _names(file: Any, group: int, column: str) -> list[str]:
    """The name in each cell of a row group; "" for all if a cell holds bytes, which are not read here."""
    meta = file.metadata.row_group(group)
    leaves = {meta.column(k).path_in_schema: meta.column(k).statistics for k in range(meta.num_columns)}
    none, held = [""] * meta.num_rows, leaves.get(f"{column}.bytes")
    is_empty = held is not None and held.has_null_count and held.null_count == meta.num_rows
    if f"{column}.path" not in leaves or (f"{column}.bytes" in leaves and not is_empty):
        return none
    cells = file.read_row_group(group, columns=[f"{column}.path"]).column(column).to_pylist()
    return [(cell or {}).get("path") or "" for cell in cells]


def _holds_pictures(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(kind.field(k).name in ("bytes", "path") for k in range(kind.num_fields))
    return any(is_so(kind) for is_so in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary))


def _column(path: Path, group: int, name: str) -> Any:
    try:
        return _column_of(path, state_of(path), group, name)
    except Exception as error:  # the file has gone or changed since, or this part of it is damaged
        raise UserError(f"{path.name} cannot be read: copy that file again.") from error


@lru_cache(maxsize=2)
def _column_of(path: Path, state: State, group: int, name: str) -> Any:
    from pyarrow.parquet import ParquetFile

    return ParquetFile(path).read_row_group(group, columns=[name]).column(name)
