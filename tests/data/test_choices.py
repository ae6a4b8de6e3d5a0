"""SugarCrepe and ARO from small folders in their exact formats: what is read, what is cut, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sdsdemo.data.benchmarks import SHARED, notes_on, read_benchmark
from sdsdemo.errors import UserError

RELATION = {
    "image_id": "1", "image_path": "1.jpg", "relation_name": "behind", "bbox_x": 10, "bbox_y": 20, "bbox_w": 30,
    "bbox_h": 40, "true_caption": "the dog is behind the cat", "false_caption": "the cat is behind the dog",
}  # fmt: skip
ATTRIBUTION = {
    "image_path": "1.jpg", "attributes": ["black", "white"], "bbox_x": 0, "bbox_y": 0, "bbox_w": 5, "bbox_h": 6,
    "true_caption": "the black dog and the white cat", "false_caption": "the white dog and the black cat",
}  # fmt: skip
SUGAR = {"filename": "000000000139.jpg", "caption": "a dog by a man", "negative_caption": "a man by a dog"}


@pytest.fixture
def aro(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (1200, 90), "red").save(tmp_path / "images" / "1.jpg")
    (tmp_path / "visual_genome_relation.json").write_text(json.dumps([RELATION]))
    (tmp_path / "visual_genome_attribution.json").write_text(json.dumps([ATTRIBUTION]))
    return tmp_path


@pytest.fixture
def sugarcrepe(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "val2017").mkdir()
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    clear.save(tmp_path / "val2017" / "000000000139.jpg", "PNG")  # what a file is called does not matter
    for name in ("swap_obj", "add_att"):
        (tmp_path / "data" / f"{name}.json").write_text(json.dumps({"0": SUGAR, "7": SUGAR}))
    return tmp_path


def test_aro_has_the_true_caption_first_and_the_image_cut_to_its_box(aro: Path) -> None:
    relation, attribution = read_benchmark(f"aro:{aro}")
    assert relation.captions == (RELATION["true_caption"], RELATION["false_caption"])
    assert relation.tags == {"tag": "behind", "collapsed_tag": "VG-Relation"}
    assert attribution.tags == {"tag": "black and white", "collapsed_tag": "VG-Attribution"}
    assert relation.images[0].open().size == (30, 40)
    assert attribution.images[0].open().size == (5, 6)


def test_aro_is_read_as_its_authors_download_leaves_it(aro: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.data.readers.choices.shuffled", lambda caption: [caption[::-1]])
    for file, name in (("coco_karpathy_test", "val2014/2.jpg"), ("flickr30k_test", "flickr30k-images/3.jpg")):
        (aro / f"{file}.json").write_text(json.dumps([{"image": name, "caption": ["a small dog runs on a red mat"]}]))
        (aro / name).parent.mkdir()
        Image.new("RGB", (20, 20)).save(aro / name)
    examples = read_benchmark(f"aro:{aro}")
    assert {e.tags["collapsed_tag"]: e.images[0].open().size for e in examples} == {
        "COCO-Order": (20, 20), "Flickr30k-Order": (20, 20), "VG-Relation": (30, 40), "VG-Attribution": (5, 6)
    }  # fmt: skip
    assert not any("missing" in line for line in examples.notes)


def test_sugarcrepe_is_read_file_by_file_and_clear_parts_are_white(sugarcrepe: Path) -> None:
    examples = read_benchmark(f"sugarcrepe:{sugarcrepe}")
    assert [e.tags["tag"] for e in examples] == ["add_att", "add_att", "swap_obj", "swap_obj"]
    assert len({e.id for e in examples}) == 4
    assert examples[0].captions == ("a dog by a man", "a man by a dog")
    assert examples[0].images[0].open().getpixel((3, 3)) == (255, 255, 255)


def test_no_image_is_opened_while_a_benchmark_is_read(aro: Path) -> None:
    (aro / "images" / "1.jpg").unlink()
    relation, _ = read_benchmark(f"aro:{aro}")
    with pytest.raises(UserError, match=r"1\.jpg is missing"):
        relation.images[0].open()


def test_an_image_outside_the_folder_is_not_read(aro: Path) -> None:
    Image.new("RGB", (50, 90)).save(aro / "secret.png")
    (aro / "visual_genome_relation.json").write_text(json.dumps([RELATION | {"image_path": "../secret.png"}]))
    with pytest.raises(UserError, match="missing"):
        read_benchmark(f"aro:{aro}")[0].images[0].open()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"true_caption": None}, r"Case 0 of visual_genome_relation\.json has no true_caption"),
        ({"bbox_w": "wide"}, "Case 0 of .*bbox_w: input should be a valid number"),
        ({"bbox_w": 0}, "Case 0 of .* has a box of 0 x 40 pixels"),
        ({"bbox_h": -3}, "Case 0 of .* has a box of 30 x -3 pixels"),
        ({"image_path": 5}, "Case 0 of .*image_path: input should be a valid string"),
    ],
)
def test_a_bad_case_is_named_with_its_file(aro: Path, change: dict, words: str) -> None:
    (aro / "visual_genome_relation.json").write_text(json.dumps([RELATION | change]))
    with pytest.raises(UserError, match=words):
        read_benchmark(f"aro:{aro}")


@pytest.mark.parametrize(
    ("box", "size"),
    [((-10, 20, 30, 40), (20, 40)), ((1190, 80, 30, 40), (10, 10)), ((-5, -5, 5000, 5000), (1200, 90))],
)
def test_only_pixels_of_the_picture_are_cut_out(aro: Path, box: tuple[int, ...], size: tuple[int, int]) -> None:
    change = dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), box, strict=True))
    (aro / "visual_genome_relation.json").write_text(json.dumps([RELATION | change]))
    image = read_benchmark(f"aro:{aro}")[0].images[0].open()
    assert image.size == size
    assert min(band[0] for band in image.getextrema()[:1]) > 200  # red all over, no black border


def test_a_box_outside_of_its_picture_names_its_row(aro: Path) -> None:
    (aro / "visual_genome_relation.json").write_text(json.dumps([RELATION, RELATION | {"bbox_x": 1200}]))
    with pytest.raises(UserError, match=r"Case 1 of visual_genome_relation.json has a box outside .*1200 x 90 pixels"):
        read_benchmark(f"aro:{aro}")[1].images[0].open()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([["a.jpg", {"POS": ["x"], "NEG": ["y"]}]], r"holds a list of 1, the first a list of 2 \(a text, an object\)"),
        ({"images": [], "annotations": []}, "an object of 2, the first, 'images', a list with nothing in it"),
        ([{"image": "a", "text": "b"}], "the first an object with image, text"),
        ("text", "it holds a text"),
        ([SUGAR | {"caption2": "a"}], r"evaluate sugarcrepe\+\+:PATH"),
        ({"0": SUGAR, "1": {"filename": "a.jpg", "caption": "b"}}, "Case 1 of .* has no negative_caption"),
        ({"0": SUGAR | {"negative_caption": " "}}, "Case 0 of .* has an empty negative_caption"),
        ([SUGAR, 3], "Case 1 of .* is a number"),
    ],
)
def test_sound_json_of_another_shape_is_told_what_it_holds(sugarcrepe: Path, content: object, words: str) -> None:
    (sugarcrepe / "data" / "swap_obj.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        read_benchmark(f"sugarcrepe:{sugarcrepe}")


def test_sugarcrepe_pp_has_both_true_captions_first(sugarcrepe: Path) -> None:
    for path in (sugarcrepe / "data").iterdir():
        path.unlink()
    case = SUGAR | {"id": 0, "caption2": "a man and a dog"}
    (sugarcrepe / "data" / "swap_object.json").write_text(json.dumps([case]))
    (example,) = read_benchmark(f"sugarcrepe++:{sugarcrepe}")
    assert example.captions == ("a dog by a man", "a man and a dog", "a man by a dog")
    assert (example.tags["tag"], example.tags["true captions"]) == ("swap_obj", "2")
    (sugarcrepe / "data" / "swap_object.json").write_text(json.dumps([SUGAR]))
    with pytest.raises(UserError, match=r"Case 0 of swap_object\.json has no caption2"):
        read_benchmark(f"sugarcrepe++:{sugarcrepe}")


def test_what_differs_from_the_published_set_is_noted(sugarcrepe: Path) -> None:
    (sugarcrepe / "data" / "swap_obj.json").write_text(json.dumps([SUGAR | {"source": "me", "filename": "gone.jpg"}]))
    notes = " ".join(notes_on("sugarcrepe:x", read_benchmark(f"sugarcrepe:{sugarcrepe}")))
    assert "3 examples, 2 different images, 2 different captions" in notes
    assert SHARED in notes
    assert SHARED not in notes_on("sugarcrepe:x", read_benchmark(f"sugarcrepe:{sugarcrepe}")[:1])
    assert "swap_obj.json has keys that the published file does not have: source" in notes
    assert "1 of 2 images are missing in the folder val2017: gone.jpg" in notes
    assert "lacks add_obj" in notes


def test_what_is_missing_is_said(aro: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, words in (("aro", "visual_genome_relation"), ("sugarcrepe", "no .json file")):
        with pytest.raises(UserError, match=words):
            read_benchmark(f"{source}:{empty}")
    (aro / "visual_genome_relation.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        read_benchmark(f"aro:{aro}")
    (empty / "x.json").write_text("{}")
    with pytest.raises(UserError, match="images are missing"):
        read_benchmark(f"sugarcrepe:{empty}")


def test_winoground_is_read_from_a_copy_of_its_repository(tmp_path: Path) -> None:
    from zipfile import ZipFile

    (tmp_path / "data").mkdir()
    row = {"id": 0, "image_0": "ex_0_img_0", "image_1": "ex_0_img_1", "caption_0": "an old person kisses a young one",
           "caption_1": "a young person kisses an old one", "tag": "Adjective-Age", "secondary_tag": "",
           "num_main_preds": 1, "collapsed_tag": "Relation"}  # fmt: skip
    (tmp_path / "data" / "examples.jsonl").write_text(json.dumps(row) + "\n")
    clear = Image.new("RGBA", (30, 20), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    clear.convert("P").save(tmp_path / "palette.png")
    with ZipFile(tmp_path / "data" / "images.zip", "w") as archive:
        archive.write(tmp_path / "clear.png", "ex_0_img_0.png")
        archive.write(tmp_path / "palette.png", "ex_0_img_1.png")
    (example,) = read_benchmark(f"winoground:{tmp_path}")
    assert example.tags == {"tag": "Adjective-Age", "collapsed_tag": "Relation", "num_main_preds": "1"}
    assert example.images[0].open().getpixel((0, 0)) == (255, 255, 255)
    assert example.images[1].open().mode == "RGB"
