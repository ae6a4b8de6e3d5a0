"""Training as a stream of events: one engine for every model that this repository trains.

Knows no CLIP, no UNet, and no file format but its own checkpoint.

    for event in train(module, losses_at, course, keep=path): ...

`losses_at(step)` gives the losses of that step, and must depend on nothing but the step and the weights: all randomness
comes from (seed, step), so that a run that was stopped and continued equals one that was not.

L_CLIP and L_SDS as objectives are in `sdsdemo.objectives`; their formulas in `sdsdemo.losses`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

LossesAt = Callable[[int], Mapping[str, Tensor]]
"""step -> named scalars; the one called "loss" is minimised, the others are only logged."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a module is trained."""

    steps: int
    learning_rate: float
    warm_up: int = 50
    """Steps over which the rate rises from zero."""
    decay: Literal["cosine", "late"] = "cosine"
    """`late`: constant, then linear to zero over the last tenth."""
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float | None = None
    """Decay of the exponential moving average of the weights, which is what a finished run leaves in the module."""

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rise = min(1.0, (step + 1) / max(1, self.warm_up))
        left = 1 - step / self.steps
        fall = 0.5 * (1 - math.cos(math.pi * left)) if self.decay == "cosine" else min(1.0, 10 * left)
        return self.learning_rate * rise * fall


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimiser step was made."""

    step: int
    """Steps done so far."""
    losses: Mapping[str, float]
    gradient_norm: float
    seconds: float
    """Wall-clock time since this process began or continued the run."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The run was written to its checkpoint."""

    step: int


@dataclass(frozen=True, kw_only=True)
class Finished:
    """All steps were made; the module holds the result."""

    step: int


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The run cannot go on; the module holds the last good weights."""

    step: int
    reason: str


Event = Step | Kept | Finished | Failed
NOT_A_NUMBER = (
    "The loss of step {step} is not a number. Try a lower learning rate; the weights of step {good} were kept."
)


def train(
    module: nn.Module, losses_at: LossesAt, course: Course, *, keep: Path | None = None, keep_every: int = 200
) -> Iterator[Event]:
    """Train the parameters of `module` that require a gradient; stop by closing the generator.

    keep: a checkpoint that is written every `keep_every` steps and continued from when it is there.
    """
    run = _Run(module, course)
    if keep is not None and keep.exists():
        run.load(keep)
    start = time.monotonic()
    while run.done < course.steps:
        losses = losses_at(run.done)
        if not math.isfinite(float(losses["loss"].detach())):
            yield Failed(step=run.done, reason=NOT_A_NUMBER.format(step=run.done + 1, good=run.done))
            return
        norm = run.advance(losses["loss"])
        values = {name: float(value.detach()) for name, value in losses.items()}
        yield Step(step=run.done, losses=values, gradient_norm=norm, seconds=time.monotonic() - start)
        if keep is not None and (run.done % keep_every == 0 or run.done == course.steps):
            run.save(keep)
            yield Kept(step=run.done)
    run.settle()
    yield Finished(step=run.done)


class _Run:
    """The state of a run: parameters, their moving average, the optimiser, and how many steps were made."""

    def __init__(self, module: nn.Module, course: Course) -> None:
        self.course = course
        self.done = 0
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()} if course.ema else {}
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), lr=course.learning_rate, weight_decay=course.weight_decay, betas=(0.9, 0.98)
        )

    def advance(self, loss: Tensor) -> float:
        """One optimiser step; gives the norm of the gradient before clipping."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.course.rate(self.done)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.course.clip_norm)
        self.optimiser.step()
        self.done += 1
        if self.course.ema:
            decay = min(self.course.ema, self.done / (self.done + 10))
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    self.average[name].lerp_(parameter, 1 - decay)
        return float(norm)

    def settle(self) -> None:
        """Leave the moving average in the module, where there is one."""
        with torch.no_grad():
            for name, value in self.average.items():
                self.parameters[name].copy_(value)

    def save(self, path: Path) -> None:
        state = {
            "done": self.done,
            "parameters": {name: p.detach() for name, p in self.parameters.items()},
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        torch.save(state, aside)
        aside.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.done = state["done"]
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        with torch.no_grad():
            for name, value in state["parameters"].items():
                self.parameters[name].copy_(value)
