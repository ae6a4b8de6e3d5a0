"""A visitor's picture, decoded within the page's seconds.

Decoded once for all who ask for it: when it is put in, to be recognised, and to be scored. One that was refused costs
nothing a second time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

from sdsdemo.data.files.picture_digest import of_pixels
from sdsdemo.models.images import NO_FILE, Opened, PictureError, open_picture
from sdsdemo.runtime import homes, memory
from sdsdemo.runtime.computed_once import ComputedOnce
from sdsdemo.settings import LIMITS

REMEMBERED = 256
"""Refused files: a path in Gradio's cache holds the digest of what was uploaded."""
MOST = 40_000_000
"""Bytes of decoded pictures that are kept: one of 12 megapixels. Larger ones are decoded for each who asks later."""
Key = tuple[str, int, int]
"""Path, size, inode."""


@dataclass(frozen=True, kw_only=True)
class Upload(Opened):
    """A visitor's picture. Shared between threads: change nothing in it."""

    @cached_property
    def digest(self) -> str:
        """Of its pixels."""
        return of_pixels(self.image)


def bytes_of(upload: Upload) -> int:
    """What its pixels take."""
    return upload.image.width * upload.image.height * len(upload.image.getbands())


_opened: ComputedOnce[Upload] = ComputedOnce(MOST, bytes_of)
_refused: OrderedDict[Key, str] = OrderedDict()
_lock = Lock()
_turn = threading.BoundedSemaphore(2)
"""At most so many pictures are looked at at the same time: each is held whole."""


def open_upload(path: str | Path) -> Upload:
    """The picture of a visitor's file, and what is to be said of it. Raises `UserError`."""
    homes.note_use(Path(path))
    key = _key(Path(path))
    with _lock:
        known = _refused.get(key)
    if known is not None:
        raise PictureError(known)
    try:
        return _opened.get(key, lambda: _decoded(path))
    except PictureError as error:
        if str(error) != NO_FILE:  # which may come of too many open files, and be over next time
            _remember(key, str(error))
        raise


@contextmanager
def looking() -> Iterator[None]:
    """While a picture is only looked at: two at once at most, and memory goes back to the system afterwards."""
    try:
        with _turn:
            yield
    finally:
        memory.give_back()


def _remember(key: Key, refusal: str) -> None:
    with _lock:
        _refused[key] = refusal
        while len(_refused) > REMEMBERED:
            _refused.popitem(last=False)


def _decoded(path: str | Path) -> Upload:
    found = open_picture(path, seconds=LIMITS.image_seconds)
    return Upload(image=found.image, notes=found.notes)


def _key(path: Path) -> Key:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return str(path), 0, 0
    return str(path), found.st_size, found.st_ino
