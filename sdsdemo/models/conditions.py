"""What a denoiser is given for each prompt, encoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch

from sdsdemo.models.diffusion import LatentDiffusion

Row = tuple[int, ...]
"""The tokens of a prompt."""
REMEMBERED = 256
"""Prompts whose condition is kept while a benchmark is scored: 61 MB for Stable Diffusion 1."""
MOST_BYTES = 1_000_000_000
"""What all of them may take: 63 prompts of FLUX.2 klein in single precision, which would be 4 GB for 256."""


class Conditions:
    """What the denoiser is given for each prompt, encoded once; those used longest ago are forgotten."""

    def __init__(self, model: LatentDiffusion) -> None:
        self._model = model
        self._known: OrderedDict[Row, Any] = OrderedDict()

    def of(self, prompt_of: Mapping[Row, str]) -> Any:
        """condition_U of the prompts, in their order. What is not known yet is encoded at once."""
        missing = [row for row in prompt_of if row not in self._known]
        if missing:
            encoded = self._model.encode_prompts([prompt_of[row] for row in missing])
            for u, row in enumerate(missing):
                self._known[row] = self._model.take(encoded, torch.tensor([u]))
        for row in prompt_of:
            self._known.move_to_end(row)
        found = self._model.join([self._known[row] for row in prompt_of])
        kept = min(REMEMBERED, MOST_BYTES // max(1, _bytes(found) // max(1, len(prompt_of))))
        while len(self._known) > kept:
            self._known.popitem(last=False)
        return found


def _bytes(condition: Any) -> int:
    """What a condition takes in memory."""
    if isinstance(condition, tuple):
        return sum(map(_bytes, condition))
    return int(condition.nbytes)
