"""A stand-in for fine-tuning, and a run that is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sdsdemo.app.job_states import Job
from sdsdemo.app.jobs import Jobs
from sdsdemo.core.intervals import proportion
from sdsdemo.finetuning.events import DeviceChosen, Done, Evaluated, Notice, Step, WeightsSaved, Working
from sdsdemo.finetuning.recipe import PRESETS, Recipe
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.models.delta_header import with_header
from sdsdemo.settings import CHECKPOINTS

QUICK = PRESETS["quick"]
WAIT = 60.0
KEEP_EVERY = 10


class Trainer:
    """A stand-in for `finetune`: its events, as fast as it is let, and a real file in the end."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.ran: list[Recipe] = []
        self.breaks: Exception | None = None

    def __call__(self, recipe: Recipe, folder: Path, **options: Any) -> Iterator[Any]:
        self.ran.append(recipe)
        kept = FineTuningFolder(folder)
        story: dict[str, Any] = {"recipe": recipe.as_dict(), "state": "running", "steps_done": 0, "device": "cpu"}
        done = kept.read()["steps_done"] if options["resume"] else 0
        kept.write(story | {"steps_done": done})
        yield DeviceChosen(device="cpu")
        yield Working(text="loading", done=1, total=2)
        yield Notice(text="a <note>")
        yield Evaluated(step=0, metric="text", share=proportion(80, 400))
        for step in range(done + 1, recipe.steps + 1):
            while not self.go.is_set() and not (folder / "STOP").exists():
                time.sleep(0.01)
            if (folder / "STOP").exists():
                break
            if self.breaks:
                raise self.breaks
            done = step
            losses = {"loss": 1.0 / done, "clip": 0.5}
            kept.append({"step": done, **losses, "gradient": 1.0, "s": 0.1})
            if done % KEEP_EVERY == 0:
                kept.write(story | {"steps_done": done})
            yield Working(text="evaluating")
            yield Step(step=done, losses=losses, gradient_norm=1.0, seconds=0.1 * done)
        steps = {"steps_done": done}
        weights = with_header(CHECKPOINTS / "mini-sds-clip.safetensors", lambda header: header | steps)
        (folder / "model.safetensors").write_bytes(weights)
        story |= {"steps_done": done, "state": "stopped" if done < recipe.steps else "finished"}
        kept.write(story)
        yield WeightsSaved(step=done)
        yield Done(state=story["state"], record=story)


def until(jobs: Jobs, id_: str, holds: Any) -> Job:
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        run = jobs.get(id_)
        if holds(run):
            return run
        time.sleep(0.01)
    raise AssertionError(f"it stayed {jobs.get(id_).state}")


def over(run: Job) -> bool:
    return run.is_over
