"""Pictures from outside, made safe and plain: RGB, upright, on white, at their own size. Knows no model.

Every entrance goes through `clean`: files and uploads (`open_image`), benchmarks, image-caption folders, and pictures
that a caller of `sdsdemo.score` holds. Nothing is shrunk on the way, so that the same picture gives the same scores
wherever it comes in; the one step to a model's size is the model's own, or `square` and `fit`.

Everything that is wrong with a file becomes one `UserError` that says what to do and names no path. Sizes are checked
before a pixel is decoded, and only the formats of `settings.LIMITS` are ever handed to a decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageFile

from sdsdemo.errors import UserError
from sdsdemo.models import decoding
from sdsdemo.runtime.lfs import POINTER, is_pointer
from sdsdemo.settings import LIMITS
from sdsdemo.types import Region

NO_FILE = "There is no such picture file: check the name, or choose another picture."
EMPTY = "The picture file is empty: save the picture again, or choose another one."
POINTED_TO = f"{POINTER.format(file='The picture file')}."
NOT_A_PICTURE = "This file is not a PNG, JPEG or WebP picture, or it is damaged: save the picture again as PNG."
TOO_MANY_BYTES = "The picture file is larger than {most} MB: save it smaller, for example as JPEG."
TOO_MANY_PIXELS = "The picture has more than {most} million pixels: shrink it first; 1,024 pixels a side are plenty."
TOO_LARGE_A_WEBP = "A WebP picture may have up to {most} million pixels: save it as JPEG, or shrink it first."
TOO_COSTLY = "The picture takes too long to decode: save it again as a plain PNG or JPEG."
TOO_SMALL = "The picture is {width} x {height} pixels: choose one of at least {least} pixels a side."
TOO_NARROW = "The picture of {width} x {height} pixels is too long and narrow: crop it first."
NOT_READABLE = "The picture cannot be read: its file is damaged, or was closed too early. Open it again."
NO_KIND = "Give the picture as the path of a file, as the bytes of one, or as a PIL image; it was {kind}."
NO_COLOURS = "The picture's mode {mode} has no colours: convert it to RGB first."
NOT_FINITE = "The picture holds values that are not finite: replace them first."
OUT_OF_RANGE = "The picture's values range from {low:g} to {high:g}: scale them to 0 to 255 first."
ANIMATED = "The picture is an animation of {count} frames: only the first one is read."
PARTLY_SEEN = (
    "This model sees only the middle {share:.0%} of the picture: set the region to squash or pad to show it all."
)
FRAMES = "frames"
LOOKED_AT = 1024
"""Pixels a side, at most, of a picture with white beside it that is only looked at."""
Cut = Callable[[Image.Image], Image.Image]
SAID_BELOW = 0.9
"""If a model sees less than this share of a picture, it is said."""
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture upright, by its EXIF orientation."""
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes for one channel of sixteen bits."""
EIGHT_OF_SIXTEEN = ((np.arange(65_536) + 128) // 257).astype(np.uint8)
"""The nearest of 256 greys for each of 65,536."""


class PictureError(UserError):
    """Why a picture cannot be used."""


class BrokenPictureError(PictureError):
    """It is not a picture, or cannot be decoded."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A picture that was let in."""

    image: Image.Image
    """RGB, upright, on white."""
    notes: tuple[str, ...] = ()
    """What was left out of the picture, in sentences."""


def open_image(source: str | Path | bytes) -> Image.Image:
    """The picture of a file, or of a file's bytes, as `clean` makes it. Raises `UserError`."""
    return open_picture(source).image


def open_picture(source: str | Path | bytes | Image.Image, *, seconds: float = math.inf) -> Opened:
    """A picture and what is to be said of it, from a file, a file's bytes, or an image that the caller holds.

    An animation is its first frame, which is said; all metadata is dropped. seconds: of CPU time that reading a
    file may take. Raises `UserError` for everything that cannot be used.
    """
    if isinstance(source, Image.Image):
        return _let_in(source)
    if not isinstance(source, str | Path | bytes):
        raise PictureError(NO_KIND.format(kind=type(source).__name__))
    data = source if isinstance(source, bytes) else _read(Path(source))
    return _opened(data, LIMITS.image_formats, seconds=seconds)


