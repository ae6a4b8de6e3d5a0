"""The study of noise: on made-up differences, on a few real ones, and the figures that ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdsdemo.core.adaptive import BOUNDS, ERROR, LOOKS, statistic
from sdsdemo.mini.experiments import noise_draws
from sdsdemo.mini.experiments.adaptive_findings import _orders, _statistics, calibrated, error_and_cost
from sdsdemo.mini.experiments.noise import NOISE_FILE
from sdsdemo.mini.experiments.noise_draws import TRIED, Draws, collect
from sdsdemo.mini.experiments.noise_findings import findings
from sdsdemo.mini.experiments.shapes import NoiseFindings
from sdsdemo.runtime.shipped import shipped


def made_up(odd: float, mean_E: np.ndarray, seed: int = 0) -> Draws:
    """Differences whose noise has a part that a pair cancels, and a part of unit variance that it does not."""
    rng = np.random.default_rng(seed)
    odd_ETR = odd * rng.normal(size=(len(mean_E), 8, TRIED))
    noise_ETRP = np.stack([odd_ETR, -odd_ETR], axis=3) + rng.normal(size=(len(mean_E), 8, TRIED, 2))
    return Draws(
        tried_ETRP=mean_E[:, None, None, None] + noise_ETRP,
        reference_ET=np.repeat(mean_E[:, None], 8, axis=1),
        reference_stderr_E=np.zeros(len(mean_E)),
    )


def test_pairs_leave_the_share_of_variance_that_they_cannot_cancel() -> None:
    found = findings(made_up(odd=2.0, mean_E=np.full(60, 0.5)))
    assert found["variance"]["low"] < 1 / 5 < found["variance"]["high"]
    for noise in ("plain", "antithetic"):
        assert found[noise]["coverage"]["value"] == pytest.approx(0.95, abs=0.03)
    assert found["antithetic"]["agreement"]["value"] > found["plain"]["agreement"]["value"]


def test_the_statistic_of_all_sequences_is_that_of_one() -> None:
    tried_STRP = np.random.default_rng(0).normal(size=(3, 8, TRIED, 2))
    value_SK, mean_SK = _statistics(tried_STRP)
    for s, tried_TRP in enumerate(tried_STRP):
        for k, look in enumerate(LOOKS):
            seen_TN = tried_TRP.reshape(8, -1)[:, :look]
            assert value_SK[s, k] == pytest.approx(statistic(seen_TN))
            assert mean_SK[s, k] == pytest.approx(seen_TN.mean())


def test_bounds_keep_the_error_and_cost_less_than_a_fixed_budget() -> None:
    mean_E = np.abs(np.random.default_rng(1).normal(scale=2.0, size=200)) + 0.05
    found = error_and_cost(made_up(odd=1.0, mean_E=mean_E))
    assert found["decided_wrongly"] <= ERROR
    assert found["evaluations"] < found["best_fixed"]


def test_of_differences_without_a_mean_hardly_any_is_decided() -> None:
    null = made_up(odd=1.0, mean_E=np.zeros(200), seed=2)
    bounds = np.array(calibrated(null.tried_ETRP, null.reference_ET))
    others_SK, _ = _statistics(_orders(made_up(odd=1.0, mean_E=np.zeros(200), seed=3).tried_ETRP))
    assert (np.abs(others_SK) > bounds).any(axis=1).mean() <= 3 * ERROR


def test_draws_are_collected_once_and_two_parts_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_draws, "PICTURES", 4)
    monkeypatch.setattr(noise_draws, "AT_ONCE", 2)
    monkeypatch.setattr(noise_draws, "TRIED", 2)
    monkeypatch.setattr(noise_draws, "REFERENCE", 2)
    said: list[str] = []
    halves = [collect("mini-diffusion", tmp_path, said.append, (k, 2)) for k in range(2)]
    assert len(said) == 2
    whole = collect("mini-diffusion", tmp_path, said.append)
    assert len(said) == 2
    np.testing.assert_array_equal(whole.tried_ETRP, np.concatenate([half.tried_ETRP for half in halves]))
    assert (whole.reference > 0).all()  # the true caption has the lower loss


def test_the_shipped_bounds_are_those_of_the_study_and_hold() -> None:
    found = shipped(NOISE_FILE, NoiseFindings)
    assert pytest.approx(found["bounds"], abs=0.006) == list(BOUNDS)
    for one in found["adaptive"].values():
        assert one["decided_wrongly"] <= ERROR
        assert one["over_fixed"] <= 0.5
    for one in found["teachers"].values():
        assert one["variance"]["value"] <= 0.55
        assert 0.93 <= one["antithetic"]["coverage"]["value"] <= 0.97
