"""The grid of timesteps and noise draws that a score averages over, and in which order its places are evaluated.

Shape suffixes: P pair of image and prompt, T timestep, N noise draw, E evaluation, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sdsdemo.types import Budget


def evaluation_order(shape: tuple[int, int, int], *, by_rounds: bool) -> np.ndarray:
    """order_E, int64: the flat places of pairs x timesteps x noises in the order of evaluation.

    by_rounds: every pair and timestep with the first noise draw, then with the second and so on.
    """
    place_PTN = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    order_E: np.ndarray = (place_PTN.transpose(2, 0, 1) if by_rounds else place_PTN).reshape(-1)
    return order_E


def in_place(errors: Sequence[Tensor], order_E: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """loss_PTN of the errors so far, which came in this order; not a number where none has come yet."""
    error_B = torch.cat(list(errors)).cpu().numpy()
    loss_E = np.full(len(order_E), np.nan, dtype=np.float32)
    loss_E[order_E[: len(error_B)]] = error_B
    return loss_E.reshape(shape)


def spread_timesteps(count: int, span: tuple[float, float], steps: int) -> np.ndarray:
    """timestep_T, int64: midpoints of `count` equal parts of the schedule between the two fractions of `span`."""
    low, high = span
    share_T = low + (high - low) * (np.arange(count) + 0.5) / count
    return (share_T * steps).astype(np.int64)


def draw_noise(budget: Budget, latent_shape: tuple[int, ...]) -> Tensor:
    """noise_TN, float32 [T, N, *latent_shape], on the CPU: the same numbers for every device.

    Antithetic: draw 2k + 1 is minus draw 2k. Raises `ValueError` for an odd number of those.
    """
    generator = torch.Generator("cpu").manual_seed(budget.seed)
    drawn = budget.noises // 2 if budget.antithetic else budget.noises
    shape = (budget.timesteps, drawn, *latent_shape)
    noise_TN = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
    if not budget.antithetic:
        return noise_TN
    if budget.noises % 2:
        raise ValueError(f"antithetic draws come in pairs; there were {budget.noises}")
    return torch.stack([noise_TN, -noise_TN], dim=2).flatten(1, 2)
