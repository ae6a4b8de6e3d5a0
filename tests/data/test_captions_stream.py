"""Captions of the Hub as a stream: in its own order, again and again, the same whichever steps came before."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest

from sdsdemo.data.captions import stream as stream_module
from sdsdemo.data.captions.sources import Captions, read_captions
from sdsdemo.data.files.bounded import at_most
from sdsdemo.errors import UserError
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.training_pairs import read_source
from sdsdemo.settings import LIMITS
from tests.data.test_captions import (
    add_images,
    assert_as_written,
    colour,
    good_rows,
    number,
    numbers,
    png,
    texts,
    write_lines,
)


class FakeStream:
    """Rows of a data set; counts how often it was begun and how many rows it gave."""

    features = None

    def __init__(self, rows: list[object]) -> None:
        self.rows = rows
        self.begun = self.given = 0
        self.column_names = list(rows[0]) if rows and isinstance(rows[0], dict) else None

    def select_columns(self, columns: list[str]) -> FakeStream:
        return self

    def __iter__(self) -> Iterator[object]:
        self.begun += 1
        for row in self.rows:
            if isinstance(row, Exception):
                raise row
            self.given += 1
            yield row


def hub_row(index: int, **change: object) -> dict[str, object]:
    return {"image": {"bytes": png(index), "path": f"{index}.png"}, "caption": texts(index), **change}


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[object]], FakeStream]:
    """Puts rows on a Hub that is none, as the split train of any data set."""

    def put(rows: list[object]) -> FakeStream:
        stream = FakeStream(rows)

        def load_dataset(name: str, streaming: bool) -> dict[str, FakeStream]:
            assert streaming
            if name == "org/closed":
                raise ConnectionError("https://example.org says no to /home/somebody")
            return {"train": stream, "val": stream}

        monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
        return stream

    return put


def test_a_stream_is_read_in_order_and_starts_over(fake_hub) -> None:
    stream = fake_hub([hub_row(n) for n in range(10)])
    found = read_captions("hub:org/name")
    assert [numbers(found.draw(step, 4, step)) for step in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    assert (stream.begun, stream.given) == (2, 12)
    for item in found.draw(3, 8, 0):
        assert_as_written(item)
    assert (found.name, found.bad.of, found.describe()["items"]) == ("hub:org/name", 10, 10)
    assert read_captions("hub:org/name@val").name == "hub:org/name@val"


def test_a_step_far_ahead_reads_a_stream_once(fake_hub) -> None:
    stream = fake_hub([hub_row(n) for n in range(10)])
    found = read_captions("hub:org/name", held_out=2)
    before = stream.given
    assert numbers(found.draw(500, 4, 0)) == [2, 3, 4, 5]  # 2,000 places on, 250 rounds of 8
    assert stream.given - before < 3 * 10


def test_a_stream_s_neighbour_is_the_row_before_in_every_round(fake_hub) -> None:
    rows: list[object] = [hub_row(n) for n in range(30)]
    rows[6] = hub_row(6, caption=None)
    fake_hub(rows)
    found = read_captions("hub:org/name", held_out=2)
    met = [item for step in (0, 1, 2, 0, 5, 3) for item in found.draw(step, 8, 0)]
    beside = {int(item.picture.name.removesuffix(".png")): item.beside for item in met}
    expected = {n: tuple(texts(n - 1)) if n not in (2, 7) else () for n in range(2, 30) if n != 6}
    assert beside == expected, "the first that is drawn, and the one after a row without a caption, stand beside none"
    assert len({(item.picture.name, item.beside) for item in met}) == len(expected)


def test_a_step_of_a_stream_does_not_depend_on_the_steps_before(fake_hub) -> None:
    rows: list[object] = [hub_row(n) for n in range(40)]
    rows[5] = hub_row(5, caption=None)
    rows[17] = hub_row(17, image={"bytes": png(17)[:40], "path": "17.png"})
    fake_hub(rows)
    expected = [numbers(read_captions("hub:org/name").draw(step, 6, 0)) for step in range(12)]
    assert expected[:3] == [[0, 1, 2, 3, 4, 6], [6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 18]]
    found = read_captions("hub:org/name")
    for step in (0, 1, 2, 3, 4, 5, 6, 3, 9, 10, 2, 11, 0, 0, 7, 8):
        assert numbers(found.draw(step, 6, 0)) == expected[step]
    assert found.bad.count == 2
    assert found.bad.first == (
        "row 5 of org/name: no caption",
        "row 17 of org/name: 17.png is not an image, or is damaged",
    )


@pytest.mark.parametrize("pool", [8, 40])
def test_a_run_that_goes_on_draws_what_it_would_have_drawn(fake_hub, pool: int) -> None:
    fake_hub([hub_row(n) for n in range(14)])
    recipe = Recipe(data="hub:org/name", held_out=2, pool=pool, batch=4)
    straight = read_source(recipe)
    for step in range(25):
        drawn, resumed = straight.draw(step, 4), read_source(recipe).draw(step, 4)
        assert [pair.picture.name for pair in drawn] == [pair.picture.name for pair in resumed]


def test_the_first_of_a_stream_are_held_out(fake_hub) -> None:
    rows: list[object] = [hub_row(n) for n in range(20)]
    rows[1] = hub_row(1, image=None)
    fake_hub(rows)
    found = read_captions("hub:org/name", held_out=3)
    assert numbers(found.held_out) == [0, 2, 3]
    assert [numbers(found.draw(step, 12, 0)) for step in (0, 1, 0)] == [
        [*range(4, 16)],
        [*range(16, 20), *range(4, 12)],
        [*range(4, 16)],
    ]
    assert json.dumps(found.describe())
    fake_hub(rows[2:8])
    with pytest.raises(UserError, match="has 6 rows, and 6 of them are held out: none is left"):
        read_captions("hub:org/name", held_out=6).draw(0, 1, 0)
    with pytest.raises(UserError, match="7 rows of hub:org/name are to be held out, but it has 6: add more"):
        read_captions("hub:org/name", held_out=7)


def test_many_bad_rows_of_a_stream_stop_it(fake_hub) -> None:
    fake_hub([hub_row(n % 40, caption="" if n in range(50, 56) else "x") for n in range(200)])
    found = read_captions("hub:org/name")
    assert len(found.draw(0, 50, 0)) == 50
    with pytest.raises(UserError, match="6 of 100 rows of hub:org/name cannot be used"):
        found.draw(1, 50, 0)
    fake_hub([hub_row(n, caption=7) for n in range(3)])
    with pytest.raises(UserError, match=r"3 of 3 rows .* row 0 of org/name: the caption is not text"):
        read_captions("hub:org/name")


def test_a_stream_that_breaks_off_says_so_and_can_be_drawn_from_again(fake_hub) -> None:
    stream = fake_hub([*[hub_row(n) for n in range(5)], ConnectionError("no route to /somewhere"), hub_row(6)])
    found = read_captions("hub:org/name")
    found.draw(0, 4, 0)
    with pytest.raises(UserError, match="hub:org/name broke off after 5 rows: check the network, then start again"):
        found.draw(1, 4, 0)
    stream.rows[5] = hub_row(5)
    assert numbers(found.draw(1, 2, 0)) == [2, 3]


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("hub:org/closed", {}, "The data set org/closed cannot be opened: check its name and the network"),
        ("hub:org/name@test", {}, "org/name has no split test: its splits are train, val"),
        ("hub:org/name", {"image_column": "img"}, "no column img for the images: its columns are image, caption"),
        ("hub:org/name", {"caption_column": "alt"}, "no column alt for the captions: its columns are image, caption"),
    ],
)
def test_a_bad_data_set_is_one_sentence(fake_hub, source: str, options: dict[str, str], words: str) -> None:
    fake_hub([hub_row(0)])
    with pytest.raises(UserError, match=words) as caught:
        read_captions(source, **options)
    assert "/home" not in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("https://example.org/a.jpg", "holds addresses of pictures: use a copy .* img2dataset"),
        ("a.jpg", "holds text: name the column of pictures with --image-column"),
        ([{"bytes": png(0), "path": None}], "holds lists of pictures: use a copy with one picture a row"),
    ],
)
def test_a_column_that_holds_no_pictures_is_called_what_it_is(fake_hub, cell: object, words: str) -> None:
    """Its rows are sound: to fix or remove them would help nobody."""
    fake_hub([hub_row(n, image=cell) for n in range(20)])
    with pytest.raises(UserError, match=f"The column image of hub:org/name {words}") as caught:
        read_captions("hub:org/name")
    assert "Fix or remove" not in str(caught.value)


def test_a_file_of_a_stream_is_read_up_to_the_limit(fake_hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large.png").write_bytes(png(0) + bytes(5000))
    asked: list[int] = []

    def counted(file: IO[bytes], most: int) -> bytes:
        asked.append(most)
        return at_most(file, most)

    monkeypatch.setattr(stream_module, "at_most", counted)
    fake_hub([hub_row(n, image={"bytes": None, "path": str(tmp_path / "large.png")}) for n in range(3)])
    assert len(read_captions("hub:org/name").draw(0, 3, 0)) == 3
    assert set(asked) == {LIMITS.image_bytes}


def test_a_stream_that_breaks_off_at_once_says_so(fake_hub) -> None:
    fake_hub([ConnectionError("no route to /somewhere")])
    with pytest.raises(UserError, match="hub:org/name broke off before its first row: check the network"):
        read_captions("hub:org/name")


def test_a_data_set_without_rows_says_so(fake_hub) -> None:
    fake_hub([])
    with pytest.raises(UserError, match="hub:org/name has 0 rows"):
        read_captions("hub:org/name")


def test_without_the_package_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError) as caught:
        read_captions("hub:org/name")
    assert str(caught.value) == "Reading a data set from the Hub needs the package datasets: pip install datasets."


def as_parquet(folder: Path, as_images: bool) -> None:
    """Two files, with the Hub's mark of a column of images or without."""
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir()
    text = {"dtype": "string", "_type": "Value"}
    features = {"image": {"_type": "Image"}, "caption": {"feature": text, "_type": "List"}}
    mark = {"huggingface": json.dumps({"info": {"features": features}})} if as_images else None
    for part in range(2):
        table = pa.Table.from_pylist([hub_row(n) for n in range(10 * part, 10 * part + 10)])
        parquet.write_table(table.replace_schema_metadata(mark), folder / f"train-0000{part}-of-00002.parquet")


