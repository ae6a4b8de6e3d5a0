"""Captions through a CLIP's text tower, as far as their features need it. Knows no file and no data set.

A causal tower that takes the features at the end of the text never looks behind that end: 77 places that hold twelve
words and padding give what those twelve words give, to rounding. So captions run at the length of the longest of them;
and of the last block, whose other places nobody looks at, all but its keys and values run for the end alone.
A tower of another make runs as it is.

Shape suffixes: C caption, L token, D feature.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

PARTS = {"ln_1", "attn", "ls_1", "ln_2", "mlp", "ls_2"}
"""Of open_clip's usual block."""
AT_THE_END = ("argmax", "eos")
"""What open_clip calls it when the features are those at the end of the text."""


def encode_captions(clip: Any, token_CL: Tensor) -> Tensor:
    """feature_CD of open_clip's `encode_text(normalize=True)`, gradient included."""
    end_C = ends(clip, token_CL)
    if end_C is None:
        feature_CD: Tensor = clip.encode_text(token_CL, normalize=True)
        return feature_CD
    length = int(end_C.max()) + 1
    tower, prefix = _tower(clip)
    if _is_plain(tower.transformer):
        return nn.functional.normalize(_features_at(tower, token_CL[:, :length], end_C), dim=-1)
    shorter = {
        f"{prefix}positional_embedding": tower.positional_embedding[:length],
        f"{prefix}attn_mask": tower.attn_mask[:length, :length],
    }
    found = functional_call(clip, shorter, (None, token_CL[:, :length]), tie_weights=False)
    feature_CD = found["text_features"] if isinstance(found, dict) else found[1]
    return feature_CD


def ends(clip: Any, token_CL: Tensor) -> Tensor | None:
    """end_C, the place of each caption's end; None where the tower may look behind it."""
    tower, _ = _tower(clip)
    mask_LL = getattr(tower, "attn_mask", None)
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    if not isinstance(mask_LL, Tensor) or pool not in AT_THE_END or getattr(tower, "cls_emb", None) is not None:
        return None
    if not torch.equal(torch.isneginf(mask_LL), torch.ones_like(mask_LL).triu(1).bool()):
        return None
    own: Any = getattr(tower, "text_eos_id", getattr(tower, "eos_id", None))
    return token_CL.argmax(1) if pool == "argmax" else token_CL.eq(own).int().argmax(1)


def _tower(clip: Any) -> tuple[Any, str]:
    """The module that holds places and mask, and how its parameters are called within the CLIP."""
    return (clip.text, "text.") if hasattr(clip, "text") else (clip, "")


def _is_plain(transformer: Any) -> bool:
    """Whether its last block is the usual one: attention, then an MLP, each after a norm and added to what it read."""
    last = transformer.resblocks[-1]
    attention = getattr(last, "attn", None)
    if not isinstance(attention, nn.MultiheadAttention) or not attention.batch_first or transformer.grad_checkpointing:
        return False
    return {name for name, _ in last.named_children()} == PARTS


def _features_at(tower: Any, token_CL: Tensor, end_C: Tensor) -> Tensor:
    """feature_CD before they are normalised; the last block is asked at the ends alone."""
    length, caption_C = token_CL.shape[1], torch.arange(len(token_CL), device=token_CL.device)
    precision = tower.transformer.get_cast_dtype()
    state_CLD = tower.token_embedding(token_CL).to(precision) + tower.positional_embedding[:length].to(precision)
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        state_CLD = block(state_CLD, attn_mask=tower.attn_mask[:length, :length])
    normed_CLD = last.ln_1(state_CLD)
    behind_CL = torch.arange(length, device=token_CL.device) > end_C[:, None]
    asked_C1D = normed_CLD[caption_C, end_C][:, None]
    heard_C1D, _ = last.attn(asked_C1D, normed_CLD, normed_CLD, key_padding_mask=behind_CL, need_weights=False)
    state_CD: Tensor = state_CLD[caption_C, end_C] + last.ls_1(heard_C1D[:, 0])
    state_CD = tower.ln_final(state_CD + last.ls_2(last.mlp(last.ln_2(state_CD))))
    project = tower.text_projection
    if project is None:
        return state_CD
    feature_CD: Tensor = project(state_CD) if isinstance(project, nn.Module) else state_CD @ project
    return feature_CD
