"""The state of a visitor's fine-tuning run: a snapshot for the page, which can be read back from the run's folder.

    asked.json    the recipe as requested, written before the run starts; beside the files of `FineTuningFolder`

So a run survives a restart of the server, and an interrupted one knows which step it resumes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from sdsdemo.errors import UserError
from sdsdemo.finetuning import events
from sdsdemo.finetuning.events import Event, smoothed
from sdsdemo.finetuning.recipe import Recipe, from_stored
from sdsdemo.finetuning.run_folder import INTERRUPTED, FineTuningFolder
from sdsdemo.finetuning.run_schema import EvaluationRow, Plain
from sdsdemo.models.delta_header import read_header
from sdsdemo.runtime import files
from sdsdemo.runtime.shapes import shaped
from sdsdemo.types import Card

REQUEST = "asked.json"
ENDED = ("finished", "stopped", "failed", INTERRUPTED)
MOST_POINTS = 500
"""Most points of the loss curve kept for the page; beyond that, every second one is dropped."""
NO_LOSSES = ("step", "gradient", "s")
"""Fields of a step in the log other than its losses."""
DAMAGED = "The files of this run are damaged, so it cannot resume: start another one."
NO_SPACE = "The run cannot be stored ({why}): free space on the server's disk, or set SDSDEMO_CACHE to another folder."


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
    pictures: str = ""
    """As in `Evaluated`."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A snapshot of a run; it never changes."""

    id: str
    recipe: Recipe
    state: str = "waiting"
    """waiting, preparing, running, stopping, and at the end one of ENDED."""
    ahead: int = 0
    """Runs ahead of it in the queue."""
    text: str = ""
    """What it is doing, outside the training steps."""
    done: int = 0
    total: int = 0
    step: int = 0
    saved_step: int = 0
    """The step that an interrupted run resumes from."""
    begun_at: int = 0
    """Steps done before this part of the run."""
    seconds: float = 0.0
    """Wall-clock time of this part's steps so far."""
    device: str = ""
    points: tuple[Point, ...] = ()
    evaluations: tuple[EvaluationPoint, ...] = ()
    """In the order of their steps. Each part of a run evaluates the base again, at step 0."""
    notices: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    written: bool = False
    """Whether the weights have been saved."""
    version: int = 0
    """Increases with every change."""

    @property
    def is_over(self) -> bool:
        return self.state in ENDED

    @property
    def can_resume(self) -> bool:
        """Whether it is over and has steps left, or may be given more; not if it failed before its first step."""
        return self.is_over and (self.state != "failed" or self.step > 0)

    @property
    def rate(self) -> float:
        """Steps per second; 0 while unknown."""
        made = self.step - self.begun_at
        return made / self.seconds if made > 0 and self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds of training left; None while unknown."""
        return (self.recipe.steps - self.step) / self.rate if self.rate else None


def resumed(stored: Job, recipe: Recipe) -> Job:
    """A run that waits to continue from its last checkpoint. Until it begins it keeps what its earlier part saved."""
    step = stored.saved_step
    return replace(
        stored,
        recipe=recipe,
        state="waiting",
        text="waiting",
        done=0,
        total=0,
        step=step,
        begun_at=0,
        seconds=0.0,
        points=tuple(point for point in stored.points if point.step <= step),
        evaluations=tuple(one for one in stored.evaluations if one.step <= step),
        notices=(),
        reason="",
    )


def changes_by(event: Event, run: Job) -> dict[str, Any]:
    """The fields of a run that a training event changes. A run asked to stop stays "stopping" until it has stopped."""
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
                "points": extended(run.points, event.step, event.losses),
            }
        case events.Evaluated(share=share):
            evaluation = EvaluationPoint(
                step=event.step, value=share.value, low=share.low, high=share.high, n=share.n, metric=event.metric,
                pictures=event.pictures,
            )  # fmt: skip
            others = (old for old in run.evaluations if old.step != evaluation.step)
            return {"evaluations": tuple(sorted((*others, evaluation), key=lambda one: one.step))}
        case events.Notice():
            return {"notices": (*run.notices, event.text)}
        case events.WeightsSaved():
            return {"written": True}
        case events.Done():
            record, saved_step = dict(event.record), event.record.get("steps_done", run.step)
            return {"state": event.state, "record": record, "reason": event.reason, "saved_step": saved_step}


class StoredRequest(TypedDict):
    """asked.json."""

    recipe: dict[str, Plain]
    withdrawn: bool
    """Whether the visitor withdrew it from the queue."""


def write_request(folder: Path, recipe: Recipe, *, withdrawn: bool = False) -> None:
    """Store a visitor's request. Raises `UserError` if it cannot be written."""
    request = StoredRequest(recipe=recipe.as_dict(), withdrawn=withdrawn)
    with room_in_words():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.write_json(folder / REQUEST, request)


