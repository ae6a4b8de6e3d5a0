"""Counts the operations of a fine-tuning step instead of timing it, so that it works for networks of any size.

The networks hold no weights (torch's meta device); the losses are those of `sdsdemo.core.losses`, forward and backward.
A multiply-add is two operations. Captions fill the context, and images are encoded in every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import open_clip
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sdsdemo.core.losses import clip_loss, sds_loss, total_loss
from sdsdemo.core.noising import NoiseSchedule
from sdsdemo.finetuning.student import Student

CLIP = "ViT-B-16"
PAIRS = 2
"""Batch size that is counted; operations are proportional to it."""
LATENT = (4, 64, 64)
STEPS = 1_000
"""Timesteps of the noise schedule."""


def paper_clip() -> Any:
    """The paper's first CLIP, without weights."""
    with torch.device("meta"):
        return open_clip.CLIP(**open_clip.get_model_config(CLIP))


def paper_denoiser() -> UNet2DConditionModel:
    """The paper's denoiser, without weights."""
    with torch.device("meta"):
        return UNet2DConditionModel(sample_size=LATENT[1], cross_attention_dim=768, attention_head_dim=8)


def counted(clip: Any = None, denoiser: Any = None) -> dict[str, float]:
    """Operations of a step, in 1e9 per pair, for each objective that trains LayerNorms.

    clip, denoiser: networks on the meta device; the paper's by default.
    """
    clip = paper_clip() if clip is None else clip
    denoiser = (paper_denoiser() if denoiser is None else denoiser).requires_grad_(False)
    student = Student(clip, (denoiser.config.in_channels, *2 * [denoiser.config.sample_size])).to("meta")
    schedule = NoiseSchedule(prediction="epsilon", alpha_bar=torch.linspace(0.999, 0.001, STEPS))
    pixels_B = torch.empty(PAIRS, 3, *clip.visual.image_size, device="meta")
    token_BL = torch.zeros(PAIRS, clip.context_length, dtype=torch.long, device="meta")
    condition_B = torch.empty(PAIRS, token_BL.shape[1], denoiser.config.cross_attention_dim, device="meta")
    known_BD = torch.empty(PAIRS, clip.text_projection.shape[1], device="meta")

    def denoise(noisy_B: Tensor, timestep_B: Tensor, state_BLD: Tensor) -> Tensor:
        guess_B: Tensor = denoiser(noisy_B, timestep_B.to("meta"), encoder_hidden_states=state_BLD).sample
        return guess_B

    def contrast(image_BD: Tensor) -> tuple[Tensor, Tensor]:
        text_BD = clip.encode_text(token_BL, normalize=True)
        return text_BD, clip_loss(image_BD, text_BD, 100.0)

    def sds() -> Tensor:
        image_BD = clip.encode_image(pixels_B, normalize=True)
        latent_B = student.latents(image_BD)
        timestep_B = torch.zeros(PAIRS, dtype=torch.long)
        term = sds_loss(denoise, schedule, latent_B, torch.empty_like(latent_B), timestep_B, condition_B)
        return total_loss(contrast(image_BD)[1], term.mean(), 1.0)

    def preference(image_BD: Tensor | None) -> Tensor:
        image_BD = clip.encode_image(pixels_B, normalize=True) if image_BD is None else image_BD
        text_BD, contrastive = contrast(image_BD)
        twin_BD = clip.encode_text(token_BL, normalize=True)
        gap_B = (image_BD * (text_BD - twin_BD)).sum(1)  # stands in for the loss, which needs p: meta tensors have none
        return total_loss(contrastive, gap_B.mean(), 1.0)

    return {
        "sds": _count(sds),
        "preference": _count(lambda: preference(None)),
        "preference, text tower alone": _count(lambda: preference(known_BD)),
    }


def _count(step: Callable[[], Tensor]) -> float:
    """Operations of a step, forward and backward, in 1e9 per pair."""
    with FlopCounterMode(display=False) as counter:
        step().backward()  # type: ignore[no-untyped-call]  # torch leaves `backward` untyped
    operations: int = counter.get_total_flops()
    return round(operations / PAIRS / 1e9, 3)
