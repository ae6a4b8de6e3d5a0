"""Kills a fine-tuning run again and again, half of the time inside a write, for test_finetuning_kill: prints what came.

python -m tests.killed_training FOLDER BENCHMARK KILLS
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
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
MARK = "checkpoint.writing"
SLOW = 0.05
"""Seconds that a write takes at least, so that a kill lands in it."""
torch.set_num_threads(1)
really_save = torch.save


def slow_save(state: Any, path: Path) -> None:
    """Half of the file, a pause, then all of it, with a mark beside it meanwhile."""
    mark = path.parent / MARK
    mark.touch()
    really_save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    time.sleep(SLOW)
    path.write_bytes(content)
    mark.unlink()


def train(out: Path, benchmark: str, steps: int) -> str:
    pytest.MonkeyPatch().setattr(torch, "save", slow_save)  # for the rest of this process
    recipe = Recipe(
        objective="clip", steps=steps, batch=4, pool=16, keep_every=1, measure=benchmark, measure_every=10_000
    )
    state = ""
    for event in finetune(recipe, out, workbench=Workbench(), resume=True):
        state = event.state if isinstance(event, Done) else state
    return state


def killed(out: Path, benchmark: str, steps: int, inside: bool, draw: random.Random) -> bool:
    """Fork a run, and kill it some writes later, inside one or not; whether it was inside."""
    child = os.fork()
    if not child:
        train(out, benchmark, steps)
        os._exit(0)
    mark, deadline = out / MARK, time.monotonic() + 60
    for _ in range(draw.randrange(2, STEPS_A_KILL)):
        _until(lambda: not mark.exists(), deadline)
        _until(mark.exists, deadline)
    if not inside:
        _until(lambda: not mark.exists(), deadline)
    time.sleep(draw.uniform(0, SLOW / 3))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    was = mark.exists()
    mark.unlink(missing_ok=True)
    return was


def _until(holds: Callable[[], bool], deadline: float) -> None:
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.0005)


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
