"""Runs of a tiny recipe on a small benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.finetuning import before_after
from sdsdemo.finetuning.events import Event
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.mini.experiments.draw_assets import write_benchmark
from sdsdemo.settings import Settings
from tests.finetuning.runs import COUNT, TINY


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pairs") / "small"
    write_benchmark(folder, seed=3, split="validation", count=COUNT)
    return f"folder:{folder}"


@pytest.fixture
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real sets, of few examples."""
    monkeypatch.setattr(before_after, "ZERO_SHOT", 6)
    monkeypatch.setattr(before_after, "RETRIEVAL", (1, 5))


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(tmp_path / "cache")}))


@pytest.fixture
def run(benchmark: str, workbench: Workbench, tmp_path: Path) -> Any:
    """Runs a recipe to its end, or through `until`: `run(name, stop_at=..., **changes)`; gives the events."""

    def go(name: str = "run", *, resume: bool = False, stop_at: Any = None, **changes: Any) -> list[Event]:
        recipe = replace(TINY, measure=benchmark, **changes)
        events: list[Event] = []
        for event in finetune(recipe, tmp_path / name, workbench=workbench, resume=resume):
            events.append(event)
            if stop_at is not None and stop_at(event):
                FineTuningFolder(tmp_path / name).ask_to_stop()
        return events

    return go
