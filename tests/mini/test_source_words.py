"""Other teachers and wrong labels in sentences: verbs follow the intervals, figures the findings."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from sdsdemo.core.number_format import points_words
from sdsdemo.mini.experiments.source_cells import SIBLING
from sdsdemo.mini.experiments.source_words import sibling_in_short, teacher_words, wrong_label_words
from sdsdemo.mini.experiments.verdict import verdict
from sdsdemo.mini.experiments.verify import FINDINGS

STORED = json.loads(FINDINGS.read_text())
NIL = {"value": 0.0, "low": -0.1, "high": 0.1}
UP, DOWN = {"value": 0.2, "low": 0.1, "high": 0.3}, {"value": -0.2, "low": -0.3, "high": -0.1}


@pytest.fixture
def experiment() -> dict[str, Any]:
    return copy.deepcopy(STORED)


def effect(experiment: dict[str, Any], cell: str, control: str, study: str = "sources") -> dict[str, Any]:
    return next(row for row in experiment[study]["contrasts"] if (row["cell"], row["control"]) == (cell, control))


def test_every_share_and_rate_is_quoted_in_its_order(experiment: dict[str, Any]) -> None:
    said, places = wrong_label_words(experiment), []
    for ends in (", 10 % mislabelled", ", 25 % mislabelled", ", half mislabelled"):
        study = "mislabelled" if "half" in ends else "sources"
        places.append(said.index(points_words(effect(experiment, f"preference{ends}", f"labels{ends}", study))))
    for ends in ("", ", half mislabelled"):
        for rate in (70, 85, 95):
            found = effect(experiment, f"preference, right {rate} %{ends}", f"clip{ends}")
            places.append(said.index(points_words(found), places[-1]))
    assert places == sorted(places)
    assert "When 10, 25 and 50 % of the labels" in said


def test_hard_negatives_are_those_with_the_best_weight(experiment: dict[str, Any]) -> None:
    weights = experiment["weights"]["cells"]
    for best in ("negatives, weight 3", "negatives, weight 30"):
        weights[best]["text"] = 1.0 + weights[best]["text"]
        found = effect(experiment, "preference", best)
        assert f"{points_words(found)} relative to hard negatives with {best[11:]}, the best" in teacher_words(
            experiment
        )
        weights[best]["text"] = 0.0


@pytest.mark.parametrize(
    ("beside", "verb"), [(UP, "teaches more than"), (DOWN, "teaches less than"), (NIL, "is not measurably better than")]
)
def test_what_is_said_of_the_diffusion_teacher_follows(experiment: dict[str, Any], beside: Any, verb: str) -> None:
    effect(experiment, "preference", SIBLING).update(beside)
    said = sibling_in_short(experiment)
    assert said.startswith(f"**A diffusion teacher {verb} a CLIP** that was trained on full sentences: ")
    assert points_words(beside) in said


def test_the_verdict_holds_both_sentences_once_the_study_is_run(experiment: dict[str, Any]) -> None:
    assert {teacher_words(experiment), wrong_label_words(experiment)} <= set(verdict(experiment))
    del experiment["sources"]
    assert (teacher_words(experiment), wrong_label_words(experiment), sibling_in_short(experiment)) == ("", "", "")
    assert verdict(experiment)
