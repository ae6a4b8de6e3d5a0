"""Reading folders in Winoground's layout, and what is shipped in that layout."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from sdsdemo.data.benchmarks import MINI, VALIDATION, orders, read_benchmark, read_pairs, retrieval, swaps, zero_shot
from sdsdemo.data.mini.benchmarks import SWAPS
from sdsdemo.errors import UserError
from sdsdemo.mini.experiments.draw_assets import SEED, write_benchmark


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark") / "small"
    write_benchmark(folder, seed=1, split="validation", count=8)
    return folder


def test_a_folder_that_was_written_is_read_back(folder: Path) -> None:
    examples = read_benchmark(f"folder:{folder}")
    row = json.loads((folder / "examples.jsonl").read_text().splitlines()[0])
    assert examples[0].captions == (row["caption_0"], row["caption_1"])
    assert examples[0].tags["tag"] == row["tag"]
    assert examples[0].images[1].open().size == (320, 320)


def test_images_may_lie_unpacked(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "examples.jsonl").write_bytes((folder / "examples.jsonl").read_bytes())
    with ZipFile(folder / "images.zip") as archive:
        archive.extractall(tmp_path / "images")
    packed, loose = read_pairs(folder)[3].images[0].open(), read_pairs(tmp_path)[3].images[0].open()
    assert packed.tobytes() == loose.tobytes()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "Line 1 of examples.jsonl is not a JSON object"),
        ('{"id": 1}', "Line 1 of examples.jsonl has no caption_0"),
        ("1", "Line 1 of examples.jsonl is not a JSON object"),
        ("[1]", "Entry 0 of examples.jsonl is not an object with id"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "examples.jsonl").write_text(line)
    with pytest.raises(UserError, match=words):
        read_pairs(tmp_path)


def test_a_missing_file_or_picture_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        read_pairs(tmp_path)
    (tmp_path / "examples.jsonl").write_bytes((folder / "examples.jsonl").read_bytes())
    with pytest.raises(UserError, match=r"ex_0_img_0 is missing in the folder .*: Line 1 of examples\.jsonl names it"):
        read_pairs(tmp_path)[0].images[0].open()
    with pytest.raises(UserError, match="no benchmark called 'minni'"):
        read_benchmark("minni")


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_benchmark(tmp_path / name, seed=5, split="benchmark", count=8)
    for file in ("examples.jsonl", "images.zip"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("shipped", "split"), [(MINI, "benchmark"), (VALIDATION, "validation")])
def test_what_is_shipped_is_what_the_seed_gives(shipped: Path, split: str, tmp_path: Path) -> None:
    """Rows of all 400; pictures of every fiftieth, since drawing takes a while."""
    from sdsdemo.data.mini.benchmarks import benchmark_pairs
    from sdsdemo.data.mini.drawing import draw

    examples, pairs = read_pairs(shipped), benchmark_pairs(SEED, split, 400)
    assert [e.captions for e in examples] == [tuple(s.text for s in pair.sentences) for pair in pairs]
    assert [e.tags["tag"] for e in examples] == [SWAPS[pair.kind].tag for pair in pairs]
    for number in range(0, 400, 50):
        for picture, scene in zip(examples[number].images, pairs[number].scenes, strict=True):
            gap = np.abs(np.asarray(picture.open(), dtype=int) - np.asarray(draw(scene), dtype=int))
            assert gap.mean() < 0.3  # a palette of 128 colours


def test_pictures_of_one_key_are_the_same_whatever_set_they_are_drawn_for() -> None:
    """Whoever keeps them by key may meet several sets."""
    drawn: dict[str, bytes] = {}
    makers = ((zero_shot, "count"), (retrieval, "size"), (swaps, "count"), (orders, "count"))
    sets = [make(pixels=pixels, **{size: n}) for make, size in makers for n in (3, 5) for pixels in (32, 64)]
    for picture in (image for examples in sets for example in examples for image in example.images):
        assert drawn.setdefault(picture.key or "", picture.open().tobytes()) == picture.open().tobytes(), picture.key
    assert len(drawn) > 100


@pytest.mark.parametrize("name", ["mini-retrieval", "mini-zero-shot", "mini-swaps", "mini-orders"])
def test_whoever_changes_their_list_of_a_drawn_set_changes_no_other(name: str) -> None:
    mine = read_benchmark(name)
    ids = [example.id for example in mine]
    mine.clear()
    assert [example.id for example in read_benchmark(name)] == ids != []
