"""A step's pairs as tensors: for CLIP's towers, for the teacher, and the teacher's preferences. Trains nothing.

Shape suffixes as in `objectives`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdsdemo.data.captions.items import let_go
from sdsdemo.finetuning.objectives import Batch
from sdsdemo.finetuning.recipe import WITH_TWINS, Recipe
from sdsdemo.finetuning.teacher_preferences import pair_key
from sdsdemo.finetuning.training_pairs import Pair, Source
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.precision import as_stored

HELD_BYTES = 400_000_000
"""Cached CLIP inputs: all of Mini's, part of a large set's."""

KEPT_CAPTIONS = 100_000
"""Captions with cached tokens; beyond it, the oldest are dropped."""


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
        """teacher: if queried in every step. preference: p by `pair_key`, for `preference`."""
        self.size = recipe.batch
        self._recipe, self._source, self._base, self._teacher = recipe, source, base, teacher
        self._preference = preference or {}
        self._drawn: tuple[int, list[Pair]] = (-1, [])
        self._controlled: tuple[int, list[Pair]] = (-1, [])
        """The step of the last controls, and its pairs, without their images."""
        self._pixels: dict[tuple[str, str, str], Tensor] = {}
        self._held = 0
        self._token_L: dict[str, Tensor] = {}
        """By caption."""
        self._known: dict[str, Tensor] = {}
        """Features of a frozen tower: of images by `_image_key`, of captions by their words."""

    @torch.no_grad()
    def encode_frozen(self, step: int) -> dict[str, Tensor]:
        """A frozen tower's features for a step that are not cached yet, on the CPU: pass them to `keep`.

        They depend on the steps requested before, so that a resumed run gets the same bits. Each is a tensor of its
        own: a row of a larger one takes all of it along when it is pickled for other processes.
        """
        pairs = self._pairs(step)
        found: dict[str, Tensor] = {}
        if self._recipe.towers == "text":
            todo = {_image_key(pair): pair for pair in pairs if _image_key(pair) not in self._known}
            if todo:
                images = [pair.picture.open() for pair in todo.values()]
                with as_stored(self._base.device):
                    found |= _each(todo, self._base.encode_images(images))
        if self._recipe.towers == "image":
            said = dict.fromkeys(text for pair in pairs for text in (pair.caption, pair.twin) if text)
            new = [text for text in said if text not in self._known]
            if new:
                with as_stored(self._base.device):
                    found |= _each(new, self._base.encode_texts(new))
        return found

    def keep(self, features: Mapping[str, Tensor]) -> None:
        """Caches features, so that steps need not compute them."""
        self._known.update(features)

    def rows(self, step: int, rows: slice) -> Batch:
        """These rows of a step. Raises `UserError` if too many images are unreadable."""
        pairs = self._pairs(step)
        own, taught, device = pairs[rows], self._taught_about(pairs, rows, step), self._base.device
        captions = [pair.caption for pair in own]
        twins = self._twins(pairs, rows) if self._recipe.objective in WITH_TWINS else None
        image_RD = self._features([_image_key(pair) for pair in own])
        text_RD, twin_RD = self._features(captions), None if twins is None else self._features(twins)
        return Batch(
            pixels_R=self.inputs(own) if image_RD is None else None,
            image_RD=image_RD,
            token_RL=self._tokens(captions) if text_RD is None else None,
            text_RD=text_RD,
            twin_token_RL=self._tokens(twins) if twins is not None and twin_RD is None else None,
            twin_RD=twin_RD,
            **self._conditions(taught),
            latent_R=self.latents(taught) if self._recipe.needs_latents else None,
            preference_R=self._preferences(own).to(device),
            **self._equal(pairs),
        )

    def control_batch(self, step: int, rows: slice) -> Batch:
        """Like `rows`, with the true latents and captions: for the controls of L_SDS."""
        if self._controlled[0] != step:  # a stream would be read from the start again, at each of the controls
            kept = [replace(pair, picture=let_go(pair.picture)) for pair in self._pairs(step)]
            self._controlled = step, kept
        pairs = self._controlled[1][rows]
        assert self._teacher is not None
        conditions = self._encoded([(pair.truth, pair.untruth) for pair in pairs])
        return Batch(pixels_R=self.inputs(pairs), latent_R=self.latents(pairs), **conditions)

    def latents(self, pairs: Sequence[Pair]) -> Tensor:
        """The true latents of the images, scaled for the denoiser."""
        assert self._teacher is not None
        with torch.no_grad(), as_stored(self._teacher.device):
            return self._teacher.encode_images([pair.picture.open() for pair in pairs])

    def _equal(self, pairs: list[Pair]) -> dict[str, Tensor]:
        """caption_B, and twin_B if there are twins: equal numbers for equal tokens. Empty unless the source says that
        equal captions are right."""
        if not self._source.equal_captions_are_right:
            return {}
        said = {"caption_B": [pair.caption for pair in pairs]}
        if self._recipe.objective in WITH_TWINS:
            said["twin_B"] = self._twins(pairs, slice(None))
        numbers: dict[bytes, int] = {}
        found = {}
        for name, captions in said.items():
            tokens = self._tokens(captions).cpu().numpy()
            found[name] = torch.tensor([numbers.setdefault(row.tobytes(), len(numbers)) for row in tokens])
        return {name: number_B.to(self._base.device) for name, number_B in found.items()}

    def _features(self, keys: Sequence[str]) -> Tensor | None:
        """Cached features_RD; None if any is missing, as for a trained tower."""
        if not all(key in self._known for key in keys):
            return None
        return torch.stack([self._known[key] for key in keys]).to(self._base.device)

    def inputs(self, pairs: Sequence[Pair]) -> Tensor:
        """pixels_R, the images as CLIP takes them."""
        return torch.stack([self._input(pair) for pair in pairs]).to(self._base.device)

    def _tokens(self, captions: Sequence[str]) -> Tensor:
        """token_RL, cached: in a small tower, tokenizing costs more than encoding."""
        new = list(dict.fromkeys(caption for caption in captions if caption not in self._token_L))
        if new:
            if len(self._token_L) > KEPT_CAPTIONS:
                self._token_L = {caption: self._token_L[caption] for caption in captions if caption in self._token_L}
            self._token_L.update(zip(new, self._base.tokenize(new), strict=True))
        return torch.stack([self._token_L[caption] for caption in captions]).to(self._base.device)

    def _input(self, pair: Pair) -> Tensor:
        """An image as CLIP input, cached for the next epoch while there is room."""
        key = pair_key(pair)
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

    def _twins(self, pairs: Sequence[Pair], rows: slice) -> list[str]:
        """The swapped captions; for a caption without one, that of the next image in the batch."""
        return [pairs[row].twin or pairs[(row + 1) % len(pairs)].caption for row in range(len(pairs))[rows]]

    def _taught_about(self, pairs: Sequence[Pair], rows: slice, step: int) -> list[Pair]:
        """The pairs whose captions and latents these rows are taught with: their own; in the shuffled control, others.

        In that control each row has another one's, by a turn of the batch that is drawn for the step.
        """
        turn = 0
        if self._recipe.shuffled:
            turn = int(np.random.default_rng((self._recipe.seed, step, 1)).integers(1, len(pairs)))
        return [pairs[(row + turn) % len(pairs)] for row in range(len(pairs))[rows]]

    def _conditions(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """The captions encoded for the teacher, and their twins; nothing without a teacher."""
        return {} if self._teacher is None else self._encoded([(pair.caption, pair.twin) for pair in pairs])

    @torch.no_grad()
    def _encoded(self, said: Sequence[tuple[str, str | None]]) -> dict[str, Any]:
        """condition_R of captions; twin_condition_R of their twins, or of themselves, if L_SDS contrasts them."""
        assert self._teacher is not None
        with as_stored(self._teacher.device):
            found = {"condition_R": self._teacher.encode_prompts([caption for caption, _ in said])}
            if self._recipe.contrasts_swaps:
                found["twin_condition_R"] = self._teacher.encode_prompts([twin or caption for caption, twin in said])
        return found

    def _preferences(self, pairs: Sequence[Pair]) -> Tensor:
        """p of each pair: 1 for `labels`, NaN without a twin."""
        nan = float("nan")
        if self._recipe.objective == "labels":
            found = [nan if pair.twin is None else 1.0 for pair in pairs]
        else:
            found = [nan if pair.twin is None else self._preference.get(pair_key(pair), nan) for pair in pairs]
        return torch.tensor(found, dtype=torch.float32)


def _each(keys: Iterable[str], features_ND: Tensor) -> dict[str, Tensor]:
    """Each key's row, on the CPU, with memory of its own."""
    return {key: row_D.clone() for key, row_D in zip(keys, features_ND.cpu(), strict=True)}


def _image_key(pair: Pair) -> str:
    """A key unique among images and captions."""
    return f"\0{pair.picture.key or pair.picture.name}"
