"""Answers as dicts: the shape that is documented, and JSON whatever the numbers are."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sdsdemo.core.decision import decide
from sdsdemo.evaluation.answers import answers_as_dict
from sdsdemo.settings import budget
from sdsdemo.types import Answer, Scores
from tests.app.test_workbench import CAPTIONS, PICTURE
from tests.fakes import FakeScorer, fake_card

DIFFUSION = fake_card("mini-diffusion", "diffusion")


def answer_of(fake: FakeScorer) -> Answer:
    scores = fake.score([PICTURE], CAPTIONS, budget(3, 2, 7))
    return Answer(card=fake.card, scores=scores, preference=decide(scores))


def test_the_documented_fields_are_there_and_no_other() -> None:
    answers = [answer_of(FakeScorer(fake_card())), answer_of(FakeScorer(DIFFUSION))]
    result = answers_as_dict("cat.png", CAPTIONS, answers)
    assert list(result) == ["image", "captions", "region", "timestep_range", "models"]
    assert (result["region"], result["timestep_range"]) == ("crop", None)
    named = answers_as_dict("cat.png", CAPTIONS, answers, region="pad", timestep_range=(0.2, 0.8))
    assert (named["region"], named["timestep_range"]) == ("pad", [0.2, 0.8])
    similarity, denoising = result["models"]
    common = {"model", "kind", "scores", "preferred", "difference", "stderr", "decided", "seconds"}
    assert set(similarity) == common
    assert set(denoising) == common | {"evidence"}
    assert set(denoising["evidence"]) == {"timesteps", "loss", "noises", "unet_evaluations", "seed", "space"}


def test_the_mean_of_the_losses_is_minus_the_score() -> None:
    (entry,) = answers_as_dict("cat.png", CAPTIONS, [answer_of(FakeScorer(DIFFUSION))])["models"]
    loss_CT = np.array(entry["evidence"]["loss"])
    assert loss_CT.shape == (2, 3)
    assert entry["evidence"]["noises"] == 2
    np.testing.assert_allclose(-loss_CT.mean(axis=1), entry["scores"], rtol=1e-6)


def test_the_difference_is_best_minus_second() -> None:
    (entry,) = answers_as_dict("cat.png", CAPTIONS, [answer_of(FakeScorer(DIFFUSION))])["models"]
    assert entry["difference"] == pytest.approx(max(entry["scores"]) - min(entry["scores"]))
    assert entry["scores"][entry["preferred"]] == max(entry["scores"])


def test_what_is_not_a_number_is_null_and_explained() -> None:
    answer = answer_of(FakeScorer(DIFFUSION, loss=math.nan))
    (entry,) = json.loads(json.dumps(answers_as_dict("cat.png", CAPTIONS, [answer]), allow_nan=False))["models"]
    assert entry["scores"] == [None, None]
    assert entry["preferred"] is None
    assert not entry["decided"]
    assert "finite" in entry["notes"][0]


def test_a_problem_stands_instead_of_scores() -> None:
    answer = Answer(card=fake_card(), problem="Fetch it first.", notes=("A remark.",))
    (entry,) = answers_as_dict("cat.png", CAPTIONS, [answer])["models"]
    assert entry == {"model": "mini-clip", "problem": "Fetch it first.", "notes": ["A remark."]}


def test_one_draw_a_timestep_leaves_the_error_null() -> None:
    fake = FakeScorer(DIFFUSION)
    scores: Scores = fake.score([PICTURE], CAPTIONS, budget(3, 1, 0))
    answer = Answer(card=fake.card, scores=scores, preference=decide(scores))
    (entry,) = json.loads(json.dumps(answers_as_dict("cat.png", CAPTIONS, [answer]), allow_nan=False))["models"]
    assert entry["stderr"] is None
    assert not entry["decided"]
