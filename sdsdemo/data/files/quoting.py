"""Quotes text from files in messages: short, and in printable characters."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 60
"""Characters shown of a name."""
MOST = 8
"""Names shown of a list."""


def shown(text: object) -> str:
    """The beginning of a text; unprintable characters become question marks."""
    whole = str(text)
    cut = whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}..."
    return "".join(character if character.isprintable() else "?" for character in cut)


def listed(names: Iterable[object], most: int = MOST) -> str:
    """The first of several names, separated by commas, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(map(shown, every[:most])) + more


def is_whole(text: str) -> bool:
    """Whether a text can be written to a file: not if it has half of a surrogate pair, as "\\ud800" in JSON."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
