"""A visitor's picture, decoded within the page's seconds. One that was refused costs nothing a second time."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock

from sdsdemo.models.images import Opened, PictureError, open_picture
from sdsdemo.runtime import homes
from sdsdemo.settings import LIMITS

REMEMBERED = 256
"""Refused files: a path in Gradio's cache holds the digest of what was uploaded."""
_refused: OrderedDict[tuple[str, int], str] = OrderedDict()
_lock = Lock()


def open_upload(path: str | Path) -> Opened:
    """The picture of a visitor's file, and what is to be said of it. Raises `UserError`."""
    homes.note_use(Path(path))
    key = _key(Path(path))
    with _lock:
        known = _refused.get(key)
    if known is not None:
        raise PictureError(known)
    try:
        return open_picture(path, seconds=LIMITS.image_seconds)
    except PictureError as error:
        with _lock:
            _refused[key] = str(error)
            while len(_refused) > REMEMBERED:
                _refused.popitem(last=False)
        raise


def _key(path: Path) -> tuple[str, int]:
    try:
        return str(path), path.stat().st_size
    except (OSError, ValueError):
        return str(path), 0
