"""The stored race: its runs are the study's, and every figure of it follows from its bits."""

from __future__ import annotations

from sdsdemo.core.bits import unpacked
from sdsdemo.finetuning.objective_race import read_race
from sdsdemo.finetuning.recipe import NAMES, Recipe
from sdsdemo.mini.experiments import race
from sdsdemo.mini.experiments.study import VALIDATION, right_of
from sdsdemo.mini.experiments.study_store import read_rows
from sdsdemo.mini.experiments.verify import EXPERIMENT

LINES = {
    "clip": ("screen", "clip"), "sds": ("screen", "sds 1"), "negatives": ("screen", "negatives"),
    "preference": ("screen", "preference 3, sharpness 4"), "features": ("screen", "features 1"),
    "labels": ("control", "labels"),
}  # fmt: skip
"""The study's lines with the same recipe, base and seed."""


def test_every_run_of_the_race_ends_where_the_study_s_run_ended() -> None:
    stored = read_race()
    assert set(stored.scores) == set(NAMES)
    for objective, (study, cell) in LINES.items():
        rows = {row["run"]: row for row in read_rows(EXPERIMENT / f"{study}.jsonl")}
        right_E = right_of(rows[f"{cell} mini-clip 0"], VALIDATION, "text")
        step, share = stored.scores[objective][-1]
        assert (step, share.n) == (stored.steps, len(right_E))
        assert share.value == right_E.mean(), objective


def test_the_race_holds_the_recipes_that_its_command_runs() -> None:
    stored, default = read_race(), Recipe().as_dict()
    for name, recipe in race.recipes().items():
        assert default | dict(stored.recipes[name]) == recipe.as_dict(), name


def test_a_text_score_is_both_pictures_right() -> None:
    stored = read_race()
    for name, laps in stored.pictures.items():
        for (step, bits), (again, share) in zip(laps, stored.scores[name], strict=True):
            both_E = unpacked(bits, 2 * stored.n).reshape(stored.n, 2).all(axis=1)
            assert step == again
            tied = both_E.sum() - round(share.value * stored.n)  # the score counts a tie as wrong
            assert 0 <= tied <= 2, (name, step)


def test_the_page_s_first_recipe_changes_the_score_with_every_seed() -> None:
    starts = read_race().starts
    assert len(starts) >= 3
    assert all(start["low"] > 0 for start in starts)
