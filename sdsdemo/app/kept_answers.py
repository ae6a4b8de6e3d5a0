"""Answers that many visitors ask for alike: a model gives one to the first, and the others get the same.

An answer is found under

    the model as it is loaded     loaded anew, it answers anew, whatever has become of its files
    the digest of the picture     so that only someone with the same pixels finds it
    captions, budget, and what is shown of the denoising

It stays in memory, within a bound of bytes, the least recently asked for forgotten first. What failed is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from weakref import ref

import numpy as np

from sdsdemo.runtime.computed_once import ComputedOnce
from sdsdemo.types import Answer, Budget, Card, Scorer

MOST = 24_000_000
"""Bytes that all answers may take: about twenty of Mini's three models, with all pictures of the denoising."""
WORDS = 4_096
"""Bytes that an answer counts for besides its arrays."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an answer depends on besides the model."""

    digest: str
    """Of the picture's pixels."""
    captions: tuple[str, ...]
    budget: Budget
    show: float | None


class KeptAnswers:
    """Answers by model and question. Safe to share between threads."""

    def __init__(self, loaded: Callable[[Card], Scorer | None], most: int = MOST) -> None:
        """loaded: gives the model of a card, if it is loaded. most: bytes that all answers may take."""
        self._loaded = loaded
        self._answers: ComputedOnce[Answer] = ComputedOnce(most, bytes_of)

    def find(self, card: Card, asked: Asked) -> Answer | None:
        """A model's answer, if it gave one and is still loaded. Waits for nobody."""
        scorer = self._loaded(card)
        return None if scorer is None else self._answers.find((ref(scorer), asked))

    def get(self, scorer: Scorer, asked: Asked, make: Callable[[], Answer]) -> Answer:
        """A model's answer, made if it is not here. Raises what `make` raises."""
        return self._answers.get((ref(scorer), asked), make)


def bytes_of(answer: Answer) -> int:
    """What an answer takes, roughly: its arrays, and a few kilobytes."""
    return WORDS + _of_arrays(answer)


def _of_arrays(value: object) -> int:
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if is_dataclass(value):
        return sum(_of_arrays(getattr(value, field.name)) for field in fields(value))
    return 0
