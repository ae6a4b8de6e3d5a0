"""A stand-in for the package `spaces` as it is on ZeroGPU (0.51): forks, pickles and refuses as that one does.

A call reserves its seconds, forks, and runs the function in a thread of the fork; arguments and what it yields are
pickled. `Platform` answers reservations and notes them. Stricter than the real one in that a tensor or a module never
crosses; more patient in that a function may take longer than it reserved, as it does on a busy machine.
"""

from __future__ import annotations

import inspect
import io
import os
import pickle
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial, wraps
from multiprocessing import get_context
from typing import Any, Literal

import gradio as gr
import pytest
import torch
from gradio.context import LocalContext

FORK = get_context("fork")
PATIENCE = 120
"""Seconds until the next item: longer means that the fork hangs."""
SIGNATURE = "(task=None, *, duration=None, size=None, **kwargs)"
"""Of `spaces.GPU`, without types; read in spaces 0.51.3."""
QUOTA = "You have exceeded your free ZeroGPU quota (12s requested vs. 3s left). Try again in 1:02:03. "
REFUSALS = {
    "quota": ("ZeroGPU quota exceeded", QUOTA),
    "too long": ("ZeroGPU illegal duration", "The requested GPU duration (999s) is larger than the maximum allowed"),
    "busy": ("ZeroGPU queue timeout", "No GPU was available after 60s. <a href='x'>Retry later</a>"),
}


@dataclass
class Platform:
    """What the platform says to reservations, and those that it saw: function, seconds, whose request."""

    refuses: str = ""
    breaks: Exception | None = None
    seen: list[tuple[str, float, Any]] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    """Forks that did not end when nobody waited for them any more."""

    def schedule(self, task: Callable[..., Any], seconds: float) -> None:
        self.seen.append((task.__name__, seconds, LocalContext.request.get(None)))
        if self.breaks:
            raise self.breaks
        if self.refuses:
            title, message = REFUSALS[self.refuses]
            raise gr.Error(message, title=title, print_exception=False)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor | torch.nn.Module):
            raise pickle.PicklingError(f"a {type(value).__name__} cannot cross the fork")
        return NotImplemented


def _pickled(value: Any) -> bytes:
    stream = io.BytesIO()
    try:
        _Pickler(stream).dump(value)
    except Exception as error:
        if "pickle" not in str(error) and not isinstance(error, pickle.PicklingError):
            raise
        raise pickle.PicklingError(str(error)) from error
    return stream.getvalue()


def install(monkeypatch: pytest.MonkeyPatch, platform: Platform) -> None:
    """This process is a Space on ZeroGPU from now on."""
    module: Any = types.ModuleType("spaces")
    module.GPU = partial(GPU, _platform=platform)
    monkeypatch.setitem(sys.modules, "spaces", module)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")


def GPU(  # noqa: N802 as there
    task: Any = None, *, duration: Any = None, size: Literal["large", "xlarge"] | None = None, **kwargs: Any
) -> Any:
    """As `spaces.GPU`."""
    platform = kwargs.pop("_platform", Platform())
    if not callable(task):
        return partial(_decorated, duration=task if task is not None else duration, platform=platform)
    return _decorated(task, duration=duration, platform=platform)


def _decorated(task: Callable[..., Any], *, duration: Any, platform: Platform) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(task):
        raise NotImplementedError
    home = os.getpid()

    @wraps(task)
    def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
        if os.getpid() != home:
            yield from task(*args, **kwargs)
            return
        seconds = _seconds(duration, args, kwargs)
        platform.schedule(task, seconds)
        yield from _in_fork(task, _pickled((args, kwargs)), platform)

    @wraps(task)
    def regular(*args: Any, **kwargs: Any) -> Any:
        return next(generator(*args, **kwargs))

    return generator if inspect.isgeneratorfunction(task) else regular


def _seconds(duration: Any, args: Any, kwargs: Any) -> float:
    found = duration(*args, **kwargs) if callable(duration) else duration
    if found is None:
        return 60.0
    return found.total_seconds() if isinstance(found, timedelta) else timedelta(seconds=found).total_seconds()


def _in_fork(task: Callable[..., Any], asked: bytes, platform: Platform) -> Iterator[Any]:
    here, there = FORK.Pipe()
    stop = FORK.Event()
    worker = FORK.Process(target=_work, args=(task, asked, there, stop), daemon=True)
    worker.start()
    there.close()
    platform.pids.append(worker.pid or 0)
    try:
        while True:
            kind, value = _received(here)
            if kind == "error":
                raise value if isinstance(value, gr.Error) else gr.Error(value, title="ZeroGPU worker error")
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        worker.join(60)
        if worker.is_alive():
            platform.killed.append(worker.pid or 0)
            worker.kill()
            worker.join()


def _received(here: Any) -> tuple[str, Any]:
    try:
        if here.poll(PATIENCE):
            found: tuple[str, Any] = pickle.loads(here.recv_bytes())
            return found
    except EOFError:
        pass
    return "error", "GPU task aborted"


def _work(task: Callable[..., Any], asked: bytes, there: Any, stop: Any) -> None:
    args, kwargs = pickle.loads(asked)

    def iterate() -> None:
        found: Any = task(*args, **kwargs) if inspect.isgeneratorfunction(task) else iter([task(*args, **kwargs)])
        try:
            for item in found:
                if stop.is_set():
                    found.close()
                    break
                there.send_bytes(_pickled(("item", item)))
            there.send_bytes(_pickled(("end", None)))
        except Exception as error:
            traceback.print_exc()
            said = error if isinstance(error, gr.Error) else type(error).__name__
            there.send_bytes(_pickled(("error", said)))

    with ThreadPoolExecutor() as executor:
        executor.submit(copy_context().run, iterate)
