"""A recipe made ready to train: base, data, teacher, h_w fitted or the teacher asked, and the losses of its steps.

Writes no file but the teacher's answers, and measures nothing; `run` and `estimating` are made of it.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch

from sdsdemo.captions.cleaning import plain_notes
from sdsdemo.core.metrics import proportion
from sdsdemo.errors import UserError
from sdsdemo.finetuning.batches import PairBatches
from sdsdemo.finetuning.cache import Drawn
from sdsdemo.finetuning.events import Event, Preparing, Told
from sdsdemo.finetuning.objectives import Aim, Objective, Student
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.teacher_preferences import Preferences, told_apart
from sdsdemo.finetuning.training_pairs import read_source
from sdsdemo.models import cards, pick_device, sources
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.delta import base_header
from sdsdemo.models.diffusion import LatentDiffusion, load_diffusion
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.domain import Domain
from sdsdemo.models.tokenizer_checks import reading_notes
from sdsdemo.runtime.distributed import Processes
from sdsdemo.settings import Settings
from sdsdemo.types import Availability, Budget, Card

ALONE = Processes()
LEAST_TESTED, MOST_TESTED = 16, 256
"""Images that h_w is tested on, beside those that it is fitted on: a quarter as many, between these."""
FEW_FITTED = (
    "h_w is fitted on {count} images, fewer than the {width} numbers of an image embedding: it learns these images by "
    "heart. Raise --fitted-on."
)
TOO_FEW = (
    "The data have {count} images to train on, fewer than a batch of {batch}: an image would be among its own wrong "
    "answers. Lower --batch to {count} or less, or add images."
)
FIT_AT_ONCE = 64
LOOKED_AT = 5_000
"""Images whose captions are read by the models before training begins."""
PREFERENCE_SEED = 0


class Models(Protocol):
    """Where cards and what may run come from: the workbench."""

    settings: Settings

    def card(self, name_or_spec: str) -> Card: ...

    def availability(self, card: Card) -> Availability: ...


class StopAsked(Exception):  # noqa: N818 a wish, no error
    """The visitor stopped while the run was being prepared."""


class Preparation:
    """The parts of a run, as they are made one after the other, and what is learned of them meanwhile."""

    def __init__(
        self, recipe: Recipe, workbench: Models, processes: Processes = ALONE, drawn: Drawn | None = None
    ) -> None:
        """drawn: what other runs of this process drew already.

        Raises `UserError` for models that cannot run here, or do not go together.
        """
        self.recipe, self.processes, self.settings, self.drawn = recipe, processes, workbench.settings, drawn
        self.base_card = _runnable(workbench, recipe.base, "clip", "base")
        self.teacher_card = None
        if recipe.uses_teacher:
            self.teacher_card = _runnable(workbench, recipe.teacher, "diffusion", "teacher")
        _check_words(self.base_card, recipe)
        self.device = torch.device("cpu") if self.base_card.mini else pick_device(workbench.settings.device)
        self.parts = 1 if not recipe.micro_batch else -(-recipe.batch // processes.count // recipe.micro_batch)
        self.teacher: LatentDiffusion | None = None
        self.facts: dict[str, Any] = {}
        """For the record: what is trained, what the teacher was asked, what h_w explains."""

    def _check_size(self) -> None:
        """Raises `UserError` where the data have fewer images than a batch: one would meet itself as a negative."""
        found = self.source.describe()
        count = int(str(found.get("items", 0))) - int(str(found.get("held_out", 0)))
        if count and count < self.recipe.batch:
            raise UserError(TOO_FEW.format(count=count, batch=self.recipe.batch))

    def asked_to_stop(self) -> bool:
        """Whether this process was asked to."""
        return False

    def load(self) -> Iterator[Event]:
        """Base and data."""
        yield Preparing(text=f"loading {self.base_card.title}")
        self.base = ClipModel.load(self.base_card.spec, device=self.device, allow_download=self.settings.allow_download)
        self.header = base_header(self.base)
        self.before_weights = {key: tensor.clone() for key, tensor in self.base.module.state_dict().items()}
        yield Preparing(text="reading the data")
        self.source = read_source(self.recipe) if self.drawn is None else self.drawn.source(self.recipe)
        self.facts["data"] = self.source.describe()
        self._check_size()
        plain = [] if self.recipe.is_mini else plain_notes(self.source.texts(LOOKED_AT))
        for note in [*self.source.notes, *plain, *self._reading_notes(self.base, self.base_card)]:
            yield Told(text=note)

    def _reading_notes(self, model: ClipModel | LatentDiffusion, card: Card) -> list[str]:
        """What a model does not read as meant of the captions. Raises `UserError` where it must not train on them."""
        return [] if self.recipe.is_mini else reading_notes(model, card.title, self.source.texts(LOOKED_AT))

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
            for note in self._reading_notes(self.teacher, self.teacher_card):
                yield Told(text=note)
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
        self.facts["trained"] = self.student.says
        yield Told(text=f"Trained: {self.student.says}.")
        if recipe.objective == "preference":
            assert self.teacher_card is not None
            assert self.teacher is not None
            preference = yield from self._preferences(DiffusionScorer(self.teacher_card, self.teacher))
        self.batches = PairBatches(recipe, self.source, self.base, in_loop, preference)
        if recipe.towers != "both":
            yield from self._encode_frozen()
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
        missing = len({told_apart(pair) for pair in kept.missing(pairs)})
        if self.processes.is_main:
            for done in kept.ask(scorer, pairs, self.asked_to_stop):
                yield Preparing(text="asking the teacher about each caption and its twin", done=done, total=missing)
        self.stop_if_asked()
        for answers in self.processes.gather([kept.answers if self.processes.is_main else {}]):
            kept.take(answers)
        right, of = kept.right(pairs)
        stand_ins = len({told_apart(pair) for pair in pairs if pair.stand_in})
        self.facts["preferences"] = {
            "pairs": of,
            "stand_ins": stand_ins,
            "asked": missing,
            "evaluations": kept.spent,
            "seconds": round(time.monotonic() - began, 2),
            "teacher_right": asdict(proportion(right, of)) if of else None,
        }
        others = f" {stand_ins} captions without a swap were set against another image's." if stand_ins else ""
        before = len({told_apart(pair) for pair in pairs if pair.twin}) - missing
        known = f" It had been asked about {before} of them before." if before else ""
        which = "true" if recipe.mislabelled else "image's"
        yield Told(text=f"The teacher prefers the {which} caption to its swap in {right} of {of} pairs.{known}{others}")
        shuffle_seed = recipe.seed if recipe.permuted or recipe.unordered else None
        return kept.probabilities(pairs, recipe.sharpness, permuted=shuffle_seed, unordered=recipe.unordered)

    def _encode_frozen(self) -> Iterator[Event]:
        """Features of the frozen tower, once for the whole run: a step then costs the other tower alone."""
        recipe, began = self.recipe, time.monotonic()
        what = {"text": "images", "image": "captions"}[recipe.towers]
        steps = self.source.steps(recipe.batch, recipe.steps)
        for step in range(steps):
            found = self.batches.encode_frozen(step) if step % self.processes.count == self.processes.index else {}
            for features in self.processes.gather([found]):
                self.batches.keep(features)
            self.stop_if_asked()
            yield Preparing(text=f"encoding the {what} once, as their tower is frozen", done=step + 1, total=steps)
        self.facts["frozen_seconds"] = round(time.monotonic() - began, 2)

    def _fit(self) -> Iterator[Event]:
        """h_w at the least-squares map, where the recipe asks for it."""
        if self.recipe.h_w != "fit":
            return
        features, latents, met = [], [], 0
        step, fitted_on = 0, self.recipe.fitted_on
        total = fitted_on + min(MOST_TESTED, max(LEAST_TESTED, fitted_on // 4))
        while met < total:
            size = min(FIT_AT_ONCE, (fitted_on if met < fitted_on else total) - met)
            pairs = self.source.draw(step, size)
            with torch.no_grad():
                features.append(self.base.encode_images([pair.picture.open() for pair in pairs]))
            latents.append(self.batches.latents(pairs))
            met, step = met + size, step + 1
            self.stop_if_asked()
            yield Preparing(text="fitting h_w to true latents", done=met, total=total)
        feature_ND, latent_N = torch.cat(features), torch.cat(latents).to(self.device)
        self.student.fit(feature_ND[:fitted_on], latent_N[:fitted_on])
        explained = self.student.explains(feature_ND[fitted_on:], latent_N[fitted_on:])
        self.facts["h_w_r2"], self.facts["h_w_r2_n"] = round(explained, 4), total - fitted_on
        yield Told(
            text=f"h_w explains {explained:.1%} of the variance of latents that it was not fitted on "
            f"(n = {total - fitted_on}; fitted on {fitted_on}) before the first step."
        )
        if fitted_on < feature_ND.shape[1]:
            yield Told(text=FEW_FITTED.format(count=fitted_on, width=feature_ND.shape[1]))

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
            teacher=self.teacher, seed=recipe.seed, parts=self.parts, processes=self.processes,
        )  # fmt: skip

    def stop_if_asked(self) -> None:
        """Raises `StopAsked` where the visitor stopped, or the time is up: in all processes, or in none."""
        if any(self.processes.gather([self.asked_to_stop()])):
            raise StopAsked


def _check_words(base: Card, recipe: Recipe) -> None:
    """Raises `UserError` for a folder that is not there, and where a model of the Mini world would read other words."""
    kind, _, path = recipe.data.partition(":")
    if kind in ("folder", "coco") and not Path(path).expanduser().is_dir():
        raise UserError(f"There is no folder '{path}': check the path after '{kind}:'.")
    folder = sources.folder_named_by(base.spec)
    if folder is not None and Domain.read(folder) is not None and not recipe.is_mini:
        raise UserError(
            f"{base.title} knows only the words of the Mini world: train it with --data mini, or name another --base."
        )


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
