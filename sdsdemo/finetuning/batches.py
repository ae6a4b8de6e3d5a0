"""A step's pairs as tensors: for CLIP's towers, for the teacher, and the teacher's preferences. Trains nothing.

Shape suffixes as in `objectives`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sdsdemo.finetuning.pairs import Pair, Source
from sdsdemo.finetuning.preferences import told_apart
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.objectives import Batch
from sdsdemo.recipes import WITH_TWINS, Recipe

HELD_BYTES = 400_000_000
"""Inputs of CLIP that are kept: all of Mini's, some of a large set's."""


class PairBatches:
    """`objectives.Batches` of a recipe."""

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        base: ClipModel,
        teacher: LatentDiffusion | None = None,
        preference: Mapping[tuple[str, str, str], float] | None = None,
    ) -> None:
        """teacher: where it is asked in every step. preference: p by `told_apart`, for `preference`."""
        self.size = recipe.batch
        self._recipe, self._source, self._base, self._teacher = recipe, source, base, teacher
        self._preference = preference or {}
        self._drawn: tuple[int, list[Pair]] = (-1, [])
        self._pixels: dict[tuple[str, str, str], Tensor] = {}
        self._held = 0

    def rows(self, step: int, rows: slice) -> Batch:
        """These rows of a step. Raises `UserError` where too many images are bad."""
        pairs = self._pairs(step)
        own, device = pairs[rows], self._base.device
        return Batch(
            pixels_R=torch.stack([self._input(pair) for pair in own]).to(device),
            token_RL=self._base.tokenize([pair.caption for pair in own]).to(device),
            twin_token_RL=self._twins(pairs, rows) if self._recipe.objective in WITH_TWINS else None,
            condition_R=self._conditions(pairs, rows, step) if self._teacher is not None else None,
            latent_R=self.latents(own) if self._recipe.objective == "features" else None,
            preference_R=self._preferences(own).to(device),
        )

    def control_batch(self, step: int, rows: slice) -> Batch:
        """As `rows`, with the true latents and the right captions: for the controls of L_SDS."""
        pairs = self._pairs(step)[rows]
        assert self._teacher is not None
        with torch.no_grad():
            condition_R = self._teacher.encode_prompts([pair.caption for pair in pairs])
        found = self.rows(step, rows)
        return Batch(
            pixels_R=found.pixels_R, token_RL=found.token_RL, condition_R=condition_R, latent_R=self.latents(pairs)
        )

    def latents(self, pairs: Sequence[Pair]) -> Tensor:
        """The true latents of the images, as the denoiser meets them."""
        assert self._teacher is not None
        with torch.no_grad():
            return self._teacher.encode_images([pair.picture.open() for pair in pairs])

    def _input(self, pair: Pair) -> Tensor:
        """An image as CLIP takes it; kept for the next epoch while there is room."""
        key = told_apart(pair)
        found = self._pixels.get(key)
        if found is None:
            found = self._base.preprocess(pair.picture.open())
            if self._held + found.nbytes <= HELD_BYTES:
                self._held += found.nbytes
                self._pixels[key] = found
        return found

    def _pairs(self, step: int) -> list[Pair]:
        if self._drawn[0] != step:
            self._drawn = step, self._source.draw(step, self.size)
        return self._drawn[1]

    def _twins(self, pairs: Sequence[Pair], rows: slice) -> Tensor:
        """The swapped captions; for a caption without one, that of the next image in the batch."""
        said = []
        for row in range(len(pairs))[rows]:
            after = pairs[(row + 1) % len(pairs)].caption
            said.append(pairs[row].twin or after)
        return self._base.tokenize(said).to(self._base.device)

    def _conditions(self, pairs: Sequence[Pair], rows: slice, step: int) -> Tensor:
        """The captions as the teacher reads them; of other images where they are shuffled as a control."""
        assert self._teacher is not None
        turn = 0
        if self._recipe.shuffled:
            turn = int(np.random.default_rng((self._recipe.seed, step, 1)).integers(1, len(pairs)))
        captions = [pairs[(row + turn) % len(pairs)].caption for row in range(len(pairs))[rows]]
        with torch.no_grad():
            return self._teacher.encode_prompts(captions)

    def _preferences(self, pairs: Sequence[Pair]) -> Tensor:
        """p of each; of `labels` it is 1; NaN without a twin."""
        told = self._recipe.objective == "labels"
        found = [
            float("nan") if pair.twin is None else 1.0 if told else self._preference.get(told_apart(pair), float("nan"))
            for pair in pairs
        ]
        return torch.tensor(found, dtype=torch.float32)
