"""Pictures that a denoiser draws for captions: with classifier-free guidance, by diffusers' own schedulers.

    epsilon, v    DDIM over the model's own noise levels, Song et al. 2021 (arXiv 2010.02502)
    flow          Euler steps x' = x + (sigma' - sigma) v_hat, over sigmas that its scheduler shifts towards noise

A model that draws a caption wrong cannot be expected to score it right. Guidance: Ho & Salimans 2022 (arXiv
2207.12598).

Shape suffixes: C caption, S seed, B = C x S.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.precision import exactly

GUIDANCE = 3.0
"""Weight of the caption: 1 is none. Stable Diffusion's own default, 7.5, oversaturates small models."""


def draw(
    model: LatentDiffusion, captions: Sequence[str], seeds: Sequence[int], *, steps: int, looks: int, at_once: int
) -> Iterator[np.ndarray]:
    """The clean guesses on the way to a picture of each caption from each seed, and at last the pictures.

    Yields uint8 [C, S, pixels, pixels, 3], `looks` times, evenly spread over the steps. Captions meet the same noise
    of a seed, so that what differs is the caption's doing. Costs 2 x C x S x steps evaluations, `at_once` a call.
    """
    is_flow = model.schedule.prediction == "flow"
    scheduler = _flow(model, steps) if is_flow else _ddim(model, steps)
    latent_B = _noise(model, captions, seeds)
    shape = (len(captions), len(seeds), model.pixels, model.pixels, 3)
    shown = {round((look + 1) * steps / looks) - 1 for look in range(looks)}
    with exactly(model.device):
        encoded = model.encode_prompts([*captions, ""])
        caption_B = torch.arange(len(captions)).repeat_interleave(len(seeds))
    for k, timestep in enumerate(scheduler.timesteps):
        with exactly(model.device):
            parts = zip(torch.split(latent_B, at_once), torch.split(caption_B, at_once), strict=True)
            output_B = torch.cat([_guided(model, latent, timestep, encoded, caption) for latent, caption in parts])
            step = scheduler.step(output_B, timestep, latent_B)
            guess_B = latent_B - scheduler.sigmas[k] * output_B if is_flow else step.pred_original_sample
            latent_B = step.prev_sample
            picture_B = model.decode_latents(guess_B) if k in shown else None
        if picture_B is not None:
            yield picture_B.reshape(shape)


def _guided(model: LatentDiffusion, latent_B: Tensor, timestep: Tensor, encoded: Any, caption_B: Tensor) -> Tensor:
    """The output under the captions, moved away from that under the empty one, which is the last of those encoded."""
    timestep_B, none_B = timestep.repeat(len(latent_B)), torch.full_like(caption_B, -1)
    plain_B = model.denoise(latent_B, timestep_B, model.take(encoded, none_B))
    given_B = model.denoise(latent_B, timestep_B, model.take(encoded, caption_B))
    return plain_B + GUIDANCE * (given_B - plain_B)


def _noise(model: LatentDiffusion, captions: Sequence[str], seeds: Sequence[int]) -> Tensor:
    """noise_B, drawn on the CPU: of each seed the same for every caption."""
    noise = [torch.randn(model.latent_shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds]
    return torch.stack(noise * len(captions)).to(model.device)


def _flow(model: LatentDiffusion, steps: int) -> Any:
    """Euler over the noise levels of the pipeline, with the shift of its scheduler."""
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    scheduler: Any = FlowMatchEulerDiscreteScheduler.from_config(model.scheduler.config)
    scheduler.set_timesteps(steps, device=model.device, **model.drawn_over(scheduler, steps))
    return scheduler


def _ddim(model: LatentDiffusion, steps: int) -> Any:
    """DDIM over the model's own noise levels."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    alpha_bar_T = model.schedule.alpha_bar
    assert alpha_bar_T is not None
    target = {"epsilon": "epsilon", "v": "v_prediction"}[model.schedule.prediction]
    scheduler = DDIMScheduler(
        num_train_timesteps=len(alpha_bar_T),
        prediction_type=target,
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    scheduler.alphas_cumprod = alpha_bar_T.clone()  # all that its steps are made of
    scheduler.set_timesteps(steps)
    return scheduler
