"""The record of a run in progress: what earlier parts left, what this part adds, and its time limit.

Besides the weights, it is the only state of a run that changes. The main process writes it to the run's folder. It is
published with the weights, so it never names that folder: a page's is named by the id that only the run's owner holds.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from sdsdemo.core.bits import packed
from sdsdemo.core.intervals import proportion
from sdsdemo.core.wording import count_of
from sdsdemo.errors import UserError, quoted
from sdsdemo.finetuning import checkpoints
from sdsdemo.finetuning.before_after import Evaluation
from sdsdemo.finetuning.checkpoints import CheckpointError
from sdsdemo.finetuning.elsewhere import OUT
from sdsdemo.finetuning.events import Done, Evaluated, Step
from sdsdemo.finetuning.recipe import Recipe, cli_flag, with_defaults
from sdsdemo.finetuning.run_folder import ENDED, FineTuningFolder
from sdsdemo.finetuning.setup import Plan
from sdsdemo.models import cards
from sdsdemo.models.public_names import names_a_file, path_of_source
from sdsdemo.runtime.files import finite
from sdsdemo.types import Card

LIBRARIES = ("torch", "open_clip_torch", "diffusers", "numpy")
ANOTHER = "'{name}' holds a run with a different {what}: name another --out, or repeat its settings."
BROKEN = "The checkpoint of '{name}' cannot be used ({why}): name another --out and start again."
NO_CHECKPOINT = "'{name}' has no checkpoint to resume from: name another --out and start again."
UNCHANGED = "The run in the folder is unchanged."
CHANGEABLE = ("steps", "micro_batch", "keep_every", "measure_every")
"""Settings that a later part of a run may change: steps if there are more of them, the others at will."""
NAMED_BY_CONTENT = ("base", "teacher", "data")
"""Settings that may name a folder or a file here; it may move, as what it holds is compared."""
OTHER_DATA = (
    "The data of this run are not those that it began with: bring back the names and captions of that time, or name "
    "another --out."
)
OF_ITS_END = ("reason", "out_of_time", "halved")
"""Keys on how a part of a run ended, which the next part does not inherit."""


class RunRecord:
    """run.json and log.jsonl of a run in progress."""

    def __init__(self, plan: Plan, folder: FineTuningFolder, seconds: float | None = None) -> None:
        """seconds: time limit. Raises `UserError` if the folder holds a run that this one cannot continue."""
        self.folder, self._processes, self._steps = folder, plan.processes, plan.recipe.steps
        self._began, self._seconds = time.monotonic(), seconds
        self.has_trained = False
        """Whether this part of the run has taken a step."""
        self.lengthened = 0
        """The earlier number of steps, if this part extends the run; else 0."""
        self.stored: dict[str, Any] | None = None
        """The previous contents of run.json, if the run is resumed."""
        self.values = _new_values(plan)
        """The contents of run.json."""
        stored = folder.read() if folder.exists else None
        is_new = stored is None or is_free(stored, folder)
        if stored is not None and not is_new:
            self._resume(plan, stored)
        plan.processes.wait()  # no process changes the folder before all have read it
        if is_new and self.is_main:
            checkpoints.forget(folder.checkpoint)  # of step 0, with the weights of another recipe

    def _resume(self, plan: Plan, stored: dict[str, Any]) -> None:
        """Inherit the record of the run's earlier parts. Raises `UserError`."""
        _check_resumable(plan, stored, self.values, self.folder)
        done = _steps_kept(self.folder, stored)
        before = with_defaults(stored["recipe"])["steps"]
        self.lengthened = before if before < plan.recipe.steps else 0
        self.stored = stored
        known = {key: value for key, value in stored.items() if key not in OF_ITS_END}
        if isinstance(stored.get("data"), dict):
            known.setdefault("data_sha256", stored["data"].get("sha256"))
        self.values = known | self.values | {"steps_done": done, "seconds_before": stored.get("seconds", 0.0)}

    def check_data(self, data: Mapping[str, object]) -> None:
        """Keeps the hash of the data's names and captions. Raises `UserError` if an earlier part had other data."""
        known, now = self.values.get("data_sha256"), data.get("sha256")
        if known is not None and known != now:
            raise UserError(OTHER_DATA)
        if known is None and self.stored is not None and (moved := _differing(self.stored, self.values["recipe"])):
            raise UserError(another(self.folder.path, moved))
        if now is not None:
            self.values["data_sha256"] = now

    @property
    def parts(self) -> int:
        """Micro-batches per step and process after memory ran out in an earlier part; 0 if it did not."""
        return int(self.values.get("parts", 0))

    @property
    def steps_done(self) -> int:
        """Steps done, over all parts of the run."""
        return int(self.values["steps_done"])

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self._processes.is_main

    def asked_to_stop(self) -> bool:
        """Whether the user asked the run to stop, or its time is up."""
        if self._seconds is not None and time.monotonic() - self._began > self._seconds:
            self.values["out_of_time"] = True
            return True
        return self.folder.is_asked_to_stop

    def save(self, state: str) -> None:
        """Write run.json with this state. Raises `UserError` if it cannot be written."""
        self.values["state"] = state
        if self.is_main:
            reason = str(self.values.get("reason", "")).replace(str(self.folder.path), OUT)
            self.folder.write(self.values | ({"reason": reason} if reason else {}))

    def save_seconds(self, state: str) -> None:
        """Like `save`, with the total time of the run so far."""
        self.values["seconds"] = round(time.monotonic() - self._began + self.values.get("seconds_before", 0.0), 1)
        self.save(state)

    def log_step(self, event: Step) -> None:
        """Log a step. Raises `UserError` if the line cannot be written."""
        self.values["steps_done"] = event.step
        if not self.has_trained:
            self.has_trained = True
            self.values.pop("measured", None)  # it describes the earlier weights
        losses = {name: round(value, 6) for name, value in event.losses.items()}
        self._log(
            {"step": event.step, **losses, "gradient": round(event.gradient_norm, 6), "s": round(event.seconds, 3)}
        )

    def log_evaluation(self, step: int, evaluation: Evaluation) -> Evaluated:
        """Log held-out accuracy at a step; returns the event."""
        metric, right_E = evaluation.headline
        share = proportion(int(right_E.sum()), len(right_E))
        pictures = "" if evaluation.own is None else packed(evaluation.own.ravel())
        row = {"what": "look", "step": step, "metric": metric, **asdict(share)}
        self._log(row | ({"pictures": pictures} if pictures else {}))
        return Evaluated(step=step, metric=metric, share=share, pictures=pictures)

    def log_controls(self, step: int, controls: Mapping[str, float]) -> None:
        """Log the controls of L_SDS at a step."""
        self._log({"what": "controls", "step": step, **controls})
        self.values.setdefault("controls", {})[str(step)] = finite(controls)

    def _log(self, row: Mapping[str, Any]) -> None:
        if self.is_main:
            self.folder.append(row)

    def forget_steps_to_come(self) -> None:
        """Drop log lines beyond the checkpoint: those steps will be repeated."""
        if self.is_main:
            self.folder.forget_after(self.steps_done)

    # ---------------------------------------------------------------------------------------------------- its end

    def is_as_it_was(self, state: str) -> bool:
        """Whether a run that had ended before ends again without a new step, so its files need no change."""
        return (
            self.stored is not None and self.stored["state"] in ENDED and not self.has_trained and state != "finished"
        )

    def close_as_it_was(self, state: str, reason: str = "") -> Done:
        """Restore the previous run.json, which may say more than this part knows.

        What memory allows is kept of this part, so that each resume begins with the micro-batches of the last one.
        """
        assert self.stored is not None
        if self.is_main:
            self.folder.write(self.stored | ({"parts": self.parts} if self.parts else {}))
        reason = f"{reason} {UNCHANGED}" if reason else ""
        record = self.stored | {"state": state, "reason": reason, "steps": self._steps, "as_it_was": True}
        return Done(state=state, record=record, reason=reason)

    def close(self, state: str, reason: str = "") -> Done:
        """Write the final state. A run that finishes after being asked to stop counts as stopped."""
        self.values["reason"] = reason
        if state == "finished" and self.asked_to_stop():
            state = "stopped"
        self.save(state)
        return Done(state=state, record=self.values, reason=reason)


