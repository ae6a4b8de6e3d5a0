"""Benchmarks of one image with true and false captions, read from the user's own copies. Opens images on demand.

sugarcrepe:PATH   PATH/data/*.json or PATH/*.json: {number: {"filename", "caption", "negative_caption"}}, one file per
                  kind of change (Hsieh et al. 2023, 2306.14610; github.com/RAIVNLab/sugar-crepe); COCO's val2017 in
                  PATH/val2017, PATH/images or where that repository has it, data/coco/images/val2017
sugarcrepe++:PATH the same with a second true caption, "caption2", in lists (Dumpala et al. 2024, 2406.11171;
                  github.com/Sri-Harsha/scpp), in files named swap_obj.json or, as on the Hub, swap_object.json
aro:PATH          visual_genome_relation.json and visual_genome_attribution.json: a list of {"image_path",
                  "true_caption", "false_caption", "bbox_x", "bbox_y", "bbox_w", "bbox_h", "relation_name" or
                  "attributes"} (Yuksekgonul et al. 2023, 2210.01936); images in PATH/images. Each image is cropped to
                  its box; where that leaves the picture, ours is cut and the authors' is black. Also
                  coco_karpathy_test.json and flickr30k_test.json, lists of {"image", "caption": [...]}, for the two
                  order sets; their images in PATH/images too, or in PATH/val2014 and PATH/flickr30k-images, where the
                  authors' download leaves them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from sdsdemo.captions.word_order import plain_caption, shuffled
from sdsdemo.data.files.folders import files_in
from sdsdemo.data.files.image_files import ImageFiles, Note, silent
from sdsdemo.data.files.image_place import Box
from sdsdemo.data.files.json_cases import cases_of, note_unknown_keys, pictures_in, texts
from sdsdemo.data.files.quoting import listed, shown
from sdsdemo.data.published.sets import (
    ATTRIBUTION,
    COCO_ORDER,
    FLICKR_ORDER,
    RELATION,
    SET,
    SUGARCREPE,
    SUGARCREPE_PP,
    TRUE,
)
from sdsdemo.errors import UserError
from sdsdemo.types import Example

ARO_FILES = {
    "visual_genome_relation.json": (RELATION, "relation_name"),
    "visual_genome_attribution.json": (ATTRIBUTION, "attributes"),
}
ORDER_FILES = {"coco_karpathy_test.json": COCO_ORDER, "flickr30k_test.json": FLICKR_ORDER}
"""File -> name of its order set."""
BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
COCO_FOLDERS = ("val2017", "images", "data/coco/images/val2017", "coco/images/val2017", "coco/val2017")
ON_THE_HUB = {
    "swap_object": "swap_obj",
    "swap_atribute": "swap_att",
    "swap_attribute": "swap_att",
    "replace_object": "replace_obj",
    "replace_attribute": "replace_att",
    "replace_relation": "replace_rel",
}
"""SugarCrepe++'s parts as spelled on the Hub -> their usual names."""
NAMED = 3


class SugarCase(TypedDict):
    """A case of SugarCrepe."""

    filename: str
    caption: str
    negative_caption: str


class SecondCase(SugarCase):
    """A case of SugarCrepe++."""

    caption2: str


class AroGroup(TypedDict, total=False):
    """The keys in which VG-Relation and VG-Attribution differ."""

    relation_name: str
    attributes: list[str]


class AroCase(AroGroup):
    """A case of VG-Relation or VG-Attribution."""

    image_path: str
    true_caption: str
    false_caption: str
    bbox_x: float
    bbox_y: float
    bbox_w: float
    bbox_h: float


class OrderCase(TypedDict):
    """An image of COCO or Flickr30k with its captions."""

    image: str
    caption: str | list[str]


def read_sugarcrepe(folder: Path, note: Note = silent) -> list[Example]:
    """Every file of the benchmark; `tag` is the file's name: swap_obj, ... Raises `UserError` naming file and case."""
    files = _files(folder, SUGARCREPE)
    images, examples = pictures_in(folder, *COCO_FOLDERS), []
    for path in files:
        cases = cases_of(path, SugarCase, 'a case of SugarCrepe, {"filename", "caption", "negative_caption"},')
        if any("caption2" in case for _, case in cases):
            raise UserError(f"{path.name} has caption2, so it is SugarCrepe++: evaluate sugarcrepe++:PATH instead.")
        note_unknown_keys(path, cases, SugarCase.__required_keys__ | {"id"}, note)
        for number, case in cases:
            captions = texts(case, ("caption", "negative_caption"), path, number)
            picture = images.picture(case["filename"], f"Case {shown(number)} of {path.name}")
            tags = {"tag": path.stem, "collapsed_tag": path.stem.partition("_")[0], SET: SUGARCREPE}
            examples.append(Example(id=f"{path.stem}-{number}", images=(picture,), captions=captions, tags=tags))
    images.note_places(note)
    return examples


