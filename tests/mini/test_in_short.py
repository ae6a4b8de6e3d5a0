"""The first screen of the study: its sentences follow the figures, and say what the intervals are over."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from sdsdemo.core.number_format import points_words
from sdsdemo.mini.experiments.declared import TEN_CONTRASTS
from sdsdemo.mini.experiments.in_short import found_in_short, strongest_limits
from sdsdemo.mini.experiments.study import right_of
from sdsdemo.mini.experiments.study_store import read_rows
from sdsdemo.mini.experiments.tables import TEN, bases_grid
from sdsdemo.mini.experiments.verdict import headline
from sdsdemo.mini.experiments.verify import EXPERIMENT
from sdsdemo.settings import ASSETS, ROOT

NIL = {"value": 0.0, "low": -0.1, "high": 0.1}
UP, DOWN = {"value": 0.2, "low": 0.1, "high": 0.3}, {"value": -0.2, "low": -0.3, "high": -0.1}


@pytest.fixture
def experiment() -> dict[str, Any]:
    """The shipped findings, without the study of ten bases."""
    found = json.loads((ASSETS / "mini" / "results" / "experiment.json").read_text())
    return copy.deepcopy(found) | {TEN: {"declared": {"bases": 10, "seeds": 2}, "bases": [], "seeds": []}}


def ten(bases: int, seeds: int = 2) -> dict[str, Any]:
    """A study of so many bases and seeds, in which every effect is UP."""
    rows = [{"cell": cell, "control": of, **UP, "gains": True, "skills": {}} for cell, of in TEN_CONTRASTS]
    gate = {"least": 0.06, "both": {}, "image": {}}
    named = [f"base {b}" for b in range(bases)]
    declared = {"bases": 10, "seeds": 2}
    of = {"declared": declared, "bases": named, "seeds": [*range(seeds)]}
    return of | {"n": 400, "contrasts": rows, "gate": gate}


def effect(experiment: dict[str, Any], study: str, cell: str, control: str) -> dict[str, Any]:
    return next(row for row in experiment[study]["contrasts"] if (row["cell"], row["control"]) == (cell, control))


def test_findings_quote_the_stored_effects(experiment: dict[str, Any]) -> None:
    term, preference, labels, sibling, over = found_in_short(experiment)
    for said, where in (
        (term, ("confirm", "sds", "clip")),
        (term, ("confirm", "sds", "sds, shuffled")),
        (preference, ("confirm", "preference", "clip")),
        (preference, ("return", "preference, every parameter, WiSE-FT", "clip, every parameter, WiSE-FT")),
        (labels, ("dealt", "preference", "labels")),
        (labels, ("mislabelled", "preference, half mislabelled", "clip, half mislabelled")),
        (sibling, ("sources", "preference", "preference, better sibling")),
    ):
        assert points_words(effect(experiment, *where)) in said
    assert "over 3 bases with up to 5 seeds (n = 400), and about these bases only" in over


@pytest.mark.parametrize(
    ("change", "verb", "worth"),
    [(UP, "raises", "is worth more than"), (DOWN, "lowers", "is worth less than")],
)
def test_verbs_follow_the_intervals(experiment: dict[str, Any], change: Any, verb: str, worth: str) -> None:
    for where in (("confirm", "sds", "clip"), ("confirm", "preference", "clip"), ("dealt", "preference", "labels")):
        effect(experiment, *where).update(change)
    term, preference, labels, *_ = found_in_short(experiment)
    assert (f"term {verb} the text" in term, f"prefers {verb} it" in preference, worth in labels) == (True,) * 3


@pytest.mark.parametrize(("high", "said"), [(0.007, ": clear of zero, but below the 4 points set"), (0.05, ".")])
def test_a_small_gain_is_said_to_be_too_small(experiment: dict[str, Any], high: float, said: str) -> None:
    effect(experiment, "confirm", "sds", "sds, shuffled").update({"value": 0.004, "low": 0.002, "high": high})
    assert f"the same term with other images' captions{said}" in found_in_short(experiment)[0]


@pytest.mark.parametrize(("seeds", "each"), [(1, "one seed each of 2 declared"), (2, "2 seeds each")])
def test_ten_bases_are_quoted_once_all_of_them_are_done(experiment: dict[str, Any], seeds: int, each: str) -> None:
    before = found_in_short(experiment)
    assert found_in_short(experiment | {TEN: ten(9, seeds)}) == before
    term, preference, labels, _, over = found_in_short(experiment | {TEN: ten(10, seeds)})
    assert term.count(points_words(UP)) == preference.count(points_words(UP)) == 2
    assert labels.startswith(f"**Preference is worth more than a true label**: {points_words(UP)} relative to")
    assert labels.partition(" When half")[2] == before[2].partition(" When half")[2] != ""
    assert over.startswith(
        f"Intervals are 95 %, n = 400: by Student's t over 10 bases with {each}, for bases in general;"
    )
    assert "of the labels wrong over 3 bases, for these only" in over
    few, many = (strongest_limits(experiment | {TEN: ten(made, seeds)})[2] for made in (9, 10))
    assert few.startswith("**Few bases.** For bases in general, by Student's t on the means of 3 bases")
    assert many.startswith("**One recipe for all bases.** The 10 bases differ only in their seed, not in network or")
    assert "True labels gain less than 6 points with both towers on none" in many


@pytest.mark.parametrize(
    ("preference", "true", "half", "said"),
    [
        (UP, UP, UP, ", more than true labels do; when half of the labels are wrong, the change is still "),
        (UP, NIL, UP, ", an effect that cannot be told apart from that of true labels; when half of the labels are "),
        (UP, DOWN, DOWN, ", less than true labels do; when half of the labels are wrong, the change is "),
        (NIL, DOWN, UP, f", and by {points_words(DOWN)} relative to true labels; when half of the labels are wrong, "),
        (DOWN, NIL, UP, f", and by {points_words(NIL)} relative to true labels; when half of the labels are wrong, "),
    ],
)  # fmt: skip
def test_connectives_follow_the_intervals(
    experiment: dict[str, Any], preference: Any, true: Any, half: Any, said: str
) -> None:
    effect(experiment, "confirm", "preference", "clip").update(preference)
    effect(experiment, "dealt", "preference", "labels").update(true)
    effect(experiment, "mislabelled", "preference, half mislabelled", "clip, half mislabelled").update(half)
    measured = json.loads((ASSETS / "mini" / "results" / "mini.json").read_text())
    assert said in headline(experiment, measured)
    both = preference == half == UP
    assert (f"the change is still {points_words(half)}" in headline(experiment, measured)) == both
    assert (f"it still changes the text score by {points_words(half)}" in found_in_short(experiment)[2]) == both


def test_before_the_confirmation_nothing_is_said(experiment: dict[str, Any]) -> None:
    unrun = {"confirm": {"contrasts": [], "bases": [], "seeds": []}}
    assert found_in_short(unrun) == strongest_limits(unrun) == []


def test_question_design_findings_and_limits_fill_the_first_screen(experiment: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "mini.md").read_text()
    first = text[: text.index("## ")]
    places = [first.index(word) for word in ("**Question.**", "**Design.**", "**What was found**", "strongest limits")]
    assert places == sorted(places)
    assert len(first.split()) < 500, "a screen"
    assert len(strongest_limits(experiment)) == 3


def test_the_table_of_bases_leaves_out_what_choices_looked_at(experiment: dict[str, Any]) -> None:
    head, first = bases_grid(experiment["bases"])[:2]
    assert {"zero-shot (n = 4,000)", "retrieval (n = 3,500)", "text (n = 400)"} < set(head)
    (row,) = (row for row in read_rows(EXPERIMENT / "bases.jsonl") if row["base"] == first[0])
    right_E = right_of(row, "mini-retrieval-4000", "accuracy")
    assert first[head.index("retrieval (n = 3,500)")].startswith(f"{100 * right_E[500:].mean():.1f} [")
