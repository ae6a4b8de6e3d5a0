"""The bench: what it times answers the question, and its ratios are those of the seconds. Times nothing itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.cli import bench as bench_module
from sdsdemo.cli import bench_noise, bench_precision
from sdsdemo.cli.bench import answer, as_text, bench, floor, plain
from sdsdemo.cli.bench_precision import compare_precisions, differing, what_differs
from sdsdemo.core.decision import decide
from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.settings import budget
from sdsdemo.types import Budget, Preference, Scorer

SPEND = budget(3, 2, 0)


@pytest.fixture(autouse=True)
def _few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What noise saves is measured on one picture."""
    monkeypatch.setattr(bench_noise, "PICTURES", 1)


@pytest.fixture(scope="module")
def scorer() -> DiffusionScorer:
    found = open_scorer(cards.resolve(bench_module.CARD), device="cpu")
    assert isinstance(found, DiffusionScorer)
    return found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "budget", lambda: SPEND)
    few = {name: replace(recipe, batch=4, pool=8, fitted_on=8) for name, recipe in bench_module.TRAINED.items()}
    monkeypatch.setattr(bench_module, "TRAINED", few)
    monkeypatch.setattr(bench_module, "EXAMPLES", 4)
    monkeypatch.setattr(bench_module, "rates", lambda repeats, **_: {1: [100.0] * repeats, 2: [190.0] * repeats})
    monkeypatch.setattr(bench_module, "growths_mb", lambda: {"clip": 20.0, "denoiser": 30.0})


@pytest.mark.slow
def test_ratios_are_those_of_the_seconds_of_one_turn() -> None:
    result = bench(repeats=3, clock=_clock_of((2.0, 1.0, 10.0, 3.0, 2.5)))
    assert result["ratios"]["over_floor_mini"] == {"median": 2.0, "low": 2.0, "high": 2.0, "repeats": 3}
    assert result["ratios"]["plain_over_ours"] == {"median": 5.0, "low": 5.0, "high": 5.0, "repeats": 3}
    assert result["ratios"]["shown_over_ours"] == {"median": 1.5, "low": 1.5, "high": 1.5, "repeats": 3}
    assert result["ratios"]["shown, one timestep_over_ours"]["median"] == 1.25
    assert result["ratios"]["two_processes"] == {"median": 1.9, "low": 1.9, "high": 1.9, "repeats": 3}
    assert result["ratios"]["growth_over_50_mb_denoiser"]["median"] == 0.6
    assert all(set(found) == {"median", "low", "high", "repeats"} for found in result["ratios"].values())


def test_memory_is_measured_from_the_smallest_micro_batch_on(scorer: DiffusionScorer, tmp_path: Path) -> None:
    question, usual = bench_module.make_question(tmp_path), scorer.micro_batch
    sizes = calls_of(scorer, lambda: bench_module.peak_by_micro_batch(scorer, question))
    assert sizes == [1] * 12 + [6, 6] * 2  # a call keeps to one caption, whose evaluations are 6
    assert scorer.micro_batch == usual


def test_the_steps_are_of_the_declared_objectives_and_go_on() -> None:
    paths = bench_module.steppers()
    assert list(paths) == ["sds", "preference", "preference, text"]
    for path in paths.values():
        assert [path().step for _ in range(3)] == [1, 2, 3]
    assert "sds" in paths["sds"]().losses
    assert "labels" in paths["preference, text"]().losses


def _clock_of(seconds: tuple[float, ...]) -> Callable[[], float]:
    """A clock under which the paths of a measured turn take these seconds, and an unmeasured turn is not asked."""
    state = {"now": 0.0, "calls": 0, "warming": len(seconds)}

    def clock() -> float:
        if state["warming"]:
            state["warming"] -= 1
            return 0.0
        path, end = divmod(state["calls"], 2)
        state["calls"] += 1
        if end:
            state["now"] += seconds[path % len(seconds)]
        return state["now"]

    return clock


def calls_of(scorer: DiffusionScorer, path: Callable[[], object]) -> list[int]:
    """Samples of each call of the denoiser while `path` runs."""
    sizes: list[int] = []
    hook = scorer.model.denoiser.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    path()
    hook.remove()
    return sizes


def test_the_three_paths_do_the_same_work(scorer: DiffusionScorer, tmp_path: Path) -> None:
    question = bench_module.make_question(tmp_path)
    ours = calls_of(scorer, lambda: answer(scorer, question))
    assert ours == calls_of(scorer, floor(scorer, SPEND))
    assert calls_of(scorer, lambda: plain(scorer, question)) == [1] * sum(ours)
    assert sum(ours) == 2 * SPEND.evaluations


def test_showing_costs_one_evaluation_a_timestep_more(scorer: DiffusionScorer, tmp_path: Path) -> None:
    question = bench_module.make_question(tmp_path)
    for free in (0.0, 600.0):
        calls = calls_of(scorer, partial(bench_module.shown, scorer, question, free=free))
        assert sum(calls) == 2 * SPEND.evaluations + SPEND.timesteps


def test_the_plain_path_gives_our_answer(scorer: DiffusionScorer, tmp_path: Path) -> None:
    question = bench_module.make_question(tmp_path)
    assert plain(scorer, question) == answer(scorer, question)


@pytest.mark.slow
def test_the_result_is_json_and_reads_as_text() -> None:
    result = bench(repeats=1)
    assert json.loads(json.dumps(result))["evaluations"] == 2 * SPEND.evaluations
    text = as_text(result)
    for word in (
        "over_floor_mini",
        "plain_over_ours",
        "peak memory",
        "shipped weights",
        "sds_over_preference, text",
        "shown_over_ours",
        "two_processes",
        "peak memory by micro-batch",
        "bfloat16 prefers another caption than float32 in 0 of 4 examples",
    ):
        assert word in text


def test_an_example_whose_preferred_caption_changes_is_counted() -> None:
    def said(*chosen: int, decided: bool = True) -> list[Preference]:
        return [Preference(preferred=c, difference=0.1, stderr=0.1, decided=decided) for c in chosen]

    assert what_differs(said(0, 1, 1), said(0, 1, 1)) == {"examples": 3, "differ": 0, "of_them_decided": 0}
    found = what_differs([*said(0, 1), *said(0, decided=False)], said(0, 0, 1))
    assert found == {"examples": 3, "differ": 2, "of_them_decided": 1}
    assert differing(found).endswith("in 2 of 3 examples, 1 of which were decided")


def test_both_precisions_are_asked_the_same_and_timed_in_as_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[list[str]]] = {}
    monkeypatch.setattr(bench_precision, "_ask", lambda scorer, question, spend: _note(asked, scorer, question, spend))
    found, seconds = compare_precisions(bench_module.CARD, repeats=2, examples=6, spend=SPEND)
    assert found["examples"] == 6
    assert {name: len(parts) for name, parts in seconds.items()} == {"float32": 2, "bfloat16": 2}
    assert asked["float32"] == asked["bfloat16"]
    assert len(asked["float32"]) == 6


def _note(asked: dict[str, list[list[str]]], scorer: Scorer, question: tuple[Any, list[str]], spend: Budget) -> Any:
    scores = scorer.score([question[0]], question[1], spend)
    asked.setdefault(scores.precision, []).append(question[1])
    return decide(scores)


def test_no_repeat_at_all_is_a_sentence() -> None:
    with pytest.raises(UserError, match="at least 1"):
        bench(repeats=0)
