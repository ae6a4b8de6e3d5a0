"""A model that is slow here is measured, and the time it needs is said before it scores."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.time_needed import time_needed
from sdsdemo.models import cards, cost
from sdsdemo.models.cost import Cost
from sdsdemo.settings import budget


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model takes 2 s a picture, 1 s a caption and 9 s an evaluation."""
    found = Cost(picture=2.0, caption=1.0, evaluation=9.0, denoises=True)
    monkeypatch.setattr(cost, "measure", lambda scorer: found)


@pytest.mark.slow
def test_the_time_is_that_of_these_examples_at_this_budget() -> None:
    scorer: Any = SimpleNamespace(card=cards.resolve("sd-v1-4"))
    pairs, one = read_benchmark("mini-validation")[:10], read_benchmark("mini-orders")[:10]
    assert "about 3.2 h on this machine for 10 examples" in time_needed(scorer, pairs, budget(8, 4))
    assert "about 4.0 h on this machine for 10 examples" in time_needed(scorer, one, budget(8, 4))
    assert "for 10 examples at most: 9 s an evaluation" in time_needed(scorer, pairs, budget(8, 16, adaptive=True))


def test_only_a_slow_model_is_measured_before_it_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    asked: dict[str, Any] = {"workbench": Workbench(), "budget": budget(1, 2), "limit": 2, "remark": said.append}
    evaluate("mini-validation", ["mini-diffusion"], **asked)
    assert not [line for line in said if "measured just now" in line]
    monkeypatch.setattr(cards, "is_slow", lambda card: True)
    evaluate("mini-validation", ["mini-diffusion"], **asked)
    (line,) = [line for line in said if "measured just now" in line]
    assert "for 2 examples" in line
