"""Stable Diffusion XL: two text encoders and a UNet that predicts epsilon, told the size and the crop of the picture.

Podell et al. 2023 (arXiv 2307.01952).

Shape suffixes: B batch, C caption, L token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdsdemo.models.diffusion import LatentDiffusion


class StableDiffusionXL(LatentDiffusion):
    """A `StableDiffusionXLPipeline`. Every picture is said to have the native size, uncropped."""

    def encode_prompts(self, prompts: Sequence[str]) -> Any:
        """(condition_CLD, pooled_CD): both encoders' last layer but one, side by side, and the second's projection.

        Zeros in both for the empty prompt, unless the pipeline's index has it encoded.
        """
        states, pooled_CD = [], torch.empty(0)
        for k, encoder in enumerate(self.text_encoders):
            found = encoder(self.tokenized(k, prompts)["input_ids"].to(self.device), output_hidden_states=True)
            states.append(found.hidden_states[-2])
            pooled_CD = found[0]
        state_CLD = torch.cat(states, dim=-1)
        if self.empty_is_zeros:
            empty = [c for c, text in enumerate(self.worded(prompts)) if not text]
            state_CLD[empty], pooled_CD[empty] = 0.0, 0.0
        return state_CLD, pooled_CD

    def predict(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """epsilon, with the pooled caption and the six numbers of size, crop and wanted size."""
        state_BLD, pooled_BD = condition_B
        side = self.pixels
        size_B6 = torch.tensor([[side, side, 0, 0, side, side]], dtype=self.dtype, device=self.device)
        added = {"text_embeds": pooled_BD, "time_ids": size_B6.expand(len(noisy_B), -1)}
        output_B: Tensor = self.denoiser(
            noisy_B, timestep_B, encoder_hidden_states=state_BLD, added_cond_kwargs=added, return_dict=False
        )[0]
        return output_B
