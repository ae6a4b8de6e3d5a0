"""Effects of repeated experiments: treatment against control, over bases, seeds and examples.

    effect      mean over b, s, e of  d[b, s, e]  =  right(treated)  -  right(control)      at the same base and seed
    interval    2.5 and 97.5 % quantiles of the mean over resamples of bases, of seeds within a base, and of examples;
                within these bases: over resamples of seeds and of examples alone
    p           2 min( P(mean <= 0), P(mean >= 0) ) over those resamples, as (k + 1) / (draws + 1)

All bases and seeds share the examples, so they share each resample of examples. Resampling three bases is coarse: if
all three lean one way, the interval can be too narrow, so the effect by base is reported too. The interval concerns
the bases that were trained; for bases in general see `core/bases.py`.
Davison & Hinkley 1997, section 3.8, for the nested bootstrap; Holm 1979 for multiple contrasts.

Shape suffixes: B base, S seed, C base and seed, E example, D draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

DRAWS, SEED = 4_000, 20_005
"""Resamples and seed of the bootstrap."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A mean difference with its 95 % interval; shares, so 0.1 is ten points."""

    value: float
    low: float
    high: float
    p: float
    by_base: tuple[float, ...]
    """The mean of each base."""
    shape: tuple[int, int, int]
    """Bases, seeds and examples."""


def checked(difference_BSE: np.ndarray) -> np.ndarray:
    """The differences as floats. Raises `ValueError` for an array that is empty or has other axes."""
    difference_BSE = np.asarray(difference_BSE, dtype=float)
    if difference_BSE.ndim != 3 or not difference_BSE.size:
        raise ValueError(f"difference_BSE must have bases, seeds and examples; its shape was {difference_BSE.shape}")
    return difference_BSE


def nested_effect(difference_BSE: np.ndarray, draws: int = DRAWS, *, within: bool = False) -> Effect:
    """The effect from any finite differences: -1, 0, 1 of right and wrong, or of shares and correlations.

    within: keep the bases as they are in every resample.
    Raises `ValueError` for an array that is empty or has other axes.
    """
    difference_BSE = checked(difference_BSE)
    bases, seeds, examples = difference_BSE.shape
    cell_DC, count_DE = _draws(difference_BSE.shape, draws, within)
    sum_CD = difference_BSE.reshape(bases * seeds, examples) @ count_DE.T.astype(float)
    means = np.take_along_axis(sum_CD.T, cell_DC, axis=1).mean(1) / examples
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    return Effect(
        value=float(difference_BSE.mean()),
        low=float(low),
        high=float(high),
        p=float(min(1.0, 2 * (tail + 1) / (draws + 1))),
        by_base=tuple(float(value) for value in difference_BSE.mean((1, 2))),
        shape=(bases, seeds, examples),
    )


@lru_cache(maxsize=16)
def _draws(shape: tuple[int, int, int], draws: int, within: bool) -> tuple[np.ndarray, np.ndarray]:
    """What is drawn again: base and seed as one index, (draws, bases * seeds), and how often each example comes up."""
    bases, seeds, examples = shape
    rng = np.random.default_rng(SEED)
    cell_DC = np.empty((draws, bases * seeds), np.int64)
    count_DE = np.empty((draws, examples), np.uint8)  # none comes up 256 times
    for k in range(draws):
        base_B1 = np.arange(bases)[:, None] if within else rng.integers(bases, size=(bases, 1))
        cell_DC[k] = (base_B1 * seeds + rng.integers(seeds, size=(bases, seeds))).ravel()
        count_DE[k] = np.bincount(rng.integers(examples, size=examples), minlength=examples)
    return cell_DC, count_DE


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm-adjusted p (Holm 1979): the k-th smallest of m, times m - k + 1, made monotonic."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p, key=lambda key: p[key])):
        highest = max(highest, min(1.0, p[name] * (len(p) - rank)))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p}
