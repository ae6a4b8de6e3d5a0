"""The noise levels of a diffusion model, and the noising of a clean latent z with noise eps.

    x_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps      variance preserving
    x_t = (1 - sigma_t) z + sigma_t eps              rectified flow

Sources: Ho et al. 2020 (2006.11239) eq. 4; Liu et al. 2022 (2209.03003) for rectified flow.

Shape suffixes: B batch (followed by any latent shape), T timestep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sdsdemo.types import Space

Prediction = Literal["epsilon", "v", "flow"]


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseSchedule:
    """The noise level of each timestep, and the network's prediction target.

    A timestep is an index into `alpha_bar` or `sigma`; noise grows with it. If a network takes another number (flow
    models take 1000 sigma), its `denoise` converts it.
    """

    prediction: Prediction
    alpha_bar: Tensor | None = None
    """[steps], falling, in 0..1: the share of variance that is signal. For `epsilon` and `v`."""
    sigma: Tensor | None = None
    """[steps], rising, in 0..1: the share of noise. For `flow`."""

    def __post_init__(self) -> None:
        if self.prediction not in ("epsilon", "v", "flow"):
            raise ValueError(f"prediction must be 'epsilon', 'v' or 'flow'; it was {self.prediction!r}")
        wanted, other = ("sigma", "alpha_bar") if self.prediction == "flow" else ("alpha_bar", "sigma")
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise ValueError(f"prediction {self.prediction!r} needs {wanted} and no {other}")
        _check_levels(wanted, getattr(self, wanted), rising=self.prediction == "flow")

    @property
    def steps(self) -> int:
        """Number of timesteps."""
        return len(self._levels)

    def clean_factor(self, timestep_T: Tensor) -> Tensor:
        """Factor from an error in `space` to the error of the clean latent, || z_hat - z ||^2, at each timestep.

        (1 - abar_t) / abar_t = 1 / SNR(t)      space "eps"           sigma_t^2      space "velocity"
        """
        level_T = self._levels[timestep_T]
        return level_T.square() if self.prediction == "flow" else (1 - level_T) / level_T

    @property
    def space(self) -> Space:
        """Where the error is measured: `eps` for epsilon and v models alike, `velocity` for flow."""
        return "velocity" if self.prediction == "flow" else "eps"

    def levels(self, timestep_B: Tensor, like_B: Tensor) -> Tensor:
        """`alpha_bar` or `sigma` of each sample, float32, on the device of `like_B` and broadcastable to it."""
        level_T = self._levels.to(like_B.device, torch.float32)
        return level_T[timestep_B.to(like_B.device)].reshape(-1, *[1] * (like_B.dim() - 1))

    @property
    def _levels(self) -> Tensor:
        level_T = self.sigma if self.prediction == "flow" else self.alpha_bar
        assert level_T is not None
        return level_T


def add_noise(schedule: NoiseSchedule, latent_B: Tensor, noise_B: Tensor, timestep_B: Tensor) -> Tensor:
    """x_t as in the module's docstring, in float32 whatever the latent's precision.

    latent_B, noise_B: [B, ...], the same shape. timestep_B: [B], integers from 0 to steps - 1.
    Raises `ValueError` for shapes or timesteps that do not fit.
    """
    _check_batch(schedule, latent_B, noise_B, timestep_B)
    level_B = schedule.levels(timestep_B, latent_B)
    if schedule.prediction == "flow":
        return (1 - level_B) * latent_B.float() + level_B * noise_B.float()
    return level_B.sqrt() * latent_B.float() + (1 - level_B).sqrt() * noise_B.float()


def _check_levels(name: str, level_T: Tensor, *, rising: bool) -> None:
    if level_T.dim() != 1 or len(level_T) == 0:
        raise ValueError(f"{name} must be a vector with one number per timestep; its shape was {size_of(level_T)}")
    if not bool(((level_T >= 0) & (level_T <= 1)).all()):
        raise ValueError(f"{name} must lie in 0..1; it ran from {level_T.min():g} to {level_T.max():g}")
    step_T = level_T.diff() if rising else -level_T.diff()
    if bool((step_T < 0).any()):
        raise ValueError(f"{name} must {'rise' if rising else 'fall'} with the timestep, as noise grows with it")


def _check_batch(schedule: NoiseSchedule, latent_B: Tensor, noise_B: Tensor, timestep_B: Tensor) -> None:
    if noise_B.shape != latent_B.shape:
        raise ValueError(f"noise_B must have the shape of latent_B, {size_of(latent_B)}; it was {size_of(noise_B)}")
    if timestep_B.shape != latent_B.shape[:1] or timestep_B.is_floating_point():
        raise ValueError(
            f"timestep_B must be {len(latent_B)} integers; it was {timestep_B.dtype} of shape {size_of(timestep_B)}"
        )
    if len(timestep_B) and not 0 <= int(timestep_B.min()) <= int(timestep_B.max()) < schedule.steps:
        raise ValueError(
            f"timestep_B must be from 0 to {schedule.steps - 1}; "
            f"it ran from {int(timestep_B.min())} to {int(timestep_B.max())}"
        )


def size_of(tensor: Tensor) -> tuple[int, ...]:
    """The shape of a tensor, as a message shows it."""
    return tuple(tensor.shape)
