"""Families whose captions a language model reads: batches, gradients, precision, native sizes and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sdsdemo.errors import UserError
from sdsdemo.models import cards
from sdsdemo.models.families import load_diffusion
from sdsdemo.models.tokenizer_checks import check_tokenizer, probes
from tests.models.families import qwen
from tests.models.families.family import CAPTIONS, SIDE, Family
from tests.models.families.flux2_klein import FLUX2_KLEIN
from tests.models.families.lumina2 import LUMINA2
from tests.models.families.z_image import Z_IMAGE

CHAT = (FLUX2_KLEIN, Z_IMAGE)
ALL = (*CHAT, LUMINA2)
each_family = pytest.mark.parametrize("family", ALL, ids=lambda family: family.kind)
each_chat_family = pytest.mark.parametrize("family", CHAT, ids=lambda family: family.kind)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("read by a language model")
    for family in ALL:
        family.save(root / family.kind)
    return {family.kind: root / family.kind for family in ALL}


@each_family
def test_a_batch_of_captions_of_other_lengths_answers_as_each_alone(family: Family, folders: dict[str, Path]) -> None:
    model = load_diffusion(f"diffusers:{folders[family.kind]}")
    noisy = torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(3))
    timestep, captions = torch.tensor([20, 300, 950]), ["a star", " ".join(["star"] * 60), ""]
    with torch.inference_mode():
        together = model.denoise(noisy, timestep, model.encode_prompts(captions))
        alone = [
            model.denoise(noisy[k : k + 1], timestep[k : k + 1], model.encode_prompts(captions[k : k + 1]))
            for k in range(3)
        ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@each_family
def test_what_is_written_around_a_caption_counts_among_its_tokens(family: Family, folders: dict[str, Path]) -> None:
    model = load_diffusion(f"diffusers:{folders[family.kind]}")
    fitting = "star"
    while len(model.tokenizers[0](f"{fitting} star")["input_ids"]) <= model.context_length:
        fitting += " star"
    assert model.token_ids(fitting).cut
    assert not model.token_ids("a star").cut


@each_family
def test_a_gradient_reaches_the_latent_after_scoring(family: Family, folders: dict[str, Path]) -> None:
    model = load_diffusion(f"diffusers:{folders[family.kind]}")
    noisy, timestep = torch.randn(1, *model.latent_shape), torch.tensor([300])
    with torch.inference_mode():
        model.denoise(noisy, timestep, model.encode_prompts(["a star"]))
    with torch.no_grad():
        condition = model.encode_prompts(["a star"])
    noisy.requires_grad_()
    model.denoise(noisy, timestep, condition).square().mean().backward()
    assert noisy.grad is not None
    assert float(noisy.grad.abs().max()) > 0


@each_family
def test_in_bfloat16_as_on_a_gpu_a_prediction_moves_by_little(family: Family, folders: dict[str, Path]) -> None:
    model = load_diffusion(f"diffusers:{folders[family.kind]}")
    noisy = torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(3))
    given = (noisy, torch.tensor([125, 250, 500]))  # which bfloat16 holds: FLUX.2 rounds the time to 8 bits, too
    with torch.inference_mode():
        expected = model.denoise(*given, model.encode_prompts(CAPTIONS))
        model.dtype = torch.bfloat16
        for module in (model.denoiser, *model.text_encoders):
            torch.nn.Module.to(module, torch.bfloat16)
        found = model.denoise(*given, model.encode_prompts(CAPTIONS))
    assert found.dtype == torch.float32
    assert 0 < float((found - expected).norm() / expected.norm()) < 0.05


@each_family
def test_what_is_made_of_the_vaes_latent_can_be_undone(family: Family, folders: dict[str, Path]) -> None:
    model = load_diffusion(f"diffusers:{folders[family.kind]}")
    channels = model.vae.config.latent_channels
    mean = torch.randn(2, channels, 4, 4, generator=torch.Generator().manual_seed(3))
    assert model.normalised(mean).shape[1:] == model.latent_shape
    torch.testing.assert_close(model.as_vae_gave(model.normalised(mean)), mean)


@each_chat_family
def test_native_pixels_are_the_vaes_or_the_usual_ones(family: Family, tmp_path: Path) -> None:
    family.save(tmp_path)
    spec, config = f"diffusers:{tmp_path}", tmp_path / "vae" / "config.json"
    assert cards.resolve(spec).pixels == load_diffusion(spec).pixels == SIDE
    told = json.loads(config.read_text())
    del told["sample_size"]
    config.write_text(json.dumps(told))
    assert cards.resolve(spec).pixels == load_diffusion(spec).pixels == 1024


@each_chat_family
def test_a_tokenizer_without_a_chat_template_is_one_sentence(family: Family, tmp_path: Path) -> None:
    family.save(tmp_path)
    for file in (tmp_path / "tokenizer").glob("chat_template*"):
        file.unlink()
    config = tmp_path / "tokenizer" / "tokenizer_config.json"
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "chat_template"}))
    with pytest.raises(UserError, match="has no chat template"):
        load_diffusion(f"diffusers:{tmp_path}")


@each_family
def test_latents_of_other_channels_are_refused_in_a_sentence(family: Family, tmp_path: Path) -> None:
    family.save(tmp_path)
    model: Any = load_diffusion(f"diffusers:{tmp_path}")
    model.vae.register_to_config(latent_channels=2 * model.vae.config.latent_channels)
    with pytest.raises(UserError, match="task other than text to image"):
        model.read_latent_shape()


def test_a_byte_level_tokenizer_is_accepted() -> None:
    tokenizer = qwen.tokenizer()
    assert "Ġstar" in tokenizer.get_vocab()
    check_tokenizer(tokenizer, "twin")
    assert len(set(probes(tokenizer))) == 3
    assert "red star" not in probes(tokenizer)  # what is tried where no word of the vocabulary is found
