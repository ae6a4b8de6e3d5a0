"""Lumina-Image 2: a flow transformer that reads an instruction before each caption; its time runs from the noise.

    given 1 - sigma, it answers z - eps, the negated target

Shape suffixes: B batch, C caption, L token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sdsdemo.models.families.language_model import ReadByLanguageModel
from sdsdemo.models.pipeline_facts import FLOW_STEPS

INSTRUCTION = (
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment based "
    "on textual prompts or user prompts. <Prompt Start> "
)
"""Of `Lumina2Pipeline`."""


class Lumina2(ReadByLanguageModel):
    """A `Lumina2Pipeline`. The instruction counts among the tokens that the pipeline pads and cuts to."""

    TOKENS = 256

    @property
    def drawn_tokens(self) -> int:
        """The pipeline counts channels: its latents are in no tokens yet."""
        return self.latent_shape[0]

    def worded(self, prompts: Sequence[str]) -> list[str]:
        """Each cleaned prompt after the instruction; the empty one alone, as the pipeline has it."""
        return [INSTRUCTION + prompt if prompt else "" for prompt in self.cleaned(prompts)]

    def tokenized(self, k: int, prompts: Sequence[str]) -> Any:
        """Padded at the end whatever the tokenizer's files say, as the pipeline has it."""
        return self.tokenizers[k](
            self.worded(prompts),
            padding="max_length",
            padding_side="right",
            max_length=self.TOKENS,
            truncation=True,
            return_tensors="pt",
        )

    def encode_prompts(self, prompts: Sequence[str]) -> Any:
        """(state_CLD, mask_CL)."""
        return self.read_states(prompts)

    def predict(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        """eps - z."""
        state_BLD, mask_BL = condition_B
        output_B: Tensor = self.denoiser(
            noisy_B,
            timestep=1 - timestep_B / FLOW_STEPS,
            encoder_hidden_states=state_BLD,
            encoder_attention_mask=mask_BL,
            return_dict=False,
        )[0]
        return -output_B
