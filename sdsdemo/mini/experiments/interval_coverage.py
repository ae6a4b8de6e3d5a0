"""Do the intervals hold what they promise? Simulated from what the differences of a study vary with. Trains nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from sdsdemo.core.bases import Components, Interval, components, coverage, general_effect
from sdsdemo.core.bootstrap import nested_effect

DRAWS, SIMULATIONS = 400, 500
"""Of intervals from resamples, which take long: resamples of each, and simulated experiments."""


def student_t(difference_BSE: np.ndarray) -> tuple[float, float]:
    """For bases in general: Student's t on the base means."""
    effect = general_effect(difference_BSE)
    return effect.low, effect.high


def resampled(difference_BSE: np.ndarray) -> tuple[float, float]:
    """From resamples of bases, seeds and examples."""
    effect = nested_effect(difference_BSE, DRAWS)
    return effect.low, effect.high


def within_bases(difference_BSE: np.ndarray) -> tuple[float, float]:
    """From resamples of seeds and examples."""
    effect = nested_effect(difference_BSE, DRAWS, within=True)
    return effect.low, effect.high


INTERVALS: dict[str, Interval] = {"t": student_t, "within": within_bases, "resampled": resampled}
"""Stored name -> interval."""
OF_DESIGN = {"three": ("resampled", "t"), "ten": ("t", "within")}
"""Design -> the intervals that are simulated for it."""
SHAPES = {"three": (3, 5), "ten": (10, 2)}
"""Design -> bases and seeds."""


def coverage_findings(difference: Mapping[tuple[str, str], np.ndarray], study: str) -> dict[str, Any]:
    """By contrast, the standard deviation of each component, and the coverage of each interval by design.

    difference: difference_BSE by cell and control, from at least two bases and two seeds.
    """
    rows = []
    for (cell, control), difference_BSE in difference.items():
        of = components(difference_BSE)
        spread = {name: round(math.sqrt(variance), 4) for name, variance in asdict(of).items()}
        designs = {design: _design(of, design, difference_BSE.shape[-1]) for design in SHAPES}
        rows.append({"cell": cell, "control": control, "spread": spread, **designs})
    return {"study": study, "rows": rows}


def _design(of: Components, design: str, examples: int) -> dict[str, dict[str, float]]:
    """The coverage of a design's intervals."""
    shape, found = (*SHAPES[design], examples), {}
    for name in OF_DESIGN[design]:
        times = {} if name == "t" else {"simulations": SIMULATIONS}
        (held,) = coverage(of, shape, {name: INTERVALS[name]}, **times).values()
        found[name] = {key: round(share, 3) for key, share in asdict(held).items()}
    return found
