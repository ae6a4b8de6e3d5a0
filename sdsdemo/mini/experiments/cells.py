"""Recipes that the studies share. Declares no study."""

from __future__ import annotations

from dataclasses import replace

from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.mini.experiments.study import TEACHER

NORMS = Recipe(
    objective="clip", trained="norms", learning_rate=1e-2, steps=800, batch=32, pool=8_000, measure_every=800,
    withheld_kind="size", withheld_words="left of", teacher=TEACHER,
)  # fmt: skip
"""The parameters that the paper trains. Swaps of sizes and captions with "left of" are withheld from every run."""
EVERYTHING = replace(NORMS, trained="all", learning_rate=1e-3, steps=400, measure_every=400)
GENTLY = replace(NORMS, trained="all", learning_rate=3e-4)
"""Every parameter, at a learning rate that kept zero-shot and retrieval in validation; with EVERYTHING they fell."""
SDS_LAMBDA = 1.0
PREFERENCE_LAMBDA, SHARPNESS = 3.0, 4.0
"""The settings with the highest text score in the screen so far, when the confirmation began."""
PREFERENCE = replace(NORMS, objective="preference", lam=PREFERENCE_LAMBDA, sharpness=SHARPNESS)
LABELS = replace(PREFERENCE, objective="labels")
