"""A recipe of six steps, and what a run of it ends with."""

from __future__ import annotations

from pathlib import Path

import torch

from sdsdemo.finetuning.events import Done, Event
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.models.delta import read_delta

TINY = Recipe(steps=6, batch=4, pool=16, fitted_on=8, warm_up=1, keep_every=2, measure_every=3, teacher_timesteps=2)
COUNT = 7


def done(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return read_delta(path / "model.safetensors")[0]
