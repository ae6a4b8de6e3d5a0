"""The blind row: the same captions with unrelated images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sdsdemo.errors import UserError
from sdsdemo.types import Example, Picture, Scores

UNRELATED, UNRELATED_SEED = 32, 20_003
"""Images that a caption is scored with for the blind row, and the seed that chooses them."""


def unrelated(examples: Sequence[Example]) -> list[Example]:
    """The same examples, each with up to 32 unrelated images in place of its own.

    A fixed seed chooses 33 images, and an example skips its own; fewer if there are fewer.
    """
    pictures = list(_pictures(examples).items())
    chosen = np.random.default_rng(UNRELATED_SEED).permutation(len(pictures))[: UNRELATED + 1]
    pool = [pictures[number] for number in sorted(chosen)]
    return [_with_pictures(example, pool) for example in examples]


def has_unrelated(examples: Sequence[Example]) -> bool:
    """Whether there are two different images, so that each example has one that is not its own."""
    return len(_pictures(examples)) > 1


def blinded(scores: Scores) -> Scores:
    """The mean over the images: score_IC [1, C], without the losses behind it."""
    return Scores(
        kind=scores.kind,
        score_IC=scores.score_IC.mean(axis=0, keepdims=True),
        seconds=scores.seconds,
        precision=scores.precision,
    )


def _pictures(examples: Sequence[Example]) -> dict[str, Picture]:
    return {p.key or f"{e.id}/{p.name}": p for e in examples for p in e.images}


def _with_pictures(example: Example, pool: Sequence[tuple[str, Picture]]) -> Example:
    own = {p.key or f"{example.id}/{p.name}" for p in example.images}
    others = tuple(picture for key, picture in pool if key not in own)[:UNRELATED]
    if not others:
        raise UserError("The blind row needs at least two different images: score more examples.")
    return Example(id=example.id, images=others, captions=example.captions, tags=example.tags)
