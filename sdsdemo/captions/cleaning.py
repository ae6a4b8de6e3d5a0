"""Cleans every caption before tokenization, so that all models read the same text, wherever it was entered.

Does what open_clip does before its own tokenizer (ftfy repairs encoding and typography, HTML is unescaped, whitespace
collapsed), and removes invisible characters. Stable Diffusion's tokenizer does none of this: a curly apostrophe would
make a different word there.

An invisible character stays where its script or an emoji needs it: a joiner between Persian letters or after a virama,
within a family or a flag. Between Latin letters it would only make a different word.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import regex

JOINING = (
    "Arabic", "Syriac", "Mandaic", "Nko", "Adlam", "Mongolian", "Phags_Pa", "Hanifi_Rohingya", "Devanagari", "Bengali",
    "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Khmer", "Myanmar",
    "Tibetan", "Javanese", "Balinese",
)  # fmt: skip
"""Scripts whose words may contain joiners or non-joiners."""
HIDDEN = r"[[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}\p{Cs}]--[\s\p{Prepended_Concatenation_Mark}]]"
"""Invisible characters: Unicode's ignorable, control and format characters, except spaces and marks over numbers."""
KEPT = (
    r"(?<=[{joining}])[\u200c\u200d](?=[{joining}])",
    r"(?<=\p{{ccc=Virama}})\u200d",
    r"(?<=\p{{Mongolian}})[\u180b-\u180f]",
    r"(?<=[\p{{Extended_Pictographic}}\p{{Emoji_Modifier}}]\ufe0f?)\u200d(?=\p{{Extended_Pictographic}})",
    r"(?<=\p{{Extended_Pictographic}})\ufe0f",
    r"(?<=[0-9#*])\ufe0f(?=\u20e3)",
    r"\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f",
)
"""Where they stay: within words of such scripts, and emoji (UTS #51: sequences, presentation, keycaps, flags)."""
BRAILLE_BLANK = "\u2800"
"""Looks like a space, though Unicode classes it as a symbol."""
ROUNDS = 32
"""Most passes; a caption is cleaned until nothing changes, since entities may be escaped within entities."""
REMEMBERED, LONGEST_REMEMBERED = 65_536, 1_000
"""Cleaned captions that are kept in memory, and the most characters of each."""
READ_PLAIN = "Typography, HTML entities or invisible characters were normalised in {count:,} of {total:,} captions."
READ = "Caption {letter} is read as “{text}”: typography, HTML entities and invisible characters are normalised."


def clean_caption(caption: str) -> str:
    """The text that every model reads; cleaning it again changes nothing. In plain ASCII, only whitespace changes."""
    if caption.isascii() and caption.isprintable() and "&" not in caption:
        return _spaced(caption)
    return _remembered(caption) if len(caption) <= LONGEST_REMEMBERED else _cleaned(caption)


def clean_captions(captions: Sequence[str]) -> list[str]:
    """Each caption cleaned."""
    return [clean_caption(caption) for caption in captions]


def cleaning_notes(typed: Sequence[str], cleaned: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each caption in which more than whitespace changed."""
    return tuple(
        READ.format(letter=letter(index), text=after)
        for index, (before, after) in enumerate(zip(typed, cleaned, strict=True))
        if _differs(before, after)
    )


def plain_notes(captions: Iterable[str]) -> list[str]:
    """A sentence saying how many of the captions cleaning changes; empty if none."""
    every = set(captions)
    count = sum(_differs(caption, clean_caption(caption)) for caption in every)
    return [READ_PLAIN.format(total=len(every), count=count)] if count else []


def is_blank(caption: str) -> bool:
    """Whether nothing is left of a caption after cleaning."""
    return not clean_caption(caption)


def _differs(typed: str, cleaned: str) -> bool:
    return unicodedata.normalize("NFC", _spaced(typed)) != cleaned


def letter(index: int) -> str:
    """The label of a caption: A, B, ... as on the page, then 27 after Z."""
    return chr(ord("A") + index) if index < 26 else str(index + 1)


@lru_cache(maxsize=REMEMBERED)
def _remembered(caption: str) -> str:
    return _cleaned(caption)


def _cleaned(caption: str) -> str:
    for _ in range(ROUNDS):
        before, caption = caption, _once(caption)
        if caption == before:
            break
    return caption


def _once(caption: str) -> str:
    import ftfy  # takes 0.1 s to import, and plain captions do not need it

    text = html.unescape(html.unescape(ftfy.fix_text(_whole_characters(caption))))
    return _spaced(_hidden().sub(r"\1", text.replace(BRAILLE_BLANK, " ")))


@lru_cache(maxsize=1)
def _hidden() -> regex.Pattern[str]:
    """Matches every invisible character; its group captures one that stays."""
    import regex

    joining = "".join(rf"\p{{scx={script}}}" for script in JOINING)
    kept = "|".join(rule.format(joining=joining) for rule in KEPT)
    return regex.compile(f"({kept})|{HIDDEN}", flags=regex.VERSION1)


def _whole_characters(text: str) -> str:
    """Surrogate pairs joined; a lone surrogate is dropped."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def _spaced(text: str) -> str:
    return " ".join(text.split())
