"""What a fine-tuning run tells while it goes on, beside the steps of `training`. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdsdemo.core.metrics import Proportion
from sdsdemo.finetuning.loop import Step


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """Something is made ready."""

    text: str
    done: int = 0
    total: int = 0
    """0 where it cannot be counted."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where it is computed."""

    device: str


@dataclass(frozen=True, kw_only=True)
class Told:
    """A sentence that should stay."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Looked:
    """Held-out accuracy at a step."""

    step: int
    metric: str
    share: Proportion


@dataclass(frozen=True, kw_only=True)
class Written:
    """The weights are in their file."""

    step: int


@dataclass(frozen=True, kw_only=True)
class Done:
    """The run is over: finished, stopped or failed."""

    state: str
    record: Mapping[str, Any]
    reason: str = ""
    """What to do, where it failed."""


Event = Placed | Preparing | Told | Looked | Step | Written | Done
