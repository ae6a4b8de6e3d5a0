"""Flow pipelines whose text encoder is a language model; a chat model reads each caption as a message of the user's.

    x_t = (1 - sigma) z + sigma eps,  sigma = t / 1000,  target eps - z

Shape suffixes: C caption, L token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdsdemo.core.noising import NoiseSchedule
from sdsdemo.errors import UserError
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.pipeline_facts import flow_matching

NO_TEMPLATE = (
    "The tokenizer of {name!r} has no chat template, and its text encoder reads captions as messages of a chat: add "
    "the chat_template.jinja of the model that it comes from, or fetch the model again."
)
PROMPTS_AT_ONCE = 4
"""Prompts that are encoded at once: the states of every layer take about 200 MB each at Qwen3-4B's size."""


class ReadByLanguageModel(LatentDiffusion):
    """What such families have in common; `LAYERS` and `TOKENS` are the pipeline's own."""

    GPU_PRECISION = torch.bfloat16
    LAYERS: tuple[int, ...] = (-2,)
    """After which layers the states are taken; they stand side by side."""
    TOKENS = 512
    """Tokens that the pipeline pads prompts to."""

    def read_schedule(self, scheduler: Any) -> NoiseSchedule:
        """sigma of step k is k / 1000."""
        return flow_matching(scheduler, self.name)

    def read_context_lengths(self) -> tuple[int, ...]:
        """The pipeline's own limit: the language model itself reads more."""
        return (self.TOKENS,)

    def drawn_over(self, scheduler: Any, steps: int) -> dict[str, Any]:
        """Sigmas from 1 to 1 / steps before the shift, in place of the scheduler's own."""
        return super().drawn_over(scheduler, steps) | {"sigmas": [1 - k / steps for k in range(steps)]}

    def read_states(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(state_CLD, mask_CL): the states after `LAYERS`, side by side, and 1 for each token that is not padding."""
        tokens, states = self.tokenized(0, prompts), []
        id_CL, mask_CL = (tokens[key].to(self.device) for key in ("input_ids", "attention_mask"))
        for id_BL, mask_BL in zip(id_CL.split(PROMPTS_AT_ONCE), mask_CL.split(PROMPTS_AT_ONCE), strict=True):
            found = self.text_encoders[0].base_model(  # without the head, which would predict the next word
                input_ids=id_BL, attention_mask=mask_BL, output_hidden_states=True, use_cache=False
            )
            states.append(torch.cat([found.hidden_states[layer] for layer in self.LAYERS], dim=-1))
        return torch.cat(states), mask_CL


class ReadAsChat(ReadByLanguageModel):
    """Those whose language model is a chat model; `THINKING` is the pipeline's own."""

    THINKING = True
    """What the chat template is told about thinking."""

    def worded(self, prompts: Sequence[str]) -> list[str]:
        """Each cleaned prompt as the chat template writes a message of the user's. Raises `UserError` without one."""
        tokenizer = self.tokenizers[0]
        if not tokenizer.chat_template:
            raise UserError(NO_TEMPLATE.format(name=self.name))
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": self.THINKING}
        messages = [[{"role": "user", "content": prompt}] for prompt in self.cleaned(prompts)]
        return [tokenizer.apply_chat_template(message, **options) for message in messages]
