"""The end of a run: save the weights first, so that no error loses them; then evaluate and compare.

A run ends after its steps (`finish`), or stopped during preparation (`end_unprepared`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from sdsdemo.errors import UserError
from sdsdemo.finetuning import checkpoints
from sdsdemo.finetuning.checkpoints import CheckpointError
from sdsdemo.finetuning.events import Done, Event, Notice, WeightsSaved, Working
from sdsdemo.finetuning.prepare import Prepared
from sdsdemo.finetuning.run_record import RunRecord
from sdsdemo.finetuning.setup import Loaded, StopAsked
from sdsdemo.finetuning.training import Baseline, Ended
from sdsdemo.models.delta import CLIP, MAP, changed_tensors, interpolate_weights, write_delta
from sdsdemo.models.memory import is_out_of_memory

EVALUATION_AFTER_STOP = 1.0
"""Seconds that the final evaluation may take after a stop; a longer one is skipped."""
NOT_MEASURED = (
    "The change was not measured because the run was stopped: use --resume, or evaluate its model.safetensors."
)
NO_MEMORY_TO_MEASURE = (
    "The change was not measured because the device ran out of memory. The weights are saved: close other programs "
    "that use the device, then use --resume."
)
MEASURING = "measuring what changed"
NO_ROOM = "The run cannot be written ({why}): free disk space, then continue with --resume."


def finish(prepared: Prepared, baseline: Baseline, ended: Ended, record: RunRecord) -> Iterator[Event]:
    """Ends a trained run. Raises `UserError` if it cannot be written."""
    state = ended.state
    if (done := _without_files(record, state, ended.reason)) is not None:
        yield done
        return
    record.save_seconds("stopping" if state == "stopped" else "running")
    _interpolate(prepared.loaded)
    _write_model(prepared.loaded, record, state, _learned(prepared))
    yield WeightsSaved(step=record.steps_done)
    try:
        yield from _evaluate_after(prepared, baseline, record, state)
    except StopAsked:
        state = "stopped" if state == "finished" else state
        yield Notice(text=NOT_MEASURED)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        state = "stopped" if state == "finished" else state
        yield Notice(text=NO_MEMORY_TO_MEASURE)
    yield record.close(state, ended.reason)


def end_unprepared(loaded: Loaded, record: RunRecord) -> Iterator[Event]:
    """Ends a run that was stopped before its first step, or before it trained on.

    An earlier part that ended has saved its weights; one that was killed left them in its checkpoint alone.
    Raises `UserError` if they cannot be written, and `CheckpointError` for another run's checkpoint.
    """
    if (done := _without_files(record, "stopped")) is not None:
        yield done
        return
    record.save_seconds("stopping")
    _write_model(loaded, record, "stopped", _left_by_a_kill(loaded, record) if record.steps_done else {})
    yield WeightsSaved(step=record.steps_done)
    yield record.close("stopped")


def _without_files(record: RunRecord, state: str, reason: str = "") -> Done | None:
    """The `Done` event if there is nothing to write: outside the main process, or for an unchanged run."""
    if not record.is_main:
        return Done(state=state, record=record.values, reason=reason)
    return record.close_as_it_was(state, reason) if record.is_as_it_was(state) else None


@torch.no_grad()
def _left_by_a_kill(loaded: Loaded, record: RunRecord) -> dict[str, Tensor]:
    """The trained weights of the checkpoint, which the base takes in, and h_w unless it was frozen."""
    trained = checkpoints.trained_weights(record.folder.checkpoint, steps=loaded.plan.recipe.steps)
    own = {f"{CLIP}{name}": tensor for name, tensor in loaded.base.module.state_dict().items()}
    for name in trained.keys() & own.keys():
        if trained[name].shape != own[name].shape:
            raise CheckpointError(f"it has another shape at {name}")
        own[name].copy_(trained[name])
    _interpolate(loaded)
    h_w = {name: tensor for name, tensor in trained.items() if name.startswith(MAP)}
    return changed_tensors(loaded.before_weights, loaded.base.module) | h_w


@torch.no_grad()
def _interpolate(loaded: Loaded) -> None:
    """Interpolates between the base and the trained weights (WiSE-FT). The checkpoint keeps the trained ones."""
    share = loaded.plan.recipe.wise_ft
    if share < 1:
        own = loaded.base.module.state_dict()
        for name, tensor in interpolate_weights(loaded.before_weights, own, share).items():
            own[name].copy_(tensor)


def _learned(prepared: Prepared) -> dict[str, Tensor]:
    """The weights that training changed, and h_w."""
    tensors = changed_tensors(prepared.loaded.before_weights, prepared.loaded.base.module)
    h_w = prepared.student.h_w
    return tensors | ({} if h_w is None else {f"h_w.{key}": tensor for key, tensor in h_w.state_dict().items()})


def _write_model(loaded: Loaded, record: RunRecord, state: str, tensors: Mapping[str, Tensor]) -> None:
    story = {key: value for key, value in record.values.items() if key not in ("state", "command")}
    try:
        write_delta(record.folder.model, tensors, {**loaded.header, **story, "state": state})
    except OSError as error:
        raise UserError(NO_ROOM.format(why=error.strerror)) from error


def _evaluate_after(prepared: Prepared, baseline: Baseline, record: RunRecord, state: str) -> Iterator[Event]:
    """Compares the trained model with its base, unless the run was cut before its first step. Raises `StopAsked`.

    A stopped run is evaluated only if that is quick.
    """
    if not (record.steps_done or state == "finished"):
        return
    loaded = prepared.loaded
    yield Working(text=MEASURING)
    after = baseline.evaluator.evaluate(check=_stop_after(state, record))
    yield record.log_evaluation(record.steps_done, after)
    record.values["measured"] = baseline.evaluator.compare(baseline.evaluation, after, loaded.plan.recipe)
    record.values["data"] = loaded.source.describe()
    _write_model(loaded, record, state, _learned(prepared))


def _stop_after(state: str, record: RunRecord) -> Callable[[], None]:
    """Raises `StopAsked` in the final evaluation: if the user stops it, or it is slow after a stop."""
    began = time.monotonic()

    def check() -> None:
        late = time.monotonic() - began > EVALUATION_AFTER_STOP
        if late if state == "stopped" else record.asked_to_stop():
            raise StopAsked

    return check
