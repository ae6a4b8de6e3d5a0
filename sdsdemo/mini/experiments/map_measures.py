"""How well a map points at things, and how well it predicts what repainting them does. Pure NumPy; knows no model.

    mass_k        share of a map's total on the cells of thing k                        m(y, x) >= 0
    place         sum of mass_k over the touched things                                 in 0..1
    prediction    Spearman's rank correlation over things of mass_k with |change_k|     in -1..1
    order         whether the touched thing with more mass is the one that changed more

A map that is zero everywhere says nothing, and counts as the uniform map: its place is the area of the touched things.
A map or a change that ranks no thing above another predicts nothing: its correlation is 0.

Shape suffixes: H, W places of the latent, K thing.
"""

from __future__ import annotations

import numpy as np


def mass_on_things(map_HW: np.ndarray, owner_HW: np.ndarray, things: int) -> np.ndarray:
    """mass_K. owner_HW: the thing each cell belongs to, -1 for none. Raises `ValueError` for a negative map."""
    map_HW = np.asarray(map_HW, dtype=np.float64)
    if map_HW.shape != owner_HW.shape or (map_HW < 0).any():
        raise ValueError(f"map_HW must be at least 0 and of shape {owner_HW.shape}; its shape was {map_HW.shape}")
    total = map_HW.sum()
    if total == 0:
        map_HW, total = np.ones_like(map_HW), map_HW.size
    return np.array([map_HW[owner_HW == thing].sum() / total for thing in range(things)])


def place(mass_K: np.ndarray, touched: int) -> float:
    """The mass on the first `touched` things."""
    return float(np.sum(mass_K[:touched]))


def prediction(mass_K: np.ndarray, change_K: np.ndarray) -> float:
    """Spearman's rank correlation, with mean ranks for ties; 0 if either is the same for every thing."""
    rank_K, other_K = _ranks(mass_K), _ranks(change_K)
    rank_K, other_K = rank_K - rank_K.mean(), other_K - other_K.mean()
    length = np.sqrt((rank_K**2).sum() * (other_K**2).sum())
    return float((rank_K * other_K).sum() / length) if length else 0.0


def _ranks(value_K: np.ndarray) -> np.ndarray:
    """From 0, equal values share their mean rank."""
    value_K = np.asarray(value_K, dtype=np.float64)
    below_K = (value_K[None, :] < value_K[:, None]).sum(axis=1)
    equal_K = (value_K[None, :] == value_K[:, None]).sum(axis=1)
    rank_K: np.ndarray = below_K + (equal_K - 1) / 2
    return rank_K


def order_of_two(mass_K: np.ndarray, change_K: np.ndarray) -> float:
    """Of two things, whether the one with more mass changed more: 1 or 0, 1/2 for a tie."""
    return float(np.sign((mass_K[0] - mass_K[1]) * (change_K[0] - change_K[1])) + 1) / 2
