"""Output on terminals that cannot show every character: a plain stand-in for each, never an error.

±  ->  +-       −  ->  -       “word”  ->  "word"       é  ->  e       other  ->  ?
"""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

PLAIN = {
    "±": "+-", "−": "-", "–": "-", "—": "-", "×": "x", "·": ".", "…": "...", "→": "->", "≤": "<=", "≥": ">=",
    "“": '"', "”": '"', "‘": "'", "’": "'", "λ": "lambda", "ε": "epsilon", "✓": "+", "✗": "-",
}  # fmt: skip
"""Characters of ours that an old code page may lack."""
ERRORS = "sdsdemo-plain"


def make_printable() -> None:
    """From now on standard output and errors replace what their encoding lacks."""
    codecs.register_error(ERRORS, _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def plain(text: str) -> str:
    """The text in ASCII."""
    return "".join(_stand_in(letter) for letter in text)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


def _stand_in(letter: str) -> str:
    if letter.isascii():
        return letter
    if letter in PLAIN:
        return PLAIN[letter]
    base = unicodedata.normalize("NFKD", letter)[:1]
    return base if base.isascii() and base.isalnum() else "?"
