"""How a run ends: what an interrupted or stopped one leaves, and what its next part takes over."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sdsdemo.app.workbench import Workbench
from sdsdemo.cli import main as cli
from sdsdemo.errors import UserError
from sdsdemo.finetuning import before_after, checkpoints, console_report
from sdsdemo.finetuning.checkpoints import trained_weights
from sdsdemo.finetuning.estimate import estimate
from sdsdemo.finetuning.events import Done, Event, Notice, Step
from sdsdemo.finetuning.objectives import Batch, Objective
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.run_folder import LOG, FineTuningFolder
from sdsdemo.finetuning.training import HALVED
from sdsdemo.mini.experiments.draw_assets import write_benchmark
from sdsdemo.models.delta import read_header
from sdsdemo.runtime import distributed
from sdsdemo.runtime.distributed import Processes
from sdsdemo.settings import Settings
from tests.finetuning.runs import TINY

Finetune = Callable[..., Iterator[Event]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finetune:
    """Begins or resumes the run in `tmp_path / "run"`."""
    monkeypatch.setattr(before_after, "ZERO_SHOT", 6)
    monkeypatch.setattr(before_after, "RETRIEVAL", (1, 5))
    write_benchmark(tmp_path / "small", seed=3, split="validation", count=7)
    recipe = Recipe(
        objective="clip", steps=6, batch=4, pool=16, warm_up=1, keep_every=2, measure=f"folder:{tmp_path}/small"
    )
    workbench = Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(tmp_path / "cache")}))

    def go(*, resume: bool = False, seconds: float | None = None, **changes: Any) -> Iterator[Event]:
        asked = replace(recipe, **changes)
        return finetune(asked, tmp_path / "run", workbench=workbench, resume=resume, seconds=seconds)

    return go


def kill_at(events: Any, step: int) -> None:
    """Closes the generator there, so that nothing is written any more."""
    next(event for event in events if isinstance(event, Step) and event.step == step)
    events.close()


def end_of(events: Iterator[Event]) -> Done:
    *_, last = events
    assert isinstance(last, Done)
    return last


def test_a_resume_stopped_in_preparation_keeps_what_was_learned_last(start: Finetune, tmp_path: Path) -> None:
    folder = FineTuningFolder(tmp_path / "run")
    for event in start():
        if isinstance(event, Step) and event.step == 3:
            folder.ask_to_stop()
    assert read_header(folder.model)["steps_done"] == 3
    kill_at(start(resume=True), 5)
    assert folder.read()["state"] == "interrupted"
    events = start(resume=True)
    next(events)
    folder.ask_to_stop()
    end = end_of(events)
    assert (end.state, end.record["steps_done"]) == ("stopped", 4)
    assert read_header(folder.model)["steps_done"] == 4


def test_steps_that_are_made_again_have_one_line_in_the_log(start: Finetune, tmp_path: Path) -> None:
    kill_at(start(), 3)
    kill_at(start(resume=True), 3)
    rows = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert [row["step"] for row in rows if "what" not in row] == [1, 2, 3]


def test_how_one_part_of_a_run_ended_is_not_said_of_the_next(start: Finetune, tmp_path: Path) -> None:
    assert end_of(start(seconds=0.0)).record["out_of_time"]
    assert "out_of_time" in FineTuningFolder(tmp_path / "run").read()
    end = end_of(start(resume=True))
    assert end.state == "finished"
    assert "out_of_time" not in end.record
    assert "out_of_time" not in FineTuningFolder(tmp_path / "run").read()


@pytest.mark.parametrize("times", [1, 9])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), RuntimeError("MPS backend out of memory")])
def test_short_memory_halves_the_micro_batches_once_and_is_said(
    start: Finetune, monkeypatch: pytest.MonkeyPatch, times: int, error: Exception
) -> None:
    step, parts = Objective.__call__, []

    def short(objective: Objective, number: int) -> Any:
        parts.append(objective.parts)
        assert len(parts) <= 8, "it is tried for ever"
        if len(parts) <= times:
            raise error
        return step(objective, number)

    monkeypatch.setattr(Objective, "__call__", short)
    events = list(start())
    end = end_of(iter(events))
    assert parts[:2] == [1, 2]
    said = [event.text for event in events if isinstance(event, Notice)].count(HALVED)
    if times == 1:
        assert (end.state, end.record["halved"], said, set(parts[1:])) == ("finished", True, 1, {2})
    else:
        assert (end.state, said, parts) == ("failed", 0, [1, 2])
        assert "--micro-batch" in end.reason


@pytest.mark.slow
@pytest.mark.parametrize("fits", [2, 0])
def test_short_memory_halves_the_controls_or_leaves_them_out(
    start: Finetune, monkeypatch: pytest.MonkeyPatch, fits: int
) -> None:
    """fits: rows that the device holds with a gradient; with 0, it holds those of a step alone."""
    sds, of_controls = Objective.sds, []

    def short(objective: Objective, batch: Batch, rows: slice, read_R: Tensor, step: int) -> Tensor:
        is_control, count = batch.token_RL is None, rows.stop - rows.start
        of_controls.extend([count] if is_control else [])
        if count > fits and (fits or is_control):
            raise torch.OutOfMemoryError
        return sds(objective, batch, rows, read_R, step)

    monkeypatch.setattr(Objective, "sds", short)
    events = list(start(objective="sds", fitted_on=8))
    end = end_of(iter(events))
    assert end.state == "finished"
    said = [event.text for event in events if isinstance(event, Notice)]
    left_out = [text for text in said if "left out at step" in text]
    if fits:
        assert of_controls == [4, 2, 2, 2, 2] + 2 * [2, 2, 2, 2]
        assert (set(end.record["controls"]), left_out) == ({"0", "3", "6"}, [])
    else:
        assert of_controls == 3 * [4, 2, 1]
        assert ("controls" not in end.record, len(left_out)) == (True, 3)


@pytest.mark.slow
@pytest.mark.parametrize("last", [False, True])
def test_a_teacher_that_overflows_ends_the_run_with_its_weights(
    start: Finetune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: bool
) -> None:
    """last: only the controls after the last step are no numbers; else everything."""
    sds, trained = Objective.sds, list[int]()

    def overflowing(objective: Objective, batch: Batch, rows: slice, read_R: Tensor, step: int) -> Tensor:
        is_control = batch.token_RL is None
        trained.extend([] if is_control else [step])
        loss = sds(objective, batch, rows, read_R, step)
        return loss if last and not (is_control and len(trained) == 6) else loss * math.nan

    monkeypatch.setattr(Objective, "sds", overflowing)
    end = end_of(start(objective="sds", fitted_on=8))
    assert end.state == ("finished" if last else "failed")
    assert ("lower learning rate" in end.reason) != last
    controls = read_header(tmp_path / "run" / "model.safetensors")["controls"]
    assert controls["6" if last else "0"]["gradient on CLIP"] is None
    assert controls["0"]["student"] > 0
    json.dumps(end.record, allow_nan=False)


@pytest.mark.parametrize("state", ["failed", "running"])
def test_a_process_that_fails_beside_the_main_one_ends_with_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    """state: of the run in the main process: all have failed, or it waits for the one that has."""
    monkeypatch.setattr(distributed, "find", lambda: Processes(index=1, count=2))
    ended = Done(state="failed", record={"state": "running"}, reason="The stream broke off.")
    monkeypatch.setattr(console_report, "finetune", lambda *given, **named: iter([ended]))
    monkeypatch.setattr(FineTuningFolder, "exists", True)
    monkeypatch.setattr(FineTuningFolder, "read", lambda folder: {"state": state})
    monkeypatch.setattr(console_report, "MAIN_WRITES", 60.0 if state == "failed" else 0.0)
    if state == "failed":
        monkeypatch.setattr(console_report.time, "sleep", lambda _: pytest.fail("there is nothing to wait for"))
    assert cli.main(["finetune", "--json", "--out", str(tmp_path / "run")]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert "The stream broke off." in error


def test_the_average_is_the_weights_after_the_last_step_alone(tmp_path: Path) -> None:
    path, last, average = tmp_path / "a.run", torch.ones(2), torch.zeros(2)
    state = {"done": 3, "parameters": {"w": last}, "average": {"w": average}, "optimiser": {"state": {}}}
    checkpoints.save(path, state)
    assert torch.equal(trained_weights(path, steps=3)["w"], average)
    assert torch.equal(trained_weights(path, steps=4)["w"], last)


def test_what_short_memory_asks_for_continues_the_run(start: Finetune, monkeypatch: pytest.MonkeyPatch) -> None:
    step, tried = Objective.__call__, []

    def short(objective: Objective, number: int) -> Any:
        tried.append(objective.parts)
        if objective.parts < 4 and number:
            raise torch.OutOfMemoryError
        return step(objective, number)

    monkeypatch.setattr(Objective, "__call__", short)
    end = end_of(start())
    assert (end.state, end.record["steps_done"], end.record["parts"]) == ("failed", 1, 2)
    assert end_of(start(resume=True, micro_batch=1, keep_every=7, measure_every=2)).state == "finished"
    assert tried[:3] == [1, 1, 2]
    assert set(tried[3:]) == {4}


def test_a_first_step_without_memory_leaves_the_folder_free(start: Finetune, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(objective: Objective, number: int) -> Any:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Objective, "__call__", short)
        assert end_of(start()).state == "failed"
    assert end_of(start(trained="all")).state == "finished"


def test_an_estimate_goes_on_or_says_why_as_the_run_would(monkeypatch: pytest.MonkeyPatch) -> None:
    step, parts = Objective.__call__, []

    def short(objective: Objective, number: int) -> Any:
        parts.append(objective.parts)
        if objective.parts == 1 or fails:
            raise torch.OutOfMemoryError
        return step(objective, number)

    monkeypatch.setattr(Objective, "__call__", short)
    fails, recipe = False, replace(TINY, objective="clip")
    assert estimate(recipe, Workbench()).step > 0
    assert parts == [1, 2, 2, 2, 2]
    fails = True
    with pytest.raises(UserError, match="--micro-batch"):
        estimate(recipe, Workbench())
