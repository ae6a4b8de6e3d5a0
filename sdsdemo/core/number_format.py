"""Formats numbers: points, shares and durations for readers, arrays for JSON. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

NO_SCORE = "no finite score"
"""Shown for a share of nothing: there are no scores, or none is finite."""


LOSS_DIGITS = 9
"""Significant digits that restore a float32 exactly."""


def as_lists(array: np.ndarray, digits: int = 0) -> Any:
    """Nested lists, with None for non-finite numbers. digits: significant digits; 0 keeps all."""
    if array.ndim:
        return [as_lists(part, digits) for part in array]
    if not np.isfinite(array):
        return None
    return float(f"{array:.{digits}g}") if digits else float(array)


def is_of_nothing(share: Mapping[str, Any]) -> bool:
    """Whether a share has no value: None in JSON, NaN in memory."""
    return share["value"] is None or share["value"] != share["value"]


def level_words(found: Mapping[str, Any]) -> str:
    """`37.0`, in percent; `NO_SCORE` for a share of nothing."""
    return NO_SCORE if is_of_nothing(found) else f"{100 * found['value']:.1f}"


def points_words(found: Mapping[str, float]) -> str:
    """`+0.6 [-1.5, +2.6]`, in points."""
    return f"{signed(found['value'])} [{signed(found['low'])}, {signed(found['high'])}]"


def signed(share: float) -> str:
    """A difference in points, with its sign; zero is +0.0."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def share_words(found: Mapping[str, Any]) -> str:
    """`37.0 [32, 42]`, in percent; `NO_SCORE` for a share of nothing."""
    if is_of_nothing(found):
        return NO_SCORE
    return f"{100 * found['value']:.1f} [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"


def limit(value: float) -> str:
    """A limit as a reader writes it: 2,147,483,647, 0.5, 1e-08."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def duration(seconds: float) -> str:
    """A readable duration: 40 s, 3 min, 5.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
