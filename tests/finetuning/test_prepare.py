"""What is made of a recipe before the first step: its losses, its steps, and where its linear maps begin."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sdsdemo.finetuning.loop import TrainingConfig
from sdsdemo.finetuning.objectives import ObjectiveConfig, SdsTerms
from sdsdemo.finetuning.prepare import _new_student, _objective_config
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.training import training_config
from sdsdemo.mini.models import clip as clips
from tests.finetuning.tiny_teacher import LATENT


def test_the_settings_of_a_recipe_reach_its_losses_and_its_steps() -> None:
    recipe = Recipe(
        lam=7.0, reduction="sum", jacobian=False, timestep_low=0.1, timestep_high=0.6, error_weight=2.0,
        contrast_weight=3.0, contrast_scale=5.0, latent_weight=4.0, steps=9, learning_rate=2e-3, warm_up=4,
        weight_decay=0.3, clip_norm=0.7, ema=0.8,
    ).check()  # fmt: skip
    terms = SdsTerms(error=2.0, contrast=3.0, contrast_scale=5.0, latent=4.0)
    assert _objective_config(recipe) == ObjectiveConfig(
        name="sds", lam=7.0, reduction="sum", jacobian=False, timesteps=(0.1, 0.6), terms=terms
    )
    assert _objective_config(Recipe(objective="negatives", negative_weight=3.0)).negative_weight == 3.0
    prepared: Any = SimpleNamespace(
        loaded=SimpleNamespace(plan=SimpleNamespace(recipe=recipe, device=torch.device("cpu")))
    )
    assert training_config(prepared) == TrainingConfig(
        steps=9, learning_rate=2e-3, warm_up=4, weight_decay=0.3, decays_gains=False, clip_norm=0.7, ema=0.8
    )


def test_linear_maps_begin_at_the_seed() -> None:
    teacher: Any = SimpleNamespace(latent_shape=LATENT, inner_width=5)

    def begun(objective: str, seed: int) -> Tensor:
        torch.rand(1)  # whatever else has been drawn in this process
        plan = SimpleNamespace(recipe=Recipe(objective=objective, seed=seed), device=torch.device("cpu"))
        loaded: Any = SimpleNamespace(plan=plan, base=SimpleNamespace(module=clips.fresh()))
        made = _new_student(loaded, teacher)
        return (made.h_w if objective == "sds" else made.h_f).weight.detach()

    for name in ("sds", "features"):
        assert torch.equal(begun(name, 0), begun(name, 0))
        assert not torch.equal(begun(name, 0), begun(name, 1))
