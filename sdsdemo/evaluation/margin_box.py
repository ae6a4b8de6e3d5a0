"""A rectangle in the plane of two models' margins, and how it is written: `-1:2,0:` is x from -1 to 2, y from 0 up."""

from __future__ import annotations

import re
from math import inf, isfinite
from typing import NamedTuple

import numpy as np

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


class MarginBox(NamedTuple):
    """The margins to keep, ends included; an open side is infinite."""

    x_low: float = -inf
    x_high: float = inf
    y_low: float = -inf
    y_high: float = inf

    def holds(self, x_E: np.ndarray, y_E: np.ndarray) -> np.ndarray:
        """Which examples lie inside. NaN lies inside nothing."""
        inside: np.ndarray = (x_E >= self.x_low) & (x_E <= self.x_high) & (y_E >= self.y_low) & (y_E <= self.y_high)
        return inside

    @classmethod
    def read(cls, text: str) -> MarginBox | None:
        """The rectangle that a text describes; None for an empty text, and for one without a number.

        Raises ValueError for anything else.
        """
        if not text:
            return None
        sides = [side.split(":") for side in text.split(",")]
        ends = [end.strip() for side in sides for end in side]
        if [len(side) for side in sides] != [2, 2]:
            raise ValueError(f"a rectangle of margins must be like -1:2,0: and is {text[:40]!r}")
        found = cls(*[_number(end, open_at) for end, open_at in zip(ends, cls(), strict=True)])
        if found.x_low > found.x_high or found.y_low > found.y_high:
            raise ValueError(f"a range must go from low to high: {text[:40]!r}")
        return None if found == cls() else found

    def __str__(self) -> str:
        ends = [f"{end:.6g}" if isfinite(end) else "" for end in self]
        return f"{ends[0]}:{ends[1]},{ends[2]}:{ends[3]}"


def _number(text: str, open_at: float) -> float:
    """A finite decimal number; `open_at` if there is none."""
    if not text:
        return open_at
    if not NUMBER.fullmatch(text) or not isfinite(float(text)):
        raise ValueError(f"not a finite number: {text[:40]!r}")
    return float(text)
