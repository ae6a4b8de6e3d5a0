"""Runs from the page on a stand-in for fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdsdemo.app.jobs import Jobs
from sdsdemo.app.workbench import Workbench
from sdsdemo.settings import Settings
from tests.app.trainer import Trainer
from tests.fakes import FakeScorer


@pytest.fixture
def trainer() -> Trainer:
    return Trainer()


@pytest.fixture
def jobs(trainer: Trainer, tmp_path: Path) -> Jobs:
    workbench = Workbench(Settings.from_environment({}), opener=FakeScorer)
    return Jobs(workbench, root=tmp_path / "runs", runner=trainer)
