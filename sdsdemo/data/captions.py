"""Images with captions, to fine-tune on: a folder, COCO's layout, or a stream from the Hub. Knows no model, no batch.

folder:PATH              images anywhere below PATH, and metadata.csv or metadata.jsonl beside them or above: the column
                         file_name, relative to that file, and caption, text or captions (in .jsonl also a list)
coco:PATH                captions_train2017.json in PATH or PATH/annotations, images in PATH/train2017 or
                         PATH/images/train2017; or another captions_NAME.json whose folder NAME is there
hub:ORG/NAME[@SPLIT]     a data set of the Hub, or a folder that `datasets` can read, as a stream; SPLIT is train

Items stand in an endless order: for a folder, one permutation an epoch, from (seed, epoch); for a stream, its own order
again and again. Step k takes the first `size` good items from place k x size on, so a bad one costs no place: the next
takes it, and may be met again in the step after. What a row lacks is noticed when it is read, a broken image when it is
drawn; both are counted and named, and more than 5 % of the rows is a `UserError`. Only names and captions are kept.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import posixpath
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from sdsdemo.errors import UserError
from sdsdemo.models.images import plain
from sdsdemo.settings import LIMITS
from sdsdemo.types import Picture

TABLES = ("metadata.csv", "metadata.jsonl")
FILE_COLUMN = "file_name"
CAPTION_COLUMNS = ("caption", "text", "captions")
"""Where captions are looked for when no column is named."""
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST_BAD = 0.05
LEAST_STREAMED = 100
"""Rows of a stream below which a share says nothing yet: five of them may be bad."""
NAMED_ROWS = 5
HELD_BYTES = 2_000_000_000
"""Drawn images are kept decoded up to this many bytes a draw; larger ones are decoded again when they are opened."""
THREADS = min(8, os.cpu_count() or 1)
NO_DATASETS = "Reading a data set from the Hub needs the package datasets: pip install datasets."
WRITE_SO = "Name the captions as folder:PATH, coco:PATH or hub:ORG/NAME[@SPLIT]."


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """An image and what is said of it."""

    picture: Picture
    captions: tuple[str, ...]
    """One or more, none empty, without spaces at their ends."""


@dataclass(frozen=True, kw_only=True)
class BadRows:
    """What was skipped."""

    count: int
    of: int
    """Rows that were looked at: lines of a table, annotations of COCO, rows of a stream."""
    first: tuple[str, ...]
    """Some by name, as "line 17 of metadata.csv: no caption"."""


class Captions(Protocol):
    """What training meets."""

    name: str
    """As the user wrote it, but of a path the last name only."""

    @property
    def held_out(self) -> list[Captioned]:
        """What `draw` never gives."""
        ...

    @property
    def bad(self) -> BadRows: ...

    def draw(self, step: int, size: int, seed: int) -> list[Captioned]:
        """`size` items whose images can be opened; depends on nothing but step, size and seed."""
        ...

    def describe(self) -> dict[str, object]:
        """Plain values for the record of a run."""
        ...


def read_captions(
    source: str, *, image_column: str = "image", caption_column: str | None = None, held_out: int = 0
) -> Captions:
    """The images and captions of a source, as the module's first lines say; image_column is for the Hub only.

    held_out: how many items `draw` leaves out: the last in the order of their names' hashes; of a stream, the first.
    Raises `UserError` for what is missing or cannot be read, and where more than 5 % of the rows are bad.
    """
    if held_out < 0:
        raise ValueError(f"held_out must be 0 or more; it was {held_out}")
    kind, _, rest = source.partition(":")
    columns = (caption_column,) if caption_column else CAPTION_COLUMNS
    if not rest or kind not in ("folder", "coco", "hub"):
        raise UserError(WRITE_SO)
    if kind == "hub":
        return _Streamed(rest, image_column, columns, held_out)
    root = Path(rest).expanduser()
    if not root.is_dir():
        raise UserError(f"There is no folder '{root.name}': check the path.")
    name = f"{kind}:{root.resolve().name}"
    rows = _folder_rows(root, columns) if kind == "folder" else _coco_rows(root)
    return _Listed(kind, name, root, rows, held_out)


# Bad rows -------------------------------------------------------------------------------------------------------------


class _BadRowError(Exception):
    """Why one row cannot be used, in a few words."""


class _Tally:
    """Counts rows and the bad ones among them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.of = self.count = 0
        self.first: list[str] = []

    def add(self, row: str, rows: int = 1) -> None:
        self.count += rows
        if len(self.first) < NAMED_ROWS:
            self.first.append(row)

    def check(self, least: int = 0) -> None:
        """Raises `UserError` when more than `MOST_BAD` of the rows, of `least` at least, are bad."""
        if self.count <= MOST_BAD * max(self.of, least):
            return
        share, most = 100 * self.count / max(self.of, 1), f"{100 * MOST_BAD:.0f} %"
        raise UserError(
            f"{self.count} of {self.of} rows of {self.name} cannot be used, {share:.1f} % where {most} may be: "
            f"{'; '.join(self.first)}{'; ...' if self.count > len(self.first) else ''}. "
            "Put these rows right or take them out, then start again."
        )

    def record(self) -> BadRows:
        return BadRows(count=self.count, of=self.of, first=tuple(self.first))


