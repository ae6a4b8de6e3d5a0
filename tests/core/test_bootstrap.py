"""Effects over bases, seeds and examples: intervals that cover and grow with each source of doubt; Holm by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sdsdemo.core import bootstrap
from sdsdemo.core.bootstrap import holm, nested_effect


def drawn(rng: np.random.Generator, shape: tuple[int, int, int], effect: float, base: float, seed: float) -> np.ndarray:
    """Differences whose mean is `effect`, with spreads between bases and between seeds."""
    share_BS1 = effect + base * rng.standard_normal((shape[0], 1, 1)) + seed * rng.standard_normal((*shape[:2], 1))
    draw_BSE = rng.random(shape)
    return np.where(draw_BSE < 0.2, -1.0, np.where(draw_BSE < 0.4 + share_BS1, 1.0, 0.0))


def test_the_value_is_the_mean_and_each_base_has_its_own() -> None:
    difference = np.zeros((2, 3, 4))
    difference[0, :, :2] = 1.0
    found = nested_effect(difference, draws=200)
    assert found.value == pytest.approx(0.25)
    assert found.by_base == pytest.approx((0.5, 0.0))
    assert found.shape == (2, 3, 4)


def test_the_interval_has_nominal_coverage_with_many_bases() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(60):
        found = nested_effect(drawn(rng, (8, 4, 60), effect=0.1, base=0.05, seed=0.05), draws=300)
        covered.append(found.low <= 0.1 <= found.high)
    assert np.mean(covered) > 0.85


@pytest.mark.parametrize("shape", [(1, 1, 7), (3, 2, 40), (2, 5, 300)])
def test_the_interval_is_to_the_bit_that_of_a_loop_over_draws(shape: tuple[int, int, int]) -> None:
    difference_BSE = drawn(np.random.default_rng(2), shape, 0.05, 0.1, 0.1)
    bases, seeds, examples = shape
    rng = np.random.default_rng(bootstrap.SEED)
    means = []
    for _ in range(500):
        base_B = rng.integers(bases, size=(bases, 1))[:, 0]
        seed_BS = rng.integers(seeds, size=(bases, seeds))
        example_E = rng.integers(examples, size=examples)
        cells = [(base, seed) for base, row in zip(base_B, seed_BS, strict=True) for seed in row]
        means.append(np.mean([difference_BSE[cell][example_E].sum() for cell in cells]) / examples)
    found = nested_effect(difference_BSE, draws=500)
    assert (found.low, found.high) == tuple(np.quantile(means, [0.025, 0.975]))
    tail = min(np.sum(np.array(means) <= 0), np.sum(np.array(means) >= 0))
    assert found.p == min(1.0, 2 * (tail + 1) / 501)


@pytest.mark.parametrize("doubt", ["base", "seed"])
def test_bases_and_seeds_that_disagree_make_the_interval_wider(doubt: str) -> None:
    spread = {"base": 0.0, "seed": 0.0}
    calm, wild = (
        nested_effect(drawn(np.random.default_rng(1), (4, 4, 400), 0.1, **{**spread, doubt: size}), draws=400)
        for size in (0.0, 0.2)
    )
    assert wild.high - wild.low > 1.5 * (calm.high - calm.low)


def test_one_example_that_decides_everything_is_seen_in_the_interval() -> None:
    """Examples are drawn for all bases and seeds at once: repeating a run does not make examples more."""
    difference = np.zeros((3, 5, 10))
    difference[:, :, 0] = 1.0
    found = nested_effect(difference, draws=500)
    assert found.low == 0.0
    assert found.p > 0.3


def test_no_difference_at_all_is_no_evidence() -> None:
    found = nested_effect(np.zeros((2, 2, 5)), draws=100)
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("shape", [(3, 4), (0, 2, 3), (2, 2, 0)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="bases, seeds and examples"):
        nested_effect(np.zeros(shape))


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.5, "b": 0.9}) == pytest.approx({"a": 1.0, "b": 1.0})
    assert holm({}) == {}
