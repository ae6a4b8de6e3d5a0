"""PRX: the encoder of T5Gemma, and a transformer that predicts a flow.

Photoroom 2025; the pipeline of diffusers is the reference. Its autoencoder is that of FLUX.1 or DC-AE.

Shape suffixes: B batch, C caption, L token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdsdemo.core.noising import NoiseSchedule
from sdsdemo.models.deepfloyd import deepfloyd
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.pipeline_facts import FLOW_STEPS, flow_matching


class PRX(LatentDiffusion):
    """A `PRXPipeline`. Captions are cleaned as DeepFloyd cleans them. Its network is handed sigma itself."""

    GPU_PRECISION = torch.bfloat16

    def read_schedule(self, scheduler: Any) -> NoiseSchedule:
        return flow_matching(scheduler, self.name)

    def cleaned(self, prompts: Sequence[str]) -> list[str]:
        return [deepfloyd(prompt) for prompt in super().cleaned(prompts)]

    def encode_prompts(self, prompts: Sequence[str]) -> Any:
        """(condition_CLD, mask_CL): T5Gemma's last layer, and True where a token is no padding."""
        tokens, encoder = self.tokenized(0, prompts).to(self.device), self.text_encoders[0]
        mask_CL = tokens["attention_mask"].bool()
        return encoder(input_ids=tokens["input_ids"], attention_mask=mask_CL)[0], mask_CL

    @property
    def latent_pixels(self) -> int:
        return int(getattr(self.vae, "spatial_compression_ratio", None) or super().latent_pixels)

    def encode_pixels(self, pixels_I: Tensor) -> Tensor:
        """As usual; DC-AE gives one latent and no posterior."""
        encoded = self.vae.encode(pixels_I.to(self.device))
        latent_I: Tensor = encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mean
        return self.normalised(latent_I)

    def predict(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """noise - latent."""
        state_BLD, mask_BL = condition_B
        output_B: Tensor = self.denoiser(
            noisy_B,
            timestep=timestep_B.float() / FLOW_STEPS,
            encoder_hidden_states=state_BLD,
            attention_mask=mask_BL,
            return_dict=False,
        )[0]
        return output_B
