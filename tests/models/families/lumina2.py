"""A twin of Lumina-Image 2."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel
from torch import Tensor
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

from tests import twins
from tests.models.families import qwen
from tests.models.families.family import Family, usual_latent

WIDTH = 16


def save(folder: Path) -> None:
    """A tokenizer whose files ask for padding at the start; more channels than tokens of a picture."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    pipe: Any = Lumina2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=twins.vae(latent_channels=8, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=Gemma2Model(_gemma(len(tokenizer))).eval(),
        tokenizer=tokenizer,
        transformer=_transformer(),
    )
    tokenizer.padding_side = "left"
    pipe.save_pretrained(folder)


def _tokenizer() -> Any:
    """Of all small letters, and a byte for anything else."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", *string.ascii_lowercase]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    return GemmaTokenizer(vocab={token: k for k, token in enumerate(tokens)}, merges=[])


def _gemma(vocabulary: int) -> Gemma2Config:
    return Gemma2Config(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=64,
        max_position_embeddings=512,
        initializer_range=0.3,
    )


def _transformer() -> Any:
    made: Any = Lumina2Transformer2DModel(
        sample_size=4,
        in_channels=8,
        hidden_size=24,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=8,
        axes_dim_rope=(4, 4, 4),
        axes_lens=(300, 16, 16),
        cap_feat_dim=WIDTH,
    )
    return qwen.lively(made)


def residual(pipe: Any, latent: Tensor, noise: Tensor, step: int, caption: str) -> Tensor:
    """The time from noise to picture, and the output negated."""
    sigma = step / 1000
    noisy = (1 - sigma) * latent + sigma * noise
    state, mask, _, _ = pipe.encode_prompt(caption, do_classifier_free_guidance=False)
    output: Tensor = pipe.transformer(noisy, torch.tensor([1 - sigma]), state, mask, return_dict=False)[0]
    return -output - (noise - latent)


def exact(_pipe: Any, latent: Tensor, _noise: Tensor) -> Callable[..., Any]:
    """From 1 - sigma, negated."""
    target = qwen.exact_flow(latent, lambda time: 1 - time)

    def forward(hidden_states: Tensor, timestep: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        return (-target(hidden_states, timestep),)

    return forward


LUMINA2 = Family(kind="Lumina2Pipeline", save=save, latent=usual_latent, residual=residual, exact=exact)
