"""The autoencoder of the Mini teachers: 64 x 64 pictures to latents of 4 x 8 x 8 and back.

    L = ||x_hat - x||^2 + 0.3 |x_hat - x| + 1e-6 KL( q(z | x) || N(0, I) )

then a scaling factor 1 / std(z), as in Rombach et al. 2022 (arXiv 2112.10752, section 3.1 and appendix G).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from sdsdemo.data.mini.drawing import MODEL_PIXELS
from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.finetuning.loop import LossesAt, TrainingConfig

TRAINING = TrainingConfig(steps=1500, learning_rate=3e-3, warm_up=60)
BATCH = 16
KL_WEIGHT = 1e-6
SALT = 1
ENCODED_AT_ONCE = 250


def fresh() -> AutoencoderKL:
    """An untrained autoencoder, from seed 0."""
    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=MODEL_PIXELS,
    )


def losses_at(autoencoder: AutoencoderKL, stream: MiniStream) -> LossesAt:
    """Reconstruction and KL losses of a step's pictures."""

    def losses(step: int) -> Mapping[str, Tensor]:
        index_B, _ = stream.draw_batch(step, BATCH, salt=SALT)
        pixels_B = as_pixels(stream.pictures_N[index_B])
        posterior = autoencoder.encode(pixels_B).latent_dist
        noise_B = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(step))
        gap_B = autoencoder.decode(posterior.mean + posterior.std * noise_B).sample - pixels_B
        square = gap_B.square().mean()
        loss = square + 0.3 * gap_B.abs().mean() + KL_WEIGHT * posterior.kl().mean()
        return {"loss": loss, "square": square.detach()}

    return losses


def as_pixels(pictures_N: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] to float [N, 3, H, W] in -1 to 1."""
    return torch.from_numpy(np.array(pictures_N)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def encode_all(autoencoder: AutoencoderKL, pictures_N: np.ndarray) -> Tensor:
    """Unscaled latent means, float [N, 4, 8, 8]."""
    starts = range(0, len(pictures_N), ENCODED_AT_ONCE)
    return torch.cat(
        [autoencoder.encode(as_pixels(pictures_N[i : i + ENCODED_AT_ONCE])).latent_dist.mean for i in starts]
    )
