"""How long the studies take from nothing on this machine, by their parts. Keeps nothing that it trains.

    a process  =  sum over its trainings of (seconds around the steps) + steps x (seconds a step)
                  + sum over its runs of (seconds a look) + drawing of pairs + asking of teachers
    studies    =  the process that takes longest

Every kind of run is timed by some of its steps, in as many processes at once as share the studies, a core each: two
that work take longer than one. A training that several studies need counts once, with the first of them. A teacher is
counted as asked by each process, as two that come to the same pairs at the same time both ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import torch

from sdsdemo.finetuning.cache import MiniCache
from sdsdemo.finetuning.estimate import asking_seconds, key
from sdsdemo.finetuning.events import Done, Step
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.setup import Models
from sdsdemo.finetuning.training_pairs import MINI_SETTINGS, read_source
from sdsdemo.mini.experiments.declared import CONFIRM, NORMS, STUDIES
from sdsdemo.mini.experiments.preference_clip import Trained
from sdsdemo.mini.experiments.study import BASES, BENCHMARK, TEACHER, look_at
from sdsdemo.models.clip import ClipModel
from sdsdemo.settings import CHECKPOINTS
from sdsdemo.types import Budget

STEPS = 8
"""Of each kind of run. The first difference is left out, and of the others the median counts."""
PICTURES = 500
"""That are drawn to see how long one takes."""
PREFERENCE = CONFIRM.cells["preference"]
Kind = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds on one core."""

    around: Mapping[Kind, float]
    """Of a run without its steps: loading, the looks before and after, fitting h_w, encoding what is frozen."""
    step: Mapping[Kind, float]
    look: Mapping[bool, float]
    """That a line needs: at the larger sets too, or not."""
    pairs: float
    """The pairs of a recipe, and their pictures, drawn once."""
    asking: float
    """Of the teacher, about one caption and its swap."""


def kind(recipe: Recipe) -> Recipe:
    """The recipe that stands for all that take as long a step: of one base and teacher, told without being asked."""
    alike = replace(recipe, base=BASES[0], teacher=TEACHER, seed=0, mislabelled=0.0, wise_ft=1.0)
    if recipe.objective == "preference":
        alike = replace(alike, objective="labels", permuted=False, unordered=False)
    return alike


def study_seconds(times: Times, asked: int, processes: int) -> float:
    """Seconds of all studies. asked: pairs that a teacher is asked about, of each seed and share of wrong labels."""
    spent = [0.0] * processes
    spent[0] = (len(BASES) + 1) * times.look[True]
    made: set[Recipe] = set()
    drawn: list[Kind] = [()] * processes
    told: list[set[Kind]] = [set() for _ in range(processes)]
    for study in STUDIES.values():
        for number, (_, recipe) in enumerate(study.runs()):
            own, training = number % processes, replace(recipe, wise_ft=1.0)
            spent[own] += times.look[study.larger]
            if training in made:
                continue
            made.add(training)
            alike = key(kind(recipe))
            spent[own] += times.around[alike] + recipe.steps * times.step[alike]
            pairs = tuple(getattr(recipe, name) for name in MINI_SETTINGS)
            if drawn[own] != pairs:
                drawn[own] = pairs
                spent[own] += times.pairs
            question = (recipe.teacher, recipe.seed, recipe.mislabelled)
            if recipe.objective == "preference" and question not in told[own]:
                told[own].add(question)
                spent[own] += asked * times.asking
    return max(spent)


def scoring_seconds(times: Times, spend: Budget, examples: int) -> float:
    """Seconds that a teacher takes for so many pairs of pairs, by what it takes for one image and two captions."""
    pairs = spend.timesteps * spend.noises / (PREFERENCE.teacher_timesteps * PREFERENCE.teacher_noises)
    return examples * 2 * pairs * times.asking


def measured(processes: int, one: Callable[[int], Times] | None = None) -> Times:
    """The mean of what so many processes find that work at the same time. one: what each does, a function by name."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return averaged(list(pool.map(one or _in_a_process, range(processes))))


def averaged(found: Sequence[Times]) -> Times:
    """The mean of each time."""
    first = found[0]
    return Times(
        around={name: mean(times.around[name] for times in found) for name in first.around},
        step={name: mean(times.step[name] for times in found) for name in first.step},
        look={larger: mean(times.look[larger] for times in found) for larger in first.look},
        pairs=mean(times.pairs for times in found),
        asking=mean(times.asking for times in found),
    )


def _in_a_process(_: int) -> Times:
    torch.set_num_threads(1)
    kinds = {key(kind(recipe)): kind(recipe) for study in STUDIES.values() for _, recipe in study.runs()}
    return timed(kinds, Trained(CHECKPOINTS))


def timed(kinds: Mapping[Kind, Recipe], workbench: Models) -> Times:
    """On the cores that torch may use now."""
    drawn, found = MiniCache(), {}
    with TemporaryDirectory() as folder:
        _run(next(iter(kinds.values())), Path(folder) / "cold", workbench, drawn)
        for number, (name, recipe) in enumerate(kinds.items()):
            found[name] = _run(recipe, Path(folder) / str(number), workbench, drawn)
    return Times(
        around={name: around for name, (around, _) in found.items()},
        step={name: step for name, (_, step) in found.items()},
        look={larger: _look(workbench, larger) for larger in (True, False)},
        pairs=_pairs(),
        asking=asking_seconds(PREFERENCE, workbench),
    )


def _run(recipe: Recipe, out: Path, workbench: Models, drawn: MiniCache) -> tuple[float, float]:
    """Of a short run on pictures that are drawn: around its steps, as if it were a whole one; and of a step."""
    short = replace(recipe, steps=STEPS, measure_every=STEPS)
    began, marks, encoding = time.perf_counter(), [], 0.0
    for event in finetune(short, out, workbench=workbench, drawn=drawn):
        if isinstance(event, Step):
            marks.append(time.perf_counter())
        elif isinstance(event, Done):
            encoding = event.record.get("frozen_seconds", 0.0)
    took, step = time.perf_counter() - began, median(after - before for before, after in pairwise(marks[1:]))
    met = min(recipe.pool, recipe.steps * recipe.batch) / (STEPS * recipe.batch)
    return took - STEPS * step + (met - 1) * encoding, step


def _look(workbench: Models, larger: bool) -> float:
    """The second one: the sets are drawn by then."""
    look = partial(look_at, ClipModel.load(workbench.card(BASES[0]).spec), BENCHMARK, larger=larger)
    look()
    began = time.perf_counter()
    look()
    return time.perf_counter() - began


def _pairs() -> float:
    began = time.perf_counter()
    source = read_source(NORMS)
    read = time.perf_counter()
    for pair in source.draw(0, PICTURES):
        pair.picture.open()
    return read - began + (time.perf_counter() - read) * NORMS.pool / PICTURES
