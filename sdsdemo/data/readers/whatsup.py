"""What'sUp: spatial relations between objects (Kamath et al. 2023, 2310.19785).

whatsup:PATH      any of these files, as read by github.com/amitakamath/whatsup_vlms; the first caption is the true one:
                  controlled_images_dataset.json, controlled_clevr_dataset.json   Controlled A and B, lists of
                                {"image_path", "caption_options": [4]}; images in controlled_images/, controlled_clevr/
                  coco_qa_one_obj.json, coco_qa_two_obj.json   [number, true, false]; val2017/000000123456.jpg
                  vg_qa_one_obj.json, vg_qa_two_obj.json       [number, true, false]; vg_images/123456.jpg (GQA)

Images of the controlled sets are named THING_PREPOSITION_THING.jpeg: four with the same things form an image set, two
of them with opposite prepositions a pair.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from sdsdemo.captions.cleaning import is_blank
from sdsdemo.data.files.image_files import ImageFiles, Note, silent
from sdsdemo.data.files.json_cases import cases_of
from sdsdemo.data.files.quoting import shown
from sdsdemo.data.published.sets import SET, WHATSUP
from sdsdemo.errors import UserError
from sdsdemo.types import Example

CONTROLLED = {
    "controlled_images_dataset.json": ("Controlled A", "controlled_images"),
    "controlled_clevr_dataset.json": ("Controlled B", "controlled_clevr"),
}
"""File -> part, and the folder of its images."""
FOUND = {
    "coco_qa_one_obj.json": ("COCO one object", "val2017"),
    "coco_qa_two_obj.json": ("COCO two objects", "val2017"),
    "vg_qa_one_obj.json": ("GQA one object", "vg_images"),
    "vg_qa_two_obj.json": ("GQA two objects", "vg_images"),
}
SIDEWAYS = ("left", "right")
PREPOSITIONS = ("left", "right", "front", "behind", "above", "below", "top", "bottom", "under", "on")
CAPTIONS_IN_ALL = 4


class ControlledCase(TypedDict):
    """One photograph with four captions."""

    image_path: str
    caption_options: list[str]


def read_whatsup(folder: Path, note: Note = silent) -> list[Example]:
    """Every part found; `collapsed_tag` is the part, `tag` the preposition. Raises `UserError`."""
    examples: list[Example] = []
    homes = (folder, folder / "data")
    ways = [[home / name for home in homes if (home / name).is_file()] for name in (*CONTROLLED, *FOUND)]
    there = [found[0] for found in ways if found]
    if not there:
        raise UserError(f"None of {', '.join((*CONTROLLED, *FOUND))} is in '{folder.name}'.")
    for path in there:
        part, images = _part(path, folder)
        read = _controlled if path.name in CONTROLLED else _found
        examples += read(path, part, images)
        images.note_places(note)
    return examples


def _part(path: Path, folder: Path) -> tuple[str, ImageFiles]:
    part, name = (CONTROLLED | FOUND)[path.name]
    roots = [home / name for home in (path.parent, folder) if (home / name).is_dir()]
    archive = path.parent / f"{name}.zip"
    if not roots and not archive.is_file():
        raise UserError(f"The images of {part} are missing: unpack them to a folder {name} beside {path.name}.")
    return part, ImageFiles(roots or [path.parent], [] if roots else [archive])


def _controlled(path: Path, part: str, images: ImageFiles) -> list[Example]:
    examples = []
    for number, case in cases_of(path, ControlledCase, f'a case of {part}, {{"image_path", "caption_options"}},'):
        captions = tuple(case["caption_options"])
        _check(captions, number, path, most=CAPTIONS_IN_ALL)
        words = Path(case["image_path"].replace("\\", "/")).stem.split("_")
        if len(words) < 3:
            raise UserError(
                f"Case {shown(number)} of {path.name} has an image that is not called THING_PREPOSITION_THING."
            )
        things, side = f"{words[0]} {words[-1]}", words[1]
        tags = {
            "tag": side,
            "collapsed_tag": part,
            SET: WHATSUP,
            "image set": things,
            "pair": f"{things} {'sideways' if side in SIDEWAYS else 'otherwise'}",
        }
        picture = images.picture(case["image_path"], f"Case {shown(number)} of {path.name}")
        examples.append(Example(id=f"{path.stem}-{number}", images=(picture,), captions=captions, tags=tags))
    return examples


def _found(path: Path, part: str, images: ImageFiles) -> list[Example]:
    examples, coco = [], part.startswith("COCO")
    for number, case in cases_of(path, list[str | int], f"a case of {part}, [number, true caption, false caption],"):
        captions = _captions(case, number, path)
        name = f"{str(case[0]).zfill(12) if coco else case[0]}.jpg"
        picture = images.picture(name, f"Case {shown(number)} of {path.name}")
        tags = {"tag": _preposition(captions[0]), "collapsed_tag": part, SET: WHATSUP}
        examples.append(Example(id=f"{path.stem}-{number}", images=(picture,), captions=captions, tags=tags))
    return examples


def _captions(case: list[Any], number: str, path: Path) -> tuple[str, ...]:
    captions = tuple(case[1:])
    if len(case) < 3 or not all(isinstance(caption, str) for caption in captions):
        raise UserError(f"Case {shown(number)} of {path.name} is not [number, true caption, false caption].")
    _check(captions, number, path, most=len(captions))
    return captions


def _check(captions: tuple[str, ...], number: str, path: Path, most: int) -> None:
    if not 2 <= len(captions) <= most or any(map(is_blank, captions)):
        raise UserError(f"Case {shown(number)} of {path.name} must have {most} captions, the true one first.")


def _preposition(caption: str) -> str:
    words = re.findall(r"[a-z]+", caption.lower())
    return next((word for word in PREPOSITIONS if word in words), "other")
