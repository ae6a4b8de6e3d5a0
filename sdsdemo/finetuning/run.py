"""One fine-tuning run from a recipe to a file, as a stream of events. Page and shell share it; neither is known here.

    prepare    base, data, a look before, teacher; h_w is fitted, or the teacher asked for its preferences
    train      steps, a look at held-out accuracy now and then, checkpoints
    finish     the weights, then a look after, and what changed

The base is loaded anew and changed in place: what the app shows stays as it was. A run may be stopped at any moment,
during preparation too, and keeps what it has. With --resume it goes on where its checkpoint is, to the same weights as
if it had never stopped.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from sdsdemo.errors import UserError
from sdsdemo.finetuning.batches import PairBatches
from sdsdemo.finetuning.events import Done, Event, Looked, Placed, Preparing, Told, Written
from sdsdemo.finetuning.folder import TuningFolder
from sdsdemo.finetuning.measures import Look, Measures
from sdsdemo.finetuning.pairs import read_source
from sdsdemo.finetuning.preferences import Preferences
from sdsdemo.metrics import proportion
from sdsdemo.models import cards, pick_device, sources
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.delta import base_header, changed_tensors, write_delta
from sdsdemo.models.diffusion import DiffusionScorer, LatentDiffusion, load_diffusion
from sdsdemo.models.domain import Domain
from sdsdemo.objectives import Aim, Objective, Student, sds_controls, sds_gradient
from sdsdemo.processes import Processes
from sdsdemo.recipes import Recipe
from sdsdemo.settings import Settings
from sdsdemo.training import CheckpointError, Course, Failed, Finished, Kept, Step, Stopped, train
from sdsdemo.types import Availability, Budget, Card

ALONE = Processes()
LOOKS = 5
"""Looks at held-out accuracy a run, where the recipe does not say how often."""
FIT_AT_ONCE = 64
CONTROL_ROWS = 32
"""Rows of the batch that the controls of L_SDS are computed on."""
PREFERENCE_SEED = 0
LIBRARIES = ("torch", "open_clip_torch", "diffusers", "numpy")
ANOTHER = "'{name}' holds a run with another {what}: name another --out, or ask for the same again."
THERE = "There is a run in '{name}' already: add --resume to go on with it, or name another --out."
BROKEN = "The checkpoint of '{name}' cannot be used ({why}): name another --out and start again."
NO_ROOM = "The run cannot be written ({why}): make room on the disk, then go on with --resume."


class Models(Protocol):
    """Where cards and what may run come from: the workbench."""

    settings: Settings

    def card(self, name_or_spec: str) -> Card: ...

    def availability(self, card: Card) -> Availability: ...


class StopAsked(Exception):  # noqa: N818 a wish, no error
    """The visitor stopped while the run was being prepared."""


def finetune(
    recipe: Recipe,
    out: Path,
    *,
    workbench: Models,
    resume: bool = False,
    seconds: float | None = None,
    team: Processes = ALONE,
) -> Iterator[Event]:
    """Run a recipe; its files go to `out`. Stop it with `TuningFolder(out).ask_to_stop()`, or by closing the generator.

    resume: go on with the run in `out`, which must have the same recipe. seconds: the longest it may train.
    Yields `Done` last, also where it failed. Raises `UserError` before the first event for what must change first.
    """
    recipe.check()
    folder = TuningFolder(out)
    if team.is_main and folder.exists and not resume:
        raise UserError(THERE.format(name=out.name))
    with folder.held() if team.is_main else nullcontext():
        team.wait()
        yield from Run(recipe, folder, workbench, seconds, team).events()


class Run:
    """The parts of one run, and what is known of it so far."""

    def __init__(
        self, recipe: Recipe, folder: TuningFolder, workbench: Models, seconds: float | None, team: Processes
    ) -> None:
        self.recipe, self.folder, self.team = recipe, folder, team
        self.base_card = _runnable(workbench, recipe.base, "clip", "base")
        self.teacher_card = None
        if recipe.uses_teacher:
            self.teacher_card = _runnable(workbench, recipe.teacher, "diffusion", "teacher")
        _check_words(self.base_card, recipe)
        mini = self.base_card.name.startswith("mini-")
        self.device = torch.device("cpu") if mini else pick_device(workbench.settings.device)
        self.settings = workbench.settings
        self.began, self.seconds = time.monotonic(), seconds
        self.parts = 1 if not recipe.micro_batch else -(-recipe.batch // team.count // recipe.micro_batch)
        self.halved = False
        self.teacher: LatentDiffusion | None = None
        self.record: dict[str, Any] = self._new_record()
        if folder.exists:
            self._go_on(folder.read())
        team.wait()  # nobody changes the folder before everybody has read it
        if team.is_main:
            folder.forget_after(self.record["steps_done"])
            folder.clear_stop()

    def events(self) -> Iterator[Event]:
        """Everything, in order."""
        try:
            yield from self._events()
        except StopAsked:
            yield from self._end("stopped")
        except UserError as error:
            yield self._failed(str(error))
        except CheckpointError as error:
            said = NO_ROOM if "written" in str(error) else BROKEN
            yield self._failed(said.format(name=self.folder.path.name, why=error))

    def _events(self) -> Iterator[Event]:
        self._save("preparing")
        yield Placed(device=self.record["device"])
        yield from self.load()
        self.measures = Measures(self.recipe, self.source, self.base)
        self.stop_if_asked()
        yield Preparing(text="a look before")
        self.before = self.measures.look()
        yield self._looked(0, self.before)
        yield from self.prepare_teacher()
        yield from self._train()

    # ---------------------------------------------------------------------------------------------- preparation

    def load(self) -> Iterator[Event]:
        """Base and data."""
        yield Preparing(text=f"loading {self.base_card.title}")
        self.base = ClipModel.load(self.base_card.spec, device=self.device, allow_download=self.settings.allow_download)
        self.header = base_header(self.base)
        self.before_weights = {key: tensor.clone() for key, tensor in self.base.module.state_dict().items()}
        yield Preparing(text="reading the data")
        self.source = read_source(self.recipe)

    def prepare_teacher(self) -> Iterator[Event]:
        """Student, teacher, h_w and preferences, whichever the objective needs."""
        recipe, preference = self.recipe, None
        if self.teacher_card is not None:
            yield Preparing(text=f"loading {self.teacher_card.title}")
            self.teacher = load_diffusion(
                self.teacher_card.spec,
                revision=self.teacher_card.revision,
                device=self.device,
                allow_download=self.settings.allow_download,
            )
        in_loop = self.teacher if recipe.teacher_in_loop else None
        torch.manual_seed(recipe.seed)
        self.student = Student(
            self.base.module,
            in_loop.latent_shape if in_loop is not None and recipe.objective == "sds" else None,
            trained=recipe.trained,
            towers=recipe.towers,
            inner_width=in_loop.inner_width if in_loop is not None and recipe.objective == "features" else None,
            unit_variance=recipe.h_w_unit,
            map_scale=recipe.h_w_scale,
        ).to(self.device)
        self.record["trained"] = self.student.says
        yield Told(text=f"Trained: {self.student.says}.")
        if recipe.objective == "preference":
            assert self.teacher_card is not None
            assert self.teacher is not None
            preference = yield from self._preferences(DiffusionScorer(self.teacher_card, self.teacher))
        self.batches = PairBatches(recipe, self.source, self.base, in_loop, preference)
        if recipe.objective == "sds":
            yield from self._fit()

    def _preferences(self, scorer: DiffusionScorer) -> Generator[Event, None, dict[tuple[str, str, str], float]]:
        """The teacher's answer on every pair of the run; yields events, returns p by pair."""
        recipe = self.recipe
        budget = Budget(timesteps=recipe.teacher_timesteps, noises=recipe.teacher_noises, seed=PREFERENCE_SEED)
        kept = Preferences(self.settings.cache, cards.fingerprint(scorer.card), budget)
        began, pairs = time.monotonic(), []
        steps = self.source.steps(recipe.batch, recipe.steps)
        yield Preparing(text="finding the pairs that the teacher was not asked about yet")
        for step in range(steps):
            pairs += self.source.draw(step, recipe.batch)
            self.stop_if_asked()
        missing = len(kept.missing(pairs))
        if self.team.is_main:
            for done in kept.ask(scorer, pairs, self._asked_to_stop):
                yield Preparing(text="asking the teacher about each caption and its swap", done=done, total=missing)
        self.stop_if_asked()
        for answers in self.team.gather([kept.answers if self.team.is_main else {}]):
            kept.take(answers)
        right, of = kept.right(pairs)
        self.record["preferences"] = {
            "pairs": of,
            "asked": missing,
            "evaluations": kept.spent,
            "seconds": round(time.monotonic() - began, 2),
            "teacher_right": asdict(proportion(right, of)) if of else None,
        }
        yield Told(text=f"The teacher prefers the caption to its swap in {right} of {of} pairs.")
        return kept.probabilities(pairs, recipe.sharpness, permuted=recipe.seed if recipe.permuted else None)

    def _fit(self) -> Iterator[Event]:
        """h_w at the least-squares map, where the recipe asks for it."""
        if self.recipe.h_w != "fit":
            return
        features, latents, met = [], [], 0
        step = 0
        while met < self.recipe.fitted_on:
            size = min(FIT_AT_ONCE, self.recipe.fitted_on - met)
            pairs = self.source.draw(step, size)
            with torch.no_grad():
                features.append(self.base.encode_images([pair.picture.open() for pair in pairs]))
            latents.append(self.batches.latents(pairs))
            met, step = met + size, step + 1
            self.stop_if_asked()
            yield Preparing(text="fitting h_w to true latents", done=met, total=self.recipe.fitted_on)
        explained = self.student.fit(torch.cat(features), torch.cat(latents).to(self.device))
        self.record["h_w_r2"] = round(explained, 4)
        yield Told(text=f"h_w explains {explained:.1%} of the latents' variance before the first step.")

    # ------------------------------------------------------------------------------------------------- training

    def _train(self) -> Iterator[Event]:
        recipe = self.recipe
        self.objective = self.new_objective()
        course = Course(
            steps=recipe.steps,
            learning_rate=recipe.learning_rate,
            warm_up=recipe.warm_up,
            weight_decay=recipe.weight_decay,
            clip_norm=recipe.clip_norm,
            ema=recipe.ema or None,
            autocast="bfloat16" if self._has_bfloat16 else None,
        )
        self._save("running")
        if recipe.objective == "sds":
            yield Told(text=self._reduction_words())
        yield from self._controls(0)
        every = recipe.measure_every or max(1, recipe.steps // LOOKS)
        for event in train(
            self.student, self.objective, course, keep=self.folder.checkpoint, keep_every=recipe.keep_every,
            stop=self._asked_to_stop, relief=self._relief, team=self.team,
        ):  # fmt: skip
            if isinstance(event, Step):
                self._log(event)
                yield event
                if self.halved and not self.record.get("halved"):
                    self.record["halved"] = True
                    yield Told(text="Memory was short: micro-batches are half as large now; the batch is the same.")
                if event.step % every == 0 and event.step < recipe.steps:
                    yield self._looked(event.step, self.measures.look([self.measures.first]))
                if event.step == recipe.steps // 2:
                    yield from self._controls(event.step)
            elif isinstance(event, Kept):
                self._save("running")
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

    def new_objective(self) -> Objective:
        """The losses of the recipe's steps."""
        recipe = self.recipe
        aim = Aim(
            name=recipe.objective,
            lam=recipe.lam,
            reduction=recipe.reduction,
            jacobian=recipe.jacobian,
            timesteps=(recipe.timestep_low, recipe.timestep_high),
        )
        return Objective(
            self.student, self.batches, aim,
            teacher=self.teacher, seed=recipe.seed, parts=self.parts, team=self.team,
        )  # fmt: skip

    def _log(self, event: Step) -> None:
        self.record["steps_done"] = event.step
        if self.team.is_main:
            losses = {name: round(value, 6) for name, value in event.losses.items()}
            self.folder.append(
                {"step": event.step, **losses, "gradient": round(event.gradient_norm, 6), "s": round(event.seconds, 3)}
            )

    def _controls(self, step: int) -> Iterator[Event]:
        """What L_SDS sees: of the student's latents, true ones, none, and others, with right and wrong captions."""
        if self.recipe.objective != "sds" or not self.team.is_main:
            return
        rows = slice(0, min(self.recipe.batch, CONTROL_ROWS))
        batch = self.batches.control_batch(0, rows)
        found = sds_controls(self.objective, batch, rows, 0)
        gradient = torch.cat([g.flatten() for g in sds_gradient(self.objective, batch, rows, 0)])
        found["gradient on CLIP"] = float(gradient.norm())
        rounded = {name: round(value, 6) for name, value in found.items()}
        self.folder.append({"what": "controls", "step": step, **rounded})
        self.record.setdefault("controls", {})[str(step)] = rounded
        yield Told(text=controls_words(rounded))

    def _looked(self, step: int, look: Look) -> Looked:
        metric, right_E = look.headline
        share = proportion(int(right_E.sum()), len(right_E))
        if self.team.is_main:
            self.folder.append({"what": "look", "step": step, "metric": metric, **asdict(share)})
        return Looked(step=step, metric=metric, share=share)

    def _relief(self) -> bool:
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
        if not self.team.is_main:
            yield Done(state=state, record=self.record, reason=reason)
            return
        if hasattr(self, "header"):
            self.record["seconds"] = round(time.monotonic() - self.began + self.record.get("seconds_before", 0.0), 1)
            self._save("stopping" if state == "stopped" else "running")
            self._write_model(state)
            yield Written(step=self.record["steps_done"])
            if self.record["steps_done"] and hasattr(self, "before"):
                after = self.measures.look()
                yield self._looked(self.record["steps_done"], after)
                self.record["measured"] = self.measures.compare(self.before, after, self.recipe)
                self.record["data"] = self.source.describe()
                self._write_model(state)
        self.record["reason"] = reason
        self._save(state)
        if state == "finished":
            self.folder.checkpoint.unlink(missing_ok=True)
        yield Done(state=state, record=self.record, reason=reason)

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
        self.record["reason"] = reason
        with contextlib.suppress(UserError):  # the disk is full: the reason is what the visitor needs to read
            self._save("failed")
        return Done(state="failed", record=self.record, reason=reason)

    def _save(self, state: str) -> None:
        self.record["state"] = state
        if self.team.is_main:
            self.folder.write(self.record)

    # --------------------------------------------------------------------------------------------------- the rest

    def stop_if_asked(self) -> None:
        """Raises `StopAsked` where the visitor stopped, or the time is up: in all processes, or in none."""
        if any(self.team.gather([self._asked_to_stop()])):
            raise StopAsked

    def _asked_to_stop(self) -> bool:
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
            "processes": self.team.count,
            "machine": f"{platform.system()} {platform.machine()}",
            "versions": {name: version(name) for name in LIBRARIES},
            "command": recipe.command(self.folder.path.name),
        }

    def _go_on(self, stored: dict[str, Any]) -> None:
        """Take over what an earlier part of the run knew. Raises `UserError` for another recipe or other weights."""
        for key, what in (("recipe", "recipe"), ("base_fingerprint", "base"), ("teacher_fingerprint", "teacher")):
            if stored.get(key) != self.record[key]:
                raise UserError(ANOTHER.format(name=self.folder.path.name, what=what))
        kept = {key: stored[key] for key in ("preferences", "h_w_r2", "controls") if key in stored}
        done = _steps_of(self.folder.checkpoint)
        self.record |= kept | {"steps_done": done, "seconds_before": stored.get("seconds", 0.0)}


