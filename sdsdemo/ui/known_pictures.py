"""Recognises pictures by their pixels, and writes them where the page can show them."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock

from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL.Image import Image

from sdsdemo.data.files.picture_digest import of_pixels
from sdsdemo.ui.examples import ShownExample

REMEMBERED = 2_000


class KnownPictures:
    """The examples behind pictures, the last `REMEMBERED` of them. Safe to share between visitors."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, ShownExample] = OrderedDict()
        self._lock = Lock()

    def add(self, image: Image, example: ShownExample) -> None:
        """Remember which example a picture shows."""
        key = of_pixels(image)
        with self._lock:
            self._known[key] = example
            self._known.move_to_end(key)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)

    def find(self, image: Image) -> ShownExample | None:
        """The example that a picture shows; None if unknown."""
        key = of_pixels(image)
        with self._lock:
            return self._known.get(key)


def in_cache(image: Image) -> Path:
    """The path of a lossless copy that the page may show."""
    return Path(save_pil_to_cache(image, get_upload_folder(), format="png"))
