"""The Mini experiment: declared runs, each trained by its recipe and evaluated; one line per run in a file.

    control      positive control: trained on which caption is true, can these parameters move this base at all?
    screen       hyperparameters of L_SDS, on the validation set with one base
    confirm      declared objectives on three bases with five seeds each; each final model meets the benchmark once
    return       the cell that gained most and its control, with weights interpolated with the base's (WiSE-FT)
    tower        `preference` and its control with the image tower frozen
    dealt        preference controls: true labels, and preferences shuffled across pairs
    mislabelled  `preference` and its controls with half of the labels wrong
    better       L_SDS and `preference` with a more accurate teacher
    channel      variants of L_SDS, on the validation set
    weights      weights of hard negatives, on the validation set
    sources      other sources of preferences, and shares of wrong labels
    ten-bases    L_SDS, `preference` and true labels on ten bases

A run's line keeps, for every set, which examples were right, so every figure and interval can be recomputed. Several
processes may share a study: each takes every n-th run. Runs that have a line, here or in a study `beside`, are skipped,
and runs that another study has trained are reused.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sdsdemo.core.bits import packed, unpacked
from sdsdemo.data.benchmarks import orders, retrieval, swaps, zero_shot
from sdsdemo.data.mini.drawing import MODEL_PIXELS
from sdsdemo.errors import UserError
from sdsdemo.finetuning.before_after import Evaluator
from sdsdemo.finetuning.cache import MiniCache
from sdsdemo.finetuning.recipe import Recipe, with_defaults
from sdsdemo.finetuning.setup import Models
from sdsdemo.mini.experiments.runs import Progress, tuned
from sdsdemo.mini.experiments.study_store import StudyStore
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.clip import ClipModel, ClipScorer
from sdsdemo.types import Example

BASES = ("mini-clip", "mini-clip-2", "mini-clip-3")
TEACHER = "mini-diffusion-short"
"""Teacher of every study but `better`, whose teacher was trained later."""
BENCHMARK, VALIDATION = "mini", "mini-validation"
LARGER, AMONG = 4_000, 100
"""Examples in each larger set for zero-shot and retrieval, and candidate captions per image in retrieval. With the 500
examples of every run, a change of two points cannot be distinguished from zero."""
ZERO_SHOT, RETRIEVAL = "mini-zero-shot", "mini-retrieval"
CHOOSING, CHOOSING_SETS = "mini-retrieval-validation", 10
"""The retrieval set for choices, and how many sets of AMONG it has. Earlier choices looked at `mini-retrieval`."""
OTHER_WEIGHTS = (
    "{model} has other weights here than those that the lines of {study} were made with: copy its folder from where "
    "they were made, or delete its lines to make them again."
)
OTHER_RECIPE = (
    "The line of '{run}' of {study} was made with other settings than those declared: delete it to make it again."
)
KEPT_FACTS = ("h_w_r2", "controls", "preferences", "trained", "seconds")
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Study:
    """Runs that belong together: every cell with every base and seed."""

    cells: Mapping[str, Recipe]
    bases: tuple[str, ...] = BASES[:1]
    seeds: tuple[int, ...] = (0, 1, 2)
    measure: str = VALIDATION
    beside: tuple[str, ...] = ()
    """Studies whose lines count here too where run, recipe, weights and sets are the same."""
    larger: bool = False
    """Whether zero-shot and retrieval are also measured on the larger sets."""
    exploratory: bool = False
    """If true, a cell counts with every seed that is done for it and its control, and reports how many. Else only seeds
    for which every cell is done count."""

    def runs(self) -> Iterator[tuple[str, Recipe]]:
        """Name and recipe of each run, all cells of a seed and base together."""
        for seed in self.seeds:
            for base in self.bases:
                for cell, recipe in self.cells.items():
                    yield f"{cell} {base} {seed}", replace(recipe, base=base, seed=seed)


def run_study(
    name: str,
    study: Study,
    *,
    store: StudyStore,
    workbench: Models,
    progress: Progress,
    part: tuple[int, int] = (0, 1),
    keep: Path | None = None,
) -> None:
    """Train and evaluate the runs of a study that have no line in `store` yet.

    part: (k, n) takes every n-th run, from the k-th on. keep: folder that the weights of every run are copied to.
    Raises `UserError` for a run that fails.
    """
    lines = store.lines(name)
    missing = missing_runs(name, study, store, workbench)
    for number, (run, recipe) in enumerate(study.runs()):
        if number % part[1] != part[0] or run not in missing:
            continue
        progress(f"{name}: {run}")
        record, model = tuned(recipe, store.run_folder(name, run), store.trained, workbench, progress, _CACHE)
        row = {"run": run, **_measured(recipe, model, study, workbench)}
        row |= {fact: record[fact] for fact in KEPT_FACTS if fact in record}
        lines.add(row)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model, keep / f"{run.replace(' ', '_')}.safetensors")


def missing_runs(name: str, study: Study, store: StudyStore, workbench: Models) -> dict[str, Recipe]:
    """The runs of a study that have no line yet, in its own file or in that of a study beside it.

    Raises `UserError` if its lines are of another recipe, or of models with other weights than here.
    """
    models = (*study.bases, *{recipe.teacher for recipe in study.cells.values() if recipe.uses_teacher})
    known = {model: card for model in models if workbench.availability(card := workbench.card(model)).can_run}
    weights = {model: cards.weights_fingerprint(card) for model, card in known.items()}
    own = store.lines(name).rows
    _check_made_alike(name, study, own, weights)
    others = [row for other in study.beside for row in store.lines(other).rows]
    made = {row["run"] for row in (*own, *lines_alike(study, others, weights))}
    return {run: recipe for run, recipe in study.runs() if run not in made}


def _check_made_alike(name: str, study: Study, rows: Rows, weights: Mapping[str, str]) -> None:
    """Raises `UserError` for lines of another recipe than declared, or of models with other weights than here.

    weights: fingerprints by name of the models that are here.
    """
    recipes = dict(study.runs())
    for row in rows:
        recipe = recipes.get(row["run"])
        used = {"base_fingerprint": row.get("base", "")}
        if recipe is not None and recipe.uses_teacher:
            used["teacher_fingerprint"] = recipe.teacher
        for fact, model in used.items():
            here = weights.get(model)
            if here is not None and row.get(fact, here) != here:
                raise UserError(OTHER_WEIGHTS.format(model=model, study=name))
        if recipe is not None and "recipe" in row and with_defaults(row["recipe"]) != recipe.as_dict():
            raise UserError(OTHER_RECIPE.format(run=row["run"], study=name))


def lines_alike(study: Study, rows: Rows, weights: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """The lines of other studies that are runs of this one: same recipe, models and sets.

    weights: fingerprints by name; a teacher that is not among them is taken for the same.
    """
    skills = (larger(ZERO_SHOT), larger(RETRIEVAL)) if study.larger else (ZERO_SHOT, RETRIEVAL)
    recipes, sets = dict(study.runs()), {study.measure, *skills}

    def is_alike(row: Mapping[str, Any]) -> bool:
        recipe = recipes.get(row["run"])
        if recipe is None or "recipe" not in row or not sets <= row["n"].keys():
            return False
        teacher = row["teacher_fingerprint"]
        models = (weights.get(recipe.base), weights.get(recipe.teacher, teacher))
        return with_defaults(row["recipe"]) == recipe.as_dict() and models == (row["base_fingerprint"], teacher)

    return [row for row in rows if is_alike(row)]


def _measured(recipe: Recipe, model: Path, study: Study, workbench: Models) -> dict[str, Any]:
    """The fine-tuned model's correctness on every set, and its cosines. Its base has a line of its own."""
    scorer = open_scorer(workbench.card(f"sds-clip:{model}"), device="cpu")
    assert isinstance(scorer, ClipScorer)
    assert isinstance(scorer.model, ClipModel)
    return evaluate_clip(scorer.model, study.measure, larger=study.larger) | {
        "base": recipe.base,
        "base_fingerprint": cards.weights_fingerprint(workbench.card(recipe.base)),
        "teacher_fingerprint": cards.weights_fingerprint(workbench.card(recipe.teacher)),
        "recipe": {k: v for k, v in recipe.as_dict().items() if v != Recipe().as_dict()[k]},
    }


