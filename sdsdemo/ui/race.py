"""The right half of the Fine-tune tab: the race, the six pictures, and what a screen reader hears of a run.

A run from another base, or on other data than Mini's validation set, does not take part in the race: it gets a curve
of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sdsdemo.app.job_states import EvaluationPoint, Job
from sdsdemo.errors import UserError
from sdsdemo.finetuning.objective_race import Race, read_race
from sdsdemo.finetuning.objective_words import OBJECTIVE_NAMES
from sdsdemo.ui import race_chart, training_curves, watched_pictures
from sdsdemo.ui.templates import render
from sdsdemo.ui.thumbnails import Thumbnails

SPOKEN = {
    "waiting": "Waiting for the runs before it.",
    "preparing": "The run has started: preparing.",
    "stopping": "Stopping.",
    "failed": "The run failed.",
    "interrupted": "The run was interrupted.",
}
METRIC = "text"


@dataclass(frozen=True, kw_only=True)
class RaceView:
    """The HTML of the race's parts."""

    chart: str
    pictures: str


def race_view(run: Job | None, thumbs: Thumbnails) -> RaceView:
    """The stored race with the visitor's run, if it takes part."""
    try:
        race = read_race()
        own = own_laps(run, race)
        pictures = watched_pictures.pictures_html(race, own, thumbs)
    except UserError as error:
        return RaceView(chart=render("parts.hint", sentence=str(error)), pictures="")
    raced = own if run is not None and takes_part(run, race) else []
    steps = run.recipe.steps if run is not None and raced else 0
    words = f"Your run: {OBJECTIVE_NAMES[run.recipe.objective]}" if run is not None else ""
    chart = render(
        "race.board",
        chart=race_chart.chart_html(race, raced, steps),
        key=race_chart.key_html(race, raced, words),
        source=_source(race),
        apart=_curve_of_its_own(run, race),
    )
    return RaceView(chart=chart, pictures=pictures)


def own_laps(run: Job | None, race: Race) -> list[EvaluationPoint]:
    """The evaluations of a run on the set of the race, from any base; none for a run on another set."""
    if run is None or not _is_on_its_set(run, race):
        return []
    return [point for point in run.evaluations if point.metric == METRIC and math.isfinite(point.value)]


def takes_part(run: Job, race: Race) -> bool:
    """Whether a run starts where those of the race start, and is evaluated as they are."""
    return run.recipe.base == race.base and _is_on_its_set(run, race)


def _is_on_its_set(run: Job, race: Race) -> bool:
    return run.recipe.is_mini and run.recipe.measure in ("", race.benchmark)


def _curve_of_its_own(run: Job | None, race: Race) -> str:
    if run is None or takes_part(run, race) or (run.is_over and not run.evaluations):
        return ""
    return training_curves.evaluations_svg(run.evaluations, run.recipe.steps)


def _source(race: Race) -> str:
    return render(
        "race.source", command=race.command, steps=f"{race.steps:,}", base="Mini CLIP", n=race.n, seed=race.seed
    )


def spoken(run: Job | None) -> str:
    """What a screen reader hears: that a run starts, each of its evaluations, and its end. Never each step."""
    if run is None:
        return ""
    last = f" Text score {100 * _last(run.evaluations):.1f} percent." if _is_scored(run.evaluations) else ""
    if run.state == "running":
        step = run.evaluations[-1].step if run.evaluations else 0
        return f"Training: step {step:,} of {run.recipe.steps:,}.{last}"
    if run.state in ("finished", "stopped"):
        return f"The run {run.state} at step {run.step:,}.{last}"
    return SPOKEN[run.state]


def _is_scored(points: Sequence[EvaluationPoint]) -> bool:
    return bool(points) and points[-1].metric == METRIC and math.isfinite(points[-1].value)


def _last(points: Sequence[EvaluationPoint]) -> float:
    return points[-1].value
