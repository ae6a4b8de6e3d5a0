"""`folder:` with one image a row: the first caption is true, and what cannot be meant is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.errors import UserError

ROWS = [
    {
        "image": "a",
        "caption_0": "a dog on a couch",
        "caption_1": "a couch on a dog",
        "caption_2": "a cat",
        "tag": "Noun",
    },
    {"image": "b.png", "caption_0": "a red cup", "caption_1": "a blue cup", "caption_2": "", "tag": "Colour"},
]


def table(folder: Path, rows: Sequence[Mapping[str, str]], suffix: str = "csv") -> str:
    """The benchmark of a table with these rows, and two images."""
    (folder / "images").mkdir(exist_ok=True)
    for name in "ab":
        Image.new("RGB", (8, 8)).save(folder / "images" / f"{name}.png")
    with (folder / f"examples.{suffix}").open("w") as file:
        if suffix == "csv":
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return f"folder:{folder}"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_each_row_is_an_image_with_its_captions_the_true_one_first(suffix: str, tmp_path: Path) -> None:
    first, second = read_benchmark(table(tmp_path, ROWS, suffix))
    assert (first.id, [picture.name for picture in first.images], first.tags) == ("0", ["a"], {"tag": "Noun"})
    assert first.captions == ("a dog on a couch", "a couch on a dog", "a cat")
    assert second.captions == ("a red cup", "a blue cup"), "an empty cell is no caption"


def test_a_table_of_negatives_needs_only_a_map(tmp_path: Path) -> None:
    name = table(tmp_path, [{"image": "a", "caption": "a red cup", "negative_caption": "a blue cup"}])
    with pytest.raises(UserError, match="has no column caption_0 and no caption_1; its header has image, caption, neg"):
        read_benchmark(name)
    (tmp_path / "columns.json").write_text('{"caption_0": "caption", "caption_1": "negative_caption"}')
    assert [example.captions for example in read_benchmark(name)] == [("a red cup", "a blue cup")]


def test_more_than_ten_captions_keep_their_order(tmp_path: Path) -> None:
    said = {f"caption_{k}": f"caption number {k}" for k in (0, 11, 1, *range(10, 1, -1))}
    (example,) = read_benchmark(table(tmp_path, [{"image": "a", **said}]))
    assert example.captions == tuple(f"caption number {k}" for k in range(12))


def test_a_true_caption_among_the_false_ones_is_refused(tmp_path: Path) -> None:
    name = table(tmp_path, [*ROWS, {**ROWS[0], "caption_2": ROWS[0]["caption_0"]}])
    with pytest.raises(UserError, match=r"Line 4 of examples\.csv has its true caption, caption_0, among the false"):
        read_benchmark(name)


def test_pairs_that_name_one_image_twice_are_said(tmp_path: Path) -> None:
    pair = {"image_0": "a", "image_1": "a", "caption_0": "a red cup", "caption_1": "a blue cup"}
    for others, is_said in (([], True), ([{**pair, "image_1": "b"}], False)):
        notes = read_benchmark(table(tmp_path, [pair, *others])).notes
        assert any("names one picture twice, so no example can be right" in note for note in notes) == is_said


def test_images_elsewhere_are_said_not_to_be_read(tmp_path: Path) -> None:
    elsewhere = tmp_path / "c.png"
    Image.new("RGB", (8, 8)).save(elsewhere)
    (tmp_path / "set").mkdir()
    (note,) = read_benchmark(table(tmp_path / "set", [{**ROWS[0], "image": str(elsewhere)}], "jsonl")).notes[1:]
    assert "1 of 1 images are missing in the folder images" in note
    assert "Images elsewhere are not read" in note
