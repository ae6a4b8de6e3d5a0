"""Where to spend evaluations among timesteps: one grid for every round or shifted ones, and weights by timestep.

    same       d = (1/T) sum_t d_t        both pairs of noise at the middles of T = 8 equal parts of the schedule
    shifted    d = (1/2T) sum_t d_t       each pair at 8 timesteps of its own: the middles of 16 parts
    weights    d_w = sum_t w_t d_t        w_t ~ 1 / v_t  ("noise"),   w_t ~ max(m_t, 0) / v_t  ("signal")

with m_t the mean and v_t the variance within a picture of d_t, under a pair of opposite noises, where d_t favours the
true caption if positive. Everything costs 32 evaluations a caption, as two pairs.

What grids are to estimate is the mean over 64 timesteps, of 1,024 evaluations with other noise. Weights estimate
something else, so their noise is compared as a share of what they measure, and their sign with that of a reference of
the same weights. Weights come from one half of the pictures and are tested on the other, in two folds.

Shape suffixes: E picture, T timestep, R draw, P sign of the draw, G group of draws, N draw within a group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdsdemo.mini.experiments.noise_draws import SEED, TIMESTEPS, Draws, collect, referred, stored
from sdsdemo.mini.experiments.noise_findings import antithetic_groups, budget_variance, of_groups, with_interval

FIFTHS = 1
"""Of the pictures, for either teacher: 80."""
FINE_SEED = SEED + 10_000
SHIFTED, FINE, PAIRS = 16, 64, 8
"""Timesteps of two shifted rounds and of the reference, and pairs at each."""
FOLDS = 2
RULES = ("noise", "signal")
PARTS = ("tried_ETRP", "reference_ET", "reference_stderr_ET")


def timestep_findings(teacher: str, draws: Draws, work: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """What weights are worth on all of the teacher's pictures, and shifted rounds on the first fifths of them."""
    grids = ((SHIFTED, PAIRS), (FINE, PAIRS))
    fine_ETRP = stored(teacher, FIFTHS, work / f"{teacher}-grids", FINE_SEED, grids, progress)
    first = collect(teacher, work, progress, fifths=FIFTHS)
    return {"pictures": len(fine_ETRP), "grids": grid_findings(first, fine_ETRP), "weights": weight_findings(draws)}


def grid_findings(draws: Draws, fine_ETRP: np.ndarray) -> dict[str, Any]:
    """Squared error about the mean over FINE timesteps, shifted over same; coverage and agreement of both.

        squared error = variance of the noise + (mean over the grid - mean over FINE timesteps)^2

    `grid_share`: how much of the squared error of `same` the second term is.
    """
    tried_ETRP, fine_ETRP = fine_ETRP[:, :SHIFTED], fine_ETRP[:, SHIFTED:]
    truth = referred(draws.tried_ETRP, fine_ETRP)
    own_E = {"same": _gap(draws, truth), "shifted": _gap(referred(tried_ETRP, tried_ETRP), truth)}
    square_E = {
        "same": own_E["same"] + budget_variance(antithetic_groups(draws.tried_ETRP), antithetic=True),
        "shifted": own_E["shifted"] + budget_variance(np.moveaxis(tried_ETRP, 2, 0), antithetic=True),
    }
    groups = {"same": antithetic_groups(draws.tried_ETRP), "shifted": _shifted(tried_ETRP)}
    count = len(truth.reference)
    return {
        "square": with_interval(lambda e: float(square_E["shifted"][e].mean() / square_E["same"][e].mean()), count),
        "grid_share": with_interval(lambda e: float(own_E["same"][e].mean() / square_E["same"][e].mean()), count),
        **{name: of_groups(loss_GETN, truth, antithetic=True) for name, loss_GETN in groups.items()},
    }


def _gap(grid: Draws, truth: Draws) -> np.ndarray:
    """gap_E, the squared distance of two references less what their noise adds to it."""
    noise_E = grid.reference_stderr**2 + truth.reference_stderr**2
    gap_E: np.ndarray = np.square(grid.reference - truth.reference) - noise_E
    return gap_E


def _shifted(tried_ETRP: np.ndarray) -> np.ndarray:
    """loss_GETN where two neighbouring timesteps are one, and their pairs its two pairs: an interval a bit too wide."""
    count_E, _, count_R, _ = tried_ETRP.shape
    loss_ETHRP = tried_ETRP.reshape(count_E, TIMESTEPS, 2, count_R, 2)
    return loss_ETHRP.transpose(3, 0, 1, 2, 4).reshape(count_R, count_E, TIMESTEPS, 4)


def weights_of(draws: Draws) -> dict[str, np.ndarray]:
    """weight_T by rule, with mean 1."""
    pair_ETR = draws.tried_ETRP.mean(axis=3)
    noise_T = pair_ETR.var(axis=2, ddof=1).mean(axis=0)
    signal_T = np.maximum(pair_ETR.mean(axis=(0, 2)), 0)
    found = {"even": np.ones_like(noise_T), "noise": 1 / noise_T, "signal": signal_T / noise_T}
    return {rule: weight_T / weight_T.mean() for rule, weight_T in found.items()}


def weight_findings(draws: Draws) -> dict[str, Any]:
    """By rule: the weights of all pictures; and of each half tested on the other, noise over signal as a share of even.

    `true`: how often the sign is that of the true caption.
    """
    e_E = np.arange(len(draws.reference))
    folds = [(weights_of(_only(draws, e_E % FOLDS != fold)), e_E % FOLDS == fold) for fold in range(FOLDS)]
    found = {rule: _weighted(draws, [(w[rule], own_E) for w, own_E in folds]) for rule in ("even", *RULES)}
    variance_E = {
        rule: budget_variance(antithetic_groups(one.tried_ETRP), antithetic=True) for rule, one in found.items()
    }

    def share(rule: str) -> Callable[[np.ndarray], float]:
        def of(e: np.ndarray) -> float:
            own, even = (variance_E[r][e].mean() / found[r].reference[e].mean() ** 2 for r in (rule, "even"))
            return float(own / even)

        return of

    return {
        rule: {
            "weight": weights_of(draws)[rule].tolist(),
            "noise": with_interval(share(rule), len(e_E)),
            "true": with_interval(_true_share(one), len(e_E)),
            **of_groups(antithetic_groups(one.tried_ETRP), one, antithetic=True),
        }
        for rule, one in found.items()
    }


def _only(draws: Draws, own_E: np.ndarray) -> Draws:
    return Draws(**{name: getattr(draws, name)[own_E] for name in PARTS})


def _weighted(draws: Draws, folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> Draws:
    """The draws times the weights of each picture's fold. folds: weight_T, and which pictures have it."""
    weight_ET = np.empty_like(draws.reference_ET)
    for weight_T, own_E in folds:
        weight_ET[own_E] = weight_T
    return Draws(
        tried_ETRP=draws.tried_ETRP * weight_ET[:, :, None, None],
        reference_ET=draws.reference_ET * weight_ET,
        reference_stderr_ET=draws.reference_stderr_ET * weight_ET,
    )


def _true_share(draws: Draws) -> Callable[[np.ndarray], float]:
    true_GE = antithetic_groups(draws.tried_ETRP).mean(axis=(2, 3)) > 0
    return lambda e: float(true_GE[:, e].mean())
