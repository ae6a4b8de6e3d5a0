"""The figures of the Results tab as SVG: where each dot, interval and line is. Colours come from the style sheet.

Every panel is 360 units wide, so that its text is as large on a phone as on a desk. A value's place is `Scale.at`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdsdemo.core.number_format import is_of_nothing, points_words, share_words, signed
from sdsdemo.evaluation.model_marks import Mark, marks_of
from sdsdemo.evaluation.result_schema import Result
from sdsdemo.ui.results_claims import Costed, cost_words, costed, score_name
from sdsdemo.ui.templates import render

WIDTH = 360
"""Of a panel, in units of its viewBox: about the pixels of a phone."""
NAMES, VALUES = 158, 44
"""Room for the models' names on the left, and for the value on the right."""
ROW, AXIS, TOP = 27, 26, 22
EFFECT_ROW = 58
COST_HEIGHT, COST_WIDTH, COST_LEFT = 280, 400, 36
METRICS_SHOWN = 3


@dataclass(frozen=True)
class Scale:
    """Values from low to high, at places from start to end; by their logarithm if `is_log`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """The place of a value."""
        low, high, value = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def _place(value: float) -> str:
    return f"{value:.1f}"


def gap_html(result: Result, conclusion: str) -> str:
    """A panel for each of the first three metrics: a dot and its interval for each model, and chance."""
    names = _best_first(result)
    marks = marks_of(result["models"])
    metrics = list(result["chance"])[:METRICS_SHOWN]
    panels = [gap_panel(result, metric, names, marks) for metric in metrics]
    return render("results_figures.gap", panels=panels, conclusion=conclusion, count=len(panels))


def _best_first(result: Result) -> list[str]:
    metric = next(iter(result["chance"]))

    def level(name: str) -> float:
        share = result["models"][name][metric]
        return -1.0 if is_of_nothing(share) else float(share["value"])

    return sorted(result["models"], key=level, reverse=True)


def gap_panel(result: Result, metric: str, names: Sequence[str], marks: Mapping[str, Mark]) -> dict[str, Any]:
    """One metric: rows in this order, on a scale from 0 to 100 %."""
    scale = Scale(0, 100, NAMES + 8, WIDTH - VALUES)
    shares = {name: result["models"][name][metric] for name in names}
    bottom = TOP + ROW * len(names)
    rows = [
        {"name": name, "mark": marks[name], "y": _place(TOP + ROW * (k + 0.5)), **_dot(shares[name], scale)}
        for k, name in enumerate(names)
    ]
    chance = 100 * result["chance"][metric]
    said = "; ".join(f"{name} {share_words(share)}" for name, share in shares.items())
    title = metric.replace("_", "-")
    return {
        "title": score_name(metric),
        "metric": metric,
        "words": f"{title}, percent with 95 % interval: {said}. Chance {chance:.1f}.",
        "size": {"width": WIDTH, "height": bottom + AXIS},
        "rows": rows,
        "chance": _place(scale.at(chance)),
        "ticks": [{"x": _place(scale.at(tick)), "words": f"{tick}"} for tick in (0, 50, 100)],
        "top": TOP,
        "bottom": bottom,
        "value_x": WIDTH - 2,
    }


def _dot(share: Mapping[str, Any], scale: Scale) -> dict[str, Any]:
    """Where a share and the ends of its interval are; no places for a share of nothing."""
    if is_of_nothing(share):
        return {"x": "", "low": "", "high": "", "value": "–"}
    x, low, high = (_place(scale.at(100 * share[key])) for key in ("value", "low", "high"))
    return {"x": x, "low": low, "high": high, "value": f"{100 * share['value']:.1f}"}


def effects_html(
    studies: Mapping[str, Sequence[Mapping[str, Any]]], conclusion: str, named: Callable[[str], str]
) -> str:
    """A forest plot: a panel for each study, all on one scale. studies: contrasts by title; named: a cell's name."""
    rows = [row for contrasts in studies.values() for row in contrasts]
    if not rows:
        return ""
    scale = _effects_scale(rows)
    panels = [effects_panel(title, contrasts, scale, named) for title, contrasts in studies.items() if contrasts]
    return render("results_figures.effects", panels=panels, conclusion=conclusion)


