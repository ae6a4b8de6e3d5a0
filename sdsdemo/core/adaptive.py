"""When enough noise has been drawn to tell two captions apart: looks planned beforehand, each with a bound of its own.

    d(t, n) = loss_b - loss_a             u = d, or its mean over a draw and its opposite where both are there
    decided at look k  if  |mean u| > bound_k sd(u) / sqrt(#u)            sd over all timesteps and pairs together

A look is taken after whole rounds: one round is one draw at every timestep, the next has its opposite noise. The bounds
are calibrated on Mini's differences with their mean set to zero, and on normal noise: of neither are more than 2 ERROR
ever decided, so that a decision goes the wrong way for at most ERROR of them, and for fewer where the mean is not zero.
Where noise is far more skewed, more are: of exponential noise over 4 or 8 timesteps 7 %, simulated. Spread between
timesteps counts as noise here, which makes decisions later, never bolder. The bounds were calibrated at 8 timesteps:
with fewer, u is a smaller sample, and Student's t with its degrees of freedom has the same tail further out.

Source: group-sequential tests, Pocock 1977 (Biometrika 64(2)); `python -m sdsdemo mini noise` calibrates and tests it.

Shape suffixes: C caption, T timestep, N noise draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sdsdemo.core.intervals import grid_stderr, independent_draws, same_tail
from sdsdemo.types import Evidence

ERROR = 0.01
"""At most this share of decisions has another sign than endless noise would give."""
LOOKS = (1, 2, 4, 8, 16)
"""Rounds at which it is decided; the last is the most that is spent."""
BOUNDS = (4.10, 4.01, 3.32, 3.10, 3.05)
"""By look, for `CALIBRATED` timesteps or more."""
CALIBRATED = 8
FEWEST = 4
"""Pairs, or draws of a first round, over all timesteps, below which nothing is decided."""


def looks_within(rounds: int) -> tuple[int, ...]:
    """The looks of a budget of so many rounds, which is the last of them. Raises `ValueError` below two rounds."""
    if rounds < 2:
        raise ValueError(f"rounds must be at least 2; it was {rounds}")
    return (*(look for look in LOOKS if look < rounds), rounds)


def bound_of(rounds: int, timesteps: int = CALIBRATED) -> float:
    """The bound after so many rounds: that of the last look up to there, or further out where u is a smaller sample."""
    if _units_of(rounds, timesteps) < FEWEST:
        return math.inf
    k = max(k for k, look in enumerate(LOOKS) if look <= rounds)
    dof, usual = _units_of(rounds, timesteps) - 1, _units_of(LOOKS[k], CALIBRATED) - 1
    return BOUNDS[k] if dof >= usual else same_tail(BOUNDS[k], usual, dof)


def _units_of(rounds: int, timesteps: int) -> int:
    return timesteps * max(1, rounds // 2)


def statistic(difference_TN: np.ndarray) -> float:
    """mean u / (sd(u) / sqrt(#u)) of the rounds so far; NaN where a difference is not finite, infinite without spread.

    difference_TN: [T, rounds], draws 2k and 2k + 1 opposite. Raises `ValueError` for a single unit.
    """
    unit = units(difference_TN)
    if unit.size < 2:
        raise ValueError("one timestep and one draw or pair give no statistic")
    mean, stderr = float(unit.mean()), float(unit.std(ddof=1)) / math.sqrt(unit.size)
    if stderr == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / stderr


def units(difference_TN: np.ndarray) -> np.ndarray:
    """What counts as independent, in a row: pairs of opposites, or the draws of a first round alone."""
    return independent_draws(difference_TN.astype(np.float64), difference_TN.shape[1] % 2 == 0).reshape(-1)


def is_decided(difference_TN: np.ndarray) -> bool:
    """Whether the sign of the mean is settled after these rounds."""
    timesteps, rounds = difference_TN.shape
    bound = bound_of(rounds, timesteps)
    return math.isfinite(bound) and abs(statistic(difference_TN)) > bound


def remaining(loss_CTN: np.ndarray) -> list[int]:
    """The captions that may still be the best after these rounds: the best so far, and all not yet decided against it.

    A caption whose losses are not finite stays: nothing can be decided about it.
    """
    mean_C = loss_CTN.mean(axis=(1, 2), dtype=np.float64)
    best = int(np.argmin(np.where(np.isfinite(mean_C), mean_C, np.inf)))
    return [c for c in range(len(loss_CTN)) if c == best or not _is_behind(loss_CTN[c], loss_CTN[best])]


def _is_behind(loss_TN: np.ndarray, best_TN: np.ndarray) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(loss_TN).all()) and is_decided(loss_TN - best_TN)


def comparable_losses(loss_CTN: np.ndarray, rounds_C: Sequence[int]) -> np.ndarray:
    """loss_CT on one scale, though captions were given up after different rounds, float64.

        loss_c(t) = loss_l(t) + mean over its r rounds of (loss_c(t, n) - loss_l(t, n))

    l led over the first r rounds and went on, so c was given up against it: c stays behind l, and l behind the one that
    it was given up against. The last one, with the most rounds and the lowest loss, has the mean of its own.
    """
    given_C, loss_CT = np.asarray(rounds_C), np.empty(loss_CTN.shape[:2])
    last = _leader(loss_CTN, np.flatnonzero(given_C == given_C.max()), given_C.max())
    loss_CT[last] = loss_CTN[last, :, : given_C.max()].mean(axis=1, dtype=np.float64)
    for rounds in np.unique(given_C)[::-1]:
        went_on = np.flatnonzero(given_C > rounds) if rounds < given_C.max() else np.array([last])
        leader = _leader(loss_CTN, went_on, rounds)
        level_T = loss_CT[leader].copy()
        with np.errstate(invalid="ignore"):
            for c in np.flatnonzero(given_C == rounds):
                gap_TN = loss_CTN[c, :, :rounds].astype(np.float64) - loss_CTN[leader, :, :rounds]
                loss_CT[c] = level_T + gap_TN.mean(axis=1)
    return loss_CT


def _leader(loss_CTN: np.ndarray, captions: np.ndarray, rounds: int) -> int:
    """Which of these captions has the lowest mean over the first rounds."""
    return int(min(captions, key=lambda c: _key(loss_CTN[c, :, :rounds])))


def by_timestep(loss_ICTN: np.ndarray, rounds_IC: np.ndarray | None) -> np.ndarray:
    """loss_ICT, float64, a mean over draws: of adaptive scoring, on one scale an image."""
    if rounds_IC is None:
        whole_ICT: np.ndarray = loss_ICTN.astype(np.float64).mean(axis=3)
        return whole_ICT
    return np.stack([comparable_losses(*own) for own in zip(loss_ICTN, rounds_IC, strict=True)])


def shared_draws(evidence: Evidence, captions: Sequence[int]) -> tuple[int, bool]:
    """The draws a timestep that all of these captions got with the first image, and if they are pairs of opposites."""
    if evidence.rounds_IC is None:
        return evidence.loss_ICTN.shape[3], evidence.antithetic
    rounds = int(evidence.rounds_IC[0, list(captions)].min())
    return rounds, rounds % 2 == 0


def adaptive_stderr(loss_ICTN: np.ndarray, rounds_IC: np.ndarray) -> np.ndarray:
    """stderr_IC of each loss over the rounds that it got, each with an error of its own; NaN below two pairs."""
    found = [
        grid_stderr(loss_ICTN[i, c, :, :rounds], antithetic=True) if rounds % 2 == 0 else math.nan
        for (i, c), rounds in np.ndenumerate(rounds_IC)
    ]
    return np.array(found, dtype=np.float64).reshape(rounds_IC.shape)


def _key(loss_TN: np.ndarray) -> float:
    mean = float(loss_TN.mean(dtype=np.float64))
    return mean if math.isfinite(mean) else math.inf
