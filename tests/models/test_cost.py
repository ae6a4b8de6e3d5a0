"""What a model costs: the formula, and that what is measured is what a run then takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL.Image import Image

from sdsdemo.models import cards, cost, open_scorer
from sdsdemo.models.clip import ClipScorer
from sdsdemo.models.cost import Cost, measure
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.settings import budget
from sdsdemo.types import Budget, Scores
from tests.fakes import OneByOne


class Clock:
    """Time that passes only where parts of a model run."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def slow(self, act: Callable[..., Any], seconds: Callable[..., float]) -> Callable[..., Any]:
        """The same function, taking so many seconds."""

        def run(*given: Any, **more: Any) -> Any:
            self.now += seconds(*given)
            return act(*given, **more)

        return run


@pytest.fixture
def slow() -> tuple[DiffusionScorer, Clock]:
    """Mini: 7 s a picture, 0.5 s a caption, 3 s an evaluation."""
    scorer, clock = open_scorer(cards.resolve("mini-diffusion"), device="cpu"), Clock()
    assert isinstance(scorer, DiffusionScorer)
    model: Any = scorer.model
    model.encode_images = clock.slow(model.encode_images, lambda images, *_: 7.0 * len(images))
    model.encode_prompts = clock.slow(model.encode_prompts, lambda prompts: 0.5 * len(prompts))
    model.denoise = clock.slow(model.denoise, lambda noisy_B, *_: 3.0 * len(noisy_B))
    return scorer, clock


def test_a_run_takes_its_loading_pictures_captions_and_evaluations() -> None:
    known = Cost(picture=2.0, caption=0.5, evaluation=0.1, denoises=True, loading=30.0)
    spend = budget(8, 4)
    assert known.seconds(400, spend) == pytest.approx(30 + 400 * (2 * 2.0 + 2 * 0.5 + 4 * 32 * 0.1))
    assert known.seconds(10, spend, pictures=1, captions=5) == pytest.approx(30 + 10 * (2 + 2.5 + 5 * 32 * 0.1))
    assert replace(known, denoises=False).seconds(1, spend) == pytest.approx(30 + 5 + 4 * 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [60.0, 200.0, 5_000.0])
def test_a_slow_denoiser_is_measured_in_its_parts(slow: tuple[DiffusionScorer, Clock], limit: float) -> None:
    scorer, clock = slow
    found = measure(scorer, limit, clock)
    assert (found.picture, found.caption) == pytest.approx((7.0, 0.5))
    assert found.evaluation == pytest.approx(3.0)
    assert clock.now <= limit


def test_the_least_is_measured_where_even_that_takes_too_long(slow: tuple[DiffusionScorer, Clock]) -> None:
    scorer, clock = slow
    assert measure(scorer, 1.0, clock).evaluation == pytest.approx(3.0)
    assert clock.now <= 2 * (7 + 0.5 + 3) + 7 + 0.5


def test_an_estimate_is_what_three_examples_then_take(slow: tuple[DiffusionScorer, Clock]) -> None:
    """With other captions and another budget than what was measured."""
    from sdsdemo.data.benchmarks import read_benchmark

    scorer, clock = slow
    found, spend, start = measure(scorer, 200.0, clock), budget(2, 2), clock.now
    list(scorer.score_examples(read_benchmark("mini-validation")[:3], spend))
    assert found.seconds(3, spend) == pytest.approx(clock.now - start, rel=0.05)


def test_the_towers_of_a_clip_are_measured_apart() -> None:
    scorer, clock = open_scorer(cards.resolve("mini-clip"), device="cpu"), Clock()
    assert isinstance(scorer, ClipScorer)
    model: Any = scorer.model
    model.encode_images = clock.slow(model.encode_images, lambda images, *_: 2.0 + 0.5 * len(images))
    model.encode_texts = clock.slow(model.encode_texts, lambda captions: 0.25 * len(captions))
    found = measure(scorer, 60.0, clock)
    assert found.picture == pytest.approx(0.5 + 2.0 / 6)
    assert found.caption == pytest.approx(0.25)
    assert (found.evaluation, found.denoises) == (0.0, False)
    assert clock.now <= 60.0


def test_any_other_model_is_measured_by_the_pair() -> None:
    clock = Clock()
    asked: list[int] = []

    class Reader(OneByOne):
        card = cards.resolve("smolvlm-256m")

        def score(self, images: Sequence[Image], captions: Sequence[str], budget: Budget) -> Scores:
            asked.append(len(captions))
            clock.now += 4.0 * len(captions)
            return Scores(kind="log-odds", score_IC=torch.zeros(1, 2).numpy(), seconds=0.0)

    found = measure(Reader(), 60.0, clock)
    assert found == Cost(picture=0.0, caption=0.0, evaluation=4.0, denoises=False)
    assert len(asked) == 7
    assert cost.MINUTE == 60.0


@pytest.mark.parametrize("name", ["mini-clip", "mini-diffusion"])
def test_no_clock_is_read_before_the_device_is_done(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread() -> float:
        raise AssertionError("the clock was read without waiting for the device")

    monkeypatch.setattr(cost, "clock_of", lambda device, clock: Clock())
    monkeypatch.setattr(cost, "MOST_REPEATS", 1)
    measure(open_scorer(cards.resolve(name), device="cpu"), clock=unread)