def _captions(value: object) -> tuple[str, ...]:
    """The captions of a cell, which is a text or a list of texts; empty ones of a list are left out."""
    texts = value if isinstance(value, list | tuple | np.ndarray) else [value]
    if any(not isinstance(text, str) for text in texts if text is not None):
        raise _BadRowError("the caption is no text")
    captions = tuple(dict.fromkeys(str(text).strip() for text in texts if text and str(text).strip()))
    if not captions:
        raise _BadRowError("no caption")
    return captions


# Images ---------------------------------------------------------------------------------------------------------------


def _open(name: str, read: Callable[[str], bytes]) -> Image.Image:
    """RGB, upright, on white, at most `LIMITS.image_side_kept` pixels a side, as all pictures here."""
    kept = (LIMITS.image_side_kept, LIMITS.image_side_kept)
    try:
        with Image.open(io.BytesIO(read(name))) as opened:
            opened.draft(None, kept)
            picture = plain(opened)
    except Exception as error:  # decoders answer a broken file with errors of every kind; to the user they are one
        raise UserError(f"{name} is no picture, or it is broken.") from error
    picture.thumbnail(kept, Image.Resampling.BICUBIC)
    return picture


class _Item(NamedTuple):
    """An image whose row is good."""

    name: str
    captions: tuple[str, ...]
    where: str
    """Its row, in words; its first one where there are several."""
    rows: int
    read: Callable[[str], bytes]
    """The file's bytes by the name; one function for all items of a folder."""
    source: str

    @property
    def key(self) -> str:
        return f"{self.source}/{self.name}"


def _captioned(item: _Item) -> Captioned:
    picture = Picture(name=item.name, open=partial(_open, item.name, item.read), key=item.key)
    return Captioned(picture=picture, captions=item.captions)


def _tried(item: _Item, most_bytes: int) -> Captioned | str:
    """The item with its image decoded, or why that cannot be. An image of more bytes is let go, and opened again."""
    whole = _captioned(item)
    try:
        image = whole.picture.open()
    except UserError as error:
        return f"{item.where}: {str(error).removesuffix('.')}"
    if 3 * image.width * image.height > most_bytes:
        return whole
    return Captioned(picture=Picture(name=item.name, open=image.copy, key=item.key), captions=item.captions)


def _all_tried(items: Sequence[_Item], most_bytes: int) -> list[Captioned | str]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(partial(_tried, most_bytes=most_bytes), items))


def _check_draw(step: int, size: int) -> None:
    if step < 0 or size < 1:
        raise ValueError(f"step must be 0 or more and size 1 or more; they were {step} and {size}")


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogatepass")).digest()


def _hash(named: Iterable[tuple[str, tuple[str, ...]]]) -> str:
    """Of names and captions in their order."""
    digest = hashlib.sha256()
    for pair in named:
        digest.update(json.dumps(pair).encode() + b"\n")
    return digest.hexdigest()


# Folders: a list of rows, all read at once ----------------------------------------------------------------------------


class _Row(NamedTuple):
    """A row of a table before it is checked."""

    where: str
    name: object
    """Of the image, relative to `folder`."""
    folder: str
    """Relative to the source's folder."""
    caption: object
    problem: str = ""