def decoded(data: bytes, said: str, cut: Cut | None = None) -> Image.Image:
    """The picture of the bytes of a file that the user keeps, as `clean` makes it, within the same limits.

    said: what it is, in words; cut: takes a part of the pixels that the file holds, before they are turned upright.
    Raises `UserError`.
    """
    try:
        return _opened(data, LIMITS.row_formats, cut).image
    except BrokenPictureError as error:
        raise UserError(f"{said} is not an image, or is damaged.") from error
    except PictureError as error:
        sentence = str(error)
        raise UserError(f"{said}: {sentence[0].lower()}{sentence[1:]}") from error


def clean(image: Image.Image) -> Image.Image:
    """Any picture of Pillow's as RGB at its own size: upright, eight bits, transparent parts white, first frame.

    Of an animation, `info[FRAMES]` of what comes out is how many frames there were.

    Grey of 16 bits is scaled to 8. Grey of 32 bits, whole or float, is taken as it is if it fits into 0 to 255; a
    float up to 1 and a whole number up to 65,535 are scaled. What is clean comes back as it is.
    Raises `UserError` for values out of these ranges, and for a picture that cannot be decoded.
    """
    with _one_sentence(NOT_READABLE):
        return image if _is_clean(image) else _cleaned(image)


def square(image: Image.Image, region: Region) -> Image.Image:
    """What `region` says of a picture, to be scaled to a square: its middle, all of it, or all of it beside white."""
    width, height = image.size
    if width == height or region == "squash":
        return image
    if region == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return image.crop((left, top, left + side, top + side))
    if region == "pad":
        return _padded(image, min(max(width, height), LOOKED_AT))
    raise ValueError(f"region must be 'crop', 'squash' or 'pad'; it was {region!r}")


def fit(image: Image.Image, pixels: int, region: Region = "crop") -> Image.Image:
    """A square of `pixels` a side, bicubic: the middle of the picture, or all of it, squashed or beside white."""
    if region == "crop":  # without a copy of the middle first: sizes of an odd difference are cut at half a pixel
        width, height = image.size
        side = min(width, height)
        left, top = ((width - side) / 2, (height - side) / 2)
        box = (left, top, left + side, top + side)
        return image.resize((pixels, pixels), Image.Resampling.BICUBIC, box=box)
    if region == "pad" and image.width != image.height:
        return _padded(image, pixels)
    return square(image, region).resize((pixels, pixels), Image.Resampling.BICUBIC)


def share_of(size: tuple[int, int], region: Region) -> float:
    """The share of a picture of that size (width, height) that a region shows."""
    return min(size) / max(size) if region == "crop" else 1.0


