"""What a picture is made of: equal for equal bytes wherever they lie, another as soon as the picture is replaced."""

from __future__ import annotations

import io
import json
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import pytest
from PIL import Image

from sdsdemo.data.benchmarks import read_benchmark, zero_shot
from sdsdemo.data.files.picture_digest import MISSING, content_of, made_of, of_text
from sdsdemo.data.readers.pairs import read_pairs
from sdsdemo.evaluation.store import fits
from sdsdemo.types import Picture

ROW = {"id": "a", "caption_0": "a cat", "caption_1": "a dog", "image_0": "0.png", "image_1": "1.png"}


def png(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (12, 8), colour).save(stream, "PNG")
    return stream.getvalue()


def as_files(folder: Path, *colours: str) -> None:
    (folder / "images").mkdir(exist_ok=True)
    for number, colour in enumerate(colours):
        (folder / "images" / f"{number}.png").write_bytes(png(colour))
    (folder / "examples.jsonl").write_text(json.dumps(ROW) + "\n")


def as_zip(folder: Path, *colours: str) -> None:
    with ZipFile(folder / "images.zip", "w") as archive:
        for number, colour in enumerate(colours):
            archive.writestr(f"images/{number}.png", png(colour))
    (folder / "examples.jsonl").write_text(json.dumps(ROW) + "\n")


def as_parquet(folder: Path, *colours: str) -> None:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    images = {f"image_{k}": [{"bytes": png(colour), "path": None}] for k, colour in enumerate(colours)}
    texts = {name: [value] for name, value in ROW.items() if not name.startswith("image")}
    write_table(pa.table({**texts, **images}), folder / "test.parquet")


WAYS = pytest.mark.parametrize("write", [as_files, as_zip, as_parquet])


def contents(folder: Path) -> list[str]:
    (example,) = read_pairs(folder)
    return [content_of(picture) for picture in example.images]


@WAYS
def test_a_replaced_picture_and_only_that_one_has_another_content(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path, "red", "blue")
    first = contents(tmp_path)
    assert first[0] != first[1]
    write(tmp_path, "red", "green")
    second = contents(tmp_path)
    assert (second[0] == first[0], second[1] == first[1]) == (True, False)
    write(tmp_path, "red", "blue")
    assert contents(tmp_path) == first


def test_a_picture_has_one_content_packed_unpacked_and_in_parquet(tmp_path: Path) -> None:
    found = []
    for number, write in enumerate((as_files, as_zip, as_parquet)):
        (tmp_path / str(number)).mkdir()
        write(tmp_path / str(number), "red", "blue")
        found.append(contents(tmp_path / str(number)))
    assert found[0] == found[1] == found[2]


def test_a_digest_of_an_earlier_version_fits_its_zip_file_and_no_other(tmp_path: Path) -> None:
    as_zip(tmp_path, "red", "blue")
    before = [f"{zlib.crc32(png(colour)):08x}-{len(png(colour))}" for colour in ("red", "blue")]
    (example,) = read_pairs(tmp_path)
    current = made_of(example)
    older = f"{current.partition('-')[0]}-{of_text(json.dumps(before))}"
    assert fits(older, current)
    assert fits(current, older)
    as_zip(tmp_path, "red", "green")
    assert not fits(older, made_of(example))
    assert not fits(current, made_of(example))


@WAYS
def test_a_copy_of_a_benchmark_has_the_same_contents(tmp_path: Path, write: Callable[..., None]) -> None:
    (tmp_path / "here").mkdir()
    write(tmp_path / "here", "red", "blue")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    for path in (tmp_path / "there").rglob("*"):
        os.utime(path, (0, 0))
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_replaced_file_of_equal_size_and_time_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.runtime.files.YOUNG", 0)
    as_files(tmp_path, "red", "blue")
    path = tmp_path / "images" / "0.png"
    (example,) = read_pairs(tmp_path)
    first, before = content_of(example.images[0]), path.stat()
    changed = bytearray(path.read_bytes())
    changed[-20] ^= 1
    path.write_bytes(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert content_of(example.images[0]) != first


def test_a_picture_that_is_gone_or_comes_back_has_another_content(tmp_path: Path) -> None:
    as_files(tmp_path, "red", "blue")
    first = contents(tmp_path)
    (tmp_path / "images" / "0.png").rename(tmp_path / "aside")
    assert contents(tmp_path) == [MISSING, first[1]]
    (tmp_path / "aside").rename(tmp_path / "images" / "0.png")
    assert contents(tmp_path) == first


def test_an_unknown_source_is_told_by_its_pixels() -> None:
    red, again, blue = (
        Picture(name="x", open=partial(Image.new, "RGB", (8, 8), colour)) for colour in ("red", "red", "blue")
    )
    assert content_of(red) == content_of(again) != content_of(blue)
    broken = replace(red, open=lambda: Image.open(io.BytesIO(b"no picture")))
    assert content_of(broken) == MISSING


def test_no_picture_of_our_own_benchmarks_is_decoded_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [p for example in (*read_benchmark("mini"), *zero_shot(count=20)) for p in example.images]
    monkeypatch.setattr(Image, "open", lambda *rest, **options: pytest.fail("a picture was decoded"))
    monkeypatch.setattr("sdsdemo.data.benchmarks.draw", lambda *rest: pytest.fail("a picture was drawn"))
    found = {picture.key: content_of(picture) for picture in pictures}
    assert MISSING not in found.values()
    assert len(set(found.values())) > 0.95 * len(found)
