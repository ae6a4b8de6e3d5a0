"""`torch.compile` is asked for scores alone, is never in the way, and a model is the same with and without it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sdsdemo.app.workbench import Workbench
from sdsdemo.cli.bench_compiled import compiled_as_text, measured_compiled
from sdsdemo.errors import UserError
from sdsdemo.models import cards, compiled, open_scorer
from sdsdemo.models.attention import AttentionReader
from sdsdemo.models.compiled import compile_calls
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.settings import Settings
from sdsdemo.types import Budget
from tests import twins

CAPTIONS = ["a cat on a mat", "a mat on a cat"]
BUDGET = Budget(timesteps=2, noises=2, seed=5)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often compiled code has run: 1 for each of its calls. The compiler is a stand-in that changes nothing."""
    ran: list[int] = []

    def backend(graph: Any, examples: Any) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            ran.append(1)
            return graph.forward(*given)

        return run

    torch._dynamo.reset()
    monkeypatch.setattr(compiled, "BACKEND", backend)
    return ran


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a compiler was asked that is not there."""
    asked: list[int] = []

    def backend(graph: Any, examples: Any) -> Any:
        asked.append(1)
        raise RuntimeError("no working C++ compiler was found\nsearched: cl, g++")

    torch._dynamo.reset()
    monkeypatch.setattr(compiled, "BACKEND", backend)
    return asked


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return twins.sd_folder(tmp_path_factory.mktemp("compiled") / "twin")


def scorer_of(folder: Path, compiles: bool = False) -> DiffusionScorer:
    scorer = open_scorer(cards.resolve(f"diffusers:{folder}"), device="cpu", compiles=compiles)
    assert isinstance(scorer, DiffusionScorer)
    return scorer


def scores_of(scorer: DiffusionScorer) -> np.ndarray:
    return scorer.score([twins.picture()], CAPTIONS, BUDGET).score_IC


@pytest.mark.slow
def test_a_compiled_model_scores_the_same_under_the_same_names(folder: Path, graphs: list[int]) -> None:
    plain, quick = scorer_of(folder), scorer_of(folder, compiles=True)
    assert graphs == []
    np.testing.assert_allclose(scores_of(quick), scores_of(plain), rtol=1e-6)
    assert graphs
    assert quick.model.denoiser.state_dict().keys() == plain.model.denoiser.state_dict().keys()
    assert type(quick.model.denoiser) is type(plain.model.denoiser)
    compared = len(graphs)
    noisy, step = torch.randn(1, *plain.model.latent_shape), torch.tensor([300])
    condition = quick.model.encode_prompts(["a cat"])
    AttentionReader(quick.model).denoise(noisy, step, condition, torch.ones(1, condition.shape[1]) > 0)
    assert len(quick.model.inner_features(noisy, step, condition)) == 1
    assert len(graphs) == compared


@pytest.mark.slow
def test_without_a_compiler_a_model_scores_as_before(
    folder: Path, broken: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    expected, quick = scores_of(scorer_of(folder)), scorer_of(folder, compiles=True)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(scores_of(quick), expected)
        np.testing.assert_array_equal(scores_of(quick), expected)
    (said,) = [record.getMessage() for record in caplog.records if "torch.compile" in record.getMessage()]
    assert "no working C++ compiler" in said
    assert "SDSDEMO_COMPILE=off" in said
    assert "\n" not in said
    assert len(broken) == 1


class Doubling(nn.Module):
    """Twice what it is given, times its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return 2 * given * self.weight


def test_what_asks_for_a_gradient_and_copies_are_not_compiled(graphs: list[int]) -> None:
    module = Doubling()
    compile_calls(module, "twin")
    module(torch.ones(2)).sum().backward()
    with torch.no_grad():
        module(torch.ones(2))
    with torch.inference_mode():
        assert copy.deepcopy(module)(torch.ones(2)).tolist() == [2, 2]
        assert graphs == []
        assert module(torch.ones(2)).tolist() == [2, 2]
    assert graphs == [1]


def test_memory_that_runs_out_is_no_failure_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    module = Doubling()
    compiled = compile_calls(module, "twin")
    compiled._quick = full
    with torch.inference_mode(), pytest.raises(torch.OutOfMemoryError):
        module(torch.ones(2))
    assert compiled.works


def test_an_error_of_the_module_is_not_the_compilers(graphs: list[int]) -> None:
    module = nn.Linear(3, 1)
    found = compile_calls(module, "twin")
    with torch.inference_mode(), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        module(torch.ones(1, 2))
    assert found.works


@pytest.mark.parametrize(("value", "expected"), [("", False), ("off", False), ("On", True)])
def test_the_setting_decides_whether_a_denoiser_is_compiled(
    value: str, expected: bool, folder: Path, graphs: list[int]
) -> None:
    scorer = Workbench(Settings.from_environment({"SDSDEMO_COMPILE": value})).scorer(f"diffusers:{folder}")
    assert isinstance(scorer, DiffusionScorer)
    assert (scorer.model.denoiser._compiled_call_impl is not None) is expected


def test_a_setting_that_there_is_not_is_named() -> None:
    with pytest.raises(UserError, match="SDSDEMO_COMPILE must be on or off"):
        Settings.from_environment({"SDSDEMO_COMPILE": "fast"})


class Clock:
    """Time passes in the loop alone: by the first call of compiled code, by each of it, and by each plain one."""

    def __init__(self, first: float, quick: float, plain: float) -> None:
        self.first, self.quick, self.plain = first, quick, plain
        self.now, self.called = 0.0, False

    def __call__(self) -> float:
        return self.now

    def loop_of(self, module: Doubling) -> Callable[[], None]:
        def loop() -> None:
            compiled: Any = module._compiled_call_impl
            if compiled.is_on:
                self.now += self.quick if self.called else self.first
                self.called = True
            else:
                self.now += self.plain

        return loop


def test_the_bench_says_after_how_many_evaluations_it_pays() -> None:
    """Four evaluations take 4 s, compiled 3 s, and the first time 53 s: 50 s more, at a gain of 0.25 s each."""
    module, clock = Doubling(), Clock(first=53.0, quick=3.0, plain=4.0)
    found = measured_compiled(module, clock.loop_of(module), 4, 2, lambda line: None, clock)
    assert (found["compile_seconds"], found["pays_after"]) == (50.0, 200)
    assert found["plain_over_compiled"]["median"] == pytest.approx(4 / 3, abs=1e-4)
    assert "it pays after 200 evaluations, 4 answers of two captions" in compiled_as_text(found)
    assert "without it 1.000 s" in compiled_as_text(found)


def test_the_bench_says_where_it_gains_nothing_or_does_not_work(broken: list[int]) -> None:
    module, clock = Doubling(), Clock(first=53.0, quick=4.0, plain=4.0)
    found = measured_compiled(module, clock.loop_of(module), 4, 2, lambda line: None, clock)
    assert found["pays_after"] is None
    assert "it gains nothing here" in compiled_as_text(found)

    def loop() -> None:
        with torch.inference_mode():
            module(torch.ones(2))

    found = measured_compiled(module, loop, 4, 2, lambda line: None, clock)
    assert found == {"works": False}
    assert "does not work here" in compiled_as_text(found)
