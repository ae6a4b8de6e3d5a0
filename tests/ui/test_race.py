"""The race, the six pictures and what is said of a run: from plain records, without a browser."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdsdemo.app.job_states import EvaluationPoint, Job
from sdsdemo.core.bits import packed
from sdsdemo.errors import UserError
from sdsdemo.finetuning.objective_race import RACE_FILE, Race, read_race
from sdsdemo.finetuning.objective_words import OBJECTIVE_MEANINGS, OBJECTIVE_NAMES
from sdsdemo.finetuning.recipe import NAMES, OBJECTIVES, PRESETS
from sdsdemo.settings import ASSETS
from sdsdemo.ui import race_chart, watched_pictures
from sdsdemo.ui.glossary import gloss
from sdsdemo.ui.race import own_laps, race_view, spoken, takes_part
from sdsdemo.ui.results_story import EXPERIMENT
from sdsdemo.ui.thumbnails import Thumbnails
from sdsdemo.ui.watched_pictures import MOST_TICKS, changed_picture, decisions, right_pictures

THUMBS = Thumbnails()


@pytest.fixture
def race() -> Race:
    return read_race()


def lap(step: int, right_EI: np.ndarray | None = None, **changes: Any) -> EvaluationPoint:
    bits = "" if right_EI is None else packed(right_EI.ravel())
    made = EvaluationPoint(step=step, value=0.4, low=0.35, high=0.45, n=400, metric="text", pictures=bits)
    return replace(made, **changes)


def run_of(*laps: EvaluationPoint, **changes: Any) -> Job:
    return replace(Job(id="x", recipe=PRESETS["minute"], state="running", step=50, evaluations=tuple(laps)), **changes)


def test_every_objective_has_a_plain_name_and_a_line() -> None:
    assert set(OBJECTIVE_NAMES) == set(OBJECTIVE_MEANINGS) == set(NAMES)
    assert len(set(OBJECTIVE_NAMES.values())) == len(NAMES)


def test_no_two_lines_of_the_race_look_alike() -> None:
    marks = list(race_chart.MARKS.values())
    assert len({mark.slot for mark in marks}) == len(marks) == len(NAMES) + 1


def test_the_race_shows_every_objective_with_its_interval_before_any_run(race: Race) -> None:
    chart = race_view(None, THUMBS).chart
    for name in NAMES:
        assert f'data-lane="{name}"' in chart
        _, share = race.scores[name][-1]
        assert f"{100 * share.value:.1f} <small>[{100 * share.low:.0f}, {100 * share.high:.0f}]</small>" in chart
    assert f"n = {race.n}" in chart
    assert race.command in chart
    assert 'class="own' not in chart


def test_all_that_is_drawn_lies_inside_the_plot(race: Race) -> None:
    high = lap(3_000, value=0.99, low=0.97, high=1.0)
    chart = race_view(run_of(lap(0, value=0.05, low=0.02, high=0.08), high), THUMBS).chart
    places = re.findall(r"(?:[ML]|left:|top:)(-?[\d.]+)(?:[ %H](-?[\d.]+))?", "".join(re.findall(r' d="[^"]*"', chart)))
    assert places
    assert all(0 <= float(value) <= 100 for pair in places for value in pair if value)


def test_the_visitor_s_run_is_drawn_with_its_interval(race: Race) -> None:
    view = race_view(run_of(lap(0), lap(25)), THUMBS)
    assert view.chart.count('class="mark own') == 2
    assert "40.0 <small>[35, 45] at step 25</small>" in view.chart
    assert f"Your run: {OBJECTIVE_NAMES['preference']}" in view.chart


def test_a_run_on_other_data_does_not_take_part(race: Race) -> None:
    other = run_of(lap(0), lap(25), recipe=replace(PRESETS["minute"], data="folder:x"))
    assert own_laps(other, race) == []
    chart = race_view(other, THUMBS).chart
    assert 'class="mark own' not in chart
    assert "run-curve" in chart
    assert own_laps(run_of(lap(0, value=math.nan)), race) == []


def test_a_run_from_another_base_is_not_drawn_among_those_from_mini_clip(race: Race) -> None:
    """All lines of the race start at one score; the run's pictures and its way to Compare do not depend on that."""
    other = run_of(lap(0, value=0.5), lap(25), recipe=replace(PRESETS["minute"], base="mini-sds-clip"))
    assert not takes_part(other, race)
    view = race_view(other, THUMBS)
    assert 'class="mark own' not in view.chart
    assert "run-curve" in view.chart
    assert len(own_laps(other, race)) == 2
    assert "of your run" in view.pictures


def test_what_is_said_of_the_objectives_is_true(race: Race) -> None:
    ends = {name: laps[-1][1].value for name, laps in race.scores.items()}
    assert ends["labels"] < ends["preference"]  # so labels are no upper bound
    said = " ".join([OBJECTIVES["labels"], OBJECTIVE_NAMES["labels"], OBJECTIVE_MEANINGS["labels"]])
    assert not re.search("upper bound|most that|hoped", said)
    study = json.loads((ASSETS / EXPERIMENT).read_text())
    parts = [part for part in study.values() if "seeds" in part and "cells" in part]  # of the studies that were run
    made = {cell: len(part["seeds"]) for part in parts for cell in part["cells"]}
    chart = race_view(None, THUMBS).chart
    assert "several seeds of each objective" in chart
    for cell in ("clip", "sds", "negatives", "preference", "labels", "features 1"):
        assert made[cell] >= 3, cell
    assert not re.search(r"\d+ runs an objective", chart)
    assert "run from\n  Mini CLIP on Mini's data is drawn" in chart


