"""One fine-tuning run from a recipe to a file, as a stream of events. Page and shell share it; neither is known here.

    plan    -> Plan          models found and checked                                           `setup`
    load    -> Loaded        base and data                                                      `setup`
            -> Baseline      what the base can do before training                               `training`
    prepare -> Prepared      teacher; h_w is fitted, or the teacher asked for its preferences   `prepare`
    train   -> Ended         steps, evaluations on held-out data, checkpoints                   `training`
    finish                   the weights, then the final evaluation, and what changed           `ending`

Each phase takes the frozen record of the one before; what the run tells of itself is kept in one `RunRecord`. The base
is loaded anew and changed in place: what the app shows stays as it was. A run may be stopped at any moment, during
preparation too, and keeps what it has. With --resume it goes on where its checkpoint is, to the same weights as if it
had never stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdsdemo.errors import UserError
from sdsdemo.finetuning.cache import MiniCache
from sdsdemo.finetuning.checkpoints import CheckpointError, UnwritableError
from sdsdemo.finetuning.ending import NO_ROOM, end_unprepared, finish
from sdsdemo.finetuning.events import DeviceChosen, Done, Event, Notice
from sdsdemo.finetuning.prepare import prepare
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run_folder import TuningFolder
from sdsdemo.finetuning.run_record import ANOTHER, BROKEN, RunRecord, goes_on, is_free
from sdsdemo.finetuning.setup import Models, Plan, StopAsked, load, plan
from sdsdemo.finetuning.training import evaluate_baseline, train_prepared
from sdsdemo.runtime.distributed import ALONE, Processes

THERE = "'{name}' already holds a run: add --resume to continue it, or name another --out."


def finetune(
    recipe: Recipe,
    out: Path,
    *,
    workbench: Models,
    resume: bool = False,
    seconds: float | None = None,
    processes: Processes = ALONE,
    drawn: MiniCache | None = None,
) -> Iterator[Event]:
    """Run a recipe; its files go to `out`. Stop it with `TuningFolder(out).ask_to_stop()`, or by closing the generator.

    resume: go on with the run in `out`, which must have the same recipe. seconds: the longest it may train.
    drawn: what other runs of this process drew already; what this one draws is there for them.
    Yields `Done` last, also where it failed. Raises `UserError` before the first event for what must change first.
    """
    recipe.check()
    _check_processes(recipe, processes)
    folder = TuningFolder(out)
    stored = folder.read() if folder.exists else None
    if stored is not None and is_free(stored, folder):
        stored = None
    if stored is not None:
        _check_same(stored, recipe, out, resume)
        if stored["state"] == "finished" and recipe.steps <= stored["steps_done"]:
            yield Notice(text="This run has already finished: nothing is left to do.")
            yield Done(state="finished", record=stored)
            return
    elif resume:
        yield Notice(text=f"There is nothing to resume in '{out}': starting a new run.")
    with ExitStack() as stack:
        _hold(folder, processes, stack)
        if processes.is_main and folder.exists:
            folder.clear_stop()  # one of an earlier part; in a new folder it is meant for this run
        processes.wait()
        planned = plan(recipe, workbench, processes, drawn)
        record = RunRecord(planned, folder, seconds)
        yield from _events(replace(planned, asked_to_stop=record.asked_to_stop), record)


def _hold(folder: TuningFolder, processes: Processes, stack: ExitStack) -> None:
    """The main process takes the folder's lock. Raises `UserError`, in every process alike, where it cannot."""
    fault = ""
    if processes.is_main:
        try:
            stack.enter_context(folder.held())
        except UserError as error:
            fault = str(error)
    for said in processes.gather([fault]):
        if said:
            raise UserError(said)


def _check_processes(recipe: Recipe, processes: Processes) -> None:
    """Raises `UserError`, in every process alike, for a batch that they cannot share evenly."""
    if recipe.batch % processes.count:
        fewer = recipe.batch - recipe.batch % processes.count
        near = f"{fewer} or {fewer + processes.count}" if fewer else f"{processes.count}"
        raise UserError(
            f"--batch must be a multiple of the {processes.count} processes, which share each step; it was "
            f"{recipe.batch}: take {near}, or start another number of processes."
        )


def _check_same(stored: Mapping[str, Any], recipe: Recipe, out: Path, resume: bool) -> None:
    """Raises `UserError` for a folder of another run, and for one that nobody asked to go on with."""
    if not goes_on(stored, recipe):
        raise UserError(ANOTHER.format(name=out, what="recipe"))
    if not resume:
        raise UserError(THERE.format(name=out))


def _events(planned: Plan, record: RunRecord) -> Iterator[Event]:
    """The phases, in order; a fault of any of them ends the run with its sentence."""
    try:
        yield from _phases(planned, record)
    except UserError as error:
        yield _failed(record, str(error))
    except CheckpointError as error:
        said = NO_ROOM if isinstance(error, UnwritableError) else BROKEN
        yield _failed(record, said.format(name=record.folder.path, why=error))


def _phases(planned: Plan, record: RunRecord) -> Iterator[Event]:
    record.save("preparing")
    yield DeviceChosen(device=record.values["device"])
    loaded = yield from load(planned)
    try:
        baseline = yield from evaluate_baseline(loaded, record)
        prepared = yield from prepare(loaded)
    except StopAsked:
        yield from end_unprepared(loaded, record)
        return
    ended = yield from train_prepared(prepared, baseline, record)
    yield from finish(prepared, baseline, ended, record)


def _failed(record: RunRecord, reason: str) -> Done:
    if record.is_as_it_was("failed"):
        return record.close_as_it_was("failed", reason)
    record.values["reason"] = reason
    with contextlib.suppress(UserError):  # the disk is full: the reason is what the visitor needs to read
        record.save("failed")
    return Done(state="failed", record=record.values, reason=reason)
