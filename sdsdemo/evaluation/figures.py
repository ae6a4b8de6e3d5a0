"""Figures for a paper, by matplotlib: from a result to the bytes of a file. Shows and stores nothing.

Objects only, never pyplot: its current figure would be shared by every visitor.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from sdsdemo.evaluation.model_marks import marks_of
from sdsdemo.evaluation.result_schema import Result

COLOURS = ("#2563eb", "#d97706", "#0d9488", "#9333ea", "#64748b", "#dc2626", "#65a30d", "#0891b2")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")
STYLES = ("-", "--", ":", "-.")
"""Models differ by more than colour."""
NOTHING = {"value": 0.0, "low": 0.0, "high": 0.0}
"""Shown for a share of zero examples."""


def shares_figure(result: Result) -> Figure:
    """Percent right by metric, one bar per model with its 95 % interval; chance is dashed."""
    metrics, models = list(result["chance"]), list(result["models"].items())
    figure = Figure(figsize=(1.2 + 1.9 * len(metrics), 3.4), layout="constrained")
    axes = figure.add_subplot()
    wide = 0.8 / len(models)
    marks = marks_of(result["models"])
    for m, (name, entry) in enumerate(models):
        x = [k + (m - (len(models) - 1) / 2) * wide for k in range(len(metrics))]
        shares = [entry[metric] if entry[metric]["n"] else NOTHING for metric in metrics]
        height = [100 * share["value"] for share in shares]
        error = [
            [100 * (share["value"] - share["low"]) for share in shares],
            [100 * (share["high"] - share["value"]) for share in shares],
        ]
        axes.bar(
            x, height, wide * 0.92, label=name, color=marks[name].colour, hatch=HATCHES[marks[name].slot],
            edgecolor="white", linewidth=0.5, yerr=error, capsize=2, error_kw={"lw": 1, "ecolor": "#0f172a"},
        )  # fmt: skip
    for k, metric in enumerate(metrics):
        chance = 100 * result["chance"][metric]
        axes.plot(
            [k - 0.45, k + 0.45], [chance, chance], ls="--", lw=1, color="#0f172a", label="chance" if k == 0 else None
        )
    axes.set_xticks(range(len(metrics)), [metric.replace("_", "-") for metric in metrics])
    axes.set_ylabel(f"percent right, n = {result['n']}")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def curves_figure(panels: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> Figure:
    """Learning curves: one panel per title, each model's loss by step, on a log axis."""
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(3.3 * across, 2.7 * down), layout="constrained")
    every = figure.subplots(down, across, squeeze=False).flatten()
    _ = [axes.set_axis_off() for axes in every[len(panels) :]]
    for axes, (title, curves) in zip(every, panels.items(), strict=False):
        for k, (name, points) in enumerate(curves.items()):
            step, loss = [point["step"] for point in points], [point["loss"] for point in points]
            axes.plot(step, loss, color=COLOURS[k % len(COLOURS)], ls=STYLES[k % len(STYLES)], lw=1.3, label=name)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
        axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7)
    return figure


def by_share_figure(rows: Sequence[Mapping[str, Any]], chance: float) -> Figure:
    """Text score against the share of tag-like captions. rows: `share`, and `value`, `low`, `high` of a proportion."""
    figure = Figure(figsize=(4.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    x, y = [100 * row["share"] for row in rows], [100 * row["value"] for row in rows]
    error = [[100 * (row["value"] - row["low"]) for row in rows], [100 * (row["high"] - row["value"]) for row in rows]]
    axes.errorbar(x, y, yerr=error, color=COLOURS[0], marker="o", ms=4, lw=1.3, capsize=2)
    axes.axhline(100 * chance, ls="--", lw=1, color="#0f172a")
    axes.annotate("chance", (max(x), 100 * chance), ha="right", va="bottom", fontsize=8)
    axes.set_xlabel("percent of the captions that are tags in random order", fontsize=8)
    axes.set_ylabel(f"text score, n = {rows[0]['n']}", fontsize=8)
    axes.set_ylim(0, None)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def effects_figure(contrasts: Sequence[Mapping[str, Any]]) -> Figure:
    """Effects on the text score with 95 % intervals, one row per contrast; small marks show each base."""
    figure = Figure(figsize=(6.4, 0.6 + 0.42 * len(contrasts)), layout="constrained")
    axes = figure.add_subplot()
    for row, found in enumerate(contrasts):
        value, low, high = (100 * found[key] for key in ("value", "low", "high"))
        axes.plot([100 * own for own in found["by_base"]], [row] * len(found["by_base"]), "|", ms=9, color="#94a3b8")
        axes.errorbar(value, row, xerr=[[value - low], [high - value]], color=COLOURS[0], marker="o", ms=5, capsize=2.5)
    axes.axvline(0, lw=1, color="#0f172a")
    axes.set_yticks(
        range(len(contrasts)), [f"{found['cell']}  -  {found['control']}" for found in contrasts], fontsize=8
    )
    axes.set_ylim(len(contrasts) - 0.5, -0.5)
    axes.set_xlabel("points of text score, 95 % interval; marks: each base", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def saved(figure: Figure, kind: str, dpi: int = 300) -> bytes:
    """A figure as the bytes of a `png` or `svg` file, without a timestamp."""
    stream = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    figure.savefig(stream, format=kind, dpi=dpi, metadata=metadata)
    return stream.getvalue()


def save_shares(result: Result, kind: str) -> bytes:
    """`shares_figure` as the bytes of a `png` (300 dpi) or an `svg` file."""
    return saved(shares_figure(result), kind)
