"""What every scorer has in common: its card, its model, what it says of inputs and what it sees of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from sdsdemo.models.domain import Domain
from sdsdemo.models.images import share_of
from sdsdemo.models.tokenizer_checks import Reader, concerns_of
from sdsdemo.types import Card, Concern, Region

if TYPE_CHECKING:
    from PIL.Image import Image

ModelT = TypeVar("ModelT", bound=Reader)


class ScorerBase(Generic[ModelT]):
    """A `types.Scorer` without its scores."""

    def __init__(self, card: Card, model: ModelT, domain: Domain | None = None) -> None:
        """domain: what a small model knows; None for a model that is taken to know everything."""
        self.card = card
        self.model = model
        self.domain = domain

    def concerns(self, images: Sequence[Image], captions: Sequence[str], region: Region = "crop") -> list[Concern]:
        """What `tokenizer_checks.concerns_of` finds."""
        return concerns_of(self.model, self.domain, images, captions, region)

    def share_seen(self, size: tuple[int, int], region: Region) -> float:
        """The share that the model sees of a picture of that size."""
        return share_of(size, self.model.region_of(region))


def check_given(images: Sequence[Image], captions: Sequence[str]) -> None:
    """Raises `ValueError` where there is nothing to score."""
    if not images or not captions:
        raise ValueError(f"images and captions must not be empty; there were {len(images)} and {len(captions)}")
