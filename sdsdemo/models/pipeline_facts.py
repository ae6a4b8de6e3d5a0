"""What the configs of a pipeline's parts say: its noise levels, the size of its latents, how many tokens it reads."""

from __future__ import annotations

from typing import Any

import torch

from sdsdemo.core.noising import NoiseSchedule, Prediction
from sdsdemo.errors import UserError
from sdsdemo.models.pipelines import FLOW_SCHEDULERS, OTHER_NOISE, OTHER_SCHEDULER, one_side

PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}
FLOW_STEPS = 1000
"""Noise levels of a flow model, as all of them were trained with."""


def variance_preserving(scheduler: Any, name: str) -> NoiseSchedule:
    """The noise levels that the model was trained with. Raises `UserError` for a target that is not supported."""
    target = scheduler.config.get("prediction_type", "epsilon")
    alpha_bar_T = getattr(scheduler, "alphas_cumprod", None)
    kind = type(scheduler).__name__
    if alpha_bar_T is None:
        words = OTHER_SCHEDULER if kind.startswith(FLOW_SCHEDULERS) else OTHER_NOISE
        raise UserError(words.format(name=name, kind=kind))
    if target not in PREDICTIONS:
        raise UserError(f"{name!r} predicts {target!r} with a {kind}; supported: {', '.join(PREDICTIONS)}.")
    alpha_bar_T = alpha_bar_T.detach().float().clone()
    if not bool(((alpha_bar_T >= 0) & (alpha_bar_T <= 1)).all()):
        raise UserError(f"The scheduler of {name!r} has noise levels that are not numbers from 0 to 1: save it again.")
    return NoiseSchedule(prediction=PREDICTIONS[target], alpha_bar=alpha_bar_T)


def latent_shape(unet: Any, vae: Any, name: str, side: int = 0) -> tuple[int, int, int]:
    """(channels, height, width) from the configs of denoiser and VAE; `side` where the denoiser's names no size."""
    check_channels(unet.in_channels, vae.latent_channels, name)
    size = one_side(unet.get("sample_size", side or None))
    if not isinstance(size, int):
        raise UserError(f"The config of {name!r} does not name one native size: choose a model of square pictures.")
    return (unet.in_channels, size, size)


def check_channels(taken: int, given: int, name: str) -> None:
    """Raises `UserError` where the denoiser takes other channels than the latents have."""
    if taken != given:
        raise UserError(
            f"The denoiser of {name!r} takes {taken} channels, but its VAE gives {given}: it was made for a task other "
            "than text to image, so choose another model."
        )


def context_length(tokenizer: Any, text_encoder: Any) -> int:
    """Tokens that prompts are padded to: the tokenizer's, or the text encoder's where the tokenizer names none."""
    length = int(tokenizer.model_max_length)
    return length if length < 100_000 else int(text_encoder.config.max_position_embeddings)


def flow_matching(scheduler: Any, name: str) -> NoiseSchedule:
    """`rectified_flow`. Raises `UserError` for a scheduler of another kind."""
    kind = type(scheduler).__name__
    if not kind.startswith(FLOW_SCHEDULERS):
        raise UserError(OTHER_SCHEDULER.format(name=name, kind=kind))
    return rectified_flow()


def shift_of(scheduler: Any, tokens: int) -> float:
    """mu of the line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift), at so many tokens."""
    config = scheduler.config
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return float(config.base_shift + slope * (tokens - config.base_image_seq_len))


def measured_shift(tokens: int, steps: int) -> float:
    """mu of FLUX.2, fitted to drawings: it depends on the number of steps too."""
    from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

    return float(compute_empirical_mu(image_seq_len=tokens, num_steps=steps))


def rectified_flow() -> NoiseSchedule:
    """sigma of step k is k / 1000, whatever shift the scheduler applies when it draws."""
    return NoiseSchedule(prediction="flow", sigma=torch.arange(FLOW_STEPS) / FLOW_STEPS)
