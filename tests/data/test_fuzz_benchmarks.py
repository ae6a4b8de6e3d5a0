"""Damaged and reshaped benchmark files, 500 of each, seeded: read, or refused in a sentence, and nothing else."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from sdsdemo.data.benchmarks import notes_on, read_benchmark
from sdsdemo.data.files.picture_digest import content_of
from sdsdemo.data.readers.winoground import LABELS
from sdsdemo.errors import UserError
from tests import set_twins
from tests.set_twins import SETS, folder

TIMES = 500
ODD = (
    None, True, -1, 0, 1e308, 10**30, "", " ", "\0", "\ud800", "../x", "/", ".", "a" * 5000, "[", '["a"', [], {}, [[]],
    {"a": 1}, [None], ["x"] * 30, {"bytes": None, "path": None}, "c0i0", "\u2028", "id", 1.5, [1, 2, 3], "NaN",
)  # fmt: skip
BROKEN = (
    b"\0", b"\xff\xfe", b"\xff", b'"', b"[" * 50, b"{", b"\n", b",", b";", b"NaN", b"1" * 5000, b"1e999", b"\\ud800",
    b"[" * 3000,
)  # fmt: skip


def reshaped(content: Any, draw: random.Random) -> Any:
    """The same data with one part of it replaced, taken away, doubled, or wrapped."""
    if not isinstance(content, list | dict) or not content or draw.random() < 0.15:
        return draw.choice(ODD)
    places: list[Any] = list(content) if isinstance(content, dict) else list(range(len(content)))
    place = draw.choice(places)
    copy: Any = dict(content) if isinstance(content, dict) else list(content)
    what = draw.random()
    if what < 0.2:
        del copy[place]
    elif what < 0.3:
        copy[place] = [copy[place], copy[place]]
    elif what < 0.4 and isinstance(copy, dict):
        copy[str(draw.choice(ODD))] = copy.pop(place)
    else:
        copy[place] = reshaped(copy[place], draw)
    return copy


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The same bytes cut, changed, or with others in them."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        place = draw.randrange(len(changed) + 1)
        what = draw.random()
        if what < 0.2:
            changed = changed[:place]
        elif what < 0.5 and changed:
            changed[place % len(changed)] = draw.randrange(256)
        elif what < 0.8:
            changed[place:place] = draw.choice(BROKEN)
        else:
            del changed[place : place + draw.randrange(1, 40)]
    return bytes(changed)


def as_csv(home: Path) -> None:
    folder(home)
    (home / "examples.jsonl").unlink()
    lines = ["id;caption_0;caption_1;image_0;image_1;secondary_tag"]
    lines += [f'{n};"a cat; on {n}";"a ""dog"" {n}";{n}_0.png;{n}_1.png;["a", "b"]' for n in range(2)]
    (home / "examples.csv").write_text("\n".join(lines))


def as_parquet(home: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    folder(home)
    rows = [json.loads(line) for line in (home / "examples.jsonl").read_text().splitlines()]
    (home / "examples.jsonl").unlink()
    for row in rows:
        row |= {key: (home / "images" / row[key]).read_bytes() for key in ("image_0", "image_1")}
    parquet.write_table(pa.Table.from_pylist(rows), home / "x.parquet", row_group_size=1)


def as_zip(home: Path) -> None:
    folder(home)
    with ZipFile(home / "images.zip", "w", compression=8) as archive:
        for path in sorted((home / "images").iterdir()):
            archive.write(path, f"images/{path.name}")
            path.unlink()


def with_map(home: Path) -> None:
    folder(home)
    set_twins.write(home / "columns.json", {"caption_0": "caption_0", "tag": "tag"})


def with_labels(home: Path) -> None:
    folder(home)
    set_twins.write(home / LABELS, {"0": ["Unusual Text"], "1": []})


FILES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "csv": ("folder", as_csv, "examples.csv"),
    "parquet": ("folder", as_parquet, "x.parquet"),
    "zip": ("folder", as_zip, "images.zip"),
    "map of columns": ("folder", with_map, "columns.json"),
    "labels": ("winoground", with_labels, LABELS),
    "jsonl": ("folder", folder, "examples.jsonl"),
    "picture": ("folder", folder, "images/0_0.png"),
    "sugarcrepe": ("sugarcrepe", set_twins.sugarcrepe, "data/swap_obj.json"),
    "sugarcrepe++": ("sugarcrepe++", set_twins.sugarcrepe_pp, "data/swap_obj.json"),
    "aro": ("aro", set_twins.aro, "visual_genome_relation.json"),
    "aro attributes": ("aro", set_twins.aro, "visual_genome_attribution.json"),
    "mmvp": ("mmvp-vlm", set_twins.mmvp, "Questions.csv"),
    "whatsup": ("whatsup", set_twins.whatsup, "controlled_images_dataset.json"),
    "whatsup, coco": ("whatsup", set_twins.whatsup, "coco_qa_one_obj.json"),
    "naturalbench": ("naturalbench", set_twins.naturalbench, "NaturalBench-Retrieval/metadata.json"),
    "valse": ("valse", set_twins.valse, "data/existence.json"),
    "eqben": ("eqben", set_twins.eqben, "all_select.json"),
    "eqben, picture": ("eqben", set_twins.eqben, "images/eqbenyoucook2/0_0.npy"),
    "eqben, whole": ("eqben", set_twins.eqben_whole, "ann_json_finegrained_random.json"),
}
"""By format: the word before the colon, what writes a sound folder, and the file of it that is damaged."""


def refusal(benchmark: str) -> str:
    """Whatever a run does with a benchmark before it scores it: the sentence that refuses it, or nothing."""
    try:
        use(benchmark)
    except UserError as error:
        return str(error)
    return ""


def use(benchmark: str) -> None:
    examples = read_benchmark(benchmark)
    notes_on(benchmark, examples)
    for example in examples[:2]:
        for picture in example.images:
            content_of(picture)
            picture.open()


def versions(path: Path, draw: random.Random) -> bytes:
    data = path.read_bytes()
    if path.suffix not in (".json", ".jsonl") or draw.random() < 0.4:
        return damaged(data, draw)
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in data.decode().split("\n")]
        rows[0] = reshaped(rows[0], draw)
        return "\n".join(map(json.dumps, rows)).encode()
    return json.dumps(reshaped(json.loads(data), draw)).encode()


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_read_or_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    source, write, file = FILES[name]
    write(tmp_path)
    use(f"{source}:{tmp_path}")
    path, draw, refused = tmp_path / file, random.Random(name), 0
    sound = path.read_bytes()
    for _ in range(TIMES):
        path.write_bytes(sound)
        path.write_bytes(versions(path, draw))
        said = refusal(f"{source}:{tmp_path}")
        refused += bool(said)
        assert not said or said.endswith(".")
        assert str(tmp_path) not in said
        assert len(said) < 1_000
        assert said.isprintable()
    assert refused > TIMES / 10


@pytest.mark.parametrize("name", SETS)
def test_a_caption_with_nothing_to_read_is_refused_in_every_set(name: str, tmp_path: Path) -> None:
    source, write, _ = SETS[name]
    write(tmp_path)
    captions = {caption for example in read_benchmark(f"{source}:{tmp_path}") for caption in example.captions}
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".json", ".jsonl", ".csv")]
    for caption in (caption.removeprefix("a photo of ") for caption in sorted(captions)[:3]):
        before = {path: path.read_text() for path in files}
        for path, text in before.items():
            path.write_text(text.replace(caption, "\u200b\u2060"), encoding="utf-8")
        assert refusal(f"{source}:{tmp_path}"), caption
        for path, text in before.items():
            path.write_text(text)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:df01d1a2\nsize 26366460\n"


@pytest.mark.parametrize("name", [*FILES, *SETS])
def test_a_git_lfs_pointer_among_the_files_of_a_set_names_its_cure(name: str, tmp_path: Path) -> None:
    source, write = FILES[name][:2] if name in FILES else SETS[name][:2]
    write(tmp_path)
    told = 0
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        sound = path.read_bytes()
        path.write_bytes(POINTER)
        said = refusal(f"{source}:{tmp_path}")
        assert not said or "`git lfs pull`" in said, f"{path.name}: {said}"
        assert not said or path.name in said or path.stem in said, said
        told += bool(said)
        path.write_bytes(sound)
    assert told


@pytest.mark.parametrize("name", SETS)
def test_a_folder_of_another_set_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    """Every set under the name of every other: read as what it is, or told."""
    SETS[name][1](tmp_path)
    for other, _, _ in SETS.values():
        said = refusal(f"{other}:{tmp_path}")
        assert not said or said.endswith(".")
