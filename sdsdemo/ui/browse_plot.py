"""The plot of the Browse tab as SVG: a dot per example, two models' margins on its axes. A rectangle in it filters.

Shape suffix: E example.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, inf, isfinite, log10
from typing import Any, NamedTuple

import numpy as np

from sdsdemo.evaluation.catalogue import WHO, Catalogue, Filter
from sdsdemo.evaluation.margin_box import MarginBox
from sdsdemo.ui import browse_one_image
from sdsdemo.ui.browse_charts import bar_row
from sdsdemo.ui.browse_parts import METRICS, NamedModel, Titles, pair, way_words
from sdsdemo.ui.templates import render
from sdsdemo.ui.units import AXIS

SIDE, EDGE = 300, 6
"""Of the square, and between it and the outermost dots; pixels."""
LEAST = 0.2
"""Each side of zero is at least this long against the other, so that its quadrants have room for their names."""
TICKS = 6
"""About this many on an axis."""
SIDES = {(True, True): "both", (False, True): "second", (True, False): "first", (False, False): "neither"}
"""By (is the first model right, is the second), the style of a dot."""
WAYS = {"always right": "both", "fixed": "second", "broken": "first", "still wrong": "neither"}
"""By outcome, the style of its dots."""


class Axis(NamedTuple):
    """The margins from one end of an axis to the other; dots beyond an end are drawn at it."""

    low: float
    high: float

    @classmethod
    def of(cls, margin_E: np.ndarray) -> Axis:
        """From the 1st to the 99th percentile, with zero always inside."""
        finite = margin_E[np.isfinite(margin_E)]
        if not len(finite):
            return cls(-1.0, 1.0)
        low, high = min(float(np.quantile(finite, 0.01)), 0.0), max(float(np.quantile(finite, 0.99)), 0.0)
        if not high > low:
            return cls(-1.0, 1.0)
        return cls(min(low, -LEAST * high), max(high, -LEAST * low))

    def at(self, margin: float) -> float:
        """Pixels from the low end."""
        return EDGE + (SIDE - 2 * EDGE) * (min(max(margin, self.low), self.high) - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """A few round numbers."""
        rough = (self.high - self.low) / TICKS
        unit = 10.0 ** floor(log10(rough))
        step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough)
        return [step * k for k in range(-10 * TICKS, 10 * TICKS + 1) if self.low <= step * k <= self.high]


def plot_html(
    catalogue: Catalogue, places: np.ndarray, wanted: Filter, titles: Titles, counts: Mapping[str, int]
) -> str:
    """The plot and its legend, whose rows filter by outcome. counts: by outcome, as `by_transition` gives them."""
    models = pair(wanted, titles)
    x_axis, y_axis = (Axis.of(catalogue.margin[model]) for model in (wanted.model, wanted.against))
    return render(
        "browse_plot.plot",
        side=SIDE,
        models=models,
        units=[_unit(catalogue, model) for model in (wanted.model, wanted.against)],
        margin="margin" if catalogue.one_image else "text margin",
        axes={"x": _axis(x_axis), "y": _axis(y_axis)},
        is_by_margin=wanted.metric == catalogue.metrics[0],
        dots=_dots(catalogue, places, wanted, x_axis, y_axis),
        brush=_brush(wanted.box, x_axis, y_axis),
        ends=_ends(wanted.box),
        by=METRICS[wanted.metric],
        rows=_legend(counts, wanted, models),
    )


def _axis(axis: Axis) -> dict[str, Any]:
    """An axis in pixels from its low end."""
    ticks = [(f"{axis.at(tick):.1f}", f"{tick:.4g}".replace("-", "−")) for tick in axis.ticks()]
    return {"low": f"{axis.low:.8g}", "high": f"{axis.high:.8g}", "zero": f"{axis.at(0.0):.1f}", "ticks": ticks}


def _unit(catalogue: Catalogue, model: str) -> str:
    return AXIS[catalogue.scores[model][0].kind]


def _dots(catalogue: Catalogue, places: np.ndarray, wanted: Filter, x_axis: Axis, y_axis: Axis) -> list[dict[str, str]]:
    """One per example with two finite margins; those outside the filters are faint."""
    x_E, y_E = catalogue.margin[wanted.model], catalogue.margin[wanted.against]
    marked = set(places.tolist())
    return [
        {
            "style": _style(catalogue, place, wanted) + ("" if place in marked else " dim"),
            "id": example.id,
            "x": f"{x_axis.at(x_E[place]):.1f}",
            "y": f"{SIDE - y_axis.at(y_E[place]):.1f}",
            "words": _heading(catalogue, place, wanted),
        }
        for place, example in enumerate(catalogue.examples)
        if np.isfinite([x_E[place], y_E[place]]).all()
    ]


def _style(catalogue: Catalogue, place: int, wanted: Filter) -> str:
    """Which of the two models is right."""
    first, second = (bool(catalogue.right[model][wanted.metric][place]) for model in (wanted.model, wanted.against))
    return SIDES[first, second]


def _heading(catalogue: Catalogue, place: int, wanted: Filter) -> str:
    """The captions that identify an example."""
    if catalogue.one_image:
        return browse_one_image.heading(catalogue, place, wanted.model)
    return " / ".join(catalogue.examples[place].captions)


def _brush(box: MarginBox | None, x_axis: Axis, y_axis: Axis) -> dict[str, str] | None:
    """The rectangle in pixels; an open side reaches the plot's edge."""
    if box is None:
        return None
    left, right = _span(box.x_low, box.x_high, x_axis)
    bottom, top = _span(box.y_low, box.y_high, y_axis)
    sizes = {"x": left, "y": SIDE - top, "width": right - left, "height": top - bottom}
    return {name: f"{pixels:.1f}" for name, pixels in sizes.items()}


def _span(low: float, high: float, axis: Axis) -> tuple[float, float]:
    return 0.0 if low == -inf else axis.at(low), float(SIDE) if high == inf else axis.at(high)


def _ends(box: MarginBox | None) -> list[str]:
    """The four ends as the values of number fields; empty for an open side."""
    return [f"{end:.6g}" if isfinite(end) else "" for end in box or MarginBox()]


def _legend(counts: Mapping[str, int], wanted: Filter, models: tuple[NamedModel, NamedModel]) -> list[dict[str, Any]]:
    words = {way: way_words(way, models[0].title, models[1].title) for way in WAYS}
    return [
        bar_row(way, words[way], WHO[way], counts[way], counts, way == wanted.who, style) for way, style in WAYS.items()
    ]
