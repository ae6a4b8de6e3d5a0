"""What the Results tab and the README say of the study: words follow its intervals, and the bases that are done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.core.number_format import points_words
from sdsdemo.mini.experiments import verdict
from sdsdemo.mini.experiments.declared import BETTER, CONFIRM, DECLARED, HALF, TEN_BASES
from sdsdemo.mini.experiments.study import TEACHER
from sdsdemo.mini.experiments.tables import PLAIN_NAMES, TEN, plain_name
from sdsdemo.mini.experiments.ten_words import GATE_CAUTION
from sdsdemo.settings import ASSETS
from sdsdemo.ui import results_figures, results_story
from tests.mini.test_ten_bases import lines, over
from tests.ui.test_results_story import value_at

LEAD, BASE = "mini-diffusion", "mini-clip"


@pytest.fixture
def result() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ASSETS / results_story.MEASURED).read_text())
    return found


@pytest.fixture
def study() -> dict[str, Any]:
    """The shipped findings, before the study of ten bases."""
    found: dict[str, Any] = json.loads((ASSETS / results_story.EXPERIMENT).read_text())
    return found | {TEN: over([])}


def effects_shown(study: dict[str, Any], folder: Path) -> str:
    """The part of the page about fine-tuning, from these findings."""
    results = folder / "mini" / "results"
    results.mkdir(parents=True)
    (results / "experiment.json").write_text(json.dumps(study))
    return results_story.effects_part(folder)


def contrast(study: dict[str, Any], cell: str, control: str) -> dict[str, Any]:
    rows: Iterator[dict[str, Any]] = (row for one in study.values() for row in one.get("contrasts", []))
    return next(row for row in rows if (row["cell"], row["control"]) == (cell, control))


def test_the_verbs_of_the_study_follow_its_intervals(study: dict[str, Any]) -> None:
    said = verdict.claim(study)
    assert "the paper's L_SDS does not measurably change" in said
    assert "but training on which caption the diffusion model prefers raises it" in said
    assert said.startswith(f"On these {len(study['confirm']['bases'])} bases")
    contrast(study, "sds", "clip").update(low=0.001, value=0.02)
    assert "the paper's L_SDS raises CLIP's text score (+2.0 [+0.1" in verdict.claim(study)
    assert "points), and training" in verdict.claim(study)
    contrast(study, "preference", "clip").update(low=-0.05, value=-0.03, high=-0.01)
    assert "points), but training on which caption the diffusion model prefers lowers it" in verdict.claim(study)


def test_the_worth_of_the_preference_beside_labels_follows_its_intervals(study: dict[str, Any]) -> None:
    assert "cannot be told apart from true labels" in verdict.labels_claim(study)
    assert "it beats them by +12.8" in verdict.labels_claim(study)
    contrast(study, "preference", "labels").update(low=-0.05, high=-0.01)
    contrast(study, "preference, half mislabelled", "labels, half mislabelled").update(low=-0.01)
    assert "worth less than true labels" in verdict.labels_claim(study)
    assert "the difference is +12.8" in verdict.labels_claim(study)
    assert verdict.labels_claim(study | {"dealt": {}}) == ""


@pytest.mark.parametrize(
    ("low", "high", "worth", "beside"),
    [(0.01, 0.03, "is worth more than", "points, more than true labels do; when half of the labels are wrong"),
     (-0.01, 0.03, "cannot be told apart from", "points, an effect that cannot be told apart from that of true labels"),
     (-0.03, -0.01, "is worth less than", "points, less than true labels do; when half of the labels are wrong")],
)  # fmt: skip
def test_claim_and_headline_compare_with_labels_over_ten_bases_once_done(
    study: dict[str, Any], result: dict[str, Any], low: float, high: float, worth: str, beside: str
) -> None:
    before = verdict.labels_claim(study)
    begun, done = over([row for row in lines() if row["base"] != TEN_BASES.bases[-1]]), over(lines())
    for ten in (begun, done):
        contrast({TEN: ten}, "preference", "labels").update(value=(low + high) / 2, low=low, high=high)
    assert verdict.labels_claim(study | {TEN: begun}) == before
    words = points_words(contrast({TEN: done}, "preference", "labels"))
    said = verdict.labels_claim(study | {TEN: done})
    assert said.startswith(f"That preference {worth} true labels ({words} points)")
    assert said.partition("). ")[2] == before.partition("). ")[2] != ""
    over_words = " (both over 10 bases with 2 seeds each, for bases in general)"
    headline = verdict.headline(study | {TEN: done}, result)
    assert over_words in headline
    assert beside in headline.replace(over_words, "")


def test_the_page_says_that_three_bases_are_few(study: dict[str, Any], tmp_path: Path) -> None:
    html = effects_shown(study, tmp_path)
    assert f"about these {len(study['confirm']['bases'])} bases only" in html.partition("<details")[0]


def test_the_teacher_is_called_by_the_title_of_its_card(study: dict[str, Any], tmp_path: Path) -> None:
    assert results_story.TEACHER == TEACHER
    assert all(recipe.teacher == TEACHER for recipe in CONFIRM.cells.values())
    assert {recipe.teacher for recipe in BETTER.cells.values()} == {results_story.BETTER_TEACHER}
    shown = " ".join(effects_shown(study, tmp_path).split())
    assert "is Mini diffusion, short course (the more accurate one is Mini diffusion); the paper" in shown
    assert "the more accurate one" not in effects_shown(
        study | {"better": {**study["better"], "contrasts": []}}, tmp_path / "b"
    )


def test_what_contrasts_share_and_how_the_gate_leans_is_said(study: dict[str, Any], tmp_path: Path) -> None:
    shown = effects_shown(study | {TEN: over(lines())}, tmp_path)
    assert shown.count(GATE_CAUTION) == 1
    assert "they are not independent: clip (4)" in shown
    assert "they are not independent: clip (3); sds (2)" in shown


def test_every_cell_of_the_figure_has_a_plain_name() -> None:
    plain = {"every parameter", "text tower alone", "image tower alone", "WiSE-FT", "better teacher", HALF}
    for name in results_story.PANELS:
        for cell in {one for pair in DECLARED[name] for one in pair}:
            assert set(cell.split(", ")) <= PLAIN_NAMES.keys() | plain, cell


def test_ten_bases_take_over_claim_and_figure_once_all_are_done(
    study: dict[str, Any], result: dict[str, Any], tmp_path: Path
) -> None:
    done = over(lines())
    begun = over([row for row in lines() if row["base"] != TEN_BASES.bases[-1]])
    assert verdict.claim(study | {TEN: begun}).startswith("On these 3 bases the paper's L_SDS")
    claim = verdict.claim(study | {TEN: done})
    assert claim.startswith("Over 10 bases, with intervals for bases in general, the paper's L_SDS does not")
    assert f"prefers raises it ({points_words(contrast({TEN: done}, 'preference', 'clip'))})" in claim
    shown = [effects_shown(study | {TEN: found}, tmp_path / str(k)) for k, found in enumerate((begun, done))]
    figure_begun, figure_done = (html.partition("All numbers")[0] for html in shown)
    title = results_story.PANELS[TEN]
    assert (title in figure_begun, title in figure_done) == (False, True)
    assert "10 bases, 2 seeds" in figure_done
    few = f"about these {len(study['confirm']['bases'])} bases only"
    assert (few in figure_begun, few in figure_done) == (True, False)
    assert verdict.headline(study | {TEN: done}, result).count("for bases in general") == 1
    assert [f"bases in general (t, {dof} df)" in html for dof, html in zip((8, 9), shown, strict=True)] == [True, True]
    assert ["In progress: 10 bases with 2 seeds are" in html for html in shown] == [True, False]


def test_an_effect_is_at_its_points_and_zero_is_where_it_belongs(study: dict[str, Any]) -> None:
    rows = study["confirm"]["contrasts"]
    scale = results_figures._effects_scale(rows)
    panel = results_figures.effects_panel("x", rows, scale, plain_name)
    for drawn, row in zip(panel["rows"], rows, strict=True):
        for key, place in (("value", "x"), ("low", "low"), ("high", "high")):
            assert value_at(scale, drawn[place]) == pytest.approx(100 * row[key], abs=0.1)
        assert [value_at(scale, x) for x in drawn["bases"]] == pytest.approx([100 * b for b in row["by_base"]], abs=0.1)
        crosses = float(drawn["low"]) <= float(panel["zero"]) <= float(drawn["high"])
        assert drawn["is_clear"] is not crosses