def is_free(stored: Mapping[str, Any], folder: FineTuningFolder) -> bool:
    """Whether a run ended without a step that is kept, so that another may take its folder without loss.

    A run that lives in the folder is told by its lock alone.
    """
    return stored["state"] != "finished" and not stored.get("steps_done") and not _has_steps(folder)


def _has_steps(folder: FineTuningFolder) -> bool:
    """Whether there is a checkpoint of a step; a damaged one may be of any."""
    try:
        found = checkpoints.newest(folder.checkpoint)
    except CheckpointError:
        return True
    return found is not None and found[0]["done"] > 0


def why_not_resumed(stored: Mapping[str, Any], recipe: Recipe) -> str:
    """The first setting with which a recipe cannot continue a stored run, with both values; "" if it can.

    Folders and files of `NAMED_BY_CONTENT` may have other paths, unless the run has finished and nothing compares them.
    """
    held, asked = with_defaults(stored["recipe"]), recipe.as_dict()
    has_more = recipe.steps > stored.get("steps_done", 0) or stored["state"] != "finished"
    names = [name for name in _names_differing(held, asked) if not (has_more and _is_moved(name, held, asked))]
    if not names and recipe.steps >= held["steps"]:
        return ""
    return _difference(held, asked, names or ["steps"])


def another(name: object, difference: str) -> str:
    """The sentence for a folder that holds a run with another setting."""
    return ANOTHER.format(name=name, what=f"recipe ({difference})")


