"""Training as a stream of events: one engine for every model that this repository trains.

Knows no CLIP, no UNet, and no file format but its own checkpoint.

    for event in train(module, losses_at, config, keep=path): ...

`losses_at(step)` gives the losses of that step, whole or in micro-batches whose losses add up, and must depend only
on the step and the weights: all randomness comes from (seed, step), so a stopped and resumed run equals an
uninterrupted one, bit for bit on the CPU. Several processes share each step; their gradients are summed.

L_CLIP and L_SDS as objectives are in `sdsdemo.finetuning.objectives`; their formulas in `sdsdemo.core.losses`.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from sdsdemo.errors import ProcessFailedError
from sdsdemo.finetuning import checkpoints
from sdsdemo.finetuning.checkpoints import CheckpointError, check_fits
from sdsdemo.finetuning.events import Step
from sdsdemo.models.memory import is_out_of_memory
from sdsdemo.models.precision import single_precision
from sdsdemo.runtime.distributed import ALONE, Processes

Losses = Mapping[str, Tensor]
"""Named scalars; the one called "loss" is minimised, the others are only logged."""
LossesAt = Callable[[int], Losses | Iterator[Losses]]
"""step -> the losses of the step, or those of its micro-batches one by one, which add up to them."""
SAVING_SHARE = 0.05
"""Largest share of a run's time for timed checkpoints."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a module is trained."""

    steps: int
    learning_rate: float
    warm_up: int = 50
    """Steps over which the rate rises from zero."""
    decay: Literal["cosine", "late"] = "cosine"
    """`late`: constant, then linear to zero over the last tenth."""
    weight_decay: float = 0.01
    decays_gains: bool = True
    """Whether weight decay shrinks gains and biases too: parameters of fewer than two dimensions."""
    clip_norm: float = 1.0
    autocast: Literal["bfloat16"] | None = None
    """Precision of the forward pass, if not that of the weights and the device supports it."""
    ema: float | None = None
    """Decay of the exponential moving average of the weights, which is what a finished run leaves in the module."""

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rise = min(1.0, (step + 1) / max(1, self.warm_up))
        left = 1 - step / self.steps
        fall = 0.5 * (1 - math.cos(math.pi * left)) if self.decay == "cosine" else min(1.0, 10 * left)
        return self.learning_rate * rise * fall


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved:
    """A checkpoint was saved."""

    step: int


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """The run stopped on request and was saved; the module holds the current weights."""

    step: int


@dataclass(frozen=True, kw_only=True)
class Finished:
    """All steps are done; the module holds the result."""

    step: int


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The run cannot go on; the module holds the last good weights."""

    step: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class FellBack:
    """The newest checkpoint is damaged: resuming from the one before."""

    step: int
    reason: str


LoopEvent = FellBack | Step | CheckpointSaved | Stopped | Finished | Failed
NOT_A_NUMBER = (
    "The loss of step {step} is not a number. Try a lower learning rate in a new run; the weights of step {good} were "
    "kept."
)
NO_GRADIENT = (
    "The gradient of step {step} is not a number. Try a lower learning rate in a new run; the weights of step {good} "
    "were kept."
)


class _StepCutError(Exception):
    """The run is stopped in the middle of a step."""


NO_MEMORY = (
    "The device ran out of memory: try a smaller --micro-batch, which does not change the result; "
    "the weights of step {good} were kept."
)


def never() -> bool:
    """Never stop; never free memory."""
    return False


def train(
    module: nn.Module,
    losses_at: LossesAt,
    config: TrainingConfig,
    *,
    keep: Path | None = None,
    keep_every: int = 200,
    keep_seconds: float = math.inf,
    stop: Callable[[], bool] = never,
    on_out_of_memory: Callable[[], bool] = never,
    processes: Processes = ALONE,
) -> Iterator[LoopEvent]:
    """Train the parameters of `module` that require a gradient; stop it with `stop`, or by closing the generator.

    keep: a checkpoint to resume from if it exists. Written every `keep_every` steps, every `keep_seconds` (less often
    where writing one takes long), and when the run stops. stop: asked before every micro-batch; an unfinished step is
    discarded. on_out_of_memory: called when memory runs out; True tries again. Nothing thread-local outlives a yield.
    Raises `CheckpointError` for a checkpoint that does not fit or cannot be written, and `ProcessFailedError` in a
    process of several that runs out of memory.
    """
    run = _Run(module, config, processes)
    if keep is not None and (passed := run.load(keep)):
        yield FellBack(step=run.done, reason=passed)
    start, clock = time.monotonic(), _Clock(keep_seconds)
    while run.done < config.steps:
        try:
            values, norm = run.advance(losses_at, stop)
        except _StepCutError:
            run.save(keep)
            yield Stopped(step=run.done)
            return
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error) and processes.count == 1 and on_out_of_memory():
                continue
            yield run.out_of_memory(error, keep)
            return
        except _NotFiniteError as error:
            run.save(keep)
            yield Failed(step=run.done, reason=error.args[0].format(step=run.done + 1, good=run.done))
            return
        yield Step(step=run.done, losses=values, gradient_norm=norm, seconds=time.monotonic() - start)
        if keep is not None and (run.done % keep_every == 0 or run.done == config.steps or clock.is_due()):
            with clock.saving():
                run.save(keep)
            yield CheckpointSaved(step=run.done)
    run.settle()
    yield Finished(step=run.done)


class _Clock:
    """When the next checkpoint is due: after `seconds`, or later if writing the last was slow."""

    def __init__(self, seconds: float) -> None:
        self._seconds = self._wait = seconds
        self._since = time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() - self._since >= self._wait

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Times the writing of a checkpoint, then restarts the clock."""
        began = time.monotonic()
        yield
        self._since = time.monotonic()
        self._wait = max(self._seconds, (self._since - began) / SAVING_SHARE)


