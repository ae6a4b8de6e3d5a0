"""Tables of pairs of pairs in every format: read back alike, and every fault one sentence with file and line."""

from __future__ import annotations

import csv
import io
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from sdsdemo.cli.main import main
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.files.picture_digest import content_of
from sdsdemo.data.published.sets import differences
from sdsdemo.data.readers import winoground
from sdsdemo.data.readers.pairs import read_pairs
from sdsdemo.errors import UserError
from sdsdemo.models import sources

ROWS = [
    {"id": n, "caption_0": f"dog {n} on a couch", "caption_1": f"couch on a dog {n}", "image_0": f"ex_{n}_img_0",
     "image_1": f"ex_{n}_img_1", "tag": "Noun", "secondary_tag": "Series, Symbolic", "collapsed_tag": "Object"}
    for n in range(3)
]  # fmt: skip
COLOURS = ("red", "blue")


def picture(index: int) -> Image.Image:
    return Image.new("RGB", (20, 10), COLOURS[index])


def add_images(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    for row in ROWS:
        for k in (0, 1):
            picture(k).save(folder / "images" / f"{row[f'image_{k}']}.png")


def as_jsonl(folder: Path) -> None:
    (folder / "examples.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n")


def as_json(folder: Path) -> None:
    (folder / "examples.json").write_text(json.dumps(ROWS))


def as_csv(folder: Path) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(ROWS[0]))
    writer.writeheader()
    writer.writerows(ROWS)
    (folder / "examples.csv").write_text("\ufeff" + stream.getvalue())  # as spreadsheets save it


def as_parquet(folder: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    def packed(k: int) -> dict:
        stream = io.BytesIO()
        picture(k).save(stream, "PNG")
        return {"bytes": stream.getvalue(), "path": "x.png"}

    rows = [{**row, "image_0": packed(0), "image_1": packed(1)} for row in ROWS]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "test-00000.parquet", row_group_size=2)


@pytest.mark.parametrize("write", [as_jsonl, as_json, as_csv, as_parquet])
def test_every_format_gives_the_same_examples(tmp_path: Path, write: Callable[[Path], None]) -> None:
    add_images(tmp_path)
    write(tmp_path)
    examples = read_benchmark(f"folder:{tmp_path}")
    assert [e.id for e in examples] == ["0", "1", "2"]
    assert examples[2].captions == ("dog 2 on a couch", "couch on a dog 2")
    assert examples[1].tags == {"tag": "Noun", "secondary_tag": "Series, Symbolic", "collapsed_tag": "Object"}
    for e in examples:
        assert [p.open().getpixel((5, 5)) for p in e.images] == [(255, 0, 0), (0, 0, 255)]
    assert len({p.key for e in examples for p in e.images}) == 6


