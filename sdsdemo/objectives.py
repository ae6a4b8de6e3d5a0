"""What is minimised when a CLIP is fine-tuned: L_CLIP alone, or the paper's sum. Knows no data set and no optimiser.

    clip    L = L_CLIP
    sds     L = L_CLIP + lambda L_SDS,      L_SDS = E e( h_w(f(x)), t, eps, c )           (Basu et al. 2023, 2307.09233)

f(x) is the normalised image embedding, h_w one linear layer to the teacher's latent, e the denoising error of
`sdsdemo.losses`: the one that the scorer computes too. Trained are the LayerNorms of both towers and h_w, nothing else.
The teacher's own text encoder reads the caption, so that L_SDS reaches the image tower only.

What the paper leaves open is decided so: t is uniform over the schedule, the error a mean over the latent's elements,
the denoiser's Jacobian is kept, and h_w starts at the least-squares fit from embeddings to latents.

Shape suffixes: B batch, L tokens, D features, N pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sdsdemo.losses import NoiseSchedule, clip_loss, sds_loss, total_loss
from sdsdemo.training import LossesAt

LARGEST_SCALE = 100.0
"""CLIP's bound on the logit scale (Radford et al. 2021, section 2.5)."""
RIDGE = 1e-3
"""Added to the diagonal of the least squares, in units of its mean, so that it has one answer."""


class Teacher(Protocol):
    """What L_SDS needs of a frozen diffusion model."""

    schedule: NoiseSchedule
    latent_shape: tuple[int, int, int]

    def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """The pictures and captions of one step; row b of each belongs together."""

    pixels_B: Tensor
    """As CLIP's image tower takes them: [B, 3, H, W], normalised."""
    token_BL: Tensor
    """As CLIP's text tower takes them."""
    condition_B: Any = None
    """The captions as the teacher's text encoder gives them; not needed by `clip`."""


BatchAt = Callable[[int], Batch]
"""step -> batch; depends on nothing but the step."""


class Student(nn.Module):
    """A CLIP whose LayerNorms are trained, and h_w."""

    def __init__(self, clip: Any, latent_shape: tuple[int, int, int]) -> None:
        """clip: an open_clip model, changed in place. latent_shape: the teacher's (channels, height, width).

        Raises `ValueError` for a CLIP without a LayerNorm.
        """
        super().__init__()
        norms = [module for module in clip.modules() if isinstance(module, nn.LayerNorm)]
        if not norms:
            raise ValueError("clip must have LayerNorms to train; it has none")
        self.clip = clip.requires_grad_(False)
        for norm in norms:
            norm.requires_grad_(True)
        width = int(clip.encode_text(torch.zeros(1, clip.context_length, dtype=torch.long)).shape[-1])
        elements = latent_shape[0] * latent_shape[1] * latent_shape[2]
        self.latent_shape = latent_shape
        self.h_w = nn.Linear(width, elements)

    def latents(self, features_BD: Tensor) -> Tensor:
        """h_w(f(x)): [B, channels, height, width]."""
        return self.h_w(features_BD).unflatten(1, self.latent_shape)

    @torch.no_grad()
    def fit(self, features_ND: Tensor, latent_N: Tensor) -> float:
        """Start h_w at the least-squares map from image embeddings to true latents; gives the R2 of that map.

        features_ND: [N, D]. latent_N: [N, channels, height, width], scaled as the denoiser meets them.
        """
        x_ND, y_NE = features_ND.double(), latent_N.flatten(1).double()
        x_D, y_E = x_ND.mean(0), y_NE.mean(0)
        x_ND, y_NE = x_ND - x_D, y_NE - y_E
        square_DD = x_ND.T @ x_ND
        square_DD += RIDGE * square_DD.diagonal().mean() * torch.eye(len(square_DD), dtype=torch.float64)
        weight_DE = torch.linalg.solve(square_DD, x_ND.T @ y_NE)
        self.h_w.weight.copy_(weight_DE.T)
        self.h_w.bias.copy_(y_E - x_D @ weight_DE)
        return float(1 - (y_NE - x_ND @ weight_DE).square().sum() / y_NE.square().sum())


def clip_objective(student: Student, batch_at: BatchAt) -> LossesAt:
    """L_CLIP alone: what `sds` is at lambda = 0, without a pass through the denoiser."""

    def losses(step: int) -> Mapping[str, Tensor]:
        image_BD, text_BD, scale = _embed(student, batch_at(step))
        return {"loss": clip_loss(image_BD, text_BD, scale)}

    return losses


def sds_objective(student: Student, teacher: Teacher, batch_at: BatchAt, *, lam: float, seed: int) -> LossesAt:
    """The paper's sum; the timesteps and noises of a step are drawn from (seed, step)."""

    def losses(step: int) -> Mapping[str, Tensor]:
        batch = batch_at(step)
        image_BD, text_BD, scale = _embed(student, batch)
        timestep_B, noise_B = _draw(teacher, len(image_BD), seed, step)
        sds = sds_loss(
            teacher.denoise, teacher.schedule, student.latents(image_BD), noise_B, timestep_B, batch.condition_B
        ).mean()
        contrastive = clip_loss(image_BD, text_BD, scale)
        return {"loss": total_loss(contrastive, sds, lam), "clip": contrastive, "sds": sds}

    return losses


def _embed(student: Student, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    image_BD = student.clip.encode_image(batch.pixels_B, normalize=True)
    text_BD = student.clip.encode_text(batch.token_BL, normalize=True)
    return image_BD, text_BD, student.clip.logit_scale.exp().clamp(max=LARGEST_SCALE)


def _draw(teacher: Teacher, count: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng((seed, step))
    timestep_B = torch.from_numpy(rng.integers(teacher.schedule.steps, size=count))
    return timestep_B, torch.from_numpy(rng.standard_normal((count, *teacher.latent_shape), dtype=np.float32))
