"""Whether a benchmark suits a model: whether it knows the pictures, and reads every caption as it is meant."""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image

from sdsdemo.errors import UserError
from sdsdemo.types import Example, Picture, Region, Scorer

CHECKED_PICTURES = 4
"""Examples, spread over the benchmark, whose pictures are looked at before a model is trusted with it."""
UNREAD = {"truncated", "equal-captions", "unknown-words"}
"""Kinds of `Concern` about captions that leave a score, which is kept with them."""


def check_fit(scorer: Scorer, examples: Sequence[Example], region: Region) -> dict[str, tuple[str, ...]]:
    """By example, how its captions are not read as meant, where they are not: cut, equal, or with unknown words.

    All captions are looked at, and the pictures of 4 examples, spread over all. Raises `UserError` for an example that
    means nothing to the model: of words or pictures that a small one does not know, or with a tokenizer's own marks.
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
                f"Example {example.id} is not for {scorer.card.title}: {blocking[0]} Name another model with --model."
            )
        kinds = tuple(sorted({concern.kind for concern in concerns} & UNREAD))
        unread |= {example.id: kinds} if kinds else {}
    return unread


def _opened(picture: Picture) -> Image | None:
    """None where it cannot be opened, which is said where it is scored."""
    try:
        return picture.open()
    except UserError:
        return None


def _spread(examples: Sequence[Example], count: int) -> list[Example]:
    places = sorted({int(k * len(examples) / count) for k in range(count)})
    return [examples[place] for place in places]
