"""Z-Image: a flow transformer over one stream of patches and caption, which counts its time from the noise.

    given 1 - sigma, it answers z - eps, the negated target

The base model only: Z-Image-Turbo is distilled, and no classifier.

Shape suffixes: B batch, C caption, L token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdsdemo.models.families.language_model import ReadAsChat
from sdsdemo.models.pipeline_facts import FLOW_STEPS


class ZImage(ReadAsChat):
    """A `ZImagePipeline`. The transformer takes lists, of latents and of captions without their padding."""

    THINKING = True

    def least_side(self) -> int:
        return min(self.latent_shape[1], int(max(self.denoiser.config.all_patch_size)))

    @property
    def drawn_tokens(self) -> int:
        """Patches of two by two."""
        return int(self.latent_shape[1] // 2) ** 2

    def encode_prompts(self, prompts: Sequence[str]) -> Any:
        """(state_CLD, mask_CL)."""
        return self.read_states(prompts)

    def predict(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """eps - z. A latent is handed over as a film of one frame."""
        state_BLD, mask_BL = condition_B
        captions = [state_LD[mask_L] for state_LD, mask_L in zip(state_BLD, mask_BL.bool(), strict=True)]
        films = list(noisy_B.unsqueeze(2))
        answers = self.denoiser(films, 1 - timestep_B / FLOW_STEPS, captions, return_dict=False)[0]
        return -torch.stack(answers).squeeze(2)
