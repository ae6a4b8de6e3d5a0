"""The sentence above an answer, and what differences of a model are usual."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.settings import ASSETS, Settings
from sdsdemo.types import Answer, Preference, Scores
from sdsdemo.ui import typical as typical_module
from sdsdemo.ui.headline import headline, kind_of_swap
from sdsdemo.ui.typical import TypicalDifferences, differences
from tests.fakes import fake_card

COLOURS = ["an orange arrow and a blue star", "a blue arrow and an orange star"]
PLAIN = ["one thing", "quite another"]


def answers(*chosen: int | str | None) -> list[Answer]:
    """Models P, Q, R, ...: each chose a caption, is undecided ("?"), or gave no number (None)."""
    made = []
    for title, choice in zip("PQRSTUVWXYZ", chosen, strict=False):
        decided = choice in (0, 1)
        preferred = choice if isinstance(choice, int) else None if choice is None else 0
        preference = Preference(preferred=preferred, difference=1.0, stderr=None, decided=decided)
        made.append(Answer(card=replace(fake_card(), title=title), preference=preference))
    return made


@pytest.mark.parametrize(
    ("chosen", "truth", "sentence"),
    [
        ((0, 1, 0), 1, "Two of three models chose the wrong caption; only Q saw which thing has which colour."),
        ((1, 1, 0), 1, "R chose the wrong caption; P and Q saw which thing has which colour."),
        ((1, 1, 1), 1, "All three models saw which thing has which colour."),
        ((0, 0), 1, "Both models chose the wrong caption."),
        ((1,), 1, "P saw which thing has which colour."),
        ((0,), 1, "P chose the wrong caption."),
        (
            (0, "?", 1),
            1,
            "P chose the wrong caption; only R saw which thing has which colour; Q cannot tell the captions apart.",
        ),
        (("?", "?"), 1, "P and Q cannot tell the captions apart."),
        ((0, 0, 0), None, "All three models prefer A."),
        ((0, 1, 0), None, "P and R prefer A; Q prefers B."),
        ((1,), None, "P prefers B."),
        ((None, None), 1, ""),
        ((), 0, ""),
    ],
)
def test_the_headline_says_who_chose_what(chosen: Any, truth: int | None, sentence: str) -> None:
    assert headline(COLOURS, answers(*chosen), truth) == sentence


def test_the_headline_claims_no_insight_that_the_captions_do_not_test() -> None:
    assert headline(PLAIN, answers(0, 1), 1) == "P chose the wrong caption; only Q chose the right one."


def test_the_headline_is_about_two_captions_only() -> None:
    assert headline([*PLAIN, "a third"], answers(0, 1), 1) == ""


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        (*COLOURS, "colour"),
        ("a big star and a small moon", "a small star and a big moon", "size"),
        ("two stars and three moons", "three stars and two moons", "number"),
        ("a red cross is left of an orange arrow", "an orange arrow is left of a red cross", "noun"),
        ("A dog on a couch.", "a couch on a dog", "noun"),
        (*PLAIN, ""),
    ],
)
def test_the_kind_of_swap_is_known_in_either_order(one: str, other: str, kind: str) -> None:
    assert kind_of_swap([one, other]) == kind_of_swap([other, one]) == kind


def test_differences_are_those_of_every_picture_with_two_captions() -> None:
    two = Scores(kind="similarity", score_IC=np.array([[1.0, 4.0], [2.0, 1.5]]))
    three = Scores(kind="similarity", score_IC=np.zeros((1, 3)))
    broken = Scores(kind="denoising", score_IC=np.array([[np.nan, 1.0]]))
    np.testing.assert_array_equal(differences([two, three, broken]), [3.0, 0.5])
    assert len(differences([])) == 0


def test_typical_differences_come_from_the_shipped_run() -> None:
    registry = RunRegistry(Settings.from_environment({}))
    typical = TypicalDifferences(registry)
    scores = registry.run("mini").of("mini-clip")
    assert scores is not None
    expected = [abs(a - b) for one in scores for a, b in one.score_IC]
    found = typical("mini-clip")
    assert found is not None
    assert (found.difference, found.pictures, found.run) == (pytest.approx(float(np.median(expected))), 800, "mini")
    assert typical("no-such-model") is None


def test_a_run_that_is_scored_meanwhile_is_found_and_looked_for_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, folder = [0.0], tmp_path / "runs"
    monkeypatch.setattr(typical_module, "monotonic", lambda: clock[0])
    typical = TypicalDifferences(RunRegistry(Settings.from_environment({"SDSDEMO_RUNS": str(folder)}), tmp_path))
    assert typical("mini-clip") is None
    shutil.copytree(ASSETS / "mini/runs/mini", folder / "mine")
    assert typical("mini-clip") is None
    clock[0] += typical_module.LOOKED_AT + 1
    found = typical("mini-clip")
    assert found is not None
    assert found.run == "runs/mine"
    assert typical("mini-clip") is found


def test_a_run_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    own = tmp_path / "runs" / "broken"
    own.mkdir(parents=True)
    (own / "examples.jsonl").write_text("not a run")
    registry = RunRegistry(Settings.from_environment({"SDSDEMO_RUNS": str(tmp_path / "runs")}), tmp_path / "assets")
    assert TypicalDifferences(registry)("mini-clip") is None
