"""Twins of PixArt-alpha and PixArt-sigma."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtSigmaPipeline, PixArtTransformer2DModel
from torch import Tensor

from tests import twins
from tests.models.families.family import Family, exact_epsilon, noised, usual_latent
from tests.models.families.text import rename, t5, t5_tokenizer

LINEAR = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}


def save(folder: Path) -> None:
    """Twice as many channels out as in, and the names of classes of the time when it was published."""
    pipeline(PixArtAlphaPipeline).save_pretrained(folder)
    rename(folder, transformer="Transformer2DModel")
    path = folder / "transformer" / "config.json"
    path.write_text(path.read_text().replace("PixArtTransformer2DModel", "Transformer2DModel"))


def save_sigma(folder: Path) -> None:
    """The same with other weights."""
    pipeline(PixArtSigmaPipeline, seed=1).save_pretrained(folder)


def pipeline(kind: Any, seed: int = 0, **changes: Any) -> Any:
    """One of a class, whose transformer has other settings where `changes` says so."""
    torch.manual_seed(seed)
    return kind(
        vae=twins.vae(),
        text_encoder=t5(16),
        tokenizer=t5_tokenizer(),
        transformer=_transformer(**changes),
        scheduler=DPMSolverMultistepScheduler(**LINEAR),
    )


def _transformer(**changes: Any) -> Any:
    usual: dict[str, Any] = {
        "sample_size": 4,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "cross_attention_dim": 16,
        "caption_channels": 16,
    }
    made: Any = PixArtTransformer2DModel(**usual | changes)
    return made.eval()


def residual(pipe: Any, latent: Tensor, noise: Tensor, step: int, caption: str) -> Tensor:
    """Through the pipeline's own `encode_prompt`; the first half of the channels is epsilon."""
    state, mask, _, _ = pipe.encode_prompt(caption, do_classifier_free_guidance=False)
    output: Tensor = pipe.transformer(
        noised(pipe, latent, noise, step),
        encoder_hidden_states=state,
        encoder_attention_mask=mask,
        timestep=torch.tensor([step]),
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample
    return output.chunk(2, dim=1)[0] - noise


PIXART_ALPHA, PIXART_SIGMA = (
    Family(
        kind=kind,
        save=saved,
        latent=usual_latent,
        residual=residual,
        exact=exact_epsilon,
        call={"use_resolution_binning": False},
    )
    for kind, saved in (("PixArtAlphaPipeline", save), ("PixArtSigmaPipeline", save_sigma))
)
