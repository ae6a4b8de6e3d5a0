"""Trains a prepared run: steps, evaluations on held-out data, controls of L_SDS, checkpoints.

load -> Loaded (`setup`) -> prepare -> Prepared (`prepare`) -> train_prepared -> Ended -> finish (`ending`)
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from sdsdemo.finetuning.before_after import Evaluation, Evaluator, mini_measure, sets_of
from sdsdemo.finetuning.events import Event, Notice, Step, Working
from sdsdemo.finetuning.loop import CheckpointSaved, Failed, FellBack, Finished, Stopped, TrainingConfig, train
from sdsdemo.finetuning.objectives import Objective
from sdsdemo.finetuning.prepare import Prepared
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run_record import RunRecord
from sdsdemo.finetuning.sds_controls import LEAST_ROWS, controls_words, sds_controls, sds_gradient_controls
from sdsdemo.finetuning.setup import Loaded, StopAsked
from sdsdemo.models.memory import give_back, is_out_of_memory
from sdsdemo.models.precision import gpu_has_bfloat16

KEEP_SECONDS = 10.0
"""Longest time between checkpoints if writing one is quick, so that a kill costs a short run little."""
EVALUATIONS = 5
"""Default number of evaluations on held-out data per run."""
CONTROL_ROWS = 32
"""Rows of the batch that the controls of L_SDS are computed on."""
FELL_BACK = "The newest checkpoint cannot be used ({why}): resuming from the one before, at step {step}."
LENGTHENED = "The run now has {steps} steps instead of {before}: the learning rate follows the longer schedule."
NO_CONTROLS = (
    "The controls of L_SDS are left out, since they give each image the caption of another: for them, raise --batch to "
    f"{LEAST_ROWS}."
)
NO_MEMORY_FOR_CONTROLS = (
    "The controls of L_SDS are left out at step {step}, since the device ran out of memory for one image at a time: "
    "close other programs that use it."
)
NO_MEMORY_FOR_EVALUATION = (
    "The evaluation of step {step} is left out, since the device ran out of memory: close other programs that use it."
)
HALVED = "Memory ran out: micro-batches are now half as large; the batch is the same."


@dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """The base's evaluation before training."""

    evaluator: Evaluator
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the steps of a run ended."""

    state: Literal["finished", "stopped", "failed"]
    reason: str = ""
    """What to do, if it failed."""


def evaluate_baseline(loaded: Loaded, record: RunRecord) -> Generator[Event, None, Baseline]:
    """Evaluate the base on the run's sets. Raises `StopAsked`."""
    plan, cache = loaded.plan, loaded.plan.cache
    evaluator = (
        Evaluator(sets_of(plan.recipe, loaded.source), loaded.base)
        if cache is None or not plan.recipe.is_mini
        else Evaluator(cache.sets(mini_measure(plan.recipe)), loaded.base, cache.inputs(loaded.base))
    )
    plan.stop_if_asked()
    yield Working(text="baseline evaluation")
    evaluation = evaluator.evaluate(check=plan.stop_if_asked)
    yield record.log_evaluation(0, evaluation)
    return Baseline(evaluator=evaluator, evaluation=evaluation)


def train_prepared(prepared: Prepared, baseline: Baseline, record: RunRecord) -> Generator[Event, None, Ended]:
    """Train the remaining steps, from the checkpoint if there is one. Raises `CheckpointError` and `UserError`."""
    plan, recipe = prepared.loaded.plan, prepared.loaded.plan.recipe
    record.values |= prepared.facts
    record.save("running")
    yield from _what_is_trained(prepared, record)
    yield from _controls(prepared, record, 0)
    record.forget_steps_to_come()
    if plan.processes.count == 1:
        prepared.objective.parts = max(plan.parts, record.parts)
    memory = SmallerParts(prepared.objective, plan.device)
    for event in train(
        prepared.student, prepared.objective, training_config(prepared), keep=record.folder.checkpoint,
        keep_every=recipe.keep_every, keep_seconds=KEEP_SECONDS, stop=plan.asked_to_stop,
        on_out_of_memory=memory.relieve, processes=plan.processes,
    ):  # fmt: skip
        match event:
            case Step():
                record.log_step(event)
                yield event
                if memory.halved and not record.values.get("halved"):
                    record.values |= {"halved": True, "parts": prepared.objective.parts}
                    yield Notice(text=HALVED)
                yield from _between_steps(prepared, baseline, record, event.step)
            case CheckpointSaved():
                record.save_seconds("running")
            case FellBack():
                record.values["steps_done"] = event.step
                yield Notice(text=FELL_BACK.format(why=event.reason, step=event.step))
            case Failed():
                record.values |= {"parts": prepared.objective.parts} if memory.halved else {}
                return Ended(state="failed", reason=event.reason)
            case Stopped():
                return Ended(state="stopped")
            case Finished():
                yield from _controls(prepared, record, event.step)
    return Ended(state="finished")


