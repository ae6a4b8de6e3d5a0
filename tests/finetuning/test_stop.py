"""Stop: obeyed at once in every phase, and nothing that was trained or measured is lost."""

from __future__ import annotations

import math
import random
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sdsdemo.app.workbench import Workbench
from sdsdemo.finetuning import before_after, run_record
from sdsdemo.finetuning.events import Done, Evaluated, Event, Notice, Step, WeightsSaved, Working
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.run_folder import FineTuningFolder
from tests.finetuning.runs import TINY, done, tensors

pytestmark = pytest.mark.usefixtures("small_sets")


def test_a_stop_while_the_teacher_is_asked_is_obeyed_and_the_file_loads(
    run: Any, tmp_path: Path, workbench: Workbench
) -> None:
    events = run(objective="preference", stop_at=lambda event: isinstance(event, Working) and "teacher" in event.text)
    assert done(events).state == "stopped"
    assert not any(isinstance(event, Step) for event in events)
    assert any(isinstance(event, WeightsSaved) for event in events)
    assert workbench.scorer(f"sds-clip:{tmp_path / 'run' / 'model.safetensors'}")


def test_a_stop_during_an_evaluation_is_obeyed_at_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(before_after, "AT_ONCE", 1)
    monkeypatch.setattr("sdsdemo.finetuning.ending.EVALUATION_AFTER_STOP", math.inf)
    opened: list[str] = []
    whole = before_after.Evaluator._input

    def counted(self: Any, key: str, picture: Any) -> Any:
        opened.append(key)
        return whole(self, key, picture)

    monkeypatch.setattr(before_after.Evaluator, "_input", counted)
    before = run(
        "before", objective="clip", stop_at=lambda event: isinstance(event, Working) and "evaluation" in event.text
    )
    assert done(before).state == "stopped"
    assert opened == []
    on_the_way = run("way", objective="clip", stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    assert done(on_the_way).state == "stopped"
    assert [event.step for event in on_the_way if isinstance(event, Evaluated)] == [
        0,
        3,
    ]  # the last one is the look after


def test_a_stop_before_the_run_has_begun_is_obeyed(tmp_path: Path, benchmark: str, workbench: Workbench) -> None:
    (tmp_path / "run").mkdir()
    FineTuningFolder(tmp_path / "run").ask_to_stop()
    recipe = replace(TINY, objective="clip", measure=benchmark)
    events = list(finetune(recipe, tmp_path / "run", workbench=workbench))
    assert done(events).state == "stopped"
    assert not any(isinstance(event, Step) for event in events)


def test_an_old_wish_to_stop_does_not_stop_the_run_that_goes_on(run: Any, tmp_path: Path) -> None:
    run(objective="clip", stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    FineTuningFolder(tmp_path / "run").ask_to_stop()
    assert done(run(objective="clip", resume=True)).state == "finished"


@pytest.mark.parametrize("after", [Step, WeightsSaved, Evaluated])
def test_a_stop_after_the_last_step_is_no_finished_run(run: Any, tmp_path: Path, after: type) -> None:
    made: list[int] = []

    def late(event: Event) -> bool:
        made.append(event.step) if isinstance(event, Step) else None
        return made[-1:] == [6] and isinstance(event, after)

    assert done(run(objective="clip", stop_at=late)).state == "stopped"
    record = FineTuningFolder(tmp_path / "run").read()
    assert (record["state"], record["steps_done"]) == ("stopped", 6)
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert done(run(objective="clip", resume=True)).state == "finished"


def test_a_slow_evaluation_after_a_stop_is_skipped_and_said(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.finetuning.ending.EVALUATION_AFTER_STOP", -1.0)
    events = run(objective="clip", stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    assert done(events).state == "stopped"
    assert "measured" not in done(events).record
    assert any(isinstance(event, Notice) and "not measured" in event.text for event in events)


@pytest.mark.parametrize("phase", ["loading", "reading", "baseline evaluation"])
def test_a_stop_before_a_run_goes_on_keeps_its_weights(run: Any, tmp_path: Path, phase: str) -> None:
    run(objective="clip", stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    kept = (tmp_path / "run" / "model.safetensors").read_bytes()
    events = run(
        objective="clip", resume=True, stop_at=lambda event: isinstance(event, Working) and phase in event.text
    )
    assert (done(events).state, done(events).record["steps_done"]) == ("stopped", 3)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == kept
    assert not any(isinstance(event, Evaluated) and event.step for event in events)
    again = run(objective="clip", resume=True)
    assert [event.step for event in again if isinstance(event, Step)] == [4, 5, 6]


@pytest.mark.slow
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("changes", [{"objective": "sds"}, {"objective": "clip", "wise_ft": 0.5, "ema": 0.9}])
def test_a_stop_before_a_killed_run_goes_on_writes_its_weights(
    run: Any, tmp_path: Path, before: int, changes: dict[str, Any], benchmark: str, workbench: Workbench
) -> None:
    """before: the step that a part before the killed one was stopped at."""
    run("stopped", **changes, stop_at=lambda event: isinstance(event, Step) and event.step == 4)
    if before:
        run(**changes, stop_at=lambda event: isinstance(event, Step) and event.step == before)
    recipe = replace(TINY, measure=benchmark, keep_every=2, **changes)
    killed = finetune(recipe, tmp_path / "run", workbench=workbench, resume=bool(before))
    next(event for event in killed if isinstance(event, Step) and event.step == 5)
    killed.close()
    ended = done(run(**changes, keep_every=2, resume=True, stop_at=lambda event: isinstance(event, Working)))
    assert (ended.state, ended.record["steps_done"]) == ("stopped", 4)
    cut, stopped = tensors(tmp_path / "run"), tensors(tmp_path / "stopped")
    assert cut.keys() == stopped.keys()
    assert all(torch.equal(cut[name], stopped[name]) for name in stopped)


def test_the_time_of_a_killed_part_counts(
    run: Any, tmp_path: Path, benchmark: str, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, ahead = replace(TINY, objective="clip", measure=benchmark, keep_every=2), 0.0
    monkeypatch.setattr(run_record, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead))
    for event in (killed := finetune(recipe, tmp_path / "run", workbench=workbench)):
        if isinstance(event, Step) and event.step == 2:
            ahead = 1_000.0
        if isinstance(event, Step) and event.step == 3:
            break
    killed.close()
    assert done(run(objective="clip", keep_every=2, resume=True)).record["seconds"] > 1_000


@pytest.mark.slow
@pytest.mark.parametrize("phase", [Working, Evaluated, Notice])
def test_a_stop_before_more_steps_keeps_what_was_measured(run: Any, tmp_path: Path, phase: type) -> None:
    run(objective="sds")
    kept = FineTuningFolder(tmp_path / "run")
    record, model = kept.read(), kept.model.read_bytes()
    last = done(run(objective="sds", steps=9, resume=True, stop_at=lambda event: isinstance(event, phase)))
    assert (last.state, kept.read(), kept.model.read_bytes()) == ("stopped", record, model)
    assert done(run(objective="sds", steps=9, resume=True)).record["steps_done"] == 9


STOPS = 10
MOST_STEPS = 1
"""Steps that may end after the wish to stop: the one in progress."""
LATE = 0.02
"""Seconds within which the wish follows an event, so that it falls between two."""


def stopped_after(recipe: Recipe, out: Path, workbench: Workbench, *, events: int, seconds: float) -> tuple[str, int]:
    """A run that is stopped so long after so many events: its state, and how many steps ended after the wish."""
    asked = threading.Event()

    def ask() -> None:
        FineTuningFolder(out).ask_to_stop()
        asked.set()

    timer, late = threading.Timer(seconds, ask), 0
    for number, last in enumerate(finetune(recipe, out, workbench=workbench), 1):
        late += asked.is_set() and isinstance(last, Step)
        if number == events:
            timer.start()
    timer.join()
    assert isinstance(last, Done)
    return last.state, late


@pytest.mark.slow
@pytest.mark.long
def test_a_stop_at_any_moment_is_quick_and_costs_no_weight(
    tmp_path: Path, benchmark: str, workbench: Workbench
) -> None:
    """A stop near the end may come too late: then the run has finished."""
    recipe, draw = replace(TINY, measure=benchmark, fitted_on=64), random.Random(3)
    whole = len([*finetune(recipe, tmp_path / "straight", workbench=workbench)])
    expected = tensors(tmp_path / "straight")
    states = []
    for number in range(STOPS):
        out = tmp_path / f"cut {number}"
        events = 1 + int((whole - 1) * (number + draw.random()) / STOPS)
        state, late = stopped_after(recipe, out, workbench, events=events, seconds=LATE * draw.random())
        states.append(state)
        assert state in ("stopped", "finished")
        assert late <= MOST_STEPS
        *_, last = finetune(recipe, out, workbench=workbench, resume=True)
        assert isinstance(last, Done)
        assert last.state == "finished"
        found = tensors(out)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found), number
    assert states.count("stopped") > STOPS // 2