class _Listed:
    """A folder of images whose names and captions are in memory."""

    def __init__(self, kind: str, name: str, root: Path, rows: Iterable[_Row], held_out: int) -> None:
        self.name, self._kind, self._tally = name, kind, _Tally(name)
        items = _gathered(root, rows, self._tally)
        self._tally.check()
        if not items:
            raise UserError(f"There is no row in {name}: its table is empty.")
        if held_out >= len(items):
            raise UserError(f"{held_out} images are to be held out, but {name} has {len(items)}: hold out fewer.")
        self._sha256 = _hash((item.name, item.captions) for item in items)
        by_hash = sorted(range(len(items)), key=lambda index: _digest(items[index].name))
        kept_out = set(by_hash[len(items) - held_out :])
        self._items = [item for index, item in enumerate(items) if index not in kept_out]
        self._held_out = [item for index, item in enumerate(items) if index in kept_out]
        self._broken: set[str] = set()
        self._permutation = lru_cache(maxsize=2)(self._new_permutation)

    @property
    def bad(self) -> BadRows:
        return self._tally.record()

    @cached_property
    def held_out(self) -> list[Captioned]:
        """In the table's order. Each image is opened once here, so that broken ones are left out."""
        return self._good(self._held_out, 0)

    def draw(self, step: int, size: int, seed: int) -> list[Captioned]:
        """Without repeats in an epoch; a step that reaches into the next epoch may meet an item twice."""
        _check_draw(step, size)
        place, drawn = step * size, list[Captioned]()
        while len(drawn) < size:
            after = place + size - len(drawn)
            items = [self._items[self._index(p, seed)] for p in range(place, after)]
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

    def _index(self, place: int, seed: int) -> int:
        epoch, within = divmod(place, len(self._items))
        return int(self._permutation(seed, epoch)[within])

    def _new_permutation(self, seed: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(len(self._items))

    def _good(self, items: Sequence[_Item], most_bytes: int) -> list[Captioned]:
        """Those that can be opened; the others are counted, each once."""
        items = [item for item in items if item.name not in self._broken]
        good = []
        for item, answer in zip(items, _all_tried(items, most_bytes), strict=True):
            if isinstance(answer, Captioned):
                good.append(answer)
            elif item.name not in self._broken:
                self._broken.add(item.name)
                self._tally.add(answer, item.rows)
        self._tally.check()
        return good


def _gathered(root: Path, rows: Iterable[_Row], tally: _Tally) -> list[_Item]:
    """One item an image: rows of the same image are put together."""
    found: dict[str, _Item] = {}
    read, source = partial(_file_bytes, root), str(root)
    for row in rows:
        tally.of += 1
        try:
            name, captions = _checked(root, row, found)
        except _BadRowError as bad:
            tally.add(f"{row.where}: {bad}")
            continue
        old = found.get(name) or _Item(name, (), row.where, 0, read, source)
        together = tuple(dict.fromkeys((*old.captions, *captions)))
        found[name] = old._replace(captions=together, rows=old.rows + 1)
    return list(found.values())


def _checked(root: Path, row: _Row, known: Mapping[str, _Item]) -> tuple[str, tuple[str, ...]]:
    """Name, relative to root, and captions of a row whose file is there."""
    if row.problem:
        raise _BadRowError(row.problem)
    if not isinstance(row.name, str) or not row.name:
        raise _BadRowError(f"no {FILE_COLUMN}")
    name = posixpath.normpath(posixpath.join(row.folder, row.name.replace("\\", "/")))
    if name.startswith(("/", "../")):
        raise _BadRowError("the image is outside the folder")
    captions = _captions(row.caption)
    if name not in known:
        _check_file(root, name)
    return name, captions


def _file_bytes(root: Path, name: str) -> bytes:
    return (root / name).read_bytes()


def _check_file(root: Path, name: str) -> None:
    try:
        status = os.stat(os.path.join(root, name))
    except (OSError, ValueError) as error:
        raise _BadRowError(f"{name} is missing") from error
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        raise _BadRowError(f"{name} is empty")


def _folder_rows(root: Path, columns: Sequence[str]) -> Iterator[_Row]:
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
    _check_columns(name, list(seen), (FILE_COLUMN,), "the images' names")
    _check_columns(name, list(seen), columns, "the captions")


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


def _check_columns(name: str, there: Sequence[str], wanted: Sequence[str], meaning: str) -> None:
    if there and not set(wanted) & set(there):
        raise UserError(
            f"{name} has no column {' or '.join(wanted)} for {meaning}: its columns are {', '.join(map(str, there))}."
        )


def _coco_rows(root: Path) -> Iterator[_Row]:
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


# The Hub: a stream ----------------------------------------------------------------------------------------------------


class _Endless:
    """The rows of a stream from row `start` on, again and again, each with its number."""

    def __init__(self, stream: Iterable[Any], name: str) -> None:
        self._stream, self._name = stream, name
        self.start = 0
        self.total: int | None = None
        """Rows of the stream, known when its end was met."""
        self._rows = self._once()

    def restart(self) -> None:
        self._rows = self._once()

    def take(self) -> tuple[int, Mapping[str, Any]]:
        for _ in range(2):
            for numbered in self._rows:
                return numbered
            self.restart()
        raise UserError(f"{self._name} has {self.total} rows, and {self.start} of them are held out: none is left.")

    def _once(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        number = -1
        try:
            for number, row in enumerate(self._stream):
                if number >= self.start:
                    yield number, row
        except Exception as error:  # a network, a server and a broken file fail in ways of their own
            raise UserError(
                f"{self._name} broke off after {number + 1} rows: check the network, then start again."
            ) from error
        self.total = number + 1


class _Streamed:
    """A data set that is read in order and never whole. One thread at a time may draw."""

    def __init__(self, written: str, image_column: str, columns: Sequence[str], held_out: int) -> None:
        self._id, split = _id_and_split(written)
        self._title = Path(self._id).resolve().name if Path(self._id).is_dir() else self._id
        self.name = f"hub:{self._title}" + (f"@{split}" if written.endswith(f"@{split}") else "")
        self._tally = _Tally(self.name)
        stream, self._caption = _stream(self._id, self._title, split, image_column, columns)
        self._image, self._split = image_column, split
        self._endless = _Endless(stream, self.name)
        self._counted_to, self._broken = 0, set[int]()
        self._ahead: deque[tuple[int, Mapping[str, Any]]] = deque()
        self._place: int | None = 0
        """The place that is read next; None where a draw did not end well."""
        first, rows = self._take(max(held_out, 1), 0)
        total = self._endless.total
        if total is not None:
            raise UserError(f"{held_out} rows of {self.name} are to be held out, but it has {total}: hold out fewer.")
        if held_out:
            self._endless.start = rows[-1][0] + 1
        else:
            self._ahead.extend(rows)
        self.held_out = first[:held_out]
        self._sha256 = _hash((item.picture.name, item.captions) for item in first)

    @property
    def bad(self) -> BadRows:
        return self._tally.record()

    def draw(self, step: int, size: int, seed: int) -> list[Captioned]:
        """The seed changes nothing: a stream has one order. A step that is not the next one may read from its start."""
        _check_draw(step, size)
        self._seek(step * size)
        self._place = None
        drawn, rows = self._take(size, HELD_BYTES // size)
        self._ahead.extendleft(reversed(rows[size:]))
        self._place = (step + 1) * size
        return drawn

    def describe(self) -> dict[str, object]:
        """items is None until the stream's end was met; the hash is of the rows held out, or of the first good one."""
        return {
            "kind": "hub",
            "name": self.name,
            "items": self._endless.total,
            "held_out": len(self.held_out),
            "split": self._split,
            "columns": [self._image, self._caption],
            "bad_rows": asdict(self.bad),
            "sha256": self._sha256,
        }

    def _seek(self, place: int) -> None:
        if self._place is None or place < self._place:
            self._endless.restart()
            self._ahead.clear()
            self._place = 0
        away = place - self._place
        if self._endless.total is not None:
            away %= max(self._endless.total - self._endless.start, 1)
        self._place = None
        for _ in range(away):
            self._next()

    def _next(self) -> tuple[int, Mapping[str, Any]]:
        return self._ahead.popleft() if self._ahead else self._endless.take()

    def _take(self, size: int, most_bytes: int) -> tuple[list[Captioned], list[tuple[int, Mapping[str, Any]]]]:
        """The next `size` good items, and all rows that were read for them; the last of these is good."""
        drawn: list[Captioned] = []
        rows: list[tuple[int, Mapping[str, Any]]] = []
        while len(drawn) < size:
            new = [self._next() for _ in range(size - len(drawn))]
            drawn += self._good(new, most_bytes)
            rows += new
            if not drawn and self._endless.total is not None and len(rows) >= self._endless.total:
                raise UserError(f"No row of {self.name} can be used besides those held out: hold out fewer.")
        return drawn, rows

    def _good(self, rows: Sequence[tuple[int, Mapping[str, Any]]], most_bytes: int) -> list[Captioned]:
        items, problems = dict[int, _Item](), dict[int, str]()
        for number, row in rows:
            try:
                items[number] = self._item(number, row)
            except _BadRowError as bad:
                problems[number] = f"row {number} of {self._title}: {bad}"
        answers = dict(zip(items, _all_tried(list(items.values()), most_bytes), strict=True))
        problems |= {number: answer for number, answer in answers.items() if isinstance(answer, str)}
        self._count([number for number, _ in rows], problems)
        in_order = [answers.get(number) for number, _ in rows]
        return [answer for answer in in_order if isinstance(answer, Captioned)]

    def _count(self, numbers: Iterable[int], problems: Mapping[int, str]) -> None:
        """Each row once, however often the stream goes round."""
        for number in sorted(set(numbers)):
            if number >= self._counted_to:
                self._tally.of, self._counted_to = self._tally.of + 1, number + 1
            if number in problems and number not in self._broken:
                self._broken.add(number)
                self._tally.add(problems[number])
        total = self._endless.total
        self._tally.check(LEAST_STREAMED if total is None else min(total, LEAST_STREAMED))

    def _item(self, number: int, row: Mapping[str, Any]) -> _Item:
        cell = row.get(self._image)
        data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        name = posixpath.basename(path) if isinstance(path, str) and path else f"row {number}"
        if isinstance(data, bytes):
            read = partial(_given, data)
        elif data is None and isinstance(path, str) and path:
            read = partial(_fetched, path)
        else:
            raise _BadRowError(f"no image in {self._image}")
        source = f"{self._id}@{self._split}/{number}"
        return _Item(name, _captions(row.get(self._caption)), f"row {number} of {self._title}", 1, read, source)


def _id_and_split(written: str) -> tuple[str, str]:
    """A data set's id, or a folder's path, and its split."""
    head, at, split = written.rpartition("@")
    if not at or not head or "/" in split:
        head, split = written, "train"
    if not split:
        raise UserError(f"After @ comes the name of a split, as @train. {WRITE_SO}")
    folder = Path(head).expanduser()
    return (str(folder), split) if folder.is_dir() else (head, split)


def _stream(name: str, title: str, split: str, image: str, columns: Sequence[str]) -> tuple[Iterable[Any], str]:
    """The rows of a data set with images as bytes or paths, and the name of the column of captions."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(NO_DATASETS) from error
    try:
        splits = datasets.load_dataset(name, streaming=True)
    except Exception as error:  # a wrong name, a closed door, no network: errors of many libraries
        raise UserError(
            f"The data set {title} cannot be opened: check its name and the network; "
            "for one that asks for your consent, give it on its page and log in with `hf auth login`."
        ) from error
    if split not in splits:
        raise UserError(f"{title} has no split {split}: its splits are {', '.join(map(str, splits))}.")
    stream = splits[split]
    there = stream.column_names or list(next(iter(stream), {}))
    _check_columns(title, there, (image,), "the images")
    _check_columns(title, there, columns, "the captions")
    caption = next((column for column in columns if column in there), columns[0])
    stream = stream.select_columns([image, caption]) if there else stream
    if stream.features and isinstance(stream.features.get(image), datasets.Image):
        stream = stream.cast_column(image, datasets.Image(decode=False))
    return stream, caption


def _given(data: bytes, name: str) -> bytes:
    return data


def _fetched(path: str, name: str) -> bytes:
    """What lies at a path or an address that `datasets` gave instead of an image's bytes."""
    import fsspec

    with fsspec.open(path, "rb") as file:
        return file.read()