def _opened(data: bytes, formats: tuple[str, ...], cut: Cut | None = None, seconds: float = math.inf) -> Opened:
    """Raises `PictureError`, and what `cut` raises."""
    if not data:
        raise BrokenPictureError(EMPTY)
    if is_pointer(data):
        raise PictureError(POINTED_TO)
    if len(data) > LIMITS.image_bytes:
        raise PictureError(TOO_MANY_BYTES.format(most=LIMITS.image_bytes // 1_000_000))
    file = decoding.Metered(data, seconds)
    with decoding.one_of_few(), _one_sentence(NOT_A_PICTURE):
        scans = decoding.scans_of(data)
        with Image.open(file, formats=formats) as image:
            _check_size(*image.size, image.format)
            decoding.check_scans(scans, image.width * image.height)
            return _let_in(image, cut)


def _let_in(image: Image.Image, cut: Cut | None = None) -> Opened:
    _check_size(*image.size)
    plain = clean(image) if cut is None else _cleaned(image, cut)
    frames = plain.info.get(FRAMES, 1)
    return Opened(image=plain, notes=(ANIMATED.format(count=frames),) if frames > 1 else ())


@contextmanager
def _one_sentence(sentence: str) -> Iterator[None]:
    """Decoders answer a broken file with errors of every kind; to the user they are one."""
    try:
        yield
    except BrokenPictureError as error:
        raise BrokenPictureError(sentence) from error
    except (UserError, MemoryError):
        raise
    except decoding.TooCostlyError as error:
        raise PictureError(TOO_COSTLY) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(_too_many_pixels()) from error
    except Exception as error:
        raise BrokenPictureError(sentence) from error


def _is_clean(image: Image.Image) -> bool:
    held = image.info.keys() <= {FRAMES} and not isinstance(image, ImageFile.ImageFile)
    return held and image.mode == "RGB" and ORIENTATION not in image.getexif()


def _cleaned(image: Image.Image, cut: Cut = lambda image: image) -> Image.Image:
    plain = _on_white(_eight_bits(_upright(_first_frame(image), cut)))
    is_one = image.format == "MPO"  # a JPEG of a camera, whose further pictures are previews of the first
    frames: int = image.info.get(FRAMES, 0) or (1 if is_one else getattr(image, "n_frames", 1)) or 1
    if frames > 1:
        plain.info[FRAMES] = frames
    return plain


def _padded(image: Image.Image, pixels: int) -> Image.Image:
    """All of it on white, scaled before the white is laid beside it: a long picture makes no huge one."""
    scale = pixels / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new("RGB", (pixels, pixels), "white")
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    canvas.paste(small, ((pixels - width) // 2, (pixels - height) // 2))
    return canvas


def _read(path: Path) -> bytes:
    """One byte more than is allowed at most: enough to see that it is too much."""
    try:
        with path.open("rb") as file:
            return file.read(LIMITS.image_bytes + 1)
    except (OSError, ValueError) as error:
        raise PictureError(NO_FILE) from error


def _first_frame(image: Image.Image) -> Image.Image:
    """The caller's animation stays at the frame where it was."""
    if getattr(image, "n_frames", 1) == 1 or image.tell() == 0:
        return image
    frame = image.tell()
    image.seek(0)
    try:
        return image.copy()
    finally:
        image.seek(frame)


def _upright(image: Image.Image, cut: Cut) -> Image.Image:
    """A part of it, turned as its EXIF data say; as it is where these are broken."""
    image.load()  # so that what is caught below is a fault of the EXIF data alone
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # EXIF data are broken in many ways, and the picture is there all the same
        turn = None
    return cut(image) if turn is None else cut(image).transpose(turn)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits scaled to 8: Pillow's own conversion would cut what is above 255 to white."""
    if image.mode not in (*SIXTEEN_BITS, "I", "F"):
        return image
    if image.mode in SIXTEEN_BITS:
        return _of_sixteen_bits(image)
    value = np.asarray(image).astype(np.float32)
    if not np.isfinite(value).all():
        raise PictureError(NOT_FINITE)
    return Image.fromarray((value * _scale(image.mode, value) + 0.5).astype(np.uint8))


def _of_sixteen_bits(image: Image.Image) -> Image.Image:
    value = np.asarray(image)
    grey = Image.fromarray(EIGHT_OF_SIXTEEN[value])
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # the one grey that a PNG file calls transparent
        grey.putalpha(Image.fromarray(np.where(value == clear, 0, 255).astype(np.uint8)))
    return grey


def _scale(mode: str, value: np.ndarray) -> float:
    """What brings the values of a mode to 0 to 255. Raises `UserError` where they are out of range."""
    low, high = float(value.min(initial=0)), float(value.max(initial=0))
    if low < 0 or high > (65_535 if mode == "I" else 255):
        raise PictureError(OUT_OF_RANGE.format(low=low, high=high))
    if mode == "F":
        return 255.0 if high <= 1 else 1.0
    return 1.0 if high <= 255 else 1 / 257


def _on_white(image: Image.Image) -> Image.Image:
    """RGB on a white canvas of its own, so that nothing of the file but its colours is left."""
    canvas = Image.new("RGB", image.size, "white")
    if image.has_transparency_data:
        clear = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        canvas.paste(clear, mask=clear)
    else:
        canvas.paste(_rgb(image))
    return canvas


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":  # Pillow converts it by a colour profile only
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise PictureError(NO_COLOURS.format(mode=image.mode)) from error


def _check_size(width: int, height: int, kind: str | None = None) -> None:
    """Before decoding: neither too many pixels, nor too few to be a picture. kind: of the file, as Pillow calls it."""
    if width * height > LIMITS.image_pixels:
        raise PictureError(_too_many_pixels())
    if kind == "WEBP" and width * height > LIMITS.webp_pixels:
        raise PictureError(TOO_LARGE_A_WEBP.format(most=LIMITS.webp_pixels // 1_000_000))
    least = LIMITS.image_side_least
    if min(width, height) < least:
        raise PictureError(TOO_SMALL.format(width=width, height=height, least=least))
    if max(width, height) > LIMITS.image_ratio * min(width, height):
        raise PictureError(TOO_NARROW.format(width=width, height=height))


def _too_many_pixels() -> str:
    return TOO_MANY_PIXELS.format(most=LIMITS.image_pixels // 1_000_000)
