"""The example pictures under the picture field, as buttons."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sdsdemo.models.images import open_image
from sdsdemo.types import Picture
from sdsdemo.ui.examples import ShownExample
from sdsdemo.ui.templates import render
from sdsdemo.ui.thumbnails import THUMB, Thumbnails


def strip_html(examples: Sequence[ShownExample]) -> str:
    """One button for each example, with its picture and title."""
    thumbnails = Thumbnails()
    return render(
        "compare.strip",
        examples=[{"source": thumbnails.of(_picture(example), THUMB), "title": example.title} for example in examples],
    )


def _picture(example: ShownExample) -> Picture:
    return Picture(name=example.path.name, open=partial(open_image, example.path), key=str(example.path))
