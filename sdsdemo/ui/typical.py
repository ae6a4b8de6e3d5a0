"""How large a model's differences between two captions usually are, from stored runs.

The differences of two models have different units. Divided by what is usual for the model, they fit on one scale.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from time import monotonic

import numpy as np

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.errors import UserError
from sdsdemo.types import Scores

log = logging.getLogger(__name__)

LOOKED_AT = 10.0
"""Seconds for which a value is kept: a run may be scored meanwhile, or scored anew."""
FEWEST = 20
"""Pictures that a median is taken over, at least."""


@dataclass(frozen=True, kw_only=True)
class Typical:
    """The median of the absolute difference between two captions' scores."""

    difference: float
    pictures: int
    run: str
    """The name of the stored run."""


Find = Callable[[str], Typical | None]
"""The typical difference of a model, by its card's name; None if unknown."""


def no_typical(model: str) -> Typical | None:
    """Nothing is known about any model."""
    return None


class TypicalDifferences:
    """Typical differences by model, from the runs of a registry, as they were at most `LOOKED_AT` seconds ago."""

    def __init__(self, registry: RunRegistry) -> None:
        self._registry = registry
        self._known: dict[str, tuple[float, Typical | None]] = {}

    def __call__(self, model: str) -> Typical | None:
        """From the first run that scored enough pictures with two captions."""
        at, found = self._known.get(model, (-inf, None))
        if monotonic() - at > LOOKED_AT:
            found = self._found(model)
            self._known[model] = monotonic(), found
        return found

    def _found(self, model: str) -> Typical | None:
        for name in self._registry.names():
            try:
                scores = self._registry.run(name).of(model)
            except UserError as error:
                log.warning("typical differences: %s", error)
                continue
            difference = differences(scores or ())
            if len(difference) >= FEWEST and np.median(difference) > 0:
                return Typical(difference=float(np.median(difference)), pictures=len(difference), run=name)
        return None


def differences(scores: Iterable[Scores]) -> np.ndarray:
    """The finite absolute differences of every picture with two captions."""
    found = [np.abs(one.score_IC[:, 0] - one.score_IC[:, 1]) for one in scores if one.score_IC.shape[1] == 2]
    difference: np.ndarray = np.concatenate([np.zeros(0), *found])
    finite: np.ndarray = difference[np.isfinite(difference)]
    return finite
