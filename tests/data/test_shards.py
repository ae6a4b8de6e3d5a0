"""Parquet files of a set: all of one split of one set are read, and nothing else is taken for them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.errors import UserError


def put(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"id": number, "caption": "a b", "caption_1": "b a", "image_0": f"{number}a.png", "image_1": f"{number}b.png"}
    parquet.write_table(pa.Table.from_pylist([row]), path)
    (path.parent / "columns.json").write_text('{"caption_0": "caption"}')


def ids(folder: Path) -> list[str]:
    return [example.id for example in read_benchmark(f"folder:{folder}")]


def test_all_files_of_a_split_are_read(tmp_path: Path) -> None:
    for number in range(2):
        put(tmp_path / f"data/test-0000{number}-of-00002-1a2b.parquet", number)
    put(tmp_path / "data/train-00000-of-00009.parquet", 7)
    assert ids(tmp_path) == ["0", "1"]


@pytest.mark.parametrize("name", ["test-00000-of-00002.parquet", "train-00000-of-00002-1a2b.parquet"])
def test_a_missing_file_of_a_split_is_named(tmp_path: Path, name: str) -> None:
    put(tmp_path / "data" / name, 0)
    missing = f"{name.partition('-')[0]}-00001-of-00002.parquet"
    with pytest.raises(UserError, match=rf"{missing} is missing beside {name}: finish the download\."):
        ids(tmp_path)


@pytest.mark.parametrize("layout", ["{}/test/0000.parquet", "{}/0000.parquet", "{}/test-00000-of-00001.parquet"])
def test_two_sets_are_not_read_as_one(tmp_path: Path, layout: str) -> None:
    for number, name in enumerate(("easy", "hard")):
        put(tmp_path / layout.format(name), number)
    with pytest.raises(UserError, match=r"several sets, in the folders easy, hard: name one of these\."):
        ids(tmp_path)
    assert ids(tmp_path / "hard") == ["1"]


def test_two_sets_of_one_folder_are_not_read_as_one(tmp_path: Path) -> None:
    for number, name in enumerate(("color", "count")):
        put(tmp_path / f"data/{name}-00000-of-00001.parquet", number)
    with pytest.raises(UserError, match=r"several sets, color, count: leave those of one in the folder\."):
        ids(tmp_path)


@pytest.mark.parametrize("table", ["data/test-00000-of-00001.parquet", "default/test/0000.parquet"])
@pytest.mark.parametrize("home", [".", "above", "beside"])
def test_a_map_of_columns_is_read_from_any_folder_above(tmp_path: Path, table: str, home: str) -> None:
    """Beside the table or above it, up to the benchmark's folder; the nearest counts, none outside does."""
    put(tmp_path / "set" / table, 0)
    beside = (tmp_path / "set" / table).parent
    (beside / "columns.json").rename(tmp_path / "columns.json")
    with pytest.raises(UserError, match=r"no caption_0.*map them in columns\.json"):
        ids(tmp_path / "set")
    place = {".": tmp_path / "set", "above": beside.parent, "beside": beside}[home]
    (tmp_path / "set" / "columns.json").write_text(json.dumps({"caption_0": "other"}))
    (tmp_path / "columns.json").rename(place / "columns.json")
    assert ids(tmp_path / "set") == ["0"]
