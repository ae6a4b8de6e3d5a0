"""A diffusion model loaded: from where, in which precision, what of a pipeline it shares, and no trace of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.families import from_pipeline, load_diffusion
from tests import twins
from tests.models.diffusion_twins import BUDGET, CAPTIONS, losses, pipeline, scorer_of


@pytest.fixture
def folders(diffusion_folders: dict[str, Path]) -> dict[str, Path]:
    return diffusion_folders


@pytest.mark.usefixtures("no_network")
def test_a_repository_in_the_hub_cache_needs_no_network(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    twins.in_hub_cache(tmp_path, "twins/sd", folders["epsilon"])
    by_repo = open_scorer(cards.resolve("diffusers:twins/sd"), device="cpu")
    by_folder = scorer_of(folders["epsilon"])
    image = [twins.picture()]
    np.testing.assert_array_equal(
        losses(by_repo.score(image, CAPTIONS, BUDGET)), losses(by_folder.score(image, CAPTIONS, BUDGET))
    )


@pytest.mark.usefixtures("no_network")
def test_a_missing_repository_asks_before_using_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="downloads are off"):
        load_diffusion("diffusers:twins/none")


@pytest.mark.parametrize("side", [4, [4, 4]])
def test_native_resolution_and_latent_size_come_from_the_configs(
    side: int | list[int], folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["epsilon"], tmp_path, dirs_exist_ok=True)
    config = tmp_path / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": side}))
    model = load_diffusion(f"diffusers:{tmp_path}")
    assert (model.pixels, model.latent_shape, model.schedule.steps) == (32, (4, 4, 4), 1000)
    assert cards.resolve(f"diffusers:{tmp_path}").pixels == 32
    assert from_pipeline(pipeline(tmp_path)).latent_shape == (4, 4, 4)


@pytest.mark.filterwarnings("ignore:The configuration file of the unet:FutureWarning")
@pytest.mark.parametrize(
    ("version", "side", "expected"),
    [("0.6.0", 32, 64), ("0.8.1.dev0", 4, 64), ("0.9.0.dev0", 32, 32), ("0.36.0", 4, 4), ("0.6.0", 72, 72)],
)
def test_the_size_of_old_folders_is_corrected_as_their_pipeline_does_it(
    version: str, side: int, expected: int, tmp_path: Path
) -> None:
    folder = twins.sd_folder(tmp_path / "old")
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_diffusers_version": version, "sample_size": side}))
    for model in (load_diffusion(f"diffusers:{folder}"), from_pipeline(pipeline(folder))):
        assert (model.latent_shape, model.pixels) == ((4, expected, expected), expected * 8)
    assert cards.resolve(f"diffusers:{folder}").pixels == expected * 8
    assert ("native size" in cards.fingerprint_parts(cards.resolve(f"diffusers:{folder}"))) == (side != expected)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_pipeline_that_is_given_stays_as_it_was(folders: dict[str, Path], kind: str) -> None:
    pipe = pipeline(folders[kind])
    pipe.scheduler.set_timesteps(7)
    pipe.unet.half().train()
    before = _state(pipe)
    model = LatentDiffusion.from_pipeline(pipe)
    DiffusionScorer(cards.resolve("sd-v1-4"), model).score([twins.picture()], CAPTIONS, BUDGET)
    assert _state(pipe) == before
    assert not model.denoiser.training


def test_weights_are_shared_with_the_pipeline_that_is_given(folders: dict[str, Path]) -> None:
    pipe = pipeline(folders["epsilon"])
    model = LatentDiffusion.from_pipeline(pipe)
    assert model.denoiser.conv_in.weight.data_ptr() == pipe.unet.conv_in.weight.data_ptr()


def test_weights_stored_in_half_are_computed_in_single_precision(folders: dict[str, Path]) -> None:
    model = load_diffusion(f"diffusers:{folders['mini']}")
    parts = (model.denoiser, model.vae, *model.text_encoders)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float32}


def test_a_gradient_reaches_the_latent_and_no_weight(folders: dict[str, Path]) -> None:
    model = load_diffusion(f"diffusers:{folders['mini']}")
    latent = torch.randn(2, *model.latent_shape, requires_grad=True)
    condition = model.encode_prompts(["red star", "blue star"])
    model.denoise(latent, torch.tensor([100, 500]), condition).square().sum().backward()
    assert latent.grad is not None
    assert float(latent.grad.abs().sum()) > 0
    assert not any(p.requires_grad for p in model.denoiser.parameters())


def test_pictures_are_cropped_to_their_middle(folders: dict[str, Path]) -> None:
    model = load_diffusion(f"diffusers:{folders['epsilon']}")
    wide = twins.picture(size=(96, 32))
    middle = wide.crop((32, 0, 64, 32))
    torch.testing.assert_close(model.encode_images([wide]), model.encode_images([middle]))


def _state(pipe: Any) -> list[Any]:
    """Everything about a pipeline that scoring might change."""
    modules = [pipe.unet, pipe.vae, pipe.text_encoder]
    flags = [(m.training, m.dtype, m.device, [p.requires_grad for p in m.parameters()]) for m in modules]
    sums = [float(sum(p.double().sum() for p in m.parameters())) for m in modules]
    scheduler = (dict(pipe.scheduler.config), pipe.scheduler.timesteps.tolist(), pipe.scheduler.num_inference_steps)
    return [*flags, *sums, scheduler]
