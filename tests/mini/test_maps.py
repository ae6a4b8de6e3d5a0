"""The study of maps: its measures on maps whose truth is known, its scenes, its rule, and its stored figures."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.data.mini.drawing import draw
from sdsdemo.data.mini.hard_negatives import is_true
from sdsdemo.data.mini.scenes import combination, split_of
from sdsdemo.evaluation.limits import MAP_LEGEND, map_legend
from sdsdemo.mini.experiments import map_words, maps, verify
from sdsdemo.mini.experiments.document import DOCS
from sdsdemo.mini.experiments.map_measures import mass_on_things, order_of_two, place, prediction
from sdsdemo.mini.experiments.map_scenes import (
    KINDS,
    REPAINTS,
    THINGS,
    TOUCHED,
    edge_cells,
    map_scene,
    owner_cells,
)
from sdsdemo.mini.experiments.map_scoring import Read
from sdsdemo.mini.experiments.map_variants import CANDIDATES, RIVALS, SIGNED, VARIANTS, WEIGHTED, WINNER, maps_of
from sdsdemo.settings import Settings, budget

SIDE = 8
SCENES = [map_scene(5, "validation", number) for number in range(20)]


# ---------------------------------------------------------------------------------------------------- measures


def test_a_map_all_on_the_touched_things_scores_one() -> None:
    for one in SCENES:
        owner_HW = owner_cells(one.scene, SIDE)
        touched_HW = np.isin(owner_HW, range(TOUCHED))
        assert place(mass_on_things(touched_HW * 0.3, owner_HW, THINGS), TOUCHED) == pytest.approx(1.0)
        assert place(mass_on_things(~touched_HW * 0.3, owner_HW, THINGS), TOUCHED) == 0.0


def test_a_uniform_or_an_empty_map_scores_the_area() -> None:
    owner_HW = owner_cells(SCENES[0].scene, SIDE)
    area = np.isin(owner_HW, range(TOUCHED)).mean()
    for map_HW in (np.full((SIDE, SIDE), 7.0), np.zeros((SIDE, SIDE))):
        assert place(mass_on_things(map_HW, owner_HW, THINGS), TOUCHED) == pytest.approx(area)


def test_mass_is_a_share_of_the_whole_map() -> None:
    owner_HW = np.array([[0, 1], [-1, -1]])
    assert mass_on_things(np.array([[1.0, 2.0], [3.0, 4.0]]), owner_HW, 2).tolist() == [0.1, 0.2]


def test_a_map_below_zero_or_of_another_size_is_refused() -> None:
    owner_HW = np.zeros((2, 2), dtype=int)
    for map_HW in (-np.ones((2, 2)), np.ones((2, 3))):
        with pytest.raises(ValueError, match="at least 0"):
            mass_on_things(map_HW, owner_HW, 1)


def test_the_prediction_is_spearmans() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    for _ in range(50):
        mass_K, change_K = rng.integers(4, size=5), rng.random(5)
        if len(set(mass_K)) > 1:
            assert prediction(mass_K, change_K) == pytest.approx(spearmanr(mass_K, change_K).statistic)


def test_a_planted_map_predicts_and_a_constant_one_does_not() -> None:
    change_K = np.array([0.3, 0.1, 0.2, 0.05])
    assert prediction(change_K**2, change_K) == pytest.approx(1.0)
    assert prediction(-change_K, change_K) == pytest.approx(-1.0)
    assert prediction(np.ones(4), change_K) == prediction(change_K, np.ones(4)) == 0.0


def test_the_order_of_two_is_right_wrong_or_a_tie() -> None:
    change_K = np.array([2.0, 1.0])
    assert [order_of_two(np.array(mass), change_K) for mass in ([3, 1], [1, 3], [1, 1])] == [1.0, 0.0, 0.5]


# ------------------------------------------------------------------------------------------------------ scenes


def test_captions_are_as_true_as_they_should_be() -> None:
    for one in SCENES:
        assert [is_true(one.scene, caption.split()) for caption in one.captions] == [True, False]
        assert [is_true(one.scene, caption.split()) for caption in one.distractors] == [True, False]
        assert not any(is_true(one.scene, caption.split()) for caption in one.absent)


def test_unrelated_captions_have_the_same_form_in_other_words() -> None:
    for one in SCENES:
        names = [{thing.shape for thing in one.scene.things[k : k + 2]} for k in (0, TOUCHED)]
        for pair, own in ((one.captions, names[0]), (one.distractors, names[1])):
            assert all(own <= set(caption.split()) for caption in pair)
            assert sorted(map(_bare, pair[0].split())) == sorted(map(_bare, pair[1].split()))
        assert not {*one.absent[0].split()} & set.union(*names)
        lengths = [len(caption.split()) for caption in (*one.captions, *one.distractors, *one.absent)]
        assert len(set(lengths)) == 1


def _bare(word: str) -> str:
    return "a" if word == "an" else word


@pytest.mark.slow
def test_touched_things_and_distractors_meet_the_same_conditions() -> None:
    many = [map_scene(9, "validation", number).scene for number in range(200)]
    radius_EK = np.array([[spot.radius for spot in scene.spots] for scene in many])
    x_EK, y_EK = (np.array([[getattr(spot, axis) for spot in scene.spots] for scene in many]) for axis in "xy")
    for value_EK in (radius_EK, x_EK, y_EK):
        touched, others = value_EK[:, :TOUCHED].ravel(), value_EK[:, TOUCHED:].ravel()
        error = np.hypot(touched.std(), others.std()) / np.sqrt(len(touched))
        assert abs(touched.mean() - others.mean()) < 3 * error
    for scene in many:
        assert len({thing.colour for thing in scene.things}) == len({thing.shape for thing in scene.things}) == THINGS
        assert {split_of(combination(scene.things[k : k + 2])) for k in (0, TOUCHED)} == {"validation"}


def test_a_repaint_changes_one_thing_in_one_way() -> None:
    for one in SCENES:
        assert [len(repaints) for repaints in one.repainted] == [len(REPAINTS)] * THINGS
        shown = {word for thing in one.scene.things for word in (thing.shape, thing.colour)}
        for k, repaints in enumerate(one.repainted):
            for what, scene in zip(REPAINTS, repaints, strict=True):
                new = getattr(scene.things[k], what)
                assert new not in shown
                assert replace(scene.things[k], **{what: getattr(one.scene.things[k], what)}) == one.scene.things[k]
                others = [scene.things[j] == one.scene.things[j] for j in range(THINGS) if j != k]
                assert all(others)
                assert scene.spots == one.scene.spots


def test_a_scene_is_the_same_alone_as_among_others() -> None:
    assert map_scene(5, "validation", 7) == SCENES[7]
    drawn = [draw(one.scene, 64).tobytes() for one in SCENES]
    assert all(a != b for a, b in combinations(drawn, 2))


def test_cells_are_where_a_thing_is_drawn() -> None:
    for one in SCENES:
        owner_HW, edge_HW = owner_cells(one.scene, SIDE), edge_cells(one.scene, SIDE)
        for k, spot in enumerate(one.scene.spots):
            y, x = np.nonzero(owner_HW == k)
            assert 2 <= len(x) <= 12
            far = np.hypot((x + 0.5) / SIDE - spot.x, (y + 0.5) / SIDE - spot.y)
            assert far.max() < spot.radius + 1 / SIDE
        assert edge_HW[owner_HW >= 0].mean() > 3 * edge_HW[owner_HW < 0].mean()


def test_the_test_scenes_are_of_a_seed_and_split_of_their_own() -> None:
    assert maps.TEST.scenes >= 300
    assert maps.TEST.seed != maps.VALIDATION.seed
    assert (maps.TEST.split, maps.VALIDATION.split) == ("benchmark", "validation")
    noise = [range(one.noise_seed, one.noise_seed + one.scenes) for one in (maps.TEST, maps.VALIDATION)]
    assert not set(noise[0]) & set(noise[1])


# -------------------------------------------------------------------------------------------------- maps and rule


def planted(number: int, gain: float = 1.0) -> Read:
    """Errors that are larger under B on the first touched thing, and half as much on the second."""
    one, rng = SCENES[number], np.random.default_rng(number)
    owner_HW = owner_cells(one.scene, SIDE)
    error_CTNHW = 1 + 0.01 * rng.standard_normal((6, 8, 4, SIDE, SIDE))
    error_CTNHW[1] += gain * (owner_HW == 0) + gain / 2 * (owner_HW == 1)
    change_KR = np.array([[0.4, -0.4], [-0.2, 0.2], [0.01, 0.0], [0.0, 0.0]])
    return Read(error_CTNHW=error_CTNHW, attention_HW=np.full((SIDE, SIDE), 0.1), change_KR=change_KR)


def planted_rows(gain: float = 1.0) -> list[dict[str, Any]]:
    return [
        {"scene": k, "kind": "and, colour", **maps.measured(one, planted(k, gain), maps.TEST)}
        for k, one in enumerate(SCENES)
    ]


def test_a_planted_difference_passes_both_tests() -> None:
    found = maps.findings(planted_rows())
    assert found["passed"][0] == SIGNED
    assert found["right"] == 1.0
    assert found["levels"][SIGNED]["place"]["value"] > 0.99
    assert found["levels"][SIGNED]["order"]["value"] == 1.0
    assert found["levels"]["things"]["place"]["value"] == pytest.approx(0.5, abs=0.1)


def test_without_a_difference_nothing_passes() -> None:
    found = maps.findings(planted_rows(gain=0.0))
    assert found["passed"] == []
    assert found["empty"][SIGNED] > 15


def test_a_map_that_loses_one_test_does_not_pass() -> None:
    rows = planted_rows()
    for row in rows:  # the distractors change most, which no map foresees
        row["change"] = row["change"][::-1]
    assert maps.findings(rows)["passed"] == []


def test_every_map_is_measured_and_the_weighted_one_is_sharper() -> None:
    one, read = SCENES[0], planted(0, gain=0.02)
    on_first = 0.1 + 0.4 * (owner_cells(one.scene, SIDE) == 0)
    found = maps_of(one, replace(read, attention_HW=on_first), maps.TEST.level, maps.TEST.side_level)
    assert tuple(found) == VARIANTS
    assert {*CANDIDATES, *RIVALS[WEIGHTED]} < set(found)
    owner_HW = owner_cells(one.scene, SIDE)
    plain, weighted = (mass_on_things(found[name], owner_HW, THINGS) for name in (WINNER, WEIGHTED))
    assert weighted[0] > plain[0]


# ------------------------------------------------------------------------------------------------ with the model


@pytest.fixture(scope="module")
def workbench() -> Workbench:
    return Workbench(Settings.from_environment({}))


def test_errors_are_those_that_the_page_shows(workbench: Workbench) -> None:
    one, reader = SCENES[3], maps.reader_of(maps.VALIDATION, workbench)
    spend = budget(4, 2, 11)
    scorer: Any = workbench.scorer(maps.TEST.model)
    scores, shown = scorer.score_and_show(draw(one.scene, 64), one.captions, spend, most=1.0)
    read = reader.read(one, spend)
    np.testing.assert_allclose(read.error_CTNHW[:2], shown.error_CTNHW, rtol=1e-5, atol=1e-6)  # other sizes of calls
    first = scorer.score([draw(one.repainted[2][1], 64)], one.captions, spend).score_IC[0]
    change = (first[0] - first[1]) - (scores.score_IC[0][0] - scores.score_IC[0][1])
    assert read.change_KR[2, 1] == pytest.approx(change, abs=1e-7)


@pytest.mark.slow
def test_a_run_is_resumed_and_shared_scene_by_scene(workbench: Workbench, tmp_path: Path) -> None:
    few = replace(maps.VALIDATION, scenes=3, timesteps=2, noises=2)
    path, said = tmp_path / "maps.jsonl", []
    maps.run_maps(path, said.append, workbench, (1, 2), few)
    assert [row["scene"] for row in maps.read_lines(path)] == [1]
    maps.run_maps(path, said.append, workbench, declared=few)
    assert [row["scene"] for row in maps.read_lines(path)] == [0, 1, 2]
    assert len(said) == 3
    again = tmp_path / "again.jsonl"
    maps.run_maps(again, said.append, workbench, declared=few)
    assert maps.read_lines(again) == maps.read_lines(path)
    json.dumps(maps.findings(maps.read_lines(path), few))


# ------------------------------------------------------------------------------------------------ what is stored


@pytest.mark.slow
def test_the_stored_figures_are_what_the_lines_give() -> None:
    rows = maps.read_lines(verify.MAP_LINES)
    assert [row["scene"] for row in rows] == list(range(maps.TEST.scenes))
    stored = json.loads(verify.MAP_FINDINGS.read_text())
    assert stored == json.loads(json.dumps(maps.findings(rows)))
    assert all(row["same"] for row in verify.map_rows(stored, maps.findings(rows)))
    stored["levels"][SIGNED]["place"]["value"] += 0.001
    different = [row["what"] for row in verify.map_rows(stored, maps.findings(rows)) if not row["same"]]
    assert different == [f"maps: {SIGNED}, place"]


@pytest.mark.slow
@pytest.mark.long
def test_a_sample_of_the_scenes_scored_anew_gives_the_stored_lines(workbench: Workbench) -> None:
    """One of each kind of scene and swap."""
    stored, reader = maps.read_lines(verify.MAP_LINES), maps.reader_of(maps.TEST, workbench)
    for number in range(len(KINDS)):
        fresh, kept = maps.scene_line(reader, maps.TEST, number), stored[number]
        assert (fresh["kind"], fresh["empty"]) == (kept["kind"], kept["empty"])
        np.testing.assert_allclose(fresh["difference"], kept["difference"], atol=1e-5)
        np.testing.assert_allclose(fresh["change"], kept["change"], atol=2e-5)
        for name in VARIANTS:
            masked = name in CANDIDATES or "all places" not in name  # a place at the edge of the test may come or go
            np.testing.assert_allclose(fresh["mass"][name], kept["mass"][name], atol=0.05 if masked else 1e-3)


def test_the_legend_says_no_more_than_the_study_allows() -> None:
    passed = json.loads(verify.MAP_FINDINGS.read_text())["passed"]
    assert map_legend(passed) == MAP_LEGEND
    assert map_legend([]) != map_legend([SIGNED])


def test_the_document_shows_the_stored_figures() -> None:
    stored = json.loads(verify.MAP_FINDINGS.read_text())
    assert map_words.maps_markdown(stored) in (DOCS / "mini.md").read_text()
    assert map_words.further_markdown(stored) in (DOCS / "mini-appendix.md").read_text()
