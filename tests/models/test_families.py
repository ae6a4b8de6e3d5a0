"""Every family of pipelines on a twin in the Hub's format, against a slow loop over diffusers' own parts."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sdsdemo.core.losses import denoising_error
from sdsdemo.models.families import FAMILIES, from_pipeline, load_diffusion
from sdsdemo.models.noise_grid import draw_noise
from sdsdemo.models.pipelines import layout_of
from sdsdemo.models.weights import stem_of
from sdsdemo.types import Budget, Evidence, Example, Picture
from tests import twins
from tests.models.diffusion_twins import scorer_of
from tests.models.families.family import CAPTIONS, SIDE, Family
from tests.models.families.flux2_klein import FLUX2_KLEIN
from tests.models.families.lumina2 import LUMINA2
from tests.models.families.pixart import PIXART_ALPHA, PIXART_SIGMA
from tests.models.families.prx import PRX
from tests.models.families.sd3 import SD3
from tests.models.families.sdxl import SDXL
from tests.models.families.z_image import Z_IMAGE

ALL = (SDXL, FLUX2_KLEIN, Z_IMAGE, LUMINA2, SD3, PIXART_ALPHA, PIXART_SIGMA, PRX)
BUDGET = Budget(timesteps=3, noises=2, seed=5)
each_family = pytest.mark.parametrize("family", ALL, ids=lambda family: family.kind)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The twins by class, written when the first test asks."""
    root = tmp_path_factory.mktemp("families")
    for family in ALL:
        family.save(root / family.kind)
    return {family.kind: root / family.kind for family in ALL}


def pipeline(family: Family, folder: Path) -> Any:
    return getattr(diffusers, family.kind).from_pretrained(folder, torch_dtype=torch.float32)


def as_pixels(image: Image.Image) -> torch.Tensor:
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
    return torch.from_numpy(small).permute(2, 0, 1)[None] / 127.5 - 1


@torch.no_grad()
def plain_losses(
    family: Family, pipe: Any, images: list[Image.Image], captions: tuple[str, ...], found: Evidence
) -> np.ndarray:
    """loss_ICTN, one sample at a time."""
    latents = [family.latent(pipe, as_pixels(image)) for image in images]
    noise_TN = draw_noise(BUDGET, tuple(latents[0].shape[1:]))
    loss_ICTN = np.zeros(found.loss_ICTN.shape)
    for i, c, t, n in np.ndindex(*loss_ICTN.shape):
        step = int(found.timestep_T[t])
        left = family.residual(pipe, latents[i], noise_TN[t, n][None], step, captions[c])
        loss_ICTN[i, c, t, n] = left.square().mean()
    return loss_ICTN


def test_every_family_has_a_twin() -> None:
    assert {family.kind for family in ALL} | {"StableDiffusionPipeline"} == set(FAMILIES)


@each_family
@pytest.mark.parametrize("shape", [(2, 2), (1, 3)], ids=["two images, two captions", "one image, three captions"])
def test_losses_are_those_of_a_plain_loop_over_diffusers(
    family: Family, shape: tuple[int, int], folders: dict[str, Path]
) -> None:
    images, captions = [twins.picture(seed) for seed in range(shape[0])], CAPTIONS[: shape[1]]
    pictures = tuple(Picture(name=f"{k}.png", open=lambda image=image: image) for k, image in enumerate(images))
    example = Example(id="0", images=pictures, captions=captions, tags={})
    (scores,) = scorer_of(folders[family.kind]).score_examples([example], BUDGET)
    assert scores.evidence is not None
    pipe = pipeline(family, folders[family.kind])
    expected = plain_losses(family, pipe, images, captions, scores.evidence)
    np.testing.assert_allclose(scores.evidence.loss_ICTN, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected, axis=1).min() > 1e-6  # captions count


@each_family
@torch.no_grad()
def test_the_denoiser_is_handed_what_its_pipeline_hands_it(family: Family, folders: dict[str, Path]) -> None:
    pipe = pipeline(family, folders[family.kind])
    model = from_pipeline(pipe)
    noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(4))
    usual = {"guidance_scale": 1.0, "num_inference_steps": 2, "output_type": "latent", "height": SIDE, "width": SIDE}
    with handed(pipe.components[_denoiser_of(pipe)]) as theirs:
        pipe(prompt=CAPTIONS[0], **usual | family.call)
    with handed(model.denoiser) as ours:
        model.denoise(noise, pipe.scheduler.timesteps[:1], model.encode_prompts([CAPTIONS[0]]))
    noisy = {"sample", "hidden_states", "x 0"}
    assert ours.keys() == theirs.keys()
    for name in theirs.keys() - noisy:
        torch.testing.assert_close(ours[name].float().reshape(theirs[name].shape), theirs[name].float())


