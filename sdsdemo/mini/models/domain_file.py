"""Writes `knows.json`, the words and colours by which the Mini models recognise images and captions of their world."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from sdsdemo.data.mini.drawing import BACKGROUND_RGB, COLOUR_RGB
from sdsdemo.data.mini.sentences import WORDS
from sdsdemo.data.mini.sketches import MOST
from sdsdemo.models.domain import FILE, Look
from sdsdemo.runtime.files import write_json

LOOK = Look(
    backgrounds=tuple(BACKGROUND_RGB.values()),
    colours=tuple(COLOUR_RGB.values()),
    background_within=20.0,
    border_share=0.75,
    colour_within=34.0,
    strange_share=0.02,
    solid_share=0.4,
    least_area=0.006,
    most_objects=MOST,
    covered=(0.01, 0.6),
)
"""The thresholds were tuned on validation pictures and on foreign ones, with other seeds than the tests use."""


def write_knows(folder: Path) -> None:
    """Write the words and the look of the Mini world beside a model's weights."""
    write_json(folder / FILE, {"words": list(WORDS), "look": asdict(LOOK)})
