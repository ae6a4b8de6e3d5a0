"""The denoising diffusion scorer on twins of real pipelines, against diffusers itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from sdsdemo.core.decision import decide
from sdsdemo.core.intervals import grid_stderr, paired_difference
from sdsdemo.core.noising import NoiseSchedule
from sdsdemo.core.score_variants import CLEAN, normalised
from sdsdemo.evaluation.store import row_of, scores_of
from sdsdemo.evaluation.store.row_format import line_of, parsed
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.denoising_scores import denoising_scores
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.domain import Domain
from sdsdemo.models.noise_grid import draw_noise
from sdsdemo.settings import budget
from sdsdemo.types import Budget, Concern, Example, Picture
from tests import forks, twins
from tests.models.diffusion_twins import BUDGET, CAPTIONS, evidence, losses, pipeline, scorer_of


@pytest.fixture
def folders(diffusion_folders: dict[str, Path]) -> dict[str, Path]:
    return diffusion_folders


@pytest.fixture
def scorer(folders: dict[str, Path]) -> DiffusionScorer:
    return scorer_of(folders["epsilon"])


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
    from sdsdemo.models.images import open_image
    from sdsdemo.types import Budget

    scorer = open_scorer(cards.resolve(spec), device="cpu")
    scores = scorer.score([open_image(picture)], captions, Budget(timesteps=3, noises=2, seed=5))
    assert scores.evidence is not None
    return scores.evidence.loss_ICTN.tobytes().hex()


def test_another_seed_gives_other_losses(scorer: DiffusionScorer) -> None:
    one, other = (scorer.score([twins.picture()], CAPTIONS, replace(BUDGET, seed=seed)) for seed in (1, 2))
    assert not np.allclose(losses(one), losses(other), atol=1e-3)


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


def test_a_timestep_without_signal_is_scored_and_stored() -> None:
    schedule = NoiseSchedule(prediction="v", alpha_bar=torch.tensor([0.9, 0.5, 0.0]))
    model: Any = SimpleNamespace(schedule=schedule, dtype=torch.float32)
    for timestep_T, has_factor in ((np.array([0, 1]), True), (np.array([0, 2]), False)):
        loss_ICTN = np.ones((1, 2, 2, 2), dtype=np.float32)
        found = denoising_scores(loss_ICTN, timestep_T, budget(2, 2), model, micro_batch=1, evaluations=8, seconds=0.0)
        again = evidence(scores_of(parsed(line_of(row_of("m", "e", found)))))
        assert (again.clean_factor_T is not None) == (CLEAN in normalised(again)) == has_factor
