"""Scoring with a vision-language model: log-odds of "yes" (`vlm`), for a question or a whole benchmark.

Shape suffixes: I image, C caption.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL.Image import Image, Resampling

from sdsdemo.captions.cleaning import letter
from sdsdemo.errors import UserError
from sdsdemo.models.images import clean, square
from sdsdemo.models.precision import PRECISIONS, exactly
from sdsdemo.models.scorer_base import ScorerBase, check_given
from sdsdemo.models.vlm import VisionLanguageModel
from sdsdemo.types import Budget, Concern, Example, Region, Scores

TOO_LONG = (
    "With this picture, caption {letter} comes to {tokens:,} tokens, and this model reads {most:,}: shorten the "
    "caption."
)


class VlmScorer(ScorerBase[VisionLanguageModel]):
    """A `types.Scorer`: log-odds of "yes"."""

    def concerns(self, images: Sequence[Image], captions: Sequence[str], region: Region = "crop") -> list[Concern]:
        """What `concerns_of` finds, and a question that is longer than the model reads."""
        found = super().concerns(images, captions, region)
        return found + self._too_long([in_region(clean(image), region) for image in images], captions)

    def _too_long(self, pictures: Sequence[Image], captions: Sequence[str]) -> list[Concern]:
        """Captions that do not fit beside the largest of these pictures: a question that is cut asks nothing."""
        most, sizes = self.model.context_length, {picture.size for picture in pictures}
        length_C = [max((self.model.length(size, caption) for size in sizes), default=0) for caption in captions]
        texts = [
            TOO_LONG.format(letter=letter(c), tokens=length, most=most)
            for c, length in enumerate(length_C)
            if length > most
        ]
        return [Concern(kind="truncated", text=text, blocking=True) for text in texts]

    def score(self, images: Sequence[Image], captions: Sequence[str], budget: Budget) -> Scores:
        """Scores of every image against every caption; of the budget only the region matters. Raises `ValueError`,
        and `UserError` for a caption that is too long beside its picture."""
        check_given(images, captions)
        start = time.perf_counter()
        pictures = [in_region(clean(image), budget.region) for image in images]
        for concern in self._too_long(pictures, captions):
            raise UserError(concern.text)
        with exactly(self.model.device):
            score_IC = np.stack([self.model.log_odds(picture, captions) for picture in pictures])
        return Scores(
            kind="log-odds",
            score_IC=score_IC,
            seconds=time.perf_counter() - start,
            precision=PRECISIONS[self.model.module.dtype],
        )

    def score_examples(self, examples: Iterable[Example], budget: Budget) -> Iterator[Scores]:
        """Scores example by example; a picture is opened when it is its turn."""
        for example in examples:
            yield self.score([picture.open() for picture in example.images], example.captions, budget)


def in_region(image: Image, region: Region) -> Image:
    """A cleaned picture as the processor is handed it: whole for `own`, else a square of about its own pixels."""
    if region == "own":
        return image
    side = max(image.size)
    return image.resize((side, side), Resampling.BICUBIC) if region == "squash" else square(image, region)
