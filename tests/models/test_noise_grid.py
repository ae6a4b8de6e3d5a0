"""Timesteps and noise draws: spread over the schedule, and in pairs of opposites."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sdsdemo.models.noise_grid import draw_noise, spread_timesteps
from sdsdemo.types import Budget


def test_timesteps_are_the_midpoints_of_equal_parts_of_the_range() -> None:
    assert spread_timesteps(4, (0.0, 1.0), 1000).tolist() == [125, 375, 625, 875]
    assert spread_timesteps(3, (0.2, 0.8), 1000).tolist() == [300, 500, 700]
    assert spread_timesteps(64, (0.0, 1.0), 1000)[-1] < 1000


def test_antithetic_noise_is_a_draw_and_its_opposite() -> None:
    budget = Budget(timesteps=2, noises=4, seed=3, antithetic=True)
    noise_TN = draw_noise(budget, (4, 2, 2))
    assert noise_TN.shape == (2, 4, 4, 2, 2)
    assert torch.equal(noise_TN[:, ::2], -noise_TN[:, 1::2])
    assert torch.equal(noise_TN[:, ::2], draw_noise(replace(budget, noises=2, antithetic=False), (4, 2, 2)))
    with pytest.raises(ValueError, match="pairs"):
        draw_noise(replace(budget, noises=3), (4, 2, 2))
