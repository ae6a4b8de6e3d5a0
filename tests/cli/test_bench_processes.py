"""One and two processes score the same examples, as the bench times them."""

from __future__ import annotations

import pytest

from sdsdemo.cli import bench_processes
from sdsdemo.cli.bench_processes import Group, rates
from sdsdemo.settings import budget


def test_rates_are_evaluations_over_the_seconds_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Timed:
        def __init__(self, count: int, examples: int) -> None:
            self.seconds = 8.0 / count * examples

        def __enter__(self) -> Timed:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def run(self) -> float:
            return self.seconds

    monkeypatch.setattr(bench_processes, "Group", Timed)
    found = rates(3, examples=5)
    assert found == {1: [4 * budget().evaluations / 8.0] * 3, 2: [4 * budget().evaluations / 4.0] * 3}


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_share_a_run_and_answer_each_turn() -> None:
    with Group(2, examples=2) as group:
        assert [group.run() > 0 for _ in range(2)] == [True, True]
        assert len(group.processes) == 2
    assert [process.returncode for process in group.processes] == [0, 0]


def test_a_process_that_ends_early_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_processes, "__name__", "nothing")
    monkeypatch.setattr(bench_processes.sys, "executable", "false")
    with pytest.raises(RuntimeError, match="ended early"), Group(1, examples=2):
        pass
