"""PixArt-alpha and PixArt-sigma: T5 and a transformer that predicts epsilon, and beside it a variance that is left out.

Chen et al. 2023 (arXiv 2310.00426), 2024 (arXiv 2403.04692).

Shape suffixes: B batch, C caption, L token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdsdemo.models.deepfloyd import deepfloyd
from sdsdemo.models.diffusion import LatentDiffusion


class PixArtAlpha(LatentDiffusion):
    """A `PixArtAlphaPipeline`. Captions are cleaned as DeepFloyd cleans them, twice, as its pipeline does it."""

    GPU_PRECISION = torch.bfloat16  # T5 overflows in half precision
    TOKENS = 120

    def read_context_lengths(self) -> tuple[int, ...]:
        return (self.TOKENS,)

    def cleaned(self, prompts: Sequence[str]) -> list[str]:
        return [deepfloyd(deepfloyd(prompt)) for prompt in super().cleaned(prompts)]

    def encode_prompts(self, prompts: Sequence[str]) -> Any:
        """(condition_CLD, mask_CL): T5's last layer, and 1 where a token is no padding."""
        tokens = self.tokenized(0, prompts).to(self.device)
        mask_CL = tokens["attention_mask"]
        return self.text_encoders[0](tokens["input_ids"], attention_mask=mask_CL)[0], mask_CL

    def predict(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """epsilon: the first half of the channels where there are twice as many."""
        state_BLD, mask_BL = condition_B
        output_B: Tensor = self.denoiser(
            noisy_B,
            encoder_hidden_states=state_BLD,
            encoder_attention_mask=mask_BL,
            timestep=timestep_B,
            added_cond_kwargs=self._size(len(noisy_B)),
            return_dict=False,
        )[0]
        return output_B[:, : noisy_B.shape[1]]

    def _size(self, count: int) -> dict[str, Tensor | None]:
        """The native size and the proportions of a square, where the transformer is told them."""
        if not self.denoiser.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        size_2 = torch.tensor([[self.pixels, self.pixels]], dtype=self.dtype, device=self.device)
        return {"resolution": size_2.expand(count, 2), "aspect_ratio": torch.ones_like(size_2[:, :1]).expand(count, 1)}


class PixArtSigma(PixArtAlpha):
    """A `PixArtSigmaPipeline`: the same with longer captions."""

    TOKENS = 300
