"""A twin of Stable Diffusion 3.5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from tests import twins
from tests.models.families.family import Family, exact_flow, flowed, usual_latent
from tests.models.families.text import rename, t5, t5_tokenizer

WIDTH = 48
"""Of a token for the transformer: more than both CLIPs side by side."""


def save(folder: Path, *, with_t5: bool = True) -> None:
    """CLIPs of 16 and 24 numbers a token, latents of 16 channels with a shift, a scheduler that shifts when drawing."""
    torch.manual_seed(0)
    twins.save_bpe(folder / "tokenizer")
    clip = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    first, second = (twins.clip_text_config(hidden_size=width, projection_dim=width) for width in (16, 24))
    pipe: Any = StableDiffusion3Pipeline(
        vae=twins.vae(latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=CLIPTextModelWithProjection(first).eval(),
        tokenizer=clip,
        text_encoder_2=CLIPTextModelWithProjection(second).eval(),
        tokenizer_2=clip,
        text_encoder_3=t5(WIDTH) if with_t5 else None,
        tokenizer_3=t5_tokenizer() if with_t5 else None,
        transformer=_transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipe.save_pretrained(folder)
    for part in ("tokenizer", "tokenizer_2"):  # the Hub has vocab.json and merges.txt
        for file in (folder / part).iterdir():
            file.unlink()
        twins.save_bpe(folder / part)
    if with_t5:
        rename(folder, tokenizer_3="T5TokenizerFast")


def _transformer() -> Any:
    transformer: Any = SD3Transformer2DModel(
        sample_size=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=16 + 24,
        pos_embed_max_size=8,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    return transformer.eval()


def residual(pipe: Any, latent: Tensor, noise: Tensor, step: int, caption: str) -> Tensor:
    """Through the pipeline's own `encode_prompt`."""
    state, _, pooled, _ = pipe.encode_prompt(caption, None, None, do_classifier_free_guidance=False)
    output: Tensor = pipe.transformer(
        hidden_states=flowed(latent, noise, step),
        timestep=torch.tensor([float(step)]),
        encoder_hidden_states=state,
        pooled_projections=pooled,
    ).sample
    return output - (noise - latent)


SD3 = Family(
    kind="StableDiffusion3Pipeline", save=save, latent=usual_latent, residual=residual, exact=exact_flow(1 / 1000)
)
