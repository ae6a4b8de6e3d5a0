"""Pictures from outside, made safe and plain: RGB, upright, on white, small enough, without metadata. Knows no model.

Everything that is wrong with a file becomes one `UserError` that says what to do and names no path. Sizes are checked
before a pixel is decoded, and only the formats of `settings.LIMITS` are ever handed to a decoder.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from sdsdemo.errors import UserError
from sdsdemo.settings import LIMITS

NO_FILE = "There is no picture file there: check the name, or choose another picture."
EMPTY = "The picture file is empty: save the picture again, or choose another one."
NOT_A_PICTURE = "This file is no PNG, JPEG or WebP picture, or it is broken: save the picture again as PNG."
TOO_MANY_BYTES = "The picture file is larger than {most} MB: save it smaller, for example as JPEG."
TOO_MANY_PIXELS = "The picture has more than {most} million pixels: shrink it first; {side} pixels a side are plenty."
TOO_SMALL = "The picture is {width} x {height} pixels: choose one of at least {least} pixels a side."
TOO_NARROW = "The picture of {width} x {height} pixels is too long and narrow: crop it first."
SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes for one channel of more than eight bits; PNG is the only format let in that has them."""


def open_image(source: str | Path | bytes) -> Image.Image:
    """The picture of a file, or of a file's bytes: RGB, upright, at most `LIMITS.image_side_kept` pixels a side.

    Transparent parts become white, 16-bit grey is scaled to 8, palettes and CMYK become RGB, an animation its first
    frame, and all metadata is dropped. Raises `UserError` for everything that cannot be used.
    """
    data = source if isinstance(source, bytes) else _read(Path(source))
    if not data:
        raise UserError(EMPTY)
    if len(data) > LIMITS.image_bytes:
        raise UserError(TOO_MANY_BYTES.format(most=LIMITS.image_bytes // 1_000_000))
    try:
        return _decode(data)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(_too_many_pixels()) from error
    except Exception as error:  # decoders answer a broken file with errors of every kind; to the user they are one
        raise UserError(NOT_A_PICTURE) from error


def plain(image: Image.Image) -> Image.Image:
    """An opened picture as RGB at its own size: upright, 16-bit grey scaled to 8, transparent parts white."""
    return _on_white(_eight_bits(ImageOps.exif_transpose(image)))


def fit(image: Image.Image, pixels: int, mode: Literal["crop", "squash"] = "crop") -> Image.Image:
    """A square of `pixels` a side, bicubic: the middle of the picture (`crop`), or all of it, distorted (`squash`)."""
    if mode not in ("crop", "squash"):
        raise ValueError(f"mode must be 'crop' or 'squash'; it was {mode!r}")
    width, height = image.size
    side = min(width, height)
    left, top = ((width - side) / 2, (height - side) / 2)
    box = (left, top, left + side, top + side) if mode == "crop" else None
    return image.resize((pixels, pixels), Image.Resampling.BICUBIC, box=box)


def _read(path: Path) -> bytes:
    """One byte more than is allowed at most: enough to see that it is too much."""
    try:
        with path.open("rb") as file:
            return file.read(LIMITS.image_bytes + 1)
    except (OSError, ValueError) as error:
        raise UserError(NO_FILE) from error


def _decode(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=LIMITS.image_formats) as image:
        _check_size(*image.size)
        kept = (LIMITS.image_side_kept, LIMITS.image_side_kept)
        image.draft(None, kept)
        image.load()
        picture = plain(image)
        picture.thumbnail(kept, Image.Resampling.BICUBIC)
        return picture


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits scaled to 8: Pillow's own conversion would cut everything above 255 to white."""
    if image.mode not in SIXTEEN_BITS:
        return image
    return Image.fromarray((np.asarray(image).astype(np.float32) / 257 + 0.5).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    """RGB on a white canvas of its own, so that nothing of the file but its colours is left."""
    canvas = Image.new("RGB", image.size, "white")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        canvas.paste(clear, mask=clear)
    else:
        canvas.paste(image.convert("RGB"))
    return canvas


def _check_size(width: int, height: int) -> None:
    """Before decoding: neither too many pixels, nor too few to be a picture, now or after shrinking."""
    if width * height > LIMITS.image_pixels:
        raise UserError(_too_many_pixels())
    least = LIMITS.image_side_least
    if min(width, height) < least:
        raise UserError(TOO_SMALL.format(width=width, height=height, least=least))
    if min(width, height) * LIMITS.image_side_kept < least * max(width, height):
        raise UserError(TOO_NARROW.format(width=width, height=height))


def _too_many_pixels() -> str:
    return TOO_MANY_PIXELS.format(most=LIMITS.image_pixels // 1_000_000, side=LIMITS.image_side_kept)
