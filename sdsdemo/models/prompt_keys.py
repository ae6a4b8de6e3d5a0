"""Keys and values of a UNet's cross-attention, once a prompt and not once an evaluation.

    k = c W_k,  v = c W_v      for every layer, side by side:   wide = [ c W_k1 ; c W_v1 ; c W_k2 ; ... ]

A projection that is handed `wide` gives its own part of it, and of any other states what it always gave: one denoiser
takes both, from several threads at once. Names and weights stay, and the numbers are the same bit for bit.

Shape suffixes: C caption, L token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

USUAL = ("AttnProcessor", "AttnProcessor2_0")
"""Attention that reads a caption through `to_k` and `to_v` alone; one of the user's may read it otherwise."""


class _Part(nn.Linear):
    """A projection that finds its result in states as wide as those of all projections."""

    wide: int
    place: slice

    def forward(self, state_CLD: Tensor) -> Tensor:
        return state_CLD[..., self.place] if state_CLD.shape[-1] == self.wide else super().forward(state_CLD)


def read_ahead(unet: Any) -> Sequence[nn.Module]:
    """Teaches the cross-attention of a view of ours to take `wide`, and returns its projections in their order.

    Empty, and nothing changes, where it reads captions in another way: through processors or adapters of the user's,
    or what the UNet adds itself.
    """
    layers = [part for part in unet.modules() if getattr(part, "is_cross_attention", False)]
    if not _reads_states_alone(unet) or not all(map(_is_usual, layers)):
        return ()
    projections = [projection for layer in layers for projection in (layer.to_k, layer.to_v)]
    wide = sum(projection.out_features for projection in projections)
    if any(projection.in_features == wide for projection in projections):
        return ()
    end = 0
    for projection in projections:
        projection.__class__ = _Part
        projection.wide, projection.place = wide, slice(end, end + projection.out_features)
        end += projection.out_features
    return projections


def wide_states(projections: Sequence[nn.Module], state_CLD: Tensor) -> Tensor:
    """What the layers make of captions; the states themselves where there are no projections."""
    return torch.cat([projection(state_CLD) for projection in projections], dim=-1) if projections else state_CLD


def _reads_states_alone(unet: Any) -> bool:
    config = getattr(unet, "config", {})
    adds = config.get("encoder_hid_dim_type"), config.get("addition_embed_type") not in (None, "text_time")
    return type(unet).__name__ == "UNet2DConditionModel" and not any(adds)


def _is_usual(layer: Any) -> bool:
    is_plain = type(layer.to_k) is nn.Linear and type(layer.to_v) is nn.Linear  # no adapter
    return is_plain and not layer.norm_cross and type(layer.processor).__name__ in USUAL
