"""The UNet of the Mini teachers, and the pipeline folders that they are shipped in.

    L = E || v_hat(z_t, t, c) - v ||^2 ,   v = sqrt(abar_t) eps - sqrt(1 - abar_t) z    (Salimans & Ho 2022, 2202.00512)

computed from the denoising error of `sdsdemo.core.losses`, as || v_hat - v ||^2 = || eps_hat - eps ||^2 / abar_t.

Timesteps: the noised latent itself shows a picture's layout until t is high, so scenes with places are trained at 450
to 960 with probability 0.8; everything else at 200 to 900 with probability 0.7, otherwise at any t.

mini-diffusion-short takes two stages: the second continues from the first one's weights with more scenes of counted
objects, as numbers are learned late. mini-diffusion continues from its files with two longer stages and more scenes of
two objects side by side, as which of them has which colour is learned last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import DistilBertModel

from sdsdemo.core.losses import denoising_error
from sdsdemo.core.noising import NoiseSchedule
from sdsdemo.data.mini.scenes import Scene
from sdsdemo.data.mini.sentences import Sentence
from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.finetuning.loop import LossesAt, TrainingConfig
from sdsdemo.mini.models import text_encoder, tokenizer
from sdsdemo.runtime.files import write_json
from sdsdemo.runtime.shipped import shipped

BATCH = 64
CAPTION_DROPOUT = 0.08
PLACED, COUNTED, BESIDE = ("left", "above"), ("count",), ("and",)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of training, and the share of each batch drawn from given families; the rest comes from all others."""

    training: TrainingConfig
    shares: Mapping[tuple[str, ...], float]
    salt: int


STAGES = {
    "denoiser": Stage(
        training=TrainingConfig(steps=3000, learning_rate=1e-3, warm_up=100, decay="late", ema=0.998),
        shares={PLACED: 0.6},
        salt=3,
    ),
    "denoiser-2": Stage(
        training=TrainingConfig(steps=1500, learning_rate=8e-4, warm_up=100, decay="late", ema=0.998),
        shares={PLACED: 0.3, COUNTED: 0.4},
        salt=8,
    ),
}
LONGER = {
    f"denoiser-{number}": Stage(
        training=TrainingConfig(steps=steps, learning_rate=8e-4, warm_up=100, decay="late", ema=0.998),
        shares={PLACED: 0.2, COUNTED: 0.2, BESIDE: 0.4},
        salt=salt,
    )
    for number, steps, salt in ((3, 4500, 9), (4, 4000, 10))
}
"""Shares chosen to favour the swaps that mini-diffusion-short gets wrong on new validation pairs."""


class Samples:
    """A stage's pictures and sentences by step: the same for every model that is trained on them."""

    def __init__(self, stream: MiniStream, stage: Stage, tag_share: float = 0.0, seed: int = 0) -> None:
        """tag_share: as in `MiniStream`. seed: draws other batches of the same stream."""
        self._stream, self._salt, self._tag_share = stream, stage.salt + 1000 * seed, tag_share
        family_N = np.array([scene.family for scene in stream.scenes])
        self._pools = [np.flatnonzero(np.isin(family_N, families)) for families in stage.shares]
        named = [family for families in stage.shares for family in families]
        self._pools.append(np.flatnonzero(~np.isin(family_N, named)))
        self._edges = np.cumsum(list(stage.shares.values()))

    def __call__(self, step: int) -> tuple[np.random.Generator, np.ndarray, list[Sentence]]:
        """The step's generator, for what else is random; index_B of its pictures, and a sentence for each."""
        rng = np.random.default_rng((self._stream.seed, self._salt, step))
        pools, edges = self._pools, self._edges
        index_B = np.array([rng.choice(pools[np.searchsorted(edges, rng.random(), "right")]) for _ in range(BATCH)])
        return rng, index_B, self._stream.sentences(rng, index_B, self._tag_share)


