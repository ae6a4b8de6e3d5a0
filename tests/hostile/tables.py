"""Hostile tables and archives: uploaded as pictures, and read as the shell reads benchmarks and captions."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import psutil

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.captions.sources import read_captions
from sdsdemo.errors import UserError
from tests.hostile.files import File, png
from tests.server_process import MB, Cost

ROW = {"id": "a", "caption_0": "a red square", "caption_1": "a blue square", "image_0": "a.png", "image_1": "a.png"}
CAPTION = {"file_name": "a.png", "text": "a red square"}
HEAD = "id,caption_0,caption_1,image_0,image_1\n"
MOST_SECONDS = 60
"""Of processor time, after which reading counts as without end."""


def tables() -> list[File]:
    """All of them. The end of a name says what a file is."""
    made = {**_json(), **_csv(), **_parquet(), **_zips()}
    return [
        File(name=name, filename=name.split()[-1].encode(), make=make, kind="text/plain") for name, make in made.items()
    ]


def _rows(*rows: Any) -> bytes:
    return b"\n".join(json.dumps(row).encode() for row in rows)


def _json() -> dict[str, Callable[[], bytes]]:
    sound, odd = _rows(ROW), {**ROW, "id": "b"}
    return {
        "nested 100,000 deep .json": lambda: b"[" * 100_000,
        "nested 100,000 deep and closed .json": lambda: b"[" * 100_000 + b"]" * 100_000,
        "nested 100,000 deep .jsonl": lambda: sound + b"\n" + b'{"a":' * 100_000,
        "a number of 100,000 digits .jsonl": lambda: b'{"id": ' + b"9" * 100_000 + b"}",
        "1e999 as a name .jsonl": lambda: b'{"id": 1e999}',
        "NaN as a caption .jsonl": lambda: sound.replace(b'"a red square"', b"NaN"),
        "a list in place of a row .jsonl": lambda: _rows([1, 2], "text", None, 7),
        "a caption of 5 MB .jsonl": lambda: _rows({**odd, "caption_0": "a" * 5_000_000}),
        "a name twice .jsonl": lambda: sound[:-1] + b', "id": "b", "caption_0": 7}',
        "paths as pictures .jsonl": lambda: _rows({**odd, "image_0": "/etc/passwd", "image_1": "../../../etc/passwd"}),
        "a NUL in a path .jsonl": lambda: _rows({**odd, "image_0": "a\0.png"}),
        "objects as pictures .jsonl": lambda: _rows({**odd, "image_0": {"path": "/etc/passwd", "bytes": None}}),
        "half letters .jsonl": lambda: sound.replace(b"red", rb"\ud800"),
        "UTF-16 .jsonl": lambda: sound.decode().encode("utf-16"),
        "Latin letters .jsonl": lambda: sound.replace(b"red", b"\xe9"),
        "a byte order mark .jsonl": lambda: b"\xef\xbb\xbf" + sound,
        "zeros .jsonl": lambda: sound + bytes(1_000_000),
        "half a million empty rows .jsonl": lambda: b"\n" * 500_000 + sound,
        "the same row 20,000 times .jsonl": lambda: (sound + b"\n") * 20_000,
        "a million keys .jsonl": lambda: _rows(dict.fromkeys(map(str, range(200_000)), 1)),
    }


def _csv() -> dict[str, Callable[[], bytes]]:
    def row(*cells: str) -> str:
        return HEAD + ",".join(cells) + "\n"

    return {
        "formulas .csv": lambda: row("a", '=cmd|"/c calc"!A1', "@SUM(1)", "a.png", "a.png").encode(),
        "a cell of 5 MB .csv": lambda: row("a", "b" * 5_000_000, "c", "a.png", "a.png").encode(),
        "columns twice .csv": lambda: b"id,id,caption_0,caption_0,caption_1,image_0,image_1\na,b,c,d,e,a.png,a.png\n",
        "100,000 columns .csv": lambda: (",".join(map(str, range(100_000))) + "\n" + "," * 99_999).encode(),
        "a quote without end .csv": lambda: (HEAD + 'a,"b' + "c,\n" * 300_000).encode(),
        "quotes alone .csv": lambda: (HEAD + '"' * 1_000_001).encode(),
        "zeros in cells .csv": lambda: row("a", "b\0c", "d", "a.png", "a.png").encode(),
        "old line ends .csv": lambda: row("a", "b", "c", "a.png", "a.png").replace("\n", "\r").encode(),
        "too many cells .csv": lambda: row("a", "b", "c", "a.png", "a.png", *"d" * 5000).encode(),
        "UTF-32 .csv": lambda: row("a", "b", "c", "a.png", "a.png").encode("utf-32"),
        "a head alone .csv": HEAD.encode,
        "nothing .csv": bytes,
    }


def _parquet() -> dict[str, Callable[[], bytes]]:
    def written(columns: dict[str, Any], **options: Any) -> bytes:
        import pyarrow as pa
        from pyarrow import parquet

        file = io.BytesIO()
        parquet.write_table(pa.table(columns), file, **options)
        return file.getvalue()

    def sound(**columns: Any) -> bytes:
        return written({name: [value] for name, value in {**ROW, **columns}.items()})

    def cut(share: float) -> bytes:
        return sound()[: int(share * len(sound()))]

    def flipped() -> bytes:
        data = bytearray(sound())
        for at in range(40, len(data) - 8, 37):
            data[at] ^= 0x55
        return bytes(data)

    return {
        "cut .parquet": partial(cut, 0.5),
        "without its beginning .parquet": lambda: sound()[4:],
        "changed in many places .parquet": flipped,
        "magic alone .parquet": lambda: b"PAR1PAR1",
        "a footer of 4 GB .parquet": lambda: b"PAR1" + struct.pack("<I", 2**32 - 1) + b"PAR1",
        "2 million equal rows .parquet": lambda: written({name: [value] * 2_000_000 for name, value in ROW.items()}),
        "a caption of 100 MB .parquet": lambda: sound(caption_0="a" * 10**8),
        "lists of lists .parquet": lambda: sound(caption_0=[[[[[["a"]]]]]]),
        "numbers as captions .parquet": lambda: sound(caption_0=float("nan"), caption_1=2**62),
        "a bomb as a picture .parquet": lambda: sound(image_0=png(30_000, 30_000, 1, 0), image_1=bytes(100)),
        "half a picture .parquet": lambda: sound(image_0={"bytes": png()[:50], "path": "/etc/passwd"}),
    }  # fmt: skip


def _zips() -> dict[str, Callable[[], bytes]]:
    def zipped(*members: tuple[str | ZipInfo, bytes]) -> bytes:
        file = io.BytesIO()
        with ZipFile(file, "w", ZIP_DEFLATED) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return file.getvalue()

    def link(target: bytes) -> bytes:
        info = ZipInfo("images/a.png")
        info.external_attr = 0o120777 << 16
        return zipped((info, target))

    def nested() -> bytes:
        data = zipped(("a.png", bytes(10_000_000)))
        for _ in range(8):
            data = zipped(*((f"{n}.zip", data) for n in range(4)))
        return data

    plain = zipped(("a.png", png()))
    return {
        "a bomb .zip": lambda: zipped(("a.png", bytes(300_000_000))),
        "archives in archives .zip": nested,
        "names that climb .zip": lambda: zipped(("../../../a.png", png()), ("/etc/a.png", png()), ("..\\a.png", png())),
        "a link to a file .zip": lambda: link(b"/etc/passwd"),
        "a name twice .zip": lambda: zipped(("a.png", png()), ("images/a.png", b"no picture")),
        "30,000 members .zip": lambda: zipped(*((f"{n}.png", b"") for n in range(30_000))),
        "a name of 60,000 letters .zip": lambda: zipped(("a" * 60_000 + ".png", png())),
        "cut .zip": lambda: plain[: len(plain) // 2],
        "without a directory .zip": lambda: plain[: plain.index(b"PK\1\2")],
        "a directory elsewhere .zip": lambda: plain[:-6] + b"\xff\xff\xff\xff\0\0",
        "encrypted .zip": lambda: plain.replace(b"PK\1\2\x14\x03\x14\0\0\0", b"PK\1\2\x14\x03\x14\0\1\0"),
        "a size that is wrong .zip": lambda: plain.replace(struct.pack("<I", len(png())), struct.pack("<I", 2**31), 2),
    }


@dataclass
class Read:
    """What came of reading one file."""

    cost: Cost = field(default_factory=Cost)
    fault: str = ""
    """Anything but rows, or a sentence."""


def place(file: File, folder: Path) -> None:
    """Lays a file where the shell looks for a benchmark, and for captions to train on."""
    ending = file.filename.decode()
    if ending == ".zip":
        (folder / "images.zip").write_bytes(file.make())
        (folder / "examples.jsonl").write_bytes(_rows(ROW))
        (folder / "metadata.jsonl").write_bytes(_rows(CAPTION))
        return
    (folder / "a.png").write_bytes(png())
    for stem in ("examples", "metadata"):
        (folder / f"{stem}{ending}").write_bytes(file.make())


def fault_of(folder: Path) -> str:
    """Reads a folder as a benchmark and as captions: what was neither rows nor a sentence."""
    faults = []
    for work in (_as_benchmark, _as_captions):
        try:
            work(folder)
        except UserError:
            pass
        except BaseException:
            faults.append(traceback.format_exc()[-600:])
    return "\n".join(faults)


def read(file: File, folder: Path) -> Read:
    """What came of reading a file in a process of its own."""
    place(file, folder)
    held, said = psutil.Process().memory_info().rss / MB, folder / "said"
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
            said.write_text(fault_of(folder))
        finally:
            os._exit(0)
    _, status, used = os.wait4(child, 0)
    cost = Cost(seconds=used.ru_utime + used.ru_stime, peak_mb=max(0.0, used.ru_maxrss * 1024 / MB - held))
    ended = os.waitstatus_to_exitcode(status)
    return Read(cost=cost, fault=f"ended with {ended}" if ended else said.read_text())


def _as_benchmark(folder: Path) -> None:
    for example in read_benchmark(f"folder:{folder}")[:2]:
        for picture in example.images:
            picture.open()


def _as_captions(folder: Path) -> None:
    for item in read_captions(f"folder:{folder}").draw(0, 1, 0):
        item.picture.open()
