"""What the tests need of a family: a twin on disk, and one evaluation of it by diffusers alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

CAPTIONS = ("a red star left of a blue circle", "a blue star left of a red circle", "a cat")
SIDE = 32
"""Pixels a side of every twin's native picture."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of pipelines on a twin."""

    kind: str
    """The class that `model_index.json` names."""
    save: Callable[[Path], None]
    """Writes a twin with weights from a seed into a folder, in the Hub's format."""
    latent: Callable[[Any, Tensor], Tensor]
    """(pipeline, pixels [1, 3, H, W] from -1 to 1) -> the clean latent [1, ...]."""
    residual: Callable[[Any, Tensor, Tensor, int, str], Tensor]
    """(pipeline, latent, noise, timestep, caption) -> prediction minus target, by the pipeline's parts alone."""
    exact: Callable[[Any, Tensor, Tensor], Callable[..., Any]]
    """(pipeline, latent, noise) -> a `forward` for the denoiser that solves its inputs for the exact target, from the
    noisy latent and the time that it is given, in the family's own convention."""
    call: dict[str, Any] = field(default_factory=dict)
    """What a call of the pipeline needs beside the usual arguments to draw at the twin's size."""


def usual_latent(pipe: Any, pixels: Tensor) -> Tensor:
    """The mean of the posterior, shifted and scaled."""
    config = pipe.vae.config
    latent: Tensor = pipe.vae.encode(pixels).latent_dist.mean
    return (latent - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor


def noised(pipe: Any, latent: Tensor, noise: Tensor, step: int) -> Tensor:
    """x_t of a variance-preserving pipeline by diffusers' own scheduler."""
    noising: Any = DDPMScheduler.from_config(pipe.scheduler.config)
    found: Tensor = noising.add_noise(latent, noise, torch.tensor([step]))
    return found


def exact_epsilon(pipe: Any, latent: Tensor, _noise: Tensor) -> Callable[..., Any]:
    """eps = (x_t - sqrt(abar_t) z) / sqrt(1 - abar_t), from the timestep as the network is given it."""
    noising: Any = DDPMScheduler.from_config(pipe.scheduler.config)

    def forward(sample: Tensor, timestep: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        alpha_bar = noising.alphas_cumprod[timestep].reshape(-1, 1, 1, 1)
        return ((sample - alpha_bar.sqrt() * latent) / (1 - alpha_bar).sqrt(),)

    return forward


def flowed(latent: Tensor, noise: Tensor, step: int) -> Tensor:
    """x_t = (1 - sigma) z + sigma eps, with sigma = step / 1000."""
    return latent + step / 1000 * (noise - latent)


def exact_flow(sigma_of_one: float) -> Callable[[Any, Tensor, Tensor], Callable[..., Any]]:
    """`exact` of a flow: eps - z = (x_t - z) / sigma, from sigma as the network is given it.

    sigma_of_one: what a time of 1 means, 1 / 1000 for a network that is handed 1000 sigma.
    """

    def exact(_pipe: Any, latent: Tensor, _noise: Tensor) -> Callable[..., Any]:
        def forward(hidden_states: Tensor, timestep: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
            sigma = timestep.reshape(-1, 1, 1, 1) * sigma_of_one
            return ((hidden_states - latent) / sigma,)

        return forward

    return exact
