"""The denoising diffusion scorer on twins of real pipelines, against diffusers itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTokenizer, DistilBertModel, PreTrainedTokenizerFast

from sdsdemo.core.decision import decide
from sdsdemo.core.intervals import grid_stderr, paired_difference
from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.domain import Domain
from sdsdemo.models.families import load_diffusion
from sdsdemo.models.memory import is_out_of_memory
from sdsdemo.models.noise_grid import draw_noise, spread_timesteps
from sdsdemo.types import Budget, Concern, Evidence, Example, Picture, Scores
from tests import forks, twins

CAPTIONS = ["a red star left of a blue circle", "a blue star left of a red circle", "a cat"]
BUDGET = Budget(timesteps=3, noises=2, seed=5)
SHIFTED: dict[str, Any] = {"scaling_factor": 0.3, "shift_factor": 0.1}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three twins by name."""
    root = tmp_path_factory.mktemp("twins")
    return {
        "epsilon": twins.sd_folder(root / "epsilon"),
        "v_prediction": twins.sd_folder(root / "v", prediction="v_prediction", **SHIFTED),
        "mini": twins.mini_folder(root / "mini"),
    }


def scorer_of(folder: Path) -> DiffusionScorer:
    scorer = open_scorer(cards.resolve(f"diffusers:{folder}"), device="cpu")
    assert isinstance(scorer, DiffusionScorer)
    return scorer


@pytest.fixture
def scorer(folders: dict[str, Path]) -> DiffusionScorer:
    return scorer_of(folders["epsilon"])


def losses(scores: Scores) -> np.ndarray:
    return evidence(scores).loss_ICTN


def evidence(scores: Scores) -> Evidence:
    assert scores.evidence is not None
    return scores.evidence


def pipeline(folder: Path, **options: Any) -> Any:
    """The twin as diffusers loads it."""
    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, **options)


@torch.no_grad()
def plain_losses(folder: Path, image: Any, captions: list[str], budget: Budget, timestep_T: np.ndarray) -> np.ndarray:
    """loss_CTN by diffusers alone, one sample at a time; the picture is a square."""
    pipe = pipeline(folder, torch_dtype=torch.float32)
    noising = DDPMScheduler.from_config(pipe.scheduler.config)
    pixels = pipe.image_processor.preprocess(image.resize((32, 32), 3))
    latent = pipe.vae.encode(pixels).latent_dist.mean
    latent = (latent - (pipe.vae.config.shift_factor or 0)) * pipe.vae.config.scaling_factor
    noise_TN = torch.randn(
        budget.timesteps, budget.noises, 4, 4, 4, generator=torch.Generator().manual_seed(budget.seed)
    )
    loss_CTN = np.zeros((len(captions), budget.timesteps, budget.noises))
    for c, t, n in np.ndindex(*loss_CTN.shape):
        state, _ = pipe.encode_prompt(captions[c], "cpu", 1, False)
        noise, step = noise_TN[t, n][None], torch.tensor([timestep_T[t]])
        noisy = noising.add_noise(latent, noise, step)
        output = pipe.unet(noisy, step, encoder_hidden_states=state).sample
        if noising.config.prediction_type == "v_prediction":
            alpha_bar = noising.alphas_cumprod[step]
            output = alpha_bar.sqrt() * output + (1 - alpha_bar).sqrt() * noisy
        loss_CTN[c, t, n] = (output - noise).square().mean()
    return loss_CTN


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "mini"])
def test_losses_are_those_of_a_plain_loop_over_diffusers(folders: dict[str, Path], kind: str) -> None:
    scores = scorer_of(folders[kind]).score([twins.picture()], CAPTIONS, BUDGET)
    expected = plain_losses(folders[kind], twins.picture(), CAPTIONS, BUDGET, evidence(scores).timestep_T)
    np.testing.assert_allclose(losses(scores)[0], expected, atol=1e-5)
    np.testing.assert_allclose(scores.score_IC[0], -expected.mean(axis=(1, 2)), atol=1e-5)


