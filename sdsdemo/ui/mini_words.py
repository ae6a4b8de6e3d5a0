"""The words that Mini's models know, by kind, as the page shows them."""

from __future__ import annotations

from collections.abc import Sequence

from sdsdemo.data.mini.scenes import COLOURS, SHAPES

MINI_WORDS: dict[str, Sequence[str]] = {
    "shapes": SHAPES,
    "colours": COLOURS,
    "sizes and numbers": ("big", "small", "one", "two", "three"),
    "places": (
        "left of",
        "right of",
        "to the left of",
        "to the right of",
        "above",
        "below",
        "inside",
        "next to",
        "beside",
        "with",
        "and",
    ),
    "others": ("a", "an", "the", "is", "are", "this is", "these are", "there is", "a picture of", "a drawing of"),
}
"""Some are said in pairs, as sentences have them; the plurals of shapes are known too."""
