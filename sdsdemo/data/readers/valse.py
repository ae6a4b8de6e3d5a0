"""VALSE: a caption and a foil that differs in one linguistic phenomenon (Parcalabescu et al. 2022, ACL).

valse:PATH        data/*.json or *.json, one file per piece (github.com/Heidelberg-NLP/VALSE): {key: {"image_file",
                  "caption", "foil", "mturk": {"caption": votes, ...}, ...}}; images of Visual7W, COCO, SWiG and VisDial
                  anywhere below PATH/images or PATH

Like its authors, we score only the valid cases: those where two of three annotators chose the caption over the foil.
"""

from __future__ import annotations

from pathlib import Path

from typing_extensions import TypedDict

from sdsdemo.data.files.folders import files_in
from sdsdemo.data.files.image_files import ImageFiles, Note, silent
from sdsdemo.data.files.json_cases import cases_of, texts
from sdsdemo.data.files.quoting import shown
from sdsdemo.data.published.sets import SET, VALSE
from sdsdemo.errors import UserError
from sdsdemo.types import Example

VALID_VOTES = 2
PHENOMENA = {"counting": "counting", "action": "actions", "actant": "actions", "coreference": "coreference"}
"""First word of a piece's name -> its phenomenon, where several pieces share one."""


class Votes(TypedDict):
    """How many annotators chose the caption over the foil."""

    caption: int


class FoilCase(TypedDict):
    """A case of VALSE; it also has other keys."""

    image_file: str
    caption: str
    foil: str
    mturk: Votes


def read_valse(folder: Path, note: Note = silent) -> list[Example]:
    """Every valid case of every piece; `tag` is the piece, `collapsed_tag` the phenomenon. Raises `UserError`."""
    files = files_in(folder / "data", "*.json") or files_in(folder, "*.json")
    if not files:
        raise UserError(f"There is no .json file of VALSE in '{folder.name}' or its folder data.")
    images = ImageFiles([home for home in (folder / "images", folder / "data" / "images", folder) if home.is_dir()])
    examples, invalid = [], {}
    for path in files:
        cases = cases_of(path, FoilCase, 'a case of VALSE, {"image_file", "caption", "foil", "mturk"},')
        invalid[path.stem] = sum(case["mturk"]["caption"] < VALID_VOTES for _, case in cases)
        for number, case in cases:
            captions = texts(case, ("caption", "foil"), path, number)
            if case["mturk"]["caption"] >= VALID_VOTES:
                picture = images.picture(case["image_file"], f"Case {shown(number)} of {path.name}")
                tags = {"tag": path.stem, "collapsed_tag": _phenomenon(path.stem), SET: VALSE}
                examples.append(Example(id=f"{path.stem}-{number}", images=(picture,), captions=captions, tags=tags))
    if not examples:
        raise UserError("None of these VALSE cases is valid: copy its files again.")
    if any(invalid.values()):
        counts = ", ".join(f"{piece} {n}" for piece, n in invalid.items() if n)
        note(
            f"{sum(invalid.values()):,} cases that fewer than {VALID_VOTES} annotators found valid are left out, as by "
            f"its authors: {counts}."
        )
    images.note_places(note)
    return examples


def _phenomenon(piece: str) -> str:
    return PHENOMENA.get(piece.partition("-")[0], piece)