def controls_words(found: dict[str, float]) -> str:
    """The controls of L_SDS in a line."""
    names = {"student": "h_w(f(x))", "true": "true latents", "zero": "h_w(0)", "other": "other images"}
    parts = [f"{words} {found[name]:.3f} / {found[name + ' shuffled']:.3f}" for name, words in names.items()]
    return (
        f"L_SDS with right / shuffled captions: {', '.join(parts)}; its gradient on CLIP has norm "
        f"{found['gradient on CLIP']:.2g}."
    )


def _steps_of(checkpoint: Path) -> int:
    """Steps that a checkpoint holds; 0 where there is none, or where it will be refused later."""
    try:
        return int(torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)["done"])
    except Exception:  # whatever is wrong with it is said when the run loads it
        return 0


def _check_words(base: Card, recipe: Recipe) -> None:
    """Raises `UserError` where a model of the Mini world would read other words."""
    folder = sources.folder_named_by(base.spec)
    if folder is not None and Domain.read(folder) is not None and not recipe.is_mini:
        raise UserError(f"{base.title} knows only the words of the Mini world: train it with --data mini.")


def _runnable(workbench: Models, name: str, family: str, what: str) -> Card:
    """The card of a model that can run here. Raises `UserError` with what to do where it cannot."""
    card = workbench.card(name)
    if card.family != family:
        wanted = {"clip": "a CLIP", "diffusion": "a diffusion model"}[family]
        raise UserError(f"The {what} must be {wanted}; {card.title} is none: choose another one.")
    state = workbench.availability(card)
    if not state.can_run:
        hours = f" Fine-tuning takes {cards.train_words()}." if card.needs == "gpu" else ""
        raise UserError(f"{state.reason} {state.next_step}".strip() + hours)
    return card
