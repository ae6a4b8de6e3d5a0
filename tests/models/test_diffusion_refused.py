"""Pipelines that cannot be scored with are refused when they are loaded, in one sentence without a path."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UNet2DConditionModel,
)
from transformers import CLIPTokenizer, DistilBertModel, PreTrainedTokenizerFast

from sdsdemo.errors import UserError
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.families import load_diffusion
from tests import twins
from tests.models.diffusion_twins import pipeline


@pytest.fixture
def folders(diffusion_folders: dict[str, Path]) -> dict[str, Path]:
    return diffusion_folders


def test_a_word_tokenizer_saved_as_clips_is_caught_at_load(folders: dict[str, Path], tmp_path: Path) -> None:
    """It loads without a complaint, and reads every word as unknown."""
    folder = twins.mini_folder(tmp_path / "twin")
    twins.save_words(folder / "tokenizer", kind="CLIPTokenizer")
    _edit(folder / "model_index.json", tokenizer=["transformers", "CLIPTokenizer"])
    CLIPTokenizer.from_pretrained(folder / "tokenizer")
    with pytest.raises(UserError, match="tokenizer"):
        load_diffusion(f"diffusers:{folder}")


def test_a_tokenizer_of_another_model_is_caught_at_load(tmp_path: Path) -> None:
    folder = twins.mini_folder(tmp_path / "twin")
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    twins.save_bpe(folder / "tokenizer")
    _edit(folder / "model_index.json", tokenizer=["transformers", "CLIPTokenizer"])
    with pytest.raises(UserError, match="token 49407"):
        load_diffusion(f"diffusers:{folder}")


@pytest.mark.parametrize(
    ("file", "changes", "sentence"),
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "cannot score here yet"),
        ("model_index.json", {"unet": ["my_module", "MyUNet"]}, "MyUNet"),
        ("model_index.json", {"vae": [None, None]}, "vae"),
        ("unet/config.json", {"in_channels": 9}, "unet"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "'sample'"),
    ],
)
def test_pipelines_that_cannot_be_scored_with_are_refused(
    tmp_path: Path, file: str, changes: dict[str, Any], sentence: str
) -> None:
    folder = twins.mini_folder(tmp_path / "twin")
    _edit(folder / file, **changes)
    with pytest.raises(UserError, match=sentence) as caught:
        load_diffusion(f"diffusers:{folder}")
    assert str(tmp_path) not in str(caught.value)


def test_an_inpainting_denoiser_is_refused(folders: dict[str, Path]) -> None:
    pipe = pipeline(folders["epsilon"])
    pipe.unet.register_to_config(in_channels=9)
    with pytest.raises(UserError, match="a task other than text to image"):
        LatentDiffusion.from_pipeline(pipe)


def test_a_flow_scheduler_is_refused_until_its_family_is_supported(folders: dict[str, Path]) -> None:
    pipe = pipeline(folders["epsilon"])
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(UserError, match="FlowMatchEulerDiscreteScheduler"):
        LatentDiffusion.from_pipeline(pipe)


@pytest.mark.parametrize("part", ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "text_encoder"])
def test_missing_parts_are_one_sentence_without_a_path(tmp_path: Path, part: str) -> None:
    folder = twins.mini_folder(tmp_path / "twin")
    (folder / part).rename(tmp_path / "elsewhere")
    with pytest.raises(UserError) as caught:
        load_diffusion(f"diffusers:{folder}")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
def test_a_broken_part_is_one_sentence_without_a_path(tmp_path: Path, file: str) -> None:
    folder = twins.mini_folder(tmp_path / "twin")
    (folder / file).write_bytes((folder / file).read_bytes()[:1000])
    with pytest.raises(UserError, match=r"missing or broken|is truncated") as caught:
        load_diffusion(f"diffusers:{folder}")
    assert str(tmp_path) not in str(caught.value)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = twins.mini_folder(tmp_path / "twin")
    safe = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, safe.with_suffix(".bin"))
    safe.unlink()
    with pytest.raises(UserError, match="unet"):
        load_diffusion(f"diffusers:{folder}")


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


MISFITS: dict[str, dict[str, Any]] = {
    "other captions": {"cross_attention_dim": 8},
    "other latents": {"in_channels": 9},
    "two outputs": {"out_channels": 8},
    "conditions of SDXL": {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 28,
    },
    "conditions of an image": {"addition_embed_type": "image", "encoder_hid_dim": 8},
    "classes": {"num_class_embeds": 10},
    "projected captions": {"encoder_hid_dim": 7, "encoder_hid_dim_type": "text_proj"},
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_unet_that_does_not_fit_is_refused_in_one_sentence(misfit: str, tmp_path: Path) -> None:
    folder = twins.mini_folder(tmp_path / "painter")
    unet = UNet2DConditionModel.from_config({**UNet2DConditionModel.load_config(folder / "unet"), **MISFITS[misfit]})
    unet.save_pretrained(folder / "unet")
    with pytest.raises(UserError, match="'painter'") as said:
        load_diffusion(f"diffusers:{folder}")
    assert str(said.value).endswith((".", "one."))
    assert "\n" not in str(said.value)
    assert len(str(said.value)) < 420
    vae, text = AutoencoderKL.from_pretrained(folder / "vae"), DistilBertModel.from_pretrained(folder / "text_encoder")
    parts = {"unet": unet, "vae": vae, "text_encoder": text}
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    held = SimpleNamespace(**parts, tokenizer=tokenizer, scheduler=DDPMScheduler.from_pretrained(folder / "scheduler"))
    with pytest.raises(UserError):
        LatentDiffusion.from_pipeline(held)
