"""Attention read from a denoiser's own evaluations, against a slow softmax of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sdsdemo.models.attention import AttentionReader, differing_tokens
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.families import load_diffusion
from tests import twins

CAPTIONS = ["a red star left of a blue circle", "a blue star left of a red circle"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    return load_diffusion(f"diffusers:{twins.sd_folder(tmp_path_factory.mktemp('twin'))}", device="cpu")


def inputs(model: LatentDiffusion) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    noisy_B = torch.randn(2, *model.latent_shape, generator=generator)
    return noisy_B, torch.tensor([300, 700]), model.encode_prompts(CAPTIONS)


def chosen(model: LatentDiffusion) -> Tensor:
    return torch.tensor(differing_tokens(*model.tokenize(CAPTIONS).tolist()))


def slow_attention(model: LatentDiffusion, token_BL: Tensor) -> np.ndarray:
    """Layer by layer, head by head and place by place, from what hooks see of each cross-attention."""
    seen: list[tuple[torch.nn.Module, Tensor, Tensor]] = []
    layers = [module for name, module in model.denoiser.named_modules() if name[:2] == "up" and name.endswith("attn2")]
    hooks = [
        layer.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append((module, args[0], kwargs["encoder_hidden_states"])),
            with_kwargs=True,
        )
        for layer in layers
    ]
    noisy_B, timestep_B, condition_B = inputs(model)
    model.denoise(noisy_B, timestep_B, condition_B)
    for hook in hooks:
        hook.remove()
    finest = max(hidden.shape[1] for _, hidden, _ in seen)
    grids = [_slow_layer(*each, token_BL) for each in seen if each[1].shape[1] == finest]
    size = tuple(noisy_B.shape[-2:])
    wide = [torch.nn.functional.interpolate(grid[:, None], size, mode="bilinear")[:, 0] for grid in grids]
    return torch.stack(wide).mean(0).numpy()


def _slow_layer(layer: torch.nn.Module, hidden: Tensor, text: Tensor, token_BL: Tensor) -> Tensor:
    heads, side = layer.heads, math.isqrt(hidden.shape[1])
    query, key = layer.to_q(hidden), layer.to_k(text)
    width = query.shape[-1] // heads
    grid = torch.zeros(len(hidden), side * side)
    for b in range(len(hidden)):
        for place in range(side * side):
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                logit_L = (key[b, :, part] @ query[b, place, part] / math.sqrt(width)).tolist()
                weight_L = np.exp(np.array(logit_L) - max(logit_L))
                grid[b, place] += float((weight_L / weight_L.sum())[token_BL[b].numpy()].mean()) / heads
    return grid.reshape(len(hidden), side, side)


@torch.inference_mode()
def test_attention_is_that_of_a_slow_softmax(model: LatentDiffusion) -> None:
    token_BL = chosen(model)
    _, attention_BHW = AttentionReader(model).denoise(*inputs(model), token_BL)
    assert attention_BHW.shape == (2, *model.latent_shape[1:])
    np.testing.assert_allclose(attention_BHW.numpy(), slow_attention(model, token_BL), rtol=1e-4)


@torch.inference_mode()
def test_attention_to_every_token_is_shared_out(model: LatentDiffusion) -> None:
    every_BL = torch.ones(2, model.context_length, dtype=torch.bool)
    _, attention_BHW = AttentionReader(model).denoise(*inputs(model), every_BL)
    np.testing.assert_allclose(attention_BHW.numpy() * model.context_length, 1.0, rtol=1e-5)
    _, none_BHW = AttentionReader(model).denoise(*inputs(model), ~every_BL)
    assert not none_BHW.any()


@torch.inference_mode()
def test_reading_changes_neither_output_nor_model(model: LatentDiffusion) -> None:
    before, usual = dict(model.denoiser.attn_processors), model.denoise(*inputs(model))
    output_B, _ = AttentionReader(model).denoise(*inputs(model), chosen(model))
    assert torch.equal(output_B, usual)
    assert model.denoiser.attn_processors == before
    assert torch.equal(model.denoise(*inputs(model)), usual)


def test_the_view_shares_the_models_weights(model: LatentDiffusion) -> None:
    own = {p.data_ptr() for p in model.denoiser.parameters()}
    view = AttentionReader(model)._model.denoiser
    assert {p.data_ptr() for p in view.parameters()} == own


def differing(a: str, b: str, padded: int = 20) -> tuple[list[str], list[str]]:
    words = [["<s>", *text.split(), "</s>"] for text in (a, b)]
    names = {word: number for number, word in enumerate(sorted({word for one in words for word in one}))}
    ids = [[names[word] for word in one] + [99] * (padded - len(one)) for one in words]
    marks = differing_tokens(*ids)
    assert [len(mark) for mark in marks] == [padded, padded]
    assert not any(mark[len(one) :] != [False] * (padded - len(one)) for mark, one in zip(marks, words, strict=True))
    return tuple([w for w, m in zip(one, mark, strict=False) if m] for one, mark in zip(words, marks, strict=True))


def test_the_tokens_that_differ_are_those_that_were_swapped() -> None:
    found = differing("a red star left of a blue circle", "a blue star left of a red circle")
    assert found == (["red", "blue"], ["blue", "red"])
    found = differing("the red star above the moon", "the moon above the red star")
    assert set(found[0]) | set(found[1]) <= {"red", "star", "moon", "above", "the"}
    assert found[0]
    assert differing("a red star", "a red star") == ([], [])


def test_padding_does_not_differ_where_one_caption_is_longer() -> None:
    assert differing("a star", "a big red star") == ([], ["big", "red"])
