"""Files that say they are pictures: bombs of every kind, cut files, and other things under a picture's name."""

from __future__ import annotations

import io
import struct
from functools import partial

import numpy as np
from PIL import Image

from tests.hostile import odd_pictures
from tests.hostile.files import (
    LAUGHS,
    MOST,
    SCRIPT,
    SIGNATURE,
    File,
    Make,
    chunk,
    colours,
    header,
    in_jpeg,
    jpeg,
    packed,
    png,
    saved,
    scans,
    segment,
)  # fmt: skip

CUTS = (1, 4, 9, 20, 0.3, 0.6, 0.9, -1)
"""Where a file is cut: bytes, or the share of it that is left."""


def pictures() -> list[File]:
    """All of them."""
    made = {
        **_pixels(),
        **_parts(),
        **_frames(),
        **_cut(),
        **_mixed(),
        **odd_pictures.metadata(),
        **odd_pictures.chunks(),
        **odd_pictures.kinds(),
    }
    return [File(name=name, filename=_filename(name).encode(), make=make) for name, make in made.items()]


def _filename(name: str) -> str:
    return name.replace(" ", "-").replace(",", "") + (".jpg" if "JPEG" in name else ".png")


def _pixels() -> dict[str, Make]:
    """Many pixels, or a header that claims so."""
    made: dict[str, Make] = {
        f"24 megapixels, {name}": partial(png, 6000, 4000, bits, colour, interlaced)
        for name, bits, colour, interlaced in (
            ("1 bit", 1, 0, 0), ("grey 16", 16, 0, 0), ("grey and alpha 16", 16, 4, 0), ("RGB 16", 16, 2, 0),
            ("RGBA 8", 8, 6, 0), ("RGBA 16", 16, 6, 0), ("RGBA 16 interlaced", 16, 6, 1), ("RGB 8 interlaced", 8, 2, 1),
        )
    }  # fmt: skip
    made |= {
        "24 megapixels, JPEG": lambda: _smooth((6000, 4000), "JPEG", quality=85),
        "24 megapixels, JPEG progressive": lambda: _smooth((6000, 4000), "JPEG", quality=60, progressive=True),
        "24 megapixels, JPEG CMYK": lambda: _smooth((6000, 4000), "JPEG", "CMYK", quality=60, progressive=True),
        "20 megapixels, WebP": lambda: _smooth((5000, 4000), "WEBP", quality=50, method=0),
        "20 megapixels, WebP clear": lambda: saved(Image.new("RGBA", (5000, 4000)), "WEBP", lossless=True, method=0),
        "noise of 8 MB, JPEG": lambda: _noise("JPEG", quality=90, progressive=True),
        "noise of 8 MB, PNG": lambda: _noise("PNG", compress_level=1),
        "900 megapixels": partial(png, 30_000, 30_000, 1, 0),
        "a header of 2**31 a side": lambda: SIGNATURE + header(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", b""),
        "a header of nothing": lambda: SIGNATURE + header(0, 0) + chunk(b"IDAT", b""),
        "long and narrow": partial(png, 4, 200_000, 8, 0),
        "one pixel": partial(png, 1, 1),
        "JPEG of 65,535 a side": lambda: _claimed(jpeg(), b"\xff\xc0", 5, struct.pack(">HH", 65_535, 65_535)),
        "JPEG without a height": lambda: _claimed(jpeg(), b"\xff\xc0", 5, struct.pack(">H", 0)),
        "JPEG of 12 bits": lambda: _claimed(jpeg(), b"\xff\xc0", 4, b"\x0c"),
        "JPEG without loss": lambda: _claimed(jpeg(), b"\xff\xc0", 1, b"\xc3"),
        "JPEG arithmetic": lambda: _claimed(jpeg(), b"\xff\xc0", 1, b"\xc9"),
        "GIF of 65,535 a side": lambda: _claimed(saved(colours("P"), "GIF"), b"GIF8", 6, b"\xff" * 4),
        "WebP of 16,777,216 a side": lambda: _claimed(saved(colours("RGBA"), "WEBP"), b"VP8", 12, b"\xff" * 6),
        "BMP of 2**31 a side": lambda: _claimed(saved(colours(), "BMP"), b"BM", 18, b"\xff\xff\xff\x7f" * 2),
    }  # fmt: skip
    return made


def _parts() -> dict[str, Make]:
    """Files of very many parts, scans or inflated texts."""
    inflated = packed(1_000_000)

    def bomb() -> bytes:
        return b"k\0\0" + packed(300_000_000)

    return {
        "JPEG of 10 scans, 24 megapixels": lambda: scans((6000, 4000), 1),
        "JPEG of 60 scans, 24 megapixels": lambda: scans((6000, 4000), 50),
        "JPEG of 1,000 scans": lambda: scans((2000, 2000), 1000),
        "JPEG of 3,990 scans": lambda: scans((500, 500), 3990),
        "JPEG of 400,000 scans": lambda: scans((16, 16), 10**6),
        "JPEG of empty segments": lambda: in_jpeg(segment(0xE5, b"") * 1_900_000),
        "JPEG of comments": lambda: in_jpeg(segment(0xFE, b"") * 1_900_000),
        "JPEG of fill bytes": lambda: in_jpeg(b"\xff" * MOST),
        "JPEG of zeros": lambda: in_jpeg(bytes(MOST)),
        "JPEG of EXIF segments": lambda: in_jpeg(segment(0xE1, b"Exif\0\0" + bytes(20)) * 200_000),
        "JPEG of ICC segments": lambda: in_jpeg(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(100)) * 60_000),
        "JPEG of tables": lambda: in_jpeg(segment(0xDB, b"\0" + b"\1" * 64) * 100_000),
        "JPEG of restarts": lambda: jpeg()[:-2] + b"\xff\xd0" * 3_900_000 + b"\xff\xd9",
        "JPEG of stuffed bytes": lambda: jpeg()[:-2] + b"\xff\0" * 3_900_000 + b"\xff\xd9",
        "texts": lambda: png(extra=chunk(b"tEXt", b"a\0") * 560_000),
        "private chunks": lambda: png(extra=chunk(b"prVt", b"") * 600_000),
        "empty pixels": lambda: png(1000, 1000, extra=chunk(b"IDAT", b"") * 600_000),
        "packed texts": lambda: png(extra=b"".join(chunk(b"zTXt", b"k%d\0\0" % n + inflated) for n in range(60))),
        "packed text of 300 MB": lambda: png(extra=chunk(b"zTXt", bomb())),
        "packed profile of 300 MB": lambda: png(extra=chunk(b"iCCP", bomb())),
        "packed titles": lambda: png(extra=b"".join(chunk(b"iTXt", b"k\0\1\0\0\0" + inflated) for _ in range(60))),
        "more pixels than it says": lambda: SIGNATURE + header(16, 16) + chunk(b"IDAT", packed(300_000_000)),
    }  # fmt: skip