def training_config(prepared: Prepared) -> TrainingConfig:
    recipe, device = prepared.loaded.plan.recipe, prepared.loaded.plan.device
    has_bfloat16 = device.type == "cuda" and gpu_has_bfloat16()
    return TrainingConfig(
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        warm_up=recipe.warm_up,
        weight_decay=recipe.weight_decay,
        decays_gains=False,
        clip_norm=recipe.clip_norm,
        ema=recipe.ema or None,
        autocast="bfloat16" if has_bfloat16 else None,
    )


class SmallerParts:
    """Halves the micro-batches when the device runs out of memory, once."""

    def __init__(self, objective: Objective, device: torch.device) -> None:
        self._objective, self._device, self.halved = objective, device, False

    def relieve(self) -> bool:
        """Returns whether to retry the step."""
        if self.halved:
            return False
        self.halved = True
        self._objective.parts *= 2
        give_back(self._device)
        return True


def _what_is_trained(prepared: Prepared, record: RunRecord) -> Iterator[Event]:
    recipe = prepared.loaded.plan.recipe
    if record.lengthened:
        yield Notice(text=LENGTHENED.format(before=record.lengthened, steps=recipe.steps))
    if recipe.objective == "sds":
        assert prepared.teacher is not None
        yield Notice(text=_reduction_words(recipe, int(np.prod(prepared.teacher.latent_shape))))
        if recipe.batch < LEAST_ROWS:
            yield Notice(text=NO_CONTROLS)


def _reduction_words(recipe: Recipe, count: int) -> str:
    """The term that lambda weights, in a sentence. count: elements of a latent."""
    other = f"a sum would be {count} times as much" if recipe.reduction == "mean" else f"{count} times the mean"
    jacobian = "through the whole denoiser" if recipe.jacobian else "without the denoiser's Jacobian"
    return (
        f"L_SDS is a {recipe.reduction} over the {count} elements of a latent ({other}); its gradient goes "
        f"{jacobian}; timesteps are uniform from {recipe.timestep_low:g} to {recipe.timestep_high:g}."
    )


def _between_steps(prepared: Prepared, baseline: Baseline, record: RunRecord, step: int) -> Iterator[Event]:
    """Held-out accuracy at intervals, and the controls halfway.

    A stop during an evaluation takes effect at the next step.
    """
    recipe = prepared.loaded.plan.recipe
    every = recipe.measure_every or max(1, recipe.steps // EVALUATIONS)
    if step % every == 0 and step < recipe.steps:
        yield Working(text="evaluating on held-out data")
        evaluation = _evaluated(prepared, baseline.evaluator, step)
        if isinstance(evaluation, Evaluation):
            yield record.log_evaluation(step, evaluation)
        elif evaluation is not None:
            yield evaluation
    if step == recipe.steps // 2:
        yield from _controls(prepared, record, step)


def _evaluated(prepared: Prepared, evaluator: Evaluator, step: int) -> Evaluation | Notice | None:
    """Accuracy on the first set, or why it is left out; None if the run is to stop.

    Several processes evaluate together, so that one without memory ends the run.
    """
    plan = prepared.loaded.plan
    try:
        return evaluator.evaluate([evaluator.first], plan.stop_if_asked)
    except StopAsked:
        return None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or plan.processes.count > 1:
            raise
    give_back(plan.device)
    return Notice(text=NO_MEMORY_FOR_EVALUATION.format(step=step))


def _controls(prepared: Prepared, record: RunRecord, step: int) -> Iterator[Event]:
    """Log L_SDS on the student's latents and on control latents, with true and shuffled captions.

    Nothing where the batch, or the device's memory, is too small for them.
    """
    recipe = prepared.loaded.plan.recipe
    if recipe.objective != "sds" or recipe.batch < LEAST_ROWS or not record.is_main:
        return
    yield Working(text="computing the controls of L_SDS")
    found = _computed_controls(prepared)
    if found is None:
        yield Notice(text=NO_MEMORY_FOR_CONTROLS.format(step=step))
        return
    rounded = {name: round(value, 6) for name, value in found.items()}
    record.log_controls(step, rounded)
    yield Notice(text=controls_words(rounded))


def _computed_controls(prepared: Prepared) -> dict[str, float] | None:
    """The controls, a micro-batch at a time, or half of it whenever memory runs out; None if one row is too much."""
    objective, at_once = prepared.objective, prepared.objective.at_once
    rows = slice(0, min(objective.batches.size, CONTROL_ROWS))
    while at_once:
        try:
            batch = prepared.batches.control_batch(0, rows)
            found = sds_controls(objective, batch, rows, 0, at_once)
            return found | sds_gradient_controls(objective, batch, rows, 0, at_once)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        give_back(prepared.loaded.plan.device)
        at_once //= 2
    return None
