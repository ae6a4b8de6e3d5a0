"""What is particular to Stable Diffusion 3, PixArt and PRX: parts left out, captions cleaned, sizes, other files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import AutoencoderDC, DDIMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from diffusers.pipelines.pixart_alpha import pipeline_pixart_alpha
from torch import Tensor

from sdsdemo.core.losses import denoising_residual
from sdsdemo.errors import UserError
from sdsdemo.models import cards, diffusion_files
from sdsdemo.models.attention import AttentionReader
from sdsdemo.models.families import from_pipeline, load_diffusion
from sdsdemo.models.pipelines import class_named
from sdsdemo.models.tokenizer_checks import caption_concerns, reading_notes
from tests import twins
from tests.models.families import pixart, prx, sd3, sdxl
from tests.models.families.family import CAPTIONS, SIDE, Family
from tests.models.families.text import t5gemma

ODD = " ;,The RED (star) [left], @home: 'blue' circle #12 & two-cats-on-a-mat.png "
"""A caption of which the rules of DeepFloyd leave another one, and of that a third."""


def pipeline(folder: Path, kind: str, **parts: None) -> Any:
    pipe: Any = getattr(diffusers, kind).from_pretrained(folder, **parts)
    return pipe


@torch.no_grad()
def test_without_t5_zeros_stand_for_its_tokens(tmp_path: Path) -> None:
    sd3.save(tmp_path, with_t5=False)
    model = load_diffusion(f"diffusers:{tmp_path}")
    pipe = pipeline(tmp_path, "StableDiffusion3Pipeline", text_encoder_3=None, tokenizer_3=None)
    state, _, pooled, _ = pipe.encode_prompt(CAPTIONS[0], None, None, do_classifier_free_guidance=False)
    state_CLD, pooled_CD = model.encode_prompts([CAPTIONS[0]])
    assert not (tmp_path / "text_encoder_3").exists()
    torch.testing.assert_close(state_CLD, state)
    torch.testing.assert_close(pooled_CD, pooled)
    assert from_pipeline(pipe).context_lengths == model.context_lengths == (77, 77)


def test_captions_of_pixart_are_cleaned_as_its_pipeline_cleans_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixart.save(tmp_path)
    monkeypatch.setattr(pipeline_pixart_alpha, "is_bs4_available", lambda: True)
    monkeypatch.setattr(pipeline_pixart_alpha, "BeautifulSoup", _NoMarkup, raising=False)
    pipe, model = pipeline(tmp_path, "PixArtAlphaPipeline"), load_diffusion(f"diffusers:{tmp_path}")
    (cleaned,) = pipe._text_preprocessing(ODD, clean_caption=True)
    assert model.worded([ODD]) == [cleaned]
    expected = pipe.tokenizer([cleaned], padding="max_length", max_length=120)["input_ids"]
    assert model.tokenize([ODD]).tolist() == expected != model.tokenize(["the red star"]).tolist()


def test_a_caption_counts_as_each_tokenizer_of_sd3_reads_it(tmp_path: Path) -> None:
    sd3.save(tmp_path)
    model = load_diffusion(f"diffusers:{tmp_path}")
    long = " ".join(["red"] * 80)
    partly, whole = model.token_ids(long), model.token_ids(" ".join([long] * 5))
    assert (partly.cut, partly.partly, whole.cut, whole.partly, model.context_length) == (False, 77, True, 0, 256)
    (said,) = caption_concerns([partly], model.context_length)
    assert said.text.startswith("Some text encoders of this model read only the first 77 tokens of caption A, others")
    assert reading_notes(model, "SD 3", [long]) == [
        "SD 3: of 1 captions 1 are truncated at 77 tokens by some of its text encoders."
    ]
    assert model.token_ids("a red star </s> left of a blue circle").mark == "</s>", "of T5"
    assert (model.token_ids("two {cats}").unknown, model.token_ids("two cats").unknown) == (True, False)


def test_marks_and_unknown_words_are_looked_for_in_what_pixart_is_given(tmp_path: Path) -> None:
    pixart.save(tmp_path)
    model = load_diffusion(f"diffusers:{tmp_path}")
    assert model.cleaned(["two {cats}"]) == ["two cats"]
    assert not model.token_ids("two {cats}").unknown


class _NoMarkup:
    """Stands in for BeautifulSoup, which reads HTML: a caption is none."""

    def __init__(self, text: str, **_: Any) -> None:
        self.text = text


def test_captions_of_prx_are_cleaned_as_its_pipeline_cleans_them(tmp_path: Path) -> None:
    prx.save(tmp_path)
    pipe, model = pipeline(tmp_path, "PRXPipeline"), load_diffusion(f"diffusers:{tmp_path}")
    ids, mask = pipe._tokenize_prompts([ODD], torch.device("cpu"))
    assert torch.equal(model.tokenize([ODD]), ids)
    assert torch.equal(model.encode_prompts([ODD])[1], mask)


def test_words_that_the_pipeline_drops_are_said(tmp_path: Path) -> None:
    """DeepFloyd's rules drop CJK, names of files and more; the rest of such a caption is another question."""
    prx.save(tmp_path)
    model = load_diffusion(f"diffusers:{tmp_path}")
    captions = ["一只猫坐在垫子上", "a 3x3 grid", "IMG_2034.jpg", "Two (red) {stars}, left"]
    rows = [model.token_ids(caption) for caption in captions]
    found = [c for c in caption_concerns(rows, model.context_length) if c.kind == "dropped-words"]
    assert [concern.blocking for concern in found] == [True, False, True]
    assert "drops all of caption A" in found[0].text
    assert "caption B, and reads it as “a grid”" in found[1].text
    assert "PRX: of 4 captions 3 lose words to its pipeline's own cleaning." in reading_notes(model, "PRX", captions)


