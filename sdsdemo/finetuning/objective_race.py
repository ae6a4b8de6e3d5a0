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
from sdsdemo.runtime.shipped import shipped
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


class StoredRace(TypedDict):
    """race.json."""

    command: str
    machine: str
    threads: int
    base: str
    benchmark: str
    n: int
    runs: dict[str, StoredRun]


@dataclass(frozen=True, kw_only=True)
class Race:
    """The stored race, checked."""

    base: str
    benchmark: str
    n: int
    steps: int
    seconds: Mapping[str, float]
    recipes: Mapping[str, Mapping[str, Any]]
    scores: Mapping[str, tuple[tuple[int, Proportion], ...]]
    """By objective: step and text score of each evaluation."""
    pictures: Mapping[str, tuple[tuple[int, str], ...]]
    """By objective: step and bits of each evaluation."""


@cache
def read_race(path: Path = RACE_FILE) -> Race:
    """The stored race. Raises `UserError` if the file is missing or damaged."""
    stored: StoredRace = shipped(path, StoredRace)
    runs, n = stored["runs"], stored["n"]
    return Race(
        base=stored["base"],
        benchmark=stored["benchmark"],
        n=n,
        steps=max((lap["step"] for run in runs.values() for lap in run["laps"]), default=1),
        seconds={name: run["seconds"] for name, run in runs.items()},
        recipes={name: run["recipe"] for name, run in runs.items()},
        scores={
            name: tuple((lap["step"], proportion(lap["right"], n)) for lap in run["laps"]) for name, run in runs.items()
        },
        pictures={name: tuple((lap["step"], lap["pictures"]) for lap in run["laps"]) for name, run in runs.items()},
    )
