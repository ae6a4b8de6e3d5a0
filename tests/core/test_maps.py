"""Maps of where a caption explains a picture better, against a plain loop and on noise whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from sdsdemo.core.intervals import paired_difference
from sdsdemo.core.maps import signed_map, winning_side

SHAPE = (5, 4, 6, 6)


def errors(seed: int, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Errors under a and b that share most of their noise; under b they are larger by `gain` in the left third."""
    rng = np.random.default_rng(seed)
    shared = rng.gamma(2.0, size=SHAPE)
    a, b = (shared + 0.1 * rng.standard_normal(SHAPE) for _ in range(2))
    b[..., :2] += gain
    return a.astype(np.float32), b.astype(np.float32)


def test_the_mean_over_places_is_the_difference_of_the_losses() -> None:
    a, b = errors(0, gain=0.3)
    loss_a_TN, loss_b_TN = a.mean(axis=(2, 3)), b.mean(axis=(2, 3))
    assert signed_map(a, b).mean_HW.mean() == pytest.approx(paired_difference(loss_a_TN, loss_b_TN).mean, abs=1e-6)


def test_each_place_is_tested_like_a_whole_picture() -> None:
    from scipy import stats

    a, b = errors(1, gain=0.05)
    found = signed_map(a, b)
    for y, x in [(0, 0), (2, 1), (5, 5)]:
        paired = paired_difference(a[..., y, x], b[..., y, x])
        assert paired.stderr is not None
        assert paired.dof is not None
        assert found.mean_HW[y, x] == pytest.approx(paired.mean)
        assert found.p_HW[y, x] == pytest.approx(2 * stats.t.sf(abs(paired.mean) / paired.stderr, paired.dof))


def test_places_that_a_caption_explains_better_are_found_with_their_sign() -> None:
    a, b = errors(2, gain=0.5)
    forth, back = signed_map(a, b), signed_map(b, a)
    assert forth.found_HW[:, :2].all()
    assert (forth.mean_HW[:, :2] > 0).all()
    assert forth.found_HW[:, 2:].mean() < 0.1
    np.testing.assert_allclose(back.mean_HW, -forth.mean_HW)
    np.testing.assert_array_equal(back.found_HW, forth.found_HW)


def test_without_a_difference_few_maps_show_any_place() -> None:
    shows = [signed_map(*errors(seed)).found_HW.any() for seed in range(300)]
    assert np.mean(shows) < 0.09  # 5 % promised; two standard errors of 300 runs are 2.5 %, the t test's own error 1


def test_a_stricter_rate_shows_fewer_places() -> None:
    a, b = errors(4, gain=0.06)
    strict, loose = (signed_map(a, b, level).found_HW for level in (0.01, 0.2))
    assert strict.sum() < loose.sum()
    assert loose[strict].all()


def test_a_single_noise_draw_shows_no_place() -> None:
    a, b = (error[:, :1] for error in errors(5, gain=1.0))
    found = signed_map(a, b)
    assert not found.found_HW.any()
    assert np.isnan(found.p_HW).all()
    assert np.isfinite(found.mean_HW).all()


def test_equal_errors_show_no_place() -> None:
    a, _ = errors(6)
    found = signed_map(a, a)
    assert not found.found_HW.any()
    assert (found.p_HW == 1).all()


def test_a_loss_that_is_no_number_shows_no_place() -> None:
    a, b = errors(7, gain=0.5)
    a[0, 0, 0, 0] = np.nan
    assert not signed_map(a, b).found_HW.any()


@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 4, 6, 7), (0, 4, 6, 6)])
def test_errors_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one shape"):
        signed_map(np.zeros(SHAPE), np.zeros(shape))


def test_the_winning_side_is_the_same_whichever_caption_comes_first() -> None:
    a, b = errors(8, gain=0.5)
    b[..., -1] -= 0.4  # here the losing caption is better
    found = signed_map(a, b)
    strength_HW = winning_side(found)
    np.testing.assert_array_equal(strength_HW[:, :2], found.mean_HW[:, :2])
    assert found.found_HW[:, -1].all()
    assert not strength_HW[:, -1].any()
    np.testing.assert_array_equal(winning_side(signed_map(b, a)), strength_HW)
    np.testing.assert_array_equal(strength_HW > 0, found.found_HW & (found.mean_HW > 0))
