"""When captions are told apart: by hand, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sdsdemo.core.adaptive import (
    BOUNDS,
    ERROR,
    LOOKS,
    adaptive_stderr,
    bound_of,
    by_timestep,
    comparable_losses,
    is_decided,
    looks_within,
    remaining,
    shared_draws,
    statistic,
)
from sdsdemo.core.decision import decide
from sdsdemo.core.intervals import grid_stderr
from sdsdemo.types import Evidence, Scores


def test_the_statistic_is_student_s_t_of_the_pairs():
    difference_TN = np.array([[1.0, 3.0], [4.0, 6.0]])  # pairs: 2 and 5
    assert statistic(difference_TN) == pytest.approx(3.5 / (np.std([2, 5], ddof=1) / math.sqrt(2)))
    assert statistic(difference_TN[:, :1]) == pytest.approx(2.5 / (np.std([1, 4], ddof=1) / math.sqrt(2)))


def test_looks_end_with_the_budget_and_each_has_its_bound():
    assert looks_within(16) == LOOKS
    assert looks_within(6) == (1, 2, 4, 6)
    assert [bound_of(look) for look in LOOKS] == list(BOUNDS)
    assert bound_of(6) == bound_of(4)
    assert [bound_of(look, 64) for look in LOOKS] == list(BOUNDS)
    with pytest.raises(ValueError, match="at least 2"):
        looks_within(1)


@pytest.mark.parametrize("timesteps", [1, 2, 4, 8, 32])
def test_noise_that_favours_nobody_is_rarely_decided(timesteps):
    rng, decided = np.random.default_rng(0), 0
    for _ in range(2_000):
        half_TR = rng.normal(size=(timesteps, LOOKS[-1] // 2))
        noise_TN = np.stack([half_TR, -half_TR], axis=2) + 0.7 * rng.normal(size=(timesteps, LOOKS[-1] // 2, 2))
        difference_TN = noise_TN.reshape(timesteps, -1)
        decided += any(is_decided(difference_TN[:, :look]) for look in LOOKS)
    assert decided / 2_000 <= 2 * ERROR


def test_one_pair_at_one_timestep_decides_nothing():
    loss_CTN = np.array([[[1.0, 1.0]], [[9.0, 9.5]]], dtype=np.float32)
    assert remaining(loss_CTN[..., :1]) == remaining(loss_CTN) == [0, 1]
    rounds_IC = np.array([[2, 2]])
    evidence = Evidence(
        timestep_T=np.arange(1), loss_ICTN=loss_CTN[None], antithetic=True, rounds_IC=rounds_IC, evaluations=4
    )
    found = decide(Scores(kind="denoising", score_IC=-loss_CTN.mean(axis=(1, 2))[None], evidence=evidence))
    assert (found.preferred, found.decided, found.stderr) == (0, False, None)
    assert "more timesteps or noise draws" in found.note


def test_captions_leave_once_they_are_behind_for_good():
    rng = np.random.default_rng(1)
    noise_TN = rng.normal(size=(8, 4))
    level_C = np.array([1.0, 1.0005, 9.0])
    loss_CTN = level_C[:, None, None] + 0.1 * noise_TN + 0.01 * rng.normal(size=(3, 8, 4))
    assert remaining(loss_CTN) == [0, 1]
    assert remaining(loss_CTN[::-1]) == [1, 2]


def test_a_caption_without_a_finite_loss_stays():
    loss_CTN = np.ones((2, 4, 2))
    loss_CTN[0] = np.nan
    assert remaining(loss_CTN) == [0, 1]


def test_a_caption_that_left_keeps_its_place_on_the_scale_of_the_winner():
    loss_CTN = np.full((2, 2, 4), np.nan)
    loss_CTN[0] = [[1, 2, 3, 6], [1, 2, 3, 6]]  # mean 3; of the first two rounds 1.5
    loss_CTN[1, :, :2] = [[2, 4], [2, 4]]  # 3, so 1.5 behind in the same rounds
    np.testing.assert_allclose(comparable_losses(loss_CTN, [4, 2]), [[3, 3], [4.5, 4.5]])
    np.testing.assert_allclose(by_timestep(loss_CTN[None], np.array([[4, 2]])), [[[3, 3], [4.5, 4.5]]])


def test_a_caption_that_left_stays_behind_the_one_that_beat_it():
    loss_CTN = np.full((3, 1, 4), np.nan)
    loss_CTN[0] = [[1.00, 1.00, 1.04, 1.04]]  # leads over two rounds, 1.02 in all
    loss_CTN[1, :, :2] = 1.01  # left after two, behind the first
    loss_CTN[2] = [[1.03, 1.03, 0.87, 0.87]]  # too noisy to leave, and wins: 0.95
    np.testing.assert_allclose(comparable_losses(loss_CTN, [4, 2, 4]), [[1.02], [1.03], [0.95]])


@pytest.mark.parametrize("captions", [2, 3, 8])
def test_no_caption_that_left_is_the_answer(captions):
    rng = np.random.default_rng(0)
    for _ in range(500):
        level_C, share_CK = 0.3 * rng.normal(size=captions), 0.5 * rng.normal(size=(captions, 3))
        shared_CTR = np.einsum("ck,ktr->ctr", share_CK, rng.normal(size=(3, 8, LOOKS[-1] // 2)))
        opposite_CTR = -0.6 * shared_CTR + 0.3 * rng.normal(size=shared_CTR.shape)
        loss_CTN = level_C[:, None, None] + np.stack([shared_CTR, opposite_CTR], axis=3).reshape(captions, 8, -1)
        rounds_C, left = np.zeros(captions, dtype=np.int64), list(range(captions))
        for look in LOOKS:
            rounds_C[left] = look
            left = [left[k] for k in remaining(loss_CTN[left, :, :look])]
            if len(left) == 1:
                break
        seen_CTN = np.where(np.arange(LOOKS[-1]) < rounds_C[:, None, None], loss_CTN, np.nan)
        loss_C = comparable_losses(seen_CTN, rounds_C).mean(axis=1)
        best, second = np.argsort(loss_C)[:2]
        shared = rounds_C[[best, second]].min()
        assert best in left
        gap = seen_CTN[second, :, :shared] - seen_CTN[best, :, :shared]  # whose error a verdict reads
        assert loss_C[second] - loss_C[best] == pytest.approx(gap.mean())


def test_a_verdict_reads_only_the_rounds_that_were_computed():
    loss_CTN = np.full((2, 8, 4), np.nan, dtype=np.float32)
    rng = np.random.default_rng(2)
    loss_CTN[0, :, :2] = 1 + 0.01 * rng.normal(size=(8, 2))
    loss_CTN[1, :, :2] = 2 + 0.01 * rng.normal(size=(8, 2))
    rounds_IC = np.array([[2, 2]])
    evidence = Evidence(
        timestep_T=np.arange(8), loss_ICTN=loss_CTN[None], antithetic=True, rounds_IC=rounds_IC, evaluations=32
    )
    score_IC = -comparable_losses(loss_CTN, [2, 2]).mean(axis=1)[None]
    found = decide(Scores(kind="denoising", score_IC=score_IC, evidence=evidence))
    assert (found.preferred, found.decided) == (0, True)
    loss_CTN[1, 3, 1] = np.nan
    lost = decide(Scores(kind="denoising", score_IC=score_IC, evidence=evidence))
    assert lost.preferred is None
    assert "timestep 3" in lost.note


@pytest.mark.filterwarnings("error")
def test_an_infinite_loss_has_no_error_and_raises_no_warning():
    loss_ICTN = np.ones((1, 1, 2, 4))
    loss_ICTN[0, 0, 1, 2] = np.inf
    assert np.isnan(adaptive_stderr(loss_ICTN, np.array([[4]]))).all()


def test_an_error_and_a_chart_take_the_rounds_that_there_are() -> None:
    rng = np.random.default_rng(4)
    loss_ICTN, rounds_IC = rng.normal(size=(1, 3, 5, 8)), np.array([[8, 4, 1]])
    for c, rounds in enumerate(rounds_IC[0]):
        loss_ICTN[0, c, :, rounds:] = np.nan
    found_C = adaptive_stderr(loss_ICTN, rounds_IC)[0]
    for c, rounds in ((0, 8), (1, 4)):
        pair_TN = loss_ICTN[0, c, :, :rounds].reshape(5, -1, 2).mean(axis=2)
        assert found_C[c] == pytest.approx(grid_stderr(pair_TN))
    assert np.isnan(found_C[2]), "one round is no pair"
    evidence = Evidence(timestep_T=np.arange(5), loss_ICTN=loss_ICTN, antithetic=True, rounds_IC=rounds_IC)
    assert [shared_draws(evidence, asked) for asked in ((0, 1), (0, 2), (0,))] == [(4, True), (1, False), (8, True)]
