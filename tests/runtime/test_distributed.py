"""What processes that share a run print. That they share it: evaluation/test_winners and finetuning/test_processes."""

from __future__ import annotations

import atexit
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import accelerate
import pytest
import torch

from sdsdemo.runtime import distributed
from sdsdemo.settings import ROOT


def test_library_output_stays_out_of_the_results() -> None:
    code = (
        "import os; from sdsdemo.runtime.distributed import _stdout_to_stderr\n"
        "with _stdout_to_stderr(): os.write(1, b'[Gloo] Rank 0 is connected')\n"
        "print('results')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("results\n", "[Gloo] Rank 0 is connected")


def test_a_process_waits_for_the_others_longer_than_torch_would(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def state(**options: Any) -> Any:
        asked.update(options)
        return SimpleNamespace(process_index=1, num_processes=2, destroy_process_group=None)

    monkeypatch.setattr(accelerate, "PartialState", state)
    monkeypatch.setattr(atexit, "register", lambda work: None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = distributed.find()
    assert (found.index, found.count) == (1, 2)
    assert asked["timeout"] >= timedelta(hours=1)


def test_tensors_travel_on_the_device_of_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[str] = []

    def moved(tensor: torch.Tensor, *how: str) -> Any:
        """What comes back is on the same device, until it is brought to another."""
        met.append(tensor.device.type)
        return SimpleNamespace(to=lambda device: torch.ones(tensor.shape, device=device))

    monkeypatch.setattr(accelerate, "PartialState", lambda: SimpleNamespace(device=torch.device("meta")))
    monkeypatch.setattr(accelerate.utils, "gather", moved)
    monkeypatch.setattr(accelerate.utils, "reduce", moved)
    several, parameter = distributed._Several(index=0, count=2), torch.nn.Parameter(torch.ones(2))
    assert several.gather_rows(torch.ones(2, 3)).device.type == "cpu"
    several.sum_gradients([parameter])
    assert parameter.grad is not None
    assert parameter.grad.device.type == "cpu"
    assert met == ["meta", "meta"]
