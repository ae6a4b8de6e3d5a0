"""Checks and cleans the captions that people type, for page, shell and Python. Only limits that hold for all models."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from sdsdemo.captions.cleaning import clean_captions, letter
from sdsdemo.errors import UserError
from sdsdemo.settings import LIMITS

TYPED_CHARACTERS = 10 * LIMITS.caption_characters
"""Most characters of a caption as it is typed: HTML entities make it longer than it reads."""
TOO_LONG = "Caption {} has {:,} characters: shorten it to {} or fewer."


def check_captions(captions: Sequence[str]) -> list[str]:
    """The captions as every model reads them (`captions.cleaning`).

    Raises `UserError` for fewer than two or too many captions, and for one that is empty, too long, or the same as
    another apart from case and spacing. Its messages call the captions A, B, ... as on the page.
    """
    if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
        raise UserError("Give the captions as a list of two or more texts.")
    if len(captions) < 2:
        raise UserError(f"Write caption {'B' if captions else 'A'} as well: a model compares at least two captions.")
    if len(captions) > LIMITS.captions:
        raise UserError(f"Give at most {LIMITS.captions} captions; there were {len(captions)}.")
    for index, caption in enumerate(captions):
        _check_typed_length(caption, letter(index))
    tidy = clean_captions(captions)
    for index, caption in enumerate(tidy):
        _check_length(caption, letter(index))
    _check_different(tidy)
    return tidy


def _check_typed_length(caption: str, called: str) -> None:
    """Before cleaning, which takes time that grows with the square of the length."""
    if len(caption) > TYPED_CHARACTERS:
        raise UserError(TOO_LONG.format(called, len(caption), LIMITS.caption_characters))


def _check_length(caption: str, called: str) -> None:
    if not caption:
        raise UserError(f"Caption {called} is empty: write a sentence that could describe the picture.")
    if len(caption) > LIMITS.caption_characters:
        raise UserError(TOO_LONG.format(called, len(caption), LIMITS.caption_characters))


def _check_different(captions: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for index, caption in enumerate(captions):
        other = first.setdefault(unicodedata.normalize("NFC", caption).casefold(), index)
        if other != index:
            pair = f"{letter(other)} and {letter(index)}"
            raise UserError(f"Captions {pair} are the same, capitals and spaces aside: change one of them.")
