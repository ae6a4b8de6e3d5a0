"""The story of a run while it goes on: what an earlier part of it left, what this part adds, and the time it has.

The only thing of a run that changes as it goes, beside the weights. The main process writes it to the run's folder.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from sdsdemo.core.metrics import proportion
from sdsdemo.errors import UserError
from sdsdemo.finetuning import checkpoints
from sdsdemo.finetuning.before_after import Evaluation
from sdsdemo.finetuning.checkpoints import CheckpointError
from sdsdemo.finetuning.events import Done, Evaluated, Step
from sdsdemo.finetuning.recipe import Recipe, with_defaults
from sdsdemo.finetuning.run_folder import ENDED, TuningFolder
from sdsdemo.finetuning.setup import Plan
from sdsdemo.models import cards
from sdsdemo.types import Card

LIBRARIES = ("torch", "open_clip_torch", "diffusers", "numpy")
ANOTHER = "'{name}' holds a run with a different {what}: name another --out, or repeat its settings."
BROKEN = "The checkpoint of '{name}' cannot be used ({why}): name another --out and start again."
NO_CHECKPOINT = "'{name}' has no checkpoint to resume from: name another --out and start again."
UNCHANGED = "The run in the folder is unchanged."
OF_ITS_END = ("reason", "out_of_time", "halved")
"""What a record says of how a part of a run ended, which the next part does not take over."""


class RunRecord:
    """run.json and log.jsonl of a run that goes on."""

    def __init__(self, plan: Plan, folder: TuningFolder, seconds: float | None = None) -> None:
        """seconds: the longest it may take.

        Raises `UserError` where the folder holds a run that this one cannot go on with.
        """
        self.folder, self._processes, self._steps = folder, plan.processes, plan.recipe.steps
        self._began, self._seconds = time.monotonic(), seconds
        self.has_trained = False
        """Whether this part of the run made a step."""
        self.lengthened = 0
        """Steps that an earlier part of the run was to make, where this one is to make more."""
        self.stored: dict[str, Any] | None = None
        """What run.json said before, where the run goes on."""
        self.values = _new_values(plan, folder.path.name)
        """What run.json is to say."""
        if folder.exists and not is_free(stored := folder.read(), folder):
            self._go_on(plan, stored)
        plan.processes.wait()  # nobody changes the folder before everybody has read it

    def _go_on(self, plan: Plan, stored: dict[str, Any]) -> None:
        """Take over what an earlier part of the run knew. Raises `UserError`."""
        _check_goes_on(plan, stored, self.values, self.folder)
        done = _steps_kept(self.folder, stored)
        before = with_defaults(stored["recipe"])["steps"]
        self.lengthened = before if before < plan.recipe.steps else 0
        self.stored = stored
        known = {key: value for key, value in stored.items() if key not in OF_ITS_END}
        self.values = known | self.values | {"steps_done": done, "seconds_before": stored.get("seconds", 0.0)}

    @property
    def steps_done(self) -> int:
        """Steps that the run has made in all."""
        return int(self.values["steps_done"])

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self._processes.is_main

    def asked_to_stop(self) -> bool:
        """Whether the visitor asked this process to stop, or its time is up."""
        if self._seconds is not None and time.monotonic() - self._began > self._seconds:
            self.values["out_of_time"] = True
            return True
        return self.folder.is_asked_to_stop

    def save(self, state: str) -> None:
        """Write run.json with that state. Raises `UserError` where the disk does not take it."""
        self.values["state"] = state
        if self.is_main:
            self.folder.write(self.values)

    def save_seconds(self, state: str) -> None:
        """As `save`, with the time of all parts of the run so far."""
        self.values["seconds"] = round(time.monotonic() - self._began + self.values.get("seconds_before", 0.0), 1)
        self.save(state)

    def log_step(self, event: Step) -> None:
        """A step was made. Raises `UserError` where the disk does not take its line."""
        self.values["steps_done"] = event.step
        if not self.has_trained:
            self.has_trained = True
            self.values.pop("measured", None)  # of the weights before
        losses = {name: round(value, 6) for name, value in event.losses.items()}
        self._log(
            {"step": event.step, **losses, "gradient": round(event.gradient_norm, 6), "s": round(event.seconds, 3)}
        )

    def log_evaluation(self, step: int, evaluation: Evaluation) -> Evaluated:
        """Held-out accuracy at a step, as the event that tells it."""
        metric, right_E = evaluation.headline
        share = proportion(int(right_E.sum()), len(right_E))
        self._log({"what": "look", "step": step, "metric": metric, **asdict(share)})
        return Evaluated(step=step, metric=metric, share=share)

    def log_controls(self, step: int, controls: Mapping[str, float]) -> None:
        """The controls of L_SDS at a step."""
        self._log({"what": "controls", "step": step, **controls})
        self.values.setdefault("controls", {})[str(step)] = dict(controls)

    def _log(self, row: Mapping[str, Any]) -> None:
        if self.is_main:
            self.folder.append(row)

    def forget_steps_to_come(self) -> None:
        """Drops lines of the log beyond the checkpoint: those steps are made again."""
        if self.is_main:
            self.folder.forget_after(self.steps_done)

    # ---------------------------------------------------------------------------------------------------- its end

    def is_as_it_was(self, state: str) -> bool:
        """Whether a run that was over before ends again without a new step: its files hold all that there is."""
        return (
            self.stored is not None and self.stored["state"] in ENDED and not self.has_trained and state != "finished"
        )

    def close_as_it_was(self, state: str, reason: str = "") -> Done:
        """run.json as it was before this part, which may say more than this part knows."""
        assert self.stored is not None
        if self.is_main:
            self.folder.write(self.stored)
        reason = f"{reason} {UNCHANGED}" if reason else ""
        record = self.stored | {"state": state, "reason": reason, "steps": self._steps, "as_it_was": True}
        return Done(state=state, record=record, reason=reason)

    def close(self, state: str, reason: str = "") -> Done:
        """Write the end. A run that finished while it was asked to stop is said to be stopped."""
        self.values["reason"] = reason
        if state == "finished" and self.asked_to_stop():
            state = "stopped"
        self.save(state)
        return Done(state=state, record=self.values, reason=reason)


def is_free(stored: Mapping[str, Any], folder: TuningFolder) -> bool:
    """Whether a run failed before its first step: nothing is lost where another one takes its folder."""
    return stored["state"] == "failed" and not stored.get("steps_done") and not checkpoints.exists(folder.checkpoint)


def goes_on(stored: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether a recipe is that of a stored run, to the same number of steps or to more."""
    held = with_defaults(stored["recipe"])
    return held | {"steps": recipe.steps} == recipe.as_dict() and recipe.steps >= held["steps"]


