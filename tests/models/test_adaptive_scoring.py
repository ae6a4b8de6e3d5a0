"""Adaptive scoring on twins: what it spends, and that it measures what scoring in full measures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdsdemo.app.workbench import Workbench
from sdsdemo.core.adaptive import looks_within
from sdsdemo.core.decision import decide
from sdsdemo.errors import UserError
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.store import read_run
from sdsdemo.models import adaptive_scoring
from sdsdemo.models.adaptive_scoring import adaptive_losses
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.settings import budget
from sdsdemo.types import Budget, Example, Picture, Scores
from tests import twins
from tests.models.diffusion_twins import evidence, scorer_of

CAPTIONS = ["a red star left of a blue circle", "a blue star left of a red circle", "a red circle"]
BUDGET = Budget(timesteps=4, noises=8, seed=5, antithetic=True, adaptive=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return twins.mini_folder(tmp_path_factory.mktemp("adaptive") / "mini")


@pytest.fixture
def scorer(folder: Path) -> DiffusionScorer:
    return scorer_of(folder)


def rounds(scores: Scores) -> np.ndarray:
    found = evidence(scores).rounds_IC
    assert found is not None
    return found


def biased(scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch, by_caption: list[float]) -> None:
    """A denoiser whose output is off by a constant for each caption, and by none for the empty one."""
    model = scorer.model
    condition_C = model.read_ahead(model.encode_prompts(CAPTIONS[: len(by_caption)]))

    def denoise(noisy_B: torch.Tensor, timestep_B: torch.Tensor, condition_B: Any) -> torch.Tensor:
        known_B = [[torch.equal(known, one) for known in condition_C] for one in condition_B]
        off_B = torch.tensor([by_caption[known.index(True)] if any(known) else 0.0 for known in known_B])
        return noisy_B * 0.9 + off_B[:, None, None, None]

    monkeypatch.setattr(model, "denoise", denoise)


def test_what_is_computed_is_what_scoring_in_full_computes(scorer: DiffusionScorer) -> None:
    images = [twins.picture(0), twins.picture(1)]
    whole = scorer.score(images, CAPTIONS, replace(BUDGET, adaptive=False))
    scores = scorer.score(images, CAPTIONS, BUDGET)
    for (i, c), spent in np.ndenumerate(rounds(scores)):
        assert spent in looks_within(BUDGET.noises)
        found, expected = (evidence(one).loss_ICTN[i, c, :, :spent] for one in (scores, whole))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        assert np.isnan(evidence(scores).loss_ICTN[i, c, :, spent:]).all()
    assert evidence(scores).evaluations == rounds(scores).sum() * BUDGET.timesteps


def test_a_clear_case_ends_at_the_first_look(scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    biased(scorer, monkeypatch, [0.0, 3.0])
    monkeypatch.setattr("sdsdemo.core.adaptive.BOUNDS", (1.5,) * 5)
    scores = scorer.score([twins.picture()], CAPTIONS[:2], BUDGET)
    assert rounds(scores).tolist() == [[1, 1]]
    assert evidence(scores).evaluations == 2 * BUDGET.timesteps
    found = decide(scores)
    assert (found.preferred, found.decided) == (0, True)


def shown(scorer: DiffusionScorer, captions: list[str], spend: Budget = BUDGET, **options: Any) -> Any:
    return scorer.score_and_show(twins.picture(), captions, spend, most=1.0, free=60.0, **options)


def test_what_is_shown_of_an_early_end_is_what_was_computed(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    biased(scorer, monkeypatch, [0.0, 3.0])
    monkeypatch.setattr("sdsdemo.core.adaptive.BOUNDS", (1.5,) * 5)
    scores, denoised = shown(scorer, CAPTIONS[:2])
    np.testing.assert_array_equal(scores.score_IC, scorer.score([twins.picture()], CAPTIONS[:2], BUDGET).score_IC)
    assert rounds(scores).tolist() == [[1, 1]]
    np.testing.assert_allclose(
        denoised.error_CTNHW.mean(axis=(3, 4)), evidence(scores).loss_ICTN[0, :, :, :1], rtol=1e-5
    )
    _, whole = shown(scorer, CAPTIONS[:2], replace(BUDGET, adaptive=False))
    np.testing.assert_array_equal(denoised.guess_CS, whole.guess_CS)


def test_places_of_a_caption_that_left_have_no_errors(scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    biased(scorer, monkeypatch, [0.0, 0.0001, 9.0])
    monkeypatch.setattr(adaptive_scoring, "remaining", lambda loss: sorted(np.argsort(loss.mean(axis=(1, 2)))[:2]))
    scores, denoised = shown(scorer, CAPTIONS)
    assert rounds(scores).tolist() == [[8, 8, 1]]
    found = np.isfinite(denoised.error_CTNHW).all(axis=(1, 3, 4))
    assert found.tolist() == [[True] * 8, [True] * 8, [True] + [False] * 7]
    np.testing.assert_allclose(denoised.error_CTNHW.mean(axis=(3, 4)), evidence(scores).loss_ICTN[0], rtol=1e-5)


def test_a_watched_score_is_seen_between_looks_and_ends_the_same(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    biased(scorer, monkeypatch, [1.0, -1.0])
    monkeypatch.setattr("sdsdemo.core.adaptive.BOUNDS", (1e9,) * 5)
    plain = scorer.score([twins.picture()], CAPTIONS[:2], BUDGET)
    scorer.micro_batch = 4
    seen: list[Scores] = []
    scores, _ = shown(scorer, CAPTIONS[:2], watch=seen.append)
    assert [rounds(part).tolist() for part in seen] == [[[n, n]] for n in (1, 2, 4, 6)], "pairs, and not the last"
    assert [evidence(part).evaluations for part in seen] == [2 * BUDGET.timesteps * n for n in (1, 2, 4, 6)]
    assert all(decide(part).needed for part in seen[1:])
    for part in seen:
        assert np.isfinite(evidence(part).loss_ICTN[0]).all(axis=(0, 1)).sum() == rounds(part)[0, 0], "as it was then"
    np.testing.assert_allclose(scores.score_IC, plain.score_IC, rtol=1e-4)


def test_a_case_without_a_difference_spends_it_all(scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    biased(scorer, monkeypatch, [1.0, -1.0])
    monkeypatch.setattr("sdsdemo.core.adaptive.BOUNDS", (1e9,) * 5)
    scores = scorer.score([twins.picture()], CAPTIONS[:2], BUDGET)
    assert rounds(scores).tolist() == [[BUDGET.noises] * 2]
    assert not decide(scores).decided


def test_of_several_captions_those_behind_leave_first() -> None:
    rng = np.random.default_rng(0)
    noise_PTN = np.array([1.0, 1.001, 5.0])[:, None, None] + 0.1 * rng.normal(size=(3, 4, 8))

    def losses_at(place_E: np.ndarray) -> np.ndarray:
        return noise_PTN.reshape(-1)[place_E].astype(np.float32)

    _, rounds_P = adaptive_losses(losses_at, [range(3)], (3, 4, 8))
    assert rounds_P.tolist() == [8, 8, 1]


def test_examples_scored_together_spend_what_they_spend_alone(scorer: DiffusionScorer) -> None:
    pictures = [Picture(name=f"{k}.png", open=lambda k=k: twins.picture(k)) for k in range(4)]
    examples = [
        Example(id=str(k), images=tuple(pictures[2 * k : 2 * k + 2]), captions=tuple(CAPTIONS[:2]), tags={})
        for k in range(2)
    ]
    together = list(scorer.score_examples(examples, BUDGET))
    for example, scores in zip(examples, together, strict=True):
        alone = scorer.score([picture.open() for picture in example.images], example.captions, BUDGET)
        np.testing.assert_array_equal(rounds(scores), rounds(alone))
        np.testing.assert_allclose(scores.score_IC, alone.score_IC, rtol=1e-4)


def test_equal_captions_are_computed_once_and_end_in_a_tie(scorer: DiffusionScorer) -> None:
    scores = scorer.score([twins.picture()], [CAPTIONS[0], CAPTIONS[0]], BUDGET)
    assert rounds(scores).tolist() == [[1, 1]]
    assert decide(scores).tie


def test_nothing_is_asked_for_twice() -> None:
    asked: list[int] = []

    def losses_at(place_E: np.ndarray) -> np.ndarray:
        asked.extend(place_E.tolist())
        return np.random.default_rng(0).normal(size=len(place_E)).astype(np.float32)

    loss_PTN, rounds_P = adaptive_losses(losses_at, [[0, 1], [2, 3, 4]], (5, 3, 8))
    assert len(asked) == len(set(asked)) == int(np.isfinite(loss_PTN).sum()) == int(rounds_P.sum()) * 3


@pytest.mark.slow
def test_a_benchmark_costs_less_and_is_stored_with_its_rounds(tmp_path: Path) -> None:
    spend, models = budget(4, 8, adaptive=True), ["mini-diffusion"]
    result = evaluate("mini", models, workbench=Workbench(), budget=spend, limit=8, out=tmp_path)
    entry = result["models"]["mini-diffusion"]
    assert 4 * 4 <= entry["evaluations_per_example"] < 4 * spend.evaluations
    assert "losses" not in entry
    assert {rounds(scores).shape for scores in read_run(tmp_path).scores.values()} == {(2, 2)}
    again = evaluate("mini", models, workbench=Workbench(), budget=spend, limit=8, out=tmp_path)
    assert again["models"]["mini-diffusion"]["text"] == entry["text"]
    with pytest.raises(UserError, match="different settings"):
        evaluate("mini", models, workbench=Workbench(), budget=budget(4, 8), limit=8, out=tmp_path)
