"""The experiment of the Mini world: declared runs, each trained by its recipe and measured; a line a run in a file.

    control   the positive control: trained on which caption is true, can these parameters move this base at all?
    screen    choices for L_SDS, made on the validation set with one base
    confirm   declared objectives on three bases with five seeds each; the benchmark is scored once a final model
    return    the run that gained most and its control, their weights brought a part of the way back to the base's
    tower     `preference` and its control with the image tower frozen
    dealt     preference controls: true labels, and preferences shuffled across pairs
    mislabelled  `preference` and its controls where half of the labels are wrong
    better    L_SDS and `preference` with a teacher that errs less

A run's line keeps, for every set, which examples were right, so that every figure and interval can be computed again.
Several processes may share a study: each takes every n-th run, and what has its line already is not made again. Nor is
a run trained again that another study has trained.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

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
"""Of every study but `better`: the better teacher was trained later."""
BENCHMARK, VALIDATION = "mini", "mini-validation"
LARGER, AMONG = 4_000, 100
"""Examples each of the larger sets for zero-shot and retrieval, and captions that an image is retrieved among: with the
500 of every run, two points of change are not distinguishable from zero."""
KEPT_FACTS = ("h_w_r2", "controls", "preferences", "trained", "seconds")


@dataclass(frozen=True, kw_only=True)
class Study:
    """Runs that belong together: every cell with every base and seed."""

    cells: Mapping[str, Recipe]
    bases: tuple[str, ...] = BASES[:1]
    seeds: tuple[int, ...] = (0, 1, 2)
    measure: str = VALIDATION
    larger: bool = False
    """Zero-shot and retrieval on the larger sets too."""
    exploratory: bool = False
    """Each cell counts with the seeds that were made of it and of its control, and says how many. Else only seeds of
    which every cell was made count."""

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
    """Make the runs of a study that have no line in `store` yet; of them this process's part (which, of how many).

    keep: where the weights of every run are copied to. Raises `UserError` for a run that fails.
    """
    lines = store.lines(name)
    for number, (run, recipe) in enumerate(study.runs()):
        if number % part[1] != part[0] or lines.has("run", run):
            continue
        progress(f"{name}: {run}")
        record, model = tuned(recipe, store.run_folder(name, run), store.trained, workbench, progress, _DRAWN)
        row = {"run": run, **_measured(recipe, model, study, workbench)}
        row |= {fact: record[fact] for fact in KEPT_FACTS if fact in record}
        lines.add(row)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model, keep / f"{run.replace(' ', '_')}.safetensors")


def _measured(recipe: Recipe, model: Path, study: Study, workbench: Models) -> dict[str, Any]:
    """Right or not on every set, and the cosines; of the fine-tuned model. Its base has a line of its own."""
    scorer = open_scorer(workbench.card(f"sds-clip:{model}"), device="cpu")
    assert isinstance(scorer, ClipScorer)
    return look_at(scorer.model, study.measure, larger=study.larger) | {
        "base": recipe.base,
        "base_fingerprint": cards.weights_fingerprint(workbench.card(recipe.base)),
        "teacher_fingerprint": cards.weights_fingerprint(workbench.card(recipe.teacher)),
        "recipe": {k: v for k, v in recipe.as_dict().items() if v != Recipe().as_dict()[k]},
    }


def base_row(base: str, workbench: Models) -> dict[str, Any]:
    """The same figures of a CLIP as it is, on the validation set and on the benchmark."""
    card = workbench.card(base)
    model = ClipModel.load(card.spec)
    found = look_at(model, VALIDATION, BENCHMARK, larger=True)
    return {"run": f"base {base}", "base": base, "base_fingerprint": cards.weights_fingerprint(card), **found}


_DRAWN = MiniCache()
"""A process makes hundreds of runs, and looks at each of them."""


def look_at(model: ClipModel, *pairs: str, larger: bool = False) -> dict[str, Any]:
    """On pair-of-pairs sets and the others: `right`, a string of bits by set and metric; `n` by set; `cosine`."""
    sets = {name: examples for one in pairs for name, examples in _DRAWN.sets(one).items()}
    sets |= _choice_sets() | (larger_sets() if larger else {})
    measures = Evaluator(sets, model, _DRAWN.inputs(model))
    found = measures.evaluate()
    return {
        "right": {name: {k: packed(v) for k, v in by.items()} for name, by in found.right.items()},
        "n": {name: len(examples) for name, examples in measures.sets.items()},
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
    """Zero-shot and retrieval with LARGER examples each, drawn anew."""
    return {
        larger("mini-zero-shot"): zero_shot(count=LARGER, pixels=MODEL_PIXELS),
        larger("mini-retrieval"): retrieval(sets=LARGER // AMONG, size=AMONG, pixels=MODEL_PIXELS),
    }


def larger(name: str) -> str:
    """What the larger set of a kind is called."""
    return f"{name}-{LARGER}"


def packed(right_E: np.ndarray) -> str:
    """Booleans as hexadecimal digits, as a line keeps them."""
    return np.packbits(right_E.astype(bool)).tobytes().hex()


def unpacked(bits: str, n: int) -> np.ndarray:
    """The booleans that a line keeps as hexadecimal digits."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), dtype=np.uint8))[:n].astype(bool)


# ------------------------------------------------------------------------------------------------------ figures


def right_of(row: Mapping[str, Any], name: str, metric: str) -> np.ndarray:
    """right_E of a line on one set."""
    return unpacked(row["right"][name][metric], row["n"][name])


def differences(
    rows: Sequence[Mapping[str, Any]], cell: str, control: str, bases: Sequence[str], seeds: Sequence[int],
    name: str, metric: str = "text",
) -> np.ndarray:  # fmt: skip
    """difference_BSE in -1, 0, 1 of a cell to its control, at the same base and seed. Raises `KeyError` for a gap."""
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
