"""The events of a fine-tuning run. Plain values."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sdsdemo.core.intervals import Proportion


@dataclass(frozen=True, kw_only=True)
class Working:
    """Work other than steps: preparation or evaluation."""

    text: str
    done: int = 0
    total: int = 0
    """0 if unknown."""


@dataclass(frozen=True, kw_only=True)
class DeviceChosen:
    """The device was chosen."""

    device: str


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A note to keep on display."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimiser step was taken."""

    step: int
    """Steps done so far."""
    losses: Mapping[str, float]
    gradient_norm: float
    seconds: float
    """Wall-clock time since this process started or resumed the run."""


def smoothed(past: float, loss: float) -> float:
    """The smoothed loss after one more step: 0.9 of `past`, the smoothed loss before it, and 0.1 of this step's."""
    return 0.9 * past + 0.1 * loss


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Accuracy on held-out data at a step."""

    step: int
    metric: str
    share: Proportion
    pictures: str = ""
    """Bits of the tracked pairs of pairs, two an example: is the picture's own caption preferred? Empty for others."""


@dataclass(frozen=True, kw_only=True)
class WeightsSaved:
    """The weights were saved."""

    step: int


@dataclass(frozen=True, kw_only=True)
class Done:
    """The run is over: finished, stopped or failed."""

    state: str
    record: Mapping[str, Any]
    reason: str = ""
    """What to do, if it failed."""


Event = DeviceChosen | Working | Notice | Evaluated | Step | WeightsSaved | Done

_T = TypeVar("_T")


def result_of(phase: Generator[Event, None, _T], hear: Callable[[Event], object] = lambda event: None) -> _T:
    """The result of a run's phase. hear: called with each of its events."""
    while True:
        try:
            hear(next(phase))
        except StopIteration as end:
            result: _T = end.value
            return result
