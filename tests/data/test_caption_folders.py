"""Captions as people keep them: what is read, what is refused, what is counted; and damaged files of every format."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdsdemo.data.captions.sources import Captions, read_captions
from sdsdemo.data.captions.tables import _files_below
from sdsdemo.data.files.image_search import IMAGE_SUFFIXES
from sdsdemo.errors import UserError
from tests.data.test_captions import (
    COUNT,
    SIZE,
    add_images,
    as_coco,
    as_csv,
    as_jsonl,
    coco,
    colour,
    numbers,
    write_lines,
)
from tests.data.test_captions_stream import fake_hub, hub_row

__all__ = ["fake_hub"]


def by_image(found: Captions) -> dict[str, tuple[str, ...]]:
    return dict(found.sample(10_000))


def write_csv(path: Path, rows: list[list[str]], separator: str = ",", encoding: str = "utf-8") -> None:
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator).writerows(rows)
    path.write_bytes(stream.getvalue().encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_spreadsheet_reads_the_same_however_it_was_saved(tmp_path: Path, encoding: str, separator: str) -> None:
    add_images(tmp_path, 2)
    rows = [["file_name", "caption"], ["0.png", "a café, by the sea"], ["1.png", "two dogs; one cat"]]
    write_csv(tmp_path / "metadata.csv", rows, separator, encoding)
    found = read_captions(f"folder:{tmp_path}")
    assert by_image(found) == {name: (text,) for name, text in rows[1:]}
    said = {"utf-8": "", "cp1252": "Windows-1252"}.get(encoding, "UTF-16")
    assert any(f"is read as {said}" in note for note in found.notes) == bool(said)


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\u000c"])
def test_a_line_of_json_ends_at_a_line_feed(tmp_path: Path, mark: str) -> None:
    add_images(tmp_path, 2)
    rows = [{"file_name": f"{n}.png", "caption": f"a cat{mark} number {n}"} for n in range(2)]
    lines = [json.dumps(row, ensure_ascii=mark == "\u000c") for row in rows]
    (tmp_path / "metadata.jsonl").write_bytes("\r\n".join(lines).encode())
    assert by_image(read_captions(f"folder:{tmp_path}")) == {r["file_name"]: (r["caption"],) for r in rows}


@pytest.mark.parametrize("nested", [False, True])
def test_two_tables_of_the_same_images_are_refused(tmp_path: Path, nested: bool) -> None:
    add_images(tmp_path / "train", 3)
    write_lines(tmp_path / "train" / "metadata.jsonl", [{"file_name": f"{n}.png", "text": "new"} for n in range(3)])
    place, start = (tmp_path, "train/") if nested else (tmp_path / "train", "")
    write_csv(place / "metadata.csv", [["file_name", "caption"], *([f"{start}{n}.png", "old"] for n in range(3))])
    words = "is in both metadata.csv and train/metadata.jsonl" if nested else "are both in '.*train'"
    with pytest.raises(UserError, match=f"{words}, and only one can be used: remove the other"):
        read_captions(f"folder:{tmp_path}")


def test_tables_of_different_folders_are_read_together(tmp_path: Path) -> None:
    for part in ("a", "b"):
        add_images(tmp_path / part, 2)
        write_lines(tmp_path / part / "metadata.jsonl", [{"file_name": "0.png", "text": part}])
    assert by_image(read_captions(f"folder:{tmp_path}")) == {"a/0.png": ("a",), "b/0.png": ("b",)}


@pytest.mark.parametrize("through_link", [False, True])
def test_absolute_paths_inside_the_folder_are_read(tmp_path: Path, through_link: bool) -> None:
    add_images(tmp_path / "set" / "images", 2)
    (tmp_path / "link").symlink_to(tmp_path / "set")
    written = (tmp_path / ("link" if through_link else "set") / "images").resolve() if not through_link else (
        tmp_path / "link" / "images"
    )  # fmt: skip
    write_csv(
        tmp_path / "set" / "metadata.csv", [["file_name", "caption"], [f"{written}/0.png", "a"], ["images/1.png", "b"]]
    )
    for folder in ("set", "link"):
        assert by_image(read_captions(f"folder:{tmp_path / folder}")) == {
            "images/0.png": ("a",),
            "images/1.png": ("b",),
        }


@pytest.mark.parametrize("write", [json.dumps, str, lambda texts: str(tuple(texts)), lambda texts: f" {texts} "])
def test_a_list_of_captions_in_one_cell_is_split(tmp_path: Path, write: Callable[[list[str]], str]) -> None:
    add_images(tmp_path, 2)
    texts = [["a cat", "a dog's [red] bone, here"], ['the "big" one', "b"]]
    write_csv(
        tmp_path / "metadata.csv", [["file_name", "captions"], *([f"{n}.png", write(texts[n])] for n in range(2))]
    )
    assert by_image(read_captions(f"folder:{tmp_path}")) == {f"{n}.png": tuple(texts[n]) for n in range(2)}


def test_a_list_that_cannot_be_split_is_a_bad_row(tmp_path: Path) -> None:
    add_images(tmp_path)
    rows = [[f"{n}.png", "fine"] for n in range(COUNT)]
    write_csv(tmp_path / "metadata.csv", [["file_name", "caption"], *rows, ["0.png", "['a' 'b']"]])
    (line,) = read_captions(f"folder:{tmp_path}").bad.first
    assert line.startswith(f"line {COUNT + 2} of metadata.csv: a list in one cell that cannot be split")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_found_in_another_form(tmp_path: Path, form: str) -> None:
    other = "NFD" if form == "NFC" else "NFC"
    add_images(tmp_path / unicodedata.normalize(other, "été"), 1)
    there = next(tmp_path.rglob("0.png"))
    there = there.rename(there.with_name(unicodedata.normalize(other, "thé.PNG")))
    row = {"file_name": unicodedata.normalize(form, "été/thé.png"), "caption": "tea"}
    write_lines(tmp_path / "metadata.jsonl", [row])
    found = read_captions(f"folder:{tmp_path}")
    assert [item.captions for item in found.draw(0, 1, 0)] == [("tea",)]
    assert found.describe()["unlisted"] == {"count": 0, "first": []}


def test_tables_of_other_splits_are_said_before_training(tmp_path: Path) -> None:
    said = []
    for split in ("train", "test", "validation"):
        (tmp_path / split).mkdir()
        add_images(tmp_path / split)
        rows: list[object] = [{"file_name": f"{n}.png", "caption": f"a {n}"} for n in range(COUNT)]
        write_lines(tmp_path / split / "metadata.jsonl", rows)
        said.append([note for note in read_captions(f"folder:{tmp_path}", held_out=5).notes if "training" in note])
    assert said == [
        [],
        ["test/metadata.jsonl is read for training too, beside train/metadata.jsonl: to leave it out, name the folder "
         "train."],
        ["test/metadata.jsonl, validation/metadata.jsonl are read for training too, beside train/metadata.jsonl: to "
         "leave them out, name the folder train."],
    ]  # fmt: skip


def test_four_counts_are_said_before_and_recorded(tmp_path: Path) -> None:
    add_images(tmp_path)
    rows: list[object] = [{"file_name": f"{n}.png", "caption": [f"a {n}", f"b {n}"]} for n in range(2, COUNT)]
    write_lines(tmp_path / "metadata.jsonl", [*rows, {"file_name": "gone.png", "caption": "x"}])
    for n in range(7):
        (tmp_path / f"{n}.txt").write_text("a caption")
    (tmp_path / "readme.txt").write_text("no caption")
    found = read_captions(f"folder:{tmp_path}", held_out=5)
    assert found.notes == [
        f"{found.name}: 39 rows, 38 images, 76 captions; 1 skipped: line 39 of metadata.jsonl: gone.png is missing.",
        "2 images are in no row and not read: 0.png, 1.png.",
        "7 files (0.txt, 1.txt, 2.txt, ...) beside images are not read: to train on such captions, write them into "
        "metadata.jsonl.",
    ]
    record = json.loads(json.dumps(found.describe()))
    assert (record["rows"], record["items"], record["captions"], record["skipped"]["count"]) == (39, 38, 76, 1)
    assert record["unlisted"] == {"count": 2, "first": ["0.png", "1.png"]}
    assert record["not_read"] == {"count": 7, "first": [f"{n}.txt" for n in range(7)]}
    assert record["notes"] == found.notes


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_picture_of_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "train2017").mkdir()
    Image.new("RGB", SIZE, colour(0)).save(tmp_path / "train2017" / f"0{suffix.upper()}")
    content = coco(1)
    content["images"][0]["file_name"] = f"0{suffix.upper()}"
    (tmp_path / "captions_train2017.json").write_text(json.dumps(content))
    (tmp_path / "metadata.csv").write_text(f"file_name,caption\ntrain2017/0{suffix.upper()},a thing\n")
    for source in (f"coco:{tmp_path}", f"folder:{tmp_path}"):
        assert [item.picture.open().size for item in read_captions(source).draw(0, 1, 0)] == [SIZE]


def test_captions_beside_images_without_a_table_are_named(tmp_path: Path) -> None:
    add_images(tmp_path, 2)
    (tmp_path / "0.txt").write_text("a caption")
    with pytest.raises(UserError, match=r"and 1 file \(0\.txt\) beside the images cannot be read instead: write one"):
        read_captions(f"folder:{tmp_path}")
    (tmp_path / "captions.csv").write_text("file_name,caption\n")
    with pytest.raises(UserError, match=r"is captions\.csv the table\? Call it metadata\.csv"):
        read_captions(f"folder:{tmp_path}")


def test_shards_are_named_with_the_way_to_read_them(tmp_path: Path) -> None:
    (tmp_path / "000.tar").touch()
    with pytest.raises(UserError, match=r"in \.tar files.*hub:PATH with --image-column and --caption-column"):
        read_captions(f"folder:{tmp_path}")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_column_of_another_name_is_answered_with_the_setting(tmp_path: Path, name: str) -> None:
    add_images(tmp_path, 1)
    text = "file_name,prompt\n0.png,a\n" if name.endswith("csv") else '{"file_name": "0.png", "prompt": "a"}\n'
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="its columns are file_name, prompt; name yours with --caption-column"):
        read_captions(f"folder:{tmp_path}")
    assert by_image(read_captions(f"folder:{tmp_path}", caption_column="prompt")) == {"0.png": ("a",)}


def test_names_are_written_with_slashes_on_windows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders deep, where Windows writes a\\b."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    add_images(tmp_path / "a" / "b")
    as_csv(tmp_path / "a" / "b")
    before = list(_files_below(tmp_path))
    assert any(name.startswith("a/b/") for name in before)
    as_linux = os.path.relpath
    monkeypatch.setattr(os.path, "relpath", lambda *places: as_linux(*places).replace("/", "\\"))
    monkeypatch.setattr(os, "sep", "\\")
    assert list(_files_below(tmp_path)) == before


def test_the_validation_set_of_coco_is_said_and_recorded(tmp_path: Path) -> None:
    source = as_coco(tmp_path)
    assert "train2017 holds most images of val2014" in read_captions(source).notes[1]
    (tmp_path / "train2017").rename(tmp_path / "val2017")
    (tmp_path / "annotations" / "captions_val2017.json").write_text(json.dumps(coco()))
    found = read_captions(source)
    assert "those of captions_train2017.json are not here" in found.notes[1]
    assert "SugarCrepe" in found.notes[2]
    assert "foil-it of val2014" in found.notes[2]
    assert len(found.notes) == 3
    assert (found.describe()["tables"], found.describe()["images"]) == (["captions_val2017.json"], "val2017")


@pytest.mark.parametrize(
    "change",
    [
        {"images": {}},
        {"images": [{"id": [1], "file_name": "0.png"}]},
        {"images": [{"id": 1, "file_name": 7}]},
        {"images": [{"id": 1}]},
        {"annotations": {"a": 1}},
        {"annotations": [{"image_id": {}, "caption": "x"}]},
        {"annotations": [[]]},
        {"annotations": None},
    ],
)
def test_coco_of_another_shape_is_one_sentence(tmp_path: Path, change: dict[str, object]) -> None:
    source = as_coco(tmp_path)
    (tmp_path / "annotations" / "captions_train2017.json").write_text(json.dumps({**coco(), **change}))
    with pytest.raises(UserError, match="does not hold COCO's captions, which are lists called images and annotations"):
        read_captions(source)


@pytest.mark.parametrize("row", [5, [1], "text", None, {}, {"image": 5, "caption": "a"}, {"image": {"bytes": 5}}])
def test_a_row_of_a_stream_of_another_shape_is_a_bad_row(fake_hub, row: object) -> None:
    rows: list[object] = [hub_row(n) for n in range(30)]
    rows[9] = row
    fake_hub(rows)
    found = read_captions("hub:org/name", held_out=2)
    assert 9 not in numbers(found.draw(0, 20, 0))
    assert found.bad.count == 1
    assert found.bad.first[0].startswith("row 9 of org/name: ")


def test_a_stream_of_no_rows_at_all_is_one_sentence(fake_hub) -> None:
    for rows in ([[1, 2]] * 9, ["abc"] * 9, [None] * 9):
        fake_hub(list(rows))
        with pytest.raises(UserError, match="rows of hub:org/name cannot be used"):
            read_captions("hub:org/name")


# --- damage

DAMAGES = 500


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, cut, doubled, taken out, or a value put where another was."""
    place = int(rng.integers(len(content)))
    end = place + int(rng.integers(1, 40))
    words = [*b'"[]{},:;\n\r\0\t\xe9\xff', b"null", b"true", b"NaN", b"1e999", b"9" * 5000, b"[" * 5000, b"../" * 9]
    words = [bytes([word]) if isinstance(word, int) else word for word in words]
    made: list[Callable[[], bytes]] = [
        lambda: content[:place],
        lambda: content[:place] + content[end:],
        lambda: content[:end] + content[place:],
        lambda: content[:place] + rng.bytes(end - place) + content[end:],
        lambda: content[:place] + words[rng.integers(len(words))] + content[end:],
        lambda: content[:place] + words[rng.integers(len(words))] + content[place:],
        lambda: content.replace(b'"caption"', words[rng.integers(len(words))]),
        lambda: content.decode().encode(["utf-16", "utf-32", "utf-16-be"][rng.integers(3)])[: 2 * end],
        lambda: content[place:],
    ]
    return made[rng.integers(len(made))]()


