"""The same picture gives the same scores wherever it comes in: every kind of picture, through every entrance."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import sdsdemo
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.captions.sources import read_captions
from sdsdemo.errors import UserError
from sdsdemo.models.clip import ClipModel, ClipScorer
from sdsdemo.models.images import clean, open_picture
from sdsdemo.settings import budget
from sdsdemo.types import Region
from sdsdemo.ui import compare_form, compare_logic
from tests import twins
from tests.conftest import fake_workbench
from tests.fakes import fake_card

CAPTIONS = ["red star", "blue circle"]
SIZE = (90, 60)


def _saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def scene(mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Blocks of colour, so that turning, cutting or recolouring it moves every score."""
    rng = np.random.default_rng(seed)
    blocks = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize(SIZE, Image.Resampling.NEAREST)
    return blocks.convert(mode)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _saved(scene(), "JPEG", exif=exif, quality=92)


def clear(mode: str) -> Image.Image:
    picture = scene("L" if mode == "LA" else "RGB").convert(mode)
    picture.putalpha(Image.linear_gradient("L").resize(SIZE))
    return picture


def kinds() -> dict[str, bytes]:
    """Files of pictures in the kinds that people have; every one can be scored."""
    ramp = np.linspace(0, 65_535, SIZE[0] * SIZE[1]).reshape(SIZE[1], SIZE[0]).astype(np.uint16)
    palette = scene().quantize(8)
    frames = [scene(seed=seed) for seed in range(3)]
    return {
        **{f"turned {k}": turned(k) for k in range(1, 9)},
        "RGB": _saved(scene()),
        "RGBA": _saved(clear("RGBA")),
        "LA": _saved(clear("LA")),
        "grey": _saved(scene("L")),
        "two colours": _saved(scene("1")),
        "16 bits": _saved(Image.fromarray(ramp)),
        "palette": _saved(palette),
        "clear palette": _saved(palette, transparency=palette.getpixel((5, 5))),
        "named clear colour": _saved(scene(), transparency=scene().getpixel((5, 5))),
        "CMYK": _saved(scene("CMYK"), "JPEG", quality=92),
        "large JPEG": _saved(scene().resize((1500, 900)), "JPEG", quality=92),
        "animated PNG": _saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "animated WebP": _saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
        "WebP": _saved(clear("RGBA"), "WEBP", lossless=True),
    }


KINDS = kinds()


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> ClipScorer:
    folder = tmp_path_factory.mktemp("clip")
    twins.clip_folder(folder, words=True)
    return ClipScorer(fake_card(), ClipModel.load(f"open_clip:local-dir:{folder}"))


def entrances(data: bytes, place: Path) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
    """What each entrance makes of the same file."""
    suffix = (Image.open(io.BytesIO(data)).format or "").lower()
    path = place / f"a.{suffix}"
    path.write_bytes(data)
    held = Image.open(io.BytesIO(data))
    held.load()
    yield "bytes", lambda: open_picture(data).image
    yield "object, not read yet", lambda: open_picture(Image.open(io.BytesIO(data))).image
    yield "object, read", lambda: open_picture(held).image
    yield "upload", lambda: _asked(path)
    for name in ("folder", "zip", "bytes", "struct"):
        yield f"benchmark, {name}", lambda name=name: _benchmark(name, data, path, place)
    yield "captions", lambda: _captions(data, path, place)
    yield "rows of the Hub", lambda: _stream(data, place)
    yield "the model itself", lambda: held


def _asked(path: Path) -> Image.Image:
    form = compare_form.Form(image=str(path), captions=CAPTIONS, models=["mini-clip"], timesteps=1, noises=1, seed=0)
    return compare_logic.ask(fake_workbench(), [], form).image


def _benchmark(kind: str, data: bytes, path: Path, place: Path) -> Image.Image:
    folder = place / kind
    folder.mkdir()
    row = {"id": "a", "caption_0": CAPTIONS[0], "caption_1": CAPTIONS[1], "image_0": path.name, "image_1": path.name}
    if kind in ("bytes", "struct"):
        cell = data if kind == "bytes" else {"bytes": data, "path": path.name}
        pq.write_table(pa.Table.from_pylist([row | {"image_0": cell, "image_1": cell}]), folder / "0.parquet")
    else:
        (folder / "examples.jsonl").write_text(json.dumps(row) + "\n")
    if kind == "zip":
        with ZipFile(folder / "images.zip", "w") as archive:
            archive.write(path, path.name)
    elif kind == "folder":
        (folder / "images").mkdir()
        shutil.copy(path, folder / "images")
    return read_benchmark(f"folder:{folder}")[0].images[0].open()


def _stream(data: bytes, place: Path) -> Image.Image:
    folder = place / "hub"
    folder.mkdir()
    rows = [{"image": {"bytes": data, "path": None}, "caption": CAPTIONS[0]}] * 4
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    return read_captions(f"hub:{folder}", held_out=1).draw(0, 1, 0)[0].picture.open()