@pytest.mark.parametrize("as_images", [True, False])
def test_a_folder_of_parquet_files_is_streamed_as_from_the_hub(tmp_path: Path, as_images: bool) -> None:
    pytest.importorskip("datasets")
    as_parquet(tmp_path / "pets", as_images)
    found: Captions = read_captions(f"hub:{tmp_path / 'pets'}", held_out=2)
    assert found.name == "hub:pets"
    assert numbers(found.held_out) == [0, 1]
    items = found.draw(0, 16, 0)
    assert numbers(items) == list(range(2, 18))
    assert numbers(found.draw(1, 16, 0)) == [18, 19, *range(2, 16)]
    for item in [*items, *found.held_out]:
        assert_as_written(item)
    with pytest.raises(UserError, match="pets has no split test: its splits are train") as caught:
        read_captions(f"hub:{tmp_path / 'pets'}@test")
    assert str(tmp_path) not in str(caught.value)


def test_a_folder_of_images_is_streamed_too(tmp_path: Path) -> None:
    """Its rows hold paths instead of bytes."""
    pytest.importorskip("datasets")
    add_images(tmp_path / "pets", 6)
    write_lines(tmp_path / "pets" / "metadata.jsonl", good_rows(6))
    items = read_captions(f"hub:{tmp_path / 'pets'}@train").draw(0, 6, 0)
    assert {number(item): item.captions for item in items} == {n: (f"row {n}",) for n in range(6)}
    assert all(item.picture.open().getpixel((5, 5)) == colour(number(item)) for item in items)


