"""The race as a chart: text score by step, the stored run of each objective, and the visitor's own run over them.

Positions are percentages of the plot, so that it fits every width while its words keep their size. Knows no Gradio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdsdemo.app.job_states import EvaluationPoint
from sdsdemo.core.intervals import Proportion
from sdsdemo.evaluation import model_marks
from sdsdemo.evaluation.model_marks import Mark, mark_of
from sdsdemo.finetuning.objective_race import Race
from sdsdemo.finetuning.objective_words import OBJECTIVE_NAMES
from sdsdemo.ui.templates import render

OWN = "tuned"
"""The mark of a visitor's own model."""
CHANCE = 25.0
"""Text score of a guess, in percent."""
SLOTS = {"preference": 4, "sds": 2, "clip": 3, "labels": 1, "negatives": 0, "features": 5}
"""Marks of the objectives: lines that end close together have colours far apart."""
MARKS: dict[str, Mark] = {OWN: mark_of(OWN), **{name: model_marks.MARKS[slot] for name, slot in SLOTS.items()}}


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What the plot spans: steps from 0, and percent."""

    steps: int
    low: float
    high: float

    def x(self, step: int) -> float:
        """Percent from the left."""
        return 100 * min(1.0, step / max(1, self.steps))

    def y(self, percent: float) -> float:
        """Percent from the top."""
        return 100 * (1 - (percent - self.low) / (self.high - self.low))


def frame_of(race: Race, own: Sequence[EvaluationPoint], steps: int) -> Frame:
    """A frame for all scores with their intervals, and chance. steps: of the visitor's run; 0 for none."""
    shares = [share for laps in race.scores.values() for _, share in laps]
    lows = [CHANCE, *(100 * share.low for share in shares), *(100 * point.low for point in own)]
    highs = [*(100 * share.high for share in shares), *(100 * point.high for point in own)]
    return Frame(steps=max(race.steps, steps), low=5 * (min(lows) // 5), high=-5 * (-max(highs) // 5))


def chart_html(race: Race, own: Sequence[EvaluationPoint] = (), steps: int = 0) -> str:
    """The chart. own: the evaluations of the visitor's run, which is drawn on top of the others."""
    frame = frame_of(race, own, steps)
    lanes = [_lane(frame, name, race.scores[name]) for name in OBJECTIVE_NAMES if name in race.scores]
    return render(
        "race.chart",
        words=_said(race, own),
        lanes=lanes,
        own=_own(frame, own) if own else None,
        levels=[
            {"y": _at(frame.y(level)), "words": f"{level:g}"}
            for level in range(int(frame.low), int(frame.high) + 1, 5)
            if level % 10 == 0
        ],
        chance=_at(frame.y(CHANCE)),
        steps=[{"x": _at(frame.x(step)), "words": f"{step:,}"} for step in _ticks(frame.steps)],
    )


def key_html(race: Race, own: Sequence[EvaluationPoint] = (), words: str = "") -> str:
    """What each line is and where it ended, as a table. words: says what the visitor's run is doing."""
    rows = [
        {"objective": name, "mark": MARKS[name], "name": OBJECTIVE_NAMES[name], **_end(*race.scores[name][-1])}
        for name in OBJECTIVE_NAMES
        if name in race.scores
    ]
    mine = {**_end(own[-1].step, _share(own[-1])), "mark": MARKS[OWN], "name": words} if own else None
    return render("race.key", rows=rows, own=mine, start=_end(0, _start(race)), n=race.n, steps=f"{race.steps:,}")


def _lane(frame: Frame, name: str, laps: Sequence[tuple[int, Proportion]]) -> dict[str, Any]:
    """The line, band and last mark of an objective."""
    step, last = laps[-1]
    return {
        "objective": name,
        "mark": MARKS[name],
        "line": _line([(frame.x(k), frame.y(100 * share.value)) for k, share in laps]),
        "band": _band(frame, [(k, 100 * share.low, 100 * share.high) for k, share in laps]),
        "x": _at(frame.x(step)),
        "y": _at(frame.y(100 * last.value)),
    }


def _own(frame: Frame, own: Sequence[EvaluationPoint]) -> dict[str, Any]:
    places = [(frame.x(point.step), frame.y(100 * point.value)) for point in own]
    return {
        "mark": MARKS[OWN],
        "line": _line(places),
        "band": _band(frame, [(point.step, 100 * point.low, 100 * point.high) for point in own]),
        "dots": [{"x": _at(x), "y": _at(y)} for x, y in places],
    }


def _line(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in places)


def _band(frame: Frame, ends: Sequence[tuple[int, float, float]]) -> str:
    """The area between the lower and the upper ends of the intervals; a vertical line for one evaluation."""
    upper = [(frame.x(step), frame.y(high)) for step, _, high in ends]
    lower = [(frame.x(step), frame.y(low)) for step, low, _ in reversed(ends)]
    return _line([*upper, *lower]) + "Z"


def _end(step: int, share: Proportion) -> dict[str, str]:
    return {
        "step": f"{step:,}",
        "share": f"{100 * share.value:.1f}",
        "interval": f"[{100 * share.low:.0f}, {100 * share.high:.0f}]",
    }


def _share(point: EvaluationPoint) -> Proportion:
    return Proportion(value=point.value, low=point.low, high=point.high, n=point.n)


def _start(race: Race) -> Proportion:
    """The score of the base."""
    return next(iter(race.scores.values()))[0][1]


def _said(race: Race, own: Sequence[EvaluationPoint]) -> str:
    """The chart in words."""
    start = f"Text score by training step; all start at {100 * _start(race).value:.1f} percent."
    mine = f" Your run: {100 * own[-1].value:.1f} percent at step {own[-1].step:,}." if own else ""
    return start + mine


def _at(value: float) -> str:
    return f"{value:.2f}"


def _ticks(steps: int) -> list[int]:
    """Zero, the last step, and three between."""
    return [round(steps * part / 4) for part in range(5)]
