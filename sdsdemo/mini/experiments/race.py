"""Runs each objective once from Mini CLIP, evaluated often on the validation set: the curves of the Fine-tune tab.

The recipes are the study's, with its first base, seed and teacher. Resumable: a finished run is not made again.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from sdsdemo.finetuning.cache import MiniCache
from sdsdemo.finetuning.objective_race import RACE_FILE, StoredLap, StoredRace, StoredRun, StoredStart
from sdsdemo.finetuning.recipe import NAMES, PRESETS, Recipe
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.finetuning.setup import Models
from sdsdemo.mini.experiments.declared import CONFIRM, PREFERENCE_CONTROLS, SCREEN
from sdsdemo.mini.experiments.runs import trained_run
from sdsdemo.mini.experiments.study import BASES, VALIDATION
from sdsdemo.runtime import files
from sdsdemo.runtime.shipped import shipped

EVERY = 50
"""Steps between evaluations."""
SEED = 0
START, START_SEEDS = "minute", (0, 1, 2)
"""The preset that the page opens with, and the seeds of its runs."""
COMMAND = "python -m sdsdemo mini race"


def recipes() -> dict[str, Recipe]:
    """The study's recipe of each objective, with LayerNorms trained for 800 steps."""
    cells = {
        **CONFIRM.cells,
        "labels": PREFERENCE_CONTROLS.cells["labels"],
        "features": SCREEN.cells["features 1"],
    }
    return {name: replace(cells[name], base=BASES[0], seed=SEED, measure_every=EVERY) for name in NAMES}


def run_race(work: Path, workbench: Models, progress: Callable[[str], None]) -> StoredRace:
    """Train what is missing in `work`, and collect it. Raises `UserError` for a run that fails."""
    cache = MiniCache()
    runs: dict[str, StoredRun] = {}
    for name, recipe in recipes().items():
        record = trained_run(recipe, work / name, workbench, progress, cache)
        default = Recipe().as_dict()
        runs[name] = StoredRun(
            recipe={key: value for key, value in recipe.as_dict().items() if value != default[key]},
            seconds=record["seconds"],
            laps=_laps(FineTuningFolder(work / name)),
        )
    return StoredRace(
        command=COMMAND,
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        threads=torch.get_num_threads(),
        base=BASES[0],
        benchmark=VALIDATION,
        n=len(cache.sets(VALIDATION)[VALIDATION]),
        seed=SEED,
        runs=runs,
        starts=[_start(seed, work, workbench, progress, cache) for seed in START_SEEDS],
    )


def _start(seed: int, work: Path, workbench: Models, progress: Callable[[str], None], cache: MiniCache) -> StoredStart:
    """One run of the recipe that the page opens with; made once, since its time on the processor is only known then."""
    path = work / f"{START}-{seed}.json"
    if not path.is_file():
        began = time.process_time()
        record = trained_run(replace(PRESETS[START], seed=seed), work / f"{START}-{seed}", workbench, progress, cache)
        change = record["measured"]["sets"][VALIDATION]["metrics"]["text"]["change"]
        found = {key: change[key] for key in ("value", "low", "high", "n")}
        spent = {"seconds": record["seconds"], "core_seconds": round(time.process_time() - began, 1)}
        files.write_whole(path, files.to_json({"seed": seed, **found, **spent}))
    made: StoredStart = shipped(path, StoredStart)
    return made


def _laps(folder: FineTuningFolder) -> list[StoredLap]:
    """The evaluations in a run's log."""
    rows = [row for row in folder.log() if row.get("what") == "look"]
    return [
        StoredLap(step=row["step"], right=round(row["value"] * row["n"]), pictures=row["pictures"])
        for row in sorted(rows, key=lambda row: row["step"])
    ]


def write_race(race: StoredRace) -> None:
    """Write the race as JSON."""
    files.write_json(RACE_FILE, race)
