"""Prepares a loaded run for training: loads the teacher, builds the student, fits h_w or queries the teacher.

    load -> Loaded (`setup`) -> prepare -> Prepared -> train -> Ended (`training`)

Writes no file but the teacher's preferences, and evaluates nothing. Used by `run` and `estimate`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from sdsdemo.core.intervals import proportion
from sdsdemo.finetuning.batches import PairBatches
from sdsdemo.finetuning.events import Event, Notice, Working
from sdsdemo.finetuning.objectives import Objective, ObjectiveConfig
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.setup import Loaded, caption_notes
from sdsdemo.finetuning.student import Student
from sdsdemo.finetuning.teacher_preferences import Preferences, pair_key
from sdsdemo.finetuning.training_pairs import Pair
from sdsdemo.models import cards
from sdsdemo.models.building import builds_alone
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.families import load_diffusion
from sdsdemo.types import Budget

LEAST_TESTED, MOST_TESTED = 16, 256
"""Limits on the number of held-out images that test h_w: a quarter of those it is fitted on, within these limits."""
FEW_FITTED = (
    "h_w is fitted on {count} images, fewer than the {width} dimensions of an image embedding, and memorises "
    "them: raise --fitted-on."
)
FIT_AT_ONCE = 64
PREFERENCE_SEED = 0
Facts = dict[str, Any]
"""For the record: the trained parameters, the queries to the teacher, the R2 of h_w."""
Preference = dict[tuple[str, str, str], float]
"""p by `pair_key`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A run that is ready for its first step."""

    loaded: Loaded
    teacher: LatentDiffusion | None
    student: Student
    batches: PairBatches
    objective: Objective
    """The losses of the recipe's steps."""
    facts: Mapping[str, Any]
    """Facts from preparation, for the record."""


def prepare(loaded: Loaded) -> Generator[Event, None, Prepared]:
    """Student, teacher, h_w and preferences, whichever the objective needs. Raises `StopAsked` and `UserError`."""
    recipe = loaded.plan.recipe
    teacher = yield from _load_teacher(loaded)
    in_loop = teacher if recipe.teacher_in_loop else None
    student = _new_student(loaded, in_loop)
    facts: Facts = {"data": loaded.data, "trained": student.says}
    yield Notice(text=f"Trained: {student.says}.")
    preference: Preference | None = None
    if recipe.objective == "preference":
        assert teacher is not None
        preference, facts["preferences"] = yield from _ask_teacher(loaded, teacher)
    batches = PairBatches(recipe, loaded.source, loaded.base, in_loop, preference)
    if recipe.towers != "both":
        facts["frozen_seconds"] = yield from _encode_frozen(loaded, batches)
    if recipe.objective == "sds" and recipe.h_w == "fit":
        facts |= yield from _fit(loaded, student, batches)
    objective = Objective(
        student, batches, _objective_config(recipe),
        teacher=teacher, seed=recipe.seed, parts=loaded.plan.parts, processes=loaded.plan.processes,
    )  # fmt: skip
    return Prepared(loaded=loaded, teacher=teacher, student=student, batches=batches, objective=objective, facts=facts)


def _load_teacher(loaded: Loaded) -> Generator[Event, None, LatentDiffusion | None]:
    card = loaded.plan.teacher_card
    if card is None:
        return None
    yield Working(text=f"loading {card.title}")
    teacher = load_diffusion(
        card.spec,
        revision=card.revision,
        device=loaded.plan.device,
        precision=loaded.plan.settings.precision,
        allow_download=loaded.plan.settings.allow_download,
    )
    for note in caption_notes(loaded, teacher, card):
        yield Notice(text=note)
    return teacher


@builds_alone
def _new_student(loaded: Loaded, in_loop: LatentDiffusion | None) -> Student:
    """in_loop: the teacher, if it runs in every step."""
    recipe = loaded.plan.recipe
    torch.manual_seed(recipe.seed)
    student = Student(
        loaded.base.module,
        in_loop.latent_shape if in_loop is not None and recipe.objective == "sds" else None,
        trained=recipe.trained,
        towers=recipe.towers,
        inner_width=in_loop.inner_width if in_loop is not None and recipe.objective == "features" else None,
        unit_variance=recipe.h_w_unit,
        map_scale=recipe.h_w_scale,
    )
    return student.to(loaded.plan.device)


def _objective_config(recipe: Recipe) -> ObjectiveConfig:
    return ObjectiveConfig(
        name=recipe.objective,
        lam=recipe.lam,
        reduction=recipe.reduction,
        jacobian=recipe.jacobian,
        timesteps=(recipe.timestep_low, recipe.timestep_high),
    )