@contextmanager
def handed(denoiser: torch.nn.Module) -> Iterator[dict[str, Any]]:
    """The tensors of the first call by their names, in a list by their places too; filled while it lasts."""
    found: dict[str, Any] = {}
    forward = inspect.signature(type(denoiser).forward)

    def keep(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        for name, value in forward.bind(module, *args, **kwargs).arguments.items():
            inside = value if isinstance(value, dict) else {name: value}
            if isinstance(value, list):
                inside = {f"{name} {k}": part for k, part in enumerate(value)}
            found.update({k: part for k, part in inside.items() if isinstance(part, torch.Tensor) and k not in found})

    hook = denoiser.register_forward_pre_hook(keep, with_kwargs=True)
    yield found
    hook.remove()


@each_family
def test_a_denoiser_that_returns_the_exact_target_has_no_error(
    family: Family, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(family, folders[family.kind])
    model = load_diffusion(f"diffusers:{folders[family.kind]}")
    latent, noise = torch.randn(2, 1, *model.latent_shape, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(model.denoiser, "forward", family.exact(pipe, latent, noise))
    with torch.inference_mode():
        condition = model.encode_prompts(["a red star"])
        for step in (20, 300, 950):
            given = (latent, noise, torch.tensor([step]), condition)
            assert float(denoising_error(model.denoise, model.schedule, *given)) < 1e-6


@each_family
@torch.inference_mode()
def test_in_the_precision_of_a_gpu_the_error_hardly_moves(family: Family, folders: dict[str, Path]) -> None:
    model = load_diffusion(f"diffusers:{folders[family.kind]}")
    latent, noise = torch.randn(2, 1, *model.latent_shape, generator=torch.Generator().manual_seed(3))

    def error() -> float:
        given = (latent, noise, torch.tensor([400]), model.encode_prompts(["a red star"]))
        return float(denoising_error(model.denoise, model.schedule, *given))

    single = error()
    model.dtype = model.GPU_PRECISION
    for module in (model.denoiser, *model.text_encoders):
        torch.nn.Module.to(module, model.dtype)
    assert 0 < abs(error() - single) < 0.02 * single


@pytest.mark.slow
@each_family
def test_shards_and_half_precision_files_are_read(family: Family, folders: dict[str, Path], tmp_path: Path) -> None:
    whole = load_diffusion(f"diffusers:{folders[family.kind]}")
    folder = tmp_path / "twin"
    family.save(folder)
    for part in layout_of(json.loads((folder / "model_index.json").read_text())).with_weights:
        in_half_shards(folder / part, stem_of(part))
    halved = load_diffusion(f"diffusers:{folder}")
    for name, weight in whole.denoiser.state_dict().items():
        torch.testing.assert_close(halved.denoiser.state_dict()[name], weight, atol=1e-3, rtol=1e-3)


def in_half_shards(folder: Path, stem: str) -> None:
    """Weights as two shards of the variant fp16, beside their index, as large models lie on the Hub."""
    path = folder / f"{stem}.safetensors"
    state = {k: v.half() if v.is_floating_point() else v for k, v in load_file(path).items()}
    path.unlink()
    names, shards = sorted(state), {}
    for k, chosen in enumerate((names[::2], names[1::2]), start=1):
        file = (
            f"{stem}.fp16-0000{k}-of-00002.safetensors"
            if stem == "model"
            else f"{stem}-0000{k}-of-00002.fp16.safetensors"
        )
        save_file({name: state[name] for name in chosen}, folder / file, metadata={"format": "pt"})
        shards |= dict.fromkeys(chosen, file)
    index = {"metadata": {"total_size": 0}, "weight_map": shards}
    (folder / f"{stem}.safetensors.index.fp16.json").write_text(json.dumps(index))


@each_family
def test_a_pipeline_that_is_given_stays_as_it_was(family: Family, folders: dict[str, Path]) -> None:
    pipe = pipeline(family, folders[family.kind])
    before = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    flags = {name: [p.requires_grad for p in part.parameters()] for name, part in before.items()}
    model = from_pipeline(pipe)
    assert type(model) is FAMILIES[family.kind]
    assert {name: [p.requires_grad for p in part.parameters()] for name, part in before.items()} == flags
    assert next(model.denoiser.parameters()).data_ptr() == next(before[_denoiser_of(pipe)].parameters()).data_ptr()


def _denoiser_of(pipe: Any) -> str:
    return "unet" if "unet" in pipe.components else "transformer"


@each_family
def test_a_caption_that_is_cut_is_reported(family: Family, folders: dict[str, Path]) -> None:
    scorer = scorer_of(folders[family.kind])
    long = " ".join(["star"] * 2 * max(scorer.model.context_lengths))
    kinds = {concern.kind for concern in scorer.concerns([twins.picture()], ["a star", long])}
    assert "truncated" in kinds
    assert "truncated" not in {c.kind for c in scorer.concerns([twins.picture()], ["a star", "a circle"])}
