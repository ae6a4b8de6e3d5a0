"""Patch tokens of CLIP's image tower, each at its place in the picture. Knows no file and no data set.

Only open_clip's own vision transformers have them, after a class token.

Shape suffixes: B batch, D features, P width of a patch token, Y and X rows and columns of patches.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sdsdemo.errors import UserError

NONE = "This CLIP's image tower has no patch tokens: let h_w read the embedding, or choose a vision transformer."


def patch_width(clip: Any) -> int:
    """P, the width of a patch token. Raises `UserError` for an image tower without them."""
    visual = clip.visual
    if not hasattr(visual, "patch_size") or not hasattr(visual, "ln_post") or visual.attn_pool is not None:
        raise UserError(NONE)
    return int(visual.transformer.width)


def encode_patches(clip: Any, pixels_B: Tensor) -> tuple[Tensor, Tensor]:
    """feature_BD of `encode_image(normalize=True)`, and patch_BPYX, the tokens after the last LayerNorm."""
    found = clip.visual.forward_intermediates(pixels_B, indices=1, normalize_intermediates=True)
    return nn.functional.normalize(found["image_features"], dim=-1), found["image_intermediates"][-1]
