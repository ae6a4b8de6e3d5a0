"""A twin of Stable Diffusion XL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests import twins
from tests.models.families.family import SIDE, Family, exact_epsilon, noised, usual_latent


def save(folder: Path) -> None:
    """Two text encoders of 16 and 24 numbers a token, a UNet that is told sizes."""
    torch.manual_seed(0)
    tokenizers = {}
    for part in ("tokenizer", "tokenizer_2"):
        twins.save_bpe(folder / part)
        tokenizers[part] = CLIPTokenizer.from_pretrained(folder / part)
    first, second = (twins.clip_text_config(hidden_size=width, projection_dim=width) for width in (16, 24))
    pipe: Any = StableDiffusionXLPipeline(
        vae=twins.vae(scaling_factor=0.13025),
        text_encoder=CLIPTextModel(first).eval(),
        text_encoder_2=CLIPTextModelWithProjection(second).eval(),
        unet=_unet(),
        scheduler=EulerDiscreteScheduler(**twins.NOISE),
        **tokenizers,
    )
    pipe.save_pretrained(folder)
    for part in tokenizers:  # the Hub has vocab.json and merges.txt
        for file in (folder / part).iterdir():
            file.unlink()
        twins.save_bpe(folder / part)


def _unet() -> Any:
    unet: Any = UNet2DConditionModel(
        sample_size=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=40,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
    )
    return unet.eval()


def residual(pipe: Any, latent: Tensor, noise: Tensor, step: int, caption: str) -> Tensor:
    """Through the pipeline's own `encode_prompt` and `_get_add_time_ids`."""
    state, _, pooled, _ = pipe.encode_prompt(caption, do_classifier_free_guidance=False)
    size = (SIDE, SIDE)
    time_ids = pipe._get_add_time_ids(size, (0, 0), size, torch.float32, pipe.text_encoder_2.config.projection_dim)
    output: Tensor = pipe.unet(
        noised(pipe, latent, noise, step),
        torch.tensor([step]),
        encoder_hidden_states=state,
        added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
    ).sample
    return output - noise


SDXL = Family(kind="StableDiffusionXLPipeline", save=save, latent=usual_latent, residual=residual, exact=exact_epsilon)
