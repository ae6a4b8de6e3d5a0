"""The bounds of adaptive scoring: calibrated on Mini's validation pictures, and tested on those that did not set them.

Calibration: each picture's differences, less the reference's mean at each timestep (less their own, the later looks
would have too little noise), in random orders, either of a pair first. The bounds spend 2 ERROR over the looks in equal
parts: no more of these sequences are ever decided. The noise of Mini's differences has another size at each timestep,
which makes the statistic smaller; so each bound is at least that of normal noise of one size.

Test, in two folds: bounds from one half of the pictures, applied to the other half. Mean evaluations a caption, how
many are decided, and how often the sign is not that of the reference; against fixed budgets, of which the best is the
smallest with no more errors.

Shape suffixes: E picture, S sequence (a picture in some order), T timestep, R pair, P its two signs, K look.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sdsdemo.core.adaptive import ERROR, LOOKS
from sdsdemo.mini.experiments.noise_draws import TIMESTEPS, Draws

ORDERS = 40
"""Random orders of each picture's draws."""
SEED = 11
FOLDS = 2
NORMAL = 1_000
"""Pictures of normal noise, of one variance at every timestep."""


def calibrated(tried_ETRP: np.ndarray, reference_ET: np.ndarray) -> list[float]:
    """A bound for each look: the stricter of that of these differences and of normal noise."""
    own = _bounds(tried_ETRP - reference_ET[:, :, None, None])
    normal = _bounds(np.random.default_rng(SEED).normal(size=(NORMAL, *tried_ETRP.shape[1:])))
    return [max(both) for both in zip(own, normal, strict=True)]


def _bounds(null_ETRP: np.ndarray) -> list[float]:
    """The bounds that spend 2 ERROR on differences whose mean is zero."""
    size_SK = np.abs(_statistics(_orders(null_ETRP))[0])
    going_S, bounds = np.ones(len(size_SK), dtype=bool), []
    for k in range(len(LOOKS)):
        may_stop = int(2 * ERROR * (k + 1) / len(LOOKS) * len(size_SK)) - int((~going_S).sum())
        left_S = np.sort(size_SK[going_S, k])[::-1]
        bounds.append(float(left_S[max(0, min(may_stop, len(left_S) - 1))]))
        going_S &= size_SK[:, k] <= bounds[-1]
    return bounds


def error_and_cost(draws: Draws) -> dict[str, Any]:
    """What adaptive scoring spends and errs, and fixed budgets beside it."""
    folds = [_fold(draws, fold) for fold in range(FOLDS)]
    spent_S, decided_S, wrong_S, first_S = (np.concatenate(part) for part in zip(*[f[:4] for f in folds], strict=True))
    wrong_SK = np.concatenate([fold[4] for fold in folds])
    fixed = {look * TIMESTEPS: float(wrong_SK[:, k].mean()) for k, look in enumerate(LOOKS)}
    error = float(wrong_S.mean())
    best = min((spent for spent, share in fixed.items() if share <= error), default=max(fixed))
    return {
        "pictures": len(draws.reference),
        "orders": ORDERS,
        "evaluations": float(spent_S.mean()),
        "at_first_look": float(first_S.mean()),
        "undecided": float((~decided_S).mean()),
        "decided_wrongly": float((wrong_S & decided_S).mean()),
        "error": error,
        "promised": ERROR,
        "fixed": {str(spent): share for spent, share in fixed.items()},
        "best_fixed": best,
        "promised_fixed": min((spent for spent, share in fixed.items() if share <= ERROR), default=max(fixed)),
        "over_fixed": float(spent_S.mean() / best),
    }


def _fold(draws: Draws, fold: int) -> tuple[np.ndarray, ...]:
    """(spent_S, decided_S, wrong_S, first_S, wrong_SK): of every FOLDS-th picture, by bounds of the others."""
    own_E = np.arange(len(draws.reference)) % FOLDS == fold
    bounds = calibrated(draws.tried_ETRP[~own_E], draws.reference_ET[~own_E])
    value_SK, mean_SK = _statistics(_orders(draws.tried_ETRP[own_E]))
    wrong_SK = np.sign(mean_SK) != np.tile(np.sign(draws.reference[own_E]), ORDERS)[:, None]
    passed_SK = np.abs(value_SK) > np.array(bounds)
    decided_S = passed_SK.any(axis=1)
    k_S = np.where(decided_S, passed_SK.argmax(axis=1), len(LOOKS) - 1)
    return np.array(LOOKS)[k_S] * TIMESTEPS, decided_S, wrong_SK[np.arange(len(k_S)), k_S], k_S == 0, wrong_SK


def _orders(tried_ETRP: np.ndarray) -> np.ndarray:
    """tried_STRP: the pairs of each picture in random orders, each pair beginning with a random one of its two."""
    rng = np.random.default_rng(SEED)
    count_E, _, count_R, _ = tried_ETRP.shape
    found = []
    for _ in range(ORDERS):
        order_ER = np.argsort(rng.random((count_E, count_R)), axis=1)
        turned_ER = rng.integers(0, 2, (count_E, count_R)).astype(bool)
        ordered = np.take_along_axis(tried_ETRP, order_ER[:, None, :, None], axis=2)
        found.append(np.where(turned_ER[:, None, :, None], ordered[..., ::-1], ordered))
    return np.concatenate(found)


def _statistics(tried_STRP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(statistic_SK, mean_SK): `core.adaptive.statistic` and the mean after each look, for all sequences at once."""
    count_S, count_T, count_R, _ = tried_STRP.shape
    draw_STN = tried_STRP.reshape(count_S, count_T, 2 * count_R)
    statistics, means = [], []
    for look in LOOKS:
        seen_STN = draw_STN[:, :, :look]
        pair_STU = seen_STN if look == 1 else seen_STN.reshape(count_S, count_T, -1, 2).mean(axis=3)
        unit_SU = pair_STU.reshape(count_S, -1)
        mean_S = unit_SU.mean(axis=1)
        statistics.append(mean_S * np.sqrt(unit_SU.shape[1]) / unit_SU.std(axis=1, ddof=1))
        means.append(mean_S)
    return np.stack(statistics, axis=1), np.stack(means, axis=1)
