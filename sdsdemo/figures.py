"""Figures for a paper, through matplotlib: from a result to the bytes of a file. Shows nothing, keeps nothing.

Objects only, never pyplot: its current figure would be shared by every visitor.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

COLOURS = ("#2563eb", "#d97706", "#0d9488", "#9333ea", "#64748b", "#dc2626", "#65a30d", "#0891b2")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")
"""Models differ by more than colour."""


def shares_figure(result: Mapping[str, Any]) -> Figure:
    """Percent right by metric, a bar a model with its 95 % interval, and chance as a dashed line."""
    metrics, models = list(result["chance"]), list(result["models"].items())
    figure = Figure(figsize=(1.2 + 1.9 * len(metrics), 3.4), layout="constrained")
    axes = figure.add_subplot()
    wide = 0.8 / len(models)
    for m, (name, entry) in enumerate(models):
        x = [k + (m - (len(models) - 1) / 2) * wide for k in range(len(metrics))]
        shares = [entry[metric] for metric in metrics]
        height = [100 * share["value"] for share in shares]
        error = [
            [100 * (share["value"] - share["low"]) for share in shares],
            [100 * (share["high"] - share["value"]) for share in shares],
        ]
        axes.bar(
            x, height, wide * 0.92, label=name, color=COLOURS[m % len(COLOURS)], hatch=HATCHES[m % len(HATCHES)],
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


def save_shares(result: Mapping[str, Any], kind: str) -> bytes:
    """`shares_figure` as the bytes of a `png` (300 dpi) or an `svg` file."""
    stream = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    shares_figure(result).savefig(stream, format=kind, dpi=300, metadata=metadata)
    return stream.getvalue()
