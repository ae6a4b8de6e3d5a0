"""The panel of pictures that shows how a model denoises: what its strips and words say."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sdsdemo.core.decision import decide
from sdsdemo.settings import budget
from sdsdemo.types import Answer, Denoised
from sdsdemo.ui import denoising_view
from tests.fakes import MINI_CARDS, FakeDenoiser, FakeScorer
from tests.ui.test_templates import Read

CAPTIONS = ["a star left of a moon", "a moon left of a star"]


def answer_of(timesteps: int = 5, noises: int = 4) -> Answer:
    scorer = FakeDenoiser(MINI_CARDS[1])
    scores, denoised = scorer.score_and_show(
        Image.new("RGB", (9, 9), "red"), CAPTIONS, budget(timesteps, noises), most=1.0
    )
    return Answer(card=scorer.card, scores=scores, preference=decide(scores), denoised=denoised)


def shown(answer: Answer) -> Denoised:
    assert answer.denoised is not None
    return answer.denoised


def picture(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def with_errors(answer: Answer, error_CTNHW: np.ndarray) -> Answer:
    return replace(answer, denoised=replace(shown(answer), error_CTNHW=error_CTNHW.astype(np.float32)))


def test_a_strip_holds_the_pictures_of_all_timesteps_in_order() -> None:
    grey_S = np.arange(0, 250, 50, dtype=np.uint8)
    picture_S = np.broadcast_to(grey_S[:, None, None, None], (5, 8, 8, 3))
    strip = picture(denoising_view.strip(picture_S))
    assert strip.shape == (8, 40, 3)
    np.testing.assert_allclose(strip.reshape(8, 5, 8, 3).mean(axis=(0, 2, 3)), grey_S, atol=6)


def test_large_pictures_are_reduced() -> None:
    strip = picture(denoising_view.strip(np.zeros((2, 512, 512, 3), dtype=np.uint8)))
    assert strip.shape[:2] == (denoising_view.LARGEST, 2 * denoising_view.LARGEST)


def test_a_map_is_blue_where_a_is_closer_and_orange_where_b_is() -> None:
    error_CTNHW = np.full((2, 5, 4, 4, 4), 0.5)
    error_CTNHW[1, ..., 0, 0] = 0.9  # b errs more here: a is closer
    error_CTNHW[0, ..., 3, 3] = 0.9
    maps = denoising_view._maps(shown(with_errors(answer_of(), error_CTNHW)), 4, antithetic=False)
    strip = picture(maps["strip"])
    assert strip.shape == (4, 20, 4)
    for s in range(5):
        assert tuple(strip[0, 4 * s, :3]) == denoising_view.COLOURS[0]
        assert tuple(strip[3, 4 * s + 3, :3]) == denoising_view.COLOURS[1]
        assert strip[0, 4 * s, 3] == strip[3, 4 * s + 3, 3] > 200
        assert strip[1, 4 * s + 1, 3] == 0


def test_the_map_over_all_timesteps_shows_only_what_passes_the_test() -> None:
    rng = np.random.default_rng(3)
    error_CTNHW = 1 + 0.1 * rng.standard_normal((2, 8, 4, 4, 4))
    error_CTNHW[1, ..., 1, 2] += 0.5
    maps = denoising_view._maps(shown(with_errors(answer_of(8), error_CTNHW)), 4, antithetic=False)
    seen = picture(maps["overall"])[..., 3] > 0
    assert seen[1, 2]
    assert seen.sum() == maps["found"] < 5


def test_a_loss_under_a_guess_is_that_of_the_chart() -> None:
    answer = answer_of()
    html = denoising_view.denoising_html(CAPTIONS, [answer])
    below = re.findall(r"loss ([0-9.]+)", " ".join(Read(html).texts))
    assert answer.scores is not None
    assert answer.scores.evidence is not None
    mean_CT = answer.scores.evidence.loss_ICTN[0].mean(axis=2)
    for loss in mean_CT.ravel():
        assert f"{loss:.3g}" in below


def test_the_guess_with_the_lower_loss_wins_at_each_timestep() -> None:
    loss_CS = np.array([[0.1, 0.5, 0.3], [0.2, 0.4, 0.3]])
    wins = [[one["wins"] for one in denoising_view._losses(loss_CS, c)] for c in (0, 1)]
    assert wins == [[True, False, True], [False, True, True]]


def test_the_slider_starts_where_the_captions_differ_most() -> None:
    loss_CS = np.array([[1.0, 0.5, 0.3], [1.1, 0.9, 0.31]])
    assert denoising_view._most_telling(loss_CS) == 1
    assert denoising_view._most_telling(loss_CS[:1]) == 0
    assert denoising_view._most_telling(np.full((2, 3), np.nan)) == 0


def test_timesteps_that_are_left_out_are_named() -> None:
    answer = answer_of()
    assert "would take too long" not in denoising_view.denoising_html(CAPTIONS, [answer])
    parts = ("timestep_S", "position_S", "noised_S", "guess_empty_S")
    fewer = replace(
        shown(answer),
        **{part: getattr(shown(answer), part)[1:3] for part in parts},
        guess_CS=shown(answer).guess_CS[:, 1:3],
    )
    html = denoising_view.denoising_html(CAPTIONS, [replace(answer, denoised=fewer)])
    assert "2 of 5 timesteps are shown" in html


def test_one_timestep_needs_no_slider() -> None:
    assert "input" not in Read(denoising_view.denoising_html(CAPTIONS, [answer_of(1)])).tags


def test_a_single_draw_says_what_a_test_needs() -> None:
    assert "two noise draws" in denoising_view.denoising_html(CAPTIONS, [answer_of(noises=1)])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_errors_that_are_no_numbers_give_an_empty_map(value: float) -> None:
    answer = answer_of()
    maps = denoising_view._maps(
        shown(with_errors(answer, np.full_like(shown(answer).error_CTNHW, value))), 4, antithetic=False
    )
    assert (picture(maps["strip"])[..., 3] == 0).all()
    assert maps["found"] == 0


def test_models_that_do_not_denoise_show_nothing() -> None:
    scores = FakeScorer(MINI_CARDS[0]).score([Image.new("RGB", (9, 9))], CAPTIONS, budget())
    assert denoising_view.denoising_html(CAPTIONS, [Answer(card=MINI_CARDS[0], scores=scores)]) == ""
