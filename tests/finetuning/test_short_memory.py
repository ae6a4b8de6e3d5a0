"""Short memory: in a step, an evaluation or a model that is loaded, of one process or several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import ProcessFailedError
from sdsdemo.finetuning.before_after import Evaluator
from sdsdemo.finetuning.ending import NO_MEMORY_TO_MEASURE
from sdsdemo.finetuning.events import Evaluated, Notice
from sdsdemo.finetuning.objectives import Objective
from sdsdemo.finetuning.run import NO_MEMORY, finetune
from sdsdemo.runtime.distributed import Processes
from tests.finetuning.runs import TINY, done

pytestmark = pytest.mark.usefixtures("small_sets")


def test_a_gpu_that_is_full_once_halves_the_micro_batch_and_says_so(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = Objective.__call__, []

    def crowded(self: Objective, step: int) -> Iterator[Any]:
        asked.append(self.parts)
        if self.parts == 1:
            raise torch.OutOfMemoryError
        return whole(self, step)

    monkeypatch.setattr(Objective, "__call__", crowded)
    events = run(objective="clip")
    assert done(events).state == "finished"
    assert asked[:2] == [1, 2]
    assert sum("half as large" in event.text for event in events if isinstance(event, Notice)) == 1


def test_each_resume_halves_the_micro_batches_once_more(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = Objective.__call__, list[int]()

    def crowded(self: Objective, step: int) -> Iterator[Any]:
        asked.append(self.parts)
        if step >= 2 and self.parts < 8:
            raise torch.OutOfMemoryError
        return whole(self, step)

    monkeypatch.setattr(Objective, "__call__", crowded)
    states = [done(run(objective="clip", batch=8, resume=resume)).state for resume in (False, True, True)]
    assert states == ["failed", "failed", "finished"]
    assert list(dict.fromkeys(asked)) == [1, 2, 4, 8]


def full_at(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    """Memory runs out in the evaluation of that number: 0 of the base, 1 on the way, 2 at the end."""
    whole, calls = Evaluator.evaluate, []

    def crowded(self: Evaluator, *given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == which + 1:
            raise torch.OutOfMemoryError
        return whole(self, *given, **named)

    monkeypatch.setattr(Evaluator, "evaluate", crowded)


def test_a_model_that_does_not_fit_is_told_and_leaves_its_folder_free(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        full_at(patch, 0)
        last = done(run(objective="clip"))
    assert (last.state, last.reason) == ("failed", NO_MEMORY)
    assert done(run(objective="clip", batch=2, steps=0)).state == "finished"


def test_an_evaluation_without_memory_is_left_out_and_said(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    full_at(monkeypatch, 1)
    events = run(objective="clip")
    assert done(events).state == "finished"
    assert [event.step for event in events if isinstance(event, Evaluated)] == [0, 6]
    assert any("step 3 is left out" in event.text for event in events if isinstance(event, Notice))


def test_a_last_evaluation_without_memory_is_made_up_by_a_resume(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        full_at(patch, 2)
        events = run(objective="clip")
    assert done(events).state == "stopped"
    assert Notice(text=NO_MEMORY_TO_MEASURE) in events
    last = done(run(objective="clip", resume=True))
    assert (last.state, "measured" in last.record) == ("finished", True)


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_of_several_without_memory_ends_with_a_sentence(
    tmp_path: Path, benchmark: str, workbench: Workbench, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    asked: list[int] = []

    def crowded(self: Objective, step: int) -> Iterator[Any]:
        asked.append(step)
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Objective, "__call__", crowded)
    recipe = replace(TINY, objective="clip", measure=benchmark)
    two = Processes(index=index, count=2)
    with pytest.raises(ProcessFailedError, match="--micro-batch"):
        list(finetune(recipe, tmp_path / "run", workbench=workbench, processes=two))
    assert asked == [0]