class _NotFiniteError(Exception):
    """A loss or gradient is not finite; the weights are unchanged."""


class _Run:
    """The state of a run: parameters, their moving average, the optimiser, and the step count."""

    def __init__(self, module: nn.Module, config: TrainingConfig, processes: Processes) -> None:
        self.config, self.processes = config, processes
        self.done = 0
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()} if config.ema else {}
        decay = config.weight_decay if config.decays_gains else 0.0
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), lr=config.learning_rate, weight_decay=decay, betas=(0.9, 0.98)
        )

    @single_precision()
    def advance(self, losses_at: LossesAt, stop: Callable[[], bool]) -> tuple[dict[str, float], float]:
        """One optimiser step: the losses by name, and the norm of the gradient before clipping.

        Raises `_StepCutError` or `_NotFiniteError`, and then leaves the weights as they were.
        """
        self.optimiser.zero_grad(set_to_none=True)
        values: defaultdict[str, float] = defaultdict(float)
        for losses in self._micro_batches(losses_at, stop):
            for name, value in losses.items():
                values[name] += float(value.detach())
            losses["loss"].backward()  # type: ignore[no-untyped-call]  # torch leaves `backward` untyped
        summed = self.processes.sum_numbers(values)
        if not math.isfinite(summed["loss"]):
            raise _NotFiniteError(NOT_A_NUMBER)
        self.processes.sum_gradients(self.parameters.values())
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm))
        if not math.isfinite(norm):
            raise _NotFiniteError(NO_GRADIENT)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate(self.done)
        if self.config.weight_decay and not self.config.decays_gains:
            self._decay_matrices(self.config.rate(self.done))
        self.optimiser.step()
        self.done += 1
        if self.config.ema:
            decay = min(self.config.ema, self.done / (self.done + 10))
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    self.average[name].lerp_(parameter, 1 - decay)
        return summed, norm

    @torch.no_grad()
    def _decay_matrices(self, rate: float) -> None:
        """AdamW's decay of all but gains and biases, as CLIP is trained (Radford et al. 2021, 2.5).

        One group of parameters stays one, since checkpoints keep AdamW's state by place.
        """
        for parameter in self.parameters.values():
            if parameter.ndim > 1 and parameter.grad is not None:
                parameter.mul_(1 - rate * self.config.weight_decay)

    def _micro_batches(self, losses_at: LossesAt, stop: Callable[[], bool]) -> Iterator[Losses]:
        """The losses of each micro-batch, in the configured precision; checks `stop` before each."""
        found: Iterator[Losses] | None = None
        device = next(iter(self.parameters.values())).device.type
        while True:
            # all processes stop, or none
            if (found is None or self.processes.count == 1) and any(self.processes.gather([stop()])):
                raise _StepCutError
            with torch.autocast(device, dtype=torch.bfloat16, enabled=self.config.autocast is not None):
                if found is None:
                    first = losses_at(self.done)
                    found = iter([first]) if isinstance(first, Mapping) else first
                losses = next(found, None)
            if losses is None:
                return
            yield losses

    def out_of_memory(self, error: Exception, keep: Path | None) -> Failed:
        """The run's end, saved. Raises another error again, and `ProcessFailedError` in a process of several, as the
        others are elsewhere in the step.
        """
        if not is_out_of_memory(error):
            raise error
        self.save(keep)
        reason = NO_MEMORY.format(good=self.done)
        if self.processes.count > 1:
            raise ProcessFailedError(reason) from error
        return Failed(step=self.done, reason=reason)

    def settle(self) -> None:
        """Leaves the moving average in the module, if there is one."""
        with torch.no_grad():
            for name, value in self.average.items():
                self.parameters[name].copy_(value)

    def save(self, path: Path | None) -> None:
        """Saves a checkpoint in the main process, keeping the one before. Raises `UnwritableError`."""
        if path is None or not self.processes.is_main:
            return
        state = {
            "done": self.done,
            "parameters": {name: p.detach() for name, p in self.parameters.items()},
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        checkpoints.save(path, state)

    def load(self, path: Path) -> str:
        """Loads the newest usable checkpoint; returns why a newer one was skipped, or "".

        Raises `CheckpointError` if none is usable, and changes nothing.
        """
        found = checkpoints.newest(path, self._check)
        if found is None:
            return ""
        state, passed = found
        self.done = state["done"]
        self.average = {name: tensor.to(self.parameters[name].device) for name, tensor in state["average"].items()}
        groups = self.optimiser.state_dict()["param_groups"]  # from the config, whatever the file says
        self.optimiser.load_state_dict({"state": state["optimiser"]["state"], "param_groups": groups})
        with torch.no_grad():
            for name, value in state["parameters"].items():
                self.parameters[name].copy_(value)
        return passed

    def _check(self, state: checkpoints.State) -> None:
        check_fits(state, self.parameters, averaged=bool(self.config.ema))
        if state["done"] > self.config.steps:
            raise CheckpointError(f"it holds more than the run's {self.config.steps} steps")
