"""One fine-tuning run from a recipe to a file, as a stream of events, shared by page and shell. Knows neither.

    plan    -> Plan          finds and checks the models                                        `setup`
    load    -> Loaded        base and data                                                      `setup`
            -> Baseline      baseline evaluation, before training                               `training`
    prepare -> Prepared      loads the teacher; fits h_w, or queries the teacher's preferences  `prepare`
    train   -> Ended         steps, evaluations on held-out data, checkpoints                   `training`
    finish                   saves the weights, then evaluates and compares                     `ending`

Each phase takes the frozen record of the one before; one `RunRecord` collects the facts about the run. Training changes
a fresh copy of the base, so the app's models stay as they are. A run may be stopped at any moment, even during
preparation, and keeps its results so far. With --resume it continues from its checkpoint, to the same weights as an
uninterrupted run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdsdemo.errors import ProcessFailedError, UserError
from sdsdemo.finetuning.cache import MiniCache
from sdsdemo.finetuning.checkpoints import CheckpointError, UnwritableError
from sdsdemo.finetuning.ending import NO_ROOM, end_unprepared, finish
from sdsdemo.finetuning.events import DeviceChosen, Done, Event, Notice
from sdsdemo.finetuning.prepare import prepare
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.finetuning.run_record import BROKEN, RunRecord, another, is_free, why_not_resumed
from sdsdemo.finetuning.setup import Models, Plan, StopAsked, load, plan
from sdsdemo.finetuning.training import evaluate_baseline, train_prepared
from sdsdemo.models.memory import is_out_of_memory
from sdsdemo.runtime.distributed import ALONE, Processes

NO_MEMORY = (
    "The device ran out of memory outside of the steps, where --micro-batch does not help: close other programs that "
    "use it, or choose a smaller base or teacher."
)
THERE = "'{name}' already holds a run: add --resume to continue it, or name another --out."


def finetune(
    recipe: Recipe,
    out: Path,
    *,
    workbench: Models,
    resume: bool = False,
    seconds: float | None = None,
    processes: Processes = ALONE,
    cache: MiniCache | None = None,
) -> Iterator[Event]:
    """Run a recipe, with its files in `out`. `FineTuningFolder(out).ask_to_stop()` or closing the generator stops it.

    resume: continue the run in `out`. The recipe must be the same, except for more steps, another micro-batch, and how
    often to save and evaluate. seconds: time limit for this process.
    cache: shared by the Mini runs of a process.
    Yields `Done` last, even on failure. Raises `UserError` before the first event for anything the user must fix first.
    """
    recipe.check()
    _check_processes(recipe, processes)
    folder = FineTuningFolder(out)
    stored = folder.read() if folder.exists else None
    if stored is not None and not is_free(stored, folder):
        _check_same(stored, recipe, out, resume)
        if stored["state"] == "finished" and recipe.steps <= stored["steps_done"]:
            yield Notice(text="This run has already finished: nothing is left to do.")
            yield Done(state="finished", record=stored)
            return
    elif resume and stored is None:
        yield Notice(text=f"There is nothing to resume in '{out}': starting a new run.")
    with ExitStack() as stack:
        _hold(folder, processes, stack)
        if processes.is_main and folder.exists:
            folder.clear_stop()  # left by an earlier part; in a new folder, a STOP file is meant for this run
        processes.wait()
        planned = plan(recipe, workbench, processes, cache)
        record = RunRecord(planned, folder, seconds)
        yield from _events(replace(planned, asked_to_stop=record.asked_to_stop), record)


def _hold(folder: FineTuningFolder, processes: Processes, stack: ExitStack) -> None:
    """Takes the folder's lock in the main process. Raises `UserError`, in all processes, if it cannot."""
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
    """Raises `UserError`, in all processes, for a batch that they cannot share evenly."""
    if recipe.batch % processes.count:
        fewer = recipe.batch - recipe.batch % processes.count
        near = f"{fewer} or {fewer + processes.count}" if fewer else f"{processes.count}"
        raise UserError(
            f"--batch must be a multiple of the {processes.count} processes, which share each step; it was "
            f"{recipe.batch}: use {near}, or change the number of processes."
        )


def _check_same(stored: Mapping[str, Any], recipe: Recipe, out: Path, resume: bool) -> None:
    """Raises `UserError` for a folder of another run, or of this one without `resume`."""
    if difference := why_not_resumed(stored, recipe):
        raise UserError(another(out, difference))
    if not resume:
        raise UserError(THERE.format(name=out))


def _events(planned: Plan, record: RunRecord) -> Iterator[Event]:
    """The phases in order; an error in any of them ends the run with its message."""
    try:
        yield from _phases(planned, record)
    except ProcessFailedError:
        raise
    except UserError as error:
        yield _failed(record, str(error))
    except CheckpointError as error:
        said = NO_ROOM if isinstance(error, UnwritableError) else BROKEN
        yield _failed(record, said.format(name=record.folder.path, why=error))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if planned.processes.count > 1:
            raise ProcessFailedError(NO_MEMORY) from error
        yield _failed(record, NO_MEMORY)


def _phases(planned: Plan, record: RunRecord) -> Iterator[Event]:
    record.save("preparing")
    yield DeviceChosen(device=record.values["device"])
    loaded = yield from load(planned)
    record.check_data(loaded.data)
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
    with contextlib.suppress(UserError):  # if the disk is full, the visitor still needs to read the first reason
        record.save("failed")
    return Done(state="failed", record=record.values, reason=reason)
