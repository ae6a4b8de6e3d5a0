"""Keys and values of cross-attention: made once a caption, and no number, model or processor moves for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import nn

from sdsdemo.models.attention import AttentionReader
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.families import from_pipeline
from sdsdemo.models.prompt_keys import _Part
from sdsdemo.types import Budget
from tests import twins
from tests.models.diffusion_twins import scorer_of
from tests.models.families.sdxl import SDXL

CAPTIONS = ["a cat on a mat", "a mat on a cat"]
BUDGET = Budget(timesteps=3, noises=3, seed=5)
SAVED: dict[str, Callable[[Path], object]] = {"StableDiffusionPipeline": twins.sd_folder, SDXL.kind: SDXL.save}
each_unet = pytest.mark.parametrize("kind", SAVED)


def saved(kind: str, folder: Path) -> Path:
    SAVED[kind](folder)
    return folder


def scores_of(scorer: DiffusionScorer, captions: list[str]) -> np.ndarray:
    return scorer.score([twins.picture()], captions, BUDGET).score_IC


def projections(unet: Any) -> list[Any]:
    layers = [part for name, part in unet.named_modules() if name.endswith("attn2")]
    return [projection for layer in layers for projection in (layer.to_k, layer.to_v)]


@each_unet
def test_scores_are_those_of_keys_made_at_every_evaluation(kind: str, tmp_path: Path) -> None:
    scorer = scorer_of(saved(kind, tmp_path / kind))
    found = scores_of(scorer, CAPTIONS)
    scorer.model._projections = ()
    np.testing.assert_allclose(found, scores_of(scorer, CAPTIONS), rtol=1e-6)


@each_unet
def test_keys_are_made_once_a_caption(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, made, forward = scorer_of(saved(kind, tmp_path / kind)), list[int](), nn.Linear.forward

    def counted(self: nn.Linear, given: torch.Tensor) -> torch.Tensor:
        if isinstance(self, _Part):
            made.append(len(given))
        return forward(self, given)

    monkeypatch.setattr(nn.Linear, "forward", counted)
    scores_of(scorer, CAPTIONS)
    assert made == [len(CAPTIONS)] * len(projections(scorer.model.denoiser))


@each_unet
def test_a_pipeline_that_is_given_keeps_its_own_projections(kind: str, tmp_path: Path) -> None:
    pipe = getattr(diffusers, kind).from_pretrained(saved(kind, tmp_path / kind), torch_dtype=torch.float32)
    before = dict(pipe.unet.attn_processors), pipe.unet.state_dict().keys()
    model = from_pipeline(pipe)
    model.denoise(torch.zeros(1, *model.latent_shape), torch.tensor([5]), model.encode_prompts(["a cat"]))
    assert {type(projection) for projection in projections(pipe.unet)} == {nn.Linear}
    assert (dict(pipe.unet.attn_processors), pipe.unet.state_dict().keys()) == before
    assert model.denoiser.state_dict().keys() == before[1]


class Doubled(AttnProcessor2_0):  # type: ignore[misc]  # mypy does not follow diffusers
    """A processor of the user's, which sees more in the captions than their projections."""

    def __call__(
        self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, *rest: Any, **more: Any
    ) -> Any:
        if encoder_hidden_states is not None:
            encoder_hidden_states = encoder_hidden_states * 2
        return super().__call__(attn, hidden_states, encoder_hidden_states, *rest, **more)


def test_a_processor_of_the_users_is_handed_the_states_themselves(tmp_path: Path) -> None:
    folder = saved("StableDiffusionPipeline", tmp_path / "sd")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.unet.set_attn_processor(Doubled())
    model = from_pipeline(pipe)
    condition = model.encode_prompts(CAPTIONS)
    assert torch.equal(model.read_ahead(condition), condition)


def test_an_adapter_of_the_users_is_handed_the_states_themselves(tmp_path: Path) -> None:
    folder = saved("StableDiffusionPipeline", tmp_path / "sd")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    layer = next(part for name, part in pipe.unet.named_modules() if name.endswith("attn2"))
    layer.to_k = nn.Sequential(layer.to_k)
    model = from_pipeline(pipe)
    condition = model.encode_prompts(CAPTIONS)
    assert torch.equal(model.read_ahead(condition), condition)


def test_two_threads_may_score_other_captions_at_once(tmp_path: Path) -> None:
    scorer = scorer_of(saved("StableDiffusionPipeline", tmp_path / "sd"))
    asked = [["a cat", "a dog"], ["a red star", "a mat on a cat", "a bird"]] * 4
    alone = [scores_of(scorer, captions) for captions in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda captions: scores_of(scorer, captions), asked))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_maps_of_attention_and_gradients_read_the_states_as_before(tmp_path: Path) -> None:
    model = scorer_of(saved("StableDiffusionPipeline", tmp_path / "sd")).model
    noisy, step = torch.randn(1, *model.latent_shape), torch.tensor([300])
    condition = model.encode_prompts(["a cat"]).detach().requires_grad_()
    ahead = model.denoise(noisy, step, model.read_ahead(condition))
    output, attention = AttentionReader(model).denoise(noisy, step, condition, torch.ones(1, condition.shape[1]) > 0)
    torch.testing.assert_close(output, ahead)
    assert float(attention.sum()) > 0
    (slope,) = torch.autograd.grad(ahead.square().sum(), condition)
    (expected,) = torch.autograd.grad(model.denoise(noisy, step, condition).square().sum(), condition)
    torch.testing.assert_close(slope, expected)


def test_samples_of_one_caption_share_a_call_where_they_fill_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = scorer_of(saved("StableDiffusionPipeline", tmp_path / "sd"))
    sizes, denoise = list[int](), scorer.model.denoise

    def counted(noisy_B: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(noisy_B))
        return denoise(noisy_B, *rest)

    monkeypatch.setattr(scorer.model, "denoise", counted)
    for scorer.micro_batch in (64, 16, 5):
        scores_of(scorer, CAPTIONS)
    assert sizes == [9, 9, 9, 9, 5, 4, 5, 4]
