"""FLUX.2 klein: a flow transformer over 2 x 2 patches of the latent, told its tokens' places; three layers of Qwen3.

The base models only: the others are distilled, and no classifiers.

Shape suffixes: I image, B batch, C caption, N place, L token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from sdsdemo.models.families.language_model import ReadAsChat
from sdsdemo.models.pipeline_facts import FLOW_STEPS, check_channels, measured_shift


class Flux2Klein(ReadAsChat):
    """A `Flux2KleinPipeline`. A latent is the VAE's in patches, normalised with the statistics that the VAE holds.

    The transformer attends to the padding of a caption too, as the pipeline lets it, and in bfloat16 it rounds the time
    to 8 bits: near sigma = 1 by up to 4 steps.
    """

    LAYERS = (9, 18, 27)
    THINKING = False

    @property
    def patch(self) -> int:
        """Elements a side of the VAE's latent in one element of ours."""
        return int(self.vae.config.patch_size[0])

    def read_latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) in patches."""
        channels = self.denoiser.config.in_channels
        check_channels(channels, self.vae.config.latent_channels * self.patch**2, self.name)
        side = self.named_pixels // self.latent_pixels
        return channels, side, side

    @property
    def latent_pixels(self) -> int:
        return super().latent_pixels * self.patch

    def normalised(self, mean_I: Tensor) -> Tensor:
        """(patches - mean) / sqrt(variance + eps), of the VAE's batch normalisation."""
        mean, deviation = self._statistics()
        return (pixel_unshuffle(mean_I, self.patch) - mean) / deviation

    def as_vae_gave(self, latent_I: Tensor) -> Tensor:
        mean, deviation = self._statistics()
        return pixel_shuffle(latent_I * deviation + mean, self.patch)

    def drawn_over(self, scheduler: Any, steps: int) -> dict[str, Any]:
        """With the shift that FLUX.2 has measured."""
        tokens = self.latent_shape[1] * self.latent_shape[2]
        return super().drawn_over(scheduler, steps) | {"mu": measured_shift(tokens, steps)}

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, [channels, 1, 1]."""
        norm = self.vae.bn
        return norm.running_mean[:, None, None], (norm.running_var + norm.eps).sqrt()[:, None, None]

    def encode_prompts(self, prompts: Sequence[str]) -> Any:
        """condition_CLD, padding included."""
        return self.read_states(prompts)[0]

    def predict(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """eps - z, from sigma and the places (time, row, column, token) of patches and tokens."""
        batch, _, height, width = noisy_B.shape
        output_BND: Tensor = self.denoiser(
            noisy_B.flatten(2).transpose(1, 2),
            encoder_hidden_states=condition_B,
            timestep=timestep_B / FLOW_STEPS,
            img_ids=_places(1, height, width, 1).to(self.device).expand(batch, -1, -1),
            txt_ids=_places(1, 1, 1, condition_B.shape[1]).to(self.device).expand(batch, -1, -1),
            return_dict=False,
        )[0]
        return output_BND.transpose(1, 2).reshape(noisy_B.shape)


def _places(*sizes: int) -> Tensor:
    """place_N4 of every element of a grid, rows first."""
    return torch.cartesian_prod(*map(torch.arange, sizes))
