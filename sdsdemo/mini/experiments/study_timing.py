"""Estimates how long the studies take from scratch on this machine. Keeps nothing that it trains.

    a process  =  sum over its trainings of (seconds of overhead) + steps x (seconds per step)
                  + sum over its runs of (seconds per evaluation) + drawing pairs + querying teachers
    studies    =  the slowest process

A few steps of every kind of run are timed, in as many concurrent processes as share the studies, one core each: two
busy processes slow each other down. A training that several studies need counts once, with the first of them. Teacher
queries count in each process, since two that reach the same pairs at the same time both ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from sdsdemo.mini.experiments.cells import NORMS
from sdsdemo.mini.experiments.declared import CONFIRM, STUDIES
from sdsdemo.mini.experiments.preference_clip import Trained
from sdsdemo.mini.experiments.study import BASES, BENCHMARK, TEACHER, evaluate_clip
from sdsdemo.mini.models.clip import FURTHER
from sdsdemo.models.clip import ClipModel
from sdsdemo.settings import CHECKPOINTS
from sdsdemo.types import Budget

STEPS = 8
"""Steps timed for each kind of run: the median of their durations, without the first."""
PICTURES = 500
"""Pictures drawn to time one."""
PREFERENCE = CONFIRM.cells["preference"]
Kind = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds on one core."""

    around: Mapping[Kind, float]
    """A run's overhead besides its steps: loading, evaluating before and after, fitting h_w, encoding frozen towers."""
    step: Mapping[Kind, float]
    evaluation: Mapping[bool, float]
    """The evaluation behind a line: with the larger sets (True) or without."""
    pairs: float
    """Drawing the pairs of a recipe and their pictures."""
    asking: float
    """Querying the teacher about one caption and its swap."""


def kind(recipe: Recipe) -> Recipe:
    """The representative of all recipes with equally long steps: one base and teacher, labels in place of queries."""
    alike = replace(recipe, base=BASES[0], teacher=TEACHER, seed=0, mislabelled=0.0, wise_ft=1.0)
    if recipe.objective == "preference":
        alike = replace(alike, objective="labels", permuted=False, unordered=False, teacher_right=0.0)
    return alike


def study_seconds(times: Times, asked: int, processes: int) -> float:
    """Seconds for all studies. asked: pairs that a teacher is asked about, per seed and share of wrong labels."""
    shared = [
        (number % processes, study.larger, recipe)
        for study in STUDIES.values()
        for number, (_, recipe) in enumerate(study.runs())
    ]
    spent = _spent(times, asked, shared, processes)
    spent[0] += (len(BASES) + 1 + len(FURTHER)) * times.evaluation[True]
    return max(spent)


def _spent(times: Times, asked: int, runs: Iterable[tuple[int, bool, Recipe]], processes: int) -> list[float]:
    """Seconds of each process. runs: the process, whether the larger sets are evaluated, and the recipe."""
    spent = [0.0] * processes
    trained: set[Recipe] = set()
    current_pairs: list[Kind] = [()] * processes
    answered: list[set[Kind]] = [set() for _ in range(processes)]
    for own, larger, recipe in runs:
        training = replace(recipe, wise_ft=1.0)
        spent[own] += times.evaluation[larger]
        if training in trained:
            continue
        trained.add(training)
        alike = key(kind(recipe))
        spent[own] += times.around[alike] + recipe.steps * times.step[alike]
        pairs = tuple(getattr(recipe, name) for name in MINI_SETTINGS)
        if current_pairs[own] != pairs:
            current_pairs[own] = pairs
            spent[own] += times.pairs
        question = (recipe.teacher, recipe.seed, recipe.mislabelled)
        if recipe.objective == "preference" and question not in answered[own]:
            answered[own].add(question)
            spent[own] += asked * times.asking
    return spent


def scoring_seconds(times: Times, spend: Budget, examples: int) -> float:
    """Seconds for a teacher to score so many pairs of pairs, scaled from one image with two captions."""
    pairs = spend.timesteps * spend.noises / (PREFERENCE.teacher_timesteps * PREFERENCE.teacher_noises)
    return examples * 2 * pairs * times.asking


def measured(processes: int, one: Callable[[int], Times] | None = None) -> Times:
    """Mean times over concurrent processes. one: what each process runs, a picklable function."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return averaged(list(pool.map(one or _in_a_process, range(processes))))


def averaged(found: Sequence[Times]) -> Times:
    """The mean of each time."""
    first = found[0]
    return Times(
        around={name: mean(times.around[name] for times in found) for name in first.around},
        step={name: mean(times.step[name] for times in found) for name in first.step},
        evaluation={larger: mean(times.evaluation[larger] for times in found) for larger in first.evaluation},
        pairs=mean(times.pairs for times in found),
        asking=mean(times.asking for times in found),
    )


def _in_a_process(_: int) -> Times:
    torch.set_num_threads(1)
    kinds = {key(kind(recipe)): kind(recipe) for study in STUDIES.values() for _, recipe in study.runs()}
    return timed(kinds, Trained(CHECKPOINTS))


def timed(kinds: Mapping[Kind, Recipe], workbench: Models) -> Times:
    """Time every kind of run on the cores that torch may use now, after a warm-up run."""
    cache, found = MiniCache(), {}
    with TemporaryDirectory() as folder:
        _run(next(iter(kinds.values())), Path(folder) / "cold", workbench, cache)
        for number, (name, recipe) in enumerate(kinds.items()):
            found[name] = _run(recipe, Path(folder) / str(number), workbench, cache)
    return Times(
        around={name: around for name, (around, _) in found.items()},
        step={name: step for name, (_, step) in found.items()},
        evaluation={larger: _evaluation_seconds(workbench, larger) for larger in (True, False)},
        pairs=_drawing_seconds(),
        asking=asking_seconds(PREFERENCE, workbench),
    )


def _run(recipe: Recipe, out: Path, workbench: Models, cache: MiniCache) -> tuple[float, float]:
    """Overhead of a full run, and seconds per step, both from a short run whose pictures are drawn already."""
    short = replace(recipe, steps=STEPS, measure_every=STEPS)
    began, marks, encoding = time.perf_counter(), [], 0.0
    for event in finetune(short, out, workbench=workbench, cache=cache):
        if isinstance(event, Step):
            marks.append(time.perf_counter())
        elif isinstance(event, Done):
            encoding = event.record.get("frozen_seconds", 0.0)
    took, step = time.perf_counter() - began, median(after - before for before, after in pairwise(marks[1:]))
    met = min(recipe.pool, recipe.steps * recipe.batch) / (STEPS * recipe.batch)
    return took - STEPS * step + (met - 1) * encoding, step


def _evaluation_seconds(workbench: Models, larger: bool) -> float:
    """The second evaluation is timed: the sets are drawn by then."""
    evaluate = partial(evaluate_clip, ClipModel.load(workbench.card(BASES[0]).spec), BENCHMARK, larger=larger)
    evaluate()
    began = time.perf_counter()
    evaluate()
    return time.perf_counter() - began


def _drawing_seconds() -> float:
    began = time.perf_counter()
    source = read_source(NORMS)
    read = time.perf_counter()
    for pair in source.draw(0, PICTURES):
        pair.picture.open()
    return read - began + (time.perf_counter() - read) * NORMS.pool / PICTURES
