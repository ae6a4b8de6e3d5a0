"""Other scores from the stored losses of a denoising model, without new denoiser calls. Knows no file and no model.

    squared error             -mean l                      Li et al. 2023 (2303.16203); the score used everywhere else
    L2 norm                   -mean sqrt(l)                Krojer et al. 2023 (2305.16397)
    ... minus the empty       -mean (l - l_empty)          Krojer et al. 2023: the same (t, eps) under the empty prompt
    clean latent, exp(-7t)    -sum_t w_t l_t,  w_t ~ exp(-7 t / T) f_t,  f_t = 1 / SNR(t)
                                                           Clark & Jaini 2023 (2303.15233), whose error is on the clean
                                                           image: || eps - eps_hat ||^2 = SNR(t) || z - z_hat ||^2

where l is the mean squared error per element; the L2 norm is thus scaled by a constant, which affects no comparison.
Subtracting the empty prompt's loss affects only comparisons between images: captions of one image share it.

Shape suffixes: I image, C caption, T timestep, N noise draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sdsdemo.types import Evidence

SQUARED, NORM, CLEAN = "squared error", "L2 norm", "clean latent, exp(-7t)"
WITHOUT_EMPTY = "{rule} minus the empty prompt's"
DECAY = 7.0
RANGES = 4
"""Equal parts that the tested timesteps are divided into."""


def normalised(evidence: Evidence) -> dict[str, np.ndarray]:
    """Rule name -> score_IC from the same losses, as far as they were kept; higher is better."""
    loss_ICTN = evidence.loss_ICTN.astype(np.float64)
    scores = {SQUARED: -_mean(loss_ICTN), NORM: -_mean(np.sqrt(loss_ICTN))}
    if evidence.loss_empty_ITN is not None:
        empty_I1TN = evidence.loss_empty_ITN.astype(np.float64)[:, None]
        scores[WITHOUT_EMPTY.format(rule=SQUARED)] = -_mean(loss_ICTN - empty_I1TN)
        scores[WITHOUT_EMPTY.format(rule=NORM)] = -_mean(np.sqrt(loss_ICTN) - np.sqrt(empty_I1TN))
    if evidence.clean_factor_T is not None and evidence.steps:
        weight_T = np.exp(-DECAY * evidence.timestep_T / evidence.steps) * evidence.clean_factor_T
        scores[CLEAN] = -(loss_ICTN.mean(axis=3) @ (weight_T / weight_T.sum()))
    return scores


def resolution_of(readings: Mapping[Any, np.ndarray], key: Any, share: float) -> float:
    """How far rounding may move a variant: by this share of it, or of the rule before subtracting the empty prompt."""
    base = next((own for own in (SQUARED, NORM) if key == WITHOUT_EMPTY.format(rule=own)), key)
    finite = readings[base][np.isfinite(readings[base])]
    return share * float(np.abs(finite).max(initial=0.0))


def by_count(evidence: Evidence) -> dict[int, np.ndarray]:
    """score_IC from 1, 2, 4, ... and all of the timesteps, each subset spread evenly over the tested ones."""
    count_T = len(evidence.timestep_T)
    counts = sorted({2**k for k in range(count_T.bit_length()) if 2**k <= count_T} | {count_T})
    return {count: -_mean(evidence.loss_ICTN[:, :, _spread(count, count_T)].astype(np.float64)) for count in counts}


def by_range(evidence: Evidence) -> dict[tuple[int, int], np.ndarray]:
    """(first, last timestep) -> score_IC from that quarter of the tested timesteps alone."""
    parts = np.array_split(np.arange(len(evidence.timestep_T)), min(RANGES, len(evidence.timestep_T)))
    step_T = evidence.timestep_T
    return {
        (int(step_T[part[0]]), int(step_T[part[-1]])): -_mean(evidence.loss_ICTN[:, :, part].astype(np.float64))
        for part in parts
    }


def _mean(loss_ICTN: np.ndarray) -> np.ndarray:
    mean_IC: np.ndarray = loss_ICTN.mean(axis=(2, 3))
    return mean_IC


def _spread(count: int, count_T: int) -> np.ndarray:
    """Indices of `count` of `count_T` timesteps: the middle of each equal part."""
    return ((np.arange(count) + 0.5) * count_T / count).astype(np.int64)
