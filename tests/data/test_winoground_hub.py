"""Winoground as the Hub has it, packed or as Parquet: one form is fetched, of one commit, and read from the cache."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.readers import winoground
from sdsdemo.errors import UserError
from tests.data.test_pairs import ROWS, add_images, as_jsonl, picture

PACKED = ["README.md", *winoground.FILES, "statistics/model_scores/clip.jsonl"]
CONVERTED = ["README.md", "data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"]


def as_parquet(folder: Path) -> None:
    from pyarrow import Table, parquet

    folder.mkdir(parents=True)
    content = [io.BytesIO(), io.BytesIO()]
    for k in (0, 1):
        picture(k).save(content[k], "PNG")
    cells = {f"image_{k}": {"bytes": content[k].getvalue(), "path": f"{k}.png"} for k in (0, 1)}
    parquet.write_table(Table.from_pylist([row | cells for row in ROWS]), folder / "test-00000-of-00001.parquet")


def packed(folder: Path) -> None:
    add_images(folder)
    as_jsonl(folder)
    (folder / "images.zip").write_bytes(b"PK\5\6" + bytes(18))


@pytest.mark.parametrize("write", [packed, as_parquet])
def test_what_was_fetched_is_read_from_the_cache(
    write: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "datasets--facebook--winoground"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc")
    (home / "snapshots" / "abc").mkdir(parents=True)
    with pytest.raises(UserError, match="fetch winoground"):
        read_benchmark("winoground")
    write(home / "snapshots" / "abc" / "data")
    examples = read_benchmark("winoground")
    assert [example.captions for example in examples] == [(row["caption_0"], row["caption_1"]) for row in ROWS]
    assert all(example.images[0].open().getpixel((0, 0)) == (255, 0, 0) for example in examples)


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (PACKED, list(winoground.FILES)),
        ([*PACKED, *CONVERTED], list(winoground.FILES)),
        (CONVERTED, CONVERTED[1:]),
        (["README.md", "data/examples.jsonl"], None),
    ],
)
def test_one_form_is_fetched_of_one_commit(
    there: list[str], wanted: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[list[str]] = []
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda repo, repo_type: there)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda repo, repo_type, allow_patterns: asked.append(allow_patterns)
    )
    if wanted is None:
        with pytest.raises(UserError, match="name your copy, as in winoground:PATH"):
            winoground.fetch(lambda line: None)
    else:
        winoground.fetch(lambda line: None)
    assert asked == ([] if wanted is None else [wanted])