def _captions(data: bytes, path: Path, place: Path) -> Image.Image:
    folder = place / "captions"
    folder.mkdir()
    shutil.copy(path, folder)
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "caption"], [path.name, CAPTIONS[0]]])
    return read_captions(f"folder:{folder}").draw(0, 1, 0)[0].picture.open()


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_scores_alike_through_every_entrance(kind: str, scorer: ClipScorer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(KINDS[kind])
    expected = scorer.score([open_picture(tmp_path / "file").image], CAPTIONS, budget()).score_IC
    for entrance, opened in entrances(KINDS[kind], tmp_path):
        found = scorer.score([opened()], CAPTIONS, budget()).score_IC
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=entrance)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(orientation: int) -> None:
    """Turned back by what the EXIF standard says, all eight are one picture."""
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the inverse of each turn, as Pillow numbers them
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = scene() if orientation == 1 else scene().transpose(Image.Transpose(back[orientation]))
    upright = open_picture(_saved(stored, "PNG", exif=exif)).image
    assert upright.tobytes() == scene().tobytes()


BY_WAY_OF = {"La": "LA", "RGBa": "RGBA", "PA": "P"}
"""Modes that Pillow makes of another one only."""


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_an_object_of_any_mode_keeps_its_picture(mode: str) -> None:
    made = scene("L") if mode in ("L", "LA", "La") else scene()
    for step in filter(None, (BY_WAY_OF.get(mode), mode)):
        made = made.convert(step)
    shown = made
    for step in {"La": ("LA",), "RGBa": ("RGBA",), "PA": ("RGBA",)}.get(mode, ()):
        shown = shown.convert(step)
    assert np.abs(np.asarray(clean(made), dtype=int) - np.asarray(shown.convert("RGB"), dtype=int)).max() <= 1


def test_a_picture_in_lab_colours_keeps_them() -> None:
    from PIL import ImageCms

    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(scene(), to_lab)
    assert lab is not None
    assert np.abs(np.asarray(clean(lab), dtype=int) - np.asarray(scene(), dtype=int)).mean() < 4


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_floats_are_read_from_0_to_1_or_to_255(scale: float) -> None:
    value = np.linspace(0, scale, 64, dtype=np.float32)[None].repeat(16, axis=0)
    grey = np.asarray(clean(Image.fromarray(value)))[0, :, 0]
    np.testing.assert_allclose(grey, value[0] * 255 / scale, atol=1)


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (-1.0, "range from -1"), (70_000.0, "0 to 255")],
)
def test_values_without_a_colour_are_one_sentence(value: float, words: str) -> None:
    array = np.full((20, 20), 0.5, dtype=np.float32)
    array[3, 4] = value
    with pytest.raises(UserError, match=words):
        open_picture(Image.fromarray(array))


@pytest.mark.parametrize("source", [3, None, np.zeros((9, 9, 3), dtype=np.uint8), [b"x"]])
def test_what_is_no_picture_at_all_is_one_sentence(source: Any) -> None:
    with pytest.raises(UserError, match="Give the picture as"):
        sdsdemo.score(source, CAPTIONS)


def test_an_animation_is_said_and_the_callers_stays_where_it_was() -> None:
    for kind in ("animated PNG", "animated WebP"):
        assert "3 frames" in open_picture(KINDS[kind]).notes[0]
    held = Image.open(io.BytesIO(KINDS["animated PNG"]))
    held.seek(2)
    assert open_picture(held).image.tobytes() == open_picture(KINDS["animated PNG"]).image.tobytes()
    assert held.tell() == 2


def test_broken_orientation_data_cost_no_picture() -> None:
    data = turned(6).replace(b"Exif\0\0", b"Exif\0\0garbage", 1)
    assert open_picture(data).image.size == SIZE


@pytest.mark.parametrize("size", [(128, 64), (64, 128), (101, 64), (64, 64)])
@pytest.mark.parametrize("region", ["crop", "squash", "pad", "own"])
def test_all_models_see_one_region(region: Region, size: tuple[int, int], scorer: ClipScorer, tmp_path: Path) -> None:
    """What lies outside of the middle square counts where a model sees it, and nowhere else."""
    picture = Image.new("RGB", size, "white")
    marked = picture.copy()
    marked.paste("black", (0, 0, 6, 6))
    spend = budget(region=region)
    plain, other = (scorer.score([image], CAPTIONS, spend).score_IC for image in (picture, marked))
    sees_all = scorer.share_seen(size, region) == 1
    assert np.allclose(plain, other, atol=1e-6) != sees_all
    said = any(concern.kind == "partly-seen" for concern in scorer.concerns([picture], CAPTIONS, region))
    assert said == (scorer.share_seen(size, region) < 0.9)


def test_a_mini_answer_is_the_same_for_path_and_object() -> None:
    path = Path(sdsdemo.__file__).parent.parent / "assets/mini/examples/this-is-a-blue-arrow-and-an-orange-star.png"
    captions = ["this is an orange arrow and a blue star", "this is a blue arrow and an orange star"]
    asked: dict[str, Any] = {"models": ["mini-clip", "mini-diffusion"], "timesteps": 2, "noises": 2}
    by_path = sdsdemo.score(path, captions, **asked)["models"]
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.open(path).convert("RGB").transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=exif)
    by_object = sdsdemo.score(Image.open(file), captions, **asked)["models"]
    for one, other in zip(by_path, by_object, strict=True):
        np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-6)
