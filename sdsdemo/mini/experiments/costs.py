"""What each declared objective costs: seconds per step, denoiser evaluations, and when querying beforehand pays off.

    steps after which `preference` is cheaper than `sds`
        =  seconds to query the teacher / (seconds per step of sds - seconds per step of preference)

The long runs of the confirmation shared a machine. So times come from a few steps of each recipe, one recipe after the
other on an idle machine. Queries are counted in full, as for a teacher's first student. The ratio of two step times
depends on how much larger the denoiser is than CLIP, so the operations of a step are counted too, for the Mini networks
and for the paper's.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sdsdemo.errors import UserError
from sdsdemo.finetuning.estimate import Estimate, estimate
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.setup import Models
from sdsdemo.mini.experiments.declared import CONFIRM, TOWER, TOWER_CONTRASTS
from sdsdemo.mini.experiments.flops import counted
from sdsdemo.mini.models import clip, unet
from sdsdemo.runtime.files import write_json

TIMED_STEPS = 48
IN_LOOP, BEFOREHAND = "sds", "preference"
TEXT_ALONE = "preference, text tower alone"


def recipes() -> dict[str, Recipe]:
    """The recipes to time: the cells of the confirmation, and those with the image tower frozen."""
    return {**CONFIRM.cells, **{cell: TOWER.cells[cell] for cell, _ in TOWER_CONTRASTS}}


def measured(rows: Sequence[Mapping[str, Any]], workbench: Models, note: Callable[[str], None]) -> dict[str, Any]:
    """The costs, ready for JSON. rows: the confirmation's lines, which say how many pairs the teacher judges.

    Raises `UserError` if no run of `preference` has a line.
    """
    pairs = [row["preferences"]["pairs"] for row in rows if "preferences" in row]
    if not pairs:
        raise UserError("No run of the confirmation has queried the teacher yet. Start with: mini study confirm.")
    times = {}
    for cell, recipe in recipes().items():
        note(f"timing {TIMED_STEPS} steps of {cell}")
        times[cell] = estimate(recipe, workbench, TIMED_STEPS)
    return summed(times, round(sum(pairs) / len(pairs))) | {
        "timed_steps": TIMED_STEPS,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "operations": operations(note),
    }


def operations(note: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """Operations of a step of `sds` and `preference`, in 1e9 per pair, for the Mini networks and the paper's."""
    note("counting operations")
    with torch.device("meta"):
        model, denoiser = clip.fresh(), unet.fresh()
    return {"mini": counted(model, denoiser), "paper": counted()}


def summed(times: Mapping[str, Estimate], pairs: int) -> dict[str, Any]:
    """Costs by cell, and when querying beforehand becomes cheaper. pairs: how many the teacher is asked about."""
    cells, asking = {}, pairs * times[BEFOREHAND].item
    for cell, recipe in recipes().items():
        asked = pairs if recipe.objective == "preference" else 0
        in_loop = recipe.steps * recipe.batch if recipe.objective == "sds" else 0
        cells[cell] = {
            "step_seconds": round(times[cell].step, 4),
            "run_seconds": round(recipe.steps * times[cell].step + asked * times[cell].item, 1),
            "forward": asked * 2 * recipe.teacher_timesteps * recipe.teacher_noises,
            "forward_and_back": in_loop,
        }
    recipe = CONFIRM.cells[BEFOREHAND]
    steps = asking / max(times[IN_LOOP].step - times[BEFOREHAND].step, 1e-9)
    return {
        "cells": cells,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "cheaper": {
            "pairs": pairs,
            "asking_seconds": round(asking, 1),
            "steps": round(steps),
            "epochs": round(steps * recipe.batch / recipe.pool, 1),
            "students": round(steps / recipe.steps, 2),
            "loop_ratio": round(times[IN_LOOP].step / times[BEFOREHAND].step, 2),
            "loop_ratio_text": round(times[IN_LOOP].step / times[TEXT_ALONE].step, 2),
        },
    }


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Write the costs as JSON."""
    write_json(path, found)
