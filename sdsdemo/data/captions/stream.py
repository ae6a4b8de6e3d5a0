"""Captions of a data set of the Hub, as a stream: read in its own order, never whole."""

from __future__ import annotations

import posixpath
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sdsdemo.data.captions.items import (
    WRITE_SO,
    BadRowError,
    BadRows,
    Captioned,
    Item,
    Tally,
    all_tried,
    captions_in,
    check_columns,
    check_draw,
    fewer_words,
    hash_of,
    named_in,
)
from sdsdemo.data.captions.tables import NAMED, OTHER_TABLES, SHARD
from sdsdemo.data.files.bounded import at_most
from sdsdemo.data.files.folders import SPLITS, files_in
from sdsdemo.data.files.quoting import listed
from sdsdemo.errors import UserError
from sdsdemo.models.public_names import name_and_split
from sdsdemo.settings import LIMITS, expanded

LEAST_STREAMED = 100
"""Below this many rows a share is meaningless: five may be bad."""
HELD_BYTES = 2_000_000_000
"""Bytes of decoded images kept per draw; beyond it, images are decoded again when opened."""
NO_DATASETS = "Reading a data set from the Hub needs the package datasets: pip install datasets."


class _Row(NamedTuple):
    """A row of a stream."""

    number: int
    content: Any
    """Cells by column, where the data set is sound."""
    said_before: object
    """The previous row's caption cell; None for the first row."""


class _Endless:
    """The rows of a stream from row `start` on, repeated endlessly."""

    def __init__(self, stream: Iterable[Any], name: str, column: str) -> None:
        """column: of the captions."""
        self._stream, self._name, self._column = stream, name, column
        self.start = 0
        self.total: int | None = None
        """Rows of the stream, known when its end was met."""
        self._rows = self._once()

    def restart(self) -> None:
        self._rows = self._once()

    def take(self) -> _Row:
        for _ in range(2):
            for row in self._rows:
                return row
            self.restart()
        raise UserError(f"{self._name} has {self.total} rows, and {self.start} of them are held out: none is left.")

    def _once(self) -> Iterator[_Row]:
        number, said = -1, None
        try:
            for number, content in enumerate(self._stream):
                if number >= self.start:
                    yield _Row(number, content, said)
                said = content.get(self._column) if isinstance(content, Mapping) else None
        except Exception as error:  # a network, a server and a broken file fail in ways of their own
            raise UserError(
                f"{self._name} broke off after {number + 1} rows: check the network, then start again."
            ) from error
        self.total = number + 1


