"""Which examples measure the skills that fine-tuning must preserve. Computes no figure."""

from __future__ import annotations

import numpy as np

from sdsdemo.evaluation.limits import CHOSEN_ON
from sdsdemo.mini.experiments.study import CHOOSING, RETRIEVAL, ZERO_SHOT, Rows, larger

SKILLS = {"zero_shot": ZERO_SHOT, "retrieval": RETRIEVAL}
"""Skills that fine-tuning must preserve -> the sets that measure them."""


def reported_set(of: str, runs: Rows) -> str:
    """The set that a skill is reported on: the larger one, or that for choices, if every line has it."""
    others = (larger(of), *((CHOOSING,) if of == RETRIEVAL else ()))
    return next((name for name in others if all(name in run["right"] for run in runs)), of)


def unseen(set_: str, value_E: np.ndarray) -> np.ndarray:
    """Along the last axis, the examples of a set that no choice looked at: `mini-retrieval` begins the larger set."""
    return value_E[..., CHOSEN_ON:] if set_ == larger(RETRIEVAL) and value_E.shape[-1] > CHOSEN_ON else value_E
