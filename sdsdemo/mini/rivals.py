"""Rivals on the same images, captions, swaps, steps and seeds: what each gains on the benchmark, and what it costs.

    clip          the control at lambda = 0
    sds           the paper's term, through the denoiser in every step
    negatives     swapped captions as hard negatives
    preference    the teacher asked once beforehand

Settings were chosen on the validation set with one seed, and not with equal care: three of `preference` were tried
(sharpness 2, 4, 8), one of each rival. The benchmark is scored once for each final model. An effect is the difference
to `clip` at the same seed; its interval resamples examples and seeds.

    steps after which `preference` is cheaper than `sds`  =  seconds of asking / (seconds a step of sds - of preference)

Times are measured by some steps of each, one after the other: those of the long runs would be the machine's other work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.evaluation import evaluate
from sdsdemo.finetuning.estimating import Estimate, estimate
from sdsdemo.mini.experiment import trained_run
from sdsdemo.recipes import Recipe
from sdsdemo.runs import read_run
from sdsdemo.settings import budget
from sdsdemo.summaries import pair_right

SHARED = Recipe(trained="all", learning_rate=1e-3, steps=400, batch=32, pool=4_000, measure_every=200)
"""LayerNorms alone hardly move this base in 400 steps, whatever the objective, so every parameter is trained."""
CELLS: dict[str, Recipe] = {
    "clip": replace(SHARED, objective="clip"),
    "sds": replace(SHARED, objective="sds", lam=10.0),
    "negatives": replace(SHARED, objective="negatives"),
    "preference": replace(SHARED, objective="preference", lam=3.0, sharpness=4.0),
}
CONTROL = "clip"
TIMED_STEPS = 12
SEEDS = 3
DRAWS, DRAW_SEED = 4_000, 20_005
"""Of the bootstrap."""


def rivals(
    seeds: int, work: Path, workbench: Any, progress: Callable[[str], None], note: Callable[[str], None]
) -> dict[str, Any]:
    """Train every cell with every seed, score the benchmark, and sum up. What is in `work` already is not made again.

    Raises `UserError` where a run fails.
    """
    trained = {
        (cell, seed): trained_run(replace(recipe, seed=seed), work / f"{cell}-{seed}", workbench, progress)
        for seed in range(seeds)
        for cell, recipe in CELLS.items()
    }
    models = {key: f"sds-clip:{work / f'{key[0]}-{key[1]}' / 'model.safetensors'}" for key in trained}
    note("scoring the benchmark once for each model")
    evaluate("mini", list(models.values()), workbench=workbench, budget=budget(), out=work / "mini", progress=progress)
    note("timing some steps of each")
    times = {cell: estimate(recipe, workbench, TIMED_STEPS) for cell, recipe in CELLS.items()}
    run = read_run(work / "mini")
    right: dict[tuple[str, int], np.ndarray] = {}
    for key, model in models.items():
        scores = run.of(model)
        assert scores is not None
        right[key] = pair_right([one.score_IC for one in scores])["text"]
    return {
        "n": len(read_benchmark("mini")),
        "seeds": seeds,
        "settings": {cell: _differing(recipe) for cell, recipe in CELLS.items()},
        "shared": SHARED.as_dict(),
        "cells": {
            cell: _cell(cell, seeds, trained, right) | {"step_seconds": round(times[cell].step, 4)} for cell in CELLS
        },
        "cheaper": _cheaper(times, trained["preference", 0]["preferences"]["pairs"]),
        "machine": next(iter(trained.values()))["machine"],
    }


def _cell(
    cell: str, seeds: int, trained: Mapping[tuple[str, int], Any], right: Mapping[Any, np.ndarray]
) -> dict[str, Any]:
    own = [trained[cell, seed] for seed in range(seeds)]
    right_SE = np.stack([right[cell, seed] for seed in range(seeds)]).astype(float)
    control_SE = np.stack([right[CONTROL, seed] for seed in range(seeds)]).astype(float)
    kept = {name: [record["measured"]["sets"][name]["metrics"]["accuracy"]["after"]["value"] for record in own]
            for name in ("mini-zero-shot", "mini-retrieval")}  # fmt: skip
    return {
        "text": [round(float(value), 4) for value in right_SE.mean(1)],
        "mean": round(float(right_SE.mean()), 4),
        "effect": _effect(right_SE - control_SE),
        **{name.removeprefix("mini-"): values for name, values in kept.items()},
        "denoiser_evaluations": [_evaluations(record) for record in own],
    }


def _effect(difference_SE: np.ndarray) -> dict[str, float]:
    """Mean over seeds and examples, with the 95 % interval of a bootstrap over both."""
    rng = np.random.default_rng(DRAW_SEED)
    seeds, examples = difference_SE.shape
    drawn = [
        difference_SE[np.ix_(rng.integers(seeds, size=seeds), rng.integers(examples, size=examples))].mean()
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": round(float(difference_SE.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _evaluations(record: Mapping[str, Any]) -> dict[str, int]:
    """Samples that the denoiser met: forward only, and forward and back."""
    recipe = record["recipe"]
    asked = record.get("preferences", {}).get("evaluations", 0)
    return {
        "forward": asked,
        "forward_and_back": recipe["steps"] * recipe["batch"] if record["objective"] == "sds" else 0,
    }


def _cheaper(times: Mapping[str, Estimate], pairs: int) -> dict[str, float]:
    """From when on asking once beforehand costs less than the denoiser in the loop."""
    sds, preference = times["sds"].step, times["preference"].step
    asking = pairs * times["preference"].item
    steps = asking / max(sds - preference, 1e-9)
    return {
        "loop_ratio": round(sds / preference, 2),
        "pairs": pairs,
        "asking_seconds": round(asking, 1),
        "steps": round(steps),
        "epochs": round(steps * SHARED.batch / SHARED.pool, 1),
        "students": round(steps / SHARED.steps, 2),
    }


def _differing(recipe: Recipe) -> dict[str, Any]:
    """The settings that a cell does not share."""
    shared = SHARED.as_dict()
    return {name: value for name, value in recipe.as_dict().items() if value != shared[name] or name == "objective"}


def as_text(found: Mapping[str, Any]) -> str:
    """A table for people."""
    head = f"{'objective':12}{'text, by seed':>24}{'mean':>8}{'against clip':>28}{'s a step':>10}"
    lines = [head]
    for cell, row in found["cells"].items():
        effect = row["effect"]
        against = "" if cell == CONTROL else _with_interval(effect)
        scores = "  ".join(f"{100 * value:.1f}" for value in row["text"])
        lines.append(f"{cell:12}{scores:>24}{100 * row['mean']:8.1f}{against:>28}{row['step_seconds']:10.2f}")
    cheaper = found["cheaper"]
    lines += [
        "",
        f"n = {found['n']} examples, {found['seeds']} seeds; interval: bootstrap over examples and seeds.",
        f"In the loop preference makes {cheaper['loop_ratio']:.1f} times as many steps a second as sds; asking the "
        f"teacher took {cheaper['asking_seconds']:.0f} s, so that it is cheaper from {cheaper['steps']} steps "
        f"({cheaper['epochs']} epochs, {cheaper['students']} students) on.",
    ]
    return "\n".join(lines)


def as_markdown(found: Mapping[str, Any]) -> str:
    """The table of the README."""
    lines = [
        "| objective | text score by seed | mean | against `clip` | s a step | denoiser: forward + with backward |",
        "|---|---|---|---|---|---|",
    ]
    for cell, row in found["cells"].items():
        effect, spent = row["effect"], row["denoiser_evaluations"][0]
        against = "" if cell == CONTROL else _with_interval(effect)
        scores = ", ".join(f"{100 * value:.1f}" for value in row["text"])
        lines.append(
            f"| `{cell}` | {scores} | {100 * row['mean']:.1f} | {against} | {row['step_seconds']:.2f} | "
            f"{spent['forward']:,} + {spent['forward_and_back']:,} |"
        )
    return "\n".join(lines)


def _with_interval(effect: Mapping[str, float]) -> str:
    return f"{100 * effect['value']:+.1f} [{100 * effect['low']:+.1f}, {100 * effect['high']:+.1f}]"


def write(path: Path, found: Mapping[str, Any]) -> None:
    """As JSON, a line a key at the top."""
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
