"""Captions without their padding: the features and gradients that open_clip gives, from a shorter run."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor, nn

from sdsdemo.models.clip_text import encode_captions, ends

CONTEXT, END, LENGTHS = 24, 30, (5, 9, 7)
TEXT = {"context_length": CONTEXT, "vocab_size": END + 1, "width": 16, "heads": 2, "layers": 2}
VISION = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
CAUSAL = {
    "CLIP": (open_clip.CLIP, {}),
    "CLIP, end by its own token": (open_clip.CLIP, {"pool_type": "eos", "eos_id": 7}),
    "text tower of its own": (open_clip.CustomTextCLIP, {}),
    "text tower of its own, end by its token": (open_clip.CustomTextCLIP, {"pool_type": "eos", "eos_id": 7}),
    "linear projection": (open_clip.CLIP, {"proj_type": "linear"}),
    "no projection": (open_clip.CustomTextCLIP, {"proj_type": "none"}),
    "layer scale": (open_clip.CLIP, {"ls_init_value": 0.3}),
    "one layer": (open_clip.CLIP, {"layers": 1}),
    "blocks of another make": (open_clip.CustomTextCLIP, {"block_type": "custom"}),
}
OTHERS = {
    "sees both ways": (open_clip.CLIP, {"no_causal_mask": True}),
    "takes the last place": (open_clip.CLIP, {"pool_type": "last"}),
    "has a class token": (open_clip.CustomTextCLIP, {"embed_cls": True}),
}


def clip_of(make: type, changes: dict[str, Any], **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return make(12, VISION, TEXT | changes, **settings).eval()


def tokens(end: int = END) -> Tensor:
    """Three captions of random words, each with its end and padding behind it."""
    generator = torch.Generator().manual_seed(1)
    token_CL = torch.zeros(len(LENGTHS), CONTEXT, dtype=torch.long)
    for caption, length in enumerate(LENGTHS):
        token_CL[caption, : length - 1] = torch.randint(8, END - 1, (length - 1,), generator=generator)
        token_CL[caption, length - 1] = end
    return token_CL


def gradients(clip: nn.Module, feature_CD: Tensor) -> list[Tensor]:
    used = [p for name, p in clip.named_parameters() if not name.startswith(("visual", "logit"))]
    target_CD = torch.randn(feature_CD.shape, generator=torch.Generator().manual_seed(2))
    return list(torch.autograd.grad((feature_CD * target_CD).sum(), used))


@pytest.mark.parametrize("output_dict", [False, True])
@pytest.mark.parametrize("kind", CAUSAL)
def test_cutting_padding_keeps_features_and_gradients(kind: str, output_dict: bool) -> None:
    make, changes = CAUSAL[kind]
    clip, token_CL = clip_of(make, changes, output_dict=output_dict), tokens(changes.get("eos_id", END))
    whole_CD, cut_CD = clip.encode_text(token_CL, normalize=True), encode_captions(clip, token_CL)
    torch.testing.assert_close(cut_CD, whole_CD, rtol=1e-5, atol=1e-6)
    for cut, whole in zip(gradients(clip, cut_CD), gradients(clip, whole_CD), strict=True):
        torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-5)


def blocks_of(clip: Any) -> nn.ModuleList:
    return getattr(clip, "text", clip).transformer.resblocks


@pytest.mark.parametrize("kind", CAUSAL)
def test_the_tower_runs_at_the_length_of_the_longest_caption(kind: str) -> None:
    make, changes = CAUSAL[kind]
    clip, token_CL = clip_of(make, changes), tokens(changes.get("eos_id", END))
    seen: list[int] = []
    blocks_of(clip)[0].ln_1.register_forward_hook(lambda module, given, output: seen.append(output.shape[1]))
    encode_captions(clip, token_CL)
    assert seen == [max(LENGTHS)]


@pytest.mark.parametrize("kind", ["CLIP", "text tower of its own", "one layer"])
def test_the_last_block_runs_at_the_ends_alone_and_the_others_everywhere(kind: str) -> None:
    make, changes = CAUSAL[kind]
    clip, token_CL = clip_of(make, changes), tokens()
    rows: list[int] = []
    for block in blocks_of(clip):
        block.mlp.register_forward_hook(lambda module, given, output: rows.append(output[..., 0].numel()))
    encode_captions(clip, token_CL)
    everywhere = len(LENGTHS) * max(LENGTHS)
    assert rows == [everywhere] * (len(rows) - 1) + [len(LENGTHS)]


def test_a_tower_that_gives_memory_back_runs_every_block_whole() -> None:
    clip, token_CL = clip_of(open_clip.CLIP, {}), tokens()
    clip.set_grad_checkpointing(True)
    rows: list[int] = []
    blocks_of(clip)[-1].mlp.register_forward_hook(lambda module, given, output: rows.append(output[..., 0].numel()))
    cut_CD = encode_captions(clip, token_CL)
    assert rows == [len(LENGTHS) * max(LENGTHS)]
    torch.testing.assert_close(cut_CD, clip.encode_text(token_CL, normalize=True), rtol=1e-5, atol=1e-6)


def test_a_block_with_parts_that_are_not_known_here_runs_whole() -> None:
    clip, token_CL = clip_of(open_clip.CLIP, {}), tokens()
    last = blocks_of(clip)[-1]
    last.add_module("adapter", nn.Linear(TEXT["width"], TEXT["width"]))
    last.register_forward_hook(lambda module, given, output: output + module.adapter(output))
    cut_CD, whole_CD = encode_captions(clip, token_CL), clip.encode_text(token_CL, normalize=True)
    torch.testing.assert_close(cut_CD, whole_CD, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_tower_that_may_look_behind_the_end_runs_as_it_is(kind: str) -> None:
    make, changes = OTHERS[kind]
    clip, token_CL = clip_of(make, changes), tokens()
    assert ends(clip, token_CL) is None
    torch.testing.assert_close(encode_captions(clip, token_CL), clip.encode_text(token_CL, normalize=True))


def test_a_mask_that_hides_nothing_is_not_causal() -> None:
    clip, token_CL = clip_of(open_clip.CLIP, {}), tokens()
    clip.attn_mask = torch.zeros_like(clip.attn_mask)
    assert ends(clip, token_CL) is None
    torch.testing.assert_close(encode_captions(clip, token_CL), clip.encode_text(token_CL, normalize=True))