def _differing(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """As `why_not_resumed`, of the data's path, for a run whose data were never compared."""
    held = with_defaults(stored["recipe"])
    return "" if held["data"] == asked["data"] else _difference(held, asked, ["data"])


def _names_differing(held: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Settings that a run keeps, and that differ. A setting of another version counts."""
    return [name for name in {**asked, **held} if name not in CHANGEABLE and held.get(name) != asked.get(name)]


def _is_moved(name: str, held: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether a setting that is compared by content names a folder or a file here in both, of one kind."""
    return name in NAMED_BY_CONTENT and _kind_of_path(name, held[name]) == _kind_of_path(name, asked[name]) != ""


def _kind_of_path(name: str, value: object) -> str:
    """What a setting says besides its path; "" where it names none."""
    if name == "data":
        kind, _, split = path_of_source(str(value))
        return kind + split
    return str(value).partition(":")[0] if names_a_file(str(value)) else ""


def _difference(held: Mapping[str, Any], asked: Mapping[str, Any], names: list[str]) -> str:
    """The first of these settings with both values, and how many others differ."""
    name, *others = names
    more = f"; {count_of(len(others), 'other setting')} differ{'' if len(others) > 1 else 's'} too" if others else ""
    return f"{cli_flag(name)} was {quoted(held.get(name))}, and is {quoted(asked.get(name))} now{more}"


def _check_resumable(plan: Plan, stored: Mapping[str, Any], new: Mapping[str, Any], folder: FineTuningFolder) -> None:
    """Raises `UserError` if a stored run has another recipe or other models."""
    if difference := why_not_resumed(stored, plan.recipe):
        raise UserError(another(folder.path, difference))
    for what, card in (("base", plan.base_card), ("teacher", plan.teacher_card)):
        key = f"{what}_fingerprint"
        if not _is_of(stored.get(key), card, new[key]):
            raise UserError(ANOTHER.format(name=folder.path, what=what))


def _is_of(fingerprint: str | None, card: Card | None, now: str | None) -> bool:
    """Whether a run was started with this model; earlier versions fingerprinted the weights alone."""
    if card is None or fingerprint == now:
        return (card is None) == (fingerprint is None)
    return fingerprint == cards.weights_fingerprint(card)


def _steps_kept(folder: FineTuningFolder, stored: Mapping[str, Any]) -> int:
    """Steps of the checkpoint. Raises `UserError` if it is unusable, or missing although needed."""
    try:
        found = checkpoints.newest(folder.checkpoint)
    except CheckpointError as error:
        raise UserError(BROKEN.format(name=folder.path, why=error)) from error
    if found is None and stored["state"] in ("finished", "stopped") and stored.get("steps_done"):
        raise UserError(NO_CHECKPOINT.format(name=folder.path))
    return found[0]["done"] if found else 0


def _new_values(plan: Plan) -> dict[str, Any]:
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
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "processes": plan.processes.count,
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in LIBRARIES},
        "command": recipe.command(OUT),
    }
