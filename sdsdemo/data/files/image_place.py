"""The place of a picture, which is a file or a member of a zip file, and the picture read from there."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from sdsdemo.data.files.bounded import at_most
from sdsdemo.data.files.pointers import check_content
from sdsdemo.data.files.quoting import shown
from sdsdemo.data.files.zip_members import opened
from sdsdemo.errors import UserError
from sdsdemo.models.images import Cut, decoded, open_picture
from sdsdemo.runtime.files import state_of
from sdsdemo.settings import LIMITS

ARRAY_BYTES = 3 * LIMITS.image_pixels + 10_000
"""Of a picture that is stored as an array: all its pixels, and a header."""

Box = tuple[int, int, int, int]
"""Left and upper edge, width and height, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A file, or a member of a zip file."""

    path: Path
    member: str = ""


def stream(place: Place) -> IO[bytes]:
    """The bytes of a picture's file."""
    if place.member:
        return opened(place.path, state_of(place.path)).open(place.member)
    return place.path.open("rb")


def read(place: Place, name: str, cut: Cut | None) -> Image.Image:
    """The picture. name: as a table has it, for messages. Raises `UserError` for one that cannot be read."""
    is_array = (place.member or place.path.name).lower().endswith(".npy")
    most = ARRAY_BYTES if is_array else LIMITS.image_bytes
    try:
        data = at_most(stream(place), most)
    except Exception as error:  # a damaged or locked zip file: BadZipFile, zlib.error, EOFError, RuntimeError, ...
        if place.member:
            raise UserError(
                f"{shown(name)} cannot be read from {place.path.name}: copy it again, it may be truncated."
            ) from error
        raise UserError(
            f"{shown(name)} in the folder {place.path.parent.name} cannot be read: check the file."
        ) from error
    said = f"{shown(name)} in {place.path.name if place.member else f'the folder {place.path.parent.name}'}"
    return _of_array(data, said) if is_array else decoded(data, said, cut)


def _of_array(data: bytes, said: str) -> Image.Image:
    """A picture stored as a NumPy array [height, width, 3] in BGR, as in EqBen."""
    check_content(data, said)
    if len(data) > ARRAY_BYTES:
        raise UserError(f"{said} has more than {ARRAY_BYTES // 1_000_000} MB: shrink the picture first.")
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)[:, :, 2::-1]
        return open_picture(Image.fromarray(np.ascontiguousarray(array), "RGB")).image
    except UserError:
        raise
    except Exception as error:  # whatever else the file holds
        raise UserError(f"{said} is not an image, or is damaged.") from error


def cut_out(image: Image.Image, box: Box, name: str, where: str) -> Image.Image:
    """The crop, in the file's own pixel layout: the authors' code ignores EXIF orientation.

    Raises `UserError` if the crop is empty.
    """
    x, y, wide, high = box
    left, upper, right, lower = max(0, x), max(0, y), min(image.width, x + wide), min(image.height, y + high)
    if left >= right or upper >= lower:
        size = f"{image.width} x {image.height} pixels"
        raise UserError(f"{where} has a box outside its image {shown(name)}, which has {size}: fix the box.")
    return image.crop((left, upper, right, lower))
