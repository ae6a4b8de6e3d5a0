"""Intervals and tests against tabulated values, errors by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sdsdemo.core import intervals
from sdsdemo.core.intervals import (
    grid_stderr,
    independent_draws,
    mcnemar_exact,
    paired_change,
    paired_difference,
    proportion,
    student_t_quantile,
    wilson,
)

# proportions


def test_wilson_s_interval_is_the_tabulated_one():
    assert wilson(15, 50) == pytest.approx((0.1910, 0.4375), abs=5e-5)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_wilson_s_interval_touches_0_and_1_exactly_and_is_symmetric():
    assert wilson(0, 7)[0] == 0.0
    assert wilson(7, 7)[1] == 1.0
    low, high = wilson(3, 10)
    assert wilson(7, 10) == pytest.approx((1 - high, 1 - low))


def test_more_examples_narrow_the_interval_and_a_higher_level_widens_it():
    width = [high - low for low, high in (wilson(30, 100), wilson(300, 1000), wilson(30, 100, level=0.99))]
    assert width[1] < width[0] < width[2]


def test_of_no_examples_a_proportion_is_anything():
    nothing = proportion(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high, nothing.n) == (0.0, 1.0, 0)


def test_impossible_counts_are_refused():
    for successes, n, level in ((3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)):
        with pytest.raises(ValueError, match="must be"):
            wilson(successes, n, level)
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar_exact(-1, 2)


# the paired test


def test_mcnemar_s_p_is_the_binomial_sum():
    assert mcnemar_exact(0, 5) == 2 / 32
    assert mcnemar_exact(1, 9) == 2 * (1 + 10) / 1024
    assert mcnemar_exact(2, 3) == 1.0  # 2 x (1 + 5 + 10) / 32
    assert mcnemar_exact(3, 7) == 2 * (1 + 10 + 45 + 120) / 1024


def test_mcnemar_is_symmetric_and_one_without_differences():
    assert mcnemar_exact(4, 11) == mcnemar_exact(11, 4) < 1
    assert mcnemar_exact(0, 0) == mcnemar_exact(6, 6) == 1.0


def test_mcnemar_stays_exact_at_the_size_of_aro():
    a, b = 4900, 5100
    normal = math.erfc((abs(a - b) - 1) / math.sqrt(a + b) / math.sqrt(2))
    assert mcnemar_exact(a, b) == pytest.approx(normal, rel=1e-3)
    assert 0 < mcnemar_exact(20, 150) < 1e-20


def test_mcnemar_of_more_examples_agrees_with_the_sum(monkeypatch):
    pairs = [(4_000, 4_200), (4_990, 5_000), (300, 4_000), (4_999, 4_999)]
    summed = [mcnemar_exact(*pair) for pair in pairs]
    monkeypatch.setattr(intervals, "SUMMED", 0)
    assert [mcnemar_exact(*pair) for pair in pairs] == pytest.approx(summed, rel=1e-9)


def test_mcnemar_of_the_whole_of_eqben_is_right():
    assert mcnemar_exact(62_000, 63_000) == pytest.approx(0.0047, rel=0.01)


# Student's t


@pytest.mark.parametrize(
    ("p", "dof", "t"),
    [
        (0.975, 1, 12.7062), (0.975, 2, 4.3027), (0.975, 3, 3.1824), (0.975, 7, 2.3646), (0.975, 24, 2.0639),
        (0.975, 120, 1.9799), (0.95, 1, 6.3138), (0.95, 10, 1.8125), (0.995, 2, 9.9248), (0.9995, 1, 636.619),
        (0.9995, 30, 3.6460), (0.6, 5, 0.2672), (0.975, math.inf, 1.95996), (0.975, 1e6, 1.95997),
    ],
)  # fmt: skip
def test_the_quantiles_of_t_are_the_tabulated_ones(p, dof, t):
    assert student_t_quantile(p, dof) == pytest.approx(t, rel=3e-5, abs=6e-5)


@pytest.mark.parametrize("p", [0.0001, 0.3, 0.5, 0.51, 0.8, 0.9999])
def test_for_one_and_two_degrees_of_freedom_t_has_a_closed_form(p):
    assert student_t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-6, abs=1e-12)
    u = 2 * p - 1
    assert student_t_quantile(p, 2) == pytest.approx(u * math.sqrt(2 / (1 - u * u)), rel=1e-6, abs=1e-12)


def test_t_falls_with_fractional_degrees_of_freedom_too():
    quantiles = [student_t_quantile(0.975, dof) for dof in (1, 1.3, 2, 2.5, 9.9, 10, 1e4, 1e7, 1e8)]
    assert quantiles == sorted(quantiles, reverse=True)


@pytest.mark.parametrize("dof", [1.3, 2.5, 17.6, 400.5])
def test_the_density_of_t_up_to_a_quantile_adds_up_to_its_probability(dof):
    t = np.linspace(0, student_t_quantile(0.975, dof), 100_001)
    density = (1 + t**2 / dof) ** (-(dof + 1) / 2) / math.sqrt(dof * math.pi)
    density *= math.exp(math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2))
    trapezia = (density[1:] + density[:-1]) / 2 * np.diff(t)
    assert trapezia.sum() == pytest.approx(0.475, abs=1e-7)


def test_t_is_refused_where_it_is_not_good():
    for p, dof in ((0.0, 3), (1.0, 3), (0.99999, 3), (0.9, 0.5), (0.9, math.nan), (math.nan, 3)):
        with pytest.raises(ValueError, match="must be"):
            student_t_quantile(p, dof)


# the paired difference


def test_the_paired_difference_by_hand():
    loss_a_TN = np.array([[1.0, 2.0], [5.0, 5.0]])
    loss_b_TN = np.array([[2.0, 5.0], [5.0, 7.0]])  # b - a: 1 3 / 0 2
    got = paired_difference(loss_a_TN, loss_b_TN)
    assert got.mean_T.tolist() == [2.0, 1.0]
    assert got.mean == 1.5
    assert got.stderr_T == pytest.approx([1.0, 1.0])
    assert got.stderr == pytest.approx(math.sqrt(2) / 2)
    assert got.dof == pytest.approx(2.0)
    assert got.low_T == pytest.approx([2 - 12.7062, 1 - 12.7062], rel=1e-5)
    assert got.high_T == pytest.approx([2 + 12.7062, 1 + 12.7062], rel=1e-5)


def test_satterthwaite_s_degrees_of_freedom_are_bounded():
    noise_TN = np.random.default_rng(0).normal(size=(6, 5))
    noise_TN = (noise_TN - noise_TN.mean(axis=1, keepdims=True)) / noise_TN.std(axis=1, keepdims=True)
    zero_TN = np.zeros((6, 5))
    assert paired_difference(zero_TN, noise_TN).dof == pytest.approx(6 * 4)
    one_only_T = np.array([1, 1e-6, 1e-6, 1e-6, 1e-6, 1e-6])
    assert paired_difference(zero_TN, one_only_T[:, None] * noise_TN).dof == pytest.approx(4)
    spread_T = np.array([1, 2, 3, 4, 5, 6.0])
    want = 4 * (spread_T**2).sum() ** 2 / (spread_T**4).sum()
    assert paired_difference(zero_TN, 1e-90 * spread_T[:, None] * noise_TN).dof == pytest.approx(want)


def test_the_spread_across_timesteps_is_no_error():
    rng = np.random.default_rng(0)
    loss_a_TN, loss_b_TN = rng.normal(size=(2, 8, 4))
    level_T = np.linspace(-100, 100, 8)[:, None]
    flat, steep = paired_difference(loss_a_TN, loss_b_TN), paired_difference(loss_a_TN, loss_b_TN + level_T)
    assert steep.stderr == pytest.approx(flat.stderr)


def test_noise_that_both_share_cancels():
    rng = np.random.default_rng(0)
    own_TN, shared_TN = rng.normal(size=(8, 4)), 1000 * rng.normal(size=(8, 4))
    assert paired_difference(shared_TN, shared_TN + own_TN).stderr == pytest.approx(
        paired_difference(np.zeros((8, 4)), own_TN).stderr
    )


def test_exchanging_a_and_b_turns_the_sign_and_keeps_the_error():
    loss_a_TN, loss_b_TN = np.random.default_rng(0).normal(size=(2, 8, 4))
    one, other = paired_difference(loss_a_TN, loss_b_TN), paired_difference(loss_b_TN, loss_a_TN)
    assert other.mean == -one.mean
    assert (other.stderr, other.dof) == (one.stderr, one.dof)
    np.testing.assert_array_equal(other.low_T, -one.high_T)


@pytest.mark.parametrize(("timesteps", "noises"), [(1, 4), (4, 2), (8, 4)])
def test_the_interval_covers_the_truth_19_times_in_20(timesteps, noises):
    """Uneven noise over the timesteps. With two draws Satterthwaite errs, towards caution."""
    rng = np.random.default_rng(0)
    truth_T, spread_T = np.linspace(-3, 5, timesteps), np.linspace(0.5, 2, timesteps)
    covered = 0
    for _ in range(800):
        loss_TN = truth_T[:, None] + spread_T[:, None] * rng.normal(size=(timesteps, noises))
        got = paired_difference(np.zeros_like(loss_TN), loss_TN)
        assert got.stderr is not None
        assert got.dof is not None
        covered += abs(got.mean - truth_T.mean()) <= student_t_quantile(0.975, got.dof) * got.stderr
    assert 0.93 < covered / 800 < 0.985


def test_one_noise_draw_has_no_error_and_no_band():
    got = paired_difference(np.zeros((3, 1)), np.ones((3, 1)))
    assert got.mean == 1.0
    assert got.stderr is None
    assert got.dof is None
    assert np.isnan([got.stderr_T, got.low_T, got.high_T]).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_nan_spares_the_other_timesteps(bad):
    loss_a_TN, loss_b_TN = np.random.default_rng(0).normal(size=(2, 3, 4))
    loss_b_TN[1, 2] = bad
    got = paired_difference(loss_a_TN, loss_b_TN)
    assert not math.isfinite(got.mean)
    assert got.stderr is None
    assert np.isfinite(got.low_T).tolist() == [True, False, True]


def test_equal_losses_differ_by_nothing_with_no_error():
    got = paired_difference(np.ones((3, 4)), np.ones((3, 4)))
    assert (got.mean, got.stderr, got.dof) == (0.0, 0.0, 9.0)


def test_losses_that_do_not_pair_up_are_refused():
    for shapes in (((3, 4), (3, 5)), ((3,), (3,)), ((0, 4), (0, 4))):
        with pytest.raises(ValueError, match="of one shape"):
            paired_difference(*map(np.zeros, shapes))


def test_the_error_of_one_score_is_that_of_its_difference_from_nothing():
    loss_ICTN = np.random.default_rng(0).normal(size=(2, 3, 8, 4)).astype(np.float32)
    stderr_IC = grid_stderr(loss_ICTN)
    assert stderr_IC.shape == (2, 3)
    assert stderr_IC[1, 2] == pytest.approx(paired_difference(np.zeros((8, 4)), loss_ICTN[1, 2]).stderr)
    assert np.isnan(grid_stderr(loss_ICTN[..., :1])).all()


def test_a_paired_change_is_bonett_and_price_s_by_hand() -> None:
    before_E = np.array([True] * 4 + [False] * 6)
    after_E = np.array([True] * 3 + [False] + [True] * 3 + [False] * 3)
    found = paired_change(before_E, after_E)
    assert (found.gained, found.lost, found.n) == (3, 1, 10)
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((-0.2221, 0.5555), abs=1e-4)
    assert found.p == mcnemar_exact(1, 3)


def test_a_paired_change_of_nothing_is_none_with_doubt() -> None:
    same_E = np.arange(400) % 3 == 0
    found = paired_change(same_E, same_E)
    assert (found.value, found.p) == (0.0, 1.0)
    assert -0.02 < found.low < 0 < found.high < 0.02


@pytest.mark.parametrize(("before", "after"), [([], []), ([True], [True, False])])
def test_a_paired_change_needs_the_same_examples(before: list[bool], after: list[bool]) -> None:
    with pytest.raises(ValueError, match="equally long"):
        paired_change(np.array(before, dtype=bool), np.array(after, dtype=bool))


# antithetic pairs


def test_an_antithetic_pair_counts_once():
    rng = np.random.default_rng(0)
    a_TN, b_TN = rng.normal(size=(2, 3, 8))
    means_a, means_b = (loss.reshape(3, 4, 2).mean(axis=2) for loss in (a_TN, b_TN))
    found, expected = paired_difference(a_TN, b_TN, antithetic=True), paired_difference(means_a, means_b)
    assert (found.mean, found.stderr) == pytest.approx((expected.mean, expected.stderr))
    np.testing.assert_allclose(grid_stderr(a_TN, antithetic=True), grid_stderr(means_a))


def test_the_error_of_antithetic_draws_is_that_of_many_repeats():
    rng = np.random.default_rng(1)
    half_RTN = rng.normal(size=(4_000, 2, 3))
    eps_RTNP = np.stack([half_RTN, -half_RTN], axis=-1)
    loss_RTN = (eps_RTNP + 0.5 * eps_RTNP**2).reshape(4_000, 2, 6)
    claimed = np.sqrt(np.square(grid_stderr(loss_RTN, antithetic=True)).mean())
    assert claimed == pytest.approx(loss_RTN.mean(axis=(1, 2)).std(), rel=0.05)
    blind = np.sqrt(np.square(grid_stderr(loss_RTN)).mean())
    assert blind > 1.2 * claimed


def test_one_antithetic_pair_gives_no_error_and_half_a_pair_is_refused():
    assert paired_difference(np.ones((2, 2)), np.zeros((2, 2)), antithetic=True).stderr is None
    with pytest.raises(ValueError, match="come in pairs"):
        independent_draws(np.zeros((2, 3)), True)


@pytest.mark.parametrize("pairs", [2, 3, 8])
def test_the_degrees_of_freedom_of_pairs_are_right_on_average(pairs: int):
    rng = np.random.default_rng(3)
    found = [
        paired_difference(np.zeros((8, 2 * pairs)), rng.normal(size=(8, 2 * pairs)), antithetic=True).dof
        for _ in range(1_000)
    ]
    assert np.median(found) == pytest.approx(8 * (pairs - 1), rel=0.12)


@pytest.mark.parametrize(
    ("spread_T", "low", "high"),
    [
        ([1] * 8, 0.035, 0.065),
        ([1] * 4, 0.035, 0.065),
        ([0.5**k for k in range(8)], 0.06, 0.11),
        ([1] + [0.1] * 7, 0.1, 0.18),
    ],
    ids=["alike at 8", "alike at 4", "halving", "all in one"],
)
def test_the_interval_of_two_pairs_misses_as_often_as_documented(spread_T: list[float], low: float, high: float):
    rng, misses = np.random.default_rng(8), 0
    for noise_TN in np.repeat(rng.normal(size=(1_000, len(spread_T), 2)), 2, axis=2) * np.reshape(spread_T, (-1, 1)):
        found = paired_difference(np.zeros_like(noise_TN), noise_TN, antithetic=True)
        misses += abs(found.mean) > student_t_quantile(0.975, found.dof or 1) * (found.stderr or 0)
    assert low < misses / 1_000 < high


def test_the_band_of_pairs_pools_the_timesteps_beside_it():
    """Two pairs a timestep, whose means differ by 2: one degree of freedom each, and an error of 1."""
    pair_TN = np.array([[-1.0, 1.0], [-3.0, 3.0], [-1.0, 1.0], [-1.0, 1.0]])
    got = paired_difference(np.zeros((4, 4)), np.repeat(pair_TN, 2, axis=1), antithetic=True)
    assert got.stderr_T == pytest.approx([1, 3, 1, 1])
    two, three = 4.30265, 3.18245  # t at .975 for two and three degrees of freedom
    variance_T = [(1 + 9) / 2, (1 + 9 + 1) / 3, (9 + 1 + 1) / 3, (1 + 1) / 2]
    reach_T = np.array([two, three, three, two]) * np.sqrt(variance_T)
    assert got.high_T == pytest.approx(reach_T, rel=1e-5)
    assert got.low_T == pytest.approx(-reach_T, rel=1e-5)


def test_the_band_of_two_pairs_keeps_its_promise_and_is_no_wall():
    rng = np.random.default_rng(2)
    scale_T = np.exp(-0.3 * np.arange(8.0))[:, None]
    covered, width = [], []
    for _ in range(600):
        pair_TN = scale_T * rng.normal(size=(8, 2))
        got = paired_difference(np.zeros((8, 4)), np.repeat(pair_TN, 2, axis=1), antithetic=True)
        covered.append((got.low_T <= 0) & (got.high_T >= 0))
        width.append(got.high_T / scale_T[:, 0] / math.sqrt(0.5))
    assert 0.93 < np.mean(covered) < 0.97
    assert np.median(width) < 5
