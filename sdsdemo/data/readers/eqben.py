"""EqBen: pairs of images that differ in one thing, from videos and synthetic engines (Wang et al. 2023, 2303.14465).

eqben:PATH        one of the authors' annotation files (github.com/Wangt-CN/EqBen), with the images below PATH or
                  PATH/images:
                  ann_json_finegrained_random.json   the whole set, a list of single images with single captions:
                                                     {"image", "caption", "private_info": {"dataset", "name": "c0i1",
                                                     "sample_cnt"}}; four of them make one example
                  any other .json                    like Winoground's: {"image0", "image1", "caption0", "caption1"};
                                                     the 10 % subset and the small one for language models
                                                     (all_select.json)

`tag` is the part, the first folder of an image's name, as in the authors' evaluation. The light set has .jpg images
where the annotation says .png; those of YouCook2 are NumPy files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from sdsdemo.data.files.folders import files_in
from sdsdemo.data.files.image_files import ImageFiles, Note, silent
from sdsdemo.data.files.json_cases import cases_of, json_of, texts
from sdsdemo.data.files.quoting import listed, shown
from sdsdemo.data.published.sets import EQBEN, SET
from sdsdemo.errors import UserError
from sdsdemo.types import Example

WHOLE = "ann_json_finegrained_random.json"
FOLDERS = ("images", "image", "image_jpg", "image_subset")
PLACES = ("c0i0", "c0i1", "c1i0", "c1i1")
PAIR = '{"image0", "image1", "caption0", "caption1"}'
SINGLE = '{"image", "caption", "private_info": {"dataset", "name", "sample_cnt"}}'

Content = list[Any] | dict[str, Any]
"""Of a JSON file."""


class PairCase(TypedDict):
    """An example in Winoground's form."""

    image0: str
    image1: str
    caption0: str | list[str]
    caption1: str | list[str]


class PrivateInfo(TypedDict):
    """The part and example of a single image and caption, and which of its four combinations they are."""

    dataset: str
    name: str
    sample_cnt: int


class SingleCase(TypedDict):
    """One image with one caption."""

    image: str
    caption: str
    private_info: PrivateInfo


def read_eqben(folder: Path, note: Note = silent) -> list[Example]:
    """Every example of the annotation found. Raises `UserError` naming file and case."""
    path = _annotation(folder, note)
    roots = [home / name for home in (folder, path.parent) for name in FOLDERS if (home / name).is_dir()]
    images = ImageFiles([*roots, folder], any_suffix=True)
    content = json_of(path, f"a list of EqBen's examples, {PAIR},")
    first = content[0] if isinstance(content, list) and content else None
    single = isinstance(first, dict) and "private_info" in first
    examples = _from_singles(path, content, images, note) if single else _from_pairs(path, content, images)
    images.note_places(note)
    return examples


def _annotation(folder: Path, note: Note) -> Path:
    there = [path for home in (folder, folder / "annotation") for path in files_in(home, "*.json")]
    if not there:
        raise UserError(f"There is no .json annotation of EqBen in '{folder.name}': name the folder that holds it.")
    path = next((path for path in there if path.name == WHOLE), there[0])
    if len(there) > 1:
        note(f"Read {path.name}; ignored {listed(other.name for other in there if other != path)} beside it.")
    return path


def _from_pairs(path: Path, content: Content, images: ImageFiles) -> list[Example]:
    examples = []
    for number, case in cases_of(path, PairCase, f"an example of EqBen, {PAIR},", content):
        firsts = {key: _first(case[key], number, path) for key in ("caption0", "caption1")}
        captions = texts(firsts, ("caption0", "caption1"), path, number)
        examples.append(_example(number, (case["image0"], case["image1"]), captions, path, images))
    return examples


def _first(caption: str | list[str], number: str, path: Path) -> str:
    """The first of several captions, as in the authors' code."""
    if isinstance(caption, list) and not caption:
        raise UserError(f"Case {shown(number)} of {path.name} has no caption: remove the case.")
    return caption[0] if isinstance(caption, list) else caption


def _from_singles(path: Path, content: Content, images: ImageFiles, note: Note) -> list[Example]:
    """Examples from four combinations each; incomplete ones are left out, with a note."""
    found: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
    for number, case in cases_of(path, SingleCase, f"a case of EqBen, {SINGLE},", content):
        info = case["private_info"]
        if info["name"] not in PLACES:
            raise UserError(
                f"Case {shown(number)} of {path.name} is called {shown(info['name'])}, not {' or '.join(PLACES)}."
            )
        texts(case, ("image", "caption"), path, number)
        found.setdefault((info["dataset"], info["sample_cnt"]), {})[info["name"]] = case
    whole = {key: cases for key, cases in found.items() if {"c0i0", "c1i1"} <= set(cases)}
    if len(whole) < len(found):
        part, sample = next(key for key in found if key not in whole)
        note(f"{len(found) - len(whole):,} of {len(found):,} examples lack an image or a caption and are left out, "
             f"such as {sample} of {shown(part)}.")  # fmt: skip
    if not whole:
        raise UserError(f"{path.name} has no example with both images and captions: copy it again.")
    return [
        _example(
            f"{part}-{sample}",
            (cases["c0i0"]["image"], cases["c1i1"]["image"]),
            (cases["c0i0"]["caption"], cases["c1i1"]["caption"]),
            path,
            images,
        )
        for (part, sample), cases in whole.items()
    ]


def _example(
    identity: str, names: tuple[str, str], captions: tuple[str, ...], path: Path, images: ImageFiles
) -> Example:
    where = f"Case {shown(identity)} of {path.name}"
    pictures = tuple(images.picture(name, where) for name in names)
    return Example(
        id=identity, images=pictures, captions=captions, tags={"tag": names[0].partition("/")[0], SET: EQBEN}
    )
