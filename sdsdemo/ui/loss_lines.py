"""Denoising losses over the timesteps as small SVGs: a panel a picture, a line a caption.

Shape suffixes: I image, C caption, T timestep, N noise draw, L line.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sdsdemo.types import Evidence

WIDTH, HEIGHT = 300, 150


def loss_lines_html(evidence: Evidence, style_of: Mapping[int, str], captions: str) -> str:
    """The mean losses of some captions; empty where one is no number, and for a single timestep.

    style_of: by the place of a caption, the class of its line; the last are drawn on top. captions: what they are.
    """
    mean_ILT = evidence.loss_ICTN[:, list(style_of)].astype(np.float64).mean(axis=3)
    if not np.isfinite(mean_ILT).all() or mean_ILT.shape[2] < 2:
        return ""
    step_T = evidence.timestep_T.astype(float)
    low, high = float(mean_ILT.min()), float(mean_ILT.max())
    x_T = 34 + (WIDTH - 42) * (step_T - step_T[0]) / (step_T[-1] - step_T[0])
    y_ILT = 8 + (HEIGHT - 34) * (1 - (mean_ILT - low) / max(high - low, 1e-12))
    panels = []
    for i, y_LT in enumerate(y_ILT):
        lines = "".join(_line(x_T, y_T, style) for y_T, style in zip(y_LT, style_of.values(), strict=True))
        picture = f"picture {i + 1}" if len(y_ILT) > 1 else ""
        name = ", ".join(filter(None, ("Denoising loss by timestep", picture, captions)))
        panels.append(
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">'
            f'<path class="axis" d="M34 8V{HEIGHT - 26}H{WIDTH - 8}"/>{lines}'
            f'<text x="30" y="16" text-anchor="end">{high:.2g}</text>'
            f'<text x="30" y="{HEIGHT - 26}" text-anchor="end">{low:.2g}</text>'
            f'<text x="34" y="{HEIGHT - 12}">{step_T[0]:.0f}</text>'
            f'<text x="{WIDTH - 8}" y="{HEIGHT - 12}" text-anchor="end">timestep {step_T[-1]:.0f}</text>'
            f'<text x="{WIDTH - 8}" y="16" text-anchor="end">{picture}</text></svg>'
        )
    return f'<div class="curves{"" if len(y_ILT) > 1 else " one"}">{"".join(panels)}</div>'


def _line(x_T: np.ndarray, y_T: np.ndarray, style: str) -> str:
    points = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(x_T, y_T, strict=True))
    return f'<path class="line {style}" d="M{points}"/>'
