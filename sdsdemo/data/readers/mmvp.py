"""MMVP-VLM: pairs of images that CLIP confuses, in nine visual patterns (Tong et al. 2024, 2401.06209).

mmvp-vlm:PATH     Questions.csv, rows of (number, pattern, statement), where every two rows are a pair; images in
                  "MLLM_VLM Images"/PATTERN/NUMBER.jpg, as in MMVP/MMVP_VLM on the Hub and in the authors'
                  scripts/evaluate_vlm.py; their README calls the folder MMVP_VLM_Images

A caption is "a photo of" plus the statement, as in that script.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sdsdemo.captions.cleaning import is_blank
from sdsdemo.data.files.image_files import ImageFiles, Note, silent
from sdsdemo.data.files.json_cases import pictures_in
from sdsdemo.data.files.quoting import listed, shown
from sdsdemo.data.files.tables import cells_of, read_text
from sdsdemo.data.published.sets import MMVP, SET
from sdsdemo.errors import UserError
from sdsdemo.types import Example

TABLE = "Questions.csv"
COLUMNS = ("Question ID", "Type", "Statement")
FOLDERS = ("MLLM_VLM Images", "MMVP_VLM_Images", "MLLM_VLM_Images", "images")
PROMPT = "a photo of "
PATTERNS, PAIRS = 9, 15
"""Number of published patterns, and of pairs per pattern."""

Row = tuple[str, str, str, str]
"""Where it is, number, pattern, statement."""


def read_mmvp(folder: Path, note: Note = silent) -> list[Example]:
    """Every pair; `tag` is its visual pattern. Raises `UserError` naming file and line."""
    rows, images = _rows(folder), pictures_in(folder, *FOLDERS)
    if len(rows) % 2:
        raise UserError(f"{TABLE} has {len(rows)} rows, but they come in pairs: copy the file again.")
    examples = []
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        if first[2] != second[2]:
            raise UserError(
                f"{second[0]} has the pattern {shown(second[2])}, the other row of its pair {shown(first[2])}: "
                "a row is missing before it."
            )
        pictures = tuple(
            images.picture(f"{_folder(images, pattern)}/{number}.jpg", where)
            for where, number, pattern, _ in (first, second)
        )
        captions = tuple(f"{PROMPT}{statement}" for *_, statement in (first, second))
        tags = {"tag": first[2].replace("_", " "), SET: MMVP}
        examples.append(Example(id=f"{first[1]}-{second[1]}", images=pictures, captions=captions, tags=tags))
    images.note_places(note)
    _note_patterns(examples, note)
    return examples


def _folder(images: ImageFiles, pattern: str) -> str:
    """The folder of a pattern, as written or with _ for spaces."""
    ways = (pattern, pattern.replace(" ", "_"), pattern.replace("_", " "))
    return next((way for way in ways if any((root / way).is_dir() for root in images.roots)), pattern)


def _rows(folder: Path) -> list[Row]:
    path = folder / TABLE
    if not path.is_file():
        raise UserError(f"{TABLE} is missing in '{folder.name}': name the folder that MMVP/MMVP_VLM unpacks to.")
    table = cells_of(read_text(path, TABLE).text, TABLE, COLUMNS)
    if len(table.columns) < len(COLUMNS):
        has = listed(table.columns) or "nothing"
        raise UserError(f"{TABLE} has the columns {has}; {', '.join(COLUMNS)} are expected.")
    rows = [_row(f"Line {line} of {TABLE}", row, table.columns) for line, row in table.rows]
    if not rows:
        raise UserError(f"{TABLE} is empty: copy it again.")
    seen = Counter(number for _, number, *_ in rows)
    twice = next((number for number, times in seen.items() if times > 1), None)
    if twice is not None:
        raise UserError(f"{TABLE} has the number {shown(twice)} twice: copy it again.")
    return rows


def _row(where: str, row: object, columns: Sequence[str]) -> Row:
    if not isinstance(row, dict):
        raise UserError(f"{where} has {row}.")
    number, pattern, statement = (str(row.get(column, "")).strip() for column in columns[: len(COLUMNS)])
    if not number.isdecimal() or not pattern or is_blank(statement):
        raise UserError(f"{where} must have a number, a visual pattern and a statement.")
    return where, number, pattern, statement


def _note_patterns(examples: Sequence[Example], note: Note) -> None:
    here = Counter(example.tags["tag"] for example in examples)
    if len(here) != PATTERNS or set(here.values()) != {PAIRS}:
        counts = listed((f"{pattern} {n}" for pattern, n in here.items()), 20)
        note(f"MMVP-VLM has {PATTERNS} visual patterns of {PAIRS} pairs each; this copy has {counts}.")
