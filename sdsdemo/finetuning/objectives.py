"""The objectives for fine-tuning CLIP. Knows no data set, no file and no optimiser.

    clip         L = L_CLIP
    sds          L = L_CLIP + lambda L_SDS,     L_SDS = E e( h_w(f(x)), t, eps, c )       (Basu et al. 2023, 2307.09233)
    negatives    L = L_CLIP with the swapped captions as hard negatives for each image (as NegCLIP), each counting as w
    preference   L = L_CLIP + lambda L_PREF,    L_PREF = E w BCE( student prefers c to c', teacher's p )
    labels       preference with p = 1: trained on which caption is true. No teacher, for comparison
    features     L = L_CLIP + lambda E || h_f(f(x)) - u(z_t, t, c) ||^2,   u: the frozen denoiser's inner features

f(x) is the normalised image embedding, h_w and h_f are linear layers, and e is the denoising error of
`sdsdemo.core.losses`, as in the scorer. The teacher is frozen and reads the caption with its own text encoder, so L_SDS
reaches only the image tower. c' is the swapped twin of c. The logit scale is frozen. If the source says so, equal
captions in a step count as right for each other's images; with distinct captions, the loss equals open_clip's to the
bit.

Choices that the paper leaves open are options of `ObjectiveConfig`; the run's record states them. Variants of L_SDS
for the study of its channel are a weighted sum (`SdsTerms`), z being the true latent:

    L_SDS = a E e(c) + b E softplus( s (e(c) - e(c')) ) / s + r E || h_w(f(x)) - z ||^2
    e(c)  = e( h_w(f(x)), t, eps, c )

A step may be split into micro-batches and shared by processes without changing the result: the features of the other
rows are computed first, without a gradient, and the contrastive loss sees all of them.

Shape suffixes: B batch, R rows of a micro-batch, L tokens, D features, W inner features, N pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sdsdemo.core.losses import (
    Reduction,
    clip_loss,
    contrast_loss,
    features_loss,
    latent_loss,
    negatives_loss,
    preference_loss,
    sds_loss,
    total_loss,
)
from sdsdemo.core.noising import NoiseSchedule, add_noise
from sdsdemo.finetuning.loop import Losses
from sdsdemo.finetuning.recipe import WITH_TEACHER_IN_LOOP, WITH_TWINS, Name
from sdsdemo.finetuning.student import Student
from sdsdemo.models.clip_text import encode_captions
from sdsdemo.models.precision import as_stored
from sdsdemo.runtime.distributed import ALONE, Processes

LARGEST_SCALE = 100.0
"""CLIP's bound on the logit scale (Radford et al. 2021, section 2.5)."""


