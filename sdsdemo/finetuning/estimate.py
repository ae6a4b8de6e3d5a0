"""Estimates how long a run would take here from a few steps of the same recipe. Keeps nothing.

seconds = preparation + steps x (seconds per step) + evaluations x (seconds per evaluation)
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from sdsdemo.core.number_format import duration
from sdsdemo.errors import UserError
from sdsdemo.finetuning.before_after import Evaluator, sets_of
from sdsdemo.finetuning.events import Event, Notice, Step, Working, result_of
from sdsdemo.finetuning.loop import Failed, LoopEvent, train
from sdsdemo.finetuning.map_fit import FITTING
from sdsdemo.finetuning.prepare import Prepared, prepare
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run_size import images_of_fit, pairs_drawn
from sdsdemo.finetuning.setup import Loaded, Models, load, plan
from sdsdemo.finetuning.training import EVALUATIONS, SmallerParts, training_config
from sdsdemo.finetuning.training_pairs import Pair

STEPS = 4
"""Steps to time: the median counts, without the slow first one."""
SAMPLE = 32
"""Images fitted or scored by the teacher, to time one."""
ASKING = 20.0
"""Seconds in which a teacher other than Mini's is measured."""
DEPENDS_ON = ("base", "teacher", "objective", "batch", "micro_batch", "jacobian", "trained", "towers", "data",
              "teacher_timesteps", "teacher_noises", "h_w_from", "contrast_weight", "latent_weight",
              "error_weight")  # fmt: skip
