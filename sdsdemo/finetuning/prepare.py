"""Prepares a loaded run for training: loads the teacher, builds the student, fits h_w or queries the teacher.

    load -> Loaded (`setup`) -> prepare -> Prepared -> train -> Ended (`training`)

Writes no file but the teacher's preferences, and evaluates nothing. Used by `run` and `estimate`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from sdsdemo.core.intervals import proportion
from sdsdemo.data.captions.items import let_go
from sdsdemo.finetuning.batches import PairBatches
from sdsdemo.finetuning.events import Event, Notice, Working
from sdsdemo.finetuning.map_fit import fit_map
from sdsdemo.finetuning.objectives import Objective, ObjectiveConfig, SdsTerms
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.setup import Loaded, caption_notes
from sdsdemo.finetuning.student import Student
from sdsdemo.finetuning.teacher import Teacher, as_scorer, load_teacher
from sdsdemo.finetuning.teacher_preferences import Preferences, pair_key
from sdsdemo.finetuning.training_pairs import Pair
from sdsdemo.models import cards
from sdsdemo.models.building import builds_alone
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.types import Budget

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
    """The teacher, if it runs in every step."""
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
    in_loop = teacher if recipe.teacher_in_loop and isinstance(teacher, LatentDiffusion) else None
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
    if recipe.objective == "sds" and recipe.h_w in ("fit", "frozen"):
        facts |= yield from fit_map(loaded, student, batches)
    objective = Objective(
        student, batches, _objective_config(recipe),
        teacher=in_loop, seed=recipe.seed, parts=loaded.plan.parts, processes=loaded.plan.processes,
    )  # fmt: skip
    return Prepared(loaded=loaded, teacher=in_loop, student=student, batches=batches, objective=objective, facts=facts)


def _load_teacher(loaded: Loaded) -> Generator[Event, None, Teacher | None]:
    card = loaded.plan.teacher_card
    if card is None:
        return None
    yield Working(text=f"loading {card.title}")
    teacher = load_teacher(card, loaded.plan.device, loaded.plan.settings)
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
        from_patches=recipe.h_w_from == "patches",
        frozen_map=recipe.h_w == "frozen",
    )
    return student.to(loaded.plan.device)


def _objective_config(recipe: Recipe) -> ObjectiveConfig:
    return ObjectiveConfig(
        name=recipe.objective,
        lam=recipe.lam,
        reduction=recipe.reduction,
        jacobian=recipe.jacobian,
        timesteps=(recipe.timestep_low, recipe.timestep_high),
        terms=SdsTerms(
            error=recipe.error_weight,
            contrast=recipe.contrast_weight,
            contrast_scale=recipe.contrast_scale,
            latent=recipe.latent_weight,
        ),
        negative_weight=recipe.negative_weight,
    )


def _ask_teacher(loaded: Loaded, teacher: Teacher) -> Generator[Event, None, tuple[Preference, Facts]]:
    """The teacher's preference for every pair of the run, and facts for the record."""
    plan, recipe = loaded.plan, loaded.plan.recipe
    assert plan.teacher_card is not None
    scorer = as_scorer(plan.teacher_card, teacher)
    budget = Budget(timesteps=recipe.teacher_timesteps, noises=recipe.teacher_noises, seed=PREFERENCE_SEED)
    kept = Preferences(plan.settings.cache, cards.fingerprint(scorer.card), budget, plan.processes)
    began = time.monotonic()
    yield Working(text="finding the pairs that the teacher has not scored yet")
    pairs = _all_pairs(loaded, kept)
    kept.agree(pairs)
    missing = len(kept.missing(pairs))
    for done in kept.ask(scorer, pairs, plan.asked_to_stop):
        yield Working(text="comparing each caption with its twin by the teacher", done=done, total=missing)
    plan.stop_if_asked()
    right, of = kept.right(pairs)
    stand_ins = sum(pair.stand_in for pair in pairs)
    yield Notice(text=_answer_words(recipe, pairs, right, of, missing, stand_ins))
    return _probabilities(recipe, kept, pairs), {
        "pairs": of,
        "stand_ins": stand_ins,
        "asked": missing,
        "evaluations": sum(plan.processes.gather([kept.spent])),
        "seconds": round(time.monotonic() - began, 2),
        "teacher_right": asdict(proportion(right, of)) if of else None,
        **({"reversed_to": recipe.teacher_right} if recipe.teacher_right else {}),
    }


def _probabilities(recipe: Recipe, kept: Preferences, pairs: list[Pair]) -> Preference:
    """p of each pair: as the teacher answers, or changed as a control of the recipe says."""
    if recipe.teacher_right:
        kept = kept.reversed_until(recipe.teacher_right, pairs, recipe.seed)
    shuffle_seed = recipe.seed if recipe.permuted or recipe.unordered else None
    return kept.probabilities(pairs, recipe.sharpness, permuted=shuffle_seed, unordered=recipe.unordered)


def _all_pairs(loaded: Loaded, kept: Preferences) -> list[Pair]:
    """The pairs of all steps, each once, as the last step of an epoch may reach into the next; no image in memory."""
    recipe, pairs = loaded.plan.recipe, dict[tuple[str, str, str], Pair]()
    step = 0
    while step < loaded.source.steps(recipe.batch, recipe.steps):  # fewer, once the end of a stream was met
        drawn = loaded.source.draw(step, recipe.batch)
        kept.remember(drawn)
        pairs |= {pair_key(pair): replace(pair, picture=let_go(pair.picture)) for pair in drawn}
        loaded.plan.stop_if_asked()
        step += 1
    return list(pairs.values())


def _answer_words(recipe: Recipe, pairs: list[Pair], right: int, of: int, missing: int, stand_ins: int) -> str:
    """The teacher's preferences in a sentence."""
    others = f" {stand_ins} captions without a swap were compared with another image's." if stand_ins else ""
    before = sum(bool(pair.twin) for pair in pairs) - missing
    known = f" {before} of them were already scored." if before else ""
    which = "true" if recipe.mislabelled else "image's"
    return f"The teacher prefers the {which} caption to its swap in {right} of {of} pairs.{known}{others}"


def _encode_frozen(loaded: Loaded, batches: PairBatches) -> Generator[Event, None, float]:
    """Encodes with the frozen tower once for the whole run, so that steps run only the other tower. Returns seconds."""
    plan, recipe, began = loaded.plan, loaded.plan.recipe, time.monotonic()
    what = {"text": "images", "image": "captions"}[recipe.towers]
    step, steps = 0, loaded.source.steps(recipe.batch, recipe.steps)
    while step < steps:
        found = batches.encode_frozen(step) if step % plan.processes.count == plan.processes.index else {}
        left = loaded.source.steps(recipe.batch, recipe.steps)  # fewer, once this process met the end of a stream
        for features, seen in plan.processes.gather([(found, left)]):
            batches.keep(features)
            steps = min(steps, seen)
        plan.stop_if_asked()
        step += 1
        yield Working(text=f"encoding the {what} once, as their tower is frozen", done=step, total=max(step, steps))
    return round(time.monotonic() - began, 2)
