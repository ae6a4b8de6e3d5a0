"""What a denoiser made of a picture, from the residuals that scoring left: errors place by place, and clean guesses.

Shape suffixes: C caption, U caption with equal ones once, T timestep, S timestep that is shown, N noise draw, H, W
places of the latent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sdsdemo.core.losses import clean_guess
from sdsdemo.core.noising import add_noise
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.types import Denoised


class Kept:
    """The residuals behind one picture's scores, kept while they are computed."""

    latent_I: Tensor
    """[1, *latent_shape], the picture's own latent."""
    residual_CTN: Tensor
    """[C, T, N, *latent_shape]"""

    def keep(
        self,
        latent_I: Tensor,
        residuals: Iterator[Tensor],
        order_E: np.ndarray,
        shape: Sequence[int],
        column: Sequence[int],
    ) -> Iterator[Tensor]:
        """The same residuals, which are here as [C, T, N, ...] once all have passed.

        order_E: the flat place of each in `shape`, [U, T, N, ...]. column: the place in U of each caption.
        """
        kept = []
        for residual_B in residuals:
            kept.append(residual_B)
            yield residual_B
        self.latent_I = latent_I
        in_place = torch.cat(kept)[torch.from_numpy(np.argsort(order_E))]
        self.residual_CTN = in_place.reshape(*shape, *in_place.shape[1:])[list(column)]


def show(
    model: LatentDiffusion,
    kept: Kept,
    residual_empty_T: Tensor,
    timestep_T: np.ndarray,
    noise_T: Tensor,
    seconds: float,
) -> Denoised:
    """The errors of each place, and pictures of as many timesteps as can be decoded in these seconds; one at least.

    residual_empty_T: without a caption, for noise_T, the first draw of each timestep. Those timesteps come first where
    the losses of the first two captions differ most.
    """
    step_T = torch.from_numpy(timestep_T)
    latent_T = kept.latent_I.expand(len(step_T), *kept.latent_I.shape[1:])
    guess_PT = torch.stack(
        [
            clean_guess(model.schedule, latent_T, residual_T, step_T)
            for residual_T in (*kept.residual_CTN[:, :, 0], residual_empty_T)
        ]
    )
    noised_T = add_noise(model.schedule, latent_T, noise_T.to(latent_T), step_T)
    error_CTNHW = kept.residual_CTN.square().mean(dim=3).cpu().numpy()
    picture_PT, position_S = _decoded(model, torch.cat([noised_T[None], guess_PT]), _most_telling(error_CTNHW), seconds)
    return Denoised(
        error_CTNHW=error_CTNHW,
        timestep_S=timestep_T[position_S],
        position_S=position_S,
        clean=model.decode_latents(kept.latent_I)[0],
        noised_S=picture_PT[0],
        guess_CS=picture_PT[1:-1],
        guess_empty_S=picture_PT[-1],
    )


def _most_telling(error_CTNHW: np.ndarray) -> list[int]:
    """The timesteps, first those where the losses of the first two captions differ most."""
    loss_CT = error_CTNHW[:2].mean(axis=(2, 3, 4), dtype=np.float64)
    gap_T = np.nan_to_num(np.abs(loss_CT[-1] - loss_CT[0]), nan=0.0)
    return [int(t) for t in np.argsort(-gap_T, kind="stable")]


def _decoded(
    model: LatentDiffusion, latent_PT: Tensor, order_T: Sequence[int], seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """picture_PS and position_S of as many timesteps, in this order, as the first one's time lets fit."""
    start = time.perf_counter()
    first_P = model.decode_latents(latent_PT[:, order_T[0]])
    spent = time.perf_counter() - start
    more = min(len(order_T) - 1, int(max(0.0, seconds - spent) / max(spent, 1e-9)))
    position_S = np.sort(np.array(order_T[: 1 + more], dtype=np.int64))
    rest = [t for t in position_S if t != order_T[0]]
    picture_PS = first_P[:, None]
    if rest:
        rest_PS = model.decode_latents(latent_PT[:, rest].flatten(0, 1)).reshape(
            len(latent_PT), len(rest), *first_P.shape[1:]
        )
        picture_PS = np.insert(rest_PS, int(np.searchsorted(rest, order_T[0])), first_P, axis=1)
    return picture_PS, position_S
