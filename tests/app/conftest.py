"""Runs from the page on a stand-in for fine-tuning, and a Space on ZeroGPU with two real models."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdsdemo.app.jobs import Jobs
from sdsdemo.app.workbench import Workbench
from sdsdemo.settings import Settings
from tests import spaces_stand_in, twins
from tests.app.trainer import Trainer
from tests.fakes import FakeScorer
from tests.spaces_stand_in import Platform


@pytest.fixture
def trainer() -> Trainer:
    return Trainer()


@pytest.fixture
def jobs(trainer: Trainer, tmp_path: Path) -> Jobs:
    workbench = Workbench(Settings.from_environment({}), opener=FakeScorer)
    return Jobs(workbench, root=tmp_path / "runs", runner=trainer)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Specs of a CLIP and of a diffusion model that are built as real ones are."""
    folder = tmp_path_factory.mktemp("real")
    clip = twins.clip_folder(folder / "clip", words=False)
    return {"clip": f"open_clip:local-dir:{clip}", "diffusion": f"diffusers:{twins.sd_folder(folder / 'sd')}"}


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    here = Platform()
    spaces_stand_in.install(monkeypatch, here)
    return here


@pytest.fixture
def space(platform: Platform, real: dict[str, str]) -> Workbench:
    """The workbench of a Space on ZeroGPU with two real models, which are placed on the processor: there is no GPU."""
    return placed(real)


def placed(real: dict[str, str], **more: str) -> Workbench:
    names = ",".join(["mini-clip", "mini-diffusion", *real.values()])
    workbench = Workbench(Settings.from_environment({"SDSDEMO_MODELS": names, "SDSDEMO_DEVICE": "cpu", **more}))
    workbench.place()
    return workbench
