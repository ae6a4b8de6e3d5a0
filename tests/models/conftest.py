"""Twins of diffusion pipelines, written once a session, caches of a test's own, and no network."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from tests import twins


@pytest.fixture(scope="session")
def diffusion_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three twins by name."""
    root = tmp_path_factory.mktemp("twins")
    shifted = {"scaling_factor": 0.3, "shift_factor": 0.1}
    return {
        "epsilon": twins.sd_folder(root / "epsilon"),
        "v_prediction": twins.sd_folder(root / "v", prediction="v_prediction", **shifted),
        "mini": twins.mini_folder(root / "mini"),
    }


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of the test's own, in `cache` and `hub`."""
    monkeypatch.setenv("SDSDEMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reaches the network fails."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("the network was reached")

    monkeypatch.setattr("socket.socket.connect", refuse)
