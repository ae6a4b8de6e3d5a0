"""What a small model can know: its words and the look of its pictures, from `knows.json` beside its weights.

A model with such a file speaks up about an unknown word or a foreign picture instead of giving a number that means
nothing. A model without one is taken to know everything. Looks at pixels and words only, never at a model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdsdemo.core.wording import and_list
from sdsdemo.errors import UserError
from sdsdemo.models.configs import DomainFile, read_config
from sdsdemo.types import Concern

FILE = "knows.json"
SIDE = 64
"""Pictures are looked at in this many pixels a side."""
FOREIGN = (
    "The Mini models know only drawings of coloured shapes on a pale background, and this picture is not one: "
    "their scores would mean nothing."
)
UNKNOWN = "{words} not {noun} that the Mini models know. They know {count} words, among them {some}."
LONGEST_SHOWN = 30
"""Characters of an unknown word that a sentence repeats."""
SOME = ("star", "heart", "red", "blue", "big", "left", "above", "inside")


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the pictures that a model knows are told from others; distances are the largest of the three channels'."""

    backgrounds: tuple[tuple[int, int, int], ...]
    colours: tuple[tuple[int, int, int], ...]
    background_within: float
    """The commonest border colour is at most this far from one of the backgrounds."""
    border_share: float
    """At least this share of the border has the background's colour."""
    colour_within: float
    """A pixel is of a known colour, or of a blend of it with the background, within this distance."""
    strange_share: float
    """At most this share of the pixels may be of any other colour."""
    solid_share: float
    """At least this share of what is not background has a pure colour: areas, not lines."""
    least_area: float
    """Every object covers at least this share of the picture."""
    most_objects: int
    covered: tuple[float, float]
    """Between these shares of the picture are not background."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The words and the pictures that a model was trained on."""

    words: frozenset[str]
    look: Look

    @classmethod
    def read(cls, folder: Path) -> Domain | None:
        """The domain of the model in that folder; None where no `knows.json` bounds it."""
        path = folder / FILE
        if not path.is_file():
            return None
        known = read_config(path, DomainFile, folder.name)
        look: dict[str, Any] = {field.name: _tuples(known["look"][field.name]) for field in fields(Look)}
        if {len(colour) for colour in (*look["backgrounds"], *look["colours"])} != {3} or len(look["covered"]) != 2:
            raise UserError(f"The {FILE} of {folder.name!r} has a colour without three numbers: save the model again.")
        return cls(words=frozenset(known["words"]), look=Look(**look))

    def concerns(self, images: Sequence[Image.Image], captions: Sequence[str]) -> list[Concern]:
        """Unknown words and foreign pictures; both block, since a number would mean nothing."""
        found = []
        unknown = self.unknown_words(captions)
        if unknown:
            some = ", ".join(word for word in SOME if word in self.words)
            noun, verb = ("a word", "is") if len(unknown) == 1 else ("words", "are")
            quotes = [f"'{shorten(word)}'" for word in unknown[:4]]
            words = f"{and_list(quotes)} {verb}"
            text = UNKNOWN.format(words=words, noun=noun, count=len(self.words), some=some)
            found.append(Concern(kind="unknown-words", text=text, blocking=True))
        if any(is_foreign(image, self.look) for image in images):
            found.append(Concern(kind="foreign-picture", text=FOREIGN, blocking=True))
        return found

    def unknown_words(self, captions: Sequence[str]) -> list[str]:
        """Words of the captions outside the vocabulary, each once, in order; punctuation and case do not count."""
        words = [word for caption in captions for word in re.findall(r"\w+(?:'\w+)*", caption.lower())]
        return [word for word in dict.fromkeys(words) if word not in self.words]


def shorten(word: str) -> str:
    """A word as a sentence can hold it."""
    return word if len(word) <= LONGEST_SHOWN else word[: LONGEST_SHOWN - 1] + "…"


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def is_foreign(image: Image.Image, look: Look) -> bool:
    """Whether a picture is of another kind than those that `look` describes."""
    pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
    background = _background(pixels, look)
    if background is None:
        return True
    object_mask = _far(pixels, background) > look.background_within
    covered = object_mask.mean()
    if not look.covered[0] <= covered <= look.covered[1]:
        return True
    pure, blended = _distances(pixels[object_mask], background, look)
    if (blended > look.colour_within).mean() * covered > look.strange_share:
        return True
    if (pure <= look.colour_within).mean() < look.solid_share:
        return True
    areas = _areas(object_mask)
    return len(areas) > look.most_objects or min(areas) < look.least_area * SIDE * SIDE


def _background(pixels: np.ndarray, look: Look) -> np.ndarray | None:
    """The known background that the border shows, as this picture has it; None where it shows none."""
    border = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3), *pixels[2:-2, [0, 1, -2, -1]]])
    shown: np.ndarray = np.median(border, axis=0)
    near = min(np.abs(shown - known).max() for known in np.array(look.backgrounds, dtype=np.float32))
    same = (_far(border, shown) <= look.background_within).mean()
    return shown if near <= look.background_within and same >= look.border_share else None


def _far(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    distance: np.ndarray = np.abs(pixels - colour).max(axis=-1)
    return distance


def _distances(pixels: np.ndarray, background: np.ndarray, look: Look) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel: to the nearest known colour, and to the nearest blend of two of the colours and the background.

    Most pixels have a known colour, and a blend is no farther than its ends: lines are measured for the rest alone.
    """
    colours = np.array(look.colours, dtype=np.float32)
    pure = _far(pixels[:, None], colours).min(axis=1)
    ends = np.stack([*colours, background])
    first, second = np.triu_indices(len(ends), 1)
    blended, rest = pure.copy(), pure > look.colour_within
    blended[rest] = _far_from_lines(pixels[rest], ends[first], ends[second]).min(axis=1)
    return pure, blended


def _far_from_lines(pixels: np.ndarray, start_L: np.ndarray, end_L: np.ndarray) -> np.ndarray:
    """Of each pixel to each line, [P, L]."""
    along_L = end_L - start_L
    from_start = pixels[:, None] - start_L
    share = np.clip((from_start * along_L).sum(axis=-1) / (along_L**2).sum(axis=-1), 0, 1)
    distance: np.ndarray = np.abs(from_start - share[..., None] * along_L).max(axis=-1)
    return distance


def _areas(mask: np.ndarray) -> list[int]:
    """Pixels of each connected region, diagonals included."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    areas: list[int] = np.bincount(labels.ravel())[1:].tolist()
    return areas
