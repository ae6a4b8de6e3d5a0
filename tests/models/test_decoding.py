"""What a picture may cost: files made to be slow are refused early, real ones of every kind are not."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdsdemo.errors import UserError
from sdsdemo.models import decoding, images
from sdsdemo.models.decoding import Metered, TooCostlyError, scans_of
from sdsdemo.models.images import open_image, open_picture
from sdsdemo.runtime import memory
from sdsdemo.ui import compare_logic, uploads

EXIF = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"


def jpeg(size: tuple[int, int] = (48, 32), *, progressive: bool = True) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 40)).save(file, "JPEG", progressive=progressive)
    return file.getvalue()


def with_segments(count: int, kind: int, content: bytes = b"") -> bytes:
    plain = jpeg()
    segment = bytes([0xFF, kind]) + struct.pack(">H", 2 + len(content)) + content
    return plain[:2] + segment * count + plain[2:]


def with_scans(size: tuple[int, int], more: int) -> bytes:
    """The last scan said over and over: it refines what is there by nothing."""
    plain = jpeg(size)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    return plain[:-2] + last * more + plain[-2:]


def png_of_chunks(count: int) -> bytes:
    header = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), *[(b"prVt", b"")] * count, (b"IDAT", zlib.compress(bytes(49 * 16))), (b"IEND", b"")]
    body = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize("progressive", [True, False])
def test_ordinary_pictures_are_within_the_budget(progressive: bool) -> None:
    scans = scans_of(jpeg(progressive=progressive))
    assert scans > 5 if progressive else scans == 1
    decoding.check_scans(scans, 24_000_000)


def test_scans_are_paid_by_the_pixel() -> None:
    assert open_image(with_scans((48, 32), 400)).size == (48, 32)
    with pytest.raises(UserError, match="takes too long to decode: save it again"):
        open_image(with_scans((3000, 2000), 400))


@pytest.mark.parametrize(("kind", "content"), [(0xE1, EXIF), (0xE5, b""), (0xFE, b"a"), (0xE2, bytes(9))])
def test_a_hundred_thousand_parts_are_refused_before_any_is_read(
    kind: int, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(UserError, match="takes too long to decode"):
        open_image(with_segments(100_000, kind, content))


def test_very_many_chunks_of_a_png_are_refused_before_any_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_image(png_of_chunks(10_000)).size == (16, 16)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(UserError, match="takes too long to decode"):
        open_image(png_of_chunks(20_000))


def test_what_looks_like_a_scan_within_a_part_is_none() -> None:
    assert scans_of(with_segments(100, 0xE5, b"\xff\xda" * 300)) == scans_of(jpeg())
    assert open_image(with_segments(100, 0xE5, b"\xff\xda" * 300)).size == (48, 32)


def test_what_lies_behind_the_end_of_a_picture_does_not_count() -> None:
    assert scans_of(jpeg() + b"\xff\xda\0\2" * 100_000) == scans_of(jpeg())


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xe1\0\0\xff\xda", decoding.PNG + b"\0\0"],
)
def test_a_cut_file_has_an_end(data: bytes) -> None:
    assert scans_of(data) <= 1


def test_a_file_answers_until_its_seconds_are_spent() -> None:
    ticks = itertools.count()
    file = Metered(bytes(100), 3, clock=lambda: float(next(ticks)))
    assert [len(file.read(10)) for _ in range(3)] == [10, 10, 10]
    with pytest.raises(TooCostlyError):
        file.read(10)


def test_a_decoder_is_stopped_on_its_way() -> None:
    ticks = itertools.count()
    with pytest.raises(TooCostlyError):
        Image.open(Metered(png_of_chunks(5_000), 1_000, clock=lambda: float(next(ticks)))).load()
    assert 1_000 < next(ticks) < 1_100


def test_a_picture_whose_seconds_are_spent_is_one_sentence() -> None:
    with pytest.raises(UserError, match="takes too long to decode: save it again"):
        open_picture(png_of_chunks(10), seconds=-1.0)
    assert open_picture(png_of_chunks(10), seconds=10.0).image.size == (16, 16)


def test_a_webp_picture_has_a_limit_of_its_own() -> None:
    file = io.BytesIO()
    Image.new("RGB", (5_100, 4_000)).save(file, "WEBP", method=0)
    with pytest.raises(UserError, match="up to 20 million pixels: save it as JPEG"):
        open_image(file.getvalue())


def test_few_pictures_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    places = 2
    monkeypatch.setattr(decoding, "_turn", decoding.threading.BoundedSemaphore(places))
    with ThreadPoolExecutor(1) as pool:
        with ExitStack() as stack:
            for _ in range(places):
                stack.enter_context(decoding.one_of_few())
            waiting = pool.submit(open_image, jpeg())
            assert not wait([waiting], timeout=0.2).done
        assert waiting.result(timeout=10).size == (48, 32)


def test_grey_of_sixteen_bits_becomes_the_nearest_grey() -> None:
    value = np.arange(65_536)
    assert (np.abs(images.EIGHT_OF_SIXTEEN * 257.0 - value) <= 128.5).all()


def test_a_refused_upload_costs_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "slow.jpg"
    path.write_bytes(with_segments(5_000, 0xE5))
    with pytest.raises(UserError) as first:
        uploads.open_upload(path)
    opened: list[Path] = []
    picture = images.Opened(image=Image.new("RGB", (48, 32)))
    monkeypatch.setattr(uploads, "open_picture", lambda path, **_: opened.append(path) or picture)
    with pytest.raises(UserError) as second:
        uploads.open_upload(path)
    assert (str(second.value), opened) == (str(first.value), [])
    path.write_bytes(jpeg())
    uploads.open_upload(path)
    assert opened == [path]


def test_uploads_are_decoded_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "picture.png").write_bytes(png_of_chunks(10))
    monkeypatch.setattr(uploads, "LIMITS", uploads.LIMITS.__class__(image_seconds=-1.0))
    with pytest.raises(UserError, match="takes too long"):
        uploads.open_upload(tmp_path / "picture.png")


def test_two_pictures_are_looked_at_at_once_and_memory_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(memory, "give_back", lambda: given.append(1))
    (tmp_path / "picture.png").write_bytes(png_of_chunks(4))
    held = [uploads._turn.acquire(blocking=False) for _ in range(3)]
    try:
        assert held == [True, True, False]
        with ThreadPoolExecutor(1) as pool:
            looked_at = pool.submit(compare_logic.check_picture, str(tmp_path / "picture.png"))
            assert not wait([looked_at], timeout=0.1).done
            uploads._turn.release()
            assert (looked_at.result(20), given) == ("", [1])
    finally:
        uploads._turn.release()
