"""Compare where scoring stops as soon as the captions are told apart: what rows, pictures, charts and files say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from sdsdemo.core.adaptive import by_timestep
from sdsdemo.core.decision import decide
from sdsdemo.evaluation import loss_charts
from sdsdemo.settings import budget
from sdsdemo.types import Answer, Evidence
from sdsdemo.ui import answer_file, compare_form, compare_html, compare_logic, denoising_view, drawn_answers
from sdsdemo.ui.examples import read_examples
from sdsdemo.ui.typical import Typical
from tests.conftest import fake_workbench
from tests.fakes import MINI_CARDS, FakeDenoiser

CAPTIONS = ("a star left of a moon", "a moon left of a star")
SPEND = budget(8, 16, adaptive=True)


def typical(model: str) -> Typical:
    return Typical(difference=0.01, pictures=99, run="x")


def answer_after(rounds: int, **facts) -> Answer:
    """An answer that stopped after so many rounds of at most 16."""
    scorer = FakeDenoiser(MINI_CARDS[1])
    scores, denoised = scorer.score_and_show(Image.new("RGB", (9, 9), "red"), CAPTIONS, SPEND, most=1.0)
    evidence = scores.evidence
    assert evidence is not None
    loss_ICTN = evidence.loss_ICTN.copy()
    loss_ICTN[..., rounds:] = np.nan
    rounds_IC = np.full((1, 2), rounds)
    evidence = replace(evidence, loss_ICTN=loss_ICTN, rounds_IC=rounds_IC, antithetic=True, evaluations=2 * 8 * rounds)
    scores = replace(scores, evidence=evidence, score_IC=-by_timestep(loss_ICTN, rounds_IC).mean(axis=2))
    error_CTNHW = denoised.error_CTNHW.copy()
    error_CTNHW[:, :, rounds:] = np.nan  # as where a third caption got more
    denoised = replace(denoised, error_CTNHW=error_CTNHW)
    return Answer(card=scorer.card, scores=scores, preference=decide(scores), denoised=denoised, **facts)


def evidence_of(answer: Answer) -> Evidence:
    assert answer.scores is not None
    assert answer.scores.evidence is not None
    return answer.scores.evidence


@pytest.mark.parametrize("facts", [{}, {"of": 256}])
def test_a_row_says_what_was_spent_and_what_was_the_most(facts):
    assert "32 of at most 256 denoiser calls" in compare_html.row_html(answer_after(2, **facts))


@pytest.mark.parametrize("rounds", [1, 2, 8])
def test_the_whisker_leaves_the_middle_when_the_captions_are_told_apart(rounds):
    found = answer_after(rounds)
    assert found.preference is not None
    for difference in (0.5, 1.5):
        needed = found.preference.needed
        assert needed is not None
        near = replace(found.preference, difference=difference * needed, decided=difference > 1)
        html = compare_html.row_html(replace(found, preference=near), typical=typical)
        low, width = map(float, re.findall(r"whisker[^>]*left:([\d.]+)%;width:([\d.]+)%", html)[0])
        assert (low < 50 < low + width) is not near.decided


def test_how_long_a_whisker_is_is_said_only_where_scoring_stops_early():
    scorer = FakeDenoiser(MINI_CARDS[1])
    scores = scorer.score([Image.new("RGB", (9, 9), "red")], CAPTIONS, budget())
    plain = Answer(card=scorer.card, scores=scores, preference=decide(scores))
    words = "told apart once it leaves"
    assert words in compare_html.answer_html(CAPTIONS, [answer_after(2)], typical=typical)
    assert words not in compare_html.answer_html(CAPTIONS, [plain], typical=typical)


@pytest.mark.parametrize("rounds", [1, 2, 8])
def test_charts_and_pictures_fit_what_was_evaluated(rounds):
    answer = answer_after(rounds)
    (curve,) = drawn_answers.curves_of([answer])
    assert curve.loss_CTN.shape == (2, 8, rounds)
    lines = loss_charts.loss_by_timestep([curve], CAPTIONS).data
    loss_CT = by_timestep(evidence_of(answer).loss_ICTN, evidence_of(answer).rounds_IC)[0]
    np.testing.assert_allclose([line.y for line in lines], loss_CT)
    figure = loss_charts.difference_by_timestep([curve])
    assert np.isfinite(np.concatenate([line.y for line in figure.data])).all()
    assert ("95 % band" in {line.name for line in figure.data}) is (rounds > 2), "two pairs give a band"
    html = denoising_view.denoising_html(CAPTIONS, [answer])
    assert all(f"loss {loss:.3g}" in html for loss in loss_CT.reshape(-1))
    assert ("a test needs" in html) is (rounds < 4)


def test_the_files_of_an_answer_hold_its_rounds_and_are_read_back():
    answer, workbench = answer_after(2), fake_workbench()
    record = answer_file.answer_record("x.png", CAPTIONS, [answer])
    (again,) = answer_file.answers_from(json.loads(answer_file.as_json(record)), workbench)
    np.testing.assert_array_equal(evidence_of(again).rounds_IC, [[2, 2]])
    assert again.preference is not None
    assert answer.preference is not None
    assert again.preference.decided == answer.preference.decided
    assert again.preference.needed == pytest.approx(answer.preference.needed, rel=1e-3)


def test_the_link_of_an_answer_stops_early_too(example_assets: Path):
    examples, workbench = read_examples(example_assets), fake_workbench()
    link = answer_file.address(examples[1], ["one", "two"], ["mini-clip"], SPEND)
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    assert query["adaptive"] == "on"
    form, _ = compare_form.form_of_address(workbench, examples, query) or pytest.fail("it asks for something")
    assert form.budget() == SPEND
    assert compare_logic._budget_of([answer_after(2)]) == SPEND


def test_stopping_early_reaches_the_models(example_assets: Path, monkeypatch: pytest.MonkeyPatch):
    examples, workbench = read_examples(example_assets), fake_workbench()
    form = compare_form.Form(
        image=str(examples[0].path), captions=CAPTIONS, models=["mini-diffusion"], timesteps=8, noises=16, seed=0,
        adaptive=True,
    )  # fmt: skip
    asked = []
    monkeypatch.setattr(
        workbench, "compare", lambda *given, **options: iter([asked.append(given[3]) or answer_after(2)])
    )
    views = list(compare_logic.score(workbench, examples, form))
    assert asked == [SPEND]
    assert "adaptive=on" in views[-1].answer