def _check_goes_on(plan: Plan, stored: Mapping[str, Any], new: Mapping[str, Any], folder: TuningFolder) -> None:
    """Raises `UserError` where a stored run has another recipe, or other weights."""
    if not goes_on(stored, plan.recipe):
        raise UserError(ANOTHER.format(name=folder.path, what="recipe"))
    for what, card in (("base", plan.base_card), ("teacher", plan.teacher_card)):
        key = f"{what}_fingerprint"
        if not _is_of(stored.get(key), card, new[key]):
            raise UserError(ANOTHER.format(name=folder.path, what=what))


def _is_of(fingerprint: str | None, card: Card | None, now: str | None) -> bool:
    """Whether a run was begun with this model; runs of earlier versions name it by its weights alone."""
    if card is None or fingerprint == now:
        return (card is None) == (fingerprint is None)
    return fingerprint == cards.weights_fingerprint(card)


def _steps_kept(folder: TuningFolder, stored: Mapping[str, Any]) -> int:
    """Steps of the checkpoint. Raises `UserError` where it cannot be used, or there is none and one is needed."""
    try:
        found = checkpoints.newest(folder.checkpoint)
    except CheckpointError as error:
        raise UserError(BROKEN.format(name=folder.path, why=error)) from error
    if found is None and stored["state"] in ("finished", "stopped") and stored.get("steps_done"):
        raise UserError(NO_CHECKPOINT.format(name=folder.path))
    return found[0]["done"] if found else 0


def _new_values(plan: Plan, out: str) -> dict[str, Any]:
    recipe, device = plan.recipe, plan.device
    return {
        "state": "preparing",
        "recipe": recipe.as_dict(),
        "objective": recipe.objective,
        "base_card": plan.base_card.name,
        "base_fingerprint": cards.fingerprint(plan.base_card),
        "teacher": None if plan.teacher_card is None else plan.teacher_card.spec,
        "teacher_fingerprint": None if plan.teacher_card is None else cards.fingerprint(plan.teacher_card),
        "seed": recipe.seed,
        "steps": recipe.steps,
        "steps_done": 0,
        "data": recipe.data if recipe.is_mini else recipe.data.partition(":")[0],
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "processes": plan.processes.count,
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in LIBRARIES},
        "command": recipe.command(out),
    }
