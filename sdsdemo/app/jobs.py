"""Fine-tuning jobs that visitors start from the page. One trains, a few wait; only its id identifies a job.

A job belongs to whoever holds its id, which cannot be guessed. It continues when the page is closed and is found again
by its id, even after a restart of the server: a job that the restart cut short is `interrupted` and can be resumed.
Limits are enforced here, whatever the page's fields allow. The published models are never touched: each job has its own
folder, and its model is lent to the workbench under its shared name (`app/sharing.py`). Knows nothing of the page.
"""

from __future__ import annotations

import contextvars
import logging
import re
import secrets
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdsdemo.app.gpu_jobs import GpuJobs, evaluate_on_mini
from sdsdemo.app.job_states import (
    REQUEST,
    Job,
    changes_by,
    read,
    resumed,
    room_in_words,
    tuned_card,
    write_request,
)
from sdsdemo.app.sharing import shared_name
from sdsdemo.app.visitors import Visitor, check_places
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError, calling
from sdsdemo.evaluation.store import read_run
from sdsdemo.finetuning.events import DeviceChosen, Done, Event
from sdsdemo.finetuning.recipe import MINI, Recipe
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.models import cards
from sdsdemo.runtime.ages import Ages
from sdsdemo.settings import ASSETS, FINETUNING

log = logging.getLogger(__name__)

FOLDER = "page-runs"
"""Folder in the cache (SDSDEMO_CACHE), which outlives the server."""
ID = re.compile(r"[A-Za-z0-9_-]{22}")
"""The form of `secrets.token_urlsafe(16)`, which cannot form a path."""
SHIPPED_RUN = "mini/runs/mini"
NOT_YOURS = "There is no such run here: a run's files are deleted a day after it ends."
IN_PROGRESS = "This run is still going: wait until it ends, or stop it."
NEEDS_MORE = "This run has finished its {steps:,} steps: ask for more, up to {most:,}."
NOT_FEWER = "A run cannot resume to fewer steps than planned: choose from {steps:,} to {most:,}."
FULL = "{count} runs are already waiting: try again in a few minutes, or run the command on your own machine."
OFF = (
    "Fine-tuning is off on this page, which is open to others and has no GPU. Run it on your own machine, or start "
    "your own page or duplicate this Space with SDSDEMO_TRAINING=on."
)
OUR_FAULT = "The run failed because of a bug in sdsdemo: the server's log has the details. The last checkpoint is kept."
ONLY_MINI = "A public page can train only on Mini: run the command on your own machine instead."

Runner = Callable[..., Iterator[Any]]


