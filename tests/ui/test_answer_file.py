"""An answer as a file: JSON that gives it back, with its noise, and CSV that runs no formula."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from sdsdemo.core.decision import decide
from sdsdemo.settings import budget
from sdsdemo.types import Answer
from sdsdemo.ui import answer_file, compare_logic
from tests.conftest import fake_workbench
from tests.fakes import MINI_CARDS, FakeScorer
from tests.ui.compare_answers import CAPTIONS, MINI, answer_of, scores_of


def losses_of(answer: Answer) -> np.ndarray:
    evidence = scores_of(answer).evidence
    assert evidence is not None
    return evidence.loss_ICTN


def test_a_record_gives_back_the_answers_and_their_verdicts():
    answers = [answer_of(name) for name in MINI]
    kept = json.loads(answer_file.as_json(answer_file.answer_record("x.png", CAPTIONS, answers)))
    for before, after in zip(answers, answer_file.answers_from(kept, fake_workbench()), strict=True):
        assert after.card.name == before.card.name
        assert after.preference == before.preference
        np.testing.assert_array_equal(scores_of(after).score_IC, scores_of(before).score_IC)
        if evidence := scores_of(before).evidence:
            np.testing.assert_array_equal(losses_of(after), evidence.loss_ICTN)


@pytest.mark.parametrize("pairs", [True, False])
def test_a_stored_answer_keeps_the_noise_that_it_was_computed_with(pairs: bool):
    fake = FakeScorer(next(card for card in MINI_CARDS if card.name == "mini-diffusion"))
    scores = fake.score([Image.new("RGB", (9, 9), "red")], CAPTIONS, budget(antithetic=pairs))
    answer = Answer(card=fake.card, scores=scores, preference=decide(scores))
    kept = answer_file.answer_record("x.png", CAPTIONS, [answer])
    stored = answer_file.answers_from(json.loads(answer_file.as_json(kept)), fake_workbench())
    assert compare_logic._budget_of(stored).antithetic == pairs
    assert stored[0].preference == answer.preference


def test_the_csv_has_a_line_a_model_and_caption_and_runs_no_formula():
    answers = [answer_of("mini-clip"), Answer(card=MINI_CARDS[1], problem="=1+1 is not a caption")]
    kept = answer_file.answer_record("@x.png", ["=HYPERLINK(1)", "plain, with a comma"], answers)
    lines = list(csv.DictReader(io.StringIO(answer_file.as_csv(kept))))
    assert [(line["model"], line["caption"]) for line in lines] == [
        ("mini-clip", "0"), ("mini-clip", "1"), ("mini-diffusion", "0"), ("mini-diffusion", "1"),
    ]  # fmt: skip
    assert lines[0]["text"] == "'=HYPERLINK(1)"
    assert lines[1]["text"] == "plain, with a comma"
    assert lines[0]["image"] == "'@x.png"
    assert lines[2]["problem"].startswith("'=")
    assert float(lines[0]["score"]) == pytest.approx(scores_of(answers[0]).score_IC[0, 0])
