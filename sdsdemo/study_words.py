"""How points and shares are written. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping


def points_words(found: Mapping[str, float]) -> str:
    """`+0.6 [-1.5, +2.6]`, in points."""
    return f"{signed(found['value'])} [{signed(found['low'])}, {signed(found['high'])}]"


def signed(share: float) -> str:
    """In points with a sign; nothing is +0.0."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def share_words(found: Mapping[str, float]) -> str:
    """`37.0 [32, 42]`, in percent."""
    return f"{100 * found['value']:.1f} [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"
