"""The studies of the channel and of preferences: cells differ in their treatment alone, contrasts have their lines."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.mini.experiments.cells import LABELS, NORMS, PREFERENCE
from sdsdemo.mini.experiments.channel import CHANNEL, CHANNEL_CONTRASTS, CONTROLS, SHUFFLED, TREATED
from sdsdemo.mini.experiments.declared import BESIDE, CONFIRM, DECLARED, MISLABELLED, PREFERENCE_CONTROLS, STUDIES
from sdsdemo.mini.experiments.preference_sources import (
    ADDED,
    NEGATIVE_WEIGHTS,
    NEGATIVES,
    RIGHT,
    SOURCE_CONTRASTS,
    SOURCES,
)
from sdsdemo.mini.experiments.source_cells import SHARES
from sdsdemo.mini.experiments.study import BASES

OF_L_SDS = {
    "objective", "lam", "h_w", "h_w_from", "error_weight", "contrast_weight", "latent_weight", "timestep_low",
    "timestep_high",
}  # fmt: skip
"""What may differ between a variant of L_SDS and its control."""


def differing(one: Recipe, other: Recipe) -> set[str]:
    return {setting.name for setting in fields(Recipe) if getattr(one, setting.name) != getattr(other, setting.name)}


@pytest.mark.parametrize("cell", TREATED)
def test_a_variant_differs_from_its_control_in_l_sds_alone(cell: str) -> None:
    recipe, control = TREATED[cell]
    assert CONTROLS[control].objective == "clip"
    assert differing(recipe, CONTROLS[control]) <= OF_L_SDS


def test_every_variant_has_its_shuffled_control() -> None:
    assert len(SHUFFLED) == len(TREATED)
    for cell, recipe in SHUFFLED.items():
        assert differing(recipe, TREATED[cell.removesuffix(", shuffled")][0]) == {"shuffled"}
    for cell in TREATED:
        assert {control for treated, control in CHANNEL_CONTRASTS if treated == cell} == {
            TREATED[cell][1], f"{cell}, shuffled",
        }  # fmt: skip


def test_the_channel_is_looked_at_on_validation_alone_with_three_bases() -> None:
    assert (CHANNEL.measure, CHANNEL.bases, CHANNEL.seeds, CHANNEL.exploratory) == (
        "mini-validation", BASES, (0, 1, 2), True,
    )  # fmt: skip
    steps = {recipe.steps * recipe.batch for recipe in CHANNEL.cells.values()}
    assert max(steps) - min(steps) < 96, "as many pictures, whatever the batch"


def test_the_shared_recipes_are_those_of_the_confirmation() -> None:
    assert CONFIRM.cells["clip"] == NORMS
    assert CONFIRM.cells["preference"] == PREFERENCE
    assert PREFERENCE_CONTROLS.cells["labels"] == LABELS
    assert replace(NEGATIVES["negatives, weight 1"], negative_weight=1.0) == CONFIRM.cells["negatives"]


def test_a_source_of_preferences_differs_in_source_and_labels_alone() -> None:
    for cell, recipe in SOURCES.cells.items():
        same = NORMS if cell.startswith("clip") else LABELS if cell.startswith("labels") else PREFERENCE
        if cell.startswith("negatives"):
            same = CONFIRM.cells["negatives"]
        assert differing(recipe, same) <= {"teacher", "teacher_right", "mislabelled", "negative_weight"}, cell
    assert {recipe.teacher_right for recipe in RIGHT.values()} == {0.7, 0.85, 0.95}
    assert {*SHARES.values()} == {0.0, 0.1, 0.25, 0.5}
    half = {cell.removesuffix(", half mislabelled"): recipe for cell, recipe in MISLABELLED.cells.items()}
    assert half["preference"] == replace(PREFERENCE, mislabelled=0.5), "not trained again"
    assert {*ADDED} == {*SHARES}


@pytest.mark.parametrize("name", ["channel", "weights", "sources"])
def test_both_sides_of_a_contrast_are_trained_with_the_same_seeds(name: str) -> None:
    study = STUDIES[name]
    made = dict.fromkeys(study.cells, study)
    for other in BESIDE.get(name, ()):
        assert STUDIES[other].measure == study.measure
        made |= {cell: STUDIES[other] for cell in STUDIES[other].cells if cell not in made}
    for pair in DECLARED[name]:
        for cell in pair:
            assert set(study.seeds) <= set(made[cell].seeds), cell
            assert set(study.bases) <= set(made[cell].bases), cell
        treated, control = (made[cell].cells[cell] for cell in pair)
        assert treated.mislabelled == control.mislabelled
    treated = {cell for cell, _ in DECLARED[name]}
    assert treated | {control for _, control in DECLARED[name]} >= set(study.cells), "every cell is compared"


def test_weights_of_negatives_are_trained_once_for_both_studies() -> None:
    shared = {cell: recipe for cell, recipe in SOURCES.cells.items() if cell in NEGATIVE_WEIGHTS.cells}
    assert len(shared) == 3
    assert all(NEGATIVE_WEIGHTS.cells[cell] == recipe for cell, recipe in shared.items())
    assert (NEGATIVE_WEIGHTS.measure, SOURCES.measure) == ("mini-validation", "mini")
    assert len(set(SOURCE_CONTRASTS)) == len(SOURCE_CONTRASTS)