@pytest.mark.parametrize("write", [as_jsonl, as_csv, as_parquet])
def test_rows_without_a_column_of_ids_are_numbered(
    tmp_path: Path, write: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in BiVLC on the Hub."""
    monkeypatch.setitem(globals(), "ROWS", [{key: row[key] for key in row if key != "id"} for row in ROWS])
    add_images(tmp_path)
    write(tmp_path)
    notes: list[str] = []
    examples = read_pairs(tmp_path, notes.append)
    assert [(e.id, e.captions[0]) for e in examples] == [(str(n), f"dog {n} on a couch") for n in range(3)]
    assert f"'{tmp_path.name}' has no column id: its examples are numbered from 0." in notes


@pytest.mark.parametrize("names", [("a/1.png", "b/1.png"), ("a/1.png", "a/2.png")])
def test_paths_in_parquet_are_names_as_in_any_table(tmp_path: Path, names: tuple[str, str]) -> None:
    """Neither may two names mean one file, nor is a missing one found only when it is scored."""
    import pyarrow as pa
    from pyarrow import parquet

    add_images(tmp_path)
    picture(0).save(tmp_path / "images" / "1.png")
    row = ROWS[0] | {f"image_{k}": name for k, name in enumerate(names)}
    said: dict[str, list[str]] = {"jsonl": [], "parquet": []}
    (tmp_path / "examples.jsonl").write_text(json.dumps(row))
    (as_text,) = read_pairs(tmp_path, said["jsonl"].append)
    (tmp_path / "examples.jsonl").unlink()
    cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = {f"image_{k}": pa.array([{"bytes": None, "path": name}], cell) for k, name in enumerate(names)}
    parquet.write_table(pa.table({**{key: [row[key]] for key in row}, **cells}), tmp_path / "test.parquet")
    (as_cells,) = read_pairs(tmp_path, said["parquet"].append)
    assert said["parquet"] == said["jsonl"] != []
    assert [content_of(p) for p in as_cells.images] == [content_of(p) for p in as_text.images]


def test_ids_of_some_rows_only_are_refused(tmp_path: Path) -> None:
    rows = [{key: value for key, value in ROWS[0].items() if key != "id"}, *ROWS[1:]]
    (tmp_path / "examples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=r"Line 2 of examples\.jsonl has an id, and the rows before it have none"):
        read_benchmark(f"folder:{tmp_path}")


def test_columns_may_be_called_otherwise(tmp_path: Path) -> None:
    add_images(tmp_path)
    row = ROWS[0]
    theirs = {"id": 0, "caption_1": row["caption_0"], "caption_2": row["caption_1"], "image_1": row["image_0"],
              "image_2": row["image_1"]}  # fmt: skip
    (tmp_path / "examples.jsonl").write_text(json.dumps(theirs))
    (colorswap,) = read_benchmark(f"colorswap:{tmp_path}")
    (tmp_path / "columns.json").write_text(
        json.dumps({"caption_0": "caption_1", "caption_1": "caption_2", "image_0": "image_1", "image_1": "image_2"})
    )
    (mapped,) = read_benchmark(f"folder:{tmp_path}")
    assert colorswap.captions == mapped.captions == ("dog 0 on a couch", "couch on a dog 0")
    (tmp_path / "columns.json").write_text('{"kaption": "x"}')
    with pytest.raises(UserError, match=r"columns\.json must be an object"):
        read_benchmark(f"folder:{tmp_path}")


def broken_rows(place: int, **change: object) -> str:
    rows = [{**row, **(change if n == place else {})} for n, row in enumerate(ROWS)]
    return "\n".join(json.dumps({k: v for k, v in row.items() if v is not None}) for row in rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (broken_rows(1, caption_1=None), "Line 2 of examples.jsonl has no caption_1"),
        (broken_rows(1, caption_1=" "), "Line 2 of examples.jsonl has a blank caption in caption_1"),
        (broken_rows(1, caption_1="\u200b\u2060"), "Line 2 of examples.jsonl has a blank caption in caption_1"),
        (broken_rows(2, image_0=None), "Line 3 of examples.jsonl has no image_0"),
        (broken_rows(2, id=0), "Line 3 of examples.jsonl has the same id 0 as Line 1 of examples.jsonl"),
        ("{}\n" * 3, "Line 1 of examples.jsonl has no caption_0 and no"),
        ("\n" * 216 + '{"id": 1,', "Line 217 of examples.jsonl is not a JSON object"),
        ("", "its table is empty"),
    ],
)
def test_a_fault_is_one_sentence_with_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "examples.jsonl").write_text(text)
    with pytest.raises(UserError, match=words):
        read_pairs(tmp_path)


def test_a_zip_that_ends_early_and_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    as_jsonl(tmp_path)
    with ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("ex_0_img_0.png", b"x" * 5000)
    whole = (tmp_path / "images.zip").read_bytes()
    examples = read_pairs(tmp_path)
    with pytest.raises(UserError, match=r"ex_0_img_0 in images\.zip is not an image"):
        examples[0].images[0].open()
    with pytest.raises(UserError, match=r"ex_2_img_1 is missing in images\.zip"):
        examples[2].images[1].open()
    (tmp_path / "images.zip").write_bytes(whole[:2500])
    with pytest.raises(UserError, match=r"images\.zip cannot be read: copy it again"):
        read_pairs(tmp_path)[0].images[0].open()
    (tmp_path / "examples.jsonl").unlink()
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(UserError, match=r"x\.parquet cannot be read"):
        read_pairs(tmp_path)


def test_a_name_cannot_leave_its_folder(tmp_path: Path) -> None:
    add_images(tmp_path / "set")
    picture(0).save(tmp_path / "secret.png")
    (tmp_path / "set" / "examples.jsonl").write_text(json.dumps({**ROWS[0], "image_0": "../../secret"}))
    with pytest.raises(UserError, match="is missing in the folder"):
        read_pairs(tmp_path / "set")[0].images[0].open()


def test_memory_stays_flat_however_many_large_images_there_are(tmp_path: Path) -> None:
    """400 examples with images of 1,500 pixels: 5 GB as arrays. Each is opened once; one at a time is in memory."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((1500, 1500, 3), 90, np.uint8)).save(buffer, "JPEG")
    rows = [{**ROWS[0], "id": n, "image_0": f"{n}_0", "image_1": f"{n}_1"} for n in range(400)]
    (tmp_path / "examples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with ZipFile(tmp_path / "images.zip", "w") as archive:
        for row in rows:
            for k in (0, 1):
                archive.writestr(f"{row[f'image_{k}']}.png", buffer.getvalue())
    examples = read_pairs(tmp_path)
    for image in examples[0].images:
        image.open()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for example in examples[1::8]:
        for image in example.images:
            assert image.open().size == (1500, 1500)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # kilobytes


def test_labels_beside_a_copy_become_categories_and_counts_are_checked(tmp_path: Path) -> None:
    add_images(tmp_path / "data")
    as_jsonl(tmp_path / "data")
    (tmp_path / winoground.LABELS).write_text(json.dumps({"0": ["Unusual Text", "Unusual Image"], "1": []}))
    examples = read_benchmark(f"winoground:{tmp_path}")
    assert examples[0].tags["category"] == "Unusual Text, Unusual Image"
    assert "category" not in examples[1].tags
    notes = differences("winoground", [e.tags for e in examples])
    assert "This copy has 3 examples; the published set has 400." in notes
    assert "This copy has 3 examples of Series; the published set has 31." in notes
    assert differences("folder", [e.tags for e in examples]) == []
    (tmp_path / winoground.LABELS).write_text("[1]")
    with pytest.raises(UserError, match="is not an object from ids to lists"):
        read_benchmark(f"winoground:{tmp_path}")


def test_without_a_token_or_a_download_the_way_to_winoground_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    import huggingface_hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="fetch winoground"):
        read_benchmark("winoground")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UserError, match="there is no token"):
        winoground.fetch(lambda line: None)


