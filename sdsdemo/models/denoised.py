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
    """What is read of the residuals behind one picture's scores, taken from each batch while it is computed.

    Reduced at once: all residuals of a real model are gigabytes, and they would lie on its device.
    """

    latent_I: Tensor
    """[1, *latent_shape], the picture's own latent."""
    first_CT: Tensor
    """[C, T, *latent_shape], the residual of each timestep's first draw, on the model's device."""
    error_CTNHW: np.ndarray
    """The mean of the squared residual over channels: as many draws as the last caption got, NaN where another one got
    fewer."""
    shared: int
    """The draws a timestep that the first two captions got."""

    def __init__(self, draws: int) -> None:
        """draws: of each timestep, at most."""
        self._draws = draws
        self._first: list[Tensor] = []
        self._errors: list[np.ndarray] = []
        self._places: list[np.ndarray] = []

    def keep(self, residuals: Iterator[Tensor], order_E: np.ndarray) -> Iterator[Tensor]:
        """The same residuals. order_E: the flat place of each among captions (equal ones once), timesteps and draws."""
        done = 0
        for residual_B in residuals:
            place_B = order_E[done : done + len(residual_B)]
            self._places.append(place_B)
            self._errors.append(residual_B.square().mean(dim=1).cpu().numpy())
            self._first.append(residual_B[torch.from_numpy(place_B % self._draws == 0).to(residual_B.device)])
            done += len(residual_B)
            yield residual_B

    def settle(self, latent_I: Tensor, timesteps: int, column: Sequence[int]) -> None:
        """Puts in place what has passed. column: the place of each caption."""
        place_E, error_EHW = np.concatenate(self._places), np.concatenate(self._errors)
        grid = (1 + max(column), timesteps, self._draws)
        u_E, t_E, n_E = np.unravel_index(place_E, grid)
        draws_U = [int(n_E[u_E == u].max()) + 1 for u in range(grid[0])]
        error_UTNHW = np.full((*grid[:2], max(draws_U), *error_EHW.shape[1:]), np.nan, dtype=error_EHW.dtype)
        error_UTNHW[u_E, t_E, n_E] = error_EHW
        order_E = torch.from_numpy(np.argsort(place_E[n_E == 0]))
        first_E = torch.cat(self._first)[order_E.to(latent_I.device)]
        first_UT = first_E.reshape(*grid[:2], *first_E.shape[1:])
        self.latent_I, self.first_CT, self.error_CTNHW = latent_I, first_UT[list(column)], error_UTNHW[list(column)]
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
        [clean_guess(model.schedule, latent_T, residual_T, step_T) for residual_T in (*kept.first_CT, residual_empty_T)]
    )
    noised_T = add_noise(model.schedule, latent_T, noise_T.to(latent_T), step_T)
    telling = _most_telling(kept.error_CTNHW[:2, :, : kept.shared])
    picture_PT, position_S = _decoded(model, torch.cat([noised_T[None], guess_PT]), telling, seconds)
    return Denoised(
        error_CTNHW=kept.error_CTNHW,
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
