"""The record of a denoising score, from losses that have been computed.

Shape suffixes: I image, C caption, T timestep, N noise draw.
"""

from __future__ import annotations

import numpy as np
import torch

from sdsdemo.core.adaptive import adaptive_stderr, by_timestep
from sdsdemo.core.intervals import grid_stderr
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.precision import PRECISIONS
from sdsdemo.types import Budget, Evidence, Scores


def denoising_scores(
    loss_ICTN: np.ndarray,
    timestep_T: np.ndarray,
    budget: Budget,
    model: LatentDiffusion,
    *,
    micro_batch: int,
    evaluations: int,
    seconds: float,
    rounds_IC: np.ndarray | None = None,
) -> Scores:
    """The record; the empty prompt, where asked for, is the last of the captions."""
    empty_ITN = loss_ICTN[:, -1] if budget.empty_prompt else None
    loss_ICTN = loss_ICTN[:, :-1] if budget.empty_prompt else loss_ICTN
    if rounds_IC is None:
        mean_IC = loss_ICTN.astype(np.float64).mean(axis=(2, 3))
        stderr_IC = grid_stderr(loss_ICTN, antithetic=budget.antithetic)
    else:
        mean_IC = by_timestep(loss_ICTN, rounds_IC).mean(axis=2)
        stderr_IC = adaptive_stderr(loss_ICTN, rounds_IC)
    return Scores(
        kind="denoising",
        score_IC=-mean_IC,
        stderr_IC=stderr_IC,
        evidence=Evidence(
            timestep_T=timestep_T,
            loss_ICTN=loss_ICTN,
            loss_empty_ITN=empty_ITN,
            space=model.schedule.space,
            steps=model.schedule.steps,
            clean_factor_T=_clean_factor(model, timestep_T),
            seed=budget.seed,
            micro_batch=micro_batch,
            evaluations=evaluations,
            antithetic=budget.antithetic,
            rounds_IC=rounds_IC,
        ),
        seconds=seconds,
        precision=PRECISIONS[model.dtype],
    )


def _clean_factor(model: LatentDiffusion, timestep_T: np.ndarray) -> np.ndarray | None:
    """None if a timestep holds no signal at all, as the last one may: its factor is infinite, and no weight."""
    factor_T: np.ndarray = model.schedule.clean_factor(torch.from_numpy(timestep_T)).numpy().astype(np.float64)
    return factor_T if np.isfinite(factor_T).all() else None