def _effects_scale(rows: Sequence[Mapping[str, Any]]) -> Scale:
    """In points, wide enough for every interval, base and zero."""
    ends = [100 * value for row in rows for value in (row["low"], row["high"], *row["by_base"])]
    low, high = math.floor(min(0.0, *ends) / 5) * 5, math.ceil(max(0.0, *ends) / 5) * 5
    return Scale(low, max(high, low + 5), 12, WIDTH - 56)


def effects_panel(
    title: str, contrasts: Sequence[Mapping[str, Any]], scale: Scale, named: Callable[[str], str]
) -> dict[str, Any]:
    """One study: for each contrast its two names, the effect with its interval, and a tick for each base."""
    bottom = EFFECT_ROW * len(contrasts)
    rows = []
    for k, found in enumerate(contrasts):
        x, low, high = (_place(scale.at(100 * found[key])) for key in ("value", "low", "high"))
        rows.append(
            {
                "x": x, "low": low, "high": high, "y": _place(EFFECT_ROW * k + 47),
                "name_y": _place(EFFECT_ROW * k + 16), "against_y": _place(EFFECT_ROW * k + 33),
                "name": named(found["cell"]),
                "against": named(found["control"]), "value": signed(found["value"]),
                "is_clear": found["low"] > 0 or found["high"] < 0,
                "bases": [_place(scale.at(100 * own)) for own in found["by_base"]],
            }
        )  # fmt: skip
    said = "; ".join(
        f"{row['name']} against {row['against']} {points_words(f)}" for row, f in zip(rows, contrasts, strict=True)
    )
    ticks = [tick for tick in range(-100, 101, 10) if scale.low <= tick <= scale.high]
    return {
        "title": title,
        "words": f"{title}: change of text score in points, with 95 % interval: {said}.",
        "size": {"width": WIDTH, "height": bottom + AXIS},
        "rows": rows,
        "zero": _place(scale.at(0)),
        "ticks": [{"x": _place(scale.at(tick)), "words": f"{tick:+d}" if tick else "0"} for tick in ticks],
        "bottom": bottom,
        "value_x": WIDTH - 2,
    }


def cost_html(result: Result, conclusion: str) -> str:
    """Score against milliseconds an example, on a logarithmic axis; empty if fewer than two models have both."""
    models = costed(result)
    if len(models) < 2:
        return ""
    said = "; ".join(f"{one.name} {cost_words(one)}, {share_words(one.share)}" for one in models)
    return render(
        "results_figures.cost",
        conclusion=conclusion,
        words=f"Percent right against milliseconds an example: {said}.",
        metric=score_name(next(iter(result["chance"]))),
        **cost_plot(models, result),
    )


def cost_plot(models: Sequence[Costed], result: Result) -> dict[str, Any]:
    """Where the dots, the axes and chance are, and the list beside them."""
    marks = marks_of(result["models"])
    across, up = _cost_scale(models), Scale(0, 100, COST_HEIGHT - AXIS, TOP)
    dots = [
        {
            "x": _place(across.at(one.milliseconds)), "mark": marks[one.name], "name": one.name,
            "y": _place(up.at(100 * one.share["value"])),
            **{key: _place(up.at(100 * one.share[key])) for key in ("low", "high")},
            "milliseconds": f"{one.milliseconds:,.0f}" if one.milliseconds >= 10 else f"{one.milliseconds:.1f}",
            "evaluations": f"{one.evaluations:g}", "value": f"{100 * one.share['value']:.1f}",
        }
        for one in models
    ]  # fmt: skip
    powers = range(math.ceil(math.log10(across.low) - 1e-9), math.floor(math.log10(across.high) + 1e-9) + 1)
    return {
        "dots": dots,
        "size": {"width": COST_WIDTH, "height": COST_HEIGHT},
        "left": COST_LEFT,
        "top": TOP,
        "bottom": COST_HEIGHT - AXIS,
        "across": [{"x": _place(across.at(10.0**power)), "words": f"{10.0**power:,g} ms"} for power in powers],
        "up": [{"y": _place(up.at(tick)), "words": str(tick)} for tick in (0, 25, 50, 75, 100)],
        "chance": _place(up.at(100 * next(iter(result["chance"].values())))),
    }


def _cost_scale(models: Sequence[Costed]) -> Scale:
    """From the power of ten below the fastest to that above the slowest."""
    low = 10.0 ** math.floor(math.log10(min(one.milliseconds for one in models)))
    high = 10.0 ** math.ceil(math.log10(max(one.milliseconds for one in models)) + 1e-9)
    return Scale(low, high, COST_LEFT, COST_WIDTH - 14, is_log=True)
