"""Other readings of stored losses, against slow loops and by their properties."""

from __future__ import annotations

import numpy as np
import pytest

from sdsdemo.core import score_variants
from sdsdemo.types import Evidence

STEP_T = np.array([100, 300, 500, 700, 900])
RNG = np.random.default_rng(3)
LOSS_ICTN = RNG.uniform(0.1, 1.0, (2, 2, 5, 3)).astype(np.float32)
EMPTY_ITN = RNG.uniform(0.1, 1.0, (2, 5, 3)).astype(np.float32)
FACTOR_T = np.array([0.01, 0.1, 1.0, 5.0, 40.0])
ALL = Evidence(
    timestep_T=STEP_T, loss_ICTN=LOSS_ICTN, loss_empty_ITN=EMPTY_ITN, steps=1000, clean_factor_T=FACTOR_T
)  # fmt: skip


def test_score_variants_are_the_mean_square_and_its_root() -> None:
    scores = score_variants.normalised(ALL)
    for i in range(2):
        for c in range(2):
            losses = LOSS_ICTN[i, c].ravel().astype(float)
            assert scores[score_variants.SQUARED][i, c] == pytest.approx(-sum(losses) / 15)
            assert scores[score_variants.NORM][i, c] == pytest.approx(-sum(loss**0.5 for loss in losses) / 15)


def test_the_clean_latent_s_error_is_weighted_as_in_the_paper() -> None:
    weight_T = [np.exp(-7 * step / 1000) * factor for step, factor in zip(STEP_T, FACTOR_T, strict=True)]
    by_hand = sum(w * LOSS_ICTN[1, 0, t].mean() for t, w in enumerate(weight_T)) / sum(weight_T)
    assert score_variants.normalised(ALL)[score_variants.CLEAN][1, 0] == pytest.approx(-by_hand)


@pytest.mark.parametrize("rule", [score_variants.SQUARED, score_variants.NORM])
def test_the_empty_prompt_never_changes_caption_differences(rule: str) -> None:
    scores = score_variants.normalised(ALL)
    plain, without = scores[rule], scores[score_variants.WITHOUT_EMPTY.format(rule=rule)]
    np.testing.assert_allclose(without[:, 0] - without[:, 1], plain[:, 0] - plain[:, 1])
    assert not np.allclose(without[0] - without[1], plain[0] - plain[1])


@pytest.mark.parametrize("rule", [score_variants.SQUARED, score_variants.NORM])
def test_without_the_empty_prompt_as_much_may_be_rounding_as_with_it(rule: str) -> None:
    """The losses were rounded before the empty prompt's was subtracted."""
    scores = score_variants.normalised(ALL)
    without = score_variants.WITHOUT_EMPTY.format(rule=rule)
    assert score_variants.resolution_of(scores, without, 1e-3) == pytest.approx(1e-3 * np.abs(scores[rule]).max())
    assert np.abs(scores[without]).max() < 0.5 * np.abs(scores[rule]).max()
    assert score_variants.resolution_of({"x": np.array([[np.nan, -2.0]])}, "x", 1e-3) == pytest.approx(2e-3)


def test_what_was_not_kept_gives_no_reading() -> None:
    bare = Evidence(timestep_T=STEP_T, loss_ICTN=LOSS_ICTN)
    assert set(score_variants.normalised(bare)) == {score_variants.SQUARED, score_variants.NORM}


def test_fewer_timesteps_are_spread_evenly_and_all_of_them_give_the_score() -> None:
    found = score_variants.by_count(ALL)
    assert list(found) == [1, 2, 4, 5]
    np.testing.assert_allclose(found[1], -LOSS_ICTN[:, :, 2].astype(float).mean(axis=2))
    np.testing.assert_allclose(found[5], score_variants.normalised(ALL)[score_variants.SQUARED])


def test_ranges_cover_every_timestep_once() -> None:
    found = score_variants.by_range(ALL)
    assert list(found) == [(100, 300), (500, 500), (700, 700), (900, 900)]
    sizes = np.array([2, 1, 1, 1]) / 5
    mean = sum(size * score for size, score in zip(sizes, found.values(), strict=True))
    np.testing.assert_allclose(mean, score_variants.normalised(ALL)[score_variants.SQUARED])
