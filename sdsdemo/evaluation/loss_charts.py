"""Figures from plain records. Never shows or saves one, and knows neither models nor pages.

Backgrounds are transparent and grid lines half-transparent grey, so that one figure reads on light and on dark; the
page's style sheet colours the text. Two captions differ by colour *and* by dash. Captions are escaped: plotly reads a
subset of HTML in every text.

Shapes: C caption, T timestep, N noise draw.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sdsdemo.core.intervals import PairedDifference, paired_difference

Figure = go.Figure
"""What every function here returns."""

COLOURS = ("#2563eb", "#d97706", "#0d9488", "#9333ea", "#dc2626", "#65a30d", "#0891b2", "#64748b")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")
SYMBOLS = ("circle", "diamond", "square", "x", "triangle-up", "cross", "star", "pentagon")
GRID = "rgba(128, 128, 128, 0.22)"
ZERO = "rgba(128, 128, 128, 0.9)"
FONT = "'Source Sans Pro', ui-sans-serif, system-ui, sans-serif"
PANEL_HEIGHT = 300
FRAME_HEIGHT = 80
LOG_FROM_RATIO = 20.0
"""Losses that span more than this are drawn on a logarithmic axis: at low noise they are many times larger."""
NO_BAND = "no band: it takes two noise draws a timestep, or two pairs"
ROOM_AROUND = 0.16
"""Share of the difference's range left free above and below."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What one denoising model measured for one picture."""

    model: str
    timestep_T: np.ndarray
    loss_CTN: np.ndarray
    """Draws that every caption got."""
    space: str = "eps"
    antithetic: bool = False


def loss_by_timestep(curves: Sequence[Curves], captions: Sequence[str]) -> go.Figure:
    """The denoising loss of every caption over the timesteps, one panel per model: the mean over the noise draws."""
    figure = _panels(curves, "denoising loss")
    for row, curve in enumerate(curves, start=1):
        mean_CT = curve.loss_CTN.astype(np.float64).mean(axis=2)
        for c, caption in enumerate(captions):
            figure.add_scatter(
                x=curve.timestep_T.tolist(),
                y=mean_CT[c].tolist(),
                name=_label(c, caption),
                mode="lines+markers",
                line={"color": COLOURS[c], "dash": DASHES[c], "width": 2.5},
                marker={"symbol": SYMBOLS[c], "size": 7},
                showlegend=row == 1,
                legendgroup=str(c),
                hovertemplate=f"{_letter(c)}: %{{y:.4g}}<extra></extra>",
                row=row,
                col=1,
            )
        if _spans_decades(mean_CT):
            figure.update_yaxes(type="log", tickvals=_log_ticks(mean_CT), tickformat="~g", row=row, col=1)
    return figure


def _log_ticks(value: np.ndarray) -> list[float]:
    """1, 2 and 5 of every decade that the values lie in, written out: Plotly would print a bare 2 and 5."""
    low, high = (math.floor(math.log10(bound)) for bound in (value.min(), value.max()))
    return [float(f"{step}e{power}") for power in range(low, high + 1) for step in (1, 2, 5)]


def difference_by_timestep(curves: Sequence[Curves]) -> go.Figure:
    """Loss of B minus loss of A over the timesteps with its 95 % band, one panel per model. Above zero favours A.

    Both captions meet the same noise, so the band is that of the *paired* difference; with one noise draw a timestep
    there is no band (`intervals.paired_difference`).
    """
    figure = _panels(curves, "loss of B − loss of A")
    for row, curve in enumerate(curves, start=1):
        paired = paired_difference(curve.loss_CTN[0], curve.loss_CTN[1], antithetic=curve.antithetic)
        x = curve.timestep_T.tolist()
        if np.isfinite(paired.low_T).all() and np.isfinite(paired.high_T).all():
            _add_band(figure, x, paired.low_T.tolist(), paired.high_T.tolist(), row)
        else:
            _add_note(figure, NO_BAND, 0.005, 0.99, "left", "top", row)
        figure.add_scatter(
            x=x,
            y=paired.mean_T.tolist(),
            name="loss of B − loss of A",
            mode="lines+markers",
            line={"color": "#64748b", "width": 2.5},
            marker={"size": 9, "color": [_favours(value) for value in paired.mean_T], "symbol": "circle"},
            showlegend=False,
            hovertemplate="B − A: %{y:.3g}<extra></extra>",
            row=row,
            col=1,
        )
        figure.update_yaxes(range=_range_around_zero(paired), row=row, col=1)
        figure.add_hline(y=0, line={"color": ZERO, "width": 1.5}, row=row, col=1)
        _add_sides(figure, row)
    return figure


