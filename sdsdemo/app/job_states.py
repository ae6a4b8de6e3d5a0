"""What is known of a visitor's fine-tuning run: a snapshot for the page, and the same read back from the run's folder.

    asked.json    the recipe as it was asked for, written before the run starts; beside the files of `TuningFolder`

So a run is found again after the server was started anew, and one that its end cut short says where it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from sdsdemo.errors import UserError
from sdsdemo.finetuning import events
from sdsdemo.finetuning.events import Event
from sdsdemo.finetuning.recipe import Recipe, from_stored
from sdsdemo.finetuning.run_folder import INTERRUPTED, TuningFolder
from sdsdemo.finetuning.run_schema import EvaluationRow, Plain
from sdsdemo.runtime import files
from sdsdemo.runtime.shapes import shaped

ASKED = "asked.json"
ENDED = ("finished", "stopped", "failed", INTERRUPTED)
MOST_POINTS = 500
"""Points of the loss curve that are kept for the page; beyond, every second one goes."""
PAST = 0.9
"""Weight of the past in the smoothed loss."""
NO_LOSSES = ("step", "gradient", "s")
"""What a line of the log says of a step beside its losses."""
DAMAGED = "The files of this run are damaged, and it cannot go on: start another one."
NO_ROOM = "The run cannot be kept ({why}): make room on the server's disk, or set SDSDEMO_CACHE to another folder."


@dataclass(frozen=True, kw_only=True)
class Point:
    """The losses of one step."""

    step: int
    losses: Mapping[str, float]
    smoothed: float


@dataclass(frozen=True, kw_only=True)
class EvaluationPoint:
    """Held-out accuracy at one step."""

    step: int
    value: float
    low: float
    high: float
    n: int
    metric: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is known of a run now. A snapshot: it never changes."""

    id: str
    recipe: Recipe
    state: str = "waiting"
    """waiting, preparing, running, stopping, and at the end one of ENDED."""
    place: int = 0
    """Runs before it, while it waits."""
    text: str = ""
    """What it is at, where that is no step."""
    done: int = 0
    total: int = 0
    step: int = 0
    kept: int = 0
    """The step that an interrupted run goes on from."""
    begun_at: int = 0
    """Steps that were made before this part of the run."""
    seconds: float = 0.0
    """Wall-clock time of the steps of this part so far."""
    device: str = ""
    points: tuple[Point, ...] = ()
    evaluations: tuple[EvaluationPoint, ...] = ()
    told: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    written: bool = False
    """Whether the weights are in their file."""
    version: int = 0
    """Grows with every change."""

    @property
    def is_over(self) -> bool:
        return self.state in ENDED

    @property
    def can_go_on(self) -> bool:
        """Whether it is over and has steps to make, or may be given more. A failure before the first step has none."""
        return self.is_over and (self.state != "failed" or self.step > 0)

    @property
    def rate(self) -> float:
        """Steps a second; 0 while it is not known."""
        made = self.step - self.begun_at
        return made / self.seconds if made > 0 and self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds of training that are left."""
        return (self.recipe.steps - self.step) / self.rate if self.rate else None


def changes_by(event: Event, run: Job) -> dict[str, Any]:
    """The fields of a run that an event of its training changes. One that is to stop says so until it has."""
    stopping = run.state == "stopping"
    match event:
        case events.DeviceChosen():
            return {"device": event.device}
        case events.Working():
            state = run.state if run.state in ("stopping", "running") else "preparing"
            return {"state": state, "text": event.text, "done": event.done, "total": event.total}
        case events.Step():
            return {
                "state": "stopping" if stopping else "running",
                "text": "",
                "total": 0,
                "step": event.step,
                "begun_at": run.begun_at if run.seconds else event.step - 1,
                "seconds": event.seconds,
                "points": longer(run.points, event.step, event.losses),
            }
        case events.Evaluated(share=share):
            evaluation = EvaluationPoint(
                step=event.step, value=share.value, low=share.low, high=share.high, n=share.n, metric=event.metric
            )
            return {"evaluations": (*(old for old in run.evaluations if old.step != evaluation.step), evaluation)}
        case events.Notice():
            return {"told": (*run.told, event.text)}
        case events.WeightsSaved():
            return {"written": True}
        case events.Done():
            record, kept = dict(event.record), event.record.get("steps_done", run.step)
            return {"state": event.state, "record": record, "reason": event.reason, "kept": kept}


class Asked(TypedDict):
    """asked.json."""

    recipe: dict[str, Plain]
    withdrawn: bool
    """Whether the visitor took it from the queue."""


def write_asked(folder: Path, recipe: Recipe, *, withdrawn: bool = False) -> None:
    """Keep what a visitor asked for. Raises `UserError` where the disk does not take it."""
    asked = Asked(recipe=recipe.as_dict(), withdrawn=withdrawn)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.write_whole(folder / ASKED, files.to_json(asked, indent=1) + "\n")
    except OSError as error:
        raise UserError(NO_ROOM.format(why=error.strerror)) from error


def read(folder: Path, id_: str) -> Job | None:
    """A run as its folder tells of it; None where none was asked for there. Never raises for a damaged file."""
    try:
        asked: Asked = shaped(files.from_json((folder / ASKED).read_bytes()), Asked)
        recipe = from_stored(asked["recipe"])
    except (OSError, ValueError, UserError):
        return None
    kept = TuningFolder(folder)
    if not kept.exists:
        return Job(id=id_, recipe=recipe, state="stopped" if asked["withdrawn"] else INTERRUPTED)
    try:
        run = _told_by(kept.read(), kept.log(), recipe, Job(id=id_, recipe=recipe, written=kept.model.is_file()))
    except UserError:
        return Job(id=id_, recipe=recipe, state="failed", reason=DAMAGED)
    if run.state == "finished" and run.step < recipe.steps:  # more were asked for, and had not begun
        return replace(run, state="stopped" if asked["withdrawn"] else INTERRUPTED)
    return run


def _told_by(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], recipe: Recipe, run: Job) -> Job:
    """The run with what its record and its log say."""
    kept, state = record.get("steps_done", 0), record["state"]
    rows = [row for row in rows if 0 <= row["step"] <= recipe.steps]
    points = _points(rows)
    last = points[-1].step if points else 0
    return replace(
        run,
        state=state,
        step=last if state == INTERRUPTED else kept,
        kept=kept,
        device=record.get("device", ""),
        points=points,
        evaluations=_evaluations(rows),
        record=record,
        reason=record.get("reason", ""),
    )


def _points(rows: Sequence[Mapping[str, Any]]) -> tuple[Point, ...]:
    """Of the steps whose losses are all there."""
    found: tuple[Point, ...] = ()
    for row in rows:
        losses = {name: value for name, value in row.items() if name not in NO_LOSSES and isinstance(value, float)}
        if "what" not in row and "loss" in losses and (not found or losses.keys() == found[0].losses.keys()):
            found = longer(found, row["step"], losses)
    return found


def _evaluations(rows: Sequence[Mapping[str, Any]]) -> tuple[EvaluationPoint, ...]:
    found = []
    for row in rows:
        if row.get("what") == "look":
            with suppress(ValueError):
                held: EvaluationRow = shaped(dict(row), EvaluationRow)
                found.append(EvaluationPoint(**{name: held[name] for name in EvaluationPoint.__dataclass_fields__}))  # type: ignore[literal-required]
    return tuple(found)


def longer(points: tuple[Point, ...], step: int, losses: Mapping[str, float]) -> tuple[Point, ...]:
    """The curve with one more step, smoothed, and thinned where it would be too long.

    A step that was made before, by a part of the run that was cut, takes the place of what was drawn from there on.
    """
    if points and points[-1].step >= step:
        points = tuple(point for point in points if point.step < step)
    last = points[-1].smoothed if points else losses["loss"]
    point = Point(step=step, losses=dict(losses), smoothed=PAST * last + (1 - PAST) * losses["loss"])
    return (*points, point) if len(points) < MOST_POINTS else (*points[::2], point)
