"""What a score is called on the page, by its kind. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping

from sdsdemo.types import Kind

UNIT: Mapping[Kind, str] = {
    "similarity": "100 × cosine",
    "log-odds": "log-odds of “yes”",
    "denoising": "loss, lower is better",
}
"""Above a table of scores."""
AXIS: Mapping[Kind, str] = {**UNIT, "denoising": "loss"}
"""Beside an axis of differences."""
