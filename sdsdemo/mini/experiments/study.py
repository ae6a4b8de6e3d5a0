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

A run's line keeps, for every set, which examples were right, so every figure and interval can be recomputed. Several
processes may share a study: each takes every n-th run. Runs that have a line are skipped, and runs that another study
has trained are reused.
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
from sdsdemo.finetuning.before_after import Evaluator
from sdsdemo.finetuning.cache import MiniCache
from sdsdemo.finetuning.recipe import Recipe
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
KEPT_FACTS = ("h_w_r2", "controls", "preferences", "trained", "seconds")


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
    for number, (run, recipe) in enumerate(study.runs()):
        if number % part[1] != part[0] or lines.has("run", run):
            continue
        progress(f"{name}: {run}")
        record, model = tuned(recipe, store.run_folder(name, run), store.trained, workbench, progress, _CACHE)
        row = {"run": run, **_measured(recipe, model, study, workbench)}
        row |= {fact: record[fact] for fact in KEPT_FACTS if fact in record}
        lines.add(row)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model, keep / f"{run.replace(' ', '_')}.safetensors")


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
    sets |= _choice_sets() | (larger_sets() if larger else {})
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
        larger("mini-zero-shot"): zero_shot(count=LARGER, pixels=MODEL_PIXELS),
        larger("mini-retrieval"): retrieval(sets=LARGER // AMONG, size=AMONG, pixels=MODEL_PIXELS),
    }


def larger(name: str) -> str:
    """Name of the larger version of a set."""
    return f"{name}-{LARGER}"


# ------------------------------------------------------------------------------------------------------ figures


def right_of(row: Mapping[str, Any], name: str, metric: str) -> np.ndarray:
    """right_E of a line on one set."""
    return unpacked(row["right"][name][metric], row["n"][name])


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
