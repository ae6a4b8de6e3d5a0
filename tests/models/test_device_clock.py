"""The clock that waits for a GPU, on a simulated one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sdsdemo.cli.bench import ratio, timed
from sdsdemo.models.device_clock import clock_of


class Gpu:
    """A call returns when it is queued; what copies an index to the device first waits until that is idle."""

    def __init__(self) -> None:
        self.now = self.busy = 0.0

    def clock(self) -> float:
        return self.now

    def wait(self) -> None:
        self.now = max(self.now, self.busy)

    def call(self, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.wait()
            self.now += 0.001
            self.busy = self.now + seconds

        return run


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_each_path_is_billed_its_own_work(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu()
    monkeypatch.setattr(getattr(torch, device), "synchronize", gpu.wait)
    paths = {"plain": gpu.call(0.4), "compiled": gpu.call(0.2)}
    took = timed(paths, 5, lambda line: None, clock_of(torch.device(device), gpu.clock))
    assert ratio(took["plain"], took["compiled"])["median"] == pytest.approx(2.0, rel=0.01)


def test_a_cpu_needs_no_waiting() -> None:
    clock = Gpu().clock
    assert clock_of(torch.device("cpu"), clock) == clock