REFUSALS = {
    "gated": "no access to Winoground.*may have expired",
    "expired": "no access to Winoground.*may have expired",
    "a token without the right": "no access to Winoground.*may have expired",
    "proxy": "cannot be reached.*HTTPS_PROXY",
    "lost on the way": "cannot be reached.*resumes",
    "large files": "broke off: check the network.*resumes",
    "network": "broke off: check the network.*resumes",
    "the Hub is down": "answered 503 instead of sending Winoground: run the same command again later.*resumes",
    "gone": "has neither data/examples.jsonl and data/images.zip nor",
}


def hub_refusal(kind: str) -> Exception:
    """What the Hub's client raises."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    http = sys.modules[HfHubHTTPError.__bases__[0].__module__.partition(".")[0]]
    status = {"expired": 401, "the Hub is down": 503, "gone": 404}.get(kind, 403)
    answer = http.Response(status, request=http.Request("GET", "https://example.org"))
    made: dict[str, Exception] = {
        "gated": GatedRepoError("gated", response=answer),
        "expired": HfHubHTTPError("Invalid credentials", response=answer),
        "a token without the right": LocalEntryNotFoundError("cannot find the file in the cache"),
        "proxy": http.ProxyError("407 Proxy Authentication Required"),
        "lost on the way": http.ReadError("connection reset"),
        "large files": RuntimeError("CAS service error"),
        "network": OSError("no route to host"),
        "the Hub is down": HfHubHTTPError("unavailable", response=answer),
        "gone": HfHubHTTPError("Entry Not Found", response=answer),
    }
    made["a token without the right"].__cause__ = HfHubHTTPError("forbidden", response=answer)
    return made[kind]


@pytest.fixture
def refusing_hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    import huggingface_hub

    def refuse_with(error: Exception) -> None:
        def refuse(*arguments: object, **options: object) -> None:
            raise error

        monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        monkeypatch.setattr(huggingface_hub, "list_repo_files", refuse)

    return refuse_with


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refused_download_is_one_sentence(kind: str, refusing_hub: Callable[[Exception], None]) -> None:
    refusing_hub(hub_refusal(kind))
    with pytest.raises(UserError, match=REFUSALS[kind]):
        winoground.fetch(lambda line: None)


@pytest.mark.parametrize("kind", REFUSALS)
def test_weights_that_do_not_come_are_one_sentence(kind: str, refusing_hub: Callable[[Exception], None]) -> None:
    """Only where nothing was reached is the network named alone."""
    refusing_hub(hub_refusal(kind))
    words = "was not reached" if kind in ("proxy", "lost on the way") else "check the name, the network"
    with pytest.raises(UserError, match=words):
        sources.repo_file("nobody/nothing", ["config.json"], allow_download=True)
    with pytest.raises(UserError, match=words):
        sources.repo_folder("nobody/nothing", ["*.json"], allow_download=True)
    assert sources.repo_listing("nobody/nothing") == []


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_is_not_called_the_network(
    wrapped: bool, refusing_hub: Callable[[Exception], None], capsys: pytest.CaptureFixture[str]
) -> None:
    error: Exception = OSError(28, "No space left on device")
    if wrapped:
        error, error.__cause__ = RuntimeError("writing failed"), error
    refusing_hub(error)
    assert main(["fetch", "winoground"]) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "network" not in said


def test_labels_that_cannot_be_stored_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(winoground.urllib.request, "urlopen", lambda *a, **k: io.BytesIO(b'{"0": ["Unusual Text"]}'))
    monkeypatch.setenv("SDSDEMO_CACHE", str(tmp_path / "cache"))
    assert main(["fetch", "winoground-labels"]) == 0
    assert (tmp_path / "cache" / winoground.LABELS).is_file()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SDSDEMO_CACHE", str(tmp_path / "file"))
    assert main(["fetch", "winoground-labels"]) == 2
    assert f"'{tmp_path / 'file'}' cannot be read or written" in capsys.readouterr().err
