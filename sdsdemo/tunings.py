"""Fine-tuning runs that visitors start from the page: one trains, a few wait, each is known by its own id alone.

A run belongs to whoever holds its id, which cannot be guessed; it goes on when the page is closed, and is found again
by its id. Limits are checked here, whatever the page's fields allow. The published models are never touched: a run has
a folder of its own, and its model is lent to the workbench under the run's name. Knows no page.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sdsdemo import zerogpu
from sdsdemo.errors import UserError, calling
from sdsdemo.models import cards
from sdsdemo.recipes import MINI, Recipe
from sdsdemo.runs import read_run
from sdsdemo.settings import ASSETS, FINETUNING, Settings, budget
from sdsdemo.types import Card
from sdsdemo.workbench import Workbench

log = logging.getLogger(__name__)

ROOT = Path(tempfile.gettempdir()) / "sdsdemo-runs"
ENDED = ("finished", "stopped", "failed")
TUNED = "tuned:"
MINI_CARD = "mini-"
"""How the name of a visitor's model begins."""
MOST_POINTS = 500
"""Points of the loss curve that are kept for the page; beyond, every second one goes."""
SHIPPED_RUN = "mini/runs/mini"
PAST = 0.9
"""Weight of the past in the smoothed loss."""
NOT_YOURS = "This run is not known here: its files are deleted after a day, or the server was started anew."
FULL = "{count} runs are waiting already: try again in some minutes, or run the command on your own machine."
OFF = (
    "Fine-tuning is off on this page: it has no GPU, and many visitors. Run it on your own machine, or duplicate the "
    "Space and set SDSDEMO_TRAINING=on."
)
OUR_FAULT = "The run failed, and the fault is ours: the log says more. What was learned until then is kept."
ONLY_MINI = "On a public page only the Mini world can be trained on: run the command on your own machine instead."

Runner = Callable[..., Iterator[Any]]


@dataclass(frozen=True, kw_only=True)
class Point:
    """The losses of one step."""

    step: int
    losses: Mapping[str, float]
    smoothed: float


@dataclass(frozen=True, kw_only=True)
class LookPoint:
    """Held-out accuracy at one step."""

    step: int
    value: float
    low: float
    high: float
    n: int
    metric: str


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is known of a run now. A snapshot: it never changes."""

    id: str
    recipe: Recipe
    state: str = "waiting"
    """waiting, preparing, running, stopping, and at the end one of ENDED."""
    place: int = 0
    """Runs before it, while it waits."""
    text: str = ""
    """What is being prepared."""
    done: int = 0
    total: int = 0
    step: int = 0
    seconds: float = 0.0
    """Wall-clock time of the steps so far."""
    device: str = ""
    points: tuple[Point, ...] = ()
    looks: tuple[LookPoint, ...] = ()
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
    def rate(self) -> float:
        """Steps a second; 0 while it is not known."""
        return self.step / self.seconds if self.step and self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds of training that are left."""
        return (self.recipe.steps - self.step) / self.rate if self.rate else None


