"""What the entrances have in common at their edges: limits, broken objects, boxes, long pictures; and real answers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdsdemo
from sdsdemo.app.workbench import Workbench
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.captions.sources import read_captions
from sdsdemo.errors import UserError
from sdsdemo.evaluation.run import evaluate
from sdsdemo.models import open_scorer
from sdsdemo.models.cards import resolve
from sdsdemo.models.images import clean, fit, open_picture
from sdsdemo.settings import ASSETS, LIMITS, Settings, budget
from sdsdemo.ui import compare_form, compare_logic
from sdsdemo.ui.examples import read_examples
from tests.test_one_way_in import CAPTIONS, KINDS, scene

MINI = ["this is an orange arrow and a blue star", "this is a blue arrow and an orange star"]
SHOWN = ASSETS / "mini/examples/this-is-a-blue-arrow-and-an-orange-star.png"
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F")


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def pair_folder(folder: Path, data: bytes, captions: list[str]) -> str:
    """A benchmark of one example whose two pictures are equal."""
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(data)
    row = {"id": "0", "caption_0": captions[0], "caption_1": captions[1], "image_0": "a.png", "image_1": "a.png"}
    (folder / "examples.jsonl").write_text(json.dumps(row) + "\n")
    return f"folder:{folder}"


def caption_folder(folder: Path, data: bytes) -> str:
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(data)
    rows = [{"file_name": name, "caption": f"the picture {name}"} for name in ("a.png", "b.png")]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"folder:{folder}"


@pytest.mark.parametrize("seed", range(24))
def test_any_mode_size_and_turn_is_one_picture_as_file_and_as_object(seed: int) -> None:
    """A random picture that its EXIF data turn: from bytes, as an object that was read, and as one that was not."""
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(LIMITS.image_side_least, 200, 2))
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert(MODES[seed % len(MODES)])
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    kind = "TIFF" if picture.mode in ("CMYK", "I", "F") else "PNG"
    data = saved(picture, kind, exif=exif)
    unread, read = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data))
    read.load()
    found = [open_picture(one).image.tobytes() for one in (unread, read)]
    assert found[0] == found[1]
    if kind == "PNG":
        assert open_picture(data).image.tobytes() == found[0]


def test_what_is_clean_comes_back_as_it_is_and_stays_clean() -> None:
    for data in KINDS.values():
        image = open_picture(data).image
        assert clean(image) is image
        file = io.BytesIO()
        image.save(file, "PNG")
        assert open_picture(file.getvalue()).image.tobytes() == image.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF"])
def test_a_broken_or_closed_object_is_one_sentence(kind: str) -> None:
    noise = Image.effect_noise((200, 200), 90)
    data = saved(noise, kind)
    with pytest.raises(UserError, match="cannot be read"):
        sdsdemo.score(Image.open(io.BytesIO(data[: len(data) // 3])), CAPTIONS)


def test_an_object_whose_file_was_closed_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(saved(scene()))
    with Image.open(tmp_path / "a.png") as closed:
        pass
    with pytest.raises(UserError, match="cannot be read"):
        sdsdemo.score(closed, CAPTIONS)


def test_the_limits_hold_at_every_entrance(tmp_path: Path) -> None:
    large, heavy = saved(Image.new("1", (5000, 5000))), saved(scene()) + bytes(LIMITS.image_bytes)
    tiny = saved(Image.new("RGB", (7, 7)))
    for k, (data, words) in enumerate([(large, "24 million"), (heavy, "8 MB"), (tiny, "at least 8")]):
        row = read_benchmark(pair_folder(tmp_path / f"row{k}", data, CAPTIONS))[0].images[0]
        with pytest.raises(UserError, match=words):
            open_picture(data)
        with pytest.raises(UserError, match=words):
            row.open()
        with pytest.raises(UserError, match=words):
            read_captions(caption_folder(tmp_path / f"captions{k}", data)).draw(0, 1, 0)
    with pytest.raises(UserError, match="24 million"):
        sdsdemo.score(Image.new("1", (5000, 5000)), CAPTIONS)


@pytest.mark.parametrize("size", [(27_500, 430), (430, 27_500)])
def test_a_long_picture_beside_white_takes_little_memory(size: tuple[int, int]) -> None:
    made: list[tuple[int, int]] = []
    new = Image.new
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "new", lambda mode, size, *rest: made.append(size) or new(mode, size, *rest))
        padded = fit(new("RGB", size, "red"), 64, "pad")
    assert made == [(64, 64)]
    assert np.asarray(padded).mean() > 240
    assert padded.getpixel((31, 31)) == (255, 0, 0)


def test_an_aro_box_ignores_the_orientation_mark(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(saved(scene(), exif=exif))
    case = {
        "image_path": "1.png", "true_caption": "a b", "false_caption": "b a", "relation_name": "on",
        "bbox_x": 15, "bbox_y": 0, "bbox_w": 30, "bbox_h": 15,
    }  # fmt: skip
    (tmp_path / "visual_genome_relation.json").write_text(json.dumps([case]))
    found = read_benchmark(f"aro:{tmp_path}")[0].images[0].open()
    expected = scene().crop((15, 0, 45, 15)).transpose(Image.Transpose.ROTATE_270)
    assert found.tobytes() == expected.tobytes()


@pytest.fixture(scope="module")
def workbench() -> Workbench:
    return Workbench(Settings.from_environment({}), opener=lambda card: open_scorer(card))


def asked_of(workbench: Workbench, path: Path, region: str) -> list[list[float]]:
    form = compare_form.Form(
        image=str(path), captions=MINI, models=["mini-clip", "mini-diffusion"], timesteps=2, noises=2, seed=0,
        region=region,
    )  # fmt: skip
    return [entry["scores"] for entry in compare_logic.score_dict(workbench, read_examples(ASSETS), form)["models"]]


@pytest.mark.parametrize("region", ["crop", "squash", "own"])
def test_page_python_and_evaluate_give_the_same_answer(region: str, workbench: Workbench, tmp_path: Path) -> None:
    """A drawing larger than any model's size, wider than it is high, and turned by its EXIF data."""
    drawing = Image.open(SHOWN).convert("RGB").resize((1300, 1300))
    wide = Image.new("RGB", (1500, 1300), drawing.getpixel((0, 0)))
    wide.paste(drawing, (100, 0))
    exif = Image.Exif()
    exif[0x0112] = 8
    data = saved(wide.transpose(Image.Transpose.ROTATE_270), exif=exif)
    path = tmp_path / "drawing.png"
    path.write_bytes(data)
    models = ["mini-clip", "mini-diffusion"]
    answer = sdsdemo.score(Image.open(path), MINI, models=models, timesteps=2, noises=2, region=region)
    object_scores = [entry["scores"] for entry in answer["models"]]
    np.testing.assert_allclose(asked_of(workbench, path, region), object_scores, atol=1e-6)
    benchmark, said = pair_folder(tmp_path / "set", data, MINI), list[str]()
    spend = budget(2, 2, 0, region=region)
    evaluate(benchmark, models, workbench=workbench, budget=spend, out=tmp_path / "run", remark=said.append)
    stored = [json.loads(line) for line in (tmp_path / "run" / "scores.jsonl").read_text().splitlines()]
    for model, scores in zip(models, object_scores, strict=True):
        (row,) = [row for row in stored if row["model"] == model]
        for row_scores in row["score"]:
            np.testing.assert_allclose(row_scores, scores, atol=1e-6)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["region"] == region


def test_a_real_model_called_directly_cleans_what_it_is_given() -> None:
    scorer = open_scorer(resolve("mini-diffusion"))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.open(SHOWN).convert("RGB").transpose(Image.Transpose.ROTATE_90).convert("RGBA"), exif=exif)
    spend = budget(2, 2, 0)
    direct = scorer.score([Image.open(io.BytesIO(data))], MINI, spend)
    plain = scorer.score([open_picture(SHOWN).image], MINI, spend)
    np.testing.assert_allclose(direct.score_IC, plain.score_IC, atol=1e-6)
    assert not any(c.blocking for c in scorer.concerns([Image.open(io.BytesIO(data))], MINI))
