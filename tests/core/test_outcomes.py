"""Right, tied or not said: what rounding may turn round is a tie, and what is not a number is in no share."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sdsdemo.core.decision import decide
from sdsdemo.core.metrics import METRICS, TIE, margins, verdict
from sdsdemo.core.outcomes import caveat_counts, judge, judge_matrices
from sdsdemo.types import DENOISING_RESOLUTION, SIMILARITY_RESOLUTION, Evidence, Scores

RNG = np.random.default_rng(5)
NOISE = 2e-5
"""What batch and entrance were measured to move a similarity by."""


def similarity(score_IC: np.ndarray, **facts) -> Scores:
    return Scores(kind="similarity", score_IC=np.asarray(score_IC, dtype=float), **facts)


def test_noise_between_batches_turns_no_winner_round() -> None:
    """Whatever the scores: equal ones are ties with and without noise, and a decided one is never decided otherwise."""
    for gap in (0.0, 1e-6, 3e-5, 1e-4, 2e-4, 1.0):
        for _ in range(200):
            score_IC = np.array([[20.0, 20.0 + gap]])
            a, b = (decide(similarity(score_IC + RNG.uniform(-NOISE / 2, NOISE / 2, (1, 2)))) for _ in range(2))
            if a.decided and b.decided:
                assert a.preferred == b.preferred
            if gap <= SIMILARITY_RESOLUTION - NOISE:
                assert (a.tie, a.preferred) == (b.tie, b.preferred) == (True, 0)


def test_a_tie_of_captions_names_the_first_whatever_the_noise() -> None:
    for _ in range(200):
        score_IC = np.array([[3.0, 20.0, 20.0, 20.0]]) + RNG.uniform(-NOISE, NOISE, (1, 4))
        got = decide(similarity(score_IC))
        assert (got.tie, got.decided, got.preferred) == (True, False, 1)
        assert got.difference is not None
        assert got.difference >= 0


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_loss_is_told_apart_beyond_a_share_of_it(precision) -> None:
    for level in (1e-3, 0.1, 40.0):
        for share, tie in ((0.5, True), (2.0, False)):
            gap = share * DENOISING_RESOLUTION[precision] * level
            loss_ICTN = np.full((1, 2, 4, 3), level)
            loss_ICTN[:, 1] += gap
            evidence = Evidence(timestep_T=np.arange(4), loss_ICTN=loss_ICTN)
            scores = Scores(
                kind="denoising", score_IC=-loss_ICTN.mean(axis=(2, 3)), evidence=evidence, precision=precision
            )
            assert decide(scores).tie == tie, (level, share)


def test_every_judge_says_the_same_of_the_same_scores() -> None:
    for scale in (1e-5, 1e-4, 1.0):
        for _ in range(100):
            scores = similarity(20 + scale * RNG.normal(size=(2, 2)))
            found, said = verdict(scores.score_IC, scores.resolution), judge([scores])
            for metric in METRICS:
                assert said.right[metric][0] == getattr(found, metric)
                assert not (said.right[metric][0] and said.tied[metric][0])
            picks = [decide(scores, image) for image in (0, 1)]
            own = [pick.preferred == image and not pick.tie for image, pick in enumerate(picks)]
            assert said.right["text"][0] == all(own)
            if any(pick.tie for pick in picks):
                assert found.mode == TIE


def test_a_share_lies_between_right_and_right_with_ties() -> None:
    """What the scores were before rounding cannot be right more often than that, nor less often."""
    true = [similarity(20 + 5e-5 * RNG.normal(size=(2, 2))) for _ in range(300)]
    exact = judge_matrices([scores.score_IC for scores in true], [0.0] * len(true))
    said = judge(true)
    for metric in METRICS:
        least, most = said.right[metric].sum(), (said.right[metric] | said.tied[metric]).sum()
        assert least <= exact.right[metric].sum() <= most
        assert least < most


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(2, 2), (1, 2), (1, 5)])
def test_what_is_not_a_number_is_neither_right_nor_tied_nor_counted(bad: float, shape: tuple[int, int]) -> None:
    fine = similarity(np.where(np.eye(*shape) > 0, 9.0, 1.0))
    for place in np.ndindex(shape):
        score_IC = fine.score_IC.copy()
        score_IC[place] = bad
        said = judge([fine, similarity(score_IC), fine])
        assert said.finite.tolist() == [True, False, True]
        assert all(right_E.tolist() == [True, False, True] for right_E in said.right.values())
        assert not any(tied_E.any() for tied_E in said.tied.values())
        assert caveat_counts([fine, similarity(score_IC), fine], said)["not_finite"] == 1


def test_one_image_asks_that_the_first_caption_beats_all_others() -> None:
    assert margins(np.array([[5.0, 3.0, 4.5]])) == {"accuracy": 0.5}
    assert margins(np.array([[5.0]]))["accuracy"] == math.inf
    tied = judge([similarity([[5.0, 5.0 + 5e-5]]), similarity([[5.0, 5.0]]), similarity([[5.0, 5.1]])])
    assert tied.tied["accuracy"].tolist() == [True, True, False]
    for shape in ((2, 3), (3, 2), (0, 2), (2,)):
        with pytest.raises(ValueError, match="score_IC must be of shape"):
            margins(np.zeros(shape))


def test_the_first_timestep_without_a_number_is_named() -> None:
    loss_ICTN = np.full((2, 2, 4, 3), 0.1)
    loss_ICTN[1, 0, 2:, 1] = math.nan
    evidence = Evidence(timestep_T=np.array([100, 300, 500, 700]), loss_ICTN=loss_ICTN)
    scores = Scores(kind="denoising", score_IC=-loss_ICTN.mean(axis=(2, 3)), evidence=evidence)
    assert decide(scores, 0).note != ""
    assert "(timestep 500)" in decide(scores, 1).note