def test_the_tars_that_img2dataset_writes_are_read_beside_its_tables(tmp_path: Path) -> None:
    """`datasets` would read the tables, which hold addresses, as there are as many of them."""
    pytest.importorskip("datasets")
    from pyarrow import Table, parquet

    for shard in range(2):
        parquet.write_table(Table.from_pylist([{"url": "http://x", "caption": "c"}]), tmp_path / f"0000{shard}.parquet")
        (tmp_path / f"0000{shard}_stats.json").write_text('{"count": 6}')
        with tarfile.open(tmp_path / f"0000{shard}.tar", "w") as tar:
            for n in range(6 * shard, 6 * shard + 6):
                facts = json.dumps({"key": str(n), "error_message": None} | ({"width": 64} if shard else {}))
                for suffix, data in (("png", png(n)), ("txt", f"row {n}".encode()), ("json", facts.encode())):
                    member = tarfile.TarInfo(f"{n:09}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    found = read_captions(f"hub:{tmp_path}", image_column="png", caption_column="txt")
    items = found.draw(0, 12, 0)
    assert [item.captions for item in items] == [(f"row {n}",) for n in range(12)]
    assert [item.picture.open().getpixel((5, 5)) for item in items] == [colour(n) for n in range(12)]
    assert found.notes[1].endswith(", 00000.tar, 00001.tar are read, not the tables beside them.")
    with pytest.raises(UserError, match="has no split test: its splits are train"):
        read_captions(f"hub:{tmp_path}@test", image_column="png", caption_column="txt")
