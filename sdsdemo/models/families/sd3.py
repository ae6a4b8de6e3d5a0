"""Stable Diffusion 3 and 3.5: two CLIP text encoders, T5 where it is there, and a transformer that predicts a flow.

    condition = [ CLIP 1 ; CLIP 2 ; zeros ] over the width, then T5 over the tokens       pooled = [ CLIP 1 ; CLIP 2 ]

Esser et al. 2024 (arXiv 2403.03206).

Shape suffixes: B batch, C caption, L token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sdsdemo.core.noising import NoiseSchedule
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.pipeline_facts import context_length, flow_matching

T5_TOKENS = 256
"""As its pipeline pads and cuts what goes to T5."""


class StableDiffusion3(LatentDiffusion):
    """A `StableDiffusion3Pipeline`, with T5 or without. Its network is handed 1000 sigma."""

    GPU_PRECISION = torch.bfloat16

    def read_schedule(self, scheduler: Any) -> NoiseSchedule:
        return flow_matching(scheduler, self.name)

    def read_context_lengths(self) -> tuple[int, ...]:
        clip = context_length(self.tokenizers[0], self.text_encoders[0])
        return (clip, clip, T5_TOKENS)[: len(self.text_encoders)]

    def encode_prompts(self, prompts: Sequence[str]) -> Any:
        """(condition_CLD, pooled_CD), as in the module's docstring; zeros stand for T5 where it is left out."""
        states, pooled = [], []
        for k, encoder in enumerate(self.text_encoders[:2]):
            found = encoder(self.tokenized(k, prompts)["input_ids"].to(self.device), output_hidden_states=True)
            states.append(found.hidden_states[-2])
            pooled.append(found[0])
        clip_CLD = torch.cat(states, dim=-1)
        width = self.denoiser.config.joint_attention_dim
        t5_CLD = self._t5(prompts, clip_CLD.new_zeros(len(prompts), T5_TOKENS, width))
        wide_CLD = functional.pad(clip_CLD, (0, width - clip_CLD.shape[-1]))
        return torch.cat([wide_CLD, t5_CLD], dim=1), torch.cat(pooled, dim=-1)

    def _t5(self, prompts: Sequence[str], absent_CLD: Tensor) -> Tensor:
        if len(self.text_encoders) < 3:
            return absent_CLD
        state_CLD: Tensor = self.text_encoders[2](self.tokenized(2, prompts)["input_ids"].to(self.device))[0]
        return state_CLD

    def predict(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """noise - latent."""
        state_BLD, pooled_BD = condition_B
        output_B: Tensor = self.denoiser(
            noisy_B,
            timestep=timestep_B,
            encoder_hidden_states=state_BLD,
            pooled_projections=pooled_BD,
            return_dict=False,
        )[0]
        return output_B
