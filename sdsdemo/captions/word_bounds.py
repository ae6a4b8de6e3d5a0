"""What of a caption must stay together: abbreviations, addresses and file names, and colours that are part of a name.

    a U.S. ship, a St. Louis arch       an abbreviation is no word of its own
    example.com/dog.jpg, and/or         words that are joined without a space are one
    the White House, Red Sox            a colour with a capital is part of a name, but in a title or in capitals

Sees characters, and knows no word list.
"""

from __future__ import annotations

import re

ENDS = '.!?;:"“'
"""What may stand before a sentence's first word."""
DASHES = "—–"
"""These part words without a space."""

_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[A-Za-z]|St|Mt|Ft|Dr|Mr|Mrs|Ms|Jr|Sr|No|vs|Ave|Rd)\.$")
_LETTERS = re.compile(r"[^\W\d_]+")
_TITLE_FROM = 4
"""Letters from which a word of a title has a capital."""


def stands_alone(caption: str, start: int, end: int) -> bool:
    """Whether the characters start..end are whole words: joined to no other one, and no part of an abbreviation."""
    before, after = re.search(r"\S*$", caption[:start]), re.match(r"\S*", caption[end:])
    joined = (before.group() if before else "")[::-1], after.group() if after else ""
    if any(part[:1] not in DASHES and re.search(r"[^\W_]", part) for part in joined if part):
        return False
    ends = [caption[:start].rstrip(), caption[: end + 1] if caption[end + 1 :].strip() else ""]
    return not any(_ABBREVIATION.search(text) for text in ends)


def begins_sentence(caption: str, start: int) -> bool:
    """Whether a sentence may begin at this character."""
    before = caption[:start].rstrip()[-1:]
    return not before or before in ENDS


def is_named(caption: str, start: int, end: int) -> bool:
    """Whether the word at start..end is part of a name: its one capital has no other reason."""
    if not caption[start:end].istitle() or _is_title(caption):
        return False
    if not begins_sentence(caption, start):
        return True
    following = re.match(r"[\s-]+([^\W\d_]+)", caption[end:])
    return following is not None and following.group(1).istitle()


def _is_title(caption: str) -> bool:
    """Whether every longer word begins with a capital, as in a title or in capitals."""
    return all(word[0].isupper() for word in _LETTERS.findall(caption) if len(word) >= _TITLE_FROM)