def base_row(base: str, workbench: Models) -> dict[str, Any]:
    """The same figures for a CLIP without fine-tuning, on the validation set and on the benchmark."""
    card = workbench.card(base)
    model = ClipModel.load(card.spec)
    found = evaluate_clip(model, VALIDATION, BENCHMARK, larger=True)
    return {"run": f"base {base}", "base": base, "base_fingerprint": cards.weights_fingerprint(card), **found}


_CACHE = MiniCache()
"""Shared, as a process trains and evaluates hundreds of runs."""


def evaluate_clip(model: ClipModel, *pairs: str, larger: bool = False) -> dict[str, Any]:
    """Evaluate on these pair-of-pairs sets and all others: `right` (bits by set and metric), `n` by set, `cosine`."""
    sets = {name: examples for one in pairs for name, examples in _CACHE.sets(one).items()}
    sets |= _choice_sets() | (larger_sets() if larger else {}) | (_choosing_sets() if VALIDATION in pairs else {})
    evaluator = Evaluator(sets, model, _CACHE.inputs(model))
    found = evaluator.evaluate()
    return {
        "right": {name: {k: packed(v) for k, v in by.items()} for name, by in found.right.items()},
        "n": {name: len(examples) for name, examples in evaluator.sets.items()},
        "cosine": {name: round(value, 4) for name, value in found.cosine.items()},
    }