def test_a_repository_in_the_hub_cache_needs_no_network(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", _no_network)
    twins.in_hub_cache(tmp_path, "twins/sd", folders["epsilon"])
    by_repo = open_scorer(cards.resolve("diffusers:twins/sd"), device="cpu")
    by_folder = scorer_of(folders["epsilon"])
    image = [twins.picture()]
    np.testing.assert_array_equal(
        losses(by_repo.score(image, CAPTIONS, BUDGET)), losses(by_folder.score(image, CAPTIONS, BUDGET))
    )


def test_a_missing_repository_asks_before_using_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", _no_network)
    with pytest.raises(UserError, match="downloads are off"):
        load_diffusion("diffusers:twins/none")


def test_native_resolution_and_latent_size_come_from_the_configs(folders: dict[str, Path]) -> None:
    model = load_diffusion(f"diffusers:{folders['epsilon']}")
    assert (model.pixels, model.latent_shape, model.schedule.steps) == (32, (4, 4, 4), 1000)
    assert cards.resolve(f"diffusers:{folders['epsilon']}").pixels == 32


def test_equal_captions_get_bit_identical_losses_and_are_computed_once(scorer: DiffusionScorer) -> None:
    scores = scorer.score([twins.picture()], ["a cat", "A  cat", "a dog"], BUDGET)
    np.testing.assert_array_equal(losses(scores)[:, 0], losses(scores)[:, 1])
    assert evidence(scores).evaluations == 2 * BUDGET.evaluations


def test_swapping_captions_swaps_the_answer_bit_for_bit(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when the last bits of a sample depend on its place in the batch, as with real kernels they may."""
    denoise = scorer.model.denoise

    def denoise_by_place(noisy_B: torch.Tensor, timestep_B: torch.Tensor, condition_B: Any) -> torch.Tensor:
        return denoise(noisy_B, timestep_B, condition_B) + torch.arange(len(noisy_B))[:, None, None, None] * 1e-5

    monkeypatch.setattr(scorer.model, "denoise", denoise_by_place)
    forth = scorer.score([twins.picture()], CAPTIONS, BUDGET)
    back = scorer.score([twins.picture()], CAPTIONS[::-1], BUDGET)
    np.testing.assert_array_equal(losses(forth), losses(back)[:, ::-1])
    np.testing.assert_array_equal(forth.score_IC, back.score_IC[:, ::-1])


def test_every_image_and_caption_meets_the_same_noise(scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A denoiser that guesses nothing leaves the noise itself as the error: it must be the same everywhere."""
    monkeypatch.setattr(scorer.model, "denoise", lambda noisy_B, timestep_B, condition_B: torch.zeros_like(noisy_B))
    scores = scorer.score([twins.picture(0), twins.picture(1)], CAPTIONS, BUDGET)
    expected_TN = draw_noise(BUDGET, (4, 4, 4)).square().mean(dim=(2, 3, 4)).numpy()
    np.testing.assert_allclose(losses(scores), np.broadcast_to(expected_TN, losses(scores).shape), rtol=1e-6)


def test_images_scored_together_get_the_losses_that_they_get_alone(scorer: DiffusionScorer) -> None:
    pictures = [twins.picture(0), twins.picture(1)]
    together = losses(scorer.score(pictures, CAPTIONS, BUDGET))
    alone = [losses(scorer.score([picture], CAPTIONS, BUDGET))[0] for picture in pictures]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert not np.allclose(alone[0], alone[1], atol=1e-6)


@pytest.mark.parametrize("size", [1, 5, 64])
def test_the_micro_batch_changes_no_score(scorer: DiffusionScorer, size: int) -> None:
    expected = scorer.score([twins.picture()], CAPTIONS, BUDGET)
    scorer.micro_batch = size
    scores = scorer.score([twins.picture()], CAPTIONS, BUDGET)
    np.testing.assert_allclose(scores.score_IC, expected.score_IC, atol=1e-5)
    assert evidence(scores).micro_batch == size


def test_captions_timesteps_and_noises_share_calls_of_the_micro_batch(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, denoise = [], scorer.model.denoise

    def denoise_and_note(noisy_B: torch.Tensor, timestep_B: torch.Tensor, condition_B: Any) -> torch.Tensor:
        sizes.append(len(noisy_B))
        return denoise(noisy_B, timestep_B, condition_B)

    monkeypatch.setattr(scorer.model, "denoise", denoise_and_note)
    scorer.micro_batch = 16
    scorer.score([twins.picture()], CAPTIONS, BUDGET)
    assert sizes == [16, 2]


def test_the_same_seed_gives_the_same_losses_in_a_new_process(folders: dict[str, Path], tmp_path: Path) -> None:
    twins.picture().save(tmp_path / "picture.png")
    asked = [str(tmp_path / "picture.png"), f"diffusers:{folders['mini']}", *CAPTIONS]
    assert forks.ran(print_losses, *asked, out=tmp_path / "losses").split()[-1] == fresh_losses(*asked)


def print_losses(*asked: str) -> None:
    print(fresh_losses(*asked))


def fresh_losses(picture: str, spec: str, *captions: str) -> str:
    """Every bit of the losses."""
    from sdsdemo.models import cards, open_scorer
    from sdsdemo.models.images import open_image
    from sdsdemo.types import Budget

    scorer = open_scorer(cards.resolve(spec), device="cpu")
    scores = scorer.score([open_image(picture)], captions, Budget(timesteps=3, noises=2, seed=5))
    assert scores.evidence is not None
    return scores.evidence.loss_ICTN.tobytes().hex()


def test_another_seed_gives_other_losses(scorer: DiffusionScorer) -> None:
    one, other = (scorer.score([twins.picture()], CAPTIONS, replace(BUDGET, seed=seed)) for seed in (1, 2))
    assert not np.allclose(losses(one), losses(other), atol=1e-3)


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


def test_timesteps_are_the_midpoints_of_equal_parts_of_the_range() -> None:
    assert spread_timesteps(4, (0.0, 1.0), 1000).tolist() == [125, 375, 625, 875]
    assert spread_timesteps(3, (0.2, 0.8), 1000).tolist() == [300, 500, 700]
    assert spread_timesteps(64, (0.0, 1.0), 1000)[-1] < 1000


def test_the_card_says_over_which_part_of_the_schedule_timesteps_spread(scorer: DiffusionScorer) -> None:
    scorer.card = replace(scorer.card, timestep_range=(0.2, 0.8))
    assert evidence(scorer.score([twins.picture()], CAPTIONS, BUDGET)).timestep_T.tolist() == [300, 500, 700]


def test_the_error_of_a_score_comes_from_the_spread_within_timesteps() -> None:
    loss_ICTN = np.array([[[[1.0, 3.0], [10.0, 10.0]]]], dtype=np.float32)
    assert grid_stderr(loss_ICTN)[0, 0] == pytest.approx(0.5)  # sqrt((2 / 2 + 0 / 2)) / 2
    assert np.isnan(grid_stderr(loss_ICTN[..., :1])).all()


def test_the_empty_prompt_meets_the_same_noise_and_changes_nothing_else(scorer: DiffusionScorer) -> None:
    plain = scorer.score([twins.picture()], CAPTIONS[:2], BUDGET)
    more = scorer.score([twins.picture()], CAPTIONS[:2], replace(BUDGET, empty_prompt=True))
    as_caption = scorer.score([twins.picture()], [*CAPTIONS[:2], ""], BUDGET)
    np.testing.assert_allclose(losses(more), losses(plain), atol=1e-6)
    np.testing.assert_array_equal(evidence(more).loss_empty_ITN, losses(as_caption)[:, 2])
    assert (evidence(plain).loss_empty_ITN, evidence(more).evaluations) == (None, 3 * BUDGET.evaluations)


FULL = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("[enforce fail] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"),
    "cpu of Windows": RuntimeError(
        "[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried to allocate"
    ),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB, other allocations: 1.00 GB)"),
}


@pytest.mark.parametrize("device", FULL)
def test_out_of_memory_halves_the_micro_batch_and_loses_no_sample(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    expected = losses(scorer.score([twins.picture()], CAPTIONS, BUDGET))
    monkeypatch.setattr(scorer.model, "denoise", _with_room_for(3, scorer.model.denoise, FULL[device]))
    scores = scorer.score([twins.picture()], CAPTIONS, BUDGET)
    np.testing.assert_allclose(losses(scores), expected, atol=1e-5)
    assert evidence(scores).micro_batch == 2


@pytest.mark.parametrize(
    ("device", "said"),
    [("cpu", "The computer (the device is cpu) has"), ("mps", "The GPU (mps) has"), ("cuda", "The GPU has")],
)
def test_one_sample_that_does_not_fit_is_a_sentence_that_names_the_device(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch, device: str, said: str
) -> None:
    scorer.micro_batch = 1
    monkeypatch.setattr(scorer.model, "device", torch.device(device))
    with pytest.raises(UserError, match=f"^{re.escape(said)} too little memory for one sample of .*: close "):
        scorer._halve()


def test_what_this_torch_says_of_a_full_memory_is_known() -> None:
    with pytest.raises(RuntimeError) as said:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(said.value)


@pytest.mark.parametrize("words", ["mat1 and mat2 shapes cannot be multiplied", "not enough memory for the cache file"])
def test_another_error_is_passed_on_and_halves_nothing(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    before = scorer.micro_batch
    monkeypatch.setattr(scorer.model, "denoise", _with_room_for(0, scorer.model.denoise, RuntimeError(words)))
    with pytest.raises(RuntimeError, match=words):
        scorer.score([twins.picture()], CAPTIONS, BUDGET)
    assert scorer.micro_batch == before


def test_a_loss_that_is_not_a_number_is_passed_on(scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer.model, "denoise", lambda x, t, c: torch.full_like(x, float("nan")))
    assert np.isnan(scorer.score([twins.picture()], CAPTIONS, BUDGET).score_IC).all()


def test_long_and_equal_captions_are_reported_but_do_not_block(folders: dict[str, Path]) -> None:
    scorer = scorer_of(folders["mini"])
    full = " ".join(["star"] * (twins.CONTEXT - 2))
    assert scorer.concerns([], [full, "red star"]) == []
    found = scorer.concerns([], [f"{full} red", f"{full} blue", "Red  Star", "red star"])
    assert [(c.kind, c.blocking) for c in found] == [("truncated", False)] * 2 + [("equal-captions", False)] * 2


def test_what_the_domain_does_not_know_is_passed_on(scorer: DiffusionScorer) -> None:
    concern = Concern(kind="foreign-picture", text="No.", blocking=True)

    class Known:
        def concerns(self, images: Any, captions: Any) -> list[Concern]:
            return [concern]

    scorer.domain = cast(Domain, Known())
    assert scorer.concerns([twins.picture()], CAPTIONS) == [concern]


def test_nothing_to_score_is_a_wrong_argument(scorer: DiffusionScorer) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        scorer.score([], CAPTIONS, BUDGET)


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


def _no_network(*_: object) -> None:
    raise AssertionError("the network was reached")


def _with_room_for(samples: int, denoise: Any, error: Exception) -> Any:
    def denoise_if_it_fits(noisy_B: torch.Tensor, timestep_B: torch.Tensor, condition_B: Any) -> torch.Tensor:
        if len(noisy_B) > samples:
            raise error
        return denoise(noisy_B, timestep_B, condition_B)

    return denoise_if_it_fits


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _state(pipe: Any) -> list[Any]:
    """Everything about a pipeline that scoring might change."""
    modules = [pipe.unet, pipe.vae, pipe.text_encoder]
    flags = [(m.training, m.dtype, m.device, [p.requires_grad for p in m.parameters()]) for m in modules]
    sums = [float(sum(p.double().sum() for p in m.parameters())) for m in modules]
    scheduler = (dict(pipe.scheduler.config), pipe.scheduler.timesteps.tolist(), pipe.scheduler.num_inference_steps)
    return [*flags, *sums, scheduler]


def test_a_caption_that_examples_share_is_encoded_once(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = scorer.model.encode_prompts
    monkeypatch.setattr(scorer.model, "encode_prompts", lambda prompts: (encoded.extend(prompts), encode(prompts))[1])
    monkeypatch.setattr(scorer, "micro_batch", 1)  # so that every example is a part of its own
    picture = Picture(name="0.png", open=twins.picture)
    captions = tuple(CAPTIONS[:2])
    examples = [
        Example(id=str(k), images=(picture,), captions=captions[:: 1 - 2 * (k % 2)], tags={}) for k in range(10)
    ]
    spend = Budget(timesteps=2, noises=2, seed=0)
    found = list(scorer.score_examples(examples, spend))
    assert sorted(encoded) == sorted(captions)
    for example, scores in zip(examples, found, strict=True):
        alone = scorer.score([twins.picture()], example.captions, spend)
        np.testing.assert_allclose(scores.score_IC, alone.score_IC, atol=1e-6)


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


def test_antithetic_noise_is_a_draw_and_its_opposite() -> None:
    budget = Budget(timesteps=2, noises=4, seed=3, antithetic=True)
    noise_TN = draw_noise(budget, (4, 2, 2))
    assert noise_TN.shape == (2, 4, 4, 2, 2)
    assert torch.equal(noise_TN[:, ::2], -noise_TN[:, 1::2])
    assert torch.equal(noise_TN[:, ::2], draw_noise(replace(budget, noises=2, antithetic=False), (4, 2, 2)))
    with pytest.raises(ValueError, match="pairs"):
        draw_noise(replace(budget, noises=3), (4, 2, 2))


def test_antithetic_scores_take_a_pair_for_one_draw(scorer: DiffusionScorer) -> None:
    spend = Budget(timesteps=2, noises=4, seed=3, antithetic=True)
    scores = scorer.score([twins.picture()], CAPTIONS[:2], spend)
    assert evidence(scores).antithetic
    pairs_ICT2 = losses(scores).reshape(1, 2, 2, 2, 2).mean(axis=-1)
    np.testing.assert_allclose(scores.stderr_IC, grid_stderr(pairs_ICT2), rtol=1e-5)
    paired = paired_difference(pairs_ICT2[0, 0], pairs_ICT2[0, 1])
    assert decide(scores).stderr == pytest.approx(paired.stderr, rel=1e-3)
    one_pair = decide(scorer.score([twins.picture()], CAPTIONS[:2], replace(spend, noises=2)))
    assert not one_pair.decided
    assert "pair" in one_pair.note
