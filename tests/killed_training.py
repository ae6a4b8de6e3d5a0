"""Kills a fine-tuning run again and again, half of the time inside a write, for test_finetuning_kill: prints what came.

python -m tests.killed_training FOLDER BENCHMARK KILLS
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sdsdemo.app.workbench import Workbench
from sdsdemo.finetuning import before_after, checkpoints
from sdsdemo.finetuning.events import Done
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.models.delta import read_delta

before_after.ZERO_SHOT, before_after.RETRIEVAL = 3, (1, 3)
STEPS_A_KILL = 8
torch.set_num_threads(1)
really_save = torch.save


class DyingSave:
    """`torch.save` that kills its process: before the write of a number, counted from 0, or at half of its file."""

    def __init__(self, number: int, *, is_inside: bool) -> None:
        self._left, self._is_inside = number, is_inside

    def __call__(self, state: Any, path: Path) -> None:
        self._left -= 1
        if self._left < 0 and not self._is_inside:
            os.kill(os.getpid(), signal.SIGKILL)
        really_save(state, path)
        if self._left < 0:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)


def train(out: Path, benchmark: str, steps: int) -> str:
    recipe = Recipe(
        objective="clip", steps=steps, batch=4, pool=16, keep_every=1, measure=benchmark, measure_every=10_000
    )
    state = ""
    for event in finetune(recipe, out, workbench=Workbench(), resume=True):
        state = event.state if isinstance(event, Done) else state
    return state


def killed(out: Path, benchmark: str, steps: int, is_inside: bool, draw: random.Random) -> bool:
    """Forks a run that dies some checkpoints later, inside the write of one or not; whether it left a part of one."""
    child = os.fork()
    if not child:
        save = DyingSave(draw.randrange(2, STEPS_A_KILL), is_inside=is_inside)
        pytest.MonkeyPatch().setattr(torch, "save", save)
        train(out, benchmark, steps)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it came to its end"
    return any(out.glob(f"*.{child}-*.part"))


def main(folder: Path, benchmark: str, kills: int) -> None:
    draw, out, steps = random.Random(7), folder / "cut", STEPS_A_KILL * kills
    train(folder / "whole", benchmark, steps)
    found: dict[str, Any] = {"kills": kills, "inside": 0, "states": [], "steps": [0]}
    for number in range(kills):
        found["inside"] += killed(out, benchmark, steps, number % 2 == 0, draw)
        run = FineTuningFolder(out)
        found["states"].append(run.read()["state"])
        kept = checkpoints.newest(run.checkpoint)
        found["steps"].append(kept[0]["done"] if kept else 0)
    found["end"] = train(out, benchmark, steps)
    a, b = (read_delta(folder / name / "model.safetensors")[0] for name in ("whole", "cut"))
    found["equal"] = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
