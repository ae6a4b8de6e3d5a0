"""One glyph and one colour for each model: the same in every tab, figure and download.

Blue and orange are the two captions' and green is for right answers, so no model has them. `.k0` to `.k7` in
`assets/style/base.css` have the same colours, and lighter ones for dark mode.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True)
class Mark:
    """How a model is drawn. slot: its place among `MARKS`; shape: the glyph's name in matplotlib."""

    slot: int
    glyph: str
    colour: str
    shape: str


_LOOKS = (
    ("●", "#0f766e", "o"),
    ("■", "#7e22ce", "s"),
    ("◆", "#be185d", "D"),
    ("▲", "#475569", "^"),
    ("▼", "#4d7c0f", "v"),
    ("✚", "#0e7490", "P"),
    ("★", "#92400e", "*"),
    ("✖", "#b91c1c", "X"),
)
MARKS = tuple(Mark(slot, *look) for slot, look in enumerate(_LOOKS))
KNOWN = {
    "mini-clip": 0, "mini-diffusion": 1, "mini-sds-clip": 2, "mini-clip-2": 3, "mini-clip-3": 4, "mini-clip-clean": 5,
    "mini-diffusion-short": 6, "mini-clip-control": 7, "mini-preference-clip": 3, "mini-clip-lesson": 4, "tuned": 6,
    "base": 0,
}  # fmt: skip
"""The slots of the models that are often seen together."""


def mark_of(name: str) -> Mark:
    """A model's mark: the same for the same name, wherever it is asked for."""
    slot = KNOWN.get(name)
    return MARKS[sha256(name.encode()).digest()[0] % len(MARKS) if slot is None else slot]


def marks_of(names: Iterable[str]) -> dict[str, Mark]:
    """The marks of models that are shown together: a later one takes a free slot if its own is taken."""
    marks: dict[str, Mark] = {}
    for name in names:
        first = mark_of(name).slot
        order = [MARKS[(first + step) % len(MARKS)] for step in range(len(MARKS))]
        marks[name] = next((mark for mark in order if mark not in marks.values()), order[0])
    return marks
