"""Curves of a run as SVG: the losses, raw and smoothed, and held-out accuracy with its interval.

Colours come from the page's style sheet, which handles light and dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sdsdemo.app.job_states import EvaluationPoint, Point
from sdsdemo.finetuning.events import smoothed
from sdsdemo.ui.templates import render

Shape = dict[str, str]
"""A path or a dot, as the template takes it."""

WIDTH, HEIGHT = 560, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 30
HUGE = 1e12
"""Larger losses are left out of the curve."""
NAMES = {"loss": "loss, smoothed", "clip": "L_CLIP", "sds": "L_SDS", "preference": "L_PREF", "labels": "L_LABEL",
         "features": "L_FEAT"}  # fmt: skip


def losses_svg(points: Sequence[Point], steps: int) -> str:
    """The loss of each step as a faint line, the smoothed loss, and its smoothed terms."""
    if len(points) < 2:
        return render("parts.hint", sentence="The loss of each step will appear here.")
    terms = [name for name in points[-1].losses if name != "loss"]
    values = [p.losses["loss"] for p in points] + [p.losses[name] for name in terms for p in points]
    low, high = _range(values)
    lines = [*_path("raw", points, [p.losses["loss"] for p in points], steps, low, high)]
    for k, name in enumerate(terms):
        lines += _path(f"term t{k}", points, _smoothed(points, name), steps, low, high)
    lines += _path("smooth", points, [p.smoothed for p in points], steps, low, high)
    legend = [("smooth", NAMES["loss"]), ("raw", "loss of each step")]
    legend += [(f"term t{k}", NAMES.get(name, name)) for k, name in enumerate(terms)]
    return _figure("Training loss by step", lines, low, high, steps, legend)


def evaluations_svg(evaluations: Sequence[EvaluationPoint], steps: int) -> str:
    """Held-out accuracy at each evaluation, in percent, with its 95 % interval."""
    if not evaluations:
        return render("parts.hint", sentence="Held-out accuracy will appear here, with its interval.")
    low, high = _range([100 * v for one in evaluations for v in (one.low, one.high)])
    xs = [_x(one.step, steps) for one in evaluations]
    ys = [_y(100 * one.value, low, high) for one in evaluations]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))
    lines = [{"kind": "look", "path": f"M{line}"}]
    lines += [
        {
            "kind": "whisker",
            "path": f"M{x:.1f} {_y(100 * one.low, low, high):.1f}V{_y(100 * one.high, low, high):.1f}",
        }
        for x, one in zip(xs, evaluations, strict=True)
    ]
    dots = [{"x": f"{x:.1f}", "y": f"{y:.1f}"} for x, y in zip(xs, ys, strict=True)]
    last = evaluations[-1]
    legend = [("look", f"held-out {last.metric} score, percent, with its 95 % interval; n = {last.n}")]
    return _figure("Held-out accuracy by step", lines, low, high, steps, legend, dots)


def _figure(
    name: str,
    lines: Sequence[Shape],
    low: float,
    high: float,
    steps: int,
    legend: Sequence[tuple[str, str]],
    dots: Sequence[Shape] = (),
) -> str:
    """Grid, axis and legend around the lines. low, high: the values at the bottom and the top."""
    bottom = HEIGHT - BOTTOM
    grid = []
    for tick in _ticks(low, high):
        y = _y(tick, low, high)
        grid.append(
            {"path": f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}", "x": LEFT - 6, "y": f"{y + 4:.1f}", "words": f"{tick:g}"}
        )
    return render(
        "finetune.curve",
        name=name,
        size={"width": WIDTH, "height": HEIGHT},
        grid=grid,
        axis=f"M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}",
        lines=lines,
        dots=dots,
        ends={"left": LEFT, "right": WIDTH - RIGHT, "y": bottom + 18, "steps": f"{steps:,}"},
        legend=legend,
    )


def _ticks(low: float, high: float) -> list[float]:
    """Two to five round numbers between the ends."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-12)))
    step = next((step * part for part in (2, 1, 0.5, 0.2) if (high - low) / (step * part) >= 2), step)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _path(
    kind: str, points: Sequence[Point], values: Sequence[float], steps: int, low: float, high: float
) -> list[Shape]:
    """The line through the plottable values; none if there are none."""
    line = "L".join(
        f"{_x(p.step, steps):.1f} {_y(v, low, high):.1f}" for p, v in zip(points, values, strict=True) if _can_plot(v)
    )
    return [{"kind": kind, "path": f"M{line}"}] if line else []


def _smoothed(points: Sequence[Point], name: str) -> list[float]:
    found, past = [], points[0].losses[name]
    for point in points:
        past = smoothed(past, point.losses[name])
        found.append(past)
    return found


def _range(values: Sequence[float]) -> tuple[float, float]:
    plotted = [value for value in values if _can_plot(value)] or [0.0]
    low, high = min(plotted), max(plotted)
    padding = max(0.05 * (high - low), 1e-6 * abs(high)) or 0.5
    return max(0.0, low - padding) if low >= 0 else low - padding, high + padding


def _can_plot(value: float) -> bool:
    """Whether a value is finite and small enough not to flatten the rest of the curve."""
    return math.isfinite(value) and abs(value) < HUGE


def _x(step: int, steps: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, step / max(1, steps))


def _y(value: float, low: float, high: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / max(high - low, 1e-12))
