"""Pictures that a model draws for captions, against diffusers' own pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, StableDiffusionPipeline

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.models import drawing
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.families import from_pipeline, load_diffusion
from sdsdemo.settings import Settings
from tests import twins
from tests.models.families.family import SIDE, Family
from tests.models.families.flux2_klein import FLUX2_KLEIN
from tests.models.families.lumina2 import LUMINA2
from tests.models.families.prx import PRX
from tests.models.families.sd3 import SD3
from tests.models.families.sdxl import SDXL
from tests.models.families.z_image import Z_IMAGE

CAPTIONS = ["a red star left of a blue circle", "a blue star left of a red circle"]
SEEDS = [3, 4, 5]
BY_SIZE = {"use_dynamic_shifting": True, "base_image_seq_len": 1, "max_image_seq_len": 8, "max_shift": 3.0}
"""Of a scheduler whose shift depends on the four tokens of a twin."""


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return twins.sd_folder(tmp_path_factory.mktemp("twin") / request.param, prediction=request.param)


@pytest.fixture
def model(folder: Path) -> LatentDiffusion:
    return load_diffusion(f"diffusers:{folder}")


def drawn(
    model: LatentDiffusion, captions: list[str] = CAPTIONS, *, steps: int = 6, looks: int = 2, at_once: int = 64
) -> np.ndarray:
    return np.stack(list(drawing.draw(model, captions, SEEDS, steps=steps, looks=looks, at_once=at_once)))


def test_pictures_are_those_of_the_pipeline_of_diffusers(folder: Path, model: LatentDiffusion) -> None:
    pipe: Any = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    pipe.set_progress_bar_config(disable=True)
    mine = drawn(model, steps=2)[-1]  # with more steps, an untrained network makes rounding grow
    for c, caption in enumerate(CAPTIONS):
        for s, seed in enumerate(SEEDS):
            noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed))
            asked = {"num_inference_steps": 2, "guidance_scale": drawing.GUIDANCE, "latents": noise}
            expected = pipe(caption, height=32, width=32, output_type="np", **asked).images[0] * 255
            assert np.abs(mine[c, s] - expected).max() < 1


def test_pictures_emerge_as_often_as_asked_and_differ_on_the_way(model: LatentDiffusion) -> None:
    looks = drawn(model, looks=3)
    assert looks.shape == (3, 2, 3, 32, 32, 3)
    assert not np.array_equal(looks[0], looks[-1])


def test_equal_captions_are_drawn_alike_and_seeds_apart(model: LatentDiffusion) -> None:
    last = drawn(model, captions=[CAPTIONS[0], CAPTIONS[0]])[-1]
    assert np.abs(last[0].astype(int) - last[1]).max() <= 1
    assert not np.array_equal(last[0, 0], last[0, 1])


def test_how_many_are_computed_at_once_changes_no_picture(model: LatentDiffusion) -> None:
    together, apart = (drawn(model, at_once=at_once).astype(int) for at_once in (64, 1))
    assert np.abs(together - apart).max() <= 1


FLOWS: list[tuple[Family, dict[str, Any], dict[str, Any]]] = [
    (SD3, {"shift": 3.0}, {}),
    (SD3, BY_SIZE, {}),
    (PRX, {"shift": 3.0}, {}),
    (LUMINA2, {"shift": 6.0}, {"cfg_normalization": False}),
    (LUMINA2, BY_SIZE, {"cfg_normalization": False}),
    (FLUX2_KLEIN, BY_SIZE, {}),
    (Z_IMAGE, {"shift": 6.0}, {"guidance_scale": drawing.GUIDANCE - 1}),  # it takes 0 for none
    (Z_IMAGE, BY_SIZE, {"guidance_scale": drawing.GUIDANCE - 1}),
]
"""Families with the settings of their schedulers, and what their pipelines are asked beside the usual."""


@pytest.mark.parametrize(
    ("family", "scheduler", "asked"), FLOWS, ids=[f"{flow[0].kind}-{next(iter(flow[1]))}" for flow in FLOWS]
)
def test_flow_models_draw_what_their_pipelines_draw(
    family: Family, scheduler: dict[str, Any], asked: dict[str, Any], tmp_path: Path
) -> None:
    family.save(tmp_path)
    pipe: Any = getattr(diffusers, family.kind).from_pretrained(tmp_path)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(**scheduler)
    check_drawn_alike(pipe, asked=family.call | asked)


@pytest.mark.slow
@pytest.mark.parametrize("zeros", [True, False])
def test_the_empty_prompt_of_guidance_is_that_of_sdxl_itself(zeros: bool, tmp_path: Path) -> None:
    SDXL.save(tmp_path)
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"force_zeros_for_empty_prompt": zeros}))
    pipe: Any = diffusers.StableDiffusionXLPipeline.from_pretrained(tmp_path)
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    check_drawn_alike(pipe, asked={})
    for model in (from_pipeline(pipe), load_diffusion(f"diffusers:{tmp_path}")):
        none, some = zip(*(part_C.detach() for part_C in model.encode_prompts(["", CAPTIONS[0]])), strict=True)
        assert all(bool((part == 0).all()) == zeros for part in none)
        assert all(bool(part.any()) for part in some)


def test_the_empty_prompt_of_lumina_has_no_instruction(tmp_path: Path) -> None:
    LUMINA2.save(tmp_path)
    pipe: Any = diffusers.Lumina2Pipeline.from_pretrained(tmp_path)
    _, _, *empty = pipe.encode_prompt(CAPTIONS[0])
    for ours, theirs in zip(from_pipeline(pipe).encode_prompts([""]), empty, strict=True):
        torch.testing.assert_close(ours, theirs)


def check_drawn_alike(pipe: Any, *, asked: dict[str, Any]) -> None:
    """Whether ours are the pictures that a pipeline draws. asked: what it needs beside the usual."""
    pipe.set_progress_bar_config(disable=True)
    model = from_pipeline(pipe)
    looks = drawn(model, steps=2)
    usual = {"num_inference_steps": 2, "guidance_scale": drawing.GUIDANCE, "height": SIDE, "width": SIDE}
    for c, caption in enumerate(CAPTIONS):
        for s, seed in enumerate(SEEDS):
            noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed))
            expected = pipe(prompt=caption, output_type="np", latents=noise, **usual | asked).images[0] * 255
            assert np.abs(looks[-1, c, s] - expected).max() < 1
    assert not np.array_equal(looks[0], looks[-1])


def test_the_first_look_at_a_flow_is_the_exact_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SD3.save(tmp_path)
    model = load_diffusion(f"diffusers:{tmp_path}")
    latent = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(model.denoiser, "forward", SD3.exact(None, latent, latent))
    first, last = drawn(model, CAPTIONS[:1])
    clean = model.decode_latents(latent)[0].astype(int)
    assert max(np.abs(look.astype(int) - clean).max() for look in (first, last)) <= 1


def test_the_workbench_refuses_what_cannot_be_drawn() -> None:
    workbench = Workbench(Settings.from_environment({}))
    for model, captions, said in [
        ("mini-clip", CAPTIONS, "does not draw"),
        ("mini-diffusion", ["a dinosaur plays chess", "chess plays a dinosaur"], "dinosaur"),
        ("mini-diffusion", ["one", ""], "[Cc]aption"),
        ("no-such-model", CAPTIONS, "no-such-model"),
    ]:
        with pytest.raises(UserError, match=said):
            next(workbench.draw(model, captions, [0], steps=1, looks=1))
