"""Small pictures with odd metadata or odd chunks, in every mode, and in formats that the page does not read."""

from __future__ import annotations

import struct
import zlib
from functools import partial

import numpy as np
from PIL import Image

from tests.hostile.files import LAUGHS, SCRIPT, SIGNATURE, Make, chunk, colours, header, in_jpeg, png, saved, segment


def noise(count: int) -> bytes:
    return np.random.default_rng(count).bytes(count)


def metadata() -> dict[str, Make]:
    def exif(body: bytes) -> bytes:
        return in_jpeg(segment(0xE1, b"Exif\0\0" + body))

    loop = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    nested = struct.pack("<H", 5000) + b"".join(struct.pack("<HHII", 0x8769 + n % 3, 4, 1, 8) for n in range(5000))

    def turn(value: bytes, kind: int = 3, count: int = 1) -> bytes:
        return b"II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, kind, count) + value.ljust(4, b"\0") + bytes(4)

    return {
        "EXIF that refers to itself, JPEG": lambda: exif(loop),
        "EXIF of 5,000 entries, JPEG": lambda: exif(b"II*\0" + struct.pack("<I", 8) + nested + bytes(4)),
        "EXIF orientation 6, JPEG": lambda: exif(turn(b"\6")),
        "EXIF orientation 99, JPEG": lambda: exif(turn(b"\x63")),
        "EXIF orientation a text, JPEG": lambda: exif(turn(b"six", kind=2, count=4)),
        "EXIF orientation of 4e9, JPEG": lambda: exif(turn(b"\6", count=2**32 - 1)),
        "EXIF of noise, JPEG": lambda: exif(noise(60_000)),
        "EXIF in a PNG, cut": lambda: png(extra=chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")),
        "XMP of entities, JPEG": lambda: in_jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + LAUGHS)),
        "XMP of 1 MB": lambda: png(extra=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x>" * 300_000)),
        "IPTC of noise, JPEG": lambda: in_jpeg(segment(0xED, b"Photoshop 3.0\0" + noise(5_000))),
        "ICC of noise, JPEG": lambda: in_jpeg(segment(0xE2, b"ICC_PROFILE\0\1\1" + noise(3_000))),
        "ICC part 255 of 1, JPEG": lambda: in_jpeg(segment(0xE2, b"ICC_PROFILE\0\xff\1" + bytes(128))),
        "ICC that is cut": lambda: png(extra=chunk(b"iCCP", b"k\0\0" + zlib.compress(b"\xff" * 9))),
        "ICC that is no zlib": lambda: png(extra=chunk(b"iCCP", b"k\0\0" + b"\xff" * 90)),
        "title of a script": lambda: png(extra=chunk(b"tEXt", b"Title\0" + SCRIPT)),
    }  # fmt: skip


def chunks() -> dict[str, Make]:
    palette, top, end = chunk(b"PLTE", b"\1\2\3"), header(16, 16, 8, 3), chunk(b"IEND", b"")
    rows = chunk(b"IDAT", zlib.compress((b"\0" + b"\xff" * 16) * 16))
    wrong = bytearray(png())
    wrong[30] ^= 0xFF
    return {
        "a colour beyond its palette": lambda: SIGNATURE + top + palette + rows + end,
        "no palette": lambda: SIGNATURE + top + rows + end,
        "a palette of 2 bytes": lambda: SIGNATURE + top + chunk(b"PLTE", b"\1\2") + rows + end,
        "clear colours without a palette": lambda: SIGNATURE + top + chunk(b"tRNS", bytes(256)) + rows + end,
        "clear colours of 300": lambda: SIGNATURE + top + palette + chunk(b"tRNS", bytes(300)) + rows + end,
        "a clear grey of one byte": lambda: png(colour=0, extra=chunk(b"tRNS", b"\1")),
        "a wrong sum": lambda: bytes(wrong),
        "two headers": lambda: SIGNATURE + header(16, 16) + png(4000, 4000)[8:],
        "pixels before the header": lambda: SIGNATURE + rows + top + end,
        "no end": lambda: png()[:-12],
        "no pixels": lambda: SIGNATURE + header(16, 16) + end,
        "an unknown filter": lambda: SIGNATURE + header(16, 16, 8, 0) + rows.replace(b"\0", b"\x07") + end,
        "a chunk of 2 GB": lambda: SIGNATURE + header(16, 16) + struct.pack(">I", 2**31 - 1) + b"IDAT" + bytes(64),
        "no gamma": lambda: png(extra=chunk(b"gAMA", bytes(4)) + chunk(b"pHYs", bytes(9)) + chunk(b"cHRM", bytes(32))),
        "colours of 3 bits": lambda: SIGNATURE + header(16, 16, 3, 7) + rows + end,
    }


def kinds() -> dict[str, Make]:
    """Every mode that a PNG, a JPEG or a TIFF may have, and formats that the page does not read."""
    ramp = np.linspace(0, 65_535, 48 * 32).reshape(32, 48)
    grey16 = Image.fromarray(ramp.astype(np.uint16))
    clear = colours().quantize(8)
    made: dict[str, Make] = {
        "mode 1": lambda: saved(colours("1"), "PNG"),
        "mode LA": lambda: saved(colours("LA"), "PNG"),
        "mode P, clear": lambda: saved(clear, "PNG", transparency=0),
        "mode P, clear by bytes": lambda: saved(clear, "PNG", transparency=bytes(range(8))),
        "mode I;16": lambda: saved(grey16, "PNG"),
        "JPEG of CMYK": lambda: saved(colours("CMYK"), "JPEG"),
        "JPEG of grey": lambda: saved(colours("L"), "JPEG"),
        "TIFF of LAB": lambda: saved(Image.new("LAB", (48, 32)), "TIFF"),
        "TIFF of floats": lambda: saved(Image.fromarray(np.full((32, 48), np.nan, np.float32)), "TIFF"),
        "TIFF that refers to itself": lambda: b"II*\0" + struct.pack("<IHI", 8, 0, 8),
    }
    for kind in (
        "GIF",
        "BMP",
        "ICO",
        "TIFF",
        "PPM",
        "PCX",
        "TGA",
        "SGI",
        "DDS",
        "JPEG2000",
        "AVIF",
        "ICNS",
        "XBM",
        "EPS",
    ):
        made[f"{kind} as PNG"] = partial(_of_kind, kind)
    return made


def _of_kind(kind: str) -> bytes:
    """A file of that kind; its name alone where Pillow was built without it."""
    try:
        return saved(colours({"GIF": "P", "XBM": "1"}.get(kind, "RGB")), kind)
    except (OSError, KeyError, ValueError):
        return kind.encode()
