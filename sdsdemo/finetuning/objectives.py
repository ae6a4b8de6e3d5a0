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

What the paper leaves open is an option of `Aim`, with what it is set to in the run's record.

A step may be cut into micro-batches and shared by processes, and still is the step of the whole batch: the features of
the other rows are computed first, without a gradient, and the contrastive loss sees all of them.

Shape suffixes: B batch, R rows of a micro-batch, L tokens, D features, W inner features, N pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
from sdsdemo.errors import UserError
from sdsdemo.finetuning.loop import Losses
from sdsdemo.finetuning.recipe import WITH_TEACHER_IN_LOOP, WITH_TWINS, Name, Towers, Trained
from sdsdemo.models.clip_text import encode_captions
from sdsdemo.runtime.distributed import Processes

LARGEST_SCALE = 100.0
"""CLIP's bound on the logit scale (Radford et al. 2021, section 2.5)."""
RIDGE = 1e-3
"""Added to the diagonal of the least squares, in units of its mean, so that it has one answer."""
ALONE = Processes()


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
class Aim:
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


class Student(nn.Module):
    """A CLIP, the parameters of it that are trained, and the linear maps from its image embedding."""

    def __init__(
        self,
        clip: Any,
        latent_shape: tuple[int, int, int] | None = None,
        *,
        trained: Trained = "norms",
        towers: Towers = "both",
        inner_width: int | None = None,
        unit_variance: bool = False,
        map_scale: float = 1.0,
    ) -> None:
        """clip: an open_clip model, changed in place; its parameters are frozen but for those that are trained.

        latent_shape: the teacher's (channels, height, width), for h_w. inner_width: of its inner features, for h_f.
        unit_variance, map_scale: h_w's output is brought to unit variance a latent, and multiplied.
        Raises `UserError` for a CLIP that has nothing of the kind to train.
        """
        super().__init__()
        self.clip = clip.requires_grad_(False)
        self.says = _thaw(clip, trained, towers)
        self.latent_shape, self.unit_variance, self.map_scale = latent_shape, unit_variance, map_scale
        width = embedding_width(clip)
        self.h_w = nn.Linear(width, int(np.prod(latent_shape))) if latent_shape is not None else None
        self.h_f = nn.Linear(width, inner_width) if inner_width is not None else None

    def latents(self, features_BD: Tensor) -> Tensor:
        """h_w(f(x)): [B, channels, height, width]."""
        assert self.h_w is not None
        assert self.latent_shape is not None
        latent_BE: Tensor = self.h_w(features_BD)
        if self.unit_variance:
            latent_BE = nn.functional.layer_norm(latent_BE, latent_BE.shape[1:])
        return self.map_scale * latent_BE.reshape(len(latent_BE), *self.latent_shape)

    @torch.no_grad()
    def fit(self, features_ND: Tensor, latent_N: Tensor) -> float:
        """Start h_w at the least-squares map from image embeddings to true latents; gives the R2 of that map.

        features_ND: [N, D]. latent_N: [N, channels, height, width], scaled as the denoiser meets them.
        """
        assert self.h_w is not None
        x_ND, y_NE = features_ND.double(), latent_N.flatten(1).double()
        x_D, y_E = x_ND.mean(0), y_NE.mean(0)
        x_ND, y_NE = x_ND - x_D, y_NE - y_E
        square_DD = x_ND.T @ x_ND
        square_DD += RIDGE * square_DD.diagonal().mean() * torch.eye(len(square_DD), dtype=torch.float64).to(x_ND)
        weight_DE = torch.linalg.solve(square_DD, x_ND.T @ y_NE)
        self.h_w.weight.copy_(weight_DE.T)
        self.h_w.bias.copy_(y_E - x_D @ weight_DE)
        return self.explains(features_ND, latent_N)

    @torch.no_grad()
    def explains(self, features_ND: Tensor, latent_N: Tensor) -> float:
        """R2 of h_w on images: of the ones that it was fitted on it is 1 where these are fewer than D."""
        assert self.h_w is not None
        y_NE = latent_N.flatten(1).double()
        weight_ED, bias_E = self.h_w.weight.double(), self.h_w.bias.double()
        error_NE = y_NE - features_ND.double() @ weight_ED.T - bias_E
        return float(1 - error_NE.square().sum() / (y_NE - y_NE.mean(0)).square().sum())

    @property
    def thawed(self) -> list[nn.Parameter]:
        """The parameters of CLIP that are trained, without the maps."""
        return [parameter for parameter in self.clip.parameters() if parameter.requires_grad]


