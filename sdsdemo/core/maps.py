"""Where in a picture one caption explains it better: the signed paired difference of each place, with its evidence.

    d(y, x) = mean over (t, eps) of ( e_b(y, x) - e_a(y, x) )       positive: caption a explains this place better

The mean of d over places is the difference of the two losses, so a map says where a score comes from. It is not a proof
that the model looked at the right thing: an error map is an edge detector by nature.

Shape suffixes: T timestep, N noise draw, H, W places of the latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdsdemo.core.intervals import independent_draws

LEVEL = 0.05
"""False discovery rate of the places that a map shows."""


@dataclass(frozen=True, kw_only=True)
class SignedMap:
    """The paired difference of each place over all timesteps and draws, and which places pass the test."""

    mean_HW: np.ndarray
    """float64, error given b minus error given a: positive where a explains the picture better."""
    p_HW: np.ndarray
    """Of a t test that the mean is zero; NaN with a single noise draw."""
    found_HW: np.ndarray
    """bool: the places that remain at the false discovery rate `level`; none with a single noise draw."""
    level: float


def signed_map(
    error_a_TNHW: np.ndarray, error_b_TNHW: np.ndarray, level: float = LEVEL, *, antithetic: bool = False
) -> SignedMap:
    """The map of b minus a, both under the same noise.

    Each place is tested as `intervals.paired_difference` tests the whole picture: timesteps are a fixed grid, and only
    draws add error, or antithetic pairs of them. Degrees of freedom are Satterthwaite's, of pairs too: the differences
    of a single place have long tails, for which Welch's are too many. Places are selected at a false discovery rate of
    `level`.

    Raises `ValueError` for arrays that are not of one shape [T, N, H, W].
    Source: Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57(1); neighbours are positively dependent, which it allows
    (Benjamini & Yekutieli 2001, Ann. Stat. 29(4)).
    """
    if error_a_TNHW.shape != error_b_TNHW.shape or error_a_TNHW.ndim != 4 or error_a_TNHW.size == 0:
        raise ValueError(
            "error_a_TNHW and error_b_TNHW must be of one shape (timesteps, noises, height, width); "
            f"they were {error_a_TNHW.shape} and {error_b_TNHW.shape}"
        )
    difference_TNHW = independent_draws(place_differences(error_a_TNHW, error_b_TNHW), antithetic, axis=1)
    mean_HW = difference_TNHW.mean(axis=(0, 1))
    p_HW = _p_values(difference_TNHW, mean_HW)
    return SignedMap(mean_HW=mean_HW, p_HW=p_HW, found_HW=_discoveries(p_HW, level), level=level)


def place_differences(error_a_TNHW: np.ndarray, error_b_TNHW: np.ndarray) -> np.ndarray:
    """b minus a at each place, float64; NaN if both are infinite."""
    with np.errstate(invalid="ignore"):
        difference_TNHW: np.ndarray = error_b_TNHW.astype(np.float64) - error_a_TNHW
    return difference_TNHW


def winning_side(signed: SignedMap) -> np.ndarray:
    """strength_HW: |d| at the found places where the caption of the lower loss explains the picture better, else 0."""
    ahead_HW = signed.mean_HW * np.sign(signed.mean_HW.mean())
    strength_HW: np.ndarray = np.where(signed.found_HW & (ahead_HW > 0), ahead_HW, 0.0)
    return strength_HW


def _p_values(difference_TNHW: np.ndarray, mean_HW: np.ndarray) -> np.ndarray:
    """Two-sided, by Student's t with Satterthwaite's degrees of freedom."""
    from scipy.special import stdtr

    timesteps, noises = difference_TNHW.shape[:2]
    if noises < 2:
        return np.full(mean_HW.shape, np.nan)
    variance_THW = difference_TNHW.var(axis=1, ddof=1) / noises
    total_HW = variance_THW.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        dof_HW = (noises - 1) * total_HW**2 / np.square(variance_THW).sum(axis=0)
        t_HW = np.abs(mean_HW) * timesteps / np.sqrt(total_HW)
        p_HW: np.ndarray = 2 * stdtr(dof_HW, -t_HW)
    return np.where((total_HW == 0) & (mean_HW == 0), 1.0, p_HW)


def _discoveries(p_HW: np.ndarray, level: float) -> np.ndarray:
    from scipy.stats import false_discovery_control

    if not np.isfinite(p_HW).all():
        return np.zeros(p_HW.shape, dtype=bool)
    found_HW: np.ndarray = false_discovery_control(p_HW, axis=None) <= level
    return found_HW.reshape(p_HW.shape)
