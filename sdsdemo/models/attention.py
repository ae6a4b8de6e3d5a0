"""Where in a picture a denoiser attends to chosen words: cross-attention of its own evaluations, on the latent grid.

    a(y, x) = mean over layers, heads and the chosen tokens l of  softmax_l( q(y, x) . k_l / sqrt(d) )

The layers are those of the UNet's way up that have the finest grid, enlarged bilinearly if it is coarser than the
latent's: chosen on validation scenes of Mini, where coarser layers and those of the way down hardly told things apart.
The softmax is over all tokens, so a is a share: of all attention of a place, what one of these tokens gets. The
denoiser's output stays the same bit for bit, and the model that was given keeps its own attention processors: what runs
here is a view that shares its weights.

Shape suffixes: B batch, L token, H, W places of the latent, K heads, Q places of a layer's own grid.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.frozen import frozen_view

WAY_UP = "up_blocks"
"""What the names of the layers that are read begin with."""


class AttentionReader:
    """Runs a model's denoiser and reads its cross-attention on the way. Not for two threads at once."""

    def __init__(self, model: LatentDiffusion) -> None:
        """Raises `UserError` for a model whose denoiser is a transformer."""
        model.check_unet("A map of attention", instead="a map of the errors")
        self._model = copy.copy(model)
        self._model.denoiser = frozen_view(model.denoiser, model.device, model.dtype)
        own = self._model.denoiser.attn_processors
        self._model.denoiser.set_attn_processor(
            {name: _Reading(usual, self._keep) if name.startswith(WAY_UP) else usual for name, usual in own.items()}
        )
        self._found: list[Tensor] = []
        self._token_BL = torch.empty(0)

    def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any, token_BL: Tensor) -> tuple[Tensor, Tensor]:
        """(output_B, attention_BHW): the model's `denoise`, and the attention to the tokens that are True in token_BL.

        A sample without a token has zeros. The attention is float32, on the model's device.
        """
        self._found, self._token_BL = [], token_BL.to(self._model.device)
        output_B = self._model.denoise(noisy_B, timestep_B, condition_B)
        height, width = noisy_B.shape[-2:]
        finest = max(layer_BQ.shape[1] for layer_BQ in self._found)
        enlarged = [_enlarged(layer_BQ, height, width) for layer_BQ in self._found if layer_BQ.shape[1] == finest]
        return output_B, torch.stack(enlarged).mean(dim=0)

    def _keep(self, probability_BQL: Tensor) -> None:
        """Reduced at once: a layer's attention to every token may be large."""
        chosen_BL = self._token_BL.to(probability_BQL.dtype)
        count_B1 = chosen_BL.sum(dim=1, keepdim=True).clamp(min=1)
        self._found.append(torch.einsum("bql,bl->bq", probability_BQL, chosen_BL / count_B1).float())


class _Reading:
    """An attention processor that leaves the work to the usual one, and hands on the cross-attention."""

    def __init__(self, usual: Callable[..., Tensor], keep: Callable[[Tensor], None]) -> None:
        self._usual, self._keep = usual, keep

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **others: Any,
    ) -> Tensor:
        if encoder_hidden_states is not None:
            self._keep(_probability(attn, hidden_states, encoder_hidden_states, attention_mask))
        return self._usual(attn, hidden_states, encoder_hidden_states, attention_mask, **others)


def _probability(attn: Any, hidden_BQD: Tensor, text_BLD: Tensor, mask: Tensor | None) -> Tensor:
    """probability_BQL, the mean over heads, as diffusers' processor without fused kernels computes it."""
    size, places = hidden_BQD.shape[:2]
    text_BLD = attn.norm_encoder_hidden_states(text_BLD) if attn.norm_cross else text_BLD
    if mask is not None:
        mask = attn.prepare_attention_mask(mask, text_BLD.shape[1], size)
    query, key = (attn.head_to_batch_dim(of) for of in (attn.to_q(hidden_BQD), attn.to_k(text_BLD)))
    probability_BKQL: Tensor = attn.get_attention_scores(query, key, mask).reshape(size, attn.heads, places, -1)
    return probability_BKQL.mean(dim=1)


def _enlarged(layer_BQ: Tensor, height: int, width: int) -> Tensor:
    """attention_BHW of one layer, whose grid has the proportions of the latent's."""
    shrunk = round((height * width / layer_BQ.shape[1]) ** 0.5)
    grid_B1HW = layer_BQ.reshape(len(layer_BQ), 1, -(-height // shrunk), -(-width // shrunk))
    return functional.interpolate(grid_B1HW, size=(height, width), mode="bilinear", align_corners=False)[:, 0]


def differing_tokens(ids_a: Sequence[int], ids_b: Sequence[int]) -> tuple[list[bool], list[bool]]:
    """For each of two captions' tokens, whether it is outside of the longest runs that both captions share.

    Padding, a token repeated to the end, does not differ.
    """
    length_a, length_b = _without_padding(ids_a), _without_padding(ids_b)
    differs_a = [k < length_a for k in range(len(ids_a))]
    differs_b = [k < length_b for k in range(len(ids_b))]
    matcher = SequenceMatcher(None, list(ids_a[:length_a]), list(ids_b[:length_b]), autojunk=False)
    for a, b, size in matcher.get_matching_blocks():
        differs_a[a : a + size] = [False] * size
        differs_b[b : b + size] = [False] * size
    return differs_a, differs_b


def _without_padding(ids: Sequence[int]) -> int:
    """The number of tokens before the repeated last one; its first occurrence is counted."""
    length = len(ids)
    while length > 1 and ids[length - 2] == ids[length - 1]:
        length -= 1
    return length
