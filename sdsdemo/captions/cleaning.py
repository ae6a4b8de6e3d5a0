"""One cleaning of captions before every tokenizer, so that all models and all entrances read the same text.

What open_clip does before its own tokenizer (ftfy's repairs of encoding and typography, HTML unescaped, whitespace
collapsed), and without characters that nobody sees. Stable Diffusion's tokenizer does none of it, so that a curly
apostrophe would be another word there.

An invisible character stays where its script or an emoji is written with it: a joiner between Persian letters or after
a virama, the parts of a family or a flag. Between Latin letters it would only make another word.
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
"""Scripts whose words may hold a joiner or a non-joiner."""
HIDDEN = r"[[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}\p{Cs}]--[\s\p{Prepended_Concatenation_Mark}]]"
"""What is not seen: Unicode's ignorable, control and format characters, but for spaces and signs over numbers."""
KEPT = (
    r"(?<=[{joining}])[\u200c\u200d](?=[{joining}])",
    r"(?<=\p{{ccc=Virama}})\u200d",
    r"(?<=\p{{Mongolian}})[\u180b-\u180f]",
    r"(?<=[\p{{Extended_Pictographic}}\p{{Emoji_Modifier}}]\ufe0f?)\u200d(?=\p{{Extended_Pictographic}})",
    r"(?<=\p{{Extended_Pictographic}})\ufe0f",
    r"(?<=[0-9#*])\ufe0f(?=\u20e3)",
    r"\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f",
)
"""Where it stays: within words of such scripts, and within emoji (UTS #51: sequences, presentation, keycaps, flags)."""
BLANK_OF_BRAILLE = "\u2800"
"""Seen as a space, though Unicode calls it a sign."""
ROUNDS = 32
"""How often a caption is cleaned until nothing changes: entities may be escaped within entities."""
REMEMBERED = 65_536
READ_PLAIN = (
    "Of {total:,} captions {count:,} {are} read with typography, HTML entities or invisible characters made plain."
)
READ = "Caption {letter} is read as “{text}”: typography, HTML entities and invisible characters are made plain."


def clean_caption(caption: str) -> str:
    """The text that every model reads; cleaning it again changes nothing. Plain ASCII changes in its spaces alone."""
    if caption.isascii() and caption.isprintable() and "&" not in caption:
        return _spaced(caption)
    return _cleaned(caption)


def clean_captions(captions: Sequence[str]) -> list[str]:
    """Each caption cleaned."""
    return [clean_caption(caption) for caption in captions]


def cleaning_notes(typed: Sequence[str], cleaned: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each caption of which more than spaces was changed."""
    return tuple(
        READ.format(letter=letter(index), text=after)
        for index, (before, after) in enumerate(zip(typed, cleaned, strict=True))
        if _differs(before, after)
    )


def plain_notes(captions: Iterable[str]) -> list[str]:
    """For many captions: how many of them are read as another text, in a sentence; none where none is."""
    every = set(captions)
    count = sum(_differs(caption, clean_caption(caption)) for caption in every)
    return [READ_PLAIN.format(total=len(every), count=count, are="is" if count == 1 else "are")] if count else []


def is_blank(caption: str) -> bool:
    """Whether nothing of a caption is left to read."""
    return not clean_caption(caption)


def _differs(typed: str, cleaned: str) -> bool:
    return unicodedata.normalize("NFC", _spaced(typed)) != cleaned


def letter(index: int) -> str:
    """What a caption is called: A, B, ... as on the page, and 27 after Z."""
    return chr(ord("A") + index) if index < 26 else str(index + 1)


@lru_cache(maxsize=REMEMBERED)
def _cleaned(caption: str) -> str:
    for _ in range(ROUNDS):
        before, caption = caption, _once(caption)
        if caption == before:
            break
    return caption


def _once(caption: str) -> str:
    import ftfy  # takes a tenth of a second, and plain captions do without

    text = html.unescape(html.unescape(ftfy.fix_text(_whole_characters(caption))))
    return _spaced(_hidden().sub(r"\1", text.replace(BLANK_OF_BRAILLE, " ")))


@lru_cache(maxsize=1)
def _hidden() -> regex.Pattern[str]:
    """Finds every invisible character; its group holds one that stays."""
    import regex

    joining = "".join(rf"\p{{scx={script}}}" for script in JOINING)
    kept = "|".join(rule.format(joining=joining) for rule in KEPT)
    return regex.compile(f"({kept})|{HIDDEN}", flags=regex.VERSION1)


def _whole_characters(text: str) -> str:
    """Halves of characters joined in pairs; a half alone is dropped."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def _spaced(text: str) -> str:
    return " ".join(text.split())
