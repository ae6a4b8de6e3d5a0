"""A twin of PRX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, PRXPipeline, PRXTransformer2DModel
from torch import Tensor

from tests import twins
from tests.models.families.family import SIDE, Family, exact_flow, flowed, usual_latent
from tests.models.families.text import describe_both_halves, gemma_tokenizer, rename, t5gemma

WIDTH, TOKENS = 16, 40


def save(folder: Path) -> None:
    """Latents as of FLUX.1; the index names the native size, the text encoder has the config of both halves."""
    vae = twins.vae(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159)
    pipeline(vae=vae, channels=16).save_pretrained(folder)
    rename(folder, tokenizer="GemmaTokenizerFast", text_encoder="prx.T5GemmaEncoder")
    describe_both_halves(folder / "text_encoder", WIDTH)


def pipeline(*, vae: Any, channels: int) -> Any:
    """A pipeline around an autoencoder whose latents have so many channels."""
    torch.manual_seed(0)
    return PRXPipeline(
        vae=vae,
        text_encoder=t5gemma(WIDTH),
        tokenizer=gemma_tokenizer(TOKENS),
        transformer=_transformer(channels),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        default_sample_size=SIDE,
    )


def _transformer(channels: int) -> Any:
    """With weights where training begins with zeros, as captions count for nothing then."""
    transformer: Any = PRXTransformer2DModel(
        in_channels=channels, context_in_dim=WIDTH, hidden_size=16, mlp_ratio=2.0, num_heads=2, depth=2, axes_dim=[4, 4]
    )
    for block in transformer.blocks:
        torch.nn.init.normal_(block.modulation.lin.weight, std=0.3)
    return transformer.eval()


def residual(pipe: Any, latent: Tensor, noise: Tensor, step: int, caption: str) -> Tensor:
    """Through the pipeline's own `encode_prompt`; the network is handed sigma."""
    state, mask, _, _ = pipe.encode_prompt(caption, do_classifier_free_guidance=False)
    output: Tensor = pipe.transformer(
        hidden_states=flowed(latent, noise, step),
        timestep=torch.tensor([step / 1000]),
        encoder_hidden_states=state,
        attention_mask=mask,
    ).sample
    return output - (noise - latent)


PRX = Family(
    kind="PRXPipeline",
    save=save,
    latent=usual_latent,
    residual=residual,
    exact=exact_flow(1.0),
    call={"use_resolution_binning": False},
)
