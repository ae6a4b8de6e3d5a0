"""Rows of captions and where they come from: tables beside images, COCO's annotations, and other files there.

Says what is read and what is not. Opens no image and checks no file: `folders` does.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NotRequired

from typing_extensions import TypedDict

from sdsdemo.data.captions.items import KEPT_NAMES, check_columns
from sdsdemo.data.files.bounded import read_table
from sdsdemo.data.files.folders import SPLITS, folders_below
from sdsdemo.data.files.image_search import IMAGE_SUFFIXES
from sdsdemo.data.files.pointers import check_file
from sdsdemo.data.files.quoting import listed
from sdsdemo.data.files.tables import cells_of, json_rows, read_text
from sdsdemo.errors import UserError
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped

TABLES = ("metadata.csv", "metadata.jsonl")
FILE_COLUMN = "file_name"
SIDECARS = (".txt", ".caption", ".json")
"""Suffixes of the per-image caption files that other tools write."""
OTHER_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
SHARD = ".tar"
TRAIN = "captions_train2017"
TRAIN_HOLDS = (
    "train2017 holds most images of val2014, of which ARO's COCO-Order and VALSE's foil-it are made, with their "
    "captions: these two cannot judge what is trained on it."
)
NAMED = 3
"""Files that a sentence names."""


class Row(NamedTuple):
    """A row of a table before it is checked."""

    where: str
    name: object
    """Of the image, relative to `folder`."""
    folder: str
    """Relative to the source's folder."""
    caption: object
    table: str
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies in a source's folder."""

    rows: Iterator[Row]
    images: frozenset[str]
    """Every image, relative to the folder, whether or not a row names it."""
    notes: list[str] = field(default_factory=list)
    """What is read and what is skipped, in sentences; complete once the rows are read."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For the record."""


class CocoImage(TypedDict):
    """An image of COCO."""

    id: int | str
    file_name: str


class CocoAnnotation(TypedDict):
    """A caption of COCO; one without a text is a bad row."""

    image_id: int | str
    caption: NotRequired[Any]


