"""What decoding one picture may cost: bytes, pixels, scans, parts and seconds, checked before and while it is decoded.

Pillow's decoders ask their file for its next bytes all the time; the file given to them here stops answering when the
processor time is spent. What happens between two such questions is bounded by the pixels, which are counted before.

    a JPEG of s scans over p pixels is paid s p times, however short its scans are     (ITU-T T.81, progressive mode)
"""

from __future__ import annotations

import io
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
"""A JPEG marker, not a stuffed byte or a restart within a scan."""
END_OF_IMAGE, START_OF_SCAN, WITHOUT_LENGTH = 0xD9, 0xDA, (0x01, 0xD8)
PARTS = 4_096
"""Segments of a JPEG before its end: real files have a few hundred at most."""
CHUNKS, PNG = 16_384, b"\x89PNG\r\n\x1a\n"
"""Chunks of a PNG, and its first bytes: real files of the size that is let in have some thousand at most."""
SCANNED = 1_000_000_000
"""Pixels times scans. A 24-megapixel picture may have 41 scans; progressive ones have about ten."""
_turn = threading.BoundedSemaphore(max(2, (os.cpu_count() or 2) // 2))
"""Pictures that are decoded at once: each may take some 400 MB."""


class TooCostlyError(Exception):
    """Decoding would take, or has taken, more than a picture may cost."""


@contextmanager
def one_of_few() -> Iterator[None]:
    """Waits until fewer pictures are being decoded than cores allow."""
    with _turn:
        yield


class Metered(io.BytesIO):
    """The bytes of a file, handed out until the calling thread has spent its seconds of processor time.

    Reading afterwards raises `TooCostlyError`.
    """

    def __init__(self, data: bytes, seconds: float, clock: Callable[[], float] = time.thread_time) -> None:
        super().__init__(data)
        self._clock = clock
        self._end = clock() + seconds if seconds < math.inf else math.inf

    def read(self, size: int | None = -1, /) -> bytes:
        """As `io.BytesIO.read`."""
        if self._clock() > self._end:
            raise TooCostlyError("seconds")
        return super().read(size)


def scans_of(data: bytes) -> int:
    """Of a JPEG file; 0 of any other. Raises `TooCostlyError` for more parts than real files have, in a PNG too."""
    if sum(1 for _ in islice(_chunks(data), CHUNKS + 1)) > CHUNKS:
        raise TooCostlyError("chunks")
    scans = 0
    for part, marker in enumerate(_markers(data)):
        scans += marker == START_OF_SCAN
        if part > PARTS:
            raise TooCostlyError("parts")
    return scans


def check_scans(scans: int, pixels: int) -> None:
    """Raises `TooCostlyError` for more scans than a picture of so many pixels may have."""
    if scans * pixels > SCANNED:
        raise TooCostlyError("scans")


def _chunks(data: bytes) -> Iterator[bytes]:
    """The names of the chunks of a PNG file, as far as their lengths lead; of another file none."""
    at = len(PNG)
    while data.startswith(PNG) and at + 8 <= len(data):
        yield data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4])


def _markers(data: bytes) -> Iterator[int]:
    """Of a JPEG file, up to its end; of another file none."""
    if not data.startswith(b"\xff\xd8"):
        return
    at = 2
    while found := MARKER.search(data, at):
        marker = found[1][0]
        if marker == END_OF_IMAGE:
            return
        yield marker
        at = found.end() + (0 if marker in WITHOUT_LENGTH else int.from_bytes(data[found.end() : found.end() + 2]))
