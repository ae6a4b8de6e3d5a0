"""The stored race: what each objective did to one base, evaluation by evaluation. Trains nothing; `mini race` wrote it.

The runs are those of the study (`mini/experiments/declared.py`) with seed 0, evaluated on validation more often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from sdsdemo.core.intervals import Proportion, proportion
from sdsdemo.errors import UserError
from sdsdemo.runtime.shipped import DAMAGED, shipped
from sdsdemo.settings import ASSETS

RACE_FILE = ASSETS / "mini" / "race.json"


class StoredLap(TypedDict):
    """One evaluation."""

    step: int
    right: int
    """Examples whose two pictures both got their own caption."""
    pictures: str
    """As in `events.Evaluated`."""


class StoredRun(TypedDict):
    """One objective's run."""

    recipe: dict[str, Any]
    """The settings that differ from the defaults."""
    seconds: float
    laps: list[StoredLap]


class StoredStart(TypedDict):
    """One run of the recipe that the page opens with: how it changed the text score."""

    seed: int
    seconds: float
    core_seconds: float
    """Time on the processor, over all threads."""
    value: float
    low: float
    high: float
    n: int


class StoredRace(TypedDict):
    """race.json."""

    command: str
    machine: str
    threads: int
    base: str
    benchmark: str
    n: int
    seed: int
    runs: dict[str, StoredRun]
    starts: list[StoredStart]


@dataclass(frozen=True, kw_only=True)
class Race:
    """The stored race, checked."""

    command: str
    base: str
    benchmark: str
    n: int
    seed: int
    steps: int
    seconds: Mapping[str, float]
    recipes: Mapping[str, Mapping[str, Any]]
    scores: Mapping[str, tuple[tuple[int, Proportion], ...]]
    """By objective: step and text score of each evaluation."""
    pictures: Mapping[str, tuple[tuple[int, str], ...]]
    """By objective: step and bits of each evaluation."""
    starts: tuple[StoredStart, ...]
    """Runs of the recipe that the page opens with."""


@cache
def read_race(path: Path = RACE_FILE) -> Race:
    """The stored race. Raises `UserError` if the file is missing or damaged."""
    stored: StoredRace = shipped(path, StoredRace)
    runs, n = stored["runs"], stored["n"]
    if not runs or not all(run["laps"] for run in runs.values()):
        raise UserError(DAMAGED.format(name=path.name, why="it has no run, or a run without an evaluation"))
    return Race(
        command=stored["command"],
        base=stored["base"],
        benchmark=stored["benchmark"],
        n=n,
        seed=stored["seed"],
        steps=max(lap["step"] for run in runs.values() for lap in run["laps"]),
        seconds={name: run["seconds"] for name, run in runs.items()},
        recipes={name: run["recipe"] for name, run in runs.items()},
        scores={
            name: tuple((lap["step"], proportion(lap["right"], n)) for lap in run["laps"]) for name, run in runs.items()
        },
        pictures={name: tuple((lap["step"], lap["pictures"]) for lap in run["laps"]) for name, run in runs.items()},
        starts=tuple(stored["starts"]),
    )