def _panels(curves: Sequence[Curves], y_title: str) -> go.Figure:
    """An empty figure with one panel per model, stacked so that a phone shows them too."""
    count = max(len(curves), 1)
    titles = [html.escape(curve.model) for curve in curves] if count > 1 else None
    figure = make_subplots(rows=count, cols=1, subplot_titles=titles, vertical_spacing=0.24 / count)
    figure.update_layout(
        height=FRAME_HEIGHT + PANEL_HEIGHT * count,
        margin={"l": 62, "r": 14, "t": 44, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 14},
        hovermode="x unified",
        hoverlabel={"bgcolor": "rgba(248,250,252,0.97)", "font": {"color": "#0f172a"}},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "yref": "paper"},
        dragmode=False,
    )
    figure.update_xaxes(gridcolor=GRID, linecolor=GRID, zeroline=False, ticks="outside", tickcolor=GRID)
    figure.update_yaxes(gridcolor=GRID, linecolor=GRID, zeroline=False, title=_title(y_title))
    figure.update_xaxes(title=_title("timestep: little noise → a lot of noise"), row=count, col=1)
    return figure


def _title(text: str) -> dict[str, object]:
    return {"text": text, "standoff": 8, "font": {"size": 14}}


def _add_band(figure: go.Figure, x: list[float], low: list[float], high: list[float], row: int) -> None:
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "legendgroup": "band"}
    figure.add_scatter(x=x, y=high, showlegend=False, **edge, row=row, col=1)
    figure.add_scatter(
        x=x,
        y=low,
        fill="tonexty",
        fillcolor="rgba(148, 163, 184, 0.36)",
        name="95 % band",
        showlegend=row == 1,
        **edge,
        row=row,
        col=1,
    )


def _add_sides(figure: go.Figure, row: int) -> None:
    """Says in the panel's corners which side of zero favours which caption."""
    _add_note(figure, "▲ favours A", 0.995, 0.99, "right", "top", row)
    _add_note(figure, "▼ favours B", 0.995, 0.01, "right", "bottom", row)


def _add_note(figure: go.Figure, text: str, x: float, y: float, xanchor: str, yanchor: str, row: int) -> None:
    figure.add_annotation(
        text=text, x=x, y=y, xref="x domain", yref="y domain", xanchor=xanchor, yanchor=yanchor, showarrow=False,
        font={"size": 13}, row=row, col=1,
    )  # fmt: skip


def _range_around_zero(paired: PairedDifference) -> list[float] | None:
    """The band with zero and some room on both sides, so that both corners have something to say."""
    values = np.concatenate([paired.low_T, paired.mean_T, paired.high_T, [0.0]])
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    room = ROOM_AROUND * (high - low)
    return [low - room, high + room] if room > 0 else None


def _spans_decades(value_CT: np.ndarray) -> bool:
    return bool(np.isfinite(value_CT).all() and value_CT.min() > 0 and value_CT.max() > LOG_FROM_RATIO * value_CT.min())


def _favours(difference: float) -> str:
    return COLOURS[0] if difference > 0 else COLOURS[1] if difference < 0 else "#64748b"


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _label(index: int, caption: str, longest: int = 44) -> str:
    short = caption if len(caption) <= longest else caption[: longest - 1].rstrip() + "…"
    return f"{_letter(index)}: {html.escape(short)}"
