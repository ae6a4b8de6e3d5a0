"""What is minimised when a CLIP is fine-tuned. Knows no data set, no file and no optimiser.

    clip         L = L_CLIP
    sds          L = L_CLIP + lambda L_SDS,     L_SDS = E e( h_w(f(x)), t, eps, c )       (Basu et al. 2023, 2307.09233)
    negatives    L = L_CLIP with the swapped captions among the texts that an image chooses from (as NegCLIP)
    preference   L = L_CLIP + lambda L_PREF,    L_PREF = E w BCE( student prefers c to c', teacher's p )
    labels       as preference with p = 1: trained on which caption is true. An upper bound, no distillation
    features     L = L_CLIP + lambda E || h_f(f(x)) - u(z_t, t, c) ||^2,   u: the frozen denoiser's inner features

f(x) is the normalised image embedding, h_w and h_f one linear layer each, e the denoising error of
`sdsdemo.core.losses`, which the scorer computes too. The teacher is frozen, and its own text encoder reads the caption,
so that L_SDS reaches the image tower only. c' is the swapped twin of c. The logit scale stays as it is. Equal captions
in a step are right for each other's images, where the source says so; distinct ones give the loss of open_clip, to
the bit.

What the paper leaves open is an option of `ObjectiveConfig`, with what it is set to in the run's record.

A step may be cut into micro-batches and shared by processes, and still is the step of the whole batch: the features of
the other rows are computed first, without a gradient, and the contrastive loss sees all of them.

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
    NoiseSchedule,
    Reduction,
    add_noise,
    clip_loss,
    features_loss,
    negatives_loss,
    preference_loss,
    sds_loss,
    total_loss,
)
from sdsdemo.finetuning.loop import Losses
from sdsdemo.finetuning.recipe import WITH_TEACHER_IN_LOOP, WITH_TWINS, Name
from sdsdemo.finetuning.student import Student
from sdsdemo.models.clip_text import encode_captions
from sdsdemo.runtime.distributed import ALONE, Processes

LARGEST_SCALE = 100.0
"""CLIP's bound on the logit scale (Radford et al. 2021, section 2.5)."""