@torch.no_grad()
def test_pixart_of_1024_pixels_is_told_size_and_proportions() -> None:
    changes = {"sample_size": 128, "num_layers": 1, "attention_head_dim": 12, "cross_attention_dim": 24}
    pipe = pixart.pipeline(diffusers.PixArtAlphaPipeline, **changes)
    pipe.vae = twins.vae(
        block_out_channels=(4,), down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",)
    )
    pipe.vae_scale_factor = 1
    model = from_pipeline(pipe)
    told = {}
    for name, denoiser in (("theirs", pipe.transformer), ("ours", model.denoiser)):
        denoiser.register_forward_pre_hook(_keep(told, name), with_kwargs=True)
    noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(4))
    usual = {"guidance_scale": 1.0, "num_inference_steps": 2, "output_type": "latent", "latents": noise}
    pipe("a cat", use_resolution_binning=False, **usual)
    model.denoise(noise, torch.tensor([500]), model.encode_prompts(["a cat"]))
    assert told["ours"]["resolution"].tolist() == told["theirs"]["resolution"].tolist() == [[128.0, 128.0]]
    assert told["ours"]["aspect_ratio"].tolist() == told["theirs"]["aspect_ratio"].tolist() == [[1.0]]


def _keep(told: dict[str, Any], name: str) -> Any:
    def keep(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        told[name] = kwargs["added_cond_kwargs"]

    return keep


def test_prx_has_the_size_that_its_index_names_or_else_512(tmp_path: Path) -> None:
    prx.save(tmp_path)
    assert load_diffusion(f"diffusers:{tmp_path}").pixels == cards.resolve(f"diffusers:{tmp_path}").pixels == SIDE
    index = json.loads((tmp_path / "model_index.json").read_text())
    del index["default_sample_size"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert load_diffusion(f"diffusers:{tmp_path}").pixels == cards.resolve(f"diffusers:{tmp_path}").pixels == 512


def test_the_library_that_the_index_of_prx_names_is_known() -> None:
    """Its text encoder is said to be in the pipeline's own module, which is never imported by its name."""
    for library in ("prx", "photon", "transformers"):
        assert class_named([library, "T5GemmaEncoder"], "text_encoder", "prx") == ("transformers", "T5GemmaEncoder")
    for library in ("prx", "os"):
        with pytest.raises(UserError, match="that diffusers or transformers provides"):
            class_named([library, "system"], "text_encoder", "prx")


def test_t5gemma_loads_with_the_config_of_its_encoder_alone(tmp_path: Path) -> None:
    prx.save(tmp_path)
    both = load_diffusion(f"diffusers:{tmp_path}").encode_prompts([CAPTIONS[0]])[0]
    torch.manual_seed(0)
    t5gemma(prx.WIDTH).config.save_pretrained(tmp_path / "text_encoder")
    assert "encoder" not in json.loads((tmp_path / "text_encoder" / "config.json").read_text())
    torch.testing.assert_close(load_diffusion(f"diffusers:{tmp_path}").encode_prompts([CAPTIONS[0]])[0], both)


@torch.no_grad()
def test_prx_scores_with_the_autoencoder_dc_ae(tmp_path: Path) -> None:
    pipe = prx.pipeline(vae=_dc_ae(), channels=8)
    pipe.save_pretrained(tmp_path)
    model = load_diffusion(f"diffusers:{tmp_path}")
    pixels, noise = torch.rand(1, 3, SIDE, SIDE) * 2 - 1, torch.randn(1, *model.latent_shape)
    latent = pipe.vae.encode(pixels).latent * 0.41407
    torch.testing.assert_close(model.encode_pixels(pixels), latent)
    given = (noise, torch.tensor([400]), model.encode_prompts([CAPTIONS[0]]))
    ours = denoising_residual(model.denoise, model.schedule, latent, *given)
    torch.testing.assert_close(ours, prx.residual(pipe, latent, noise, 400, CAPTIONS[0]), atol=1e-5, rtol=1e-4)
    assert model.latent_pixels == 4
    assert model.decode_latents(latent).shape == (1, SIDE, SIDE, 3)


def _dc_ae() -> Any:
    """An autoencoder of a quarter of the pixels a side, with eight channels."""
    torch.manual_seed(0)
    made: Any = AutoencoderDC(
        latent_channels=8,
        attention_head_dim=4,
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        scaling_factor=0.41407,
    )
    return made.eval()


@pytest.mark.parametrize(
    ("family", "scheduler"),
    [(sd3.SD3, DDIMScheduler()), (prx.PRX, DDIMScheduler()), (sdxl.SDXL, FlowMatchEulerDiscreteScheduler())],
)
def test_a_scheduler_of_another_family_is_one_sentence(family: Family, scheduler: Any, tmp_path: Path) -> None:
    family.save(tmp_path)
    for file in (tmp_path / "scheduler").iterdir():
        file.unlink()
    scheduler.save_pretrained(tmp_path / "scheduler")
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["scheduler"][1] = type(scheduler).__name__
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"The scheduler of .* is a \w+Scheduler.*restore scheduler/"):
        load_diffusion(f"diffusers:{tmp_path}")


def test_a_tokenizer_of_sentencepiece_says_which_packages_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixart.save(tmp_path)
    (tmp_path / "tokenizer" / "tokenizer.json").unlink()
    (tmp_path / "tokenizer" / "spiece.model").write_bytes(b"\n\x0e\n\x05<pad>")
    monkeypatch.setattr(diffusion_files, "_is_here", lambda package: package == "sentencepiece")
    with pytest.raises(UserError, match="pip install sentencepiece protobuf"):
        load_diffusion(f"diffusers:{tmp_path}")


@pytest.mark.parametrize("family", [sd3.SD3, pixart.PIXART_ALPHA, prx.PRX], ids=lambda family: family.kind)
def test_what_reads_a_unet_is_refused_for_a_transformer(family: Family, tmp_path: Path) -> None:
    family.save(tmp_path)
    model = load_diffusion(f"diffusers:{tmp_path}")
    noisy = torch.zeros(1, *model.latent_shape)
    with pytest.raises(UserError, match=r"features reads the UNet.*choose one of those models, or another objective"):
        print(model.inner_width)
    with pytest.raises(UserError, match="objective"):
        model.inner_features(noisy, torch.tensor([1]), model.encode_prompts(["a cat"]))
    with pytest.raises(UserError, match=r"attention reads the UNet.*or a map of the errors"):
        AttentionReader(model)


def test_features_of_a_unet_without_a_middle_block_are_refused(tmp_path: Path) -> None:
    """As small distilled ones have none: BK-SDM-small, tiny-sd."""
    config = UNet2DConditionModel.load_config(twins.sd_folder(tmp_path) / "unet")
    UNet2DConditionModel.from_config({**config, "mid_block_type": None}).save_pretrained(tmp_path / "unet")
    model = load_diffusion(f"diffusers:{tmp_path}")
    with pytest.raises(UserError, match=r"reads the middle block of a UNet.*has none: choose .* or another objective"):
        print(model.inner_width)


@torch.no_grad()
def test_sdxl_has_a_unet_to_read(tmp_path: Path) -> None:
    sdxl.save(tmp_path)
    model = load_diffusion(f"diffusers:{tmp_path}")
    given: tuple[Tensor, Tensor, Any] = (
        torch.zeros(1, *model.latent_shape), torch.tensor([1]), model.encode_prompts(["a cat"])
    )  # fmt: skip
    assert model.inner_features(*given).shape == (1, model.inner_width)
    token_BL = torch.ones(1, 77, dtype=torch.bool)
    assert AttentionReader(model).denoise(*given, token_BL)[1].shape == (1, 4, 4)
