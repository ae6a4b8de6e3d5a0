"""Tables as they are really saved: separators, encodings, lists, names of images. One meaning is read, others told."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from sdsdemo.data.benchmarks import notes_on, read_benchmark
from sdsdemo.errors import UserError

COLUMNS = ("id", "caption_0", "caption_1", "image_0", "image_1", "secondary_tag")
ROWS = [
    (1, "the dog’s café, a “red” one", "the café’s dog", "née 1.png", "b.png", "Series"),
    (2, "a cat on a mat", "a mat on a cat", "c.png", "d.png", ""),
]
IMAGES = tuple(name for row in ROWS for name in row[3:5])
COLOURS = dict(zip(IMAGES, ("red", "blue", "lime", "white"), strict=True))


def png(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (12, 8), colour).save(stream, "PNG")
    return stream.getvalue()


def put_images(folder: Path, rename: Callable[[str], str] = str) -> None:
    for name, colour in COLOURS.items():
        path = folder / rename(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(colour))


def as_cells(separator: str, header: tuple[str, ...] = COLUMNS) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator)
    writer.writerows([header, *ROWS])
    return stream.getvalue()


def objects() -> list[dict[str, object]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]


def assert_whole(benchmark: str) -> list[str]:
    """Both examples, their captions and the colours of their images; the notes on them."""
    examples = read_benchmark(benchmark)
    assert [(e.id, *e.captions) for e in examples] == [(str(row[0]), *row[1:3]) for row in ROWS]
    names = {(255, 0, 0): "red", (0, 0, 255): "blue", (0, 255, 0): "lime", (255, 255, 255): "white"}
    found = [names[p.open().getpixel((2, 2))] for e in examples for p in e.images]
    assert found == list(COLOURS.values())
    notes = notes_on(benchmark, examples)
    assert not any("missing" in note for note in notes)
    return notes


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "CSV"])
def test_any_separator_in_any_sure_encoding_is_read(tmp_path: Path, separator: str, encoding: str, suffix: str) -> None:
    put_images(tmp_path / "images")
    (tmp_path / f"examples.{suffix}").write_bytes(as_cells(separator).encode(encoding))
    notes = assert_whole(f"folder:{tmp_path}")
    assert any("Windows-1252" in note for note in notes) == (encoding == "cp1252")


@pytest.mark.parametrize("header", [tuple(name.upper() for name in COLUMNS), tuple(f" {name} " for name in COLUMNS)])
def test_a_column_is_known_in_capitals_and_between_spaces(tmp_path: Path, header: tuple[str, ...]) -> None:
    put_images(tmp_path / "images")
    (tmp_path / "examples.csv").write_text(as_cells(",", header), encoding="utf-8")
    assert_whole(f"folder:{tmp_path}")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "^"])
def test_a_header_that_lacks_a_column_is_told_what_it_has(tmp_path: Path, separator: str) -> None:
    text = as_cells(separator, ("id", "text_a", "text_b", "image_0", "image_1", "tag"))
    (tmp_path / "examples.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"no column .*caption_0.*; its header has .*text_a.*columns.json"):
        read_benchmark(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("examples.json", json.dumps(objects())),
        ("examples.json", json.dumps({str(row["id"]): row for row in objects()})),
        ("examples.json", "\n".join(json.dumps(row) for row in objects())),
        ("examples.jsonl", json.dumps(objects(), indent=1)),
        ("EXAMPLES.JSONL", "\r\n".join(json.dumps(row, ensure_ascii=False) for row in objects())),
        ("data/examples.jsonl", "\n\n".join(json.dumps(row) for row in objects())),
    ],
)
def test_json_is_read_as_a_list_an_object_or_line_by_line(tmp_path: Path, name: str, text: str) -> None:
    put_images(tmp_path / "images")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert_whole(f"folder:{tmp_path}")


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path, mark: str, suffix: str) -> None:
    row = objects()[1] | {"caption_0": f"a cat{mark}on a mat"}
    if suffix == "jsonl":
        text = json.dumps(row, ensure_ascii=False).replace(json.dumps(mark)[1:-1], mark if mark > "\x1f" else "\\u000b")
    else:
        text = f"{','.join(COLUMNS)}\n{','.join(map(str, row.values()))}\n"
    (tmp_path / f"examples.{suffix}").write_text(text, encoding="utf-8")
    (example,) = read_benchmark(f"folder:{tmp_path}")
    assert example.captions[0].startswith("a cat")
    assert example.captions[0].endswith("on a mat")


@pytest.mark.parametrize("kind", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_accents_are_one_name_in_one_or_two_characters(tmp_path: Path, kind: str, written: str) -> None:
    put_images(tmp_path / "images", lambda name: unicodedata.normalize(kind, name))
    text = unicodedata.normalize(written, "née 1.png")
    rows = [row | {"image_0": text} if row["id"] == 1 else row for row in objects()]
    (tmp_path / "examples.json").write_text(json.dumps(rows))
    assert_whole(f"folder:{tmp_path}")


NAMINGS = {
    "with a folder that is there": (lambda name: f"images/{name}", "images"),
    "with a folder that is not there": (lambda name: f"home/me/pictures/{name}", "images"),
    "without the folder that they lie in": (lambda name: name, "images/deep/er"),
    "beside the table": (lambda name: f"./{name}", "."),
    "as Windows writes them": (lambda name: f"images\\{name}", "images"),
    "without suffix": (lambda name: name.removesuffix(".png"), "images"),
    "with another case of the suffix": (lambda name: name.replace(".png", ".PNG"), "images"),
}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_a_name_leads_to_its_one_file(tmp_path: Path, naming: str, packed: bool) -> None:
    write, where = NAMINGS[naming]
    rows = [row | {key: write(str(row[key])) for key in ("image_0", "image_1")} for row in objects()]
    (tmp_path / "examples.json").write_text(json.dumps(rows))
    if packed:
        with ZipFile(tmp_path / "images.zip", "w") as archive:
            for name, colour in COLOURS.items():
                archive.writestr(str(Path(where) / name), png(colour))
                archive.writestr(f"__MACOSX/{where}/._{name}", b"not for others")
    else:
        put_images(tmp_path / where)
    assert_whole(f"folder:{tmp_path}")


def test_absolute_paths_inside_the_folder_are_read_and_others_not(tmp_path: Path) -> None:
    put_images(tmp_path / "set" / "images")
    rows = [
        row | {key: str(tmp_path / "set" / "images" / str(row[key])) for key in ("image_0", "image_1")}
        for row in objects()
    ]
    (tmp_path / "set" / "examples.json").write_text(json.dumps(rows))
    assert_whole(f"folder:{tmp_path / 'set'}")
    (tmp_path / "secret.png").write_bytes(png("red"))
    for name in (str(tmp_path / "secret.png"), "../secret.png", "images/../../secret.png"):
        (tmp_path / "set" / "examples.json").write_text(json.dumps([objects()[0] | {"image_0": name}]))
        with pytest.raises(UserError, match="is missing in the folder"):
            read_benchmark(f"folder:{tmp_path / 'set'}")[0].images[0].open()


@pytest.mark.parametrize("gone", ["a/1.png", "b/1.png"])
@pytest.mark.parametrize("empty", [False, True], ids=["with its folder", "without it"])
def test_a_missing_image_is_not_another_of_that_name(tmp_path: Path, gone: str, empty: bool) -> None:
    """a/1.png never stands in for b/1.png."""
    names = ("a/1.png", "b/1.png")
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(png("red"))
    (tmp_path / "images" / gone).unlink()
    if not empty:
        (tmp_path / "images" / gone).parent.rmdir()
    row = objects()[1] | {"image_0": names[0], "image_1": names[1]}
    (tmp_path / "examples.json").write_text(json.dumps([row]))
    (example,) = examples = read_benchmark(f"folder:{tmp_path}")
    assert f"1 of 2 images are missing in the folder images: {gone}." in notes_on("folder:x", examples)
    with pytest.raises(UserError, match="is missing"):
        example.images[names.index(gone)].open()


def test_an_image_beside_the_folder_that_is_named_is_not_meant(tmp_path: Path) -> None:
    """The folder a/ is there without 1.png: the 1.png beside it is another picture."""
    (tmp_path / "images" / "a").mkdir(parents=True)
    for name in ("1.png", "a/2.png"):
        (tmp_path / "images" / name).write_bytes(png("red"))
    row = objects()[1] | {"image_0": "a/1.png", "image_1": "a/2.png"}
    (tmp_path / "examples.json").write_text(json.dumps([row]))
    examples = read_benchmark(f"folder:{tmp_path}")
    assert "1 of 2 images are missing in the folder images: a/1.png." in notes_on("folder:x", examples)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_a_name_without_suffix_that_two_files_have_is_missing(tmp_path: Path, packed: bool) -> None:
    for name in ("1.png", "1.jpg", "2.png"):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(png("red"))
    if packed:
        with ZipFile(tmp_path / "images.zip", "w") as archive:
            for path in (tmp_path / "images").iterdir():
                archive.write(path, f"images/{path.name}")
                path.unlink()
    (tmp_path / "examples.json").write_text(json.dumps([objects()[1] | {"image_0": "1", "image_1": "2"}]))
    notes = notes_on("folder:x", read_benchmark(f"folder:{tmp_path}"))
    assert any(note.startswith("1 of 2 images are missing") and note.endswith(": 1.") for note in notes)
    (tmp_path / "examples.json").write_text(json.dumps([objects()[1] | {"image_0": "1.png", "image_1": "1.jpg"}]))
    assert not any("missing" in note for note in notes_on("folder:x", read_benchmark(f"folder:{tmp_path}")))


def test_an_image_may_be_named_by_a_number(tmp_path: Path) -> None:
    (tmp_path / "7.png").write_bytes(png("red"))
    (tmp_path / "examples.json").write_text(json.dumps([objects()[1] | {"image_0": 7, "image_1": "7"}]))
    assert len({p.open().tobytes() for p in read_benchmark(f"folder:{tmp_path}")[0].images}) == 1


def test_a_name_that_two_files_have_is_missing(tmp_path: Path) -> None:
    put_images(tmp_path / "images" / "one")
    put_images(tmp_path / "images" / "two")
    (tmp_path / "examples.json").write_text(json.dumps(objects()))
    examples = read_benchmark(f"folder:{tmp_path}")
    assert any("4 of 4 images are missing" in note for note in notes_on("folder:x", examples))


@pytest.mark.parametrize("form", ["bytes", "struct", "path", "name"])
def test_parquet_holds_images_in_every_form(tmp_path: Path, form: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    def cell(name: str) -> object:
        data = png(COLOURS[name])
        return {"bytes": data, "struct": {"bytes": data, "path": name}, "path": {"bytes": None, "path": name}}.get(
            form, name
        )

    rows = [row | {key: cell(str(row[key])) for key in ("image_0", "image_1")} for row in objects()]
    schema = {"path": pa.struct([("bytes", pa.binary()), ("path", pa.string())])}
    table = pa.Table.from_pylist(rows)
    if form == "path":
        fields = [pa.field(f.name, schema["path"] if f.name.startswith("image") else f.type) for f in table.schema]
        table = pa.Table.from_pylist(rows, schema=pa.schema(fields))
    put_images(tmp_path / "images")
    parquet.write_table(table, tmp_path / "test-00000-of-00001.parquet", row_group_size=1)
    parquet.write_table(table, tmp_path / "train-00000-of-00001.parquet")
    notes = assert_whole(f"folder:{tmp_path}")
    assert "Read test-00000-of-00001.parquet; ignored train-00000-of-00001.parquet beside it." in notes


@pytest.mark.parametrize("where", ["test/0000.parquet", "default/test/0000.parquet"])
def test_parquet_is_read_as_the_hub_converts_it(tmp_path: Path, where: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [
        row | {key: {"bytes": png(COLOURS[str(row[key])]), "path": None} for key in ("image_0", "image_1")}
        for row in objects()
    ]
    for path in (tmp_path / where, tmp_path / where.replace("test", "train")):
        path.parent.mkdir(parents=True)
        parquet.write_table(pa.Table.from_pylist(rows), path)
    assert_whole(f"folder:{tmp_path}")
    for path in tmp_path.rglob("*.parquet"):
        path.rename(path.with_suffix(".arrow"))
    with pytest.raises(UserError, match="save_to_disk: write it as Parquet"):
        read_benchmark(f"folder:{tmp_path}")


def tagged(folder: Path, value: object, suffix: str = "json") -> str:
    if suffix == "json":
        (folder / "examples.json").write_text(json.dumps([objects()[1] | {"secondary_tag": value}]))
    elif suffix == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        row = objects()[1] | {"secondary_tag": np.array(value) if isinstance(value, list) else value}
        parquet.write_table(pa.Table.from_pylist([row]), folder / "x.parquet")
    else:
        stream = io.StringIO()
        csv.writer(stream).writerows([COLUMNS, [*ROWS[1][:5], value]])
        (folder / "examples.csv").write_text(stream.getvalue())
    return read_benchmark(f"folder:{folder}")[0].tags.get("secondary_tag", "")


@pytest.mark.parametrize(
    ("value", "suffix"),
    [
        (["Symbolic", "Series"], "json"),
        (["Symbolic", "Series"], "parquet"),
        ('["Symbolic", "Series"]', "csv"),
        ("['Symbolic', 'Series']", "csv"),
        ("Symbolic, Series", "csv"),
        ("Symbolic,Series", "json"),
    ],
)
def test_a_list_of_tags_is_as_many_tags(tmp_path: Path, value: object, suffix: str) -> None:
    from sdsdemo.evaluation.summary import tags_of
    from sdsdemo.types import Example

    text = tagged(tmp_path, value, suffix)
    example = Example(id="1", images=(), captions=(), tags={"secondary_tag": text})
    assert tags_of(example, "secondary_tag") == ["Symbolic", "Series"]


@pytest.mark.parametrize(("value", "text"), [([], ""), (None, ""), (1.0, "1"), (2, "2"), (["one"], "one")])
def test_a_tag_of_another_kind_is_text(tmp_path: Path, value: object, text: str) -> None:
    assert tagged(tmp_path, value) == text


@pytest.mark.parametrize("caption", [["a cat", "a dog"], '["a cat", "a dog"]', "['a cat' 'a dog']", [], [["a cat"]]])
def test_a_list_of_captions_in_one_cell_is_a_bad_row_with_its_line(tmp_path: Path, caption: object) -> None:
    (tmp_path / "examples.jsonl").write_text("\n".join(json.dumps(r | {"caption_1": caption}) for r in objects()[1:]))
    with pytest.raises(UserError, match=r"Line 1 of examples\.jsonl has .*(caption|list)"):
        read_benchmark(f"folder:{tmp_path}")


def test_a_list_of_one_caption_is_that_caption(tmp_path: Path) -> None:
    (tmp_path / "examples.jsonl").write_text(json.dumps(objects()[1] | {"caption_0": ["a cat"], "caption_1": '["b"]'}))
    assert read_benchmark(f"folder:{tmp_path}")[0].captions == ("a cat", "b")


def test_which_of_two_tables_counts_is_said(tmp_path: Path) -> None:
    put_images(tmp_path / "images")
    (tmp_path / "examples.json").write_text(json.dumps(objects()))
    (tmp_path / "examples.csv").write_text(as_cells(","), encoding="utf-8")
    assert "Read examples.json; ignored examples.csv beside it." in assert_whole(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xd0\xba\xd0".decode("cp1251").encode("cp1251") * 9, "cannot be read as UTF-8"),
        (
            "".join(COLUMNS[0:1]).encode() + b",caption_0,caption_1,image_0,image_1\n1,\xea\xee\xf8\xea\xe0,b,c,d",
            "UTF-8",
        ),
        (b'id,caption_0,caption_1,image_0,image_1\n1,"a,b,c,d\n', "quotes do not close"),
        (
            b"id,caption_0,caption_1,image_0,image_1\n1,a cat, red,b,c,d\n",
            "Line 2 .* has 6 cells where the header has 5",
        ),
        (b"id,caption_0,caption_1,image_0,image_1\n1,a\n", "Line 2 of examples.csv has no caption_1"),
        (b"", "its table is empty"),
        (b"id,caption_0,caption_1,image_0,image_1,Caption_0\n1,a,b,c,d,e\n", "has the column caption_0 twice"),
    ],
)
def test_what_has_no_sure_meaning_is_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "examples.csv").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_benchmark(f"folder:{tmp_path}")


@pytest.mark.parametrize("layout", ["as it unpacks", "unpacked images", "Hub", "inside data"])
def test_colorswap_is_read_as_its_authors_publish_it(tmp_path: Path, layout: str) -> None:
    """github.com/Top34051/colorswap, README: data/{train, test}.json, data/images.zip, names "images/img_0_1.png"."""
    rows = [
        {"id": n, "caption_1": f"a red {n}", "caption_2": f"a blue {n}", "image_1": f"images/img_{n}_1.png",
         "image_2": f"images/img_{n}_2.png", "image_source": "midjourney", "caption_source": "human"}
        for n in range(3)
    ]  # fmt: skip
    data = tmp_path / "data"
    data.mkdir()
    if layout == "Hub":
        import pyarrow as pa
        from pyarrow import parquet

        packed = [row | {f"image_{k}": {"bytes": png("red"), "path": "x.png"} for k in (1, 2)} for row in rows]
        parquet.write_table(pa.Table.from_pylist(packed), data / "test-00000-of-00001-abc.parquet")
        parquet.write_table(pa.Table.from_pylist(packed[:1]), data / "train-00000-of-00001-abc.parquet")
    else:
        (data / "test.json").write_text(json.dumps(rows))
        (data / "train.json").write_text(json.dumps(rows[:1]))
        with ZipFile(data / "images.zip", "w") as archive:
            for row in rows:
                for k in (1, 2):
                    archive.writestr(str(row[f"image_{k}"]), png("red"))
        if layout == "unpacked images":
            ZipFile(data / "images.zip").extractall(data)
            os.unlink(data / "images.zip")
    where = data if layout == "inside data" else tmp_path
    examples = read_benchmark(f"colorswap:{where}")
    assert [e.captions for e in examples] == [(f"a red {n}", f"a blue {n}") for n in range(3)]
    assert {p.open().getpixel((1, 1)) for e in examples for p in e.images} == {(255, 0, 0)}
    notes = notes_on(f"colorswap:{where}", examples)
    assert any("train" in note and "ignored" in note for note in notes)
    assert "This copy has 3 examples; the published set has 300." in notes