class Jobs:
    """The jobs of one server. Safe to share between threads."""

    def __init__(self, workbench: Workbench, root: Path | None = None, runner: Runner | None = None) -> None:
        """runner: `finetuning.finetune`, or a stand-in with the same events."""
        self.workbench = workbench
        self.root = root or workbench.settings.cache / FOLDER
        self._runner = runner or _finetune
        self._runs: dict[str, Job] = {}
        self._waiting: deque[str] = deque()
        self._running = ""
        self._visitors: dict[str, Visitor] = {}
        """Who asked for the runs that wait or train."""
        self._changed = threading.Condition()
        self._evaluating = threading.Lock()
        self._worker: threading.Thread | None = None
        self._ages = Ages()
        self.forget: Callable[[str], None] = workbench.forget
        """Forgets all about a shared name, once the run's files are deleted."""
        self._asked_from: dict[str, contextvars.Context] = {}
        """By waiting run, the request that asked for it: a GPU is lent to whoever made it."""
        self.gpu = GpuJobs(workbench, self._runner) if workbench.gpu is not None else None
        """Where a GPU is lent for a call: the jobs on it."""

    @property
    def is_on(self) -> bool:
        """Whether training from the page is enabled."""
        settings = self.workbench.settings
        if settings.training != "auto":
            return settings.training == "on"
        return settings.allow_specs or cards.has_gpu()

    def start(self, recipe: Recipe, visitor: Visitor | None = None) -> str:
        """Queue a run and return its id. visitor: who asks, where a page has several.

        Raises `UserError` for a recipe beyond the page's limits, a visitor who has a run here already, or a full queue.
        """
        if not self.is_on:
            raise UserError(OFF)
        self.check(recipe)
        self.tidy()
        run = Job(id=secrets.token_urlsafe(16), recipe=recipe, text="waiting", version=1)
        self._queue(run, visitor)
        return run.id

    def resume(self, id_: str, steps: int | None = None, visitor: Visitor | None = None) -> None:
        """Queue a run again under the same id, to continue from its last checkpoint. Raises `UserError`.

        steps: the new total; larger than before if the run has finished. visitor: as for `start`.
        """
        if not self.is_on:
            raise UserError(OFF)
        run = self.get(id_)
        steps = run.recipe.steps if steps is None else steps
        if not run.is_over:
            raise UserError(IN_PROGRESS)
        if steps < run.recipe.steps:
            raise UserError(NOT_FEWER.format(steps=run.recipe.steps, most=FINETUNING.page_steps))
        if run.state == "finished" and steps == run.recipe.steps:
            raise UserError(NEEDS_MORE.format(steps=steps, most=FINETUNING.page_steps))
        recipe = replace(run.recipe, steps=steps)
        self.check(recipe)
        FineTuningFolder(self.root / id_).clear_stop()
        stored = read(self.root / id_, id_) or run
        self._queue(replace(resumed(stored, recipe), version=run.version + 1), visitor)

    def _queue(self, run: Job, visitor: Visitor | None) -> None:
        """Raises `UserError` if the queue or the disk is full, or for a visitor who has a place already."""
        with self._changed:
            going = [id_ for id_ in (*self._waiting, self._running) if id_]
            if visitor is not None:
                check_places(visitor, [self._visitors[id_] for id_ in going if id_ in self._visitors])
            if len(self._waiting) >= FINETUNING.page_waiting:
                raise UserError(FULL.format(count=len(self._waiting)))
            write_request(self.root / run.id, run.recipe)
            self._runs[run.id] = run
            self._waiting.append(run.id)
            self._asked_from[run.id] = contextvars.copy_context()
            self._visitors = {id_: who for id_, who in self._visitors.items() if id_ in going}
            if visitor is not None:
                self._visitors[run.id] = visitor
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._work, daemon=True)
                self._worker.start()
            self._changed.notify_all()

    def check(self, recipe: Recipe) -> None:
        """Raises `UserError` for a recipe that is invalid or beyond the page's limits."""
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
                raise UserError(state.words)

    def get(self, id_: str) -> Job:
        """The current state of a run. Raises `UserError` for an unknown id."""
        with self._changed:
            run = self._runs.get(id_) or self._stored(id_)
            if run.state != "waiting":
                return run
            return replace(run, ahead=list(self._waiting).index(id_) + bool(self._running))

    def _stored(self, id_: str) -> Job:
        """A run of an earlier server process, from its folder. Raises `UserError` if there is none."""
        run = read(self.root / id_, id_) if isinstance(id_, str) and ID.fullmatch(id_) else None
        if run is None:
            raise UserError(NOT_YOURS)
        return run

    @property
    def ids(self) -> list[str]:
        """The ids of all runs that are here, also of earlier servers; not of one killed while it was asked."""
        stored = [path.parent.name for path in self.root.glob(f"*/{REQUEST}")]
        return list(dict.fromkeys([*self._runs, *filter(ID.fullmatch, stored)]))

    def wait(self, id_: str, version: int, seconds: float) -> Job:
        """Wait at most `seconds` until the run changes from `version`, and return it. Raises `UserError`."""
        with self._changed:
            self._changed.wait_for(lambda: id_ not in self._runs or self._runs[id_].version != version, seconds)
        return self.get(id_)

    def stop(self, id_: str) -> None:
        """Ask a run to stop and keep its progress; a waiting one leaves the queue. Raises `UserError`."""
        self.get(id_)
        with self._changed:
            if id_ in self._waiting:
                self._waiting.remove(id_)
                del self._asked_from[id_]
                self._set(id_, state="stopped", reason="")
                write_request(self.root / id_, self._runs[id_].recipe, withdrawn=True)
                return
            if self.get(id_).is_over:  # it may have just ended
                return
            if id_ in self._runs:  # otherwise another server runs it
                self._set(id_, state="stopping")
        FineTuningFolder(self.root / id_).ask_to_stop()

    def folder(self, id_: str) -> Path:
        """A run's folder. Raises `UserError` for an unknown id."""
        self.get(id_)
        return self.root / id_

    def model(self, id_: str) -> str:
        """The name of the run's model in the workbench. Raises `UserError` if there is no file yet."""
        path = self.folder(id_) / "model.safetensors"
        if not path.is_file():
            raise UserError("This run has no model yet: wait until it ends, or stop it.")
        run, name = self.get(id_), shared_name(id_)
        self.workbench.lend(tuned_card(name, path, self.workbench.card(run.recipe.base), run))
        return name

    def evaluated(self, id_: str) -> tuple[str, Path]:
        """Score the Mini benchmark with the run's model; returns its name and a run that has the shipped models too.

        Scored once, and again after further training. Raises `UserError` if the run has no model, or one that cannot
        score Mini.
        """
        name, folder = self.model(id_), self.root / id_ / "evaluated"
        with self._evaluating:
            if not self._has_scored(folder, name):
                shutil.rmtree(folder, ignore_errors=True)
                self.workbench.forget(name)  # an earlier version may be loaded
                self.model(id_)
                aside = folder.with_name("evaluated.part")
                shutil.rmtree(aside, ignore_errors=True)
                with calling(aside, "your run"), room_in_words():
                    shutil.copytree(ASSETS / SHIPPED_RUN, aside)
                    card = self.workbench.card(name)
                    if self.gpu is not None and self.gpu.takes(card):
                        self.gpu.evaluate(card, aside)
                    else:
                        evaluate_on_mini(self.workbench, name, aside)
                aside.rename(folder)
        return name, folder

    def _has_scored(self, folder: Path, name: str) -> bool:
        """Whether a run is there, whole, with these weights."""
        with suppress(UserError):
            return read_run(folder).header["models"].get(name) == cards.fingerprint(self.workbench.card(name))
        return False

    @property
    def is_busy(self) -> bool:
        """Whether a run is training."""
        return bool(self._running)

    def tidy(self) -> None:
        """Delete the files of ended runs that are too old or too many, including those of earlier servers."""
        with self._changed:
            age_of = self._ages.of(dict(self._ended()))
            for place, folder in enumerate(sorted(age_of, key=lambda folder: age_of[folder])):
                if age_of[folder] > 3600 * FINETUNING.page_hours or place >= FINETUNING.page_kept:
                    self._runs.pop(folder.name, None)
                    shutil.rmtree(folder, ignore_errors=True)
                    self.forget(shared_name(folder.name))

    def _ended(self) -> Iterator[tuple[Path, float]]:
        """Folders of runs that are not training, with the time of their last change."""
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            run = self._runs.get(folder.name)
            if not ID.fullmatch(folder.name) or (run is not None and not run.is_over):
                continue
            with suppress(OSError):  # another server may be deleting it
                if not FineTuningFolder(folder).is_locked:
                    yield folder, max(path.stat().st_mtime for path in (folder, *folder.iterdir()))

    # ---------------------------------------------------------------------------------------------- the worker

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                id_ = self._running = self._waiting.popleft()
                self._set(id_, state="preparing", text="getting ready", written=False, record={})
            try:
                self._run(id_)
            except UserError as error:
                self._fail(id_, str(error))
            except Exception:  # the next visitor's run must not wait forever; the log has it
                log.exception("a run failed")
                self._fail(id_, OUR_FAULT)
            with self._changed:
                self._running = ""
                self._changed.notify_all()

    def _run(self, id_: str) -> None:
        folder = self.root / id_
        recipe, resume = self._runs[id_].recipe, FineTuningFolder(folder).exists
        if self.gpu is not None and self.gpu.takes(self.workbench.card(recipe.base)):
            events = self.gpu.finetune(recipe, folder, resume)
        else:
            events = self._runner(
                recipe, folder, workbench=self.workbench, resume=resume, seconds=FINETUNING.page_seconds
            )
        asked_from = self._asked_from.pop(id_)
        while (event := asked_from.run(next, events, None)) is not None:
            with self._changed:
                self._apply(id_, event)

    def _apply(self, id_: str, event: Event) -> None:
        """Apply one event to a run; call with the lock held."""
        run, folder = self._runs[id_], FineTuningFolder(self.root / id_)
        if isinstance(event, DeviceChosen) and run.state == "stopping":
            folder.ask_to_stop()  # asked before the run started, which cleared earlier stop requests
        changes = changes_by(event, run)
        if isinstance(event, Done):
            changes["reason"] = self._without_paths(event.reason, id_)
            changes["written"] = run.written or folder.model.is_file()
        self._set(id_, **changes)

    def _fail(self, id_: str, reason: str) -> None:
        """End a run with a reason; what an earlier part of it saved is still there."""
        kept = read(self.root / id_, id_)
        saved = {"written": kept.written, "record": kept.record} if kept is not None else {}
        with self._changed:
            self._set(id_, state="failed", reason=self._without_paths(reason, id_), **saved)

    def _without_paths(self, text: str, id_: str) -> str:
        """A sentence without the server's paths."""
        named = text.replace(f"'{self.root / id_}'", "your run").replace(str(self.root / id_), "your run")
        return named.replace(str(self.workbench.settings.cache), "the server's cache")

    def _set(self, id_: str, **changes: Any) -> None:
        run = self._runs[id_]
        self._runs[id_] = replace(run, version=run.version + 1, **changes)
        self._changed.notify_all()


WORDS = {"steps": "steps", "batch": "images a step", "pool": "images to train on"}


def _finetune(*arguments: Any, **options: Any) -> Iterator[Any]:
    from sdsdemo.finetuning.run import finetune

    yield from finetune(*arguments, **options)
