"""A twin of FLUX.2 klein base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from torch import Tensor
from transformers import Qwen3ForCausalLM

from tests.models.families import qwen
from tests.models.families.family import SIDE, Family


def save(folder: Path) -> None:
    """Latents of 4 channels, 16 in patches; statistics of the VAE's that are not 0 and 1."""
    torch.manual_seed(0)
    tokenizer = qwen.tokenizer()
    vae = _vae()
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    pipe: Any = Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(qwen.config(len(tokenizer))).eval(),
        tokenizer=tokenizer,
        transformer=_transformer(),
        is_distilled=False,
    )
    pipe.save_pretrained(folder)
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("Qwen2Tokenizer", "Qwen2TokenizerFast"))


def _vae() -> Any:
    vae: Any = AutoencoderKLFlux2(
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE,
        batch_norm_eps=0.1,
    )
    return vae.eval()


def _transformer() -> Any:
    made: Any = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=3 * qwen.WIDTH,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
    )
    return qwen.lively(made)


def latent_of(pipe: Any, pixels: Tensor) -> Tensor:
    """As the pipeline encodes a picture that it is given to edit."""
    found: Tensor = pipe._encode_vae_image(pixels, generator=None)
    return found


def residual(pipe: Any, latent: Tensor, noise: Tensor, step: int, caption: str) -> Tensor:
    """Through the pipeline's own packing, places and `encode_prompt`."""
    sigma = step / 1000
    noisy = (1 - sigma) * latent + sigma * noise
    condition, text_ids = pipe.encode_prompt(caption)
    image_ids = pipe._prepare_latent_ids(noisy)
    output = pipe.transformer(
        hidden_states=pipe._pack_latents(noisy),
        timestep=torch.tensor([sigma]),
        guidance=None,
        encoder_hidden_states=condition,
        txt_ids=text_ids,
        img_ids=image_ids,
    ).sample
    height, width = noisy.shape[2:]
    unpacked: Tensor = pipe._unpack_latents_with_ids(output, image_ids, height, width)
    return unpacked - (noise - latent)


def exact(pipe: Any, latent: Tensor, _noise: Tensor) -> Callable[..., Any]:
    """In packed tokens, from sigma."""
    target = qwen.exact_flow(pipe._pack_latents(latent), lambda sigma: sigma)

    def forward(hidden_states: Tensor, *_: Any, timestep: Tensor, **__: Any) -> tuple[Tensor]:
        return (target(hidden_states, timestep),)

    return forward


FLUX2_KLEIN = Family(kind="Flux2KleinPipeline", save=save, latent=latent_of, residual=residual, exact=exact)