class Teacher(Protocol):
    """The interface required of a frozen diffusion model."""

    schedule: NoiseSchedule
    latent_shape: tuple[int, int, int]

    def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor: ...

    def inner_features(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """feature_BW of the denoiser's middle block; only `features` needs it."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Some rows of a step: row r of every tensor belongs to the same image-caption pair."""

    pixels_R: Tensor | None = None
    """Input of CLIP's image tower: [R, 3, H, W], normalised. None if `image_RD` is given."""
    token_RL: Tensor | None = None
    """Input of CLIP's text tower. None if `text_RD` is given."""
    twin_token_RL: Tensor | None = None
    """The swapped twin of each caption, or another row's caption if it has none."""
    image_RD: Tensor | None = None
    """Normalised image features, precomputed because the image tower is frozen."""
    text_RD: Tensor | None = None
    """Likewise for the captions."""
    twin_RD: Tensor | None = None
    """Likewise for the twins."""
    condition_R: Any = None
    """The captions encoded by the teacher's text encoder."""
    twin_condition_R: Any = None
    """Likewise for the twins; a caption without one is its own. None if L_SDS does not contrast them."""
    latent_R: Tensor | None = None
    """The true latents, scaled for the denoiser."""
    preference_R: Tensor | None = None
    """The teacher's probability of preferring the caption to its twin; NaN without a twin."""
    caption_B: Tensor | None = None
    """An index for each caption of the whole step, over all processes; equal captions share one. None: all differ."""
    twin_B: Tensor | None = None
    """Likewise for the twins; a twin equal to a caption has its index."""


class Batches(Protocol):
    """Source of a step's rows, which depend only on step and rows."""

    size: int

    def rows(self, step: int, rows: slice) -> Batch: ...


@dataclass(frozen=True, kw_only=True)
class SdsTerms:
    """Weights of the terms of L_SDS; by default the paper's alone."""

    error: float = 1.0
    """a: of the denoising error with the image's caption."""
    contrast: float = 0.0
    """b: of that error against the one with its swap."""
    contrast_scale: float = 100.0
    """s of `contrast_loss`."""
    latent: float = 0.0
    """r: of the regression on true latents."""

    @property
    def reads_captions(self) -> bool:
        """Whether the denoiser is asked at all."""
        return self.error > 0 or self.contrast > 0


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """An objective and its options."""

    name: Name = "sds"
    lam: float = 1.0
    """Weight of the second term."""
    reduction: Reduction = "mean"
    """Reduction over the elements of a latent; `sum` is `mean` times their number."""
    jacobian: bool = True
    """Backpropagate through the denoiser, or use DreamFusion's gradient, which omits its Jacobian."""
    timesteps: tuple[float, float] = (0.0, 1.0)
    """Range of the schedule that t is drawn from uniformly, as shares."""
    terms: SdsTerms = SdsTerms()
    negative_weight: float = 1.0
    """As how many captions a swap counts in `negatives`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """Some rows through CLIP's towers."""

    features: list[Tensor]
    """features_RD of images, captions, and twins if the objective needs them."""
    read_R: Tensor
    """What h_w reads of the images."""


class Objective:
    """Implements `loop.LossesAt`: the losses of a step, micro-batch by micro-batch."""

    def __init__(
        self,
        student: Student,
        batches: Batches,
        config: ObjectiveConfig,
        *,
        teacher: Teacher | None = None,
        seed: int = 0,
        parts: int = 1,
        processes: Processes = ALONE,
    ) -> None:
        """parts: number of micro-batches per process.

        Raises `ValueError` for a bad lambda, a batch size that the processes do not divide, or a missing teacher.
        """
        total_loss(torch.zeros(()), torch.zeros(()), config.lam)  # checks lambda
        if batches.size % processes.count:
            raise ValueError(f"the batch of {batches.size} must be a multiple of the {processes.count} processes")
        if config.name in WITH_TEACHER_IN_LOOP and teacher is None:
            raise ValueError(f"objective {config.name!r} needs a teacher")
        self.student, self.batches, self.config, self.teacher = student, batches, config, teacher
        self.seed, self.processes, self.parts = seed, processes, parts
        self._drawn: tuple[int, Tensor, Tensor] | None = None
        """The last step drawn, its timestep_B and noise_B: each of its micro-batches asks for some of their rows."""

    @property
    def rows(self) -> list[slice]:
        """The rows of each of this process's micro-batches."""
        own = self.batches.size // self.processes.count
        start = own * self.processes.index
        edges = np.linspace(0, own, min(self.parts, own) + 1).astype(int)
        return [slice(start + int(a), start + int(b)) for a, b in pairwise(edges)]

    @property
    def at_once(self) -> int:
        """Rows of its largest micro-batch."""
        return int(max(rows.stop - rows.start for rows in self.rows))

    def __call__(self, step: int) -> Iterator[Losses]:
        cuts = self.rows
        read = [self.batches.rows(step, rows) for rows in cuts]
        alone = len(cuts) == 1 and self.processes.count == 1
        whole = None if alone else self._all_features(read)
        for rows, batch in zip(cuts, read, strict=True):
            own = self._embed(batch)
            features = (
                own.features
                if whole is None
                else [_spliced(all_, rows, part) for all_, part in zip(whole, own.features, strict=True)]
            )
            yield self._losses(batch, rows, features, own, step)

    def _losses(
        self, batch: Batch, rows: slice, features: list[Tensor], own: Embedded, step: int
    ) -> Mapping[str, Tensor]:
        """These rows' contribution to the losses of the step."""
        scale = self.student.clip.logit_scale.exp().clamp(max=LARGEST_SCALE)
        share = (rows.stop - rows.start) / self.batches.size
        contrastive = self._contrastive(batch, features, scale)
        contrastive = contrastive - contrastive.detach() * (
            1 - share
        )  # the value of a share, the gradient of the whole
        if self.config.name in ("clip", "negatives"):
            return {"loss": contrastive}
        second = share * self._second(batch, rows, own, scale, step)
        return {"loss": total_loss(contrastive, second, self.config.lam), "clip": contrastive, self.config.name: second}

    def _contrastive(self, batch: Batch, features: list[Tensor], scale: Tensor) -> Tensor:
        """L_CLIP of the whole step, with swaps as hard negatives if the objective says so."""
        if self.config.name != "negatives":
            return clip_loss(features[0], features[1], scale, batch.caption_B)
        image_BD, text_BD, twin_BD = features
        weight = self.config.negative_weight
        return negatives_loss(image_BD, text_BD, twin_BD, scale, batch.caption_B, batch.twin_B, weight=weight)

    def _second(self, batch: Batch, rows: slice, own: Embedded, scale: Tensor, step: int) -> Tensor:
        """The term weighted by lambda, averaged over these rows."""
        if self.config.name == "sds":
            return self.sds(batch, rows, own.read_R, step)
        if self.config.name == "features":
            return self._features(batch, rows, own.features[0], step)
        assert batch.preference_R is not None
        image_RD, text_RD, twin_RD = own.features
        return preference_loss(image_RD, text_RD, twin_RD, batch.preference_R, scale).mean()

    def sds(self, batch: Batch, rows: slice, read_R: Tensor, step: int) -> Tensor:
        """L_SDS of these rows, the weighted sum of its terms; timesteps and noises are drawn from (seed, step).

        read_R: what h_w reads, from `Student.encode`.
        """
        terms, latent_R = self.config.terms, self.student.latents(read_R)
        found: list[Tensor] = []
        if terms.reads_captions:
            error_R = self.errors(latent_R, batch.condition_R, rows, step)
            found.append(terms.error * error_R.mean())
        if terms.contrast:
            swapped_R = self.errors(latent_R, batch.twin_condition_R, rows, step)
            found.append(terms.contrast * contrast_loss(error_R, swapped_R, terms.contrast_scale).mean())
        if terms.latent:
            assert batch.latent_R is not None
            found.append(terms.latent * latent_loss(latent_R, batch.latent_R, reduction=self.config.reduction).mean())
        return torch.stack(found).sum()

    def errors(self, latent_R: Tensor, condition_R: Any, rows: slice, step: int) -> Tensor:
        """error_R of latents under these captions, with the step's (t, eps)."""
        assert self.teacher is not None
        timestep_R, noise_R = self.draw(step, rows)
        with as_stored(latent_R.device):
            return sds_loss(
                self.teacher.denoise, self.teacher.schedule, latent_R, noise_R.to(latent_R.device), timestep_R,
                condition_R, reduction=self.config.reduction, jacobian=self.config.jacobian,
            )  # fmt: skip

    def _features(self, batch: Batch, rows: slice, image_RD: Tensor, step: int) -> Tensor:
        assert self.teacher is not None
        assert self.student.h_f is not None
        assert batch.latent_R is not None
        timestep_R, noise_R = self.draw(step, rows)
        with torch.no_grad(), as_stored(batch.latent_R.device):
            noisy_R = add_noise(self.teacher.schedule, batch.latent_R, noise_R.to(batch.latent_R.device), timestep_R)
            inner_RW = self.teacher.inner_features(noisy_R, timestep_R, batch.condition_R).float()
            inner_RW = nn.functional.layer_norm(inner_RW, inner_RW.shape[1:])
        return features_loss(self.student.h_f(image_RD), inner_RW).mean()

    def draw(self, step: int, rows: slice) -> tuple[Tensor, Tensor]:
        """timestep_R and noise_R of these rows, on the CPU: the same however the step is split."""
        if self._drawn is None or self._drawn[0] != step:
            self._drawn = (step, *self._draw(step))
        return self._drawn[1][rows], self._drawn[2][rows]

    def _draw(self, step: int) -> tuple[Tensor, Tensor]:
        """timestep_B and noise_B of the whole step."""
        assert self.teacher is not None
        rng = np.random.default_rng((self.seed, step))
        steps = self.teacher.schedule.steps
        low, high = (round(share * steps) for share in self.config.timesteps)
        low = min(low, steps - 1)
        timestep_B = torch.from_numpy(rng.integers(low, max(high, low + 1), size=self.batches.size))
        noise_B = rng.standard_normal((self.batches.size, *self.teacher.latent_shape), dtype=np.float32)
        return timestep_B, torch.from_numpy(noise_B)

    def _embed(self, batch: Batch) -> Embedded:
        clip, twins = self.student.clip, self.config.name in WITH_TWINS
        if batch.image_RD is not None:
            image_RD = read_R = batch.image_RD
        else:
            assert batch.pixels_R is not None
            image_RD, read_R = self.student.encode(batch.pixels_R)
        known = [batch.text_RD, batch.twin_RD] if twins else [batch.text_RD]
        said = [batch.token_RL, batch.twin_token_RL] if twins else [batch.token_RL]
        new = [
            token_RL
            for token_RL, features_RD in zip(said, known, strict=True)
            if features_RD is None and token_RL is not None
        ]
        # in one call: for a small tower, call overhead dominates
        fresh = iter(encode_captions(clip, torch.cat(new)).chunk(len(new)) if new else ())
        said_RD = [next(fresh) if features_RD is None else features_RD for features_RD in known]
        return Embedded(features=[image_RD, *said_RD], read_R=read_R)

    def _all_features(self, read: list[Batch]) -> list[Tensor]:
        """features_BD of the whole step, over all processes, without a gradient."""
        with torch.no_grad():
            parts = [self._embed(batch).features for batch in read]
        torch.clear_autocast_cache()  # torch 2.9 and older keep weights cast without a gradient, and train with them
        return [self.processes.gather_rows(torch.cat(part)) for part in zip(*parts, strict=True)]


def _spliced(all_BD: Tensor, rows: slice, own_RD: Tensor) -> Tensor:
    """The features of the whole step, with a gradient through these rows only."""
    return torch.cat([all_BD[: rows.start], own_RD.to(all_BD.dtype), all_BD[rows.stop :]])
