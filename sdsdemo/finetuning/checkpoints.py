"""Checkpoints of a training run: the last two are kept; one is used only if it is whole and fits the module.

    NAME.run            the newest
    NAME.earlier.run    the one before, for when the newest is damaged

Read as data alone (`weights_only`): every key, shape and type is checked before anything is changed. Trains nothing.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdsdemo.runtime import files

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state per parameter, besides `step`; each has the parameter's shape."""
State = dict[str, Any]
"""`done` steps, `parameters` and their moving `average` by name, and the `optimiser`'s state dict."""


class CheckpointError(Exception):
    """A checkpoint is broken or belongs to another run."""


class UnwritableError(CheckpointError):
    """A checkpoint cannot be written to disk."""


def earlier(path: Path) -> Path:
    """Path of the checkpoint before the newest one."""
    return path.with_name(f"{path.stem}.earlier{path.suffix}")


def exists(path: Path) -> bool:
    """Whether there is a checkpoint, usable or not."""
    return path.exists() or earlier(path).exists()


def forget(path: Path) -> None:
    """Removes both checkpoints."""
    for one in (path, earlier(path)):
        one.unlink(missing_ok=True)


def save(path: Path, state: State) -> None:
    """Writes atomically; the newest checkpoint becomes the earlier one. Raises `UnwritableError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.write_aside(path) as aside:
            torch.save(state, aside)
            if path.exists():
                os.replace(path, earlier(path))
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "the disk may be full"
        raise UnwritableError(f"{path.name} cannot be written: {why}") from error


def newest(path: Path, check: Callable[[Any], None] = lambda state: None) -> tuple[State, str] | None:
    """The newest usable checkpoint, and why a newer one was skipped; None if there is none.

    check: raises `CheckpointError` for a misfit. Raises `CheckpointError` if none is usable.
    """
    faults: list[str] = []
    for one in (path, earlier(path)):
        if one.exists():
            try:
                state = _read(one)
                check(state)
            except CheckpointError as error:
                faults.append(str(error))
            else:
                return state, "; ".join(faults)
    if faults:
        raise CheckpointError("; ".join(faults))
    return None


def trained_weights(path: Path, *, steps: int) -> dict[str, Tensor]:
    """The weights of the newest usable checkpoint by name, as a run of so many steps ends with them there.

    A run that averages its weights takes the average after its last step. Empty without a checkpoint. Raises
    `CheckpointError` if none is usable.
    """
    found = newest(path)
    if found is None:
        return {}
    is_last = found[0]["done"] >= steps
    weights = (found[0]["average"] if is_last else {}) or found[0]["parameters"]
    return {name: value for name, value in weights.items() if isinstance(value, Tensor)}


def check_fits(state: State, parameters: Mapping[str, Tensor], *, averaged: bool) -> None:
    """Raises `CheckpointError` for other parameters, shapes or types, and for non-finite values."""
    _check_tensors("parameters", state["parameters"], parameters)
    _check_tensors("average", state["average"], parameters if averaged else {})
    like = list(parameters.values())
    for index, held in state["optimiser"]["state"].items():
        if not isinstance(index, int) or not 0 <= index < len(like) or not isinstance(held, dict):
            raise CheckpointError("its optimiser state belongs to other parameters")
        _check_tensors("optimiser", {key: held.get(key) for key in MOMENTS}, dict.fromkeys(MOMENTS, like[index]))
        step = held.get("step")
        if not isinstance(step, Tensor) or step.numel() != 1 or not step.isfinite().all():
            raise CheckpointError("its optimiser state has no step count")


def _check_tensors(what: str, found: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> None:
    if found.keys() != wanted.keys():
        raise CheckpointError(f"its {what} differ")
    for name, like in wanted.items():
        tensor = found[name]
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise CheckpointError(f"its {what} lack the tensor {name}")
        if tensor.shape != like.shape or tensor.dtype != like.dtype:
            raise CheckpointError(f"its {what} have a different shape or type at {name}")
        if not tensor.isfinite().all():
            raise CheckpointError(f"its {what} are not finite at {name}")


def _read(path: Path) -> State:
    """Reads a checkpoint file. Raises `CheckpointError` naming a file that is damaged or something else."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise CheckpointError(f"{path.name} is damaged")
        state = torch.load(path, weights_only=True, map_location="cpu")
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise CheckpointError(f"{path.name} is damaged or not a checkpoint") from error
    if not _has_shape(state):
        raise CheckpointError(f"{path.name} holds something else")
    return dict(state)


def _has_shape(state: Any) -> bool:
    if not isinstance(state, dict) or not {"done", "parameters", "average", "optimiser"} <= state.keys():
        return False
    done, optimiser = state["done"], state["optimiser"]
    return (
        isinstance(done, int)
        and not isinstance(done, bool)
        and done >= 0
        and isinstance(state["parameters"], dict)
        and isinstance(state["average"], dict)
        and isinstance(optimiser, dict)
        and isinstance(optimiser.get("state"), dict)
    )
