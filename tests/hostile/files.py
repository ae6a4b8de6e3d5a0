"""What a hostile file is, and the parts that pictures are made of. Files are made when they are sent."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

MOST = 7_990_000
"""Bytes, just below what an upload may have."""
BACK_TO_BACK = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced PNG: first column and row, and steps."""
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
SIGNATURE = b"\x89PNG\r\n\x1a\n"
LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "lol">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b"]><x>&j;</x>"
)
SCRIPT = b"<script>hostile()</script>"
Make = Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class File:
    """One hostile file."""

    name: str
    """What it is."""
    filename: bytes
    """What it is called as it is sent."""
    make: Make
    kind: str = "image/png"
    """What it says that it is."""


def colours(mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Blocks of colour."""
    values = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size).convert(mode)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def jpeg(size: tuple[int, int] = (16, 16), **options: Any) -> bytes:
    return saved(Image.new("RGB", size, (120, 80, 200)), "JPEG", **options)


def in_jpeg(parts: bytes) -> bytes:
    """A small JPEG with more behind its first marker, no larger than an upload may be."""
    plain = jpeg()
    return plain[:2] + parts[: MOST - len(plain)] + plain[2:]


def segment(marker: int, content: bytes) -> bytes:
    """A part of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def scans(size: tuple[int, int], count: int) -> bytes:
    """A progressive JPEG whose last scan comes so many times more."""
    plain = jpeg(size, progressive=True)
    last = plain[plain.rfind(b"\xff\xda") : -2]
    return plain[:-2] + last * min(count, (MOST - len(plain)) // len(last)) + plain[-2:]


def chunk(name: bytes, content: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def header(width: int, height: int, bits: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))


def png(
    width: int = 16, height: int = 16, bits: int = 8, colour: int = 2, interlaced: int = 0, extra: bytes = b""
) -> bytes:
    """A black PNG of that layout, with more chunks before its pixels."""
    channels = CHANNELS[colour]
    if interlaced:
        length = 0
        for x, y, dx, dy in BACK_TO_BACK:
            across, down = (width - x + dx - 1) // dx, (height - y + dy - 1) // dy
            length += down * ((across * channels * bits + 7) // 8 + 1) if across and down else 0
    else:
        length = ((width * channels * bits + 7) // 8 + 1) * height
    top, end = header(width, height, bits, colour, interlaced), chunk(b"IDAT", packed(length)) + chunk(b"IEND", b"")
    return SIGNATURE + top + extra[: MOST - len(end)] + end


def packed(length: int) -> bytes:
    """So many zeros, deflated without ever holding them."""
    work, block, parts = zlib.compressobj(9), bytes(1 << 20), []
    for _ in range(length >> 20):
        parts.append(work.compress(block))
    parts += [work.compress(bytes(length & ((1 << 20) - 1))), work.flush()]
    return b"".join(parts)
