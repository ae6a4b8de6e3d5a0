"""Names of the cells of the study `sources`, for what declares them and what quotes them. Loads no model."""

from __future__ import annotations

SIBLING = "preference, better sibling"
"""Cell whose teacher is a CLIP instead of the diffusion model."""
RATES = (70, 85, 95)
"""Percent of the swaps that a teacher is right about once answers of it are reversed."""
SHARES = {"": 0.0, ", 10 % mislabelled": 0.1, ", 25 % mislabelled": 0.25, ", half mislabelled": 0.5}
"""What a cell's name ends with -> the share of wrong labels."""
NONE, TENTH, QUARTER, HALF = SHARES


def right_at(rate: int) -> str:
    """The cell whose teacher is right about `rate` percent of the swaps."""
    return f"preference, right {rate} %"
