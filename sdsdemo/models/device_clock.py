"""A clock for work on any device. Measures nothing itself.

A call on a GPU returns when it is queued: a clock that is read then bills the work to whatever waits for the GPU next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Clock = Callable[[], float]
"""Seconds since some moment."""


def clock_of(device: torch.device, clock: Clock = time.perf_counter) -> Clock:
    """A clock that first waits until the device has done all that was asked of it. On a CPU it is `clock` itself."""
    if device.type == "cpu":
        return clock
    import torch

    settle: Callable[[], None] = getattr(torch, device.type).synchronize

    def settled() -> float:
        settle()
        return clock()

    return settled