def test_the_scores_are_explained_in_english() -> None:
    for term in ("text score", "image score"):
        assert gloss(term).startswith("Percent of examples in which the model chooses the right"), term


@pytest.mark.parametrize("emptied", ["runs", "laps"])
def test_a_race_without_runs_or_evaluations_is_a_sentence(
    emptied: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = json.loads(RACE_FILE.read_text())
    if emptied == "runs":
        stored["runs"] = {}
    else:
        stored["runs"]["sds"]["laps"] = []
    path = tmp_path / "race.json"
    path.write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r"race\.json is damaged"):
        read_race(path)
    monkeypatch.setattr("sdsdemo.ui.race.read_race", lambda: read_race(path))
    assert "race.json is damaged" in race_view(None, THUMBS).chart


def test_the_six_pictures_follow_the_rule(race: Race) -> None:
    six = watched_pictures.watched_pictures(race)
    start_EI = right_pictures(race.pictures["clip"][0][1], race.n)
    assert [bool(start_EI[one.place, one.picture]) for one in six] == [False, True] * 3
    assert len({one.example.tags["tag"] for one in six}) == len(six)


def test_ticks_say_what_each_evaluation_said(race: Race) -> None:
    six = watched_pictures.watched_pictures(race)
    before_EI = right_pictures(race.pictures["clip"][0][1], race.n)
    rows = decisions(six, [lap(0, before_EI), lap(25, ~before_EI)], race.n)
    assert rows == [[(0, k % 2 == 1), (25, k % 2 == 0)] for k in range(6)]
    html = watched_pictures.pictures_html(race, [lap(0, before_EI), lap(25, ~before_EI)], THUMBS)
    assert html.count('class="gained"') == html.count('class="lost"') == 3


def test_a_long_run_has_few_ticks_with_the_first_and_the_last(race: Race) -> None:
    right_EI = np.ones((race.n, 2), dtype=bool)
    rows = decisions(watched_pictures.watched_pictures(race), [lap(k, right_EI) for k in range(200)], race.n)
    steps = [step for step, _ in rows[0]]
    assert (steps[0], steps[-1], len(steps)) == (0, 199, MOST_TICKS)


@pytest.mark.parametrize("bits", ["", "zz", "ff"])
def test_a_run_of_an_earlier_version_has_a_line_but_no_ticks(race: Race, bits: str) -> None:
    old = run_of(lap(0, pictures=bits), lap(25, pictures=bits))
    view = race_view(old, THUMBS)
    assert view.chart.count('class="mark own') == 2
    assert "✓" not in view.pictures.partition("<ul")[2]
    assert changed_picture(old.evaluations, race) is None


def test_the_picture_to_compare_is_one_whose_answer_changed(race: Race) -> None:
    start_EI = right_pictures(race.pictures["clip"][0][1], race.n)
    six = watched_pictures.watched_pictures(race)
    for which, how in ((six[2], "gained"), (six[3], "lost")):
        end_EI = start_EI.copy()
        end_EI[which.place, which.picture] ^= True
        found = changed_picture([lap(0, start_EI), lap(25, end_EI)], race)
        assert found == (which, how)
    place, picture = np.argwhere(~start_EI)[-1]
    end_EI = start_EI.copy()
    end_EI[place, picture] = True
    found = changed_picture([lap(0, start_EI), lap(25, end_EI)], race)
    assert found is not None
    assert (found[0].place, found[0].picture, found[1]) == (place, picture, "gained")
    assert changed_picture([lap(0, start_EI), lap(25, start_EI)], race) == (six[0], "same")


def test_a_screen_reader_hears_the_start_each_evaluation_and_the_end() -> None:
    said = [
        spoken(run_of(state="preparing")),
        spoken(run_of(lap(0), step=3)),
        spoken(run_of(lap(0), step=24)),
        spoken(run_of(lap(0), lap(25, value=0.425), step=26)),
        spoken(run_of(lap(0), lap(25, value=0.425), state="finished", step=200)),
        spoken(run_of(lap(0), lap(25, value=0.425), state="stopped", step=30)),
    ]
    assert said[1] == said[2]  # nothing at each step
    assert [*dict.fromkeys(said)] == [
        "The run has started: preparing.",
        "Training: step 0 of 200. Text score 40.0 percent.",
        "Training: step 25 of 200. Text score 42.5 percent.",
        "The run finished at step 200. Text score 42.5 percent.",
        "The run stopped at step 30. Text score 42.5 percent.",
    ]
    assert spoken(None) == ""
    assert all(spoken(run_of(state=state)) for state in ("waiting", "stopping", "failed", "interrupted"))
