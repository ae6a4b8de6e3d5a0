"""Text for a terminal of some width: paragraphs that hang, in which a command stays whole."""

from __future__ import annotations

import re
import textwrap

COMMAND = re.compile("`[^`]*`")
GLUE = "\u00a0"
"""A space at which no line ends."""


def wrapped(text: str, width: int, first: str = "", rest: str = "") -> str:
    """The text in lines of that width, the first after `first`, the others after `rest`. Nothing is cut.

    A word, or a command between backticks, that is longer than a line sticks out.
    """
    glued = COMMAND.sub(lambda command: command.group().replace(" ", GLUE), text)
    lines = textwrap.fill(
        glued, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return lines.replace(GLUE, " ")
