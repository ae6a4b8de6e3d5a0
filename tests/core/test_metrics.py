"""Verdicts by enumeration."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from sdsdemo.core.metrics import CHANCE, METRICS, MODES, benchmark_scores, verdict

ORDERS = [np.array(order, dtype=float).reshape(2, 2) for order in permutations((1, 2, 4, 8))]
"""All 24 orders of four scores, [image, caption]; no two pairs of them have the same sum."""

# verdicts

HAND_MADE = [
    # s(i0,c0) s(i0,c1) s(i1,c0) s(i1,c1)   text   image  match  mode
    ([[8, 1], [2, 4]], True, True, True, "right"),
    ([[2, 1], [4, 8]], True, False, True, "one image wins"),
    ([[4, 8], [2, 1]], False, False, False, "captions swapped, one image wins"),
    ([[2, 4], [1, 8]], False, True, True, "one caption wins"),
    ([[8, 4], [2, 1]], False, False, True, "one of each wins"),
    ([[4, 2], [8, 1]], False, False, False, "one caption wins, images swapped"),
    ([[1, 8], [4, 2]], False, False, False, "swapped"),
    ([[5, 5], [1, 9]], False, True, True, "tie"),
    ([[8, 1], [8, 9]], True, False, True, "tie"),
    ([[3, 3], [3, 3]], False, False, False, "tie"),
]


@pytest.mark.parametrize(("score_IC", "text", "image", "match", "mode"), HAND_MADE)
def test_a_verdict_made_by_hand(score_IC, text, image, match, mode):
    got = verdict(np.array(score_IC))
    assert (got.text, got.image, got.group_match, got.mode) == (text, image, match, mode)
    assert got.group == (text and image)


def test_text_and_image_match_winoground_in_all_24_orders():
    for score_IC in ORDERS:
        (s00, s01), (s10, s11) = score_IC
        got = verdict(score_IC)
        assert got.text == (s00 > s01 and s11 > s10)
        assert got.image == (s00 > s10 and s11 > s01)
        assert got.group == (s00 > max(s01, s10) and s11 > max(s01, s10))
        assert got.group_match == (s00 + s11 > s01 + s10)


def test_the_24_orders_fall_into_the_seven_modes_described():
    for score_IC in ORDERS:
        caption_of_image = score_IC.argmax(axis=1).tolist()
        image_of_caption = score_IC.argmax(axis=0).tolist()
        said = {(0, 1): "its own", (1, 0): "the other's"}
        captions = said.get(tuple(caption_of_image), "the same")
        images = said.get(tuple(image_of_caption), "the same")
        explanation = MODES[verdict(score_IC).mode]
        of_images = next(half for half in explanation.rstrip(".").split(", ") if "image" in half.split(" pick")[0])
        of_captions = next(half for half in explanation.rstrip(".").split(", ") if "caption" in half.split(" pick")[0])
        assert captions in of_images
        assert images in of_captions
    counts = Counter(verdict(score_IC).mode for score_IC in ORDERS)
    assert set(counts) == set(MODES) - {"tie", "no evidence"}
    assert sorted(counts.values()) == [2, 2, 2, 2, 4, 4, 8]


def test_transposing_scores_exchanges_text_and_image():
    for score_IC in ORDERS:
        straight, turned = verdict(score_IC), verdict(score_IC.T)
        assert verdict(score_IC[::-1, ::-1]) == straight
        assert (turned.text, turned.image) == (straight.image, straight.text)


def test_group_match_ignores_per_image_and_per_caption_offsets():
    offset_IC = np.array([[3.0], [-50.0]]) + np.array([[7.0, 20.0]])
    for score_IC in ORDERS:
        assert verdict(score_IC + offset_IC).group_match == verdict(score_IC).group_match


def test_a_margin_below_rounding_still_decides_the_group_match():
    assert verdict(np.array([[1e16, 0.0], [1e16, 1.0]])).group_match
    assert not verdict(np.array([[1e16, 1.0], [1e16, 0.0]])).group_match


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_score_that_is_no_number_is_never_a_win(bad, place):
    score_IC = np.array([[9.0, 1.0], [1.0, 9.0]])
    score_IC[place] = bad
    got = verdict(score_IC)
    assert (got.text, got.image, got.group, got.group_match) == (False,) * 4
    assert got.mode == "no evidence"


def test_every_mode_has_one_line():
    assert len(MODES) == 7 + 2
    assert all(line.endswith(".") and "\n" not in line for line in MODES.values())


def test_examples_without_evidence_count_as_failures():
    right, swapped, broken = [[2, 1], [1, 2]], [[1, 2], [2, 1]], [[math.nan, 1], [1, 2]]
    only_text = [[2, 1], [4, 8]]
    scores = benchmark_scores(np.array([right, only_text, swapped, broken], dtype=float))
    assert {name: scores[name].value for name in METRICS} == {
        "text": 0.5, "image": 0.25, "group": 0.25, "group_match": 0.5,
    }  # fmt: skip
    assert all(p.n == 4 and p.low < p.value < p.high for p in scores.values())


def test_chance_is_what_all_orders_together_reach():
    scores = benchmark_scores(np.stack(ORDERS))
    assert {name: p.value for name, p in scores.items()} == pytest.approx(CHANCE)


def test_score_tables_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"score_IC must be of shape \(2, 2\)"):
        verdict(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="score_EIC"):
        benchmark_scores(np.zeros((2, 2)))
