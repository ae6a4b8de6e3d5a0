"""Tables as people save them: a file's text in any common encoding, its separator, its lines, lists in one cell.

What is unambiguous is read; anything else is a `UserError` or, for a single cell, a `ValueError`. A line ends at a line
feed (with a carriage return before it, if there is one), never at U+2028 or elsewhere that `str.splitlines` splits.
Knows no column and no image.
"""

from __future__ import annotations

import ast
import codecs
import csv
import io
import re
import tokenize
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sdsdemo.data.files.bounded import read_table
from sdsdemo.data.files.pointers import check_content
from sdsdemo.errors import UserError
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""Possible separators of cells, with their names."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
"""Byte order marks and their encodings; those of UTF-32 go first, since they begin with those of UTF-16."""
WESTERN = frozenset("àáâãäåæçèéêëìíîïñòóôõöøœùúûüÿßÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØŒÙÚÛÜ")
TYPOGRAPHY = frozenset("‘’“”–—…•€£°©®™½¼¾²³×·´ª«»¿¡§\u00a0")
UPPER = "".join(sorted(letter for letter in WESTERN if letter.isupper()))
MISREAD = re.compile(rf"[a-z][{UPPER}]|[^\W\d_][²³ª£¼¾][^\W\d_]|[^\W\d_]¿|£[^\W\d_]")
"""What other encodings look like when read as Windows-1252: Mac OS Roman's quotes and dashes become capitals, as in
"dogÕs", and letters of Windows-1250 become marks, as in "Wroc³aw"."""
MOST_FOREIGN = 0.1
"""Share of Windows-1252 letters beyond ASCII; above it, another alphabet is more likely."""
LONGEST_CELL = 10_000_000
"""Characters in a cell."""
SAID_OF_JSON = ("a number", "the number", "it is nested", "NaN", "Infinity", "-Infinity")
"""How what `from_json` says of a value begins; anything else is about the text's form."""
BLANK = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
SAVE_AGAIN = "save it again as UTF-8"


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The text of a file."""

    text: str
    encoding: str
    """The encoding's usual name: UTF-8, UTF-16, UTF-32, Windows-1252."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of cells: its header and its rows."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[int, Mapping[str, str] | str]]
    """(line, cells by column), or (line, what is wrong with the row)."""


def read_text(path: Path, name: str) -> Decoded:
    """The text of a file. name: how to call it in messages. Raises `UserError` for an unreadable file or unknown
    encoding."""
    try:
        content = read_table(path, name)
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}): check the file.") from error
    return decoded(content, name)


def decoded(content: bytes, name: str) -> Decoded:
    """The text of these bytes. The bytes identify UTF-8, UTF-16 and UTF-32. Any bytes may be Windows-1252, so
    it is assumed only if everything beyond ASCII is single western letters and typographic marks in English text.

    Raises `UserError` for anything else.
    """
    check_content(content, name)
    for mark, codec, said in MARKS:
        if content.startswith(mark):
            return Decoded(text=_as(codec, content, name), encoding=said)
    if (wide := _wide(content)) is not None:
        return Decoded(text=_as(wide, content, name), encoding="UTF-16")
    try:
        return Decoded(text=content.decode("utf-8"), encoding="UTF-8")
    except UnicodeDecodeError as error:
        text = _western(content)
        if text is None:
            raise UserError(f"{name} cannot be read as UTF-8 text: {SAVE_AGAIN}.") from error
        return Decoded(text=text, encoding="Windows-1252")


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of each line that is not empty."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.removesuffix("\r")


def json_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """(line, row) of JSON Lines, or (line, what is wrong with it)."""
    for number, line in lines_of(text):
        try:
            row: dict[str, Any] = shaped(from_json(line), dict[str, Any])
        except ValueError as error:
            said = str(error)
            yield number, said if said.startswith(SAID_OF_JSON) else "not a JSON object"
            continue
        yield number, row


def cells_of(text: str, name: str, known: Collection[str]) -> Table:
    """The rows of a table of cells. known: columns that may be present, which identify the separator.

    A row with more cells than the header is reported: an unquoted caption with a comma would be cut short. A row of
    blank cells, which spreadsheets write where rows were cleared, is passed over. Raises `UserError`, also while the
    rows are read, for quotes that do not close.
    """
    text = text.removeprefix("\ufeff")
    first, _, rest = text.partition("\n")
    declared = re.fullmatch(r'"?sep=(.)"?\r?', first.strip(" ") or "")
    skipped = 1 if declared else 0
    body = rest if declared else text
    separator = declared[1] if declared else separator_of(body, known)
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True)
    columns = tuple(cell.strip() for cell in _first_row(reader, name))
    return Table(columns=columns, rows=_rows(reader, columns, name, skipped))


