"""Where scores are computed: in the precision of the model, whatever the caller of a score has switched on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """No gradient, and no autocast of the caller's: within it a score would move, and be stored as if it were exact."""
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        yield