def _frames() -> dict[str, Make]:
    small = [Image.new("RGB", (16, 16), (n % 256, n // 256, 0)) for n in range(2000)]
    large = [Image.new("RGB", (2500, 2000), (40 * n, 0, 0)) for n in range(5)]

    def film(kind: str, frames: list[Image.Image], **options: object) -> bytes:
        return saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)

    return {
        "4e9 frames claimed": lambda: png(extra=chunk(b"acTL", struct.pack(">II", 4_000_000_000, 0))),
        "no frames claimed": lambda: png(extra=chunk(b"acTL", struct.pack(">II", 0, 0))),
        "2,000 frames, PNG": lambda: film("PNG", small),
        "2,000 frames, WebP": lambda: film("WEBP", small, lossless=True, method=0),
        "2,000 frames, GIF": lambda: film("GIF", small),
        "300 frames, MPO as JPEG": lambda: film("MPO", small[:300]),
        "large frames, WebP": lambda: film("WEBP", large, lossless=True, method=0),
    }


def _cut() -> dict[str, Make]:
    """A file of each kind, cut at every kind of place."""
    sound = {
        "JPEG": saved(colours(), "JPEG", progressive=True),
        "PNG": saved(colours("RGBA"), "PNG"),
        "WebP": saved(colours("RGBA"), "WEBP", lossless=True),
    }
    return {
        f"{kind} cut at {cut}": partial(bytes, data[: cut if isinstance(cut, int) else int(cut * len(data))])
        for kind, data in sound.items()
        for cut in CUTS
    }


def _mixed() -> dict[str, Make]:
    """Other things under a picture's name, and files that are two things."""
    plain = saved(colours(), "PNG")
    starts = {
        "nothing": b"",
        "a zero": b"\0",
        "a byte order mark": b"\xef\xbb\xbf",
        "zeros of 8 MB": bytes(MOST),
        "a page": b"<!doctype html>" + SCRIPT,
        "a drawing with a script": b'<svg xmlns="http://www.w3.org/2000/svg" onload="hostile()">' + SCRIPT + b"</svg>",
        "entities": LAUGHS,
        "a PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        "a program": b"MZ" + bytes(500),
        "another program": b"\x7fELF" + bytes(500),
        "a script": b"#!/bin/sh\nid\n",
        "a pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
        "Photoshop": b"8BPS\0\1" + bytes(20),
        "a zip": b"PK\3\4" + bytes(26),
        "gzip": b"\x1f\x8b\x08" + bytes(20),
        "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 1\n" % (b"0" * 64),
        "WMF": b"\xd7\xcd\xc6\x9a" + bytes(60),
        "FITS": b"SIMPLE  =                    T" + b" " * 2850,
        "text": b"this is no picture",
    }
    made: dict[str, Make] = {f"{name} as PNG": partial(bytes, data) for name, data in starts.items()}
    return made | {
        "noise as PNG": lambda: np.random.default_rng(1).bytes(MOST),
        "more than an upload may have": lambda: plain + bytes(8_000_001 - len(plain)),
        "PNG named as JPEG": lambda: plain,
        "PNG and zip": lambda: plain + b"PK\5\6" + bytes(18),
        "PNG and page": lambda: plain + SCRIPT,
        "PNG and 7 MB of zeros": lambda: plain + bytes(7_000_000),
        "JPEG and page": lambda: jpeg()[:2] + segment(0xFE, SCRIPT) + jpeg()[2:],
        "JPEG and JPEG": lambda: jpeg() * 2,
        "GIF and script": lambda: b"GIF89a/*" + saved(colours("P"), "GIF")[8:] + b"*/=1;" + SCRIPT,
        "PDF and JPEG": lambda: b"%PDF-1.4\n" + jpeg(),
        "PNG behind a byte order mark": lambda: b"\xef\xbb\xbf" + plain,
        "PNG with its line ends changed": lambda: plain.replace(b"\r\n", b"\n"),
    }


def _smooth(size: tuple[int, int], kind: str, mode: str = "RGB", **options: object) -> bytes:
    """Soft blobs of colour, so that there is something to decode in every place."""
    return saved(colours(size=size).convert(mode), kind, **options)


def _noise(kind: str, **options: object) -> bytes:
    """As many lines of noise as an upload may hold."""
    values = np.random.default_rng(5).integers(0, 256, (1500, 1700, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind, **options)
    assert file.tell() < MOST
    return file.getvalue()


def _claimed(data: bytes, mark: bytes, after: int, value: bytes) -> bytes:
    """A sound file with a claim written over, so many bytes after a mark."""
    at = data.index(mark) + after
    return data[:at] + value + data[at + len(value) :]