def _ask_teacher(loaded: Loaded, teacher: LatentDiffusion) -> Generator[Event, None, tuple[Preference, Facts]]:
    """The teacher's preference for every pair of the run, and facts for the record."""
    plan, recipe = loaded.plan, loaded.plan.recipe
    assert plan.teacher_card is not None
    scorer = DiffusionScorer(plan.teacher_card, teacher)
    budget = Budget(timesteps=recipe.teacher_timesteps, noises=recipe.teacher_noises, seed=PREFERENCE_SEED)
    kept = Preferences(plan.settings.cache, cards.fingerprint(scorer.card), budget)
    began = time.monotonic()
    yield Working(text="finding the pairs that the teacher has not scored yet")
    pairs = _all_pairs(loaded)
    missing = len({pair_key(pair) for pair in kept.missing(pairs)})
    if plan.processes.is_main:
        for done in kept.ask(scorer, pairs, plan.asked_to_stop):
            yield Working(text="comparing each caption with its twin by the teacher", done=done, total=missing)
    plan.stop_if_asked()
    for answers in plan.processes.gather([kept.answers if plan.processes.is_main else {}]):
        kept.take(answers)
    right, of = kept.right(pairs)
    stand_ins = len({pair_key(pair) for pair in pairs if pair.stand_in})
    yield Notice(text=_answer_words(recipe, pairs, right, of, missing, stand_ins))
    shuffle_seed = recipe.seed if recipe.permuted or recipe.unordered else None
    return kept.probabilities(pairs, recipe.sharpness, permuted=shuffle_seed, unordered=recipe.unordered), {
        "pairs": of,
        "stand_ins": stand_ins,
        "asked": missing,
        "evaluations": kept.spent,
        "seconds": round(time.monotonic() - began, 2),
        "teacher_right": asdict(proportion(right, of)) if of else None,
    }


def _all_pairs(loaded: Loaded) -> list[Pair]:
    """The pairs of every step, including repeats."""
    recipe, pairs = loaded.plan.recipe, []
    for step in range(loaded.source.steps(recipe.batch, recipe.steps)):
        pairs += loaded.source.draw(step, recipe.batch)
        loaded.plan.stop_if_asked()
    return pairs


def _answer_words(recipe: Recipe, pairs: list[Pair], right: int, of: int, missing: int, stand_ins: int) -> str:
    """The teacher's preferences in a sentence."""
    others = f" {stand_ins} captions without a swap were compared with another image's." if stand_ins else ""
    before = len({pair_key(pair) for pair in pairs if pair.twin}) - missing
    known = f" {before} of them were already scored." if before else ""
    which = "true" if recipe.mislabelled else "image's"
    return f"The teacher prefers the {which} caption to its swap in {right} of {of} pairs.{known}{others}"


def _encode_frozen(loaded: Loaded, batches: PairBatches) -> Generator[Event, None, float]:
    """Encodes with the frozen tower once for the whole run, so that steps run only the other tower. Returns seconds."""
    plan, recipe, began = loaded.plan, loaded.plan.recipe, time.monotonic()
    what = {"text": "images", "image": "captions"}[recipe.towers]
    steps = loaded.source.steps(recipe.batch, recipe.steps)
    for step in range(steps):
        found = batches.encode_frozen(step) if step % plan.processes.count == plan.processes.index else {}
        for features in plan.processes.gather([found]):
            batches.keep(features)
        plan.stop_if_asked()
        yield Working(text=f"encoding the {what} once, as their tower is frozen", done=step + 1, total=steps)
    return round(time.monotonic() - began, 2)


def _fit(loaded: Loaded, student: Student, batches: PairBatches) -> Generator[Event, None, Facts]:
    """Fits h_w by least squares; returns its R2 on held-out images."""
    fitted_on = loaded.plan.recipe.fitted_on
    total = fitted_on + min(MOST_TESTED, max(LEAST_TESTED, fitted_on // 4))
    feature_ND, latent_N = yield from _features_and_latents(loaded, batches, fitted_on, total)
    student.fit(feature_ND[:fitted_on], latent_N[:fitted_on])
    explained = student.explains(feature_ND[fitted_on:], latent_N[fitted_on:])
    yield Notice(
        text=f"Before the first step, h_w explains {explained:.1%} of the variance of held-out latents "
        f"(n = {total - fitted_on}; fitted on {fitted_on})."
    )
    if fitted_on < feature_ND.shape[1]:
        yield Notice(text=FEW_FITTED.format(count=fitted_on, width=feature_ND.shape[1]))
    return {"h_w_r2": round(explained, 4), "h_w_r2_n": total - fitted_on}


def _features_and_latents(
    loaded: Loaded, batches: PairBatches, fitted_on: int, total: int
) -> Generator[Event, None, tuple[Tensor, Tensor]]:
    """feature_ND and latent_N of the first `total` images; no draw mixes fitted and held-out images."""
    plan, base = loaded.plan, loaded.base
    features, latents, met, step = [], [], 0, 0
    while met < total:
        size = min(FIT_AT_ONCE, (fitted_on if met < fitted_on else total) - met)
        pairs = loaded.source.draw(step, size)
        with torch.no_grad():
            features.append(base.encode_images([pair.picture.open() for pair in pairs]))
        latents.append(batches.latents(pairs))
        met, step = met + size, step + 1
        plan.stop_if_asked()
        yield Working(text="fitting h_w to true latents", done=met, total=total)
    return torch.cat(features), torch.cat(latents).to(plan.device)
