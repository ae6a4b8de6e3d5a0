"""One cleaning of captions before every tokenizer, so that all models and all entrances read the same text.

What open_clip does before its own tokenizer (ftfy's repairs of encoding and typography, HTML unescaped, whitespace
collapsed), and without characters that nobody sees. Stable Diffusion's tokenizer does none of it, so that a curly
apostrophe would be another word there.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

INVISIBLE = ("Cc", "Cf", "Cs")
"""Unicode's control and format characters, and halves of characters, which cannot even be written to a file."""
JOINERS = "\u200c\u200d"
"""Format characters with a meaning: they are part of Persian words and of many emoji."""
ROUNDS = 32
"""How often a caption is cleaned until nothing changes: entities may be escaped within entities."""
REMEMBERED = 65_536
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
        if unicodedata.normalize("NFC", _spaced(before)) != after
    )


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
    kept = (c for c in text if c.isspace() or c in JOINERS or unicodedata.category(c) not in INVISIBLE)
    return _spaced("".join(kept))


def _whole_characters(text: str) -> str:
    """Halves of characters joined in pairs; a half alone is dropped."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def _spaced(text: str) -> str:
    return " ".join(text.split())
