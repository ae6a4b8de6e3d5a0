"""Benchmarks as lists of examples, read from disk. Opens an image only when asked; scores nothing.

A folder in Winoground's layout holds `examples.jsonl` (id, caption_0, caption_1, image_0, image_1, tag, collapsed_tag,
...) and the images `ex_<id>_img_<0|1>.png`, packed in `images.zip` or lying in `images/`.
The Mini benchmark and its validation set are such folders; Mini retrieval is drawn when it is asked for.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from PIL import Image

from sdsdemo.data.choices import read_aro, read_sugarcrepe
from sdsdemo.data.mini_drawing import draw
from sdsdemo.data.mini_world import retrieval_sets
from sdsdemo.data.official import size_notes
from sdsdemo.errors import UserError
from sdsdemo.models.images import plain
from sdsdemo.settings import ASSETS
from sdsdemo.types import Example, Picture

NAMES = ("mini", "mini-validation", "mini-retrieval")
MINI, VALIDATION = ASSETS / "mini" / "benchmark", ASSETS / "mini" / "validation"
TAG_COLUMNS = ("tag", "secondary_tag", "collapsed_tag", "num_main_preds", "category")
COLUMNS = ("id", "caption_0", "caption_1", "image_0", "image_1")


def read_benchmark(name: str) -> list[Example]:
    """The examples of a benchmark by name, or of a copy on this machine: `folder:PATH` and the others of READERS.

    Raises `UserError` for an unknown name, or a folder that cannot be read.
    """
    if name == "mini":
        return read_pairs(MINI)
    if name == "mini-validation":
        return read_pairs(VALIDATION)
    if name == "mini-retrieval":
        return retrieval()
    source, _, path = name.partition(":")
    if source in READERS and path:
        return READERS[source](Path(path).expanduser())
    copies = ", ".join(f"{source}:PATH" for source in READERS)
    raise UserError(
        f"There is no benchmark called '{name}'. There is: {', '.join(NAMES)}; and for a copy of your own {copies}."
    )


def notes_on(name: str, examples: Sequence[Example]) -> list[str]:
    """What differs from the published benchmark, in sentences: a copy may be a part of it, or an old one."""
    return size_notes(name.partition(":")[0], [example.tags for example in examples])


def read_pairs(folder: Path) -> list[Example]:
    """Pair-of-pairs examples of a folder in Winoground's layout. Raises `UserError` naming file and line."""
    table = folder / "examples.jsonl"
    if not table.is_file():
        raise UserError(f"{table.name} is missing in the benchmark's folder '{folder.name}'.")
    open_image = _packed(folder / "images.zip") if (folder / "images.zip").is_file() else _unpacked(folder / "images")
    lines = table.read_text(encoding="utf-8").splitlines()
    return [_example(line, number, open_image, folder) for number, line in enumerate(lines, start=1) if line.strip()]


def read_winoground(folder: Path) -> list[Example]:
    """A local copy of the Hub's repository: `data/examples.jsonl` with `data/images.zip`. Raises `UserError`."""
    return read_pairs(folder / "data" if (folder / "data").is_dir() else folder)


READERS: dict[str, Callable[[Path], list[Example]]] = {
    "folder": read_pairs,
    "winoground": read_winoground,
    "sugarcrepe": read_sugarcrepe,
    "aro": read_aro,
}
"""By the word before the colon of a benchmark's name."""
RETRIEVAL_SEED = 20_002


def retrieval(seed: int = RETRIEVAL_SEED, sets: int = 5, size: int = 100) -> list[Example]:
    """Retrieval among `size` captions: one image and k captions, the true one first; sets x size examples, drawn anew.

    Scenes of combinations that were never trained on; in a set no caption is true of two pictures.
    """
    examples = []
    for number, pairs in enumerate(retrieval_sets(seed, sets, size)):
        for own, (scene, sentence) in enumerate(pairs):
            others = tuple(other.text for k, (_, other) in enumerate(pairs) if k != own)
            picture = Picture(
                name=f"{number}-{own}.png", open=partial(draw, scene), key=f"retrieval {seed} {number}-{own}"
            )
            captions = (sentence.text, *others)
            examples.append(
                Example(id=f"{number}-{own}", images=(picture,), captions=captions, tags={"tag": scene.family})
            )
    return examples


def _example(line: str, number: int, open_image: Callable[[str], Image.Image], place: Path) -> Example:
    row = _row(line, number)
    pictures = tuple(
        Picture(name=f"{row[key]}.png", open=partial(open_image, f"{row[key]}.png"), key=f"{place}/{row[key]}")
        for key in ("image_0", "image_1")
    )
    tags = {key: str(row[key]) for key in TAG_COLUMNS if row.get(key)}
    return Example(id=str(row["id"]), images=pictures, captions=(row["caption_0"], row["caption_1"]), tags=tags)


def _row(line: str, number: int) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"Line {number} of examples.jsonl is not JSON.") from error
    missing = [column for column in COLUMNS if not isinstance(row, dict) or column not in row]
    if missing:
        raise UserError(f"Line {number} of examples.jsonl has no {', '.join(missing)}.")
    return row


def _packed(path: Path) -> Callable[[str], Image.Image]:
    """Opens pictures of a zip file, whose table of contents is read once, when the first is asked for."""
    archive = lru_cache(maxsize=1)(partial(ZipFile, path))

    def open_image(name: str) -> Image.Image:
        try:
            return plain(Image.open(io.BytesIO(archive().read(name))))
        except KeyError as error:
            raise UserError(f"{name} is missing in {path.name}.") from error
        except (BadZipFile, zlib.error, OSError, EOFError) as error:
            raise UserError(
                f"{name} cannot be read from {path.name}: copy that file again, it may end early."
            ) from error

    return open_image


def _unpacked(folder: Path) -> Callable[[str], Image.Image]:
    def open_image(name: str) -> Image.Image:
        try:
            return plain(Image.open(folder / name))
        except OSError as error:
            raise UserError(f"{name} cannot be read from the folder {folder.name}.") from error

    return open_image