class CocoFile(TypedDict):
    """What a file captions_NAME.json holds."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]


def folder_found(root: Path, columns: Sequence[str]) -> Found:
    """The tables metadata.csv and metadata.jsonl below a folder.

    Raises `UserError` for none, for both in one folder, and, while the rows are read, for a table without its columns.
    """
    files = list(_files_below(root))
    images = frozenset(name for name in files if name.lower().endswith(IMAGE_SUFFIXES))
    tables = sorted(name for name in files if posixpath.basename(name) in TABLES)
    sidecars = _sidecars(files, images)
    if not images:
        raise UserError(_no_image(root, files))
    if not tables:
        raise UserError(_no_table(root, files, sidecars))
    for folder, count in Counter(posixpath.dirname(name) for name in tables).items():
        if count > 1:
            raise UserError(
                f"{' and '.join(TABLES)} are both in '{posixpath.join(root.name, folder).rstrip('/')}', and only one "
                "can be used: remove the other."
            )
    notes: list[str] = []
    if sidecars:
        notes.append(
            f"{_some(sidecars)} beside images {'is' if len(sidecars) == 1 else 'are'} not read: to train on such "
            f"captions, write them into {tables[0]}."
        )
    notes += _split_notes(tables)
    rows = (row for table in tables for row in _table_rows(root / table, table, columns, notes))
    facts = {"tables": tables, "not_read": {"count": len(sidecars), "first": sidecars[:KEPT_NAMES]}}
    return Found(rows=rows, images=images, notes=notes, facts=facts)


def _split_notes(tables: Sequence[str]) -> list[str]:
    """Which tables of another split are read beside that of a folder train."""
    by_split = {table: set(map(str.casefold, table.split("/")[:-1])) & set(SPLITS) for table in tables}
    others = [table for table, splits in by_split.items() if splits and "train" not in splits]
    train = next((table for table, splits in by_split.items() if "train" in splits), None)
    if train is None or not others:
        return []
    return [
        f"{listed(others)} {'is' if len(others) == 1 else 'are'} read for training too, beside {train}: to leave "
        f"{'it' if len(others) == 1 else 'them'} out, name the folder {posixpath.dirname(train)}."
    ]


def _files_below(root: Path) -> Iterator[str]:
    """Every file, relative to root. Follows links, but each folder is read once."""
    for folder, files in folders_below(root):
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        yield from (posixpath.normpath(posixpath.join(relative, name)) for name in sorted(files))


def _sidecars(files: Sequence[str], images: frozenset[str]) -> list[str]:
    stems = {posixpath.splitext(name)[0] for name in images}
    return [name for name in files if name.endswith(SIDECARS) and posixpath.splitext(name)[0] in stems]


def _some(names: Sequence[str]) -> str:
    """ "7 files (a.txt, b.txt, c.txt, ...)"."""
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} file{'' if len(names) == 1 else 's'} ({', '.join(names[:NAMED])}{more})"


def _no_image(root: Path, files: Sequence[str]) -> str:
    if any(name.endswith(SHARD) for name in files):
        return (
            f"The images of '{root.name}' are in .tar files, which folder: does not read: name it as hub:PATH with "
            "--image-column and --caption-column (in WebDataset's files often jpg and txt)."
        )
    return f"There is no image in '{root.name}' or below it: put PNG, JPEG or WebP files there."


def _no_table(root: Path, files: Sequence[str], sidecars: Sequence[str]) -> str:
    others = [name for name in files if name.lower().endswith(OTHER_TABLES) and name not in sidecars]
    what = f"There is no {' or '.join(TABLES)} in '{root.name}'"
    if others and others[0].lower().endswith((".csv", ".tsv", ".jsonl")):
        ending = ".jsonl" if others[0].lower().endswith(".jsonl") else ".csv"
        return (
            f"{what}: is {others[0]} the table? Call it metadata{ending}, with the columns {FILE_COLUMN} and caption."
        )
    read = f", and {_some(sidecars)} beside the images cannot be read instead" if sidecars else ""
    return f"{what}{read}: write one with the columns {FILE_COLUMN} and caption."


def _table_rows(path: Path, name: str, columns: Sequence[str], notes: list[str]) -> Iterator[Row]:
    """Rows of one table; name: what the user reads. Raises `UserError` for a column that no row has."""
    folder, seen = posixpath.dirname(name), dict[str, None]()
    read = read_text(path, name)
    if read.encoding != "UTF-8":
        notes.append(f"{name} is read as {read.encoding}.")
    if path.suffix == ".csv":
        table = cells_of(read.text, name, (FILE_COLUMN, *columns))
        seen.update(dict.fromkeys(table.columns))
        rows: Iterator[tuple[int, Mapping[str, Any] | str]] = table.rows
    else:
        rows = json_rows(read.text)
    for number, content in rows:
        where = f"line {number} of {name}"
        if isinstance(content, str):
            yield Row(where, None, folder, None, name, content)
            continue
        seen.update(dict.fromkeys(content))
        column = next((column for column in columns if column in content), "")
        yield Row(where, content.get(FILE_COLUMN), folder, content.get(column), name)
    cure = f"call the column of names {FILE_COLUMN}"
    check_columns(name, list(seen), (FILE_COLUMN,), "the images' names", cure)
    check_columns(name, list(seen), columns, "the captions", "name yours with --caption-column")


def coco_found(root: Path) -> Found:
    """COCO's annotations whose images are here, those to train on first.

    Raises `UserError` for none, and for a file that holds something else.
    """
    path, folder = _coco_files(root)
    check_file(path)
    try:
        content: CocoFile = from_json(read_table(path, path.name))
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} cannot be read: copy it again from where COCO is published.") from error
    try:
        shaped(content, CocoFile)
    except ValueError as error:
        raise UserError(
            f"{path.name} does not hold COCO's captions, which are lists called images and annotations ({error}): "
            "copy it again from where COCO is published."
        ) from error
    there = (posixpath.join(folder, name) for name in os.listdir(root / folder))
    images = frozenset(name for name in there if name.lower().endswith(IMAGE_SUFFIXES))
    facts = {"tables": [path.name], "images": folder}
    return Found(rows=_coco_rows(content, path.name, folder), images=images, notes=_coco_notes(path, root), facts=facts)


def _coco_rows(content: CocoFile, table: str, folder: str) -> Iterator[Row]:
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for number, annotation in enumerate(content["annotations"]):
        name = names.get(annotation["image_id"])
        problem = "" if name else "its image is not in the list of images"
        where = f"annotation {annotation.get('id', number)} of {table}"
        yield Row(where, name, folder, annotation.get("caption"), table, problem)


def _coco_notes(path: Path, root: Path) -> list[str]:
    """What is read if it is not COCO's training set, and which benchmarks are made of the same images."""
    if path.stem == TRAIN:
        return [TRAIN_HOLDS]
    part = path.stem.removeprefix("captions_")
    also = [*root.glob(f"{TRAIN}.json"), *root.glob(f"annotations/{TRAIN}.json")]
    notes = [
        f"The images of {part} are read, with {path.name}"
        + (f": those of {also[0].name} are not here." if also else f", as there is no {TRAIN}.json.")
    ]
    if "val" in part or "test" in part:
        notes.append(
            "Benchmarks are made of COCO's validation images (SugarCrepe, SugarCrepe++, What'sUp and pieces of VALSE "
            "of val2017, ARO's COCO-Order and VALSE's foil-it of val2014): they cannot judge what is trained on these."
        )
    return notes


def _coco_files(root: Path) -> tuple[Path, str]:
    """The annotations, those to train on first, and the folder of their images, relative to root."""
    found = [*root.glob("captions_*.json"), *(root / "annotations").glob("captions_*.json")]
    files = sorted(found, key=lambda path: (path.stem != TRAIN, "train" not in path.stem, path.name))
    if not files:
        raise UserError(f"There is no {TRAIN}.json in '{root.name}' or its folder annotations.")
    for path in files:
        images = path.stem.removeprefix("captions_")
        for folder in (images, f"images/{images}"):
            if (root / folder).is_dir():
                return path, folder
    images = files[0].stem.removeprefix("captions_")
    raise UserError(f"The images of {files[0].name} are missing: put them in a folder {images} in '{root.name}'.")
