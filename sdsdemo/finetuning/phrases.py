"""A run's numbers in words, for page and shell alike. Plain values; loads nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdsdemo.core.number_format import NO_SCORE, is_of_nothing

SHOWN = ("text", "image", "group", "accuracy")
"""Metrics that are shown, in this order."""
KEPT = {
    True: "non-inferior: at most 2 points lost",
    False: "not shown to be non-inferior: more than 2 points may be lost",
    None: "no test of non-inferiority: the base is not right 50 to 90 % of the time",
}


def change_words(change: Mapping[str, Any]) -> str:
    """A change with its uncertainty: "+3.1 points, 95 % interval -0.9 to +7.0, n = 400: not distinguishable ..."."""
    if is_of_nothing(change):
        return f"{NO_SCORE}, n = {change['n']}"
    low, high = 100 * change["low"], 100 * change["high"]
    said = f"{100 * change['value']:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}, n = {change['n']}"
    return said + (": not distinguishable from no change" if low <= 0 <= high else "")


def not_finite_words(found: Mapping[str, Any]) -> str:
    """How many examples a set's figures exclude as non-finite, in a sentence; empty if none."""
    counts = found.get("not_finite")
    if not counts:
        return ""
    before, after = (f"{counts[when]:,} of {found['n']:,} {when}" for when in ("before", "after"))
    return f"examples with a score that is not a finite number: {before}, {after}; these figures exclude them"


def cosine_words(cosine: float | None) -> str:
    """A median cosine; records store one that is not a number as None."""
    return "not a number" if cosine is None else f"{cosine:.3f}"
