"""One fine-tuning run from a recipe to a file, as a stream of events. Page and shell share it; neither is known here.

    prepare    base, data, baseline evaluation, teacher; h_w is fitted, or the teacher asked for its preferences
    train      steps, an evaluation on held-out data now and then, checkpoints
    finish     the weights, then the final evaluation, and what changed

The base is loaded anew and changed in place: what the app shows stays as it was. A run may be stopped at any moment,
during preparation too, and keeps what it has. With --resume it goes on where its checkpoint is, to the same weights as
if it had never stopped.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdsdemo.core.metrics import proportion
from sdsdemo.errors import UserError
from sdsdemo.finetuning import checkpoints
from sdsdemo.finetuning.before_after import Evaluation, Evaluator, mini_measure, sets_of
from sdsdemo.finetuning.cache import Drawn
from sdsdemo.finetuning.checkpoints import CheckpointError, UnwritableError
from sdsdemo.finetuning.events import Done, Evaluated, Event, Placed, Preparing, Told, Written
from sdsdemo.finetuning.loop import Failed, FellBack, Finished, Kept, Step, Stopped, TrainingConfig, train
from sdsdemo.finetuning.objectives import sds_controls, sds_gradient_controls
from sdsdemo.finetuning.recipe import Recipe, with_defaults
from sdsdemo.finetuning.run_folder import ENDED, TuningFolder
from sdsdemo.finetuning.setup import Models, Preparation, StopAsked
from sdsdemo.models import cards
from sdsdemo.models.delta import changed_tensors, interpolate_weights, write_delta
from sdsdemo.runtime.distributed import Processes
from sdsdemo.types import Card

ALONE = Processes()
KEEP_SECONDS = 10.0
"""Between two checkpoints at the most, where writing one is quick: what a kill may cost a short run."""
EVALUATIONS = 5
"""Evaluations on held-out data per run, where the recipe does not say how often."""
CONTROL_ROWS = 32
"""Rows of the batch that the controls of L_SDS are computed on."""
LIBRARIES = ("torch", "open_clip_torch", "diffusers", "numpy")
EVALUATION_AFTER_STOP = 1.0
"""Seconds that the final evaluation may take after a stop; a longer one is skipped."""
NOT_MEASURED = (
    "What changed was not measured, as the run was stopped: go on with --resume, or evaluate its model.safetensors."
)
ANOTHER = "'{name}' holds a run with another {what}: name another --out, or ask for the same again."
THERE = "There is a run in '{name}' already: add --resume to go on with it, or name another --out."
FELL_BACK = "The newest checkpoint cannot be used ({why}): the run goes on from the one before, at step {step}."
LENGTHENED = (
    "The run was to make {before} steps, and goes on to {steps}: the learning rate follows the longer schedule."
)
BROKEN = "The checkpoint of '{name}' cannot be used ({why}): name another --out and start again."
NO_CHECKPOINT = "'{name}' has no checkpoint to go on from: name another --out, and start again."
UNCHANGED = "The run in the folder is as it was."
OF_ITS_END = ("reason", "out_of_time", "halved")
"""What a record says of how a part of a run ended, which the next part does not take over."""
NO_ROOM = "The run cannot be written ({why}): make room on the disk, then go on with --resume."


def finetune(
    recipe: Recipe,
    out: Path,
    *,
    workbench: Models,
    resume: bool = False,
    seconds: float | None = None,
    processes: Processes = ALONE,
    drawn: Drawn | None = None,
) -> Iterator[Event]:
    """Run a recipe; its files go to `out`. Stop it with `TuningFolder(out).ask_to_stop()`, or by closing the generator.

    resume: go on with the run in `out`, which must have the same recipe. seconds: the longest it may train.
    drawn: what other runs of this process drew already; what this one draws is there for them.
    Yields `Done` last, also where it failed. Raises `UserError` before the first event for what must change first.
    """
    recipe.check()
    _check_processes(recipe, processes)
    folder = TuningFolder(out)
    stored = folder.read() if folder.exists else None
    if stored is not None and _is_free(stored, folder):
        stored = None
    if stored is not None:
        _check_same(stored, recipe, out, resume)
        if stored["state"] == "finished" and recipe.steps <= stored["steps_done"]:
            yield Told(text="This run has finished already: nothing is left to do.")
            yield Done(state="finished", record=stored)
            return
    elif resume:
        yield Told(text=f"There is nothing to go on with in '{out}': a new run begins.")
    with ExitStack() as stack:
        _hold(folder, processes, stack)
        if processes.is_main and folder.exists:
            folder.clear_stop()  # one of an earlier part; in a new folder it is meant for this run
        processes.wait()
        yield from Run(recipe, folder, workbench, seconds, processes, drawn).events()


def _hold(folder: TuningFolder, processes: Processes, stack: ExitStack) -> None:
    """The main process takes the folder's lock. Raises `UserError`, in every process alike, where it cannot."""
    fault = ""
    if processes.is_main:
        try:
            stack.enter_context(folder.held())
        except UserError as error:
            fault = str(error)
    for said in processes.gather([fault]):
        if said:
            raise UserError(said)


