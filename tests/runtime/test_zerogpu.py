"""On ZeroGPU a function is decorated, with its seconds; anywhere else it is left alone."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sdsdemo.core.intervals import proportion
from sdsdemo.finetuning.events import Done, Evaluated, Notice, Step, WeightsSaved, Working
from sdsdemo.finetuning.recipe import PRESETS
from sdsdemo.runtime import zerogpu
from sdsdemo.settings import Settings
from tests import spaces_stand_in
from tests.spaces_stand_in import Platform


def count(most: int) -> Iterator[int]:
    yield from range(most)


def test_nothing_changes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert zerogpu.on_gpu(count, lambda most: 60) is count


def test_on_zerogpu_the_function_asks_for_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    platform = Platform()
    spaces_stand_in.install(monkeypatch, platform)
    assert list(zerogpu.on_gpu(count, lambda most: 10 * most)(3)) == [0, 1, 2]
    assert platform.seen == [("count", 30.0, None)]


def test_what_crosses_the_fork_can_be_pickled() -> None:
    events = [
        Working(text="x"), Notice(text="x"), WeightsSaved(step=1), Done(state="finished", record={"a": 1}),
        Evaluated(step=0, metric="text", share=proportion(1, 2)),
        Step(step=1, losses={"loss": 1.0}, gradient_norm=1.0, seconds=1.0),
    ]  # fmt: skip
    given = (replace(PRESETS["quick"], seed=3), str(Path("x")), Settings.from_environment({}))
    for thing in (*events, given):
        assert pickle.loads(pickle.dumps(thing)) == thing