class Objective:
    """`training.LossesAt` of an aim: the losses of a step, micro-batch by micro-batch."""

    def __init__(
        self,
        student: Student,
        batches: Batches,
        aim: Aim,
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


@torch.no_grad()
def sds_controls(objective: Objective, batch: Batch, rows: slice, step: int) -> dict[str, float]:
    """What L_SDS is for the student's latents beside what it is for others: does it see the picture, and the caption?

    Keys `student`, `true`, `zero` (h_w(0)), `other` (the student's latents of other pictures), each also with captions
    of further rows, `... shuffled`; all with the same (t, eps). Needs the true latents in the batch, and three rows.
    """
    student, teacher = objective.student, objective.teacher
    assert teacher is not None
    assert batch.latent_R is not None
    assert batch.pixels_R is not None
    image_RD = student.clip.encode_image(batch.pixels_R, normalize=True)
    latent_R = student.latents(image_RD)
    latents = {
        "student": latent_R,
        "true": batch.latent_R.to(latent_R),
        "zero": student.latents(torch.zeros_like(image_RD)),
        "other": latent_R.roll(1, 0),
    }
    timestep_R, noise_R = objective.draw(step, rows)
    turned = batch.condition_R.roll(2, 0)  # those of neither the own nor the other images
    found = {}
    for name, one_R in latents.items():
        for words, condition_R in (("", batch.condition_R), (" shuffled", turned)):
            error_R = sds_loss(
                teacher.denoise, teacher.schedule, one_R, noise_R.to(one_R.device), timestep_R, condition_R,
                reduction=objective.aim.reduction,
            )  # fmt: skip
            found[name + words] = float(error_R.mean())
    return found


def sds_gradient(objective: Objective, batch: Batch, rows: slice, step: int) -> list[Tensor]:
    """The gradient of L_SDS (without lambda) that reaches each trained parameter of CLIP."""
    image_RD = objective.student.clip.encode_image(batch.pixels_R, normalize=True)
    parameters = objective.student.thawed
    found = torch.autograd.grad(objective.sds(batch, rows, image_RD, step), parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def sds_gradient_controls(objective: Objective, batch: Batch, rows: slice, step: int) -> dict[str, float]:
    """`gradient on CLIP`, its norm; `cosine with shuffled`, with the one that captions of other rows give.

    A cosine of 1 would mean that what reaches CLIP does not depend on the captions.
    """
    turned = replace(batch, condition_R=batch.condition_R.roll(2, 0))
    own, other = (torch.cat([g.flatten() for g in sds_gradient(objective, one, rows, step)]) for one in (batch, turned))
    cosine = nn.functional.cosine_similarity(own, other, dim=0)
    return {"gradient on CLIP": float(own.norm()), "cosine with shuffled": float(cosine)}


def embedding_width(clip: Any) -> int:
    """D of the embedding that images and captions share."""
    length = int(getattr(clip, "context_length", 77))
    device = next(clip.parameters()).device
    with torch.no_grad():
        return int(clip.encode_text(torch.zeros(1, length, dtype=torch.long, device=device)).shape[-1])


def _thaw(clip: Any, trained: Trained, towers: Towers) -> str:
    """Let the parameters that are trained have a gradient; says which they are. Raises `UserError` for none."""
    sides = {"image": [clip.visual], "text": [m for name, m in clip.named_children() if name != "visual"]}
    wanted = [side for side in sides if towers in ("both", side)]
    if trained == "all":
        for side in wanted:
            _ = [module.requires_grad_(True) for module in sides[side]]
            _ = [
                getattr(clip, name).requires_grad_(True)
                for name in TEXT_PARAMETERS
                if side == "text" and hasattr(clip, name)
            ]
        clip.logit_scale.requires_grad_(False)
        return f"every parameter of the {' and the '.join(wanted)} tower, without the logit scale"
    said = []
    for side in wanted:
        modules = [module for root in sides[side] for module in root.modules()]
        norms = [module for module in modules if isinstance(module, nn.LayerNorm)]
        batch_norms = [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        if not norms and not batch_norms:
            raise UserError(f"The {side} tower has neither LayerNorms nor BatchNorms: train all parameters instead.")
        for norm in norms or batch_norms:
            norm.requires_grad_(True)
        what = f"{len(norms)} LayerNorms" if norms else (
            f"{len(batch_norms)} BatchNorms, as it has no LayerNorm: their scale and shift, with frozen statistics"
        )  # fmt: skip
        said.append(f"{what} of the {side} tower")
    return " and ".join(said)


TEXT_PARAMETERS = ("positional_embedding", "text_projection")
"""Parameters of open_clip's text tower that lie in no module of their own."""


def _spliced(all_BD: Tensor, rows: slice, own_RD: Tensor) -> Tensor:
    """The features of the whole step with these rows in place, and a gradient through them alone."""
    return torch.cat([all_BD[: rows.start], own_RD.to(all_BD.dtype), all_BD[rows.stop :]])
