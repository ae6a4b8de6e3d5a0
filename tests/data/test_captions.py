"""Captions in every format: read back alike, drawn alike, held out, and every fault counted or one sentence."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sdsdemo.data.captions import folders as module
from sdsdemo.data.captions.sources import Captioned, read_captions
from sdsdemo.errors import UserError

COUNT = 40
SIZE = (12, 8)


def colour(index: int) -> tuple[int, int, int]:
    return (5 * index, 200 - 5 * index, 7)


def png(index: int) -> bytes:
    """Every fourth is RGBA, every fourth has a palette, every fourth lies on its side and says so in EXIF."""
    image, stream = Image.new("RGB", SIZE, colour(index)), io.BytesIO()
    exif = Image.Exif()
    if index % 4 == 1:
        image = image.convert("RGBA")
        image.putpixel((0, 0), (0, 0, 0, 0))
    elif index % 4 == 2:
        image = image.quantize(4)
    elif index % 4 == 3:
        image = image.rotate(90, expand=True)
        exif[0x0112] = 6
    image.save(stream, "PNG", exif=exif)
    return stream.getvalue()


def texts(index: int) -> list[str]:
    return [f"thing {index}", f"a thing, number {index}"][: 1 + index % 2]


def add_images(folder: Path, count: int = COUNT) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        (folder / f"{index}.png").write_bytes(png(index))


def write_lines(path: Path, rows: list[object]) -> None:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))


def as_jsonl(root: Path) -> str:
    add_images(root / "train" / "images")
    rows: list[object] = [{"file_name": f"images/{n}.png", "text": texts(n)} for n in range(COUNT)]
    write_lines(root / "train" / "metadata.jsonl", rows)
    return f"folder:{root}"


def as_csv(root: Path) -> str:
    """One line a caption, as spreadsheets save it."""
    add_images(root / "images")
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["file_name", "caption"])
    writer.writerows([f"images/{n}.png", f" {text} "] for n in range(COUNT) for text in texts(n))
    (root / "metadata.csv").write_text("\ufeff" + stream.getvalue(), encoding="utf-8")
    Image.new("RGB", SIZE).save(root / "nobody names me.png")
    return f"folder:{root}"


def coco(count: int = COUNT) -> dict[str, list[dict[str, object]]]:
    pairs = [(n, text) for n in range(count) for text in texts(n)]
    return {
        "images": [{"id": 100 + n, "file_name": f"{n}.png"} for n in range(count)],
        "annotations": [{"id": k, "image_id": 100 + n, "caption": text} for k, (n, text) in enumerate(pairs)],
    }


def as_coco(root: Path) -> str:
    add_images(root / "train2017")
    (root / "annotations").mkdir()
    (root / "annotations" / "captions_train2017.json").write_text(json.dumps(coco()))
    (root / "annotations" / "captions_val2017.json").write_text("{}")
    return f"coco:{root}"


WRITERS = [as_jsonl, as_csv, as_coco]


def number(item: Captioned) -> int:
    return int(Path(item.picture.name).stem)


def numbers(items: list[Captioned]) -> list[int]:
    return [number(item) for item in items]


def assert_as_written(item: Captioned) -> None:
    index, image = number(item), item.picture.open()
    assert item.captions == tuple(texts(index))
    assert (image.mode, image.size) == ("RGB", SIZE)
    assert image.getpixel((5, 5)) == colour(index)
    assert image.getpixel((0, 0)) == ((255, 255, 255) if index % 4 == 1 else colour(index))


@pytest.mark.parametrize("write", WRITERS)
def test_each_format_is_read_back_exactly(tmp_path: Path, write: Callable[[Path], str]) -> None:
    found = read_captions(write(tmp_path / "pets"))
    items = found.draw(0, COUNT, 0)
    assert sorted(numbers(items)) == list(range(COUNT))
    assert len({item.picture.key for item in items}) == COUNT
    for item in items:
        assert_as_written(item)
    assert found.name == ("coco:pets" if write is as_coco else "folder:pets")
    assert found.bad.count == 0
    assert found.bad.of == (COUNT if write is as_jsonl else COUNT * 3 // 2)


@pytest.mark.parametrize("write", WRITERS)
def test_draws_are_deterministic_and_cover_an_epoch_once(tmp_path: Path, write: Callable[[Path], str]) -> None:
    source = write(tmp_path)
    found, again = read_captions(source), read_captions(source)
    steps = [numbers(found.draw(step, 16, 3)) for step in range(5)]
    assert steps[::-1] == [numbers(again.draw(step, 16, 3)) for step in range(4, -1, -1)]
    line = [index for step in steps for index in step]
    assert sorted(line[:COUNT]) == sorted(line[COUNT:]) == list(range(COUNT))
    assert line[:COUNT] != line[COUNT:]
    assert numbers(found.draw(0, 16, 4)) != steps[0]
    assert len(found.draw(0, 100, 3)) == 100
    assert found.describe() == again.describe()


@pytest.mark.parametrize("write", WRITERS)
def test_what_is_held_out_is_never_drawn_and_always_the_same(tmp_path: Path, write: Callable[[Path], str]) -> None:
    source = write(tmp_path)
    found = read_captions(source, held_out=7)
    held = numbers(found.held_out)
    assert len(held) == 7
    assert set(numbers(found.draw(0, COUNT - 7, 0))) == set(range(COUNT)) - set(held)
    assert set(held) > set(numbers(read_captions(source, held_out=5).held_out))
    for item in found.held_out:
        assert_as_written(item)
    with pytest.raises(UserError, match=f"{COUNT} images are to be held out"):
        read_captions(source, held_out=COUNT)


def test_a_run_can_record_what_it_was_trained_on(tmp_path: Path) -> None:
    source = as_jsonl(tmp_path / "pets")
    before = json.loads(json.dumps(read_captions(source, held_out=2).describe()))
    assert before["name"] == "folder:pets"
    assert (before["kind"], before["items"], before["held_out"]) == ("folder", COUNT, 2)
    assert before["bad_rows"] == {"count": 0, "of": COUNT, "first": []}
    path = tmp_path / "pets" / "train" / "metadata.jsonl"
    path.write_text(path.read_text().replace("thing 3", "thong 3"))
    assert read_captions(source).describe()["sha256"] != before["sha256"]


def test_a_large_image_is_reopened_at_full_size(tmp_path: Path, monkeypatch) -> None:
    Image.new("RGB", (3000, 1000), "red").save(tmp_path / "0.jpg")
    write_lines(tmp_path / "metadata.jsonl", [{"file_name": "0.jpg", "caption": "red"}])
    found = read_captions(f"folder:{tmp_path}")
    assert found.draw(0, 1, 0)[0].picture.open().size == (3000, 1000)
    monkeypatch.setattr(module, "HELD_BYTES", 0)
    (item,) = found.draw(0, 1, 0)
    (tmp_path / "0.jpg").unlink()
    with pytest.raises(UserError, match=r"0\.jpg cannot be read"):
        item.picture.open()


def good_rows(count: int) -> list[object]:
    return [{"file_name": f"{n % COUNT}.png", "caption": f"row {n}"} for n in range(count)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"file_name": "0.png"}, "no caption"),
        ({"file_name": "0.png", "caption": " "}, "no caption"),
        ({"file_name": "0.png", "caption": []}, "no caption"),
        ({"file_name": "0.png", "caption": "\u200b"}, "no caption"),
        ({"file_name": "0.png", "caption": ["\ufeff", "&#8203;\u2800"]}, "no caption"),
        ({"file_name": "0.png", "caption": 5}, "the caption is not text"),
        ({"file_name": "0.png", "caption": ["a", 5]}, "the caption is not text"),
        ({"caption": "a dog"}, "no file_name"),
        ({"file_name": "gone.png", "caption": "a dog"}, "gone.png is missing"),
        ({"file_name": "a\0b.png", "caption": "a dog"}, "a\0b.png is missing"),
        ({"file_name": "empty.png", "caption": "a dog"}, "empty.png is empty"),
        ({"file_name": "../secret.png", "caption": "a dog"}, "the image is outside the folder"),
        ({"file_name": "/etc/secret.png", "caption": "a dog"}, "the image is outside the folder"),
        ('{"file_name": "0.png",', "not a JSON object"),
        ("[1]", "not a JSON object"),
    ],
)
def test_a_bad_row_is_named_and_skipped(tmp_path: Path, row: object, words: str) -> None:
    add_images(tmp_path / "set")
    (tmp_path / "set" / "empty.png").touch()
    (tmp_path / "secret.png").write_bytes(png(0))
    write_lines(tmp_path / "set" / "metadata.jsonl", [*good_rows(COUNT), row])
    found = read_captions(f"folder:{tmp_path / 'set'}")
    assert found.bad.first == (f"line {COUNT + 1} of metadata.jsonl: {words}",)
    assert (found.bad.count, found.bad.of) == (1, COUNT + 1)
    assert sorted(numbers(found.draw(0, COUNT, 0))) == list(range(COUNT))


def test_bad_annotations_of_coco_are_named_too(tmp_path: Path) -> None:
    source, content = as_coco(tmp_path), coco()
    content["images"].append({"id": 7, "file_name": "gone.png"})
    for image, caption in ((7, "a dog"), (8, "a dog"), (100, None)):
        content["annotations"].append({"id": 900 + image, "image_id": image, "caption": caption})
    (tmp_path / "annotations" / "captions_train2017.json").write_text(json.dumps(content))
    assert read_captions(source).bad.first == (
        "annotation 907 of captions_train2017.json: train2017/gone.png is missing",
        "annotation 908 of captions_train2017.json: its image is not in the list of images",
        "annotation 1000 of captions_train2017.json: no caption",
    )


def test_more_than_one_bad_row_in_twenty_stops(tmp_path: Path) -> None:
    add_images(tmp_path / "pets")
    table = tmp_path / "pets" / "metadata.jsonl"
    write_lines(table, [*good_rows(38), "{", "{"])
    assert read_captions(f"folder:{tmp_path / 'pets'}").bad.count == 2
    write_lines(table, [*good_rows(37), "{", "{", "{"])
    with pytest.raises(UserError) as caught:
        read_captions(f"folder:{tmp_path / 'pets'}")
    assert str(caught.value) == (
        "3 of 40 rows of folder:pets cannot be used, 7.5 %; the limit is 5 %: line 38 of metadata.jsonl: not a JSON "
        "object; line 39 of metadata.jsonl: not a JSON object; line 40 of metadata.jsonl: not a JSON object. "
        "Fix or remove these rows, then start again."
    )


def break_image(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def test_a_broken_image_gives_its_place_to_the_next_and_is_counted_once(tmp_path: Path) -> None:
    source = as_jsonl(tmp_path)
    whole = numbers(read_captions(source).draw(0, COUNT, 0))
    break_image(tmp_path / "train" / "images" / f"{whole[3]}.png")
    found = read_captions(source)
    for _ in range(2):
        assert numbers(found.draw(0, 8, 0)) == [*whole[:3], *whole[4:9]]
    assert numbers(read_captions(source).draw(1, 8, 0)) == numbers(found.draw(1, 8, 0)) == whole[8:16]
    line = f"line {whole[3] + 1} of train/metadata.jsonl: train/images/{whole[3]}.png is not an image, or is damaged"
    assert (found.bad.count, found.bad.first) == (1, (line,))
    assert len(found.draw(0, 200, 0)) == 200


def test_more_than_one_broken_image_in_twenty_stops(tmp_path: Path) -> None:
    source = as_csv(tmp_path)
    for index in (0, 2, 4, 6):  # one caption each
        break_image(tmp_path / "images" / f"{index}.png")
    found = read_captions(source)
    with pytest.raises(UserError, match="4 of 60 rows of folder"):
        found.draw(0, COUNT, 0)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("kind", ["tables", "images"])
def test_git_lfs_pointers_among_captions_name_their_cure(
    write: Callable[[Path], str], kind: str, tmp_path: Path
) -> None:
    source = write(tmp_path)
    for path in tmp_path.rglob("*.*"):
        if (path.suffix == ".png") == (kind == "images"):
            path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:df01d1a2\nsize 26366460\n")
    with pytest.raises(UserError, match="`git lfs pull`"):
        read_captions(source).draw(0, COUNT, 0)


def test_broken_images_are_not_held_out_and_a_folder_of_nothing_else_ends(tmp_path: Path) -> None:
    source = as_jsonl(tmp_path)
    held = numbers(read_captions(source, held_out=COUNT - 1).held_out)
    (left,) = set(range(COUNT)) - set(held)
    break_image(tmp_path / "train" / "images" / f"{left}.png")
    with pytest.raises(UserError, match=r"No image of .* can be opened except those held out"):
        read_captions(source, held_out=COUNT - 1).draw(0, 4, 0)
    break_image(tmp_path / "train" / "images" / f"{held[0]}.png")
    found = read_captions(source, held_out=COUNT - 1)
    assert numbers(found.held_out) == held[1:]
    assert found.bad.count == 1


def no_images(root: Path) -> str:
    (root / "metadata.csv").write_text("file_name,caption\n")
    return f"folder:{root}"


def no_metadata(root: Path) -> str:
    add_images(root / "a" / "b", 1)
    return f"folder:{root}"


def with_table(name: str, text: str, kind: str = "folder") -> Callable[[Path], str]:
    def write(root: Path) -> str:
        add_images(root / "train2017", 2)
        (root / name).write_bytes(text.encode("latin-1"))
        return f"{kind}:{root}"

    return write


def no_coco_images(root: Path) -> str:
    (root / "captions_val2017.json").write_text(json.dumps(coco()))
    return f"coco:{root}"


COCO = "captions_train2017.json"
BAD_INPUTS: list[tuple[Callable[[Path], str], str]] = [
    (lambda root: f"folder:{root}/nowhere", "There is no folder 'nowhere': check the path"),
    (lambda root: f"zip:{root}", "Name the captions as folder:PATH, coco:PATH or hub:"),
    (lambda root: "folder:", "Name the captions as folder:PATH"),
    (lambda root: "hub:org/name@", "Write the name of a split after @, such as @train"),
    (no_images, "There is no image in 'secretly' or below it"),
    (no_metadata, r"There is no metadata\.csv or metadata\.jsonl in 'secretly'"),
    (with_table("metadata.csv", ""), "its table is empty"),
    (with_table("metadata.csv", "file_name,caption\n"), "its table is empty"),
    (with_table("metadata.csv", "name,caption\n0.png,a\n"), "no column file_name .* its columns are name, caption"),
    (
        with_table("metadata.csv", "file_name,words\ntrain2017/0.png,a\n"),
        "no column caption or text or captions for the captions: its columns are file_name, words",
    ),
    (with_table("metadata.jsonl", '{"file_name": "a.png", "x": 1}'), r"metadata\.jsonl has no column caption"),
    (with_table("metadata.csv", "file_name,caption\ntrain2017/0.png,k\xe8\xe8\n"), "cannot be read as UTF-8 text"),
    (lambda root: f"coco:{root}", r"There is no captions_train2017\.json in 'secretly' or its folder annotations"),
    (with_table(COCO, '{"images": [', "coco"), r"captions_train2017\.json cannot be read: copy it again"),
    (with_table(COCO, '{"images": [], "annotations": [3]}', "coco"), r"does not hold COCO's captions.*annotations\.0"),
    (with_table(COCO, "[]", "coco"), r"captions_train2017\.json does not hold COCO's captions"),
    (with_table(COCO, '{"images": [{"id": 1e999}]}', "coco"), r"captions_train2017\.json cannot be read"),
    (no_coco_images, r"The images of captions_val2017\.json are missing: put them in a folder val2017 in 'secretly'"),
]


@pytest.mark.parametrize(("write", "words"), BAD_INPUTS)
def test_a_bad_input_is_one_sentence_without_a_path(tmp_path: Path, write: Callable[[Path], str], words: str) -> None:
    root = tmp_path / "secretly"
    root.mkdir()
    with pytest.raises(UserError, match=words) as caught:
        read_captions(write(root))
    assert str(tmp_path) not in str(caught.value)


def test_the_column_of_captions_may_be_named(tmp_path: Path) -> None:
    add_images(tmp_path, 1)
    (tmp_path / "metadata.csv").write_text("file_name,caption,alt\n0.png,a,b\n")
    assert read_captions(f"folder:{tmp_path}", caption_column="alt").draw(0, 1, 0)[0].captions == ("b",)
    with pytest.raises(UserError, match="no column words for the captions: its columns are file_name, caption, alt"):
        read_captions(f"folder:{tmp_path}", caption_column="words")
