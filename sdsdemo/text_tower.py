"""Captions through a CLIP's text tower without the padding behind their end. Knows no file and no data set.

A causal tower that takes the features at the end of the text never looks behind that end: 77 places that hold twelve
words and padding give what those twelve words give, to rounding. So captions run at the length of the longest of them.
A tower of another make runs as it is.

Shape suffixes: C caption, L token, D feature.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

AT_THE_END = ("argmax", "eos")
"""What open_clip calls it when the features are those at the end of the text."""


def encode_captions(clip: Any, token_CL: Tensor) -> Tensor:
    """feature_CD of open_clip's `encode_text(normalize=True)`, gradient included."""
    length = longest(clip, token_CL)
    if length is None:
        return clip.encode_text(token_CL, normalize=True)
    tower, prefix = _tower(clip)
    shorter = {
        f"{prefix}positional_embedding": tower.positional_embedding[:length],
        f"{prefix}attn_mask": tower.attn_mask[:length, :length],
    }
    found = functional_call(clip, shorter, (None, token_CL[:, :length]), tie_weights=False)
    return found["text_features"] if isinstance(found, dict) else found[1]


def longest(clip: Any, token_CL: Tensor) -> int | None:
    """Tokens of the longest caption, its end included; None where the tower may look behind the end."""
    tower, _ = _tower(clip)
    mask_LL = getattr(tower, "attn_mask", None)
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    if not isinstance(mask_LL, Tensor) or pool not in AT_THE_END or getattr(tower, "cls_emb", None) is not None:
        return None
    if not torch.equal(torch.isneginf(mask_LL), torch.ones_like(mask_LL).triu(1).bool()):
        return None
    end: Any = getattr(tower, "text_eos_id", getattr(tower, "eos_id", None))
    place_C = token_CL.argmax(1) if pool == "argmax" else token_CL.eq(end).int().argmax(1)
    return int(place_C.max()) + 1


def _tower(clip: Any) -> tuple[Any, str]:
    """The module that holds places and mask, and how its parameters are called within the CLIP."""
    return (clip.text, "text.") if hasattr(clip, "text") else (clip, "")
