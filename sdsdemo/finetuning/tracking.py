"""Sends a run's events to an experiment tracker: `finetune --track trackio`. Knows no tensor, and never stops a run.

A tracker is a module with `init`, `log` and `finish`, as trackio has them. Its name for the run is kept in the run's
folder, so that a resumed run continues the same curves.
"""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from sdsdemo.errors import UserError
from sdsdemo.finetuning.events import DeviceChosen, Evaluated, Event, Step
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.runtime.files import write_whole

TRACKERS = ("trackio",)
PROJECT, FILE = "sdsdemo", "tracked.txt"
RUN = re.compile(r"[\w.-]{1,120}")
MISSING = "trackio is not installed: `pip install trackio`, or leave --track out."
BROKEN = "{name} failed ({why}): the run goes on without it."


def find(name: str) -> Any:
    """The tracker's module. Raises `UserError` where it is not installed."""
    assert name in TRACKERS
    try:
        import trackio
    except ImportError as error:
        raise UserError(MISSING) from error
    return trackio


class Tracker:
    """Hears each event of a run, and then `close`. The first failure is said, and ends the tracking alone."""

    def __init__(self, module: Any, recipe: Recipe, folder: Path, say: Callable[[str], None]) -> None:
        self._module, self._recipe, self._folder, self._say = module, recipe, folder, say
        self._is_on = False

    def hear(self, event: Event) -> None:
        """Starts with the device, which is chosen once the run is accepted and its folder is there."""
        if isinstance(event, DeviceChosen):
            self._is_on = True
            self._try(self._begin, event.device)
        elif isinstance(event, Step):
            self._log({**event.losses, "gradient": event.gradient_norm}, event.step)
        elif isinstance(event, Evaluated):
            self._log(evaluation(event), event.step)

    def close(self) -> None:
        """Lets the tracker send what it still holds."""
        self._try(self._module.finish)
        self._is_on = False

    def _begin(self, device: str) -> None:
        config = {**self._recipe.as_dict(), "device": device}
        self._module.init(project=PROJECT, name=run_name(self._folder), config=config, resume="allow")

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self._try(self._module.log, dict(values), step=step)

    def _try(self, act: Callable[..., object], *values: Any, **named: Any) -> None:
        """Whatever a tracker prints goes to stderr: results alone go to stdout."""
        if not self._is_on:
            return
        try:
            with redirect_stdout(sys.stderr):
                act(*values, **named)
        except Exception as error:
            self._is_on = False
            self._say(BROKEN.format(name=TRACKERS[0], why=str(error) or type(error).__name__))


def evaluation(event: Evaluated) -> dict[str, float]:
    """Held-out accuracy with its 95 % interval and the number of examples."""
    share, name = event.share, f"held-out {event.metric}"
    return {name: share.value, f"{name} low": share.low, f"{name} high": share.high, f"{name} n": share.n}


def run_name(folder: Path) -> str:
    """The tracker's name for the run in a folder: drawn once, then read."""
    path = folder / FILE
    if path.is_file() and RUN.fullmatch(kept := path.read_text(encoding="utf-8").strip()):
        return kept
    name = f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', folder.resolve().name)[:100]}-{secrets.token_hex(4)}"
    write_whole(path, name + "\n")
    return name
