"""Denoising loss by timestep as small SVGs: one panel per picture, one line per caption.

Shape suffixes: I image, C caption, T timestep, N noise draw, L line.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sdsdemo.core.adaptive import by_timestep
from sdsdemo.types import Evidence
from sdsdemo.ui.templates import render

WIDTH, HEIGHT = 300, 150


def loss_lines_html(evidence: Evidence, style_of: Mapping[int, str], captions: str) -> str:
    """The mean losses of some captions; empty if one is not finite, or if there is only one timestep.

    style_of: by caption index, the class of its line; the last are drawn on top. captions: their names, for the label.
    """
    mean_ILT = by_timestep(evidence.loss_ICTN, evidence.rounds_IC)[:, list(style_of)]
    if not np.isfinite(mean_ILT).all() or mean_ILT.shape[2] < 2:
        return ""
    step_T = evidence.timestep_T.astype(float)
    low, high = float(mean_ILT.min()), float(mean_ILT.max())
    x_T = 34 + (WIDTH - 42) * (step_T - step_T[0]) / (step_T[-1] - step_T[0])
    y_ILT = 8 + (HEIGHT - 34) * (1 - (mean_ILT - low) / max(high - low, 1e-12))
    ends = {"low": f"{low:.2g}", "high": f"{high:.2g}", "first": f"{step_T[0]:.0f}", "last": f"{step_T[-1]:.0f}"}
    panels = []
    for i, y_LT in enumerate(y_ILT):
        picture = f"picture {i + 1}" if len(y_ILT) > 1 else ""
        name = ", ".join(filter(None, ("Denoising loss by timestep", picture, captions)))
        lines = [_line(x_T, y_T, style) for y_T, style in zip(y_LT, style_of.values(), strict=True)]
        panels.append({"name": name, "picture": picture, "lines": lines})
    return render("loss_lines.curves", panels=panels, size={"width": WIDTH, "height": HEIGHT}, ends=ends)


def _line(x_T: np.ndarray, y_T: np.ndarray, style: str) -> dict[str, str]:
    points = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(x_T, y_T, strict=True))
    return {"style": style, "path": f"M{points}"}
