"""The study `channel`: is there a way for L_SDS to reach CLIP's image tower? Exploratory, on the validation set.

    regression      h_w(f(x)) regressed on true latents: what the channel carries without a denoiser
    h_w frozen      L_SDS cannot be met by moving h_w away from its fit
    patches         h_w reads each patch token for the latent at its place
    contrast        the error with the own caption against the one with its swap, alone or with the own error kept low
    t, batch, rate  timesteps 200 to 800; three times the batch for as many pictures; a third of the learning rate

Three bases, three seeds. A cell differs from `clip` of the same batch and learning rate in L_SDS alone, and from its
`shuffled` cell in whose captions the teacher reads, or whose latents h_w is regressed on. Declared before its first
run. The best of it, if any, joins a confirmation as a cell of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.mini.experiments.cells import NORMS
from sdsdemo.mini.experiments.study import BASES, Study

SDS = replace(NORMS, objective="sds", lam=10.0)
"""With lambda = 1, L_SDS and its shuffled control differ in 1.0 to 1.6 % of their answers; with 10, in 5 %."""
CONTRAST = replace(SDS, lam=100.0, error_weight=0.0, contrast_weight=1.0)
"""At the first step, its gradient on CLIP is a tenth of that of L_SDS, so a tenfold lambda makes them equally long."""
REGRESSION = replace(SDS, error_weight=0.0, latent_weight=1.0)


def slower(recipe: Recipe) -> Recipe:
    """At a third of the learning rate."""
    return replace(recipe, learning_rate=3e-3)


def larger_batch(recipe: Recipe) -> Recipe:
    """Three times the batch, for as many pictures."""
    return replace(recipe, batch=96, steps=267, measure_every=267)


TREATED: Mapping[str, tuple[Recipe, str]] = {
    "regression": (REGRESSION, "clip"),
    "regression, 3e-3": (slower(REGRESSION), "clip, 3e-3"),
    "sds, h_w frozen": (replace(SDS, h_w="frozen"), "clip"),
    "sds, patches": (replace(SDS, h_w_from="patches"), "clip"),
    "contrast": (CONTRAST, "clip"),
    "contrast, own error": (replace(SDS, contrast_weight=10.0), "clip"),
    "contrast, h_w frozen": (replace(CONTRAST, h_w="frozen"), "clip"),
    "contrast, patches": (replace(CONTRAST, h_w_from="patches"), "clip"),
    "sds, t 200 to 800": (replace(SDS, timestep_low=0.2, timestep_high=0.8), "clip"),
    "sds, batch 96": (larger_batch(SDS), "clip, batch 96"),
    "sds, 3e-3": (slower(SDS), "clip, 3e-3"),
}
"""Cell -> its recipe, and the cell without L_SDS that it is compared with."""
CONTROLS = {"clip": NORMS, "clip, 3e-3": slower(NORMS), "clip, batch 96": larger_batch(NORMS)}
SHUFFLED = {f"{cell}, shuffled": replace(recipe, shuffled=True) for cell, (recipe, _) in TREATED.items()}
CHANNEL = Study(
    cells={**CONTROLS, **{cell: recipe for cell, (recipe, _) in TREATED.items()}, **SHUFFLED},
    bases=BASES,
    exploratory=True,
)
CHANNEL_CONTRASTS = (
    *((cell, control) for cell, (_, control) in TREATED.items()),
    *((cell.removesuffix(", shuffled"), cell) for cell in SHUFFLED),
)