def separator_of(text: str, known: Collection[str]) -> str:
    """The separator: the one that gives the header most known columns, else most cells."""
    header = next((line for _, line in lines_of(text)), "")

    def found(separator: str) -> tuple[int, int]:
        try:
            cells = next(csv.reader([header], delimiter=separator), [])
        except csv.Error:
            return 0, 0
        return len({cell.strip() for cell in cells} & set(known)), len(cells)

    return max(SEPARATORS, key=found)


def list_in(cell: str) -> list[str] | None:
    """The texts of a list in one cell, written as JSON or as Python prints it; None for plain text.

    Raises `ValueError` for a cell that looks like a list but has no certain boundaries between its texts, such as
    NumPy's ['a cat' 'a dog'].
    """
    text = cell.strip()
    if not text.startswith(("[", "(")) or not text.endswith(("]", ")")):
        return None
    found = _as_json(text)
    found = _as_python(text) if found is None else found
    if found is not None and all(isinstance(part, str) for part in found):
        return found
    if text.startswith("["):
        raise ValueError("a list in one cell that cannot be split: write one caption a row, or a JSON list")
    return None


def _as_json(text: str) -> list[Any] | None:
    try:
        found: list[Any] = shaped(from_json(text), list[Any])
        return found
    except ValueError:
        return None


def _as_python(text: str) -> list[Any] | None:
    """A Python list or tuple of texts; None where two texts are adjacent, which Python would join."""
    try:
        found = ast.literal_eval(text)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        kinds = [token.type for token in tokens if token.type not in BLANK]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError):
        return None
    joined = any(a == b == tokenize.STRING for a, b in pairwise(kinds))
    return list(found) if isinstance(found, list | tuple) and not joined else None


def _as(codec: str, content: bytes, name: str) -> str:
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is truncated or damaged: {SAVE_AGAIN}.") from error


def _wide(content: bytes) -> str | None:
    """UTF-16 without a byte order mark: Latin text has a zero in nearly every second byte, and nowhere else."""
    head = content[:2000]
    if len(head) < 4 or len(content) % 2:
        return None
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    if odd > 0.7 * half and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even > 0.7 * half and odd == 0 else None


def _western(content: bytes) -> str | None:
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        return None
    foreign = [character for character in text if character > "\x7f"]
    letters = sum(character.isalpha() for character in text)
    sure = all(character in WESTERN or character in TYPOGRAPHY for character in foreign)
    alone = not re.search(f"[{''.join(WESTERN)}]{{2}}", text)
    in_words = all(_in_word(text, match.start()) for match in re.finditer(f"[{''.join(WESTERN)}]", text))
    is_other = MISREAD.search(text) is not None
    few = sum(character in WESTERN for character in foreign) <= MOST_FOREIGN * max(letters, 1)
    return text if sure and alone and in_words and few and not is_other else None


def _in_word(text: str, place: int) -> bool:
    """Whether an ASCII letter is next to this one."""
    beside = text[max(0, place - 1) : place] + text[place + 1 : place + 2]
    return any(character.isascii() and character.isalpha() for character in beside)


def _first_row(reader: Any, name: str) -> list[str]:
    try:
        return next((row for row in reader if any(cell.strip() for cell in row)), [])
    except csv.Error as error:
        raise UserError(_broken(reader.line_num, name, error)) from error


def _rows(
    reader: Any, columns: tuple[str, ...], name: str, skipped: int
) -> Iterator[tuple[int, Mapping[str, str] | str]]:
    try:
        for row in reader:
            line = reader.line_num + skipped
            if len(row) > len(columns) and any(cell.strip() for cell in row[len(columns) :]):
                yield line, f"{len(row)} cells where the header has {len(columns)}: put quotes around the text"
            elif any(cell.strip() for cell in row):
                yield line, dict(zip(columns, row, strict=False))
    except csv.Error as error:
        raise UserError(_broken(reader.line_num + skipped, name, error)) from error


def _broken(line: int, name: str, error: Exception) -> str:
    if "field larger" in str(error):
        return f"Line {line} of {name} has a cell of more than {LONGEST_CELL:,} characters: shorten it."
    return f"{name} cannot be read beyond line {line}: its quotes do not close, or occur inside a cell undoubled."