def said_of(source: str) -> str:
    """The sentence that refuses a source; empty where it is read, and its record is strict JSON."""
    try:
        found = read_captions(source, held_out=2)
    except UserError as error:
        return str(error)
    json.dumps([found.describe(), found.notes], allow_nan=False)
    return ""


@pytest.mark.parametrize(
    ("write", "table"),
    [
        (as_jsonl, "train/metadata.jsonl"),
        (as_csv, "metadata.csv"),
        (as_coco, "annotations/captions_train2017.json"),
    ],
)
def test_a_damaged_table_is_read_or_one_sentence(tmp_path: Path, write: Callable[[Path], str], table: str) -> None:
    source, rng = write(tmp_path), np.random.default_rng(20)
    content, outcomes = (tmp_path / table).read_bytes(), {"read": 0, "refused": 0}
    for _ in range(DAMAGES):
        (tmp_path / table).write_bytes(damaged(content, rng))
        said = said_of(source)
        assert "\n" not in said
        assert str(tmp_path) not in said
        outcomes["refused" if said else "read"] += 1
    assert min(outcomes.values()) > DAMAGES / 20, outcomes


@pytest.mark.slow
def test_a_damaged_stream_is_read_or_one_sentence(fake_hub) -> None:
    rng = np.random.default_rng(21)
    odd: list[object] = [None, 5, float("nan"), "x", b"x", [], [None], [[]], {}, np.zeros(3), object(), 10**5000]
    odd += [{"bytes": None}, {"bytes": b"PNG"}, {"path": 5}, {"path": "nowhere.png"}, {"bytes": b"", "path": ""}]
    rows = [hub_row(n) for n in range(12)]
    for _ in range(DAMAGES):
        some: list[Any] = [dict(row) for row in rows]
        for _ in range(rng.integers(1, 3)):
            place = rng.integers(len(some))
            kind = rng.integers(3)
            if kind == 0:
                some[place] = odd[rng.integers(len(odd))]
            elif isinstance(some[place], dict):
                some[place][("image", "caption")[kind - 1]] = odd[rng.integers(len(odd))]
        fake_hub(some)
        with contextlib.suppress(UserError):
            found = read_captions("hub:org/name", held_out=1)
            found.draw(0, 4, 0)
            json.dumps([found.describe(), found.notes], allow_nan=False)
