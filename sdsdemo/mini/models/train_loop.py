"""Runs a training of the Mini models to its end: prints progress, writes the learning curve to a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from sdsdemo.errors import UserError
from sdsdemo.finetuning.events import Step
from sdsdemo.finetuning.loop import Failed, LossesAt, TrainingConfig, train
from sdsdemo.runtime.files import append, cut_unfinished_line
from sdsdemo.runtime.shipped import shipped_lines

Progress = Callable[[str], None]
Curve = list[dict[str, float]]
"""Points with a `step` and the mean of each loss since the previous point."""
EVERY = 50
"""Steps per point of a learning curve, which stores their mean."""
TIMED = 8
"""Steps that are timed."""


def run(
    name: str, module: nn.Module, losses_at: LossesAt, config: TrainingConfig, *, work: Path, progress: Progress
) -> Curve:
    """Train to the end, resuming from `work/NAME.run`. Writes the learning curve to `work/NAME.jsonl` and returns it.

    Raises `UserError` if the run fails.
    """
    curve_path = work / f"{name}.jsonl"
    cut_unfinished_line(curve_path)
    points: list[Step] = []
    for event in train(module, losses_at, config, keep=work / f"{name}.run"):
        if isinstance(event, Failed):
            raise UserError(f"{name}: {event.reason}")
        if isinstance(event, Step):
            points.append(event)
            if event.step % EVERY == 0 or event.step == config.steps:
                progress(_line(name, points, config))
                _append(curve_path, _mean(points))
                points = []
    module.requires_grad_(False).eval()
    return _curve(curve_path)


def step_seconds(module: nn.Module, losses_at: LossesAt, config: TrainingConfig, steps: int = TIMED) -> float:
    """Mean seconds per step, without the first two, with a learning rate too small to change the module."""
    short = replace(config, steps=steps, learning_rate=1e-8, warm_up=1)
    marks = [event.seconds for event in train(module, losses_at, short) if isinstance(event, Step)]
    return (marks[-1] - marks[1]) / (len(marks) - 2)


def _mean(points: list[Step]) -> dict[str, float]:
    means = {key: sum(p.losses[key] for p in points) / len(points) for key in points[0].losses}
    return {"step": points[-1].step, **{key: round(value, 6) for key, value in means.items()}}


def _line(name: str, points: list[Step], config: TrainingConfig) -> str:
    rate = (points[-1].seconds - points[0].seconds) / max(1, len(points) - 1)
    left = rate * (config.steps - points[-1].step)
    numbers = "  ".join(f"{key} {value:.4f}" for key, value in _mean(points).items() if key != "step")
    return f"{name}  step {points[-1].step} of {config.steps}  {numbers}  {rate:.2f} s/step, {left / 60:.1f} min left"


def _append(path: Path, point: dict[str, float]) -> None:
    append(path, [json.dumps(point)], sync=False)


def _curve(path: Path) -> Curve:
    """The last point of each step: a resumed run may have repeated some steps."""
    return list({point["step"]: point for point in shipped_lines(path, dict[str, float])}.values())
