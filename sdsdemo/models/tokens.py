"""What tokenizers do to captions: cut them, make them equal, or lose every word. Knows no model and no library.

A tokenizer that was saved under the wrong class loads without a complaint and reads every word as unknown; a model then
gives numbers that mean nothing. `check_tokenizer` tries the tokenizer on words of its own vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdsdemo.errors import UserError
from sdsdemo.types import Concern

LOST = (
    "The tokenizer of {model} reads words of its own vocabulary ({words}) as unknown: its files were saved for another "
    "class of tokenizer. Save them again with the right `tokenizer_class`."
)
TOO_HIGH = (
    "The tokenizer of {model} gives token {token}, but its text encoder knows only {size}: the tokenizer's files are "
    "missing or belong to another model."
)
TRIED = 48
"""Words of the vocabulary that are tried."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    """A caption as a model meets it."""

    ids: tuple[int, ...]
    """Padded to the model's length. Captions with equal ids are one caption to the model."""
    cut: bool
    """Whether words at the end were dropped."""


def check_tokenizer(tokenizer: Any, model: str) -> None:
    """Raises `UserError` when a transformers tokenizer loses words that stand in its own vocabulary."""
    words = _plain_words(tokenizer.get_vocab())
    if not words:
        return
    rows = tokenizer(words, add_special_tokens=False)["input_ids"]
    unknown = tokenizer.unk_token_id
    lost = [word for word, ids in zip(words, rows, strict=True) if not ids or unknown in ids]
    if lost or len({tuple(ids) for ids in rows}) < len(words):
        raise UserError(LOST.format(model=model, words=", ".join((lost or words)[:3])))


def check_ids(highest: int, size: int, model: str) -> None:
    """Raises `UserError` when a token is beyond the text encoder's table, as with a tokenizer of another model."""
    if highest >= size:
        raise UserError(TOO_HIGH.format(model=model, token=highest, size=size))


def caption_concerns(rows: Sequence[TokenRow], length: int) -> list[Concern]:
    """Captions of which the end is not read, and captions that are one and the same to the model; none of it blocks."""
    found = [
        Concern(
            kind="truncated",
            text=f"This model reads only the first {length} tokens: the end of caption {LETTERS[c]} does not count.",
            blocking=False,
        )
        for c, row in enumerate(rows)
        if row.cut
    ]
    first: dict[tuple[int, ...], int] = {}
    for c, row in enumerate(rows):
        other = first.setdefault(row.ids, c)
        if other != c:
            found.append(Concern(kind="equal-captions", text=_equal_words(other, c, row.cut), blocking=False))
    return found


def _equal_words(first: int, second: int, cut: bool) -> str:
    why = "they differ only beyond what it reads" if cut else "they differ only in what its tokenizer drops"
    return f"Captions {LETTERS[first]} and {LETTERS[second]} are the same to this model: {why}."


def _plain_words(vocabulary: dict[str, int]) -> list[str]:
    """Up to `TRIED` lower-case words, evenly from the sorted vocabulary, without the marks of where a word ends."""
    marked = (entry.removesuffix("</w>").lstrip("\u0120\u2581") for entry in vocabulary)
    words = sorted({word for word in marked if len(word) > 2 and word.isascii() and word.isalpha() and word.islower()})
    return words[:: max(1, len(words) // TRIED)][:TRIED]