class Streamed:
    """A data set that is read in order and never whole. One thread at a time may draw."""

    def __init__(self, written: str, image_column: str, columns: Sequence[str], held_out: int) -> None:
        self._id, split = _id_and_split(written)
        self._title = Path(self._id).resolve().name if Path(self._id).is_dir() else self._id
        self.name = f"hub:{self._title}" + (f"@{split}" if written.endswith(f"@{split}") else "")
        self._tally = Tally(self.name)
        tars = _tars(Path(self._id))
        self._tars = [posixpath.basename(tar) for tar in tars.get(split, ())]
        stream, self._caption = _stream(self._id, self._title, split, image_column, columns, tars)
        self._image, self._split = image_column, split
        self._endless = _Endless(stream, self.name, self._caption)
        self._counted_to, self._broken = 0, set[int]()
        self._ahead: deque[_Row] = deque()
        self._place: int | None = 0
        """The next place to read; None after a failed draw."""
        first, rows = self._take(max(held_out, 1), 0)
        total = self._endless.total
        if total is not None:
            why = f"{held_out} rows of {self.name} are to be held out, but it has {total}"
            raise UserError(f"{why}: {fewer_words(total)}.")
        if held_out:
            self._endless.start = rows[-1].number + 1
        else:
            self._ahead.extend(rows)
        self.held_out = first[:held_out]
        self._sha256 = hash_of((item.picture.name, item.captions) for item in first)

    @property
    def bad(self) -> BadRows:
        return self._tally.record()

    def draw(self, step: int, size: int, seed: int, pool: int = 0) -> list[Captioned]:
        """The seed has no effect: a stream has one order. A step out of sequence may read from the start.

        pool: the whole batches of the first so many items, again and again.
        """
        check_draw(step, size)
        step = step % max(1, pool // size) if pool else step
        self._seek(step * size)
        self._place = None
        drawn, rows = self._take(size, HELD_BYTES // size)
        self._ahead.extendleft(reversed(rows[size:]))
        self._place = (step + 1) * size
        return drawn

    @property
    def notes(self) -> list[str]:
        """The number of rows is unknown: they are read as they are drawn."""
        bad = self.bad
        skipped = f"; {bad.count} skipped: {named_in(bad.first, bad.count)}" if bad.count else ""
        rows = f"{self.name}: rows are read as they come, {len(self.held_out)} held out{skipped}."
        of_tars = f"Of {self._title}, {listed(self._tars, NAMED)} are read, not the tables beside them."
        return [rows, *([of_tars] if self._tars else [])]

    def sample(self, count: int) -> list[tuple[str, tuple[str, ...]]]:
        """From the held-out rows, the only ones read so far."""
        return [(item.picture.name, item.captions) for item in self.held_out[:count]]

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
        self._place = None
        while away := self._shortened(away):
            self._next()
            away -= 1

    def _shortened(self, away: int) -> int:
        """So many rows without whole rounds of the stream, once its end was met."""
        total = self._endless.total
        return away if total is None else away % max(total - self._endless.start, 1)

    def _next(self) -> _Row:
        return self._ahead.popleft() if self._ahead else self._endless.take()

    def _take(self, size: int, most_bytes: int) -> tuple[list[Captioned], list[_Row]]:
        """The next `size` good items, and all rows that were read for them; the last of these is good."""
        drawn: list[Captioned] = []
        rows: list[_Row] = []
        while len(drawn) < size:
            new = [self._next() for _ in range(size - len(drawn))]
            drawn += self._good(new, most_bytes)
            rows += new
            if not drawn and self._endless.total is not None and len(rows) >= self._endless.total:
                raise UserError(f"No row of {self.name} can be used except those held out: hold out fewer.")
        return drawn, rows

    def _good(self, rows: Sequence[_Row], most_bytes: int) -> list[Captioned]:
        items, problems = dict[int, Item](), dict[int, str]()
        for row in rows:
            try:
                items[row.number] = self._item(row)
            except BadRowError as bad:
                problems[row.number] = f"row {row.number} of {self._title}: {bad}"
        answers = dict(zip(items, all_tried(list(items.values()), most_bytes), strict=True))
        problems |= {number: answer for number, answer in answers.items() if isinstance(answer, str)}
        self._count([row.number for row in rows], problems)
        in_order = [answers.get(row.number) for row in rows]
        return [answer for answer in in_order if isinstance(answer, Captioned)]

    def _count(self, numbers: Iterable[int], problems: Mapping[int, str]) -> None:
        """Each row once, however often the stream repeats."""
        for number in sorted(set(numbers)):
            if number >= self._counted_to:
                self._tally.of, self._counted_to = self._tally.of + 1, number + 1
            if number in problems and number not in self._broken:
                self._broken.add(number)
                self._tally.add(problems[number])
        total = self._endless.total
        self._tally.check(LEAST_STREAMED if total is None else min(total, LEAST_STREAMED))

    def _item(self, row: _Row) -> Item:
        number, content, _ = row
        if not isinstance(content, Mapping):
            raise BadRowError("not a row of columns")
        cell = content.get(self._image)
        data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        name = posixpath.basename(path) if isinstance(path, str) and path else f"row {number}"
        if isinstance(data, bytes):
            read = partial(_given, data)
        elif data is None and isinstance(path, str) and path:
            read = partial(_fetched, path)
        else:
            self._check_kind(cell)
            raise BadRowError(f"no image in {self._image}")
        source = f"{self._id}@{self._split}/{number}"
        captions = captions_in(content.get(self._caption))
        return Item(name, captions, f"row {number} of {self._title}", 1, read, source, self._beside(row))

    def _check_kind(self, cell: object) -> None:
        """Raises `UserError` for a cell that no row of a column of pictures has: an address, text or a list."""
        if isinstance(cell, str) and cell.strip():
            what, cure = "text", "name the column of pictures with --image-column"
            if cell.lstrip().startswith(("http://", "https://")):
                what = "addresses of pictures"
                cure = "use a copy with the pictures, such as img2dataset makes, as addresses are not downloaded"
        elif isinstance(cell, list):
            what, cure = "lists of pictures", "use a copy with one picture a row"
        else:
            return
        raise UserError(f"The column {self._image} of {self.name} holds {what}: {cure}.")

    def _beside(self, row: _Row) -> tuple[str, ...]:
        """The previous row's captions; none for the first row drawn, or if that row had none."""
        if row.number == self._endless.start:
            return ()
        try:
            return captions_in(row.said_before)
        except BadRowError:
            return ()


def _id_and_split(written: str) -> tuple[str, str]:
    """A data set's id, or a folder's path, and its split."""
    head, at_split = name_and_split(written)
    split = at_split.removeprefix("@") if at_split else "train"
    if not split:
        raise UserError(f"Write the name of a split after @, such as @train. {WRITE_SO}")
    folder = expanded(head)
    return (str(folder), split) if folder.is_dir() else (head, split)


def _tars(folder: Path) -> dict[str, list[str]]:
    """The .tar files of a folder by split, if tables lie beside them, but no kind of table in larger number.

    So img2dataset writes them, and `datasets` would read the tables, which hold no picture. Empty for anything else.
    """
    files = [*files_in(folder), *files_in(folder, "*/*")] if folder.is_dir() else []
    kinds = Counter(path.suffix.lower() for path in files if path.suffix.lower() in (SHARD, *OTHER_TABLES))
    if not kinds[SHARD] or len(kinds) == 1 or kinds[SHARD] < max(kinds.values()):
        return {}
    found: dict[str, list[str]] = {}
    for path in files:
        if path.suffix.lower() == SHARD:
            words = {path.parent.name.lower(), *re.split("[-_. ]", path.stem.lower())}
            found.setdefault(next((split for split in SPLITS if split in words), "train"), []).append(str(path))
    return found


def _stream(
    name: str, title: str, split: str, image: str, columns: Sequence[str], tars: Mapping[str, Sequence[str]]
) -> tuple[Iterable[Any], str]:
    """The rows of a data set with images as bytes or paths, and the name of the column of captions.

    tars: by split, the files to read instead of what `datasets` would choose; empty: its choice.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(NO_DATASETS) from error
    try:
        if tars:
            splits = datasets.load_dataset("webdataset", data_files=dict(tars), streaming=True)
        else:
            splits = datasets.load_dataset(name, streaming=True)
    except Exception as error:  # a wrong name, no access, no network: many libraries' errors
        raise UserError(
            f"The data set {title} cannot be opened: check its name and the network; "
            "if it is gated, accept its terms on its page and log in with `hf auth login`."
        ) from error
    if split not in splits:
        raise UserError(f"{title} has no split {split}: its splits are {', '.join(map(str, splits))}.")
    stream = splits[split]
    first: Any = {} if stream.column_names else _first(stream, title)
    there = stream.column_names or (list(first) if isinstance(first, Mapping) else [])
    check_columns(title, there, (image,), "the images", "name yours with --image-column")
    check_columns(title, there, columns, "the captions", "name yours with --caption-column")
    caption = next((column for column in columns if column in there), columns[0])
    stream = stream.select_columns([image, caption]) if there else stream
    if stream.features and isinstance(stream.features.get(image), datasets.Image):
        stream = stream.cast_column(image, datasets.Image(decode=False))
    return stream, caption


def _first(stream: Iterable[Any], title: str) -> Any:
    """The first row, which alone tells the columns of some data sets."""
    try:
        return next(iter(stream), {})
    except Exception as error:  # as in `_Endless`
        raise UserError(f"hub:{title} broke off before its first row: check the network, then start again.") from error


def _given(data: bytes, name: str) -> bytes:
    return data


def _fetched(path: str, name: str) -> bytes:
    """The bytes at a path or URL that `datasets` gave instead of an image's bytes, up to one more than the limit."""
    import fsspec

    with fsspec.open(path, "rb") as file:
        return at_most(file, LIMITS.image_bytes)
