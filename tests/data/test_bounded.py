"""A file that claims to be huge takes no memory: it is read up to a size, and refused in a sentence."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest

from sdsdemo.data.captions import tables as caption_tables
from sdsdemo.data.captions.folders import _file_bytes
from sdsdemo.data.files import bounded, image_place, tables
from sdsdemo.data.files.image_files import ImageFiles
from sdsdemo.data.files.json_cases import json_of
from sdsdemo.data.files.parquet import parquet_rows
from sdsdemo.errors import UserError
from sdsdemo.settings import LIMITS

BOMB = 200_000_000


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that a refusal took."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_picture_in_a_zip_is_unpacked_no_further_than_a_picture_may_be(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "images.zip", "w", ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(BOMB))
    picture = ImageFiles([tmp_path], [tmp_path / "images.zip"]).picture("bomb.png")
    with pytest.raises(UserError, match=r"bomb\.png in images\.zip.*larger than 8 MB"):
        picture.open()
    assert peak_of(picture.open) < 4 * LIMITS.image_bytes


def test_a_picture_file_is_read_no_further_than_a_picture_may_be(tmp_path: Path) -> None:
    with (tmp_path / "long.png").open("wb") as file:
        file.truncate(BOMB)
    picture = ImageFiles([tmp_path]).picture("long.png")
    assert peak_of(picture.open) < 4 * LIMITS.image_bytes
    assert len(_file_bytes(tmp_path, "long.png")) == LIMITS.image_bytes + 1


def test_a_stored_array_may_hold_all_pixels_of_a_picture_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    np.save(file, np.zeros((100, 100, 3), np.uint8))
    (tmp_path / "picture.npy").write_bytes(file.getvalue())
    picture = ImageFiles([tmp_path]).picture("picture.npy")
    assert picture.open().size == (100, 100)
    monkeypatch.setattr(image_place, "ARRAY_BYTES", 20_000)
    with pytest.raises(UserError, match=r"picture\.npy .*shrink the picture first"):
        picture.open()


def test_tables_and_json_have_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "TABLE_BYTES", 1_000)
    path = tmp_path / "captions.json"
    for text, size in (("[" + " " * 900 + "]", 902), ("[" + " " * 1_000 + "]", 1_002)):
        path.write_text(text)
        if size <= 1_000:
            assert json_of(path, "a list") == []
            assert tables.read_text(path, path.name).text == text
            continue
        for read in (lambda: json_of(path, "a list"), lambda: tables.read_text(path, path.name)):
            with pytest.raises(UserError, match=r"captions\.json has more than .* MB: split it"):
                read()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2017").mkdir()
    path.rename(tmp_path / "annotations" / "captions_train2017.json")
    with pytest.raises(UserError, match="split it"):
        caption_tables.coco_found(tmp_path)


def test_a_row_group_has_a_size_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"caption": ["a" * 5_000] * 10}), tmp_path / "rows.parquet")
    assert len(list(parquet_rows([tmp_path / "rows.parquet"]))) == 10
    monkeypatch.setattr(bounded, "GROUP_BYTES", 1_000)
    with pytest.raises(UserError, match=r"rows\.parquet holds .* in one row group.*smaller row groups"):
        list(parquet_rows([tmp_path / "rows.parquet"]))
