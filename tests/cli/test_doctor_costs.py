"""`doctor --model`: an estimate of what a benchmark takes, of weights or of their shape. Measures for moments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.cli import doctor_costs
from sdsdemo.cli.doctor_costs import as_text, estimate
from sdsdemo.cli.main import main
from sdsdemo.errors import UserError
from sdsdemo.models import random_weights
from sdsdemo.models.cost import Cost
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.types import Scorer
from tests.cli.test_bench_shapes import SMALL


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Scorer]:
    """The scorers that were measured, each of which costs 2 s a picture, 1 s a caption, 0.5 s an evaluation."""
    found: list[Scorer] = []

    def measure(scorer: Scorer, limit: float) -> Cost:
        found.append(scorer)
        return Cost(picture=2.0, caption=1.0, evaluation=0.5, denoises=scorer.card.family == "diffusion")

    monkeypatch.setattr(doctor_costs, "measure", measure)
    return found


def test_a_run_is_estimated_at_the_default_budget(measured: list[Scorer]) -> None:
    found = json.loads(json.dumps(estimate("mini-diffusion", Workbench(), examples=10)))
    assert (found["pairs"], found["evaluations"], found["random_weights"]) == (40, 32, False)
    assert found["seconds"] == pytest.approx(10 * (4 + 2 + 4 * 32 * 0.5) + found["cost"]["loading"], abs=1)
    assert [scorer.card.name for scorer in measured] == ["mini-diffusion"]
    assert "10 examples of two pictures and two captions, 32 evaluations a pair: about 12 min" in as_text(found, 200)
    assert estimate("mini-clip", Workbench())["evaluations"] == 1


def test_a_model_whose_weights_are_not_here_is_measured_by_its_shape(
    measured: list[Scorer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape: dict[str, Any] = json.loads((random_weights.SHAPES / "sd-v1-4.json").read_text())
    for part, changes in SMALL.items():
        shape["parts"][part]["config"] |= changes
    (tmp_path / "small.json").write_text(json.dumps(shape))
    monkeypatch.setattr(random_weights, "SHAPES", tmp_path)
    for name in ("sd-v1-4", "sd-v1-5", "small"):
        found = estimate(name, Workbench())
        assert found["random_weights"]
        assert "random weights of its shape" in as_text(found, 80)
    assert [scorer.model.pixels for scorer in measured if isinstance(scorer, DiffusionScorer)] == [64] * 3


def test_a_model_without_weights_and_shape_is_a_sentence(measured: list[Scorer]) -> None:
    with pytest.raises(UserError, match=r"fetch clip-rn50.*sd-v1-4"):
        estimate("clip-rn50", Workbench())
    with pytest.raises(UserError, match="no model called 'sd-v9'"):
        estimate("sd-v9", Workbench())
    assert not measured


def test_the_command_counts_examples_only_for_an_estimate(
    measured: list[Scorer], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--model", "mini-clip", "--examples", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 7
    assert main(["doctor", "--examples", "7"]) == 2
    assert "name a model with --model" in capsys.readouterr().err
    assert main(["doctor", "--model", "mini-clip", "--examples", "0"]) == 2
