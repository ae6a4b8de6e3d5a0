"""What noise draws are worth on Mini's validation pictures: antithetic pairs against plain draws at equal evaluations.

    variance     Var(pairs) / Var(plain) of the difference of two captions' losses
    coverage     how often the 95 % interval of a budget holds the mean of the reference
    agreement    how often the sign of a budget's difference is that of the reference

Intervals resample pictures. Shape suffixes: E picture, T timestep, R draw, P sign of the draw, G group of draws, N draw
within a group.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from sdsdemo.core.intervals import independent_draws, paired_difference, student_t_quantile
from sdsdemo.mini.experiments.noise_draws import Draws

EVALUATIONS = 4
"""Draws a timestep of a budget: the default of `settings.NOISES`."""
RESAMPLES = 10_000
SEED = 7


def findings(draws: Draws) -> dict[str, Any]:
    """The three figures for plain and antithetic noise, each with a 95 % interval."""
    groups = {"plain": _plain(draws.tried_ETRP), "antithetic": antithetic_groups(draws.tried_ETRP)}
    variance_E = {name: budget_variance(loss_GETN, name == "antithetic") for name, loss_GETN in groups.items()}

    def ratio(e: np.ndarray) -> float:
        return float(variance_E["antithetic"][e].mean() / variance_E["plain"][e].mean())

    return {
        "pictures": len(draws.reference),
        "evaluations": EVALUATIONS * draws.tried_ETRP.shape[1],
        "variance": with_interval(ratio, len(draws.reference)),
        **{name: of_groups(loss_GETN, draws, name == "antithetic") for name, loss_GETN in groups.items()},
    }


def _plain(tried_ETRP: np.ndarray) -> np.ndarray:
    """loss_GETN of disjoint groups of draws, each used with one sign."""
    count_E, count_T, count_R, _ = tried_ETRP.shape
    loss_ETGN = tried_ETRP[..., 0].reshape(count_E, count_T, count_R // EVALUATIONS, EVALUATIONS)
    return np.moveaxis(loss_ETGN, 2, 0)


def antithetic_groups(tried_ETRP: np.ndarray) -> np.ndarray:
    """loss_GETN of disjoint groups of pairs; as many evaluations a group as in `_plain`."""
    count_E, count_T, count_R, _ = tried_ETRP.shape
    loss_ETGN = tried_ETRP.reshape(count_E, count_T, count_R * 2 // EVALUATIONS, EVALUATIONS)
    return np.moveaxis(loss_ETGN, 2, 0)


def budget_variance(loss_GETN: np.ndarray, antithetic: bool) -> np.ndarray:
    """variance_E of a budget's difference, from the spread of all of its draws."""
    _, count_E, count_T, _ = loss_GETN.shape
    unit_ETGN = np.moveaxis(independent_draws(loss_GETN, antithetic), 0, 2)
    variance_ET = unit_ETGN.reshape(count_E, count_T, -1).var(axis=2, ddof=1) / unit_ETGN.shape[3]
    variance_E: np.ndarray = variance_ET.sum(axis=1) / count_T**2
    return variance_E


def of_groups(loss_GETN: np.ndarray, draws: Draws, antithetic: bool) -> dict[str, Any]:
    mean_GE = loss_GETN.mean(axis=(2, 3))
    reach_GE = _reach(loss_GETN, antithetic)
    covers_GE = np.abs(mean_GE - draws.reference) <= np.hypot(reach_GE, 1.96 * draws.reference_stderr)
    agrees_GE = np.sign(mean_GE) == np.sign(draws.reference)
    decided_GE = np.abs(mean_GE) > reach_GE
    wrong_GE = decided_GE & ~agrees_GE
    count = loss_GETN.shape[1]
    return {
        name: with_interval(partial(_share, value), count)
        for name, value in {
            "coverage": covers_GE,
            "agreement": agrees_GE,
            "decided": decided_GE,
            "decided_wrongly": wrong_GE,
        }.items()
    }


def _share(value_GE: np.ndarray, e: np.ndarray) -> float:
    return float(value_GE[:, e].mean())


def _reach(loss_GETN: np.ndarray, antithetic: bool) -> np.ndarray:
    """Half of the 95 % interval, as `decision.decide` has it."""
    reach_GE = np.empty(loss_GETN.shape[:2])
    for place in np.ndindex(*reach_GE.shape):
        loss_TN = loss_GETN[place]
        paired = paired_difference(np.zeros_like(loss_TN), loss_TN, antithetic=antithetic)
        assert paired.dof is not None
        assert paired.stderr is not None
        reach_GE[place] = student_t_quantile(0.975, paired.dof) * paired.stderr
    return reach_GE


def with_interval(value: Callable[[np.ndarray], float], count: int) -> dict[str, float]:
    """A figure of the pictures with its 95 % percentile interval."""
    rng = np.random.default_rng(SEED)
    again = [value(rng.integers(0, count, count)) for _ in range(RESAMPLES)]
    low, high = np.percentile(again, [2.5, 97.5])
    return {"value": float(value(np.arange(count))), "low": float(low), "high": float(high)}