def fresh(seed: int = 0) -> UNet2DConditionModel:
    """An untrained UNet."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(48, 96),
        layers_per_block=1,
        cross_attention_dim=text_encoder.WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise levels, with v as the target."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
    )


def losses_at(
    unet: UNet2DConditionModel,
    encoder: DistilBertModel,
    stream: MiniStream,
    latent_N: Tensor,
    stage: Stage,
    tag_share: float = 0.0,
    seed: int = 0,
) -> LossesAt:
    """The v-prediction loss of a step. latent_N: every picture of the stream, scaled. tag_share, seed: as in `Samples`.

    An encoder that is not frozen learns with the UNet. Scenes with places, which are learned slowly, are also logged
    separately.
    """
    schedule = NoiseSchedule(prediction="v", alpha_bar=scheduler().alphas_cumprod)
    placed_N = np.isin(np.array([scene.family for scene in stream.scenes]), PLACED)
    samples = Samples(stream, stage, tag_share, seed)
    assert schedule.alpha_bar is not None
    alpha_bar_T = schedule.alpha_bar

    def denoise(noisy_B: Tensor, timestep_B: Tensor, state_BLD: Tensor) -> Tensor:
        output_B: Tensor = unet(noisy_B, timestep_B, encoder_hidden_states=state_BLD).sample
        return output_B

    def losses(step: int) -> Mapping[str, Tensor]:
        rng, index_B, sentences = samples(step)
        token_BL = tokenizer.token_ids(sentences)
        token_BL[torch.from_numpy(rng.random(BATCH) < CAPTION_DROPOUT)] = tokenizer.token_ids([NOTHING])
        state_BLD = encoder(token_BL).last_hidden_state
        timestep_B = torch.tensor([_timestep(rng, stream.scenes[i]) for i in index_B])
        noise_B = torch.from_numpy(rng.standard_normal((BATCH, *latent_N.shape[1:]), dtype=np.float32))
        error_B = denoising_error(denoise, schedule, latent_N[index_B], noise_B, timestep_B, state_BLD)
        v_error_B = error_B / alpha_bar_T[timestep_B]
        placed_B = torch.from_numpy(placed_N[index_B])
        return {"loss": v_error_B.mean(), "eps": error_B.mean(), "placed": v_error_B[placed_B].mean()}

    return losses


NOTHING = Sentence(words=(), owner=())
"""The empty prompt."""


def _timestep(rng: np.random.Generator, scene: Scene) -> int:
    if scene.family in PLACED and rng.random() < 0.8:
        return int(rng.integers(450, 960))
    return int(rng.integers(200, 900)) if rng.random() < 0.7 else int(rng.integers(1000))


def read_pipeline(folder: Path) -> tuple[AutoencoderKL, DistilBertModel, UNet2DConditionModel]:
    """Autoencoder, text encoder and UNet of a folder, in single precision and frozen."""
    parts = (
        AutoencoderKL.from_pretrained(folder / "vae"),
        DistilBertModel.from_pretrained(folder / "text_encoder"),
        UNet2DConditionModel.from_pretrained(folder / "unet"),
    )
    vae, encoder, unet = (part.float().requires_grad_(False).eval() for part in parts)
    return vae, encoder, unet


def save_pipeline(
    folder: Path, autoencoder: AutoencoderKL, encoder: DistilBertModel, unet: UNet2DConditionModel
) -> None:
    """Write a `StableDiffusionPipeline` folder, with weights in half precision.

    Rounding moves scores by 2e-5 in the median and 6e-5 at most, a fiftieth of a typical difference between two
    captions; none of 50 validation preferences changed.
    """
    for part, module in (("vae", autoencoder), ("text_encoder", encoder), ("unet", unet)):
        module.half().save_pretrained(folder / part)
        _forget_origin(folder / part / "config.json")
    scheduler().save_pretrained(folder / "scheduler")
    tokenizer.save_tokenizer(folder / "tokenizer")
    nothing = [None, None]
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.36.0",
        "feature_extractor": nothing,
        "image_encoder": nothing,
        "requires_safety_checker": False,
        "safety_checker": nothing,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "DistilBertModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    write_json(folder / "model_index.json", index, indent=2)


def _forget_origin(path: Path) -> None:
    """Remove the path that a part was loaded from, which diffusers and transformers store in its config."""
    config = shipped(path, dict[str, Any])
    if config.pop("_name_or_path", None) is not None:
        write_json(path, config, indent=2)
