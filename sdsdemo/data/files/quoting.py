"""Text from a file in a sentence for people: short, and of characters that can be printed."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 60
"""Characters that are shown of a name."""
MOST = 8
"""How many names are shown."""


def shown(text: object) -> str:
    """The beginning of a text; what cannot be printed is a question mark."""
    whole = str(text)
    cut = whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}..."
    return "".join(character if character.isprintable() else "?" for character in cut)


def listed(names: Iterable[object], most: int = MOST) -> str:
    """The first of several names, with commas between, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(map(shown, every[:most])) + more


def is_whole(text: str) -> bool:
    """Can a text be written to a file? One with half of a character, as "\\ud800" in JSON, cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