"""Settings that change how long a step takes."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Measured wall-clock seconds of the parts of a run."""

    loading: float
    item: float
    """Per image that h_w is fitted or tested on, or pair that the teacher scores; 0 if neither."""
    frozen: float
    """Per pair, to encode it with the frozen tower; 0 if both towers are trained."""
    step: float
    image: float
    """Per image of the first evaluation, which opens it."""
    image_again: float
    """Per image of a later evaluation."""
    images: int
    """Images in a full evaluation."""
    first_images: int
    """Images in an evaluation on held-out data alone."""
    items: int | None = None
    """Images of one's own data, with those held out, if known."""
    asked: float = 1.0
    """Share of the pairs that have a swap: the teacher is asked about no others."""

    def total(self, recipe: Recipe) -> float:
        """Seconds for the whole run; fewer if the teacher has scored some pairs before."""
        pairs = pairs_drawn(recipe, self.items)
        items = pairs * self.asked if recipe.objective == "preference" else images_of_fit(recipe, self.items)
        every = recipe.measure_every or max(1, recipe.steps // EVALUATIONS)
        between = max(0, -(-recipe.steps // every) - 1)
        again = self.images + between * self.first_images
        evaluations = self.images * self.image + again * self.image_again
        return self.loading + items * self.item + pairs * self.frozen + recipe.steps * self.step + evaluations

    def words(self, recipe: Recipe) -> str:
        """The estimate in a sentence."""
        return (
            f"About {duration(self.total(recipe))} on this machine: {self.step:.2g} s per step, measured over "
            f"{STEPS - 1} steps just now."
        )


def key(recipe: Recipe) -> tuple[object, ...]:
    """Recipes with equal keys take equally long per step."""
    return tuple(getattr(recipe, name) for name in DEPENDS_ON)


def estimate(recipe: Recipe, workbench: Models, steps: int = STEPS) -> Estimate:
    """Times a few steps and discards them; the first does not count.

    Raises `UserError` for a recipe that cannot run here.
    """
    rows = steps * recipe.batch
    tiny = replace(recipe, steps=steps, pool=rows if recipe.is_mini else recipe.pool, fitted_on=SAMPLE, ema=0.0)
    if tiny.objective == "preference":
        # the same step, without scoring the whole pool
        tiny = replace(tiny, objective="labels", permuted=False, unordered=False, teacher_right=0.0)
    if tiny.h_w == "default":
        # the same step, and recipes that fit h_w have the same key
        tiny = replace(tiny, h_w="fit")
    start = time.perf_counter()
    loaded = result_of(load(plan(tiny, workbench)))
    heard = _Heard()
    run = result_of(prepare(loaded), heard)
    ready, fitted = heard.noticed[0], time.perf_counter()
    marks = [fitted]
    for event in _steps(run):
        if isinstance(event, Failed):
            raise UserError(event.reason)
        marks += [time.perf_counter()] if isinstance(event, Step) else []
    encoding = run.facts.get("frozen_seconds", 0.0)
    item = (fitted - ready - encoding) / heard.read if heard.read else 0.0
    known, asked = None if tiny.is_mini else _items(loaded), 1.0
    if recipe.objective == "preference":
        item, asked = asking_seconds(recipe, workbench, loaded), _asked_share(recipe, loaded)
    cold, warm, images, first = _time_evaluations(loaded)
    return Estimate(
        loading=ready - start,
        item=item,
        frozen=encoding / pairs_drawn(tiny, known),
        step=median(after - before for before, after in pairwise(marks[1:])),
        image=cold,
        image_again=warm,
        images=images,
        first_images=first,
        items=known,
        asked=asked,
    )


def _steps(run: Prepared) -> Iterator[LoopEvent]:
    """The steps as the run makes them: in its precision, with smaller micro-batches where memory runs out."""
    memory = SmallerParts(run.objective, run.loaded.plan.device)
    config = replace(training_config(run), learning_rate=1e-8)
    return train(run.student, run.objective, config, on_out_of_memory=memory.relieve)


class _Heard:
    """What preparation said: when it gave a notice, and how many images h_w read."""

    def __init__(self) -> None:
        self.noticed: list[float] = []
        self.read = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.noticed.append(time.perf_counter())
        if isinstance(event, Working) and event.text == FITTING:
            self.read = event.done


def _items(loaded: Loaded) -> int | None:
    """Images of the data, with those held out; None for a stream whose end was not met."""
    found = loaded.data.get("items")
    return int(str(found)) if found else None


def asking_seconds(recipe: Recipe, workbench: Models, loaded: Loaded | None = None) -> float:
    """Seconds for the teacher to score one caption and its swap; 0 if no caption has one.

    loaded: the recipe's run, if loaded already.
    Mini's teacher scores some; of another, which may take minutes for each, the parts are measured (`models.cost`).
    """
    from sdsdemo.finetuning.teacher import as_scorer, load_teacher
    from sdsdemo.finetuning.teacher_preferences import Preferences
    from sdsdemo.models import pick_device
    from sdsdemo.models.cost import measure
    from sdsdemo.models.diffusion_scorer import DiffusionScorer
    from sdsdemo.types import Budget

    if loaded is None:
        loaded = result_of(load(plan(recipe, workbench)))
    card = workbench.card(recipe.teacher)
    device = torch.device("cpu") if loaded.plan.device.type == "cpu" else pick_device(workbench.settings.device)
    scorer = as_scorer(card, load_teacher(card, device, workbench.settings))
    budget = Budget(timesteps=recipe.teacher_timesteps, noises=recipe.teacher_noises, seed=0)
    if isinstance(scorer, DiffusionScorer) and not card.mini:
        return measure(scorer, ASKING).seconds(1, budget, pictures=1, captions=2)
    with tempfile.TemporaryDirectory() as folder:
        asked = Preferences(Path(folder), "estimate", budget)
        pairs = [pair for pair in _sample(recipe, loaded) if pair.twin]
        start = time.perf_counter()
        deque(asked.ask(scorer, pairs, lambda: False), maxlen=0)
        return (time.perf_counter() - start) / max(1, len(pairs))


def _sample(recipe: Recipe, loaded: Loaded) -> list[Pair]:
    return loaded.source.draw(0, min(SAMPLE, recipe.batch))


def _asked_share(recipe: Recipe, loaded: Loaded) -> float:
    """Share of the pairs that have a swap, on a sample."""
    pairs = _sample(recipe, loaded)
    return sum(bool(pair.twin) for pair in pairs) / len(pairs)


def _time_evaluations(loaded: Loaded) -> tuple[float, float, int, int]:
    """Seconds per image of the first and later evaluations; images per evaluation, and in its first set."""
    evaluator = Evaluator(sets_of(loaded.plan.recipe, loaded.source), loaded.base)
    counts = [sum(len(example.images) for example in examples) for examples in evaluator.sets.values()]
    sample = evaluator.sets[evaluator.first][:SAMPLE]
    evaluator.sets[evaluator.first] = sample
    marks = [time.perf_counter()]
    for _ in range(2):
        evaluator.evaluate([evaluator.first])
        marks.append(time.perf_counter())
    count = sum(len(example.images) for example in sample)
    return (marks[1] - marks[0]) / count, (marks[2] - marks[1]) / count, sum(counts), counts[0]
