"""When is a preference decided, and in which words."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sdsdemo.core.decision import decide, verdict_words
from sdsdemo.core.intervals import paired_difference, student_t_quantile
from sdsdemo.types import Evidence, Preference, Scores

LABELS = ("A", "B", "C")


def similarity(*score_C: float) -> Scores:
    return Scores(kind="similarity", score_IC=np.array([score_C]))


def denoising(loss_CTN: np.ndarray) -> Scores:
    """The scores of one image whose losses are given."""
    loss_ICTN = np.asarray(loss_CTN, dtype=np.float32)[None]
    evidence = Evidence(timestep_T=np.arange(loss_ICTN.shape[2]), loss_ICTN=loss_ICTN)
    return Scores(kind="denoising", score_IC=-loss_ICTN.astype(np.float64).mean(axis=(2, 3)), evidence=evidence)


def losses(*gaps: float, timesteps: int = 8, noises: int = 4, seed: int = 0) -> np.ndarray:
    """Losses of as many captions, `gap` above a level they share, with large shared and small own noise."""
    rng = np.random.default_rng(seed)
    shared_TN = rng.normal(0.2, 0.05, (timesteps, noises))
    return np.stack([shared_TN + gap + rng.normal(0, 0.002, (timesteps, noises)) for gap in gaps])


def test_a_similarity_is_decided_by_any_difference_beyond_rounding():
    got = decide(similarity(20.9, 21.3))
    assert got == Preference(preferred=1, difference=21.3 - 20.9, stderr=None, decided=True)


@pytest.mark.parametrize("gap", [0.02, -0.02])
def test_a_denoising_model_prefers_the_caption_with_the_lower_loss(gap):
    got = decide(denoising(losses(0.0, gap)))
    assert got.preferred == (0 if gap > 0 else 1)
    assert got.decided
    assert got.note == ""


def test_the_error_is_that_of_the_paired_difference():
    loss_CTN = losses(0.0, 0.02).astype(np.float32)
    got, paired = decide(denoising(loss_CTN)), paired_difference(*loss_CTN)
    assert got.stderr == paired.stderr
    assert got.difference == pytest.approx(abs(paired.mean), rel=1e-9)


@pytest.mark.parametrize("share", [0.99, 1.01])
def test_the_difference_is_decided_just_beyond_t_times_its_error(share):
    noise_TN = losses(0.0)[0]
    noise_TN -= noise_TN.mean()
    paired = paired_difference(np.zeros_like(noise_TN), noise_TN)
    assert paired.stderr is not None
    assert paired.dof is not None
    gap = share * student_t_quantile(0.975, paired.dof) * paired.stderr
    got = decide(denoising(np.stack([np.zeros_like(noise_TN), noise_TN + gap])))
    assert got.decided == (share > 1)
    assert got.preferred == 0


def test_equal_captions_are_decided_about_one_time_in_twenty():
    decided = sum(decide(denoising(losses(0.0, 0.0, seed=seed))).decided for seed in range(400))
    assert 0.02 < decided / 400 < 0.08


def test_one_noise_draw_decides_nothing_however_large_the_difference():
    got = decide(denoising(losses(0.0, 5.0, noises=1)))
    assert (got.preferred, got.decided, got.stderr) == (0, False, None)
    assert "two or more noise draws" in got.note


def test_losses_that_were_not_kept_decide_nothing():
    got = decide(replace(denoising(losses(0.0, 5.0)), evidence=None))
    assert (got.preferred, got.decided, got.stderr) == (0, False, None)
    assert "not kept" in got.note


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_or_a_score_that_is_no_number_leaves_no_preference(bad):
    loss_CTN = losses(0.0, 0.02)
    loss_CTN[1, 3, 2] = bad
    only_in_losses = replace(denoising(loss_CTN), score_IC=np.array([[-0.1, -0.2]]))
    for scores in (denoising(loss_CTN), only_in_losses, similarity(20.0, bad), similarity(bad, 20.0)):
        got = decide(scores)
        assert (got.preferred, got.difference, got.stderr, got.decided, got.tie) == (None, None, None, False, False)
        assert "not a finite number" in got.note


@pytest.mark.parametrize("noises", [1, 4])
def test_an_exact_tie_is_a_tie_and_is_not_decided(noises):
    same_TN = losses(0.0, noises=noises)[0]
    for scores in (denoising(np.stack([same_TN, same_TN])), similarity(21.0, 21.0)):
        got = decide(scores)
        assert (got.tie, got.decided, got.difference) == (True, False, 0.0)
        assert "exactly the same score" in got.note


def test_swapping_the_captions_swaps_the_preference_and_nothing_else():
    for gap in (0.02, 0.0001):
        loss_CTN = losses(0.0, gap)
        straight, swapped = decide(denoising(loss_CTN)), decide(denoising(loss_CTN[::-1]))
        assert straight.preferred is not None
        assert swapped == replace(straight, preferred=1 - straight.preferred)


def test_of_many_captions_the_best_meets_the_second_best():
    loss_CTN = losses(0.5, 0.02, 0.0).astype(np.float32)
    got = decide(denoising(loss_CTN))
    assert got.preferred == 2
    assert got.stderr == paired_difference(loss_CTN[2], loss_CTN[1]).stderr
    assert got.difference == pytest.approx(0.02, abs=0.002)
    assert decide(similarity(3.0, 9.0, 7.5)).difference == 1.5


def test_each_image_is_decided_by_its_own_losses():
    two = np.stack([losses(0.0, 0.02), losses(0.02, 0.0, seed=1)]).astype(np.float32)
    scores = Scores(
        kind="denoising",
        score_IC=-two.astype(np.float64).mean(axis=(2, 3)),
        evidence=Evidence(timestep_T=np.arange(8), loss_ICTN=two),
    )
    for image in (0, 1):
        assert decide(scores, image) == decide(denoising(two[image]))
    scores.score_IC[0, 0] = math.nan
    assert decide(scores, 0).preferred is None
    assert decide(scores, 1).preferred == 1


def test_one_caption_or_no_such_image_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="at least two captions"):
        decide(similarity(1.0))
    for image in (1, -1):
        with pytest.raises(ValueError, match=f"it was {image}"):
            decide(similarity(1.0, 2.0), image)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (similarity(2.0, 1.0), "prefers A"),
        (similarity(1.0, 2.0, 3.0), "prefers C"),
        (similarity(1.0, 1.0), "a tie"),
        (similarity(math.nan, 1.0), "no verdict: a score is not a finite number"),
        (denoising(losses(0.02, 0.0)), "prefers B"),
        (denoising(losses(0.0, 0.0)), "undecided: the difference is within its error"),
        (denoising(losses(0.0, 5.0, noises=1)), "undecided: the error of the difference is not known"),
    ],
)
def test_the_verdict_in_words(scores, words):
    assert verdict_words(decide(scores), LABELS) == words
