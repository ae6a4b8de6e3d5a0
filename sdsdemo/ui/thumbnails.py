"""Thumbnails inside the page, as `data:` URLs, so that pictures of a gated set get no URL of their own."""

from __future__ import annotations

import base64
import io
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from sdsdemo.errors import UserError
from sdsdemo.types import Example, Picture
from sdsdemo.ui.templates import render

THUMB, LARGE = 112, 440
"""Pixels of the longer side, in the gallery and for one example."""
KEPT_THUMBS = 3_000


class Thumbnails:
    """Thumbnails as `data:` URLs, made when first needed. Safe to share between threads."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, int], str] = OrderedDict()
        self._lock = Lock()
        self.busy = False
        """Whether they are being made ahead of time."""

    def make(self, examples: Sequence[Example]) -> None:
        """Make the gallery's thumbnails ahead of time."""
        self.busy = True
        for picture in (picture for example in examples for picture in example.images):
            self.of(picture, THUMB)

    def of(self, picture: Picture, side: int) -> str:
        """A `data:` URL; empty if the picture cannot be read."""
        key = (picture.key or picture.name, side)
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = _encoded(picture, side)
        with self._lock:
            self._made[key] = made
            while len(self._made) > KEPT_THUMBS:
                self._made.popitem(last=False)
        return made


def _encoded(picture: Picture, side: int) -> str:
    try:
        image = picture.open()
    except UserError:
        return ""
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=82, method=2)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def picture_html(picture: Picture, side: int, words: str, thumbs: Thumbnails) -> str:
    """The picture, or a note that it cannot be read. words: its alternative text."""
    return render("parts.picture", source=thumbs.of(picture, side), name=picture.name, words=words)