def read_sugarcrepe_pp(folder: Path, note: Note = silent) -> list[Example]:
    """Every file of SugarCrepe++: two true captions, then the false one. Raises `UserError` naming file and case."""
    wanted = 'a case of SugarCrepe++, {"filename", "caption", "caption2", "negative_caption"},'
    files = _files(folder, SUGARCREPE_PP)
    parts = [ON_THE_HUB.get(path.stem, path.stem) for path in files]
    if twice := [path.name for path, part in zip(files, parts, strict=True) if parts.count(part) > 1]:
        raise UserError(f"{listed(twice)} hold the same part of SugarCrepe++: remove one of each two.")
    images, examples = pictures_in(folder, *COCO_FOLDERS), []
    for path, part in zip(files, parts, strict=True):
        cases = cases_of(path, SecondCase, wanted)
        note_unknown_keys(path, cases, SecondCase.__required_keys__ | {"id"}, note)
        for number, case in cases:
            captions = texts(case, ("caption", "caption2", "negative_caption"), path, number)
            picture = images.picture(case["filename"], f"Case {shown(number)} of {path.name}")
            tags = {"tag": part, "collapsed_tag": part.partition("_")[0], SET: SUGARCREPE_PP, TRUE: "2"}
            examples.append(Example(id=f"{part}-{number}", images=(picture,), captions=captions, tags=tags))
    images.note_places(note)
    return examples


def read_aro(folder: Path, note: Note = silent) -> list[Example]:
    """Relation, attribution and order sets, as available; `collapsed_tag` is the set, `tag` the group within it.

    Raises `UserError` naming file and case.
    """
    files = [folder / name for name in ARO_FILES if (folder / name).is_file()]
    orders = [folder / name for name in ORDER_FILES if (folder / name).is_file()]
    if not files and not orders:
        raise UserError(f"None of {', '.join((*ARO_FILES, *ORDER_FILES))} is in '{folder.name}'.")
    images = _aro_pictures(folder)
    examples = [example for path in orders for example in _order_examples(path, images, note)]
    for path in files:
        name, group = ARO_FILES[path.name]
        wanted = f'a case of {name}, {{"image_path", "true_caption", "false_caption", "{group}", "bbox_x", ...}},'
        for number, case in cases_of(path, AroCase, wanted):
            captions = texts(case, ("true_caption", "false_caption"), path, number)
            where = f"Case {shown(number)} of {path.name}"
            picture = images.picture(case["image_path"], where, _box(case, where))
            tags = {"tag": _joined(case.get(group, "")), "collapsed_tag": name}
            examples.append(Example(id=f"{name}-{number}", images=(picture,), captions=captions, tags=tags))
    images.note_places(note)
    return examples


def _aro_pictures(folder: Path) -> ImageFiles:
    """In images/ or images.zip, and beside the annotation, as the authors' download leaves those of both order sets."""
    images, archive = folder / "images", folder / "images.zip"
    beside = [name for name in ("val2014", "flickr30k-images") if (folder / name).is_dir()]
    if not beside:
        return pictures_in(folder, "images")
    is_packed = archive.is_file() and not images.is_dir()
    return ImageFiles([images, folder] if images.is_dir() else [folder], [archive] if is_packed else [])


def _files(folder: Path, name: str) -> list[Path]:
    files = files_in(folder / "data", "*.json") or files_in(folder, "*.json")
    if not files:
        raise UserError(f"There is no .json file of {name} in '{folder.name}' or its folder data.")
    return files


def _order_examples(path: Path, images: ImageFiles, note: Note) -> Iterator[Example]:
    """One example per caption: the caption, and its four shuffles without duplicates of it or of each other."""
    name = ORDER_FILES[path.name]
    every, dropped, without = 0, 0, []
    for number, case in cases_of(path, OrderCase, f'a case of {name}, {{"image", "caption": [...]}},'):
        sentences = [case["caption"]] if isinstance(case["caption"], str) else case["caption"]
        picture = images.picture(case["image"], f"Case {shown(number)} of {path.name}")
        for k, sentence in enumerate(sentences):
            true, shuffles = plain_caption(sentence), shuffled(sentence)
            false = tuple(dict.fromkeys(text for text in shuffles if text != true))
            every, dropped = every + len(shuffles), dropped + len(shuffles) - len(false)
            if not false:
                without.append(f"caption {k} of case {number}")
                continue
            tags = {"tag": name, "collapsed_tag": name}
            yield Example(id=f"{name}-{number}-{k}", images=(picture,), captions=(true, *false), tags=tags)
    if dropped:
        note(f"{name}: {dropped:,} of {every:,} shuffles equal their caption or another shuffle and are left out.")
    if without:
        some = listed(without, NAMED)
        note(f"{name}: {len(without):,} captions are not scored, since none of their shuffles differs: {some}.")


def _box(case: Mapping[str, Any], where: str) -> Box:
    x, y, wide, high = (int(case[key]) for key in BOX)
    if wide <= 0 or high <= 0:
        raise UserError(f"{where} has a box of {wide} x {high} pixels: fix bbox_w and bbox_h, or remove the case.")
    return x, y, wide, high


def _joined(group: str | list[str]) -> str:
    return " and ".join(group) if isinstance(group, list) else group
