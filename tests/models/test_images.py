"""Pictures from outside: whatever comes in, an RGB picture comes out, or one sentence without a path."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sdsdemo.errors import UserError
from sdsdemo.models.images import fit, open_image, open_picture, share_of
from sdsdemo.settings import LIMITS
from sdsdemo.types import Region

RED, BLUE = (200, 30, 40), (30, 60, 210)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def halves(size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, RED)
    ImageDraw.Draw(image).rectangle((size[0] // 2, 0, *size), fill=BLUE)
    return image


def near(image: Image.Image, at: tuple[int, int], colour: tuple[int, int, int], within: int = 12) -> bool:
    return bool(np.abs(np.array(image.getpixel(at)) - colour).max() <= within)


def png_of_size(width: int, height: int, text: bytes = b"") -> bytes:
    """A PNG that claims a size and holds almost nothing, but a packed text."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    words = (b"zTXt", b"words\0\0" + zlib.compress(text))
    chunks = [(b"IHDR", header), words, (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    body = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_keeps_its_colours_and_places(kind: str, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(saved(halves(), kind, quality=95))
    for source in (tmp_path / "picture", str(tmp_path / "picture"), (tmp_path / "picture").read_bytes()):
        image = open_image(source)
        assert (image.mode, image.size) == ("RGB", (60, 40))
        assert near(image, (10, 20), RED)
        assert near(image, (50, 20), BLUE)


def test_transparent_parts_become_white_not_black() -> None:
    clear = halves().convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 30, 40))
    for data in (saved(clear), saved(clear, "WEBP", lossless=True)):
        image = open_image(data)
        assert near(image, (10, 20), (255, 255, 255))
        assert near(image, (50, 20), BLUE)


def test_half_transparent_parts_are_blended_with_white() -> None:
    image = open_image(saved(Image.new("RGBA", (20, 20), (0, 0, 0, 128))))
    assert near(image, (5, 5), (127, 127, 127), within=2)


def test_a_palette_with_and_without_a_clear_colour_keeps_its_colours() -> None:
    palette = halves().quantize(2)
    assert near(open_image(saved(palette)), (10, 20), RED)
    clear = open_image(saved(palette, transparency=palette.getpixel((10, 20))))
    assert near(clear, (10, 20), (255, 255, 255))
    assert near(clear, (50, 20), BLUE)


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_colour_that_is_named_transparent_becomes_white(mode: str) -> None:
    image = Image.new(mode, (20, 20))
    opened = open_image(saved(image, transparency=(0, 0, 0) if mode == "RGB" else 0))
    assert near(opened, (5, 5), (255, 255, 255))


def test_grey_of_16_bits_is_scaled_not_cut() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(16, axis=0)
    image = np.asarray(open_image(saved(Image.fromarray(ramp))))
    np.testing.assert_allclose(image[8, :, 0], ramp[0] / 257, atol=1)
    assert (image[..., 0] == image[..., 2]).all()


def test_cmyk_keeps_its_colours() -> None:
    image = open_image(saved(halves().convert("CMYK"), "JPEG", quality=95))
    assert near(image, (10, 20), RED, within=20)
    assert near(image, (50, 20), BLUE, within=20)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_that_is_marked_as_turned_is_turned(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: what is left comes to the top
    image = open_image(saved(halves(), kind, exif=exif, quality=95))
    assert image.size == (40, 60)
    assert near(image, (20, 10), RED)
    assert near(image, (20, 50), BLUE)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, BLUE)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert near(open_image(data), (5, 5), RED)


def test_nothing_of_a_file_but_its_pixels_is_left() -> None:
    exif = Image.Exif()
    exif[0x010E] = "my garden"
    image = open_image(saved(halves(), "JPEG", exif=exif, comment=b"secret", dpi=(72, 72)))
    assert image.info == {}
    assert len(image.getexif()) == 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_picture_keeps_its_size(kind: str) -> None:
    assert open_image(saved(halves((3000, 1500)), kind)).size == (3000, 1500)


def test_too_many_pixels_are_refused_before_any_is_decoded() -> None:
    tracemalloc.start()
    for width, height in ((20_000, 20_000), (10_000, 9_500), (6_000, 5_000)):
        with pytest.raises(UserError, match="24 million pixels"):
            open_image(png_of_size(width, height))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_too_many_bytes_are_refused_without_reading_them_all(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(10 * LIMITS.image_bytes)
    tracemalloc.start()
    with pytest.raises(UserError, match="8 MB"):
        open_image(tmp_path / "huge.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * LIMITS.image_bytes
    with pytest.raises(UserError, match="8 MB"):
        open_image(b"\x89PNG" + bytes(LIMITS.image_bytes))


@pytest.mark.parametrize(("size", "sentence"), [((1, 1), "1 x 1"), ((7, 100), "8 pixels"), ((4000, 9), "too long")])
def test_a_picture_too_small_to_show_anything_is_refused(size: tuple[int, int], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        open_image(saved(Image.new("RGB", size)))


def test_the_smallest_picture_is_let_in() -> None:
    assert open_image(saved(Image.new("RGB", (LIMITS.image_side_least,) * 2))).size == (8, 8)


def broken_files() -> dict[str, bytes]:
    png, jpeg, webp = (saved(halves(), kind) for kind in ("PNG", "JPEG", "WEBP"))
    return {
        "empty": b"",
        "text": b"this is no picture",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        "png-cut": png[: len(png) // 2],
        "jpeg-cut": jpeg[: len(jpeg) // 2],
        "webp-cut": webp[: len(webp) // 2],
        "png-head": png[:20],
        "png-damaged": png[:60] + b"\0\1\2\3" + png[64:],
        "png-hollow": png_of_size(100, 100),
        "png-text-bomb": png_of_size(100, 100, text=bytes(3_000_000)),
        "gif": saved(halves(), "GIF"),
        "bmp": saved(halves(), "BMP"),
        "tiff": saved(halves(), "TIFF"),
        "ppm": saved(halves(), "PPM"),
    }


@pytest.mark.parametrize("name", broken_files())
def test_what_is_no_picture_is_one_sentence_that_says_what_to_do(name: str) -> None:
    with pytest.raises(UserError, match="save the picture again"):
        open_image(broken_files()[name])


def test_no_sentence_names_a_path(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("this is no picture")
    for path in (tmp_path / "text.jpg", tmp_path / "missing.png", tmp_path, "\0"):
        with pytest.raises(UserError) as caught:
            open_image(path)
        assert str(tmp_path) not in str(caught.value)


def test_crop_takes_the_middle_and_squash_takes_all() -> None:
    wide = Image.new("RGB", (90, 30), RED)
    ImageDraw.Draw(wide).rectangle((30, 0, 59, 30), fill=BLUE)
    cropped, squashed = fit(wide, 30, "crop"), fit(wide, 30, "squash")
    assert cropped.size == squashed.size == (30, 30)
    assert all(near(cropped, (x, 15), BLUE) for x in (1, 15, 28))
    assert near(squashed, (2, 15), RED)
    assert near(squashed, (15, 15), BLUE)
    assert near(squashed, (27, 15), RED)
    assert near(fit(wide.rotate(90, expand=True), 30), (15, 1), BLUE)


def test_fitting_a_long_picture_builds_no_huge_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def resize_and_note(self: Image.Image, size: tuple[int, int], *rest: Any, **more: Any) -> Image.Image:
        sizes.append(size)
        return resize(self, size, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", resize_and_note)
    fit(Image.new("RGB", (1024, 8)), 512)
    assert sizes == [(512, 512)]


def test_padding_shows_all_of_a_picture_between_white() -> None:
    padded = fit(halves((60, 20)), 60, "pad")
    assert near(padded, (30, 2), (255, 255, 255))
    assert near(padded, (2, 30), RED)
    assert near(padded, (57, 30), BLUE)


@pytest.mark.parametrize("region", ["crop", "squash", "pad"])
def test_a_square_picture_is_the_same_in_every_region(region: Region) -> None:
    picture = halves((40, 40))
    assert fit(picture, 30, region).tobytes() == fit(picture, 30).tobytes()
    assert share_of((40, 40), region) == 1


def test_an_unknown_region_is_a_wrong_argument() -> None:
    region: Any = "stretch"
    with pytest.raises(ValueError, match="region must be"):
        fit(halves(), 8, region)


def test_a_camera_s_preview_makes_no_animation() -> None:
    data = io.BytesIO()
    preview = Image.new("RGB", (16, 12))
    Image.new("RGB", (64, 48), "red").save(data, "MPO", save_all=True, append_images=[preview])
    opened = open_picture(data.getvalue())
    assert (opened.image.size, opened.notes) == ((64, 48), ())