def _check_processes(recipe: Recipe, processes: Processes) -> None:
    """Raises `UserError`, in every process alike, for a batch that they cannot share evenly."""
    if recipe.batch % processes.count:
        fewer = recipe.batch - recipe.batch % processes.count
        near = f"{fewer} or {fewer + processes.count}" if fewer else f"{processes.count}"
        raise UserError(
            f"--batch must be a multiple of the {processes.count} processes, which share each step; it was "
            f"{recipe.batch}: take {near}, or start another number of processes."
        )


def _is_free(stored: Mapping[str, Any], folder: TuningFolder) -> bool:
    """Whether a run failed before its first step: nothing is lost where another one takes its folder."""
    return stored["state"] == "failed" and not stored.get("steps_done") and not checkpoints.exists(folder.checkpoint)


def _check_same(stored: Mapping[str, Any], recipe: Recipe, out: Path, resume: bool) -> None:
    """Raises `UserError` for a folder of another run, and for one that nobody asked to go on with."""
    if not _goes_on(stored, recipe):
        raise UserError(ANOTHER.format(name=out, what="recipe"))
    if not resume:
        raise UserError(THERE.format(name=out))


def _goes_on(stored: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether a recipe is that of a stored run, to the same number of steps or to more."""
    held = with_defaults(stored["recipe"])
    return held | {"steps": recipe.steps} == recipe.as_dict() and recipe.steps >= held["steps"]


class Run(Preparation):
    """A run that is trained, measured and kept."""

    def __init__(
        self, recipe: Recipe, folder: TuningFolder, workbench: Models, seconds: float | None, processes: Processes,
        drawn: Drawn | None,
    ) -> None:  # fmt: skip
        super().__init__(recipe, workbench, processes, drawn)
        self.folder = folder
        self.began, self.seconds = time.monotonic(), seconds
        self.halved = False
        self.lengthened = 0
        """Steps that an earlier part of the run was to make, where this one is to make more."""
        self.stored: dict[str, Any] | None = None
        """What run.json said before, where the run goes on."""
        self.has_trained = False
        """Whether this part of the run made a step."""
        self.record: dict[str, Any] = self._new_record()
        if folder.exists and not _is_free(stored := folder.read(), folder):
            self._go_on(stored)
        processes.wait()  # nobody changes the folder before everybody has read it

    def events(self) -> Iterator[Event]:
        """Everything, in order."""
        try:
            yield from self._events()
        except StopAsked:
            yield from self._end("stopped")
        except UserError as error:
            yield self._failed(str(error))
        except CheckpointError as error:
            said = NO_ROOM if isinstance(error, UnwritableError) else BROKEN
            yield self._failed(said.format(name=self.folder.path, why=error))

    def _events(self) -> Iterator[Event]:
        self._save("preparing")
        yield Placed(device=self.record["device"])
        yield from self.load()
        self.measures = self._new_measures()
        self.stop_if_asked()
        yield Preparing(text="baseline evaluation")
        self.before = self.measures.evaluate(check=self.stop_if_asked)
        yield self._evaluated(0, self.before)
        yield from self.prepare_teacher()
        self.record |= self.facts
        yield from self._train()

    def _new_measures(self) -> Evaluator:
        if self.drawn is None or not self.recipe.is_mini:
            return Evaluator(sets_of(self.recipe, self.source), self.base)
        return Evaluator(self.drawn.sets(mini_measure(self.recipe)), self.base, self.drawn.inputs(self.base))

    # ------------------------------------------------------------------------------------------------- training

    def _train(self) -> Iterator[Event]:
        recipe = self.recipe
        self.objective = self.new_objective()
        config = TrainingConfig(
            steps=recipe.steps,
            learning_rate=recipe.learning_rate,
            warm_up=recipe.warm_up,
            weight_decay=recipe.weight_decay,
            clip_norm=recipe.clip_norm,
            ema=recipe.ema or None,
            autocast="bfloat16" if self._has_bfloat16 else None,
        )
        self._save("running")
        if self.lengthened:
            yield Told(text=LENGTHENED.format(before=self.lengthened, steps=recipe.steps))
        if recipe.objective == "sds":
            yield Told(text=self._reduction_words())
        yield from self._controls(0)
        if self.processes.is_main:
            self.folder.forget_after(self.record["steps_done"])
        every = recipe.measure_every or max(1, recipe.steps // EVALUATIONS)
        for event in train(
            self.student, self.objective, config, keep=self.folder.checkpoint, keep_every=recipe.keep_every,
            keep_seconds=KEEP_SECONDS, stop=self.asked_to_stop, on_out_of_memory=self._on_out_of_memory,
            processes=self.processes,
        ):  # fmt: skip
            if isinstance(event, Step):
                self._log(event)
                yield event
                if self.halved and not self.record.get("halved"):
                    self.record["halved"] = True
                    yield Told(text="Memory was short: micro-batches are half as large now; the batch is the same.")
                if event.step % every == 0 and event.step < recipe.steps:
                    yield from self._look_on_the_way(event.step)
                if event.step == recipe.steps // 2:
                    yield from self._controls(event.step)
            elif isinstance(event, Kept):
                self._save("running")
            elif isinstance(event, FellBack):
                self.record["steps_done"] = event.step
                yield Told(text=FELL_BACK.format(why=event.reason, step=event.step))
            elif isinstance(event, Failed):
                yield from self._end("failed", event.reason)
            elif isinstance(event, Stopped):
                yield from self._end("stopped")
            elif isinstance(event, Finished):
                yield from self._controls(event.step)
                yield from self._end("finished")

    def _reduction_words(self) -> str:
        """What lambda weighs."""
        assert self.teacher is not None
        count = int(np.prod(self.teacher.latent_shape))
        other = (
            f"a sum would be {count} times as much" if self.recipe.reduction == "mean" else f"{count} times the mean"
        )
        jacobian = "through the whole denoiser" if self.recipe.jacobian else "without the denoiser's Jacobian"
        return (
            f"L_SDS is a {self.recipe.reduction} over the {count} elements of a latent ({other}); its gradient goes "
            f"{jacobian}; timesteps are uniform from {self.recipe.timestep_low:g} to {self.recipe.timestep_high:g}."
        )

    def _log(self, event: Step) -> None:
        self.record["steps_done"] = event.step
        if not self.has_trained:
            self.has_trained = True
            self.record.pop("measured", None)  # of the weights before
        if self.processes.is_main:
            losses = {name: round(value, 6) for name, value in event.losses.items()}
            self.folder.append(
                {"step": event.step, **losses, "gradient": round(event.gradient_norm, 6), "s": round(event.seconds, 3)}
            )

    def _controls(self, step: int) -> Iterator[Event]:
        """What L_SDS sees: of the student's latents, true ones, none, and others, with right and wrong captions."""
        if self.recipe.objective != "sds" or not self.processes.is_main:
            return
        rows = slice(0, min(self.recipe.batch, CONTROL_ROWS))
        batch = self.batches.control_batch(0, rows)
        found = sds_controls(self.objective, batch, rows, 0)
        found |= sds_gradient_controls(self.objective, batch, rows, 0)
        rounded = {name: round(value, 6) for name, value in found.items()}
        self.folder.append({"what": "controls", "step": step, **rounded})
        self.record.setdefault("controls", {})[str(step)] = rounded
        yield Told(text=controls_words(rounded))

    def _look_on_the_way(self, step: int) -> Iterator[Event]:
        """Held-out accuracy; nothing where the visitor stops meanwhile, which the next step learns too."""
        with contextlib.suppress(StopAsked):
            yield self._evaluated(step, self.measures.evaluate([self.measures.first], self.stop_if_asked))

    def _evaluated(self, step: int, evaluation: Evaluation) -> Evaluated:
        metric, right_E = evaluation.headline
        share = proportion(int(right_E.sum()), len(right_E))
        if self.processes.is_main:
            self.folder.append({"what": "look", "step": step, "metric": metric, **asdict(share)})
        return Evaluated(step=step, metric=metric, share=share)

    def _on_out_of_memory(self) -> bool:
        """Twice as many micro-batches, once."""
        if self.halved:
            return False
        self.halved = True
        self.objective.parts *= 2
        torch.cuda.empty_cache()
        return True

    @property
    def _has_bfloat16(self) -> bool:
        return self.device.type == "cuda" and torch.cuda.is_bf16_supported()

    # ---------------------------------------------------------------------------------------------------- ending

    def _end(self, state: str, reason: str = "") -> Iterator[Event]:
        """The weights first, so that nothing can cost them; then what changed."""
        if not self.processes.is_main:
            yield Done(state=state, record=self.record, reason=reason)
            return
        if self._is_as_it_was(state):
            yield self._leave_as_it_was(state, reason)
            return
        if hasattr(self, "header") and self._has_what_was_learned:
            self.record["seconds"] = round(time.monotonic() - self.began + self.record.get("seconds_before", 0.0), 1)
            self._save("stopping" if state == "stopped" else "running")
            self._interpolate_weights()
            self._write_model(state)
            yield Written(step=self.record["steps_done"])
            try:
                yield from self._evaluate_after(state)
            except StopAsked:
                if state == "finished":
                    state = "stopped"
                yield Told(text=NOT_MEASURED)
        self.record["reason"] = reason
        if state == "finished" and self.asked_to_stop():
            state = "stopped"
        self._save(state)
        yield Done(state=state, record=self.record, reason=reason)

    def _is_as_it_was(self, state: str) -> bool:
        """Whether a run that was over before ends again without a new step: its files hold all that there is."""
        return (
            self.stored is not None and self.stored["state"] in ENDED and not self.has_trained and state != "finished"
        )

    def _leave_as_it_was(self, state: str, reason: str = "") -> Done:
        """run.json as it was before this part, which may say more than this part knows."""
        assert self.stored is not None
        if self.processes.is_main:
            self.folder.write(self.stored)
        reason = f"{reason} {UNCHANGED}" if reason else ""
        record = self.stored | {"state": state, "reason": reason, "steps": self.recipe.steps, "as_it_was": True}
        return Done(state=state, record=record, reason=reason)

    @property
    def _has_what_was_learned(self) -> bool:
        """Whether the module holds the steps of the record: one that goes on is the bare base until it trains again,
        and must not be written over what the part before has left."""
        return not self.record["steps_done"] or hasattr(self, "objective")

    def _evaluate_after(self, state: str) -> Iterator[Event]:
        """What changed, of a run that made a step or was to make none. Raises `StopAsked`.

        A run that is stopped is measured where that takes no longer than a moment.
        """
        if not hasattr(self, "before") or not (self.record["steps_done"] or state == "finished"):
            return
        after = self.measures.evaluate(check=self._stop_after(state))
        yield self._evaluated(self.record["steps_done"], after)
        self.record["measured"] = self.measures.compare(self.before, after, self.recipe)
        self.record["data"] = self.source.describe()
        self._write_model(state)

    def _stop_after(self, state: str) -> Callable[[], None]:
        """Raises `StopAsked` in the final evaluation: where the visitor stops it, or it follows a stop and is slow."""
        began = time.monotonic()

        def check() -> None:
            late = time.monotonic() - began > EVALUATION_AFTER_STOP
            if late if state == "stopped" else self.asked_to_stop():
                raise StopAsked

        return check

    @torch.no_grad()
    def _interpolate_weights(self) -> None:
        """Interpolates between the base and the trained weights (WiSE-FT). The checkpoint keeps the trained ones."""
        if self.recipe.wise_ft < 1:
            own = self.base.module.state_dict()
            for name, tensor in interpolate_weights(self.before_weights, own, self.recipe.wise_ft).items():
                own[name].copy_(tensor)

    def _write_model(self, state: str) -> None:
        student = getattr(self, "student", None)
        tensors = {} if student is None else changed_tensors(self.before_weights, self.base.module)
        for name in ("h_w", "h_f") if student is not None else ():
            layer = getattr(student, name)
            if layer is not None and name == "h_w":
                tensors |= {f"{name}.{key}": tensor for key, tensor in layer.state_dict().items()}
        story = {key: value for key, value in self.record.items() if key not in ("state", "command")}
        try:
            write_delta(self.folder.model, tensors, self.header | story | {"state": state})
        except OSError as error:
            raise UserError(NO_ROOM.format(why=error.strerror)) from error

    def _failed(self, reason: str) -> Done:
        if self._is_as_it_was("failed"):
            return self._leave_as_it_was("failed", reason)
        self.record["reason"] = reason
        with contextlib.suppress(UserError):  # the disk is full: the reason is what the visitor needs to read
            self._save("failed")
        return Done(state="failed", record=self.record, reason=reason)

    def _save(self, state: str) -> None:
        self.record["state"] = state
        if self.processes.is_main:
            self.folder.write(self.record)

    # --------------------------------------------------------------------------------------------------- the rest

    def asked_to_stop(self) -> bool:
        if self.seconds is not None and time.monotonic() - self.began > self.seconds:
            self.record["out_of_time"] = True
            return True
        return self.folder.is_asked_to_stop

    def _new_record(self) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "state": "preparing",
            "recipe": recipe.as_dict(),
            "objective": recipe.objective,
            "base_card": self.base_card.name,
            "base_fingerprint": cards.fingerprint(self.base_card),
            "teacher": None if self.teacher_card is None else self.teacher_card.spec,
            "teacher_fingerprint": None if self.teacher_card is None else cards.fingerprint(self.teacher_card),
            "seed": recipe.seed,
            "steps": recipe.steps,
            "steps_done": 0,
            "data": recipe.data if recipe.is_mini else recipe.data.partition(":")[0],
            "device": str(self.device) if self.device.type == "cpu" else torch.cuda.get_device_name(self.device),
            "processes": self.processes.count,
            "machine": f"{platform.system()} {platform.machine()}",
            "versions": {name: version(name) for name in LIBRARIES},
            "command": recipe.command(self.folder.path.name),
        }

    def _go_on(self, stored: dict[str, Any]) -> None:
        """Take over what an earlier part of the run knew. Raises `UserError` for another recipe, other weights, and
        where there is no checkpoint to go on from."""
        name = self.folder.path
        if not _goes_on(stored, self.recipe):
            raise UserError(ANOTHER.format(name=name, what="recipe"))
        for what, card in (("base", self.base_card), ("teacher", self.teacher_card)):
            if not self._is_of(stored.get(f"{what}_fingerprint"), what, card):
                raise UserError(ANOTHER.format(name=name, what=what))
        try:
            found = checkpoints.newest(self.folder.checkpoint)
        except CheckpointError as error:
            raise UserError(BROKEN.format(name=name, why=error)) from error
        if found is None and stored["state"] in ("finished", "stopped") and stored.get("steps_done"):
            raise UserError(NO_CHECKPOINT.format(name=name))
        before = with_defaults(stored["recipe"])["steps"]
        self.lengthened = before if before < self.recipe.steps else 0
        self.stored = stored
        known = {key: value for key, value in stored.items() if key not in OF_ITS_END}
        done = found[0]["done"] if found else 0
        self.record = known | self.record | {"steps_done": done, "seconds_before": stored.get("seconds", 0.0)}

    def _is_of(self, fingerprint: str | None, what: str, card: Card | None) -> bool:
        """Whether a run was begun with this model; runs of earlier versions name it by its weights alone."""
        if card is None or fingerprint == self.record[f"{what}_fingerprint"]:
            return (card is None) == (fingerprint is None)
        return fingerprint == cards.weights_fingerprint(card)


def controls_words(found: dict[str, float]) -> str:
    """The controls of L_SDS in a line."""
    names = {"student": "h_w(f(x))", "true": "true latents", "zero": "h_w(0)", "other": "other images"}
    parts = [f"{words} {found[name]:.3f} / {found[name + ' shuffled']:.3f}" for name, words in names.items()]
    return (
        f"L_SDS with right / shuffled captions: {', '.join(parts)}; its gradient on CLIP has norm "
        f"{found['gradient on CLIP']:.2g}, and cosine {found['cosine with shuffled']:.3f} between the two."
    )