class Teacher(Protocol):
    """What is needed of a frozen diffusion model."""

    schedule: NoiseSchedule
    latent_shape: tuple[int, int, int]

    def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor: ...

    def inner_features(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """feature_BW of the denoiser's middle; only `features` asks for it."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Some rows of a step's pictures and captions; row r of each belongs together."""

    pixels_R: Tensor | None = None
    """As CLIP's image tower takes them: [R, 3, H, W], normalised. None where `image_RD` is there."""
    token_RL: Tensor | None = None
    """As CLIP's text tower takes them. None where `text_RD` is there."""
    twin_token_RL: Tensor | None = None
    """The swapped twin of each caption, or a caption of another row where it has none."""
    image_RD: Tensor | None = None
    """Normalised features of the images, computed beforehand because their tower is frozen."""
    text_RD: Tensor | None = None
    """The same of the captions."""
    twin_RD: Tensor | None = None
    """The same of the twins."""
    condition_R: Any = None
    """The captions as the teacher's text encoder gives them."""
    latent_R: Tensor | None = None
    """The true latents, scaled for the denoiser."""
    preference_R: Tensor | None = None
    """The teacher's probability of caption against twin; NaN where there is no twin."""
    caption_B: Tensor | None = None
    """A number for each caption of the whole step, of all processes, equal for equal captions. None: all differ."""
    twin_B: Tensor | None = None
    """The same of the twins, in the numbers of the captions where they are equal to one."""


class Batches(Protocol):
    """Where a step's rows come from; what they are depends on nothing but step and rows."""

    size: int

    def rows(self, step: int, rows: slice) -> Batch: ...


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What to minimise."""

    name: Name = "sds"
    lam: float = 1.0
    """Weight of the second term."""
    reduction: Reduction = "mean"
    """Over the elements of a latent; `sum` is `mean` times their number."""
    jacobian: bool = True
    """Back through the whole denoiser, or DreamFusion's gradient without it."""
    timesteps: tuple[float, float] = (0.0, 1.0)
    """Part of the schedule that t is drawn from, uniformly."""


class Objective:
    """`training.LossesAt` of an aim: the losses of a step, micro-batch by micro-batch."""

    def __init__(
        self,
        student: Student,
        batches: Batches,
        aim: ObjectiveConfig,
        *,
        teacher: Teacher | None = None,
        seed: int = 0,
        parts: int = 1,
        processes: Processes = ALONE,
    ) -> None:
        """parts: micro-batches that a process cuts its rows into.

        Raises `ValueError` for a bad lambda, a batch that the processes cannot share evenly, a missing teacher.
        """
        total_loss(torch.zeros(()), torch.zeros(()), aim.lam)  # checks lambda
        if batches.size % processes.count:
            raise ValueError(f"the batch of {batches.size} must be a multiple of the {processes.count} processes")
        if aim.name in WITH_TEACHER_IN_LOOP and teacher is None:
            raise ValueError(f"objective {aim.name!r} needs a teacher")
        self.student, self.batches, self.aim, self.teacher = student, batches, aim, teacher
        self.seed, self.processes, self.parts = seed, processes, parts

    @property
    def rows(self) -> list[slice]:
        """The rows of each of this process's micro-batches."""
        own = self.batches.size // self.processes.count
        start = own * self.processes.index
        edges = np.linspace(0, own, min(self.parts, own) + 1).astype(int)
        return [slice(start + int(a), start + int(b)) for a, b in pairwise(edges)]

    def __call__(self, step: int) -> Iterator[Losses]:
        cuts = self.rows
        read = [self.batches.rows(step, rows) for rows in cuts]
        alone = len(cuts) == 1 and self.processes.count == 1
        whole = None if alone else self._all_features(read)
        for rows, batch in zip(cuts, read, strict=True):
            own = self._embed(batch)
            features = (
                own if whole is None else [_spliced(all_, rows, part) for all_, part in zip(whole, own, strict=True)]
            )
            yield self._losses(batch, rows, features, own, step)

    def _losses(
        self, batch: Batch, rows: slice, features: list[Tensor], own: list[Tensor], step: int
    ) -> Mapping[str, Tensor]:
        """What these rows add to the losses of the step."""
        scale = self.student.clip.logit_scale.exp().clamp(max=LARGEST_SCALE)
        share = (rows.stop - rows.start) / self.batches.size
        contrastive = (
            negatives_loss(features[0], features[1], features[2], scale, batch.caption_B, batch.twin_B)
            if self.aim.name == "negatives"
            else clip_loss(features[0], features[1], scale, batch.caption_B)
        )
        contrastive = contrastive - contrastive.detach() * (
            1 - share
        )  # the value of a share, the gradient of the whole
        if self.aim.name in ("clip", "negatives"):
            return {"loss": contrastive}
        second = share * self._second(batch, rows, own, scale, step)
        return {"loss": total_loss(contrastive, second, self.aim.lam), "clip": contrastive, self.aim.name: second}

    def _second(self, batch: Batch, rows: slice, own: list[Tensor], scale: Tensor, step: int) -> Tensor:
        """The term that lambda weighs, as a mean over these rows."""
        if self.aim.name == "sds":
            return self.sds(batch, rows, own[0], step)
        if self.aim.name == "features":
            return self._features(batch, rows, own[0], step)
        assert batch.preference_R is not None
        return preference_loss(own[0], own[1], own[2], batch.preference_R, scale).mean()

    def sds(self, batch: Batch, rows: slice, image_RD: Tensor, step: int) -> Tensor:
        """L_SDS of these rows; the timesteps and noises of a step are drawn from (seed, step)."""
        assert self.teacher is not None
        timestep_R, noise_R = self.draw(step, rows)
        latent_R = self.student.latents(image_RD)
        return sds_loss(
            self.teacher.denoise, self.teacher.schedule, latent_R, noise_R.to(latent_R.device), timestep_R,
            batch.condition_R, reduction=self.aim.reduction, jacobian=self.aim.jacobian,
        ).mean()  # fmt: skip

    def _features(self, batch: Batch, rows: slice, image_RD: Tensor, step: int) -> Tensor:
        assert self.teacher is not None
        assert self.student.h_f is not None
        assert batch.latent_R is not None
        timestep_R, noise_R = self.draw(step, rows)
        with torch.no_grad():
            noisy_R = add_noise(self.teacher.schedule, batch.latent_R, noise_R.to(batch.latent_R.device), timestep_R)
            inner_RW = self.teacher.inner_features(noisy_R, timestep_R, batch.condition_R).float()
            inner_RW = nn.functional.layer_norm(inner_RW, inner_RW.shape[1:])
        return features_loss(self.student.h_f(image_RD), inner_RW).mean()

    def draw(self, step: int, rows: slice) -> tuple[Tensor, Tensor]:
        """timestep_R and noise_R of these rows, on the CPU: the same however the step is cut."""
        assert self.teacher is not None
        rng = np.random.default_rng((self.seed, step))
        low, high = (round(share * self.teacher.schedule.steps) for share in self.aim.timesteps)
        timestep_B = torch.from_numpy(rng.integers(low, max(high, low + 1), size=self.batches.size))
        noise_B = rng.standard_normal((self.batches.size, *self.teacher.latent_shape), dtype=np.float32)
        return timestep_B[rows], torch.from_numpy(noise_B[rows])

    def _embed(self, batch: Batch) -> list[Tensor]:
        """features_RD of images, captions, and twins where the aim needs them."""
        clip, twins = self.student.clip, self.aim.name in WITH_TWINS
        image_RD = batch.image_RD
        if image_RD is None:
            image_RD = clip.encode_image(batch.pixels_R, normalize=True)
        known = [batch.text_RD, batch.twin_RD] if twins else [batch.text_RD]
        said = [batch.token_RL, batch.twin_token_RL] if twins else [batch.token_RL]
        new = [
            token_RL
            for token_RL, features_RD in zip(said, known, strict=True)
            if features_RD is None and token_RL is not None
        ]
        # in one call: a small tower spends much of its time on being called
        fresh = iter(encode_captions(clip, torch.cat(new)).chunk(len(new)) if new else ())
        return [image_RD, *(next(fresh) if features_RD is None else features_RD for features_RD in known)]

    def _all_features(self, read: list[Batch]) -> list[Tensor]:
        """features_BD of the whole step, of all processes, without a gradient."""
        with torch.no_grad():
            parts = [self._embed(batch) for batch in read]
        return [self.processes.gather_rows(torch.cat(part)) for part in zip(*parts, strict=True)]


def _spliced(all_BD: Tensor, rows: slice, own_RD: Tensor) -> Tensor:
    """The features of the whole step with these rows in place, and a gradient through them alone."""
    return torch.cat([all_BD[: rows.start], own_RD.to(all_BD.dtype), all_BD[rows.stop :]])
