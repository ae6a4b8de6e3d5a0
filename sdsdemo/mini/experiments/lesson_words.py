"""The 2 x 2 of the lesson as tables: each cell by kind of swap, and how much is the lesson's. Trains nothing.

    lesson           with - without the lesson, for CLIP and for denoisers
    denoising        denoiser - CLIP, without the lesson and with it
    interaction      the lesson's effect on denoisers minus that on CLIP

at the same seed. Intervals resample seeds and examples.

Shape suffixes: S seed, E example, K examples of a kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sdsdemo.core.bootstrap import nested_effect
from sdsdemo.core.number_format import points_words
from sdsdemo.evaluation.summary import tag_rows
from sdsdemo.mini.experiments.ablations import KINDS
from sdsdemo.mini.experiments.lesson import CELLS, SEEDS
from sdsdemo.mini.experiments.study import BENCHMARK, right_of
from sdsdemo.mini.experiments.tables import as_markdown
from sdsdemo.types import Example

Rows = Sequence[Mapping[str, Any]]
EFFECTS: Mapping[str, Mapping[str, int]] = {
    "the lesson, for CLIP": {"clip, lesson": 1, "clip": -1},
    "the lesson, for denoisers": {"denoiser, lesson": 1, "denoiser": -1},
    "denoising instead of L_CLIP, without the lesson": {"denoiser": 1, "clip": -1},
    "denoising instead of L_CLIP, with the lesson": {"denoiser, lesson": 1, "clip, lesson": -1},
    "interaction": {"denoiser, lesson": 1, "denoiser": -1, "clip, lesson": -1, "clip": 1},
}
"""Effect -> the cells that it adds and subtracts."""
NOT_RUN = f"Not run yet: {len(CELLS)} cells with {len(SEEDS)} seeds are declared."


def lesson_markdown(rows: Rows, examples: Sequence[Example]) -> str:
    """Both tables for the seeds that every cell has; what is declared, if there are none."""
    seeds = done_seeds(rows)
    if not seeds:
        return NOT_RUN
    of = f"{len(seeds)} of {len(SEEDS)} seeds" if len(seeds) < len(SEEDS) else f"{len(seeds)} seeds"
    tables = (cells_grid(rows, examples, seeds), effects_grid(rows, examples, seeds))
    return "\n\n".join([f"{of}, n = {len(examples)} of {BENCHMARK}.", *map(as_markdown, tables)])


def done_seeds(rows: Rows) -> list[int]:
    """The seeds for which every cell has a line."""
    made = {row["run"] for row in rows}
    return [seed for seed in SEEDS if all(f"{cell} {seed}" in made for cell in CELLS)]


def cells_grid(rows: Rows, examples: Sequence[Example], seeds: Sequence[int]) -> list[list[str]]:
    """A header and a row per cell: mean scores over seeds, text score by kind of swap, and the linear probe."""
    chosen = _by_kind(examples)
    heads = [f"{kind} (n = {len(index_K)})" for kind, index_K in chosen.items()]
    grid = [["cell", "text", "by seed", "image", "group", *heads, "linear probe of places"]]
    by_run = {row["run"]: row for row in rows}
    for cell in CELLS:
        own = [by_run[f"{cell} {seed}"] for seed in seeds]
        text_SE, image_SE, group_SE = (_right(own, metric) for metric in ("text", "image", "group"))
        levels = [f"{100 * right_SE.mean():.1f}" for right_SE in (text_SE, image_SE, group_SE)]
        seed_words = ", ".join(f"{100 * text_E.mean():.1f}" for text_E in text_SE)
        kinds = [f"{100 * text_SE[:, index_K].mean():.0f}" for index_K in chosen.values()]
        probe = f"{100 * np.mean([row['places_read'] for row in own]):.0f} %"
        grid.append([cell, levels[0], seed_words, *levels[1:], *kinds, probe])
    return grid


def effects_grid(rows: Rows, examples: Sequence[Example], seeds: Sequence[int]) -> list[list[str]]:
    """A header and a row per effect: points of image score, and of text score in all and by kind of swap."""
    chosen = _by_kind(examples)
    by_run = {row["run"]: row for row in rows}
    own = {cell: [by_run[f"{cell} {seed}"] for seed in seeds] for cell in CELLS}
    grid = [["effect", "image score", "text score", *(f"text, {kind}" for kind in chosen)]]
    for effect, signs in EFFECTS.items():
        image_SE, text_SE = (
            sum((sign * _right(own[cell], metric) for cell, sign in signs.items()), np.zeros(()))
            for metric in ("image", "text")
        )
        parts = [image_SE, text_SE, *(text_SE[:, index_K] for index_K in chosen.values())]
        grid.append([effect, *(points_words(asdict(nested_effect(part[None]))) for part in parts)])
    return grid


def _by_kind(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """index_K of the examples of each kind of swap."""
    tag_of = tag_rows(examples, "tag")
    return {kind: np.concatenate([tag_of[tag] for tag in tags]) for kind, tags in KINDS.items()}


def _right(own: Rows, metric: str) -> np.ndarray:
    """right_SE as 0 and 1."""
    return np.array([right_of(row, BENCHMARK, metric) for row in own], dtype=float)