@contextmanager
def room_in_words() -> Iterator[None]:
    """In here what a disk says that takes nothing becomes a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(NO_SPACE.format(why=error.strerror or "the disk may be full")) from error


def read(folder: Path, id_: str) -> Job | None:
    """The state of the run in a folder; None if the folder holds no request. Never raises for a damaged file."""
    try:
        request: StoredRequest = shaped(files.from_json((folder / REQUEST).read_bytes()), StoredRequest)
        recipe = from_stored(request["recipe"])
    except (OSError, ValueError, UserError):
        return None
    stored = FineTuningFolder(folder)
    if not stored.exists:
        return Job(id=id_, recipe=recipe, state="stopped" if request["withdrawn"] else INTERRUPTED)
    try:
        fresh = Job(id=id_, recipe=recipe, written=stored.model.is_file())
        run = _with_record(stored.read(), stored.log(), recipe, fresh)
    except UserError:
        return Job(id=id_, recipe=recipe, state="failed", reason=DAMAGED)
    if run.state == "finished" and run.step < recipe.steps:  # further steps were requested but had not begun
        return replace(run, state="stopped" if request["withdrawn"] else INTERRUPTED)
    return run


def _with_record(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], recipe: Recipe, run: Job) -> Job:
    """The run, completed from its record and its log."""
    saved_step, state = record.get("steps_done", 0), record["state"]
    rows = [row for row in rows if 0 <= row["step"] <= recipe.steps]
    points = _points(rows)
    last = points[-1].step if points else 0
    return replace(
        run,
        state=state,
        step=last if state == INTERRUPTED else saved_step,
        saved_step=saved_step,
        device=record.get("device", ""),
        points=points,
        evaluations=_evaluations(rows),
        record=record,
        reason=record.get("reason", ""),
    )


def _points(rows: Sequence[Mapping[str, Any]]) -> tuple[Point, ...]:
    """Points of the steps whose losses are complete."""
    found: tuple[Point, ...] = ()
    for row in rows:
        losses = {name: value for name, value in row.items() if name not in NO_LOSSES and isinstance(value, float)}
        if "what" not in row and "loss" in losses and (not found or losses.keys() == found[0].losses.keys()):
            found = extended(found, row["step"], losses)
    return found


def _evaluations(rows: Sequence[Mapping[str, Any]]) -> tuple[EvaluationPoint, ...]:
    found = []
    for row in rows:
        if row.get("what") == "look":
            with suppress(ValueError):
                held: EvaluationRow = shaped(dict(row), EvaluationRow)
                found.append(
                    EvaluationPoint(
                        step=held["step"], value=held["value"], low=held["low"], high=held["high"], n=held["n"],
                        metric=held["metric"], pictures=held.get("pictures", ""),
                    )
                )  # fmt: skip
    return tuple(found)


def extended(points: tuple[Point, ...], step: int, losses: Mapping[str, float]) -> tuple[Point, ...]:
    """The curve with one more step, smoothed, and thinned if it would be too long.

    A step seen before, in a part of the run that was interrupted, replaces the points from there on.
    """
    if points and points[-1].step >= step:
        points = tuple(point for point in points if point.step < step)
    last = points[-1].smoothed if points else losses["loss"]
    point = Point(step=step, losses=dict(losses), smoothed=smoothed(last, losses["loss"]))
    return (*points, point) if len(points) < MOST_POINTS else (*points[::2], point)


def tuned_card(name: str, path: Path, base: Card, run: Job) -> Card:
    """The card of a visitor's model, with the steps of its weights: the run may have trained on since."""
    steps = run.step
    with suppress(UserError):
        steps = read_header(path).get("steps_done", steps)
    return replace(
        base,
        name=name,
        title=f"Tuned here: {run.recipe.objective}, {steps} steps",
        family="sds-clip",
        spec=f"sds-clip:{path}",
        base=base.name,
        summary=f"{base.title} fine-tuned by a visitor of this page, with the objective {run.recipe.objective}.",
        download=False,
        mini=False,
        published=(),
    )
