"""How long a call needs a shared GPU: what a visitor is told before the click, and what is reserved.

    seconds = start + placed GB / GB a second + sum over questions of units x seconds a unit

A unit is a denoiser evaluation of one caption, or a caption for a model without noise. Its time is the card's until the
first answer has measured it. Knows no figure of a platform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sdsdemo.app.asking import Question
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run_size import images_of_fit, pairs_drawn
from sdsdemo.settings import FINETUNING, NOISES, TIMESTEPS
from sdsdemo.types import Answer, Budget, Card

START, SECONDS_A_GB, LOADING_A_GB = 4.0, 1.0, 6.0
"""To start the function; to move placed weights to the GPU; to read weights that are not placed. Assumed."""
QUICKER = 20.0
"""A card whose time is a processor's is at least so many times as quick on a GPU. Assumed."""
RESERVED = 1.5
"""Reserved for each second expected: a function that takes longer than reserved is ended."""
BACKWARDS = 3
"""A training step costs so many times as much as its way forwards, which it goes back in twice the time."""
RUN_LEAST, RUN_SAVES = 60, 20
"""Seconds: the least that a fine-tuning run reserves, and what of it is kept to measure and to save."""
GUIDED = 2
"""Denoiser evaluations of a step of drawing: with the caption and without."""


class GpuTimes:
    """Seconds a unit by model, measured as answers come in. Safe to share between threads."""

    def __init__(self) -> None:
        self.placed_mb: dict[str, float] = {}
        """By name, the models whose weights move to the GPU with every fresh function."""
        self._measured: dict[str, float] = {}

    def of_answers(self, questions: Sequence[Question], budget: Budget, show: float | None = None) -> float:
        """Seconds expected for the answers to some questions. show: as in `Request`."""
        shown = 1 + (show or 0.0)
        spent = sum(
            _units(question, budget) * self._unit(question.card) * (shown if question.card.denoises else 1.0)
            for question in questions
        )
        return self._ready([question.card for question in questions]) + spent

    def of_drawing(self, card: Card, captions: int, seeds: int, steps: int) -> float:
        """Seconds expected to draw each caption from each seed."""
        return self._ready([card]) + GUIDED * captions * seeds * steps * self._unit(card)

    def of_benchmark(self, card: Card, pairs: int) -> float:
        """Seconds expected to score a benchmark of pairs of pairs with a CLIP."""
        return self._ready([card]) + 4 * pairs * self._unit(card)

    def of_run(self, recipe: Recipe, base: Card, teacher: Card | None) -> float:
        """Seconds expected for a fine-tuning run. teacher: None where the objective has none."""
        pictures = recipe.steps * recipe.batch
        asked = 0.0
        if teacher is not None:
            evaluations = {
                "preference": 2 * pairs_drawn(recipe) * recipe.teacher_timesteps * recipe.teacher_noises,
                "sds": BACKWARDS * pictures + images_of_fit(recipe),
            }.get(recipe.objective, pictures)
            asked = evaluations * self._unit(teacher)
        ready = self._ready([base] if teacher is None else [base, teacher])
        return ready + RUN_SAVES + BACKWARDS * pictures * self._unit(base) + asked

    def learn(self, question: Question, answer: Answer, budget: Budget) -> None:
        """Keep the time of a unit from a finished answer."""
        if answer.scores is None or answer.of or answer.scores.seconds <= 0:
            return
        evidence = answer.scores.evidence
        units = evidence.evaluations if evidence and evidence.evaluations else _units(question, budget)
        self._measured[question.card.name] = answer.scores.seconds / units

    def _unit(self, card: Card) -> float:
        if card.name in self._measured:
            return self._measured[card.name]
        return seconds_a_unit(card) / (QUICKER if card.needs == "cpu" else 1.0)

    def _ready(self, cards: Sequence[Card]) -> float:
        """Seconds until the first model can score."""
        to_load = {card.name: card.size_mb for card in cards if card.name not in self.placed_mb}
        gigabytes = sum(self.placed_mb.values()) / 1000
        return START + SECONDS_A_GB * gigabytes + LOADING_A_GB * sum(to_load.values()) / 1000


def seconds_a_unit(card: Card) -> float:
    """A rough time on the hardware that the card needs, from its time of a pair with the default budget."""
    return card.seconds_per_pair / (2 * units_of(card, TIMESTEPS.default * NOISES.default))


def units_of(card: Card, evaluations: int) -> int:
    """Units a caption. evaluations: those of a budget."""
    return evaluations if card.denoises else 1


def reserved(expected: float) -> int:
    """Whole seconds to reserve for what is expected to take so long."""
    return math.ceil(RESERVED * expected)


def reserved_for_run(expected: float) -> int:
    """The same for a fine-tuning run, which stops by itself and keeps what it has."""
    return min(FINETUNING.zerogpu_seconds, max(RUN_LEAST, reserved(expected)))


def _units(question: Question, budget: Budget) -> int:
    return len(question.captions) * units_of(question.card, budget.evaluations)