class Tunings:
    """The runs of one server. Safe to share between threads."""

    def __init__(self, workbench: Workbench, root: Path | None = None, runner: Runner | None = None) -> None:
        """runner: `finetuning.finetune`, or a stand-in with the same events."""
        self.workbench = workbench
        self.root = root or ROOT / str(os.getpid())
        self._runner = runner or _finetune
        self._runs: dict[str, Tuning] = {}
        self._ended: deque[tuple[float, str]] = deque()
        self._waiting: deque[str] = deque()
        self._running = ""
        self._changed = threading.Condition()
        self._evaluating = threading.Lock()
        self._worker: threading.Thread | None = None

    @property
    def is_on(self) -> bool:
        """Whether the page may train at all."""
        settings = self.workbench.settings
        if settings.training != "auto":
            return settings.training == "on"
        return settings.allow_specs or cards.has_gpu()

    def start(self, recipe: Recipe) -> str:
        """Queue a run; its id. Raises `UserError` for a recipe that is too much for a page, or too many runs."""
        if not self.is_on:
            raise UserError(OFF)
        self.check(recipe)
        self.tidy()
        with self._changed:
            if len(self._waiting) >= FINETUNING.page_waiting:
                raise UserError(FULL.format(count=len(self._waiting)))
            run = Tuning(id=secrets.token_urlsafe(16), recipe=recipe, text="waiting", version=1)
            self._runs[run.id] = run
            self._waiting.append(run.id)
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._work, daemon=True)
                self._worker.start()
            self._changed.notify_all()
        return run.id

    def check(self, recipe: Recipe) -> None:
        """Raises `UserError` for a recipe that makes no sense, or is more than a page may ask for."""
        recipe.check()
        caps = {"steps": FINETUNING.page_steps, "batch": FINETUNING.page_batch, "pool": FINETUNING.page_pool}
        for name, most in caps.items():
            if getattr(recipe, name) > most:
                raise UserError(f"A run from the page may have at most {most:,} {WORDS[name]}: the shell has no limit.")
        if recipe.data != MINI and not self.workbench.settings.allow_specs:
            raise UserError(ONLY_MINI)
        cards = [recipe.base, recipe.teacher] if recipe.uses_teacher else [recipe.base]
        for card in map(self.workbench.card, cards):
            state = self.workbench.availability(card)
            if not state.can_run:
                raise UserError(f"{state.reason} {state.next_step}".strip())

    def get(self, id_: str) -> Tuning:
        """A run as it is now. Raises `UserError` for an id that is not known."""
        with self._changed:
            run = self._runs.get(id_)
            if run is None:
                raise UserError(NOT_YOURS)
            if run.state != "waiting":
                return run
            return replace(run, place=list(self._waiting).index(id_) + bool(self._running))

    def wait(self, id_: str, version: int, seconds: float) -> Tuning:
        """The run when it has changed since `version`, or after so many seconds. Raises `UserError`."""
        with self._changed:
            self._changed.wait_for(lambda: id_ not in self._runs or self._runs[id_].version != version, seconds)
        return self.get(id_)

    def stop(self, id_: str) -> None:
        """Ask a run to stop and keep what it has; a waiting one is taken from the queue. Raises `UserError`."""
        self.get(id_)
        with self._changed:
            if id_ in self._waiting:
                self._waiting.remove(id_)
                self._set(id_, state="stopped", reason="")
                self._ended.append((time.time(), id_))
                return
            if self._runs[id_].is_over:  # it may have ended just now
                return
            self._set(id_, state="stopping")
        self.folder(id_).mkdir(parents=True, exist_ok=True)
        (self.folder(id_) / "STOP").touch()

    def folder(self, id_: str) -> Path:
        """The files of a run. Raises `UserError` for an id that is not known."""
        if id_ not in self._runs:
            raise UserError(NOT_YOURS)
        return self.root / id_

    def model(self, id_: str) -> str:
        """The name under which the workbench knows the run's model. Raises `UserError` where there is no file yet."""
        path = self.folder(id_) / "model.safetensors"
        if not path.is_file():
            raise UserError("This run has no model yet: wait for its end, or stop it.")
        base = self.workbench.card(self._runs[id_].recipe.base)
        name = f"{TUNED}{id_}"
        self.workbench.lend(_card(name, path, base, self._runs[id_]))
        return name

    def evaluated(self, id_: str) -> tuple[str, Path]:
        """Score the Mini benchmark with the run's model, beside the shipped models: the model's name, and the folder.

        Scored once, and again where the model has gone on training since. Raises `UserError` where the run has no
        model, or one that cannot read the Mini world.
        """
        from sdsdemo.evaluation import evaluate

        name, folder = self.model(id_), self.root / id_ / "evaluated"
        with self._evaluating:
            if not folder.is_dir() or read_run(folder).header["models"].get(name) != self._fingerprint(name):
                shutil.rmtree(folder, ignore_errors=True)
                self.workbench.forget(name)  # it may be loaded as it was
                self.model(id_)
                aside = folder.with_name("evaluated.part")
                shutil.rmtree(aside, ignore_errors=True)
                shutil.copytree(ASSETS / SHIPPED_RUN, aside)
                with calling(aside, "your run"):
                    evaluate("mini", [name], workbench=self.workbench, budget=budget(empty_prompt=True), out=aside)
                aside.rename(folder)
        return name, folder

    def _fingerprint(self, name: str) -> str:
        return cards.fingerprint(self.workbench.card(name))

    @property
    def is_busy(self) -> bool:
        """Whether a run trains now."""
        return bool(self._running)

    def tidy(self) -> None:
        """Delete the files of runs that are too old or too many; ended ones only."""
        with self._changed:
            limit = time.time() - 3600 * FINETUNING.page_hours
            while self._ended and (self._ended[0][0] < limit or len(self._ended) > FINETUNING.page_kept):
                _, id_ = self._ended.popleft()
                self._runs.pop(id_, None)
                self.workbench.forget(f"{TUNED}{id_}")
                shutil.rmtree(self.root / id_, ignore_errors=True)

    # ---------------------------------------------------------------------------------------------- the worker

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                id_ = self._running = self._waiting.popleft()
                self._set(id_, state="preparing", text="getting ready")
            try:
                self._run(id_)
            except UserError as error:
                self._fail(id_, str(error))
            except Exception:  # the next visitor's run must not wait for ever; the log keeps it
                log.exception("a run failed")
                self._fail(id_, OUR_FAULT)
            with self._changed:
                self._running = ""
                self._ended.append((time.time(), id_))
                self._changed.notify_all()

    def _run(self, id_: str) -> None:
        folder = self.root / id_
        folder.mkdir(parents=True, exist_ok=True)
        recipe = self._runs[id_].recipe
        if zerogpu.is_here() and not self.workbench.card(recipe.base).name.startswith(MINI_CARD):
            events = _finetune_on_gpu(recipe, str(folder), self.workbench.settings)
        else:
            events = self._runner(recipe, folder, workbench=self.workbench, seconds=FINETUNING.page_seconds)
        for event in events:
            with self._changed:
                self._take(id_, event)

    def _take(self, id_: str, event: Any) -> None:
        """What one event changes; with the lock held."""
        from sdsdemo.finetuning import events

        run = self._runs[id_]
        stopping = run.state == "stopping"
        match event:
            case events.Placed():
                self._set(id_, device=event.device)
            case events.Preparing():
                state = "stopping" if stopping else "preparing"
                self._set(id_, state=state, text=event.text, done=event.done, total=event.total)
            case events.Step():
                state = "stopping" if stopping else "running"
                points = _longer(run.points, event.step, event.losses)
                self._set(id_, state=state, step=event.step, seconds=event.seconds, points=points)
            case events.Looked(share=share):
                look = LookPoint(
                    step=event.step, value=share.value, low=share.low, high=share.high, n=share.n, metric=event.metric
                )
                self._set(id_, looks=(*run.looks, look))
            case events.Told():
                self._set(id_, told=(*run.told, event.text))
            case events.Written():
                self._set(id_, written=True)
            case events.Done():
                self._set(id_, state=event.state, record=dict(event.record), reason=event.reason)

    def _fail(self, id_: str, reason: str) -> None:
        with self._changed:
            self._set(id_, state="failed", reason=reason)

    def _set(self, id_: str, **changes: Any) -> None:
        run = self._runs[id_]
        self._runs[id_] = replace(run, version=run.version + 1, **changes)
        self._changed.notify_all()