@lru_cache(maxsize=1)
def _choice_sets() -> dict[str, list[Example]]:
    found: dict[str, list[Example]] = {}
    for example in (*swaps(pixels=MODEL_PIXELS), *orders(pixels=MODEL_PIXELS)):
        found.setdefault(f"mini-{example.tags['collapsed_tag']}", []).append(example)
    return found


@lru_cache(maxsize=1)
def larger_sets() -> dict[str, list[Example]]:
    """Zero-shot and retrieval sets with LARGER examples each."""
    return {
        larger(ZERO_SHOT): zero_shot(count=LARGER, pixels=MODEL_PIXELS),
        larger(RETRIEVAL): retrieval(sets=LARGER // AMONG, size=AMONG, pixels=MODEL_PIXELS),
    }


@lru_cache(maxsize=1)
def _choosing_sets() -> dict[str, list[Example]]:
    """What settings are chosen on beside a validation set: retrieval among pictures of validation combinations."""
    return {CHOOSING: retrieval(sets=CHOOSING_SETS, size=AMONG, pixels=MODEL_PIXELS, split="validation")}


def larger(name: str) -> str:
    """Name of the larger version of a set."""
    return f"{name}-{LARGER}"


# ------------------------------------------------------------------------------------------------------ figures


def right_of(row: Mapping[str, Any], name: str, metric: str) -> np.ndarray:
    """right_E of a line on one set."""
    return unpacked(row["right"][name][metric], row["n"][name])


def declared_and_made(study: Study, rows: Rows) -> dict[str, Any]:
    """How many bases, seeds and runs a study has, and how many of its runs have a line."""
    names = {run for run, _ in study.runs()}
    declared = {"bases": len(study.bases), "seeds": len(study.seeds), "runs": len(names)}
    return {"declared": declared, "made": len(names & {row["run"] for row in rows})}


def complete(study: Study, rows: Rows) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Bases and seeds for which every cell is done: all bases with every complete seed, else some bases with one."""
    made = {row["run"] for row in rows}

    def whole(base: str, seed: int) -> bool:
        return all(f"{cell} {base} {seed}" in made for cell in study.cells)

    seeds = tuple(seed for seed in study.seeds if all(whole(base, seed) for base in study.bases))
    if seeds:
        return study.bases, seeds
    seeds = tuple(seed for seed in study.seeds if any(whole(base, seed) for base in study.bases))[:1]
    return tuple(base for base in study.bases if seeds and whole(base, seeds[0])), seeds


def differences(
    rows: Sequence[Mapping[str, Any]], cell: str, control: str, bases: Sequence[str], seeds: Sequence[int],
    name: str, metric: str = "text",
) -> np.ndarray:  # fmt: skip
    """difference_BSE in -1, 0, 1 between a cell and its control. Raises `KeyError` for a missing run."""
    by_run = {row["run"]: row for row in rows}
    return np.array(
        [
            [
                right_of(by_run[f"{cell} {base} {seed}"], name, metric).astype(float)
                - right_of(by_run[f"{control} {base} {seed}"], name, metric)
                for seed in seeds
            ]
            for base in bases
        ]
    )
