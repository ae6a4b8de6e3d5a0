"""Benchmarks of one image and a true and a false caption, read from the user's own copies. Opens an image when asked.

sugarcrepe:PATH   PATH/data/*.json or PATH/*.json: {number: {"filename", "caption", "negative_caption"}}, one file
                  a kind of change (Hsieh et al. 2023, 2306.14610); COCO's val2017 in PATH/val2017 or PATH/images
aro:PATH          visual_genome_relation.json and visual_genome_attribution.json: a list of {"image_path",
                  "true_caption", "false_caption", "bbox_x", "bbox_y", "bbox_w", "bbox_h", "relation_name" or
                  "attributes"} (Yuksekgonul et al. 2023, 2210.01936); images in PATH/images. Each image is cut to
                  its box first, as the authors do. Also coco_karpathy_test.json and flickr30k_test.json, lists of
                  {"image", "caption": [...]}, for the two order sets
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from sdsdemo.data import contents
from sdsdemo.data.orders import plain_caption, shuffled
from sdsdemo.data.sets import ATTRIBUTION, COCO_ORDER, FLICKR_ORDER, RELATION, SET, SUGARCREPE
from sdsdemo.errors import UserError
from sdsdemo.models.images import plain
from sdsdemo.types import Example, Picture

ARO_FILES = {
    "visual_genome_relation.json": (RELATION, "relation_name"),
    "visual_genome_attribution.json": (ATTRIBUTION, "attributes"),
}
ORDER_FILES = {"coco_karpathy_test.json": COCO_ORDER, "flickr30k_test.json": FLICKR_ORDER}
"""File -> the name of its set, and the column that its cases are grouped by."""
BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
SUGARCREPE_IMAGES, ARO_IMAGES = ("val2017", "images"), ("images",)


def read_sugarcrepe(folder: Path) -> list[Example]:
    """Every file of the benchmark; `tag` is the file's name, as swap_obj. Raises `UserError` naming file and case."""
    files = sorted((folder / "data").glob("*.json")) or sorted(folder.glob("*.json"))
    if not files:
        raise UserError(f"There is no .json file of SugarCrepe in '{folder.name}' or its folder data.")
    images = _images(folder, SUGARCREPE_IMAGES)
    examples = []
    for path in files:
        for number, case in _cases(path):
            captions = _texts(case, ("caption", "negative_caption"), path, number)
            picture = _picture(images, case, "filename", path, number)
            tags = {"tag": path.stem, "collapsed_tag": path.stem.partition("_")[0], SET: SUGARCREPE}
            examples.append(Example(id=f"{path.stem}-{number}", images=(picture,), captions=captions, tags=tags))
    return examples


def read_aro(folder: Path) -> list[Example]:
    """Relation, attribution and order sets, whichever are there; `collapsed_tag` is the set, `tag` what varies in it.

    Raises `UserError` naming file and case.
    """
    files = [folder / name for name in ARO_FILES if (folder / name).is_file()]
    orders = [folder / name for name in ORDER_FILES if (folder / name).is_file()]
    if not files and not orders:
        raise UserError(f"There is none of {', '.join((*ARO_FILES, *ORDER_FILES))} in '{folder.name}'.")
    images = _images(folder, ARO_IMAGES)
    examples = [example for path in orders for example in _order_examples(path, images)]
    for path in files:
        name, group = ARO_FILES[path.name]
        for number, case in _cases(path):
            captions = _texts(case, ("true_caption", "false_caption"), path, number)
            picture = _picture(images, case, "image_path", path, number, box=_box(case, path, number))
            tags = {"tag": _joined(case.get(group, "")), "collapsed_tag": name}
            examples.append(Example(id=f"{name}-{number}", images=(picture,), captions=captions, tags=tags))
    return examples


def _order_examples(path: Path, images: Path) -> Iterator[Example]:
    """One example a caption: the caption and its four shuffles."""
    name = ORDER_FILES[path.name]
    for number, case in _cases(path):
        sentences = case.get("caption")
        sentences = [sentences] if isinstance(sentences, str) else sentences
        if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
            raise UserError(f"Case {number} of {path.name} has no caption.")
        picture = _picture(images, case, "image", path, number)
        for k, sentence in enumerate(sentences):
            captions = (plain_caption(sentence), *shuffled(sentence))
            tags = {"tag": name, "collapsed_tag": name}
            yield Example(id=f"{name}-{number}-{k}", images=(picture,), captions=captions, tags=tags)


def _images(folder: Path, names: Sequence[str]) -> Path:
    found = next((folder / name for name in names if (folder / name).is_dir()), None)
    if found is None:
        raise UserError(f"The images are missing: put them in a folder {' or '.join(names)} in '{folder.name}'.")
    return found


def _cases(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Number and content of each case of a file that holds a list or an object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        items = content.items() if isinstance(content, dict) else enumerate(content)
        return [(str(number), dict(case)) for number, case in items]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path.name} cannot be read: copy it again from where it is published.") from error


def _texts(case: Mapping[str, Any], keys: Sequence[str], path: Path, number: str) -> tuple[str, ...]:
    missing = [key for key in keys if not isinstance(case.get(key), str)]
    if missing:
        raise UserError(f"Case {number} of {path.name} has no {' and no '.join(missing)}.")
    return tuple(case[key] for key in keys)


def _box(case: Mapping[str, Any], path: Path, number: str) -> tuple[int, int, int, int]:
    """Left, upper, right and lower edge in pixels."""
    try:
        x, y, wide, high = (int(case[key]) for key in BOX)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"Case {number} of {path.name} has no box: {', '.join(BOX)}.") from error
    return x, y, x + wide, y + high


def _picture(
    images: Path,
    case: Mapping[str, Any],
    key: str,
    path: Path,
    number: str,
    box: tuple[int, int, int, int] | None = None,
) -> Picture:
    (name,) = _texts(case, (key,), path, number)
    return Picture(
        name=name,
        open=partial(_open, images, name, box),
        key=f"{images / name} {box}",
        content=partial(contents.of_file, images / name, str(box or "")),
    )


def _open(images: Path, name: str, box: tuple[int, int, int, int] | None) -> Image.Image:
    path = (images / name).resolve()
    if not path.is_relative_to(images.resolve()) or not path.is_file():
        raise UserError(f"{name} is missing in the folder '{images.name}'.")
    try:
        with Image.open(path) as opened:
            image = plain(opened)
    except OSError as error:
        raise UserError(f"{name} in the folder '{images.name}' is no picture, or it is broken.") from error
    return image if box is None else image.crop(box)


def _joined(group: object) -> str:
    return " and ".join(map(str, group)) if isinstance(group, list) else str(group)