WORDS = {"steps": "steps", "batch": "images a step", "pool": "images to train on"}


def _longer(points: tuple[Point, ...], step: int, losses: Mapping[str, float]) -> tuple[Point, ...]:
    """The curve with one more step, smoothed, and thinned where it would be too long."""
    last = points[-1].smoothed if points else losses["loss"]
    point = Point(step=step, losses=dict(losses), smoothed=PAST * last + (1 - PAST) * losses["loss"])
    return (*points, point) if len(points) < MOST_POINTS else (*points[::2], point)


def _finetune(*arguments: Any, **options: Any) -> Iterator[Any]:
    from sdsdemo.finetuning.run import finetune

    yield from finetune(*arguments, **options)


def _finetune_apart(recipe: Recipe, folder: str, settings: Settings) -> Iterator[Any]:
    """As `_finetune`, of what can be pickled: for a fork."""
    yield from _finetune(recipe, Path(folder), workbench=Workbench(settings), seconds=FINETUNING.zerogpu_seconds - 20)


_finetune_on_gpu = zerogpu.on_gpu(_finetune_apart, FINETUNING.zerogpu_seconds)


def _card(name: str, path: Path, base: Card, run: Tuning) -> Card:
    """The card of a visitor's model."""
    return replace(
        base,
        name=name,
        title=f"Your run: {run.recipe.objective}, {run.step} steps",
        family="sds-clip",
        spec=f"sds-clip:{path}",
        base=base.name,
        summary=f"{base.title} fine-tuned by you on this page, with the objective {run.recipe.objective}.",
        download=False,
        published=(),
    )
