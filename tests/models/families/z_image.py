"""A twin of Z-Image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from torch import Tensor
from transformers import Qwen3Model

from tests import twins
from tests.models.families import qwen
from tests.models.families.family import SIDE, Family, usual_latent


def save(folder: Path) -> None:
    """Latents of 4 channels, scaled and shifted; the language model is stored without its head."""
    torch.manual_seed(0)
    tokenizer = qwen.tokenizer()
    pipe: Any = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=twins.vae(scaling_factor=0.3611, shift_factor=0.1159, sample_size=SIDE),
        text_encoder=Qwen3Model(qwen.config(len(tokenizer))).eval(),
        tokenizer=tokenizer,
        transformer=_transformer(),
    )
    pipe.save_pretrained(folder)
    qwen.template_into_config(folder / "tokenizer")


def _transformer() -> Any:
    made: Any = ZImageTransformer2DModel(
        in_channels=4,
        dim=16,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=qwen.WIDTH,
        axes_dims=[4, 2, 2],
        axes_lens=[1024, 32, 32],
    )
    return qwen.lively(made)


def residual(pipe: Any, latent: Tensor, noise: Tensor, step: int, caption: str) -> Tensor:
    """Lists of one, the time from noise to picture, and the output negated."""
    sigma = step / 1000
    noisy = (1 - sigma) * latent + sigma * noise
    captions, _ = pipe.encode_prompt(caption, do_classifier_free_guidance=False)
    (output,) = pipe.transformer([noisy[0].unsqueeze(1)], torch.tensor([1 - sigma]), captions, return_dict=False)[0]
    return -output.squeeze(1)[None] - (noise - latent)


def exact(_pipe: Any, latent: Tensor, _noise: Tensor) -> Callable[..., Any]:
    """In lists of films of one frame, from 1 - sigma, negated."""
    target = qwen.exact_flow(latent, lambda time: 1 - time)

    def forward(x: list[Tensor], t: Tensor, cap_feats: list[Tensor], **_: Any) -> tuple[list[Tensor]]:
        assert len(cap_feats) == len(x)
        return ([-target(film.squeeze(1)[None], t[b : b + 1])[0].unsqueeze(1) for b, film in enumerate(x)],)

    return forward


Z_IMAGE = Family(
    kind="ZImagePipeline",
    save=save,
    latent=usual_latent,
    residual=residual,
    exact=exact,
    call={"guidance_scale": 0.0},  # where others take 1 for none
)
