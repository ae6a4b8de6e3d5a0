"""Whether a benchmark suits a model: does it know the pictures, and read every caption as intended?"""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image

from sdsdemo.errors import UserError
from sdsdemo.types import Example, Picture, Region, Scorer

CHECKED_PICTURES = 4
"""Examples, spread over the benchmark, whose pictures are checked first."""
UNREAD = {"truncated", "equal-captions", "unknown-words"}
"""Kinds of `Concern` about captions that leave a score, which is kept with them."""


def check_fit(scorer: Scorer, examples: Sequence[Example], region: Region) -> dict[str, tuple[str, ...]]:
    """By example, how its captions are misread, if they are: cut, equal, or with unknown words.

    Checks all captions, and the pictures of 4 examples spread over the benchmark. Raises `UserError` for an example
    the model cannot score: words or pictures unknown to a small model, or a tokenizer's special tokens.
    """
    looked = {example.id for example in _spread(examples, CHECKED_PICTURES)}
    unread: dict[str, tuple[str, ...]] = {}
    for example in examples:
        opened = [_opened(picture) for picture in example.images] if example.id in looked else []
        pictures = [image for image in opened if image is not None]
        concerns = scorer.concerns(pictures, example.captions, region)
        blocking = [concern.text for concern in concerns if concern.blocking]
        if blocking:
            raise UserError(
                f"Example {example.id} does not suit {scorer.card.title}: {blocking[0]} "
                "Name another model with --model."
            )
        kinds = tuple(sorted({concern.kind for concern in concerns} & UNREAD))
        unread |= {example.id: kinds} if kinds else {}
    return unread


def _opened(picture: Picture) -> Image | None:
    """None if it cannot be opened, which scoring reports."""
    try:
        return picture.open()
    except UserError:
        return None


def _spread(examples: Sequence[Example], count: int) -> list[Example]:
    places = sorted({int(k * len(examples) / count) for k in range(count)})
    return [examples[place] for place in places]
