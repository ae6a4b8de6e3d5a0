"""What a denoiser is shown to make of a picture, against diffusers itself."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline

from sdsdemo.models import denoised
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.noise_grid import draw_noise
from sdsdemo.types import Budget, Denoiser, Scores
from tests import twins
from tests.models.diffusion_twins import scorer_of

CAPTIONS = ["a red star left of a blue circle", "a blue star left of a red circle"]
BUDGET = Budget(timesteps=3, noises=2, seed=5)


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind = request.param
    vae = {"scaling_factor": 0.3, "shift_factor": 0.1} if kind == "v_prediction" else {}
    return twins.sd_folder(tmp_path_factory.mktemp("twin") / kind, prediction=kind, **vae)


@pytest.fixture
def scorer(folder: Path) -> DiffusionScorer:
    scorer = scorer_of(folder)
    assert isinstance(scorer, Denoiser)
    return scorer


@torch.no_grad()
def guesses_by_diffusers(folder: Path, captions: list[str], timestep_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """picture_T of the noised latents and picture_CT of the one-step guesses, by diffusers alone."""
    pipe: Any = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    config = pipe.vae.config
    scheduler: Any = DDPMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pixels = pipe.image_processor.preprocess(twins.picture().resize((32, 32), 3))
    latent = (pipe.vae.encode(pixels).latent_dist.mean - (config.shift_factor or 0)) * config.scaling_factor
    noise_TN = draw_noise(BUDGET, (4, 4, 4))

    def picture(latent: torch.Tensor) -> np.ndarray:
        raw = pipe.vae.decode(latent / config.scaling_factor + (config.shift_factor or 0)).sample
        return (pipe.image_processor.postprocess(raw, output_type="np")[0] * 255).round()

    noised, guess = [], []
    for t, step in enumerate(timestep_T.tolist()):
        noisy = scheduler.add_noise(latent, noise_TN[t, :1], torch.tensor([step]))
        noised.append(picture(noisy))
        states = [pipe.encode_prompt(caption, "cpu", 1, False)[0] for caption in captions]
        outputs = [pipe.unet(noisy, step, encoder_hidden_states=state).sample for state in states]
        guess.append([picture(scheduler.step(output, step, noisy).pred_original_sample) for output in outputs])
    return np.stack(noised), np.stack(guess, axis=1)


def test_scores_are_those_of_plain_scoring_bit_for_bit(scorer: DiffusionScorer) -> None:
    plain = scorer.score([twins.picture()], CAPTIONS, BUDGET)
    scores, shown = scorer.score_and_show(twins.picture(), CAPTIONS, BUDGET, most=1.0, free=60.0)
    assert scores.evidence is not None
    assert plain.evidence is not None
    np.testing.assert_array_equal(scores.evidence.loss_ICTN, plain.evidence.loss_ICTN)
    assert scores.evidence.evaluations == plain.evidence.evaluations
    np.testing.assert_allclose(shown.error_CTNHW.mean(axis=(3, 4)), scores.evidence.loss_ICTN[0], rtol=1e-5)


def test_pictures_are_the_guesses_of_diffusers(folder: Path, scorer: DiffusionScorer) -> None:
    scores, shown = scorer.score_and_show(twins.picture(), CAPTIONS, BUDGET, most=1.0, free=60.0)
    assert scores.evidence is not None
    noised_T, guess_CT = guesses_by_diffusers(folder, [*CAPTIONS, ""], scores.evidence.timestep_T)
    found = {"noised": (shown.noised_S, noised_T), "guess": (shown.guess_CS, guess_CT[:-1])}
    for name, (mine, theirs) in (found | {"empty": (shown.guess_empty_S, guess_CT[-1])}).items():
        assert mine.shape == theirs.shape
        assert mine.dtype == np.uint8
        assert np.abs(mine.astype(float) - theirs).max() <= 1, name
    assert not np.array_equal(shown.guess_CS[0], shown.guess_CS[1])


def test_swapped_captions_swap_errors_and_guesses(scorer: DiffusionScorer) -> None:
    _, forth = scorer.score_and_show(twins.picture(), CAPTIONS, BUDGET, most=1.0, free=60.0)
    _, back = scorer.score_and_show(twins.picture(), CAPTIONS[::-1], BUDGET, most=1.0, free=60.0)
    np.testing.assert_array_equal(forth.error_CTNHW, back.error_CTNHW[::-1])
    np.testing.assert_array_equal(forth.guess_CS, back.guess_CS[::-1])
    np.testing.assert_array_equal(forth.guess_empty_S, back.guess_empty_S)


def test_equal_captions_have_equal_guesses(scorer: DiffusionScorer) -> None:
    _, shown = scorer.score_and_show(twins.picture(), [CAPTIONS[0], CAPTIONS[0]], BUDGET, most=1.0, free=60.0)
    np.testing.assert_array_equal(shown.guess_CS[0], shown.guess_CS[1])


def test_of_the_residuals_only_what_is_read_is_kept() -> None:
    """All of them are gigabytes of a real model. The second caption gets fewer draws; the third is the first again."""
    shape, made = (2, 3, 4), torch.Generator().manual_seed(1)
    whole = torch.randn(*shape, 2, 4, 4, generator=made)
    order_E = torch.randperm(24, generator=made).numpy()
    order_E = order_E[(order_E < 12) | (order_E % 4 < 2)]
    whole[1, :, 2:] = torch.nan
    given: list[weakref.ref[torch.Tensor]] = []

    def residuals() -> Iterator[torch.Tensor]:
        for place_B in np.array_split(order_E, 4):
            residual_B = whole.flatten(0, 2)[place_B]
            given.append(weakref.ref(residual_B))
            yield residual_B

    kept = denoised.Kept(shape[2])
    for _ in kept.keep(residuals(), order_E):
        pass
    del _
    assert [left() for left in given] == [None] * 4
    kept.settle(torch.zeros(1, 2, 4, 4), shape[1], [0, 1, 0])
    np.testing.assert_array_equal(kept.error_CTNHW, whole[[0, 1, 0]].square().mean(dim=3).numpy())
    assert torch.equal(kept.first_CT, whole[[0, 1, 0], :, 0])
    assert kept.shared == 2


def test_where_decoding_is_slow_the_most_telling_timesteps_are_shown(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = scorer.score_and_show(twins.picture(), CAPTIONS, BUDGET, most=1.0, free=60.0)
    gap_T = np.abs(np.subtract(*whole.error_CTNHW.mean(axis=(2, 3, 4))))
    ticks: Iterator[float] = iter(np.arange(100.0))
    monkeypatch.setattr(denoised, "time", SimpleNamespace(thread_time=lambda: next(ticks)))
    for seconds, expected in [(0.0, 1), (2.5, 2), (100.0, 3)]:
        position_S = denoised._decoded(
            scorer.model, torch.zeros(4, 3, *scorer.model.latent_shape), np.argsort(-gap_T).tolist(), seconds
        )[1]
        assert set(position_S) == set(np.argsort(-gap_T)[:expected])
        assert list(position_S) == sorted(position_S)


def test_a_shown_timestep_has_its_own_pictures(scorer: DiffusionScorer) -> None:
    latent_PT = torch.randn(2, 3, *scorer.model.latent_shape, generator=torch.Generator().manual_seed(1))
    picture_PS, position_S = denoised._decoded(scorer.model, latent_PT, [1, 2, 0], 1e9)
    for s, t in enumerate(position_S):
        alone_P = scorer.model.decode_latents(latent_PT[:, t])
        assert np.abs(picture_PS[:, s].astype(int) - alone_P).max() <= 1


def test_a_latent_that_is_no_number_is_drawn_grey(scorer: DiffusionScorer) -> None:
    picture_I = scorer.model.decode_latents(torch.full((1, *scorer.model.latent_shape), torch.nan))
    assert (picture_I == 128).all()


def test_watched_scores_grow_round_by_round_to_the_score_itself(scorer: DiffusionScorer) -> None:
    spend = Budget(timesteps=3, noises=5, seed=5)
    plain = scorer.score([twins.picture()], CAPTIONS, spend)
    _, shown = scorer.score_and_show(twins.picture(), CAPTIONS, spend, most=1.0, free=60.0)
    seen: list[Scores] = []
    scorer.score_and_show(twins.picture(), CAPTIONS, spend, most=1.0, free=60.0, watch=seen.append)
    assert seen == [], "all of it fits in one call"

    scorer.micro_batch = 4
    scores, again = scorer.score_and_show(twins.picture(), CAPTIONS, spend, most=1.0, free=60.0, watch=seen.append)
    assert scores.evidence is not None
    assert plain.evidence is not None
    np.testing.assert_allclose(scores.evidence.loss_ICTN, plain.evidence.loss_ICTN, rtol=1e-4)
    np.testing.assert_allclose(again.error_CTNHW, shown.error_CTNHW, rtol=1e-2, atol=1e-4)
    assert np.abs(again.guess_CS.astype(float) - shown.guess_CS).max() <= 1
    rounds = [part.evidence.loss_ICTN.shape[-1] for part in seen if part.evidence]
    assert rounds == [1, 2, 3, 4], "each round once"
    for part in seen:
        assert part.evidence is not None
        n = part.evidence.loss_ICTN.shape[-1]
        np.testing.assert_array_equal(part.evidence.loss_ICTN, scores.evidence.loss_ICTN[..., :n])
        assert part.evidence.evaluations == part.evidence.loss_ICTN.size


def test_watched_antithetic_scores_are_shown_after_whole_pairs(scorer: DiffusionScorer) -> None:
    spend, seen = Budget(timesteps=3, noises=6, seed=5, antithetic=True), list[Scores]()
    scorer.micro_batch = 4
    scorer.score_and_show(twins.picture(), CAPTIONS, spend, most=1.0, free=60.0, watch=seen.append)
    assert [part.evidence.loss_ICTN.shape[-1] for part in seen if part.evidence] == [2, 4]


def test_no_half_round_is_shown_where_memory_ends_on_the_way(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    spend = Budget(timesteps=3, noises=5, seed=5)
    denoise = scorer.model.denoise

    def small(noisy_B: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(noisy_B) > 8:
            raise torch.cuda.OutOfMemoryError
        return denoise(noisy_B, *rest)

    monkeypatch.setattr(scorer.model, "denoise", small)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    for at_once in (1024, 16):
        scorer.micro_batch = at_once
        seen: list[Scores] = []
        scores, _ = scorer.score_and_show(twins.picture(), CAPTIONS, spend, most=1.0, free=60.0, watch=seen.append)
        assert np.isfinite(scores.score_IC).all()
        assert all(np.isfinite(part.score_IC).all() for part in seen)
        assert bool(seen) == (at_once == 16)
