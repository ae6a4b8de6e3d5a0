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
    """[C, T, N, *latent_shape]: as many draws as the last caption got, NaN where another one got fewer."""
    shared: int
    """The draws a timestep that the first two captions got."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._places: list[np.ndarray] = []

    def keep(self, residuals: Iterator[Tensor], order_E: np.ndarray) -> Iterator[Tensor]:
        """The same residuals. order_E: the flat place of each among captions (equal ones once), timesteps and draws."""
        done = 0
        for residual_B in residuals:
            self._parts.append(residual_B)
            self._places.append(order_E[done : done + len(residual_B)])
            done += len(residual_B)
            yield residual_B

    def settle(self, latent_I: Tensor, grid: Sequence[int], column: Sequence[int]) -> None:
        """Puts in place what has passed. grid: timesteps and draws. column: the place of each caption."""
        residual_E, place_E = torch.cat(self._parts), np.concatenate(self._places)
        u_E, t_E, n_E = np.unravel_index(place_E, (1 + max(column), *grid))
        draws_U = [int(n_E[u_E == u].max()) + 1 for u in range(1 + max(column))]
        whole = residual_E.new_full((len(draws_U), grid[0], max(draws_U), *residual_E.shape[1:]), torch.nan)
        whole[tuple(map(torch.from_numpy, (u_E, t_E, n_E)))] = residual_E
        self.latent_I, self.residual_CTN = latent_I, whole[list(column)]
        self.shared = min(draws_U[u] for u in column[:2])


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
    telling = _most_telling(error_CTNHW[:2, :, : kept.shared])
    picture_PT, position_S = _decoded(model, torch.cat([noised_T[None], guess_PT]), telling, seconds)
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
    """picture_PS and position_S of as many timesteps, in this order, as the first one's time lets fit.

    On a CPU it is this thread's own time: whoever else the machine is busy with, no less is shown.
    """
    clock = time.thread_time if model.device.type == "cpu" else time.perf_counter
    start = clock()
    first_P = model.decode_latents(latent_PT[:, order_T[0]])
    spent = clock() - start
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
